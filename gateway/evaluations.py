"""The access evaluation API over HTTP, on the operations listener (OpenID AuthZEN Authorization API 1.0, section 10).

What is asked here is decided by the policies in force; nothing is read from a store, and nothing is opened by it.
"""

import json
from collections.abc import Callable

from aiohttp import web

from authz.protocol.encoding import strict_json
from gateway.fhir.resource import DECODER, MAX_DEPTH
from gateway.policy.engine import Engine
from gateway.policy.inquiries.authzen import Circumstances, EvaluationError, evaluation, evaluations

PATHS = {"/access/v1/evaluation": evaluation, "/access/v1/evaluations": evaluations}
_MAX_BYTES = 1024 * 1024
_Evaluate = Callable[[Engine, object, Circumstances], dict[str, object]]


async def answer(request: web.BaseRequest, engine: Engine | None, *, now: int) -> web.Response:
    """The answer to a POST to one of PATHS."""
    evaluate: _Evaluate = PATHS[request.path]
    # The caller finds its answer again by this header (AuthZEN 1.0 10.1.3).
    sent = request.headers.get("X-Request-ID", "")
    headers = {"X-Request-ID": sent} if sent.isascii() and sent.isprintable() and sent else {}
    headers["Cache-Control"] = "no-store"
    if request.method != "POST":
        return web.Response(status=405, text="POST is expected\n", headers={**headers, "Allow": "POST"})
    if engine is None:
        return web.Response(status=503, text="no policy is in force\n", headers=headers)
    # A page in an operator's browser can send text/plain anywhere, but not JSON without asking.
    if request.content_type != "application/json":
        return web.Response(status=415, text="application/json is expected\n", headers=headers)
    content = await request.content.read(_MAX_BYTES + 1)
    while len(content) <= _MAX_BYTES and (more := await request.content.read(_MAX_BYTES + 1 - len(content))):
        content += more
    if len(content) > _MAX_BYTES:
        return web.Response(status=413, text=f"at most {_MAX_BYTES} bytes are read\n", headers=headers)
    try:
        strict_json(content, max_bytes=_MAX_BYTES, max_depth=2 * MAX_DEPTH)
        body = DECODER.decode(content.decode("utf-8"))  # numbers as they stand in the resource
    except ValueError:
        return web.Response(status=400, text="the body is not JSON\n", headers=headers)
    try:
        found = evaluate(engine, body, Circumstances(now))
    except EvaluationError as error:
        return web.Response(status=400, text=f"{error}\n", headers=headers)
    return web.Response(
        text=json.dumps(found, ensure_ascii=False), content_type="application/json", headers=headers
    )

"""The access evaluation API over HTTP, on the operations listener (OpenID AuthZEN Authorization API 1.0, section 10).

What is asked here is decided by the policies in force. Facts, consents and inherited labels that they decide by are asked
of the mount that the question names, as at a request; nothing else is read from a store, and nothing is opened by it.
"""

import json
from collections.abc import Callable, Mapping

from aiohttp import web

from authz.protocol.encoding import strict_json
from authz.protocol.tokens import Caller
from gateway.fhir.resource import DECODER, MAX_DEPTH
from gateway.policy.engine import Engine
from gateway.policy.inquiries.authzen import Circumstances, EvaluationError, evaluation, evaluations
from gateway.policy.known import Known
from gateway.proxy.lookups.knowledge import Lookups
from gateway.proxy.lookups.questions import KnownToQuestions

PATHS = {"/access/v1/evaluation": evaluation, "/access/v1/evaluations": evaluations}
_MAX_BYTES = 1024 * 1024
_Evaluate = Callable[[Engine, object, Circumstances], dict[str, object]]


async def answer(
    request: web.BaseRequest, engine: Engine | None, *, now: int, lookups: Mapping[str, Lookups]
) -> web.Response:
    """The answer to a POST to one of PATHS. lookups are those of the mounts by their paths."""
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
        found = await _evaluated(evaluate, engine, body, now, lookups)
    except EvaluationError as error:
        return web.Response(status=400, text=f"{error}\n", headers=headers)
    return web.Response(
        text=json.dumps(found, ensure_ascii=False), content_type="application/json", headers=headers
    )


async def _evaluated(
    evaluate: _Evaluate, engine: Engine, body: object, now: int, lookups: Mapping[str, Lookups]
) -> dict[str, object]:
    """The answer by all that can be known: it is asked for, and the question evaluated again. Raises EvaluationError."""
    questions = {at: KnownToQuestions(each, engine.policy_hash) for at, each in lookups.items()}

    def known(caller: Caller, mount: str) -> Known:
        if mount and mount not in questions:
            raise EvaluationError(f"context.mount must be one of {', '.join(sorted(questions))}")
        at = mount or next(iter(questions), "")
        # Of several stores none is meant unless it is named.
        return questions[at].of(caller) if mount or len(questions) == 1 else Known()

    while True:
        found = evaluate(engine, body, Circumstances(now, known=known))
        if not any([await each.found() for each in questions.values()]):
            return found

"""The access evaluation API over HTTP, on the operations listener (OpenID AuthZEN Authorization API 1.0, section 10).

What is asked here is decided by the policies in force. Facts, consents and inherited labels that they decide by are asked
of the mount that the question names, as at a request; nothing else is read from a store, and nothing is opened by it.
"""

import json
from collections.abc import Callable, Mapping, Sequence

from authz.protocol.encoding import strict_json
from authz.protocol.request import Answer, HttpRequest, RequestError
from authz.protocol.tokens import Caller
from gateway.fhir.resource import DECODER, MAX_DEPTH
from gateway.policy.engine import Engine
from gateway.policy.inquiries.authzen import Circumstances, EvaluationError, evaluation, evaluations
from gateway.policy.known import Known
from gateway.proxy.lookups.knowledge import Lookups
from gateway.proxy.lookups.questions import KnownToQuestions

_Evaluate = Callable[[Engine, object, Circumstances], dict[str, object]]
PATHS: Mapping[str, _Evaluate] = {
    "/access/v1/evaluation": evaluation,
    "/access/v1/evaluations": evaluations,
}
_MAX_BYTES = 1024 * 1024


async def answer(
    request: HttpRequest, engine: Engine | None, *, now: int, lookups: Mapping[str, Lookups]
) -> Answer:
    """The answer to a POST to one of PATHS, 404 elsewhere. lookups are those of the mounts by their paths."""
    # The caller finds its answer again by this header (AuthZEN 1.0 10.1.3).
    sent = request.headers.get("x-request-id", "")
    headers = [("X-Request-ID", sent)] if sent.isascii() and sent.isprintable() and sent else []
    headers.append(("Cache-Control", "no-store"))
    evaluate = PATHS.get(request.path)
    if evaluate is None:
        return _text(404, f"{' and '.join(PATHS)} are here", headers)
    if request.method != "POST":
        return _text(405, "POST is expected", [*headers, ("Allow", "POST")])
    if engine is None:
        return _text(503, "no policy is in force", headers)
    # A page in an operator's browser can send text/plain anywhere, but not JSON without asking.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return _text(415, "application/json is expected", headers)
    try:
        content = await request.body.read(_MAX_BYTES)
    except RequestError as error:
        return _text(error.status, f"at most {_MAX_BYTES} bytes are read", headers)
    try:
        strict_json(content, max_bytes=_MAX_BYTES, max_depth=2 * MAX_DEPTH)
        body = DECODER.decode(content.decode("utf-8"))  # numbers as they stand in the resource
    except ValueError:
        return _text(400, "the body is not JSON", headers)
    try:
        found = await _evaluated(evaluate, engine, body, now, lookups)
    except EvaluationError as error:
        return _text(400, str(error), headers)
    said = json.dumps(found, ensure_ascii=False).encode()
    return Answer(200, (("Content-Type", "application/json"), *headers), said)


def _text(status: int, said: str, headers: Sequence[tuple[str, str]]) -> Answer:
    return Answer(status, (("Content-Type", "text/plain; charset=utf-8"), *headers), f"{said}\n".encode())


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

"""Which web pages may read what this server answers: cross-origin resource sharing (Fetch 3.2, SMART App Launch 2.2)."""

from authz.protocol.request import Answer

_EXPOSED = (
    "DPoP-Nonce, WWW-Authenticate, ETag, Location, Content-Location, Last-Modified, x-fapi-interaction-id,"
    " Retry-After, X-Progress, Content-Digest, Signature-Input, Signature"
)


def preflight_answer(methods: str) -> Answer:
    """The answer to a CORS preflight (SMART App Launch 2.2: apps run in browsers)."""
    return Answer(
        204,
        (
            ("Access-Control-Allow-Origin", "*"),
            ("Access-Control-Allow-Methods", methods),
            (
                "Access-Control-Allow-Headers",
                "authorization, dpop, content-type, accept, if-match, if-none-match, if-none-exist,"
                " if-modified-since, prefer, x-fapi-interaction-id",
            ),
            ("Access-Control-Max-Age", "600"),
        ),
    )


def with_cors(answer: Answer) -> Answer:
    """The answer, readable by apps in browsers; no cookie ever speaks for them."""
    if any(name == "Access-Control-Allow-Origin" for name, _ in answer.headers):
        return answer
    cors = (("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", _EXPOSED))
    return answer.with_headers(cors)

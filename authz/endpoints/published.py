"""Documents that every page of every site may read and keep: with an entity tag, and 304 while they are the same."""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256

from authz.protocol.request import Answer, HttpRequest

BRANDS_PATH = "/brands.json"
CORS: tuple[tuple[str, str], ...] = (("Access-Control-Allow-Origin", "*"),)
_BRANDS_SECONDS = 3600


def brand_bundle_door(bundle: Mapping[str, object]) -> Callable[[HttpRequest], Answer]:
    """The User Access Brand Bundle, with a weak entity tag (SMART App Launch 2.2 @400, @401)."""
    body = json.dumps(bundle, separators=(",", ":"), ensure_ascii=False).encode()

    def door(request: HttpRequest) -> Answer:
        return tagged(request, body, media_type="application/fhir+json", seconds=_BRANDS_SECONDS, weak=True)

    return door


def tagged(request: HttpRequest, body: bytes, *, media_type: str, seconds: int, weak: bool = False) -> Answer:
    """The document, to be kept for so many seconds (RFC 9111 5.2.2.1).

    Whoever asks again with the entity tag that it has gets 304 while nothing has changed (RFC 9110 13.1.2).
    """
    tag = f'"{sha256(body).hexdigest()[:32]}"'
    headers = (("Cache-Control", f"max-age={seconds}"), ("ETag", f"W/{tag}" if weak else tag), *CORS)
    known = {text.strip().removeprefix("W/") for text in request.headers.get("if-none-match", "").split(",")}
    if tag in known or "*" in known:
        return Answer(304, headers, b"")
    return Answer(200, (("Content-Type", media_type), *headers), body)

"""Which headers pass, in each direction: allow lists, ours set after them (attack group C).

From the caller pass the few that FHIR gives a meaning and that cannot change what was decided. Identity,
forwarding, method-override, cookie and hop-by-hop headers never do. From the store pass the type, the version and
the places, rewritten to the public base.
"""

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from authz.protocol.request import HttpRequest
from gateway.fhir import links
from gateway.fhir.formats import Format, is_r4_in_utf8
from gateway.settings import Upstream

FHIR_JSON = Format.JSON.value
JSON_BODY = ("Content-Type", Format.JSON.content_type)
_JSON_BODIES = frozenset({FHIR_JSON, "application/json", "application/json+fhir"})
_PASSED = ("accept-language", "traceparent", "tracestate")
_RETURNED = (("etag", "ETag"), ("last-modified", "Last-Modified"))
_SAYS = {"ETag": "versionId", "Last-Modified": "lastUpdated"}  # what of meta they repeat
_SENDABLE = re.compile(r"[\t -~]*")  # RFC 9110 5.5; of other bytes no text can be made again
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")

PRIVATE: tuple[tuple[str, str], ...] = (
    ("Cache-Control", "no-store, private"),
    ("Vary", "Authorization, DPoP, Accept"),
    ("X-Content-Type-Options", "nosniff"),
)


def interaction_id(request: HttpRequest) -> str:
    """The caller's x-fapi-interaction-id when it is a UUID, else a new one."""
    said = request.headers.get("x-fapi-interaction-id", "")
    return said if said and _UUID.fullmatch(said) else _new_id()


def _new_id() -> str:
    """A UUID of version 4 (RFC 9562 5.4), without the object that uuid makes of it."""
    text = os.urandom(16).hex()
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def to_upstream(request: HttpRequest, upstream: Upstream, interaction: str) -> dict[str, str]:
    """The headers of the request to the store, without those of a body."""
    never = upstream.profile.never_headers
    headers = {
        name: request.headers[name] for name in _PASSED if name in request.headers and name not in never
    }
    # No X-Forwarded-Host or -Proto: a store that believes them writes our host before its own path into every link,
    # which is nobody's address. It names itself as we call it, and leaving addresses are rewritten.
    headers["x-forwarded-for"] = request.peer
    headers["x-request-id"] = interaction
    return headers | of_our_own(upstream)


def of_our_own(upstream: Upstream) -> dict[str, str]:
    """The headers that every request to the store has, whoever asked."""
    headers = {"accept": FHIR_JSON, "accept-encoding": "gzip" if upstream.ask_gzip else "identity"}
    if upstream.profile.strict_handling:
        # Unknown parameters must be refused by the store, never skipped: a skipped criterion widens the answer.
        headers["prefer"] = "handling=strict"
    if upstream.authorization is not None:
        headers["authorization"] = upstream.authorization
    return headers


def returned(
    headers: Mapping[str, str], upstream: Upstream, type_: str | None, id_: str | None
) -> tuple[tuple[str, str], ...]:
    """Those of the store's headers that the caller gets with a resource of this type and id.

    Content-Location at the public base where it is that resource, in some version; any other place is not passed on.
    """
    passed = [
        (said, headers[name]) for name, said in _RETURNED if _SENDABLE.fullmatch(headers.get(name, "\n"))
    ]
    if "content-location" not in headers:  # the usual case
        return tuple(passed)
    said = headers["content-location"]
    place = links.local_reference(said, (upstream.base,))
    if place is None or (place.type, place.id) != (type_, id_):
        return tuple(passed)
    version = f"/_history/{place.version}" if place.version is not None else ""
    return (*passed, ("Content-Location", f"{upstream.identifier}/{place.type}/{place.id}{version}"))


def of_what_is_seen(
    passed: tuple[tuple[str, str], ...], whole: Mapping[str, Any], seen: Mapping[str, Any]
) -> tuple[tuple[str, str], ...]:
    """The headers of a resource that is seen in part: none that says what of meta is hidden or rounded."""
    hidden = hidden_of_meta(whole, seen)
    return tuple(field for field in passed if _SAYS.get(field[0]) not in hidden)


def hidden_of_meta(whole: Mapping[str, Any], seen: Mapping[str, Any]) -> frozenset[str]:
    """Which of versionId and lastUpdated are not seen as they are; what an answer repeats of those tells them."""
    metas = [each.get("meta") for each in (whole, seen)]
    before, after = (meta if isinstance(meta, Mapping) else {} for meta in metas)
    return frozenset(name for name in _SAYS.values() if before.get(name) != after.get(name))


@lru_cache(256)
def is_json(content_type: str) -> bool:
    """Whether a Content-Type is FHIR JSON of R4 in UTF-8."""
    media_type, _, parameters = content_type.partition(";")
    return media_type.strip().lower() in _JSON_BODIES and is_r4_in_utf8(parameters)

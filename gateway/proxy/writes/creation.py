"""A create, on its way in and back: what is to be stored is read once, by strict rules, before the store hears of it.

FHIR R4 3.1.0.8. A resource is judged whole and goes on as it was judged. Of the native bytes of a Binary
type and security context are judged: they pass, as a stream, where that says it all.
"""

import re
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from authz.protocol.request import HttpRequest
from gateway.fhir import links, resource
from gateway.fhir.formats import BOTH
from gateway.fhir.ids import is_id
from gateway.fhir.known_elements import check_elements
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.shape import check_whole
from gateway.fhir.xhtml import check_narratives
from gateway.policy.decision import Permit
from gateway.proxy import headers
from gateway.settings import Upstream

_CONTEXT = "x-security-context"
_MEDIA_TYPE = re.compile(
    r"[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,64}(?:[ \t]*;[\x20-\x7e]{1,128})?", re.I
)
_XML = re.compile(r"(?:text|application)/xml(?![a-z+.-])", re.I)
_FHIR_TYPES = re.compile(
    r"(?:application|text)/(?:[a-z.+-]*\+)?(?:json|xml)(?![a-z])|[^;]*fhir|[^;]*turtle", re.I
)


class BodyKind(Enum):
    """How the body of a create is treated."""

    RESOURCE = auto()  # read whole, judged
    NATIVE = auto()  # streamed unseen


@dataclass(frozen=True, slots=True)
class Made:
    """What the store says it made: the new id (None when it does not tell), and Location for the caller."""

    id: str | None
    headers: tuple[tuple[str, str], ...]


def body_kind(http: HttpRequest, permit: Permit, *, of_documents: bool = False) -> BodyKind:
    """How to treat the body. Raises FhirError: UNSUPPORTED_MEDIA_TYPE, INTERACTION_CLOSED.

    of_documents: the store takes documents, and would take a resource for one.
    """
    content_type = http.headers.get("content-type", "")
    if of_documents and (headers.is_json(content_type) or permit.request.type != "Binary"):
        raise FhirError(
            Reason.UNSUPPORTED_MEDIA_TYPE, "send the document itself, as text/xml or application/hl7-cda+xml"
        )
    if _CONTEXT in http.headers and (permit.request.type != "Binary" or headers.is_json(content_type)):
        raise FhirError(
            Reason.INTERACTION_CLOSED,
            "X-Security-Context goes with native content: say securityContext in FHIR JSON",
        )
    if headers.is_json(content_type):
        return BodyKind.RESOURCE
    if (
        permit.request.type != "Binary"
        or not _MEDIA_TYPE.fullmatch(content_type)
        or (_FHIR_TYPES.match(content_type) and not (of_documents and _XML.match(content_type)))
    ):
        raise FhirError(Reason.UNSUPPORTED_MEDIA_TYPE, f"the body must be {BOTH} in UTF-8")
    if not permit.unconditional and (not permit.needs.through or permit.needs.whole):
        raise FhirError(
            Reason.POLICY_DENIED, "native content cannot be judged by what you may store: send FHIR JSON"
        )
    return BodyKind.NATIVE


def new_version(
    raw: bytes, type_: str | None, bases: Collection[str], *, may_name_id: bool = True
) -> tuple[dict[str, Any], bytes]:
    """The resource as it will be stored, and its bytes. Raises FhirError(INVALID_BODY).

    A store gives a new resource an id of its own (FHIR R4 3.1.0.8), so one that was sent is nothing to judge by. A
    conditional update that found nothing may not name one: it would mean that id (FHIR R4 3.1.0.4.3).
    """
    value = resource.parse_resource(raw)
    if value["resourceType"] != type_:
        raise FhirError(Reason.INVALID_BODY, f"the body of this create must be a {type_}")
    if not may_name_id and "id" in value:
        raise FhirError(Reason.INVALID_BODY, "nothing was found: leave the id out, or update by id")
    check_narratives(value)
    check_elements(value)
    check_whole(value)
    changed = value.pop("id", None) is not None
    changed |= links.relative_references(value, bases)
    return value, resource.write_resource(value) if changed else raw


async def bounded(body: AsyncIterator[bytes], limit_bytes: int) -> AsyncIterator[bytes]:
    """The pieces of body. Raises FhirError(TOO_LARGE) as soon as there are more bytes than that."""
    size = 0
    async for chunk in body:
        size += len(chunk)
        if size > limit_bytes:
            raise FhirError(Reason.TOO_LARGE, f"the body is longer than {limit_bytes} bytes")
        yield chunk


def native_members(http: HttpRequest, bases: Collection[str]) -> dict[str, Any]:
    """What the headers of native content say of the Binary that it becomes (FHIR R4 2.41.3).

    Raises FhirError(AMBIGUOUS_HEADER) for a security context that is no resource of this store.
    """
    members: dict[str, Any] = {"resourceType": "Binary", "contentType": http.headers["content-type"]}
    if _CONTEXT not in http.headers:
        return members
    place = links.local_reference(http.headers[_CONTEXT].strip(" \t"), bases)
    if place is None or place.version is not None:
        raise FhirError(Reason.AMBIGUOUS_HEADER, "X-Security-Context must be a reference such as Patient/1")
    return members | {"securityContext": {"reference": f"{place.type}/{place.id}"}}


def upstream_headers(
    http: HttpRequest, kind: BodyKind, native: Mapping[str, Any] | None = None, *, minimal: bool = False
) -> dict[str, str]:
    """Further headers of the request to the store. native is what native_members() said.

    minimal: nobody is shown what was stored.
    """
    if kind is BodyKind.NATIVE:
        length = (
            {"content-length": http.headers["content-length"]} if "content-length" in http.headers else {}
        )
        return {
            "content-type": http.headers["content-type"],
            "prefer": "return=minimal, handling=strict",
            **length,
            **(
                {_CONTEXT: native["securityContext"]["reference"]}
                if native and "securityContext" in native
                else {}
            ),
        }
    wants = (
        "minimal"
        if minimal or re.search(r"return\s*=\s*\"?minimal", http.headers.get("prefer", ""))
        else "representation"
    )
    return {
        "content-type": f"{headers.FHIR_JSON}; charset=utf-8",
        "prefer": f"return={wants}, handling=strict",
    }


def made(answered: Mapping[str, str], upstream: Upstream, type_: str | None) -> Made:
    """What a 201 says. A Location that is not one of the store's own resources is not passed on."""
    location = answered.get("location", "")
    target = links.relative_target(location, upstream=upstream.base) if "://" in location else location
    parts = (target or "").lstrip("/").split("/")
    right = len(parts) in (2, 4) and parts[0] == type_ and is_id(parts[1])
    if not right or (len(parts) == 4 and (parts[2] != "_history" or not is_id(parts[3]))):
        return Made(None, ())
    return Made(parts[1], (("Location", f"{upstream.identifier}/{'/'.join(parts)}"),))

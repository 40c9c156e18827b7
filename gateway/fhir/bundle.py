"""A Bundle that asks for something: batch or transaction, read strictly into its entries (FHIR R4 3.1.0.11).

Each entry is a request of its own, and there is one grammar for requests: here stands only what an entry is made of.
What could change its meaning and is not known is refused, so that nothing of it is ever passed on unseen.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.fhir import links, resource
from gateway.fhir.interaction import Interaction
from gateway.fhir.outcome import FhirError, Reason

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
CONDITIONS = ("ifMatch", "ifNoneMatch", "ifNoneExist", "ifModifiedSince")
_KINDS = {"batch": Interaction.BATCH, "transaction": Interaction.TRANSACTION}
_OF_BUNDLE = frozenset(
    {"resourceType", "type", "entry", "id", "meta", "language", "identifier", "timestamp", "link", "total", "signature"}
)  # fmt: skip
_OF_ENTRY = frozenset({"id", "fullUrl", "resource", "request", "link"})
_OF_REQUEST = frozenset({"id", "method", "url", *CONDITIONS})
_BODIES = frozenset({"POST", "PUT", "PATCH"})
_TARGET = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*+(?:\?[!\"$-~]*+)?")  # as the request line is read
_TEXT = re.compile(r"[\x20-\x7e]{1,2048}")
_URN = re.compile(r"urn:(?:uuid|oid):[A-Za-z0-9.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: a request below the base.

    path, query  as a request line has them: '/Patient/A', what follows '?'
    name         the urn by which other entries refer to its resource; None where it has none
    place        'Type/id' that its fullUrl says where that is no urn
    conditions   ifMatch, ifNoneMatch, ifNoneExist, ifModifiedSince as sent
    """

    index: int
    method: str
    path: str
    query: str
    name: str | None
    place: str | None
    resource: dict[str, Any] | None
    conditions: Mapping[str, str]

    @property
    def expression(self) -> str:
        """Where it stands, for outcomes."""
        return f"Bundle.entry[{self.index}]"


@dataclass(frozen=True, slots=True)
class Requests:
    """The entries of a Bundle that asks. kind is BATCH or TRANSACTION; length is of how many bytes it was read."""

    kind: Interaction
    entries: tuple[Entry, ...]
    length: int = 0


def read_requests(raw: bytes, *, bases: Collection[str], most: int) -> Requests:
    """The requests of a Bundle. bases are the public ones, at most so many entries.

    Raises FhirError: INVALID_BODY, TOO_LARGE; its expression names the entry that is wrong.
    """
    bundle = resource.parse_resource(raw)
    said = bundle.get("type")
    kind = _KINDS.get(said) if isinstance(said, str) else None
    if bundle["resourceType"] != "Bundle" or kind is None:
        raise FhirError(Reason.INVALID_BODY, "the base takes a Bundle of the type batch or transaction")
    _check_members(bundle, _OF_BUNDLE, "Bundle")
    listed = bundle.get("entry", [])
    if not isinstance(listed, list):
        raise FhirError(Reason.INVALID_BODY, "Bundle.entry must be an array", expression="Bundle.entry")
    if len(listed) > most:
        raise FhirError(Reason.TOO_LARGE, f"a Bundle may have {most} entries, this one has {len(listed)}")
    entries = tuple(_entry(index, value, bases) for index, value in enumerate(listed))
    seen: set[str] = set()
    for entry in entries:
        name = entry.name or entry.place
        if name is not None and entry.method not in ("GET", "HEAD"):
            if name in seen:
                raise _wrong(entry.index, "another entry has the same fullUrl")
            seen.add(name)
    return Requests(kind, entries, len(raw))


def _entry(index: int, value: object, bases: Collection[str]) -> Entry:
    where = f"Bundle.entry[{index}]"
    if not isinstance(value, dict):
        raise _wrong(index, "an entry must be an object")
    _check_members(value, _OF_ENTRY, where)
    asked = value.get("request")
    if not isinstance(asked, dict):
        raise _wrong(index, "an entry must have a request")
    _check_members(asked, _OF_REQUEST, f"{where}.request")
    method, url = asked.get("method"), asked.get("url")
    if not isinstance(method, str) or method not in METHODS:
        raise _wrong(index, f"request.method must be one of {', '.join(METHODS)}")
    path, query = _target(index, url, bases)
    body = value.get("resource")
    if body is not None and (not isinstance(body, dict) or not isinstance(body.get("resourceType"), str)):
        raise _wrong(index, "resource must be an object with a resourceType")
    if body is not None and method not in _BODIES:
        raise _wrong(index, f"{method} takes no resource")
    if body is None and method in ("PUT", "PATCH"):
        raise _wrong(index, f"{method} needs a resource")
    conditions = {}
    for name in CONDITIONS:
        if name in asked:
            text = asked[name]
            if not isinstance(text, str) or not _TEXT.fullmatch(text):
                raise _wrong(index, f"request.{name} must be text in ASCII, 2048 characters at most")
            conditions[name] = text
    urn, place = _full_url(index, value.get("fullUrl"), bases)
    named = path.strip("/").split("/")
    if place is not None and (method == "POST" or "/".join(named[:2]) != place):
        raise _wrong(index, "fullUrl must be a urn, or the address of request.url below the base")
    return Entry(index, method, path, query, urn, place, body, conditions)


def _target(index: int, url: object, bases: Collection[str]) -> tuple[str, str]:
    """Path and query of request.url. An absolute one must be below a base of ours, and '/' leads out of it."""
    if not isinstance(url, str) or len(url) > 8192:
        raise _wrong(index, "request.url must be text, 8192 characters at most")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", url):
        below = links.below(url, bases)
        if below is None:
            raise _wrong(index, "an absolute request.url must be below the base of this Bundle")
        url = below
    if url.startswith("/") or not _TARGET.fullmatch(url):
        raise _wrong(index, "request.url must be relative to the base, in ASCII, without a fragment")
    path, _, query = url.partition("?")
    return f"/{path}", query


def _full_url(index: int, said: object, bases: Collection[str]) -> tuple[str | None, str | None]:
    if said is None:
        return None, None
    if isinstance(said, str) and _URN.fullmatch(said):
        return said, None
    below = links.below(said, bases) if isinstance(said, str) else None
    found = links.local_reference(below, ()) if below is not None else None
    if found is None or found.version is not None:
        raise _wrong(index, "fullUrl must be a urn:uuid, or the address of a resource below the base")
    return None, f"{found.type}/{found.id}"


def _check_members(value: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    unknown = sorted(set(value) - known)
    if unknown:
        named = re.sub(r"[^A-Za-z0-9_]", "", unknown[0])[:40]
        raise FhirError(Reason.INVALID_BODY, f"'{named}' is not taken here", expression=where)


def _wrong(index: int, why: str) -> FhirError:
    return FhirError(Reason.INVALID_BODY, why, expression=f"Bundle.entry[{index}]")

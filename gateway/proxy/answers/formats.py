"""The format of bodies: everything in between is JSON, and here, at the two ends, it is read from and written as XML.

A body that came as XML is decided about as the JSON that it means, and goes to the store so. An answer is written as
XML once nothing about it is left to decide, outcomes of refusals too; a Bundle entry by entry as it passes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from functools import partial

from authz.protocol.request import Answer, Body, HttpRequest, RequestError
from gateway.fhir import formats, resource, search
from gateway.fhir.formats import BOTH, Format, Wish
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.outcome import REASONS, FhirError, Reason, operation_outcome
from gateway.fhir.xml_bundle import BundleXml, with_suffix
from gateway.fhir.xml_reading import parse_resource_xml
from gateway.fhir.xml_writing import write_resource_xml
from gateway.proxy import headers
from gateway.proxy.answers.delivery import PAGE_PREFIX
from gateway.proxy.answers.long_answer import LongAnswer
from gateway.proxy.large_bodies import by_length
from gateway.proxy.trail import Trail
from gateway.proxy.whole_answers import let_go

_SPACE = b" \t\r\n"
_PIECE_BYTES = 32 * 1024  # of a stream, converted without a pause: about 2 ms
_PAGE_SUFFIX = "&_format=xml"
_WRITES = frozenset(
    {
        Interaction.CREATE,
        Interaction.UPDATE,
        Interaction.PATCH,
        Interaction.DELETE,
        Interaction.BATCH,
        Interaction.TRANSACTION,
    }
)
_ACCEPTED = {format: Wish(format) for format in Format}
XML_BODY = ("Content-Type", Format.XML.content_type)


def negotiated(http: HttpRequest) -> Wish:
    """The format that the caller wants. Raises FhirError(NOT_ACCEPTABLE): neither JSON nor XML."""
    said = _parameter(http.query)
    if said is not None:
        found = formats.of_parameter(said)
        if found is None:
            raise FhirError(Reason.NOT_ACCEPTABLE, f"'_format' must be json, xml, {BOTH}")
        return Wish(found, by_parameter=True)
    accepted = formats.of_accept(http.headers.get("accept", ""))
    if accepted is None:
        raise FhirError(Reason.NOT_ACCEPTABLE, f"answers are {BOTH}: Accept must allow one of them")
    return _ACCEPTED[accepted]


def preferred(http: HttpRequest) -> Wish:
    """The same for outcomes of what has a format of its own: JSON where neither is wanted."""
    try:
        return negotiated(http)
    except FhirError:
        return Wish(Format.JSON)


def of_form(wish: Wish, form: bytes) -> Wish:
    """The format of a search by POST whose form may say `_format`. Raises FhirError(AMBIGUOUS_QUERY): both differ."""
    said = _parameter(form.decode("ascii"))
    found = None if said is None else formats.of_parameter(said)
    if found is None:
        return wish
    if wish.by_parameter and found is not wish.format:
        raise FhirError(Reason.AMBIGUOUS_QUERY, "'_format' of the query and of the form differ")
    return Wish(found, by_parameter=True)


def _parameter(query: str) -> str | None:
    if "_format" not in query and "%" not in query:
        return None
    with suppress(FhirError):  # what has no single reading is refused where queries are read
        return next((value for name, value in search.query_pairs(query) if name == "_format"), None)
    return None


def as_json(http: HttpRequest, limit_bytes: int, path: str | None = None) -> HttpRequest:
    """The request with a body that came as FHIR XML in JSON, and a page link without what only says its form.

    path is where FHIR has it, where that is not its own.
    """
    if http.query.startswith(PAGE_PREFIX) and "&" in http.query:
        http = replace(http, query=_page_alone(http.query))
    content_type = http.headers.get("content-type", "")
    if not content_type:
        return http
    if headers.is_json(content_type):
        return replace(http, body=_JsonBody(http.body))
    path = http.path if path is None else path
    native = path.rstrip("/").rpartition("/")[2] == "Binary" or "/Binary/" in path
    if not formats.is_xml_body(content_type, native=native) or http.path.rstrip("/").endswith("/_search"):
        return http
    sent = {name: value for name, value in http.headers.items() if name != "content-length"}
    sent["content-type"] = Format.JSON.content_type
    return replace(http, headers=sent, body=_XmlBody(http.body, limit_bytes))


def _page_alone(query: str) -> str:
    """The query of a page link without `_format` and `_pretty`, which clients say with each request.

    As it is where anything else stands behind it, or what has two readings.
    """
    page, _, rest = query.partition("&")
    try:
        said = search.parse_read_terms(search.query_pairs(rest))
    except FhirError:
        return query
    return query if said else page


class _JsonBody:
    """A body that is said to be JSON: one that begins as XML is not read as anything (attack case 264)."""

    def __init__(self, body: Body) -> None:
        self._body = body

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body. Raises RequestError(413), FhirError(UNSUPPORTED_MEDIA_TYPE)."""
        content = await self._body.read(limit_bytes)
        if content.lstrip(_SPACE).startswith(b"<"):
            raise FhirError(Reason.UNSUPPORTED_MEDIA_TYPE, "the body is not the JSON that Content-Type says")
        return content

    def stream(self) -> AsyncIterator[bytes]:
        """The body in pieces, as it is."""
        return self._body.stream()


class _XmlBody:
    """A body in FHIR XML, read as JSON."""

    def __init__(self, body: Body, limit_bytes: int) -> None:
        self._body = body
        self._limit_bytes = limit_bytes

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body as JSON. Raises RequestError(413), FhirError: INVALID_BODY, UNSUPPORTED_MEDIA_TYPE."""
        content = await self._body.read(min(limit_bytes, self._limit_bytes))
        if content and not content.lstrip(_SPACE).startswith((b"<", b"\xef\xbb\xbf")):
            raise FhirError(Reason.UNSUPPORTED_MEDIA_TYPE, "the body is not the XML that Content-Type says")
        written = await by_length(len(content), partial(_as_json, content))
        if len(written) > limit_bytes:
            raise RequestError(413, f"the body has more than {limit_bytes} bytes as JSON")
        return written

    async def stream(self) -> AsyncIterator[bytes]:
        """The same in one piece."""
        yield await self.read(self._limit_bytes)


def _as_json(content: bytes) -> bytes:
    return resource.write_resource(parse_resource_xml(content))


async def written(answer: Answer, trail: Trail) -> Answer:
    """The answer in the format that is wished; one that is in it, or is no FHIR resource, stays as it is.

    Raises FhirError: NOT_ACCEPTABLE where XML cannot say it, and what the body raises before its first piece. What
    answers a write stays in JSON then: it is done, and a refusal would say that it is not (RFC 9110 12.4.1).
    """
    if trail.wish.format is Format.JSON:
        return answer
    asked, tally = trail.asked, trail.tally
    try:
        return await _in_xml(answer, trail.wish, asked)
    except FhirError:
        if asked is not None and asked.interaction in _WRITES and isinstance(answer.body, bytes):
            return answer
        tally.dropped, tally.shown = tally.dropped + tally.shown, 0  # nothing of it leaves
        raise


def outcome(http: HttpRequest, reason: Reason, *more: tuple[str, str]) -> Answer:
    """A refusal before any passage: the outcome of the reason in the format that the caller wants."""
    body, content_type = operation_outcome(reason), headers.JSON_BODY
    if preferred(http).format is Format.XML:
        body, content_type = _as_xml(body, ""), XML_BODY
    return Answer(REASONS[reason][0], (content_type, *more), body)


async def _in_xml(answer: Answer, wish: Wish, asked: FhirRequest | None) -> Answer:
    fields = weak_etags(answer.headers)
    if headers.JSON_BODY not in answer.headers:
        return replace(answer, headers=fields)
    fields = tuple(XML_BODY if field == headers.JSON_BODY else field for field in fields)
    suffix = _PAGE_SUFFIX if wish.by_parameter else ""
    if isinstance(answer.body, bytes):
        body = await by_length(len(answer.body), partial(_as_xml, answer.body, suffix))
        return replace(answer, headers=fields, body=body)
    stream = _XmlStream(answer.body, BundleXml(page_suffix=suffix))
    if asked is not None and asked.head:  # nobody takes the body
        return replace(answer, headers=fields, body=stream)
    try:
        await stream.begin()
    except BaseException:
        await stream.withdraw()
        raise
    return replace(answer, headers=fields, body=stream)


def weak_etags(fields: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The fields with a strong ETag made weak: it is the store's, of other bytes than those that leave (RFC 9110 8.8.1)."""
    return tuple(
        (name, f"W/{value}") if name == "ETag" and value.startswith('"') else (name, value)
        for name, value in fields
    )


def _as_xml(content: bytes, suffix: str) -> bytes:
    value = resource.parse_resource(content, reason=Reason.INTERNAL)
    if value["resourceType"] == "Bundle" and "link" in value:
        value["link"] = with_suffix(value["link"], suffix)
    _leave_out_no_entries(value)
    return write_resource_xml(value)


def _leave_out_no_entries(value: object) -> None:
    """Take the empty array of entries out of a Bundle and of those in it: XML has none, and finding nothing is an answer."""
    if not isinstance(value, dict) or value.get("resourceType") != "Bundle":
        return
    if value.get("entry") == []:
        del value["entry"]
    entries = value.get("entry")
    for entry in entries if isinstance(entries, list) else ():
        _leave_out_no_entries(entry.get("resource") if isinstance(entry, dict) else None)


class _XmlStream:
    """A Bundle in JSON, as XML."""

    def __init__(self, body: AsyncIterator[bytes], bundle: BundleXml) -> None:
        self._body = body
        self._bundle = bundle
        self._first: bytes | None = None
        self._is_ended = False

    async def begin(self) -> None:
        """Make the first piece, so that what cannot be given is refused with a status."""
        self._first = await self._next()

    def __aiter__(self) -> "_XmlStream":
        return self

    async def __anext__(self) -> bytes:
        first, self._first = self._first, None
        piece = await self._next() if first is None else first
        if not piece:
            raise StopAsyncIteration
        return piece

    async def _next(self) -> bytes:
        """The next piece; b'' at the end."""
        while not self._is_ended:
            try:
                content = await anext(self._body)
            except StopAsyncIteration:
                self._is_ended = True
                return self._bundle.finish()
            piece = b""
            for start in range(0, len(content), _PIECE_BYTES):
                if start:
                    await asyncio.sleep(0)  # others have their turn
                piece += self._bundle.feed(content[start : start + _PIECE_BYTES])
            if piece:
                return piece
        return b""

    async def withdraw(self) -> None:
        """Let go of it, where nothing has gone out."""
        if isinstance(self._body, LongAnswer):
            self._body.withdraw()
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of what the body holds."""
        await let_go(self._body)

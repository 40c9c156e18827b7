"""Reads of a Binary: what leads to it is found out first, then its content streams, or goes out as a resource.

A Binary is looked at twice: once without its content, by which it is judged, and once for what goes out. Both must be
of one version. A range is asked of the store only once the judge has let pass, so that 206, 304, 406 and 416 are
answers to those who may read; everybody else gets the answer to an id that nobody has. Where a rule asks what the
content is, its beginning is read before, and ranges are not taken.
"""

import binascii
from collections.abc import AsyncIterator, Mapping
from typing import Any

from authz.protocol.request import Answer
from gateway.audit.log import AuditLog
from gateway.cda.header import Header
from gateway.cda.header_reader import header_of
from gateway.cda.parser import DocumentError
from gateway.cda.view_page import HEADERS as OF_VIEWS
from gateway.fhir import links, request_target, resource
from gateway.fhir.binary import BinaryMembers
from gateway.fhir.interaction import FhirRequest
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.shape import shape_of, shaped
from gateway.policy.attachments import Content, SeenBinary
from gateway.policy.decision import Permit
from gateway.proxy import headers
from gateway.proxy.answers.conditional_reads import is_current
from gateway.proxy.answers.delivery import (
    check_coding,
    check_fhir_json,
    check_status,
    fhir_answer,
    judge,
    settle,
    stored,
)
from gateway.proxy.answers.long_answer import LongAnswer
from gateway.proxy.documents import native_content
from gateway.proxy.documents.attachments import Asking, Attachments
from gateway.proxy.documents.document_stream import DocumentStream
from gateway.proxy.documents.presented import presented
from gateway.proxy.documents.redacted import redact_data, redacted, sections_shown
from gateway.proxy.upstream import UpstreamAnswer, UpstreamClient
from gateway.proxy.writes.stored_version import NO_CACHE
from gateway.settings import Upstream

_ELEMENTS = "_elements=contentType,securityContext"
# As what stores give a resource where its content was asked for; FHIR JSON is looked at whatever the Binary holds.
_JSON = frozenset({"application/json", "application/json+fhir", "text/json"})
_RESOURCES_IN_XML = frozenset({"application/fhir+xml", "application/xml+fhir"})
PLACEHOLDER = "AA=="
"""Stands for the content of a Binary that is judged without it."""


class _Changed(FhirError):
    """What came is of another version than what was judged."""


class Binaries:
    """Reads of the Binaries of one store."""

    def __init__(
        self, *, upstream: Upstream, client: UpstreamClient, audit: AuditLog, attachments: Attachments
    ) -> None:
        self._upstream = upstream
        self._client = client
        self._audit = audit
        self._attachments = attachments

    async def answer(self, asking: Asking, permit: Permit) -> Answer:
        """The answer to a read or vread of a Binary. Raises FhirError.

        What was changed while it was read is read once more, and judged anew: the new version is decided by nothing that
        was found of the old one.
        """
        try:
            return await self._answer(asking, permit)
        except _Changed:
            return await self._answer(asking, permit)

    async def _answer(self, asking: Asking, permit: Permit) -> Answer:
        members, tag = await self._look(asking, permit.request)
        if members.get("id") != permit.request.id:
            raise FhirError(Reason.NOT_FOUND)
        seen = await self._attachments.seen(asking, members, permit.needs, version=permit.request.version)
        if not permit.needs.content:
            await _judged(asking, permit, seen)
        if native_content.is_native(asking.http, permit.request):
            return await self._native(asking, permit, seen, tag)
        return await self._resource(asking, permit, seen, tag)

    async def _look(self, asking: Asking, asked: FhirRequest) -> tuple[dict[str, Any], str]:
        """The Binary without its content, and its ETag ('' without one)."""
        answer = await self._send(asking, f"{_target(asked)}?{_ELEMENTS}", {**NO_CACHE})
        try:
            check_status(answer)
            check_fhir_json(answer)
            members, size = BinaryMembers(), 0
            async for chunk in answer.stream():
                members.feed(chunk)
                size += len(chunk)
                if size > 2 * self._upstream.max_body:
                    raise FhirError(Reason.UPSTREAM_INVALID, "the Binary is larger than max_body")
            return members.members() | {"data": PLACEHOLDER}, answer.headers.get("etag", "")
        finally:
            answer.close()

    async def _send(self, asking: Asking, target: str, more: dict[str, str]) -> UpstreamAnswer:
        asking.trail.upstream.append(f"GET {target}")
        sent = headers.to_upstream(asking.http, self._upstream, asking.trail.interaction_id) | more
        return await self._client.send("GET", target, sent)

    # As content

    async def _native(self, asking: Asking, permit: Permit, seen: SeenBinary, tag: str) -> Answer:
        said = seen.get("contentType")
        plain = native_content.told_type(said)
        more = {
            "accept": "*/*" if plain == native_content.OCTETS else f"{plain.partition(';')[0]}, */*;q=0.5"
        }
        more["accept-encoding"] = "identity"  # a part of something coded is no part of the content
        wants_view = native_content.wants_view(asking.http)
        part = None if permit.needs.content or wants_view else native_content.range_of(asking.http, tag)
        if part is not None:
            more["range"] = part
        answer = await self._send(asking, _target(permit.request), more | NO_CACHE)
        try:
            partial: tuple[tuple[str, str], ...] = ()
            if part is not None and answer.status in (206, 416):
                place = native_content.content_range(answer.status, answer.headers)
                partial = (("Content-Range", place),)
            else:
                check_status(answer)
            check_coding(answer)
            await self._check_same(asking, permit.request, seen, tag, answer)
            content = DocumentStream(await self._content(answer, seen))
            if permit.needs.content or wants_view:
                await content.begin()
            if permit.needs.content:
                seen = await self._with_content(asking, permit, seen, content.header, content.fault)
            # Once more, now that all of it is known: what was found out may be what a rule asked for.
            shown = await _judged(asking, permit, seen)
            if shown is not None and shown.get("data") != PLACEHOLDER:
                raise FhirError(Reason.POLICY_DENIED, "the content of this Binary is not shown here")
            if wants_view and content.header is not None and content.fault is None:
                asking.trail.presented_as = "html"
                return self._delivered(asking, permit, answer, content, OF_VIEWS)
            native_content.check_acceptable(asking.http, plain)
            return self._delivered(asking, permit, answer, content, (("Content-Type", plain), *partial))
        except BaseException:
            answer.close()
            raise

    def _delivered(
        self,
        asking: Asking,
        permit: Permit,
        answer: UpstreamAnswer,
        content: DocumentStream,
        said: tuple[tuple[str, str], ...],
    ) -> Answer:
        trail = asking.trail
        trail.decision, trail.tally.shown = "permit", 1
        passed = headers.returned(answer.headers, self._upstream, None, None)  # no place: it has another form
        is_view = trail.presented_as is not None
        cut = None if content.header is None else sections_shown(permit, trail.rules)
        if (
            answer.status == 200
            and cut is None
            and not is_view
            and is_current(asking.http, permit.request, passed)
        ):
            answer.close()
            return Answer(304, (*headers.PRIVATE, *passed))
        if answer.status == 416:
            answer.close()
            return Answer(416, (*headers.PRIVATE, *said[1:]))

        async def record(ended: str) -> None:
            await self._audit.record(trail.delivered(ended))

        pieces = content.pieces() if cut is None else redacted(content.pieces(), cut, trail)
        if is_view:  # of another form than what the store's tag and date are about
            pieces = presented(pieces, trail, max_bytes=self._upstream.max_body)
            said, passed = (*said, *headers.PRIVATE), ()
        else:
            said = (*said, *headers.PRIVATE, *native_content.GUARDS)
        body = LongAnswer([], self._counted(asking, pieces), answer, record)
        return Answer(answer.status, (*said, *passed), body)

    async def _counted(self, asking: Asking, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        sent = 0
        async for piece in pieces:
            sent += len(piece)
            if sent > self._upstream.max_body:
                raise FhirError(Reason.UPSTREAM_INVALID, "the content is larger than max_body")
            asking.trail.content_bytes = sent
            yield piece

    async def _content(self, answer: UpstreamAnswer, seen: SeenBinary) -> AsyncIterator[bytes]:
        """The content; out of the resource where the store gives nothing else."""
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        own = native_content.media_type(seen.get("contentType"))
        if media_type in _RESOURCES_IN_XML and media_type != own:
            raise FhirError(Reason.UPSTREAM_INVALID, "the content came as a resource in XML")
        is_resource = media_type == headers.FHIR_JSON or (media_type in _JSON and media_type != own)
        if not is_resource or answer.status != 200:
            return answer.stream()
        raw = await answer.read(self._upstream.max_resource)
        value = stored(raw)
        if value["resourceType"] != "Binary" or value.get("id") != seen.get("id"):
            return _one(raw)  # it is FHIR that the Binary holds
        if value.get("securityContext") != seen.get("securityContext"):
            raise _Changed(Reason.UPSTREAM_INVALID, "the Binary was changed while it was read")
        return _one(decoded(value))

    async def _check_same(
        self, asking: Asking, asked: FhirRequest, seen: SeenBinary, tag: str, answer: UpstreamAnswer
    ) -> None:
        """Raise _Changed unless what goes out is of the version that was judged.

        A store that tells no version with content is looked at again: what is the same before and after was the same.
        """
        if asked.version is not None:
            return
        now = answer.headers.get("etag", "")
        if not now or not tag:
            again, now = await self._look(asking, asked)
            if again != dict(seen):
                now = "another"
        if now.removeprefix("W/") != tag.removeprefix("W/"):
            raise _Changed(Reason.UPSTREAM_INVALID, "the Binary was changed while it was read")

    async def _with_content(
        self, asking: Asking, permit: Permit, seen: SeenBinary, header: Header | None, fault: str | None
    ) -> SeenBinary:
        trail = asking.trail
        if fault is not None:
            trail.explanation = f"document-unreadable: {fault}"
            return SeenBinary(seen, seen.via)
        content = await self._attachments.content(asking, header, seen, permit.needs)
        trail.document = told(content)
        if header is not None and permit.needs.patients and not content.patients:
            trail.explanation = (
                "document-of-another-patient: its record targets are not the patient of what leads to it"
            )
        return SeenBinary(seen, seen.via, content)

    # As a resource

    async def _resource(self, asking: Asking, permit: Permit, seen: SeenBinary, tag: str) -> Answer:
        trail = asking.trail
        answer = await self._send(asking, _target(permit.request), dict(NO_CACHE))
        try:
            check_status(answer)
            check_fhir_json(answer)
            value = stored(await answer.read(self._upstream.max_resource))
            await self._check_same(asking, permit.request, seen, tag, answer)
            asked = permit.request
            passed = headers.returned(answer.headers, self._upstream, asked.type, asked.id)
        finally:
            answer.close()
        if value.get("securityContext") != seen.get("securityContext"):
            raise _Changed(Reason.UPSTREAM_INVALID, "the Binary was changed while it was read")
        whole, header = SeenBinary(value, seen.via), None
        if permit.needs.content:
            header, fault = _header(value)
            whole = await self._with_content(asking, permit, whole, header, fault)
        shown = await _judged(asking, permit, whole)
        trail.decision, trail.tally.shown = "permit", 1
        cut = None if header is None else sections_shown(permit, trail.rules)
        if shown is None and cut is None and is_current(asking.http, permit.request, passed):
            return Answer(304, (*headers.PRIVATE, *passed))
        if shown is not None:
            passed = headers.of_what_is_seen(passed, value, shown)
        value = value if shown is None else dict(shown)
        if cut is not None and "data" in value:
            redact_data(value, decoded(value), cut, trail)
        links.rewrite_urls(value, upstream=self._upstream.base, public=self._upstream.identifier)
        shape = shape_of(permit.request.terms)
        return fhir_answer(resource.write_resource(value if shape is None else shaped(value, shape)), passed)


def told(content: Content) -> dict[str, object]:
    """What the audit record says of a document: no name and no identifier of a patient."""
    header = content.header
    if header is None:
        return {"kind": "other"}
    said: dict[str, object] = {"body": "unstructured"} if header.is_unstructured else {}
    if header.consents:
        said["consents"] = [f"{each.root}^{each.extension}" for each in header.consents]
    return said | {
        "kind": "ClinicalDocument",
        "type": None if header.code is None else header.code.code,
        "confidentiality": None if header.confidentiality is None else header.confidentiality.code,
        "custodian": [
            f"{each.root}^{each.extension}" for each in (header.custodian.ids if header.custodian else ())
        ],
    }


async def _judged(asking: Asking, permit: Permit, seen: SeenBinary) -> Mapping[str, Any] | None:
    await settle(asking.trail, permit, seen)
    return judge(asking.trail, permit, seen)


def _target(asked: FhirRequest) -> str:
    return request_target.upstream_target(asked).partition("?")[0]


def _header(value: dict[str, Any]) -> tuple[Header | None, str | None]:
    try:
        return header_of(decoded(value)), None
    except DocumentError as error:
        return None, str(error)


def decoded(value: Mapping[str, Any]) -> bytes:
    """The content of a Binary. Raises FhirError(UPSTREAM_INVALID)."""
    data = value.get("data", "")
    try:
        return binascii.a2b_base64(data if isinstance(data, str) else b"", strict_mode=True) if data else b""
    except (binascii.Error, ValueError) as error:
        raise FhirError(Reason.UPSTREAM_INVALID, "the content of the Binary is not base64") from error


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content

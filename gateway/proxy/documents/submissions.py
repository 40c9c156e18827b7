"""New documents on their way to a service that keeps nothing but documents.

The caller may say under whom a document is filed (X-Security-Context, as for every Binary). Without that it is filed
under whom its own header names: by the DocumentReference that the header makes, which the caller must be allowed to
create. What is wrong with a document is told by a reason of its own; the store has the last byte of nothing that was
not read to its end.
"""

from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any, Protocol, runtime_checkable

from gateway.cda.harmful import ContentWatch, RefusedContent
from gateway.cda.header import Header
from gateway.cda.submitted import SubmittedReader
from gateway.document_settings import SubmissionSettings
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.attachments import SeenBinary, Unmet, unmet
from gateway.policy.decision import Permit
from gateway.proxy import headers
from gateway.proxy.answers.delivery import settle
from gateway.proxy.documents.attachments import Asking, Attachments
from gateway.proxy.documents.binaries import PLACEHOLDER
from gateway.proxy.documents.document_stream import DocumentStream
from gateway.proxy.documents.native_content import media_type
from gateway.proxy.upstream import UpstreamClient
from gateway.proxy.writes.creation import bounded
from gateway.settings import Upstream

_NOBODY = "the document is about no one patient for whom you may file documents here"
_CHANGES = frozenset({Interaction.UPDATE, Interaction.PATCH, Interaction.DELETE})
_ALLOW = (("Allow", "GET, HEAD"),)
_REASONS = {
    Unmet.ORGANIZATION: Reason.DOCUMENT_OF_ANOTHER_ORGANIZATION,
    Unmet.TOO_LOW: Reason.DOCUMENT_LABEL_TOO_LOW,
}


@runtime_checkable
class KeepsDocuments(Protocol):
    """The client of a service of documents."""

    async def reference_to_be(
        self, header: Header, media_type: str, headers: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """What will lead to a new document with this header; None where it names no one patient. Raises FhirError."""
        ...


def submissions_of(
    upstream: Upstream, client: UpstreamClient, attachments: Attachments
) -> "Submissions | None":
    """What takes new documents at this mount; None where a FHIR store does."""
    if upstream.documents is None or not isinstance(client, KeepsDocuments):
        return None
    return Submissions(upstream, client, attachments, upstream.documents.submission)


def check(upstream: Upstream, asked: FhirRequest) -> None:
    """Raise FhirError(METHOD_NOT_ALLOWED) for what would change a document of a plain store."""
    if upstream.kind == "cda-rest" and asked.interaction in _CHANGES:
        raise FhirError(
            Reason.METHOD_NOT_ALLOWED,
            "a document is not changed: file a new one that names it in relatedDocument",
            headers=_ALLOW,
        )


class Submissions:
    """New documents of one service."""

    def __init__(
        self,
        upstream: Upstream,
        client: KeepsDocuments,
        attachments: Attachments,
        settings: SubmissionSettings,
    ) -> None:
        self._upstream = upstream
        self._client = client
        self._attachments = attachments
        self._settings = settings

    async def seen(
        self, asking: Asking, members: Mapping[str, Any], permit: Permit, body: AsyncIterator[bytes]
    ) -> tuple[SeenBinary, Header | None, AsyncIterator[bytes]]:
        """A new document as it is judged, its header, and its content on its way to the store.

        Raises FhirError: CONTENT_REFUSED, INVALID_BODY, DOCUMENT_OF_ANOTHER_PATIENT, POLICY_DENIED.
        """
        settings, kind = self._settings, media_type(members["contentType"])
        try:
            watch = ContentWatch(kind, settings.refused)
            stream = DocumentStream(
                bounded(body, settings.largest),
                fault=Reason.INVALID_BODY,
                new_reader=partial(
                    SubmittedReader, refused=settings.refused, checks_structure=settings.structure
                ),
            )
            await stream.begin()
            if stream.fault is not None:
                raise FhirError(Reason.INVALID_BODY, stream.fault)
            whole = stream.pieces() if stream.header is not None else _watched(stream.pieces(), watch)
            pieces = _named(whole)
        except RefusedContent as error:
            raise FhirError(Reason.CONTENT_REFUSED, str(error)) from error
        members = {**members, "data": PLACEHOLDER}
        if "securityContext" in members:
            seen = await self._attachments.seen(asking, members, permit.needs)
        elif stream.header is None:
            raise FhirError(
                Reason.INVALID_BODY, "what is no clinical document needs X-Security-Context: whose it is"
            )
        else:
            seen = SeenBinary(members, [await self._filed_by(asking, stream.header, kind)])
        return seen, stream.header, pieces

    async def _filed_by(self, asking: Asking, header: Header, kind: str) -> dict[str, Any]:
        """The DocumentReference that the header makes, where the caller may create it."""
        asked = FhirRequest("POST", Interaction.CREATE, "DocumentReference")
        decide = partial(asking.engine.decide, asked, asking.caller, asking.environment)
        permit = await asking.trail.knowledge.decided(decide)
        if not isinstance(permit, Permit) or permit.judge is None:
            asking.trail.decision = "deny"
            raise FhirError(
                Reason.POLICY_DENIED,
                "you may not create what leads to a document: a DocumentReference, or send X-Security-Context",
            )
        sent = headers.to_upstream(asking.http, self._upstream, asking.trail.interaction_id)
        found = await self._client.reference_to_be(header, kind, sent)
        if found is not None:
            await settle(asking.trail, permit, found)
        # Whether nobody is meant or somebody else is one answer: it would tell whom the store knows.
        if found is None or not permit.judge(found).shown:
            asking.trail.decision = "deny"
            raise FhirError(Reason.DOCUMENT_OF_ANOTHER_PATIENT, _NOBODY)
        asking.trail.through = [f"Patient/{_patient(found)}"]
        return found


def precise(error: FhirError, header: Header | None, permit: Permit) -> FhirError:
    """The refusal with the reason that every rule has for it, where they have one for this header."""
    conditions = permit.needs.documents
    if header is None or error.reason not in (Reason.POLICY_DENIED, Reason.NO_PERMIT) or not conditions:
        return error
    found = {unmet(header, condition) for condition in conditions}
    why = found.pop() if len(found) == 1 else None
    if why is None:
        return error
    return FhirError(_REASONS.get(why, error.reason), f"the document is not one that you may file: {why}")


def _patient(reference: Mapping[str, Any]) -> str:
    return str(reference["subject"]["reference"]).rpartition("/")[2]


async def _watched(pieces: AsyncIterator[bytes], watch: ContentWatch) -> AsyncIterator[bytes]:
    """The same pieces, each once it was looked at."""
    held = b""  # of content that is refused at its end, the end does not go out
    async for piece in pieces:
        watch.feed(piece)
        if held:
            yield held
        held = piece
    watch.finish()
    if held:
        yield held


async def _named(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same pieces. Raises FhirError(CONTENT_REFUSED)."""
    try:
        async for piece in pieces:
            yield piece
    except RefusedContent as error:
        raise FhirError(Reason.CONTENT_REFUSED, str(error)) from error

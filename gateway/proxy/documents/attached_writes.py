"""Writes of Binaries, and of what leads to them: what was found out about a Binary is judged with the write.

A new Binary is reached by its security context, in the resource or, with native content, in X-Security-Context (FHIR
R4 2.41.3). A new attachment opens a Binary to whoever may read the resource that has it: so who writes one must be
able to read that Binary already (attack case 229).
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from authz.protocol.request import EmptyBody
from gateway.cda.header_reader import header_of
from gateway.cda.parser import DocumentError
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.links import local_reference
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.attachments import NOTHING_NEEDED, THROUGH, SeenBinary
from gateway.policy.decision import Permit, Resource
from gateway.proxy.answers.delivery import judge, settle
from gateway.proxy.answers.tally import Tally
from gateway.proxy.documents.attachments import Asking, Attachments, attachment_urls
from gateway.proxy.documents.binaries import PLACEHOLDER, Binaries, decoded, told
from gateway.proxy.documents.document_stream import DocumentStream
from gateway.proxy.documents.submissions import Submissions, precise

_MAX_ATTACHMENTS = 20  # Binaries that one write may name anew


class AttachedWrites:
    """What writes to one store need to know of Binaries."""

    def __init__(
        self, *, attachments: Attachments, binaries: Binaries, submissions: Submissions | None = None
    ) -> None:
        """submissions takes new documents where no FHIR store does."""
        self.submissions = submissions
        self._attachments = attachments
        self._binaries = binaries

    async def seen(
        self, asking: Asking, version: dict[str, Any], permit: Permit, *, is_new: bool
    ) -> dict[str, Any]:
        """A version of a resource as it is judged. Raises FhirError(INVALID_BODY): a new document is not one.

        Of a stored document that cannot be read nothing is known.
        """
        if version.get("resourceType") != "Binary" or permit.needs == NOTHING_NEEDED:
            return version
        seen = await self._attachments.seen(asking, version, permit.needs)
        if not permit.needs.content:
            return seen
        try:
            header = header_of(decoded(version), stylesheets=not is_new)
        except DocumentError as error:
            if is_new:
                raise FhirError(Reason.INVALID_BODY, str(error)) from error
            return seen
        content = await self._attachments.content(asking, header, seen, permit.needs)
        asking.trail.document = told(content)
        return SeenBinary(version, seen.via, content)

    async def native(
        self, asking: Asking, members: dict[str, Any], permit: Permit, body: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """The native content of a new Binary on its way to the store, once it is judged by what is said of it.

        Raises FhirError.
        """
        if self.submissions is not None:
            return await self._submitted(asking, members, permit, body, self.submissions)
        seen = await self._attachments.seen(asking, members | {"data": PLACEHOLDER}, permit.needs)
        if permit.needs.content:
            stream = DocumentStream(body, stylesheets=False, fault=Reason.INVALID_BODY)
            await stream.begin()
            if stream.fault is not None:
                raise FhirError(Reason.INVALID_BODY, stream.fault)
            content = await self._attachments.content(asking, stream.header, seen, permit.needs)
            asking.trail.document = told(content)
            seen, body = SeenBinary(seen, seen.via, content), stream.pieces()
        await self.judge(asking, seen, permit)
        return body

    async def _submitted(
        self,
        asking: Asking,
        members: dict[str, Any],
        permit: Permit,
        body: AsyncIterator[bytes],
        submissions: Submissions,
    ) -> AsyncIterator[bytes]:
        seen, header, pieces = await submissions.seen(asking, members, permit, body)
        content = await self._attachments.content(asking, header, seen, permit.needs)
        asking.trail.document = told(content)
        if permit.unconditional:
            return pieces
        try:
            await self.judge(asking, SeenBinary(seen, seen.via, content), permit)
        except FhirError as error:
            raise precise(error, header, permit) from error
        return pieces

    async def judge(self, asking: Asking, version: dict[str, Any], permit: Permit) -> None:
        """Judge a new version. Raises FhirError, DOCUMENT_OF_ANOTHER_PATIENT where that is why."""
        await settle(asking.trail, permit, version)
        try:
            judge(asking.trail, permit, version)
            asking.trail.tally.about.note(version, self._attachments.bases)
        except FhirError:
            if _is_of_another(version, permit):
                raise FhirError(Reason.DOCUMENT_OF_ANOTHER_PATIENT) from None
            raise

    async def check_attachments(
        self, asking: Asking, before: Resource | None, after: Resource, fresh: frozenset[str] = frozenset()
    ) -> None:
        """Raise FhirError(POLICY_DENIED) where after names a Binary, new to it, that the caller may not read.

        fresh are the ids of Binaries that are made, and judged, together with it.
        """
        type_ = str(after.get("resourceType"))
        if type_ not in THROUGH or type_ not in asking.engine.ways_to_binaries:
            return
        known = set() if before is None else set(attachment_urls(before))
        added = list(dict.fromkeys(url for url in attachment_urls(after) if url not in known))
        places = [local_reference(url, self._attachments.bases) for url in added]
        named = [
            place
            for place in places
            if place is not None and place.type == "Binary" and place.id not in fresh
        ]
        if len(named) > _MAX_ATTACHMENTS:
            raise FhirError(Reason.TOO_LARGE, f"at most {_MAX_ATTACHMENTS} Binaries can be attached at once")
        for place in named:
            if not await self._may_read(asking, place.id, place.version):
                asking.trail.decision = "deny"
                raise FhirError(
                    Reason.POLICY_DENIED,
                    "an attachment names a Binary that you may not read, or that is not there",
                )

    async def _may_read(self, asking: Asking, id_: str, version: str | None) -> bool:
        http = replace(asking.http, method="GET", query="", headers={}, body=EmptyBody())
        trail = replace(asking.trail, request=http, tally=Tally(), rules=(), through=[], document=None)
        interaction = Interaction.READ if version is None else Interaction.VREAD
        asked = FhirRequest("GET", interaction, "Binary", id=id_, version=version)
        decide = partial(asking.engine.decide, asked, asking.caller, asking.environment)
        decision = await trail.knowledge.decided(decide)
        if not isinstance(decision, Permit):
            return False
        try:
            answer = await self._binaries.answer(replace(asking, http=http, trail=trail), decision)
        except FhirError as error:
            if error.status in (403, 404):
                return False
            raise
        close = getattr(answer.body, "aclose", None)
        if close is not None:
            await close()
        return True


def _is_of_another(version: Mapping[str, Any], permit: Permit) -> bool:
    """Whether a new document is about somebody else than the one under whom it is filed."""
    content = version.content if isinstance(version, SeenBinary) and version.via else None
    return (
        permit.needs.patients and content is not None and content.header is not None and not content.patients
    )

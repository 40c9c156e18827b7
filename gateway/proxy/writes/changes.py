"""Update, patch and delete of one resource: the stored version is read and judged, then the one that is to be stored.

FHIR R4 3.1.0.4, 3.1.0.5, 3.1.0.9. What was judged is what is replaced (If-Match) and what is stored: a patch is
applied here and goes to the store as the whole resource. Order matters, since every answer tells something: what the
body alone decides comes first and says nothing about the store; then the stored version, whose refusal is the answer
to an id that nobody has; only those who may write it learn of versions and of patches that do not fit.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from authz.protocol.request import Answer, HttpRequest
from authz.protocol.tokens import Caller
from gateway.audit.log import AuditLog
from gateway.fhir import bundle_graph, links, resource
from gateway.fhir.formats import BOTH
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.known_elements import check_elements
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.shape import check_whole
from gateway.fhir.xhtml import check_narratives
from gateway.policy.decision import Deny, Permit
from gateway.proxy import headers
from gateway.proxy.answers.delivery import check_status
from gateway.proxy.answers.representation import Representation
from gateway.proxy.documents.attached_writes import AttachedWrites
from gateway.proxy.large_bodies import by_length
from gateway.proxy.refusals import denied
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamAnswer, UpstreamClient
from gateway.proxy.writes import creation
from gateway.proxy.writes.patches import Patch, apply_patch, read_patch
from gateway.proxy.writes.stored_version import (
    StoredVersion,
    check_version,
    own_references,
    stored_version,
    wanted_version,
)
from gateway.proxy.writes.write_verdicts import Write, changed, check, decided, judged
from gateway.settings import Upstream

WRITES = frozenset({Interaction.UPDATE, Interaction.PATCH, Interaction.DELETE})
Meet = Callable[[Trail, Permit, Caller], Awaitable[None]]

_MAX_PATCH_BYTES = 1024 * 1024
_DONE = b'{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"informational"}]}'
_PREFERENCE = re.compile(r"return\s*=\s*\"?(minimal|representation|OperationOutcome)\b")
_CLOSED = {
    "x-security-context": "X-Security-Context is not taken here: send the Binary as FHIR JSON",
    "if-none-match": "If-None-Match is not taken with a write: send If-Match, or neither",
    "if-none-exist": "If-None-Exist goes with a create only",
    "if-modified-since": "If-Modified-Since is not taken with a write",
    "if-unmodified-since": "If-Unmodified-Since is not taken: send If-Match",
}


@dataclass(frozen=True, slots=True)
class Change:
    """A write that may happen.

    after is what is to be stored, None for a delete; precondition are its headers. length is of how many bytes it was
    made.
    """

    after: dict[str, Any] | None
    precondition: Mapping[str, str]
    length: int = 0


class Writes:
    """Writes to one store.

    show gives what a caller may see of a stored resource, b'' where that is nothing; meet does what a permit obliges to.
    """

    def __init__(
        self,
        *,
        upstream: Upstream,
        client: UpstreamClient,
        audit: AuditLog,
        show: Representation,
        attached: AttachedWrites,
        meet: Meet,
    ) -> None:
        self.attached = attached
        self._upstream = upstream
        self._client = client
        self._audit = audit
        self._show = show
        self._meet = meet
        self._bases = (*upstream.bases, upstream.base)
        self._names = frozenset(self._bases)

    async def answer(self, write: Write) -> Answer:
        """The answer to an update, patch or delete of one resource. Raises FhirError, OAuthError (step-up)."""
        change = await self.decided(write)
        if change.after is None:
            return await self._remove(write, change)
        body = await by_length(change.length, partial(resource.write_resource, change.after))
        return await self._put(write, body, change.precondition)

    async def decided(self, write: Write) -> Change:
        """What the store is to be told; it was asked for the stored version only. Raises FhirError, OAuthError."""
        for name, why in _CLOSED.items():
            if name in write.http.headers:
                raise FhirError(Reason.INTERACTION_CLOSED, why)
        wanted = wanted_version(write.http)
        match write.permit.request.interaction:
            case Interaction.UPDATE:
                return await self._update(write, wanted)
            case Interaction.PATCH:
                return await self._patch(write, wanted)
            case _:
                return await self._delete(write, wanted)

    async def _update(self, write: Write, wanted: str | None) -> Change:
        if not headers.is_json(write.http.headers.get("content-type", "")):
            raise FhirError(Reason.UNSUPPORTED_MEDIA_TYPE, f"the body must be {BOTH} in UTF-8")
        raw = await write.http.body.read(self._upstream.max_resource)
        is_found = write.found is not None
        read = partial(self._new_version, raw, write.permit.request, is_found=is_found)
        after = await by_length(len(raw), read)
        after = await self.attached.seen(write.asking, after, write.permit, is_new=True)
        # Decided by the body alone: the same answer for every id.
        check(write.trail, await judged(write, write.permit, after), conceal=False)
        before = await self._stored(write)
        if before is None:
            return await self._upsert(write, wanted, after, len(raw))
        check(write.trail, await judged(write, write.permit, before.resource), conceal=write.permit.conceal)
        await self._check_whole(write, before)
        check_version(wanted, before)
        return await self._replaced(write, before, after, len(raw))

    async def _upsert(self, write: Write, wanted: str | None, after: dict[str, Any], length: int) -> Change:
        """Update as create (FHIR R4 3.1.0.4.1): an id that the caller chose.

        Stricter than SMART 2.2 @123, where `u` is enough: it takes what an update takes and what a create takes.
        Where it may not be, the answer is that to an id that nobody has.
        """
        asked = replace(
            write.permit.request, method="POST", interaction=Interaction.CREATE, id=None, terms=()
        )
        decision = await decided(write, asked)
        if wanted is not None or not isinstance(decision, Permit) or decision.judge_change is None:
            raise FhirError(Reason.NOT_FOUND)
        check(write.trail, await changed(write, decision, None, after), conceal=False)
        check(write.trail, await changed(write, write.permit, None, after), conceal=False)
        await self.attached.check_attachments(write.asking, None, after, write.fresh)
        await by_length(length, partial(self._check_texts, None, after))
        await self._meet(write.trail, decision, write.caller)
        write.trail.tally.about.note(after, self._names)
        return Change(after, {"if-none-match": "*"}, length)

    async def _patch(self, write: Write, wanted: str | None) -> Change:
        """A patch that fails tells what is stored: it is for those who may read it as well."""
        patch = read_patch(
            write.http.headers.get("content-type", ""), await write.http.body.read(_MAX_PATCH_BYTES)
        )
        reading = await self._may_read(write)
        before = await self._stored(write)
        if before is None:
            raise FhirError(Reason.NOT_FOUND)
        conceal = write.permit.conceal or reading.conceal
        check(write.trail, await judged(write, write.permit, before.resource), conceal=conceal)
        check(write.trail, await judged(write, reading, before.resource), conceal=conceal)
        await self._check_whole(write, before)
        check_version(wanted, before)
        after = await by_length(before.length, partial(self._patched, before.resource, patch))
        after = await self.attached.seen(write.asking, after, write.permit, is_new=True)
        return await self._replaced(write, before, after, before.length)

    def _patched(self, before: dict[str, Any], patch: Patch) -> dict[str, Any]:
        after = apply_patch(before, patch)
        own_references(after, self._bases)
        if len(resource.write_resource(after)) > self._upstream.max_resource:
            raise FhirError(Reason.TOO_LARGE, "the patched resource is larger than this gateway judges")
        return after

    async def _may_read(self, write: Write) -> Permit:
        asked = replace(write.permit.request, method="GET", interaction=Interaction.READ, terms=())
        decision = await decided(write, asked)
        match decision:
            case Permit():
                return decision
            case Deny():
                write.trail.explanation = f"a patch needs the right to read: {decision.explanation}"
                raise denied(decision)
            case _:
                raise FhirError(Reason.NO_PERMIT)

    async def _check_whole(self, write: Write, before: StoredVersion) -> None:
        """Who sees only a part of the stored version does not write over it: the rest would be lost, or found out.

        Raises FhirError(POLICY_DENIED).
        """
        asked = replace(write.permit.request, method="GET", interaction=Interaction.READ, terms=())
        decision = await decided(write, asked)
        if isinstance(decision, Permit) and (await judged(write, decision, before.resource)).seen is not None:
            write.trail.decision = "deny"
            raise FhirError(Reason.POLICY_DENIED, "of this resource only a part is shown here")

    async def _delete(self, write: Write, wanted: str | None) -> Change:
        before = await self._stored(write)
        if before is None:
            raise FhirError(Reason.NOT_FOUND)
        check(write.trail, await judged(write, write.permit, before.resource), conceal=write.permit.conceal)
        check_version(wanted, before)
        check(write.trail, await changed(write, write.permit, before.resource, None), conceal=False)
        write.trail.tally.about.note(before.resource, self._names)
        return Change(None, before.precondition)

    async def _remove(self, write: Write, change: Change) -> Answer:
        answer = await self._send(write, "DELETE", change.precondition, None)
        answer.close()
        _check_written(answer, (200, 202, 204))
        return Answer(204, headers.PRIVATE, b"")

    def _new_version(self, raw: bytes, asked: FhirRequest, *, is_found: bool) -> dict[str, Any]:
        """The resource of an update (FHIR R4 3.1.0.4); it may leave its id to the criteria that found it.

        Raises FhirError(INVALID_BODY).
        """
        value = resource.parse_resource(raw)
        if is_found:
            value.setdefault("id", asked.id)
        if value["resourceType"] != asked.type or value.get("id") != asked.id:
            raise FhirError(
                Reason.INVALID_BODY, "resourceType and id of the body must be those of the address"
            )
        check_elements(value)
        check_whole(value)
        own_references(value, self._bases)
        for base in self._upstream.bases:  # other addresses of ours: as the store itself would write them
            links.rewrite_urls(value, upstream=base, public=self._upstream.base)
        return value

    async def _stored(self, write: Write) -> StoredVersion | None:
        """The stored version. Raises FhirError(VERSION_CONFLICT) where it is not the one that criteria found."""
        found = await stored_version(
            write.http, write.trail, write.place, upstream=self._upstream, client=self._client
        )
        if write.found is not None and (found is None or found.version != write.found.version):
            raise FhirError(Reason.VERSION_CONFLICT, "what the criteria found was changed since")
        if found is None:
            return None
        seen = await self.attached.seen(write.asking, found.resource, write.permit, is_new=False)
        return replace(found, resource=seen)

    async def _replaced(
        self, write: Write, before: StoredVersion, after: dict[str, Any], length: int
    ) -> Change:
        # Whoever comes this far may write the stored version: a refusal tells nothing about its being there.
        check(write.trail, await changed(write, write.permit, before.resource, after), conceal=False)
        await self.attached.check_attachments(write.asking, before.resource, after, write.fresh)
        checking = partial(self._check_texts, before.resource, after)
        await by_length(max(length, before.length), checking)
        for version in (before.resource, after):
            write.trail.tally.about.note(version, self._names)
        return Change(after, before.precondition, length)

    def _check_texts(self, before: dict[str, Any] | None, after: dict[str, Any]) -> None:
        """Narratives, and references that nobody has resolved. Raises FhirError(INVALID_BODY)."""
        check_narratives(after, before)
        bundle_graph.check_resolved(after, before, self._bases)

    async def _put(self, write: Write, body: bytes, precondition: Mapping[str, str]) -> Answer:
        asked = write.permit.request
        wants = "minimal" if write.permit.obligations.minimal else preference(write.http)
        prefer = "representation" if wants == "representation" else "minimal"
        more = {
            "content-type": f"{headers.FHIR_JSON}; charset=utf-8",
            "prefer": f"return={prefer}, handling=strict",
            **precondition,
        }
        answer = await self._send(write, "PUT", more, body)
        shown = _DONE if wants == "OperationOutcome" else b""
        try:
            _check_written(answer, (200, 201, 204))
            if wants == "representation" and headers.is_json(answer.headers.get("content-type", "")):
                raw = await answer.read(self._upstream.max_resource)
                show = (raw, str(asked.id), asked, write.caller, write.engine, write.http, write.trail)
                shown = await self._show(*show)
        finally:
            answer.close()
        created = answer.status == 201
        place = creation.made(answer.headers, self._upstream, write.permit.request.type)
        location = place.headers if created and place.id == write.permit.request.id else ()
        content = (headers.JSON_BODY,) if shown else ()
        passed = (*location, *headers.returned(answer.headers, self._upstream, asked.type, asked.id))
        return Answer(201 if created else 200, (*content, *headers.PRIVATE, *passed), shown)

    async def _send(
        self, write: Write, method: str, more: Mapping[str, str], body: bytes | None
    ) -> UpstreamAnswer:
        """Send the write. It happens once the store has it, whatever becomes of the answer: it is on record before."""
        write.trail.decision = "permit"
        write.trail.upstream.append(f"{method} {write.place}")
        await self._audit.record(write.trail.begun(self._upstream.name))
        sent = headers.to_upstream(write.http, self._upstream, write.trail.interaction_id) | dict(more)
        return await self._client.write(write.caller, method, write.place, sent, body)


def preference(http: HttpRequest) -> str:
    """What a write is to be answered with: minimal, representation or OperationOutcome (FHIR R4 3.1.0.1.8)."""
    found = _PREFERENCE.search(http.headers.get("prefer", ""))
    return "representation" if found is None else found[1]


def _check_written(answer: UpstreamAnswer, right: tuple[int, ...]) -> None:
    """Raise FhirError unless the store did it; 409 and 412 mean that another version came between."""
    if answer.status in right:
        return
    if answer.status in (409, 412):
        raise FhirError(Reason.VERSION_CONFLICT, "read the resource again: it was changed since")
    check_status(answer)
    raise FhirError(Reason.UPSTREAM_INVALID)

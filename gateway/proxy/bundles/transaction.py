"""A transaction: everything is decided before anything is sent, and then all of it happens or nothing (FHIR R4 3.1.0.11.2).

First comes what the Bundle alone decides; then stored versions and searches; then one Bundle of writes goes to the
store, each by literal id and under the version that was judged. Reads are answered after it, as the order of R4 has it:
what they may show was looked at before. The refusal of one entry is the refusal of all.
"""

import asyncio
from functools import partial
from typing import Any

from authz.clock import Clock
from authz.protocol.request import Answer
from gateway.audit.log import AuditLog
from gateway.fhir import resource
from gateway.fhir.interaction import Interaction
from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy import headers
from gateway.proxy.answers.delivery import check_status, fhir_answer, stored
from gateway.proxy.answers.representation import Representation
from gateway.proxy.bundles.entries import OnePassage, Sent, answering, entry_of, part_of
from gateway.proxy.bundles.held import Held
from gateway.proxy.bundles.provided_documents import give_contexts
from gateway.proxy.bundles.transaction_decisions import TransactionDecisions
from gateway.proxy.bundles.transaction_steps import Step, answers_of, bundle_of, id_of, method_of, response_of
from gateway.proxy.decisions import Decisions
from gateway.proxy.kept_consents import check_transaction
from gateway.proxy.large_bodies import by_length
from gateway.proxy.upstream import UpstreamClient
from gateway.proxy.writes.changes import Writes, preference
from gateway.settings import Upstream


class Transactions:
    """Transactions at one store. decisions and passage are those of single requests."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        client: UpstreamClient,
        audit: AuditLog,
        clock: Clock,
        writes: Writes,
        show: Representation,
        decisions: Decisions,
        passage: OnePassage,
    ) -> None:
        self._upstream = upstream
        self._client = client
        self._audit = audit
        self._show = show
        self._deciding = TransactionDecisions(
            upstream=upstream, client=client, clock=clock, writes=writes, decisions=decisions, passage=passage
        )
        self._passage = passage

    async def answer(self, sent: Sent, *, is_opened: bool = False) -> Answer:
        """The answer to a transaction. is_opened: it is not the caller's, so that no permit must open it.

        Raises FhirError, with the expression of the entry that is refused, OAuthError (step-up), AuditUnavailable.
        """
        if not self._upstream.profile.transactions:
            raise FhirError(Reason.INTERACTION_CLOSED, "this store carries out no transactions")
        if self._upstream.kind == "mhd":
            give_contexts(sent.requests.entries)
        steps: list[Step] = []
        try:
            for entry in sent.requests.entries:
                read = partial(part_of, entry, sent.http, self._upstream)
                part = await by_length(sent.requests.length, read)
                check_transaction(self._upstream, part.asked)
                steps.append(Step(part, sent.trail.of_entry(entry.index, part.http)))
                steps[-1].trail.asked = part.asked
            await self._deciding.decide(sent, steps, is_opened=is_opened)
        finally:
            sent.trail.upstream.extend(line for step in steps for line in step.trail.upstream)
        writes = [step for step in steps if step.sends]
        told = await self._carried_out(sent, writes) if writes else {}
        held = Held(self._upstream.bundle.answer_size)
        entries = [await self._entry(sent, step, told.get(step.part.entry.index), held) for step in steps]
        sent.trail.decision = "permit"
        for step in steps:
            sent.trail.obligations = sent.trail.obligations.and_those_of(step.trail.obligations)
        await asyncio.gather(
            *(self._audit.record(step.trail.record(self._upstream.name, step.trail.status)) for step in steps)
        )
        return fhir_answer(answering(Interaction.TRANSACTION, entries))

    async def _carried_out(self, sent: Sent, steps: list[Step]) -> dict[int, tuple[dict[str, Any], Any]]:
        """What the store did, by index of entry: what is told of it, and the resource that it answered with."""
        trail, wants = sent.trail, preference(sent.http)
        trail.decision = "permit"
        for step in steps:
            step.trail.upstream.append(f"{method_of(step)} {step.target or step.part.asked.type}")
        trail.upstream.append("POST")
        # It happens once the store has it, whatever becomes of the answer: all of it is on record before.
        begun = [each.begun(self._upstream.name) for each in (*(step.trail for step in steps), trail)]
        await asyncio.gather(*(self._audit.record(record) for record in begun))
        explicit = "return" in sent.http.headers.get("prefer", "") and wants == "representation"
        body = await by_length(sent.requests.length, partial(bundle_of, steps))
        more = {
            "content-type": f"{headers.FHIR_JSON}; charset=utf-8",
            "prefer": f"return={'representation' if explicit else 'minimal'}, handling=strict",
        }
        to_store = headers.to_upstream(sent.http, self._upstream, trail.interaction_id) | more
        answer = await self._client.send("POST", "", to_store, body)
        try:
            if answer.status in (409, 412):
                raise FhirError(Reason.VERSION_CONFLICT, "read the resources again: one was changed since")
            check_status(answer)
            raw = await answer.read(self._upstream.bundle.answer_size)
            said = await by_length(len(raw), partial(stored, raw))
        finally:
            answer.close()
        told = {}
        for step, entry in zip(steps, answers_of(said, len(steps)), strict=True):
            response = response_of(step, entry, self._upstream, with_outcome=wants == "OperationOutcome")
            told[step.part.entry.index] = (response, entry.get("resource") if explicit else None)
        return told

    async def _entry(
        self, sent: Sent, step: Step, told: tuple[dict[str, Any], Any] | None, held: Held
    ) -> bytes:
        """The entry that answers a step."""
        part, trail = step.part, step.trail
        if step.is_read:
            return await self._read(sent, step, held)
        if told is None:  # a create that found its resource
            trail.status = 200
            place = f"{self._upstream.identifier}/{step.target}"
            return entry_of(Answer(200, (("Location", place),)), b"")
        response, value = told
        trail.status = int(response["status"])
        shown = b""
        if isinstance(value, dict) and not trail.obligations.minimal:
            raw, id_ = resource.write_resource(value), id_of(step, response, self._upstream)
            shown = await self._show(raw, id_, part.asked, sent.caller, sent.engine, part.http, trail)
        said = resource.write_resource(response)
        return (
            b'{"resource":' + shown + b',"response":' + said + b"}"
            if shown
            else b'{"response":' + said + b"}"
        )

    async def _read(self, sent: Sent, step: Step, held: Held) -> bytes:
        """The answer to a read, after the writes. Its refusal comes too late to refuse them: it stands in its place."""
        part, trail = step.part, step.trail
        try:
            answer = await self._passage.pass_one(part.http, part.asked, sent.caller, sent.engine, trail)
            body = await held.whole(answer) or b""
        except Exception as error:
            answer = self._passage.refused(trail, error)
            body = answer.body if isinstance(answer.body, bytes) else b""
        trail.status = answer.status
        return entry_of(answer, body, head=part.entry.method == "HEAD")

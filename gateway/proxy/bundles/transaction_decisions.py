"""What is decided about a transaction before anything of it is sent: entry by entry, and the refusal of one is that of all.

First comes what the Bundle alone decides; then what the store is asked: criteria, stored versions, what is to be read.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from authz.clock import Clock
from authz.protocol.errors import OAuthError
from authz.protocol.request import BytesBody, RequestError
from gateway.fhir import bundle_graph, request, search
from gateway.fhir.interaction import Interaction
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Environment, Permit
from gateway.proxy.answers.delivery import judge, settle
from gateway.proxy.answers.representation import environment_of
from gateway.proxy.bundles.entries import OnePassage, Sent, check_opened
from gateway.proxy.bundles.transaction_steps import (
    READS,
    Step,
    by_itself,
    check_apart,
    check_kept,
    conditional,
    names,
    of_all,
    resolved,
)
from gateway.proxy.decisions import Decisions
from gateway.proxy.documents.attachments import Asking
from gateway.proxy.large_bodies import by_length
from gateway.proxy.upstream import UpstreamClient
from gateway.proxy.whole_answers import let_go
from gateway.proxy.writes import conditional_writes, creation
from gateway.proxy.writes.changes import WRITES, Writes
from gateway.proxy.writes.write_verdicts import Write
from gateway.settings import Upstream


class TransactionDecisions:
    """Decides about transactions at one store. decisions and passage are those of single requests."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        client: UpstreamClient,
        clock: Clock,
        writes: Writes,
        decisions: Decisions,
        passage: OnePassage,
    ) -> None:
        self._upstream = upstream
        self._client = client
        self._clock = clock
        self._writes = writes
        self._decisions = decisions
        self._passage = passage
        self._bases = (*upstream.bases, upstream.base)

    async def decide(self, sent: Sent, steps: list[Step], *, is_opened: bool) -> None:
        """Decide about every step, which says by then what the store is sent for it. Raises FhirError, OAuthError."""
        if not is_opened:
            await self._each(sent, steps, self._check_opened)
        check_apart(steps)
        await self._each(sent, [step for step in steps if not step.is_conditional], self._by_itself(steps))
        await self._look_up(sent, steps)

    async def _each(
        self, sent: Sent, steps: list[Step], work: Callable[[Sent, Step], Awaitable[None]]
    ) -> None:
        """Do this for every step. What refuses one refuses all, and the trail of all tells which it was."""
        for step in steps:
            try:
                await work(sent, step)
            except (FhirError, OAuthError, RequestError) as error:
                where, trail = step.part.entry.expression, step.trail
                sent.trail.rules, sent.trail.decision = trail.rules, "deny"
                sent.trail.explanation = f"{where}: {trail.explanation or error}"
                if isinstance(error, OAuthError):
                    raise
                raise of_all(error, where) from error

    async def _check_opened(self, sent: Sent, step: Step) -> None:
        asked = step.part.asked
        if asked.interaction not in READS | WRITES | {Interaction.CREATE} or asked.posted:
            raise FhirError(
                Reason.INTERACTION_CLOSED,
                "a transaction takes reads, searches by GET, and writes of one resource",
            )
        await check_opened(sent, step.part, step.trail, self._environment(step))

    def _environment(self, step: Step) -> Environment:
        return environment_of(step.part.http, self._upstream, self._clock, step.trail.knowledge)

    def _by_itself(self, steps: list[Step]) -> Callable[[Sent, Step], Awaitable[None]]:
        """What the Bundle alone decides: whether the entry may be asked at all, and its new version where that is whole."""
        known = names(steps)

        async def work(sent: Sent, step: Step) -> None:
            part = step.part
            step.permitted = await self._decisions.permitted(
                part.http, part.asked, sent.caller, sent.engine, step.trail
            )
            decision, body = step.permitted.decision, part.entry.resource
            if part.asked.interaction not in (Interaction.CREATE, Interaction.UPDATE) or body is None:
                return
            if not isinstance(decision, Permit):
                return
            value = await by_length(sent.requests.length, partial(by_itself, body, known, self._bases))
            if value is not None:
                asking = Asking(part.http, step.trail, sent.caller, sent.engine, step.permitted.environment)
                seen = await self._writes.attached.seen(asking, value, decision, is_new=True)
                await settle(step.trail, decision, seen)
                judge(step.trail, replace(decision, conceal=False), seen)  # the same answer for every id

        return work

    async def _look_up(self, sent: Sent, steps: list[Step]) -> None:
        """What the store is asked before the writes: criteria, stored versions, what is to be read."""
        criteria = [step for step in steps if step.is_conditional]
        references = await by_length(sent.requests.length, partial(conditional, steps, self._bases))
        reading = [step for step in steps if step.is_read and step.part.asked.id is not None]
        others = [step for step in steps if step.part.asked.interaction in WRITES]
        count = len(criteria) + len(references) + len(reading) + len(others)
        if count > self._upstream.bundle.lookups:
            said = f"it needs {count} lookups, {self._upstream.bundle.lookups} are allowed"
            raise FhirError(Reason.SPLIT_TRANSACTION, said)

        async def by_criteria(sent: Sent, step: Step) -> None:
            part = step.part
            step.permitted = await self._decisions.permitted(
                part.http, part.asked, sent.caller, sent.engine, step.trail
            )

        await self._each(sent, criteria, by_criteria)
        check_apart(steps)
        found: dict[str, str] = {}
        for text, step in references.items():

            async def by_reference(sent: Sent, step: Step, text: str = text) -> None:
                found[text] = await self._referred(sent, step, text)

            await self._each(sent, [step], by_reference)
        known = names(steps)
        fresh = frozenset(step.fresh for step in steps)

        async def write(sent: Sent, step: Step) -> None:
            await self._write(sent, step, known, found, fresh)

        await self._each(sent, [step for step in steps if not step.is_read], write)
        check_kept(steps, self._bases)
        await self._each(sent, reading, self._look)

    async def _referred(self, sent: Sent, step: Step, text: str) -> str:
        """The one resource that a conditional reference means, among those that the caller may find."""
        named = bundle_graph.criteria_of(text, self._bases)
        if named is None:
            raise FhirError(Reason.INTERNAL)
        type_, query = named
        asked = request.parse("GET", f"/{type_}", query)
        terms = search.parse_terms(search.query_pairs(query), type_)
        found = await conditional_writes.find(
            step.part.http,
            step.trail,
            asked,
            terms,
            sent.caller,
            sent.engine,
            self._environment(step),
            upstream=self._upstream,
            client=self._client,
        )
        if found is None:
            raise FhirError(Reason.NOT_FOUND, "a conditional reference finds nothing", status=412)
        return f"{type_}/{found.id}"

    async def _write(
        self,
        sent: Sent,
        step: Step,
        known: dict[str, str],
        found: dict[str, str],
        fresh: frozenset[str],
    ) -> None:
        """Judge what is stored and what is to be stored. fresh are the ids that stand for new resources."""
        permitted, part = step.permitted, step.part
        if permitted is None or not isinstance(permitted.decision, Permit):
            raise FhirError(Reason.INTERNAL)
        asked, permit, http = permitted.asked, permitted.decision, part.http
        if asked.interaction is Interaction.CREATE and permitted.found is not None:
            step.trail.decision = "permit"
            return
        step.sends = True
        if part.entry.resource is not None and part.asked.interaction is not Interaction.PATCH:
            writing = partial(resolved, part.entry.resource, known, found)
            http = replace(http, body=BytesBody(await by_length(sent.requests.length, writing)))
        if asked.interaction is Interaction.CREATE:
            raw = await http.body.read(self._upstream.max_resource)
            may_name_id = part.asked.interaction is Interaction.CREATE
            made_of = partial(creation.new_version, raw, asked.type, self._bases, may_name_id=may_name_id)
            new, _ = await by_length(len(raw), made_of)
            asking = Asking(http, step.trail, sent.caller, sent.engine, permitted.environment)
            step.after = await self._writes.attached.seen(asking, new, permit, is_new=True)
            await self._writes.attached.judge(asking, step.after, permit)
            await self._writes.attached.check_attachments(asking, None, step.after, fresh)
        else:
            write = Write(
                http,
                step.trail,
                permit,
                sent.caller,
                sent.engine,
                permitted.environment,
                permitted.found,
                fresh,
            )
            change = await self._writes.decided(write)
            if "if-none-match" in change.precondition:
                # Nothing in a Bundle keeps an id free until it is written.
                raise FhirError(Reason.NOT_FOUND)
            step.after, step.precondition = change.after, change.precondition
            if part.asked.interaction is Interaction.PATCH and bundle_graph.mentions_entries(
                step.after, known, self._bases
            ):
                raise FhirError(Reason.INVALID_BODY, "a patch cannot refer to another entry, or by criteria")
        step.trail.decision = "permit"

    async def _look(self, sent: Sent, step: Step) -> None:
        """Read what is to be read after the writes, as it is now: who may not see it is refused before they happen."""
        part = step.part
        trail = sent.trail.of_entry(part.entry.index, part.http)
        trail.obligations = step.trail.obligations  # what the read obliges to is done once
        try:
            answer = await self._passage.pass_one(part.http, part.asked, sent.caller, sent.engine, trail)
        finally:
            step.trail.rules, step.trail.explanation = trail.rules, trail.explanation
            step.trail.obligations = trail.obligations
            step.trail.upstream.extend(trail.upstream)
        await let_go(answer.body)

"""POST [base]: a Bundle of requests. Each entry of a batch passes as the same request alone would (FHIR R4 3.1.0.11).

Nothing is decided about a batch but whether its entries may come in one; each is then decided, forwarded and filtered
by the passage that single requests take, and has an audit record of its own under the interaction id of the Bundle.
"""

import asyncio
from dataclasses import replace
from functools import partial

from authz.clock import Clock
from authz.protocol.request import Answer, HttpRequest
from authz.protocol.tokens import Caller
from gateway.audit.log import AuditLog
from gateway.fhir.bundle import Entry, read_requests
from gateway.fhir.formats import BOTH
from gateway.fhir.interaction import Interaction
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.engine import Engine
from gateway.proxy import headers
from gateway.proxy.answers.delivery import fhir_answer
from gateway.proxy.answers.representation import Representation, environment_of
from gateway.proxy.bundles.entries import (
    OnePassage,
    Sent,
    answering,
    check_opened,
    entry_of,
    located,
    part_of,
)
from gateway.proxy.bundles.held import Held
from gateway.proxy.bundles.transaction import Transactions
from gateway.proxy.decisions import Decisions
from gateway.proxy.large_bodies import by_length
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamClient
from gateway.proxy.writes.changes import Writes
from gateway.settings import Upstream

_READS_AT_ONCE = 4
_READS = frozenset({"GET", "HEAD"})
_WRITES = frozenset({"PUT", "PATCH", "DELETE"})


class Bundles:
    """Bundles of requests to one store. decisions and passage are those of single requests."""

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
        self._audit = audit
        self._clock = clock
        self._passage = passage
        self.transactions = Transactions(
            upstream=upstream,
            client=client,
            audit=audit,
            clock=clock,
            writes=writes,
            show=show,
            decisions=decisions,
            passage=passage,
        )

    async def answer(self, http: HttpRequest, trail: Trail, caller: Caller, engine: Engine) -> Answer:
        """The answer to POST [base]. Raises FhirError, OAuthError (step-up), AuditUnavailable."""
        if not headers.is_json(http.headers.get("content-type", "")):
            raise FhirError(Reason.UNSUPPORTED_MEDIA_TYPE, f"the body must be {BOTH} in UTF-8")
        limits = self._upstream.bundle
        raw = await http.body.read(limits.size)
        read = partial(read_requests, raw, bases=self._upstream.bases, most=limits.entries)
        requests = await by_length(len(raw), read)
        if trail.asked is not None:
            trail.asked = replace(trail.asked, interaction=requests.kind)
        sent = Sent(http, trail, caller, engine, requests)
        if requests.kind is Interaction.TRANSACTION:
            return await self.transactions.answer(sent)
        return await self._batch(sent)

    async def _batch(self, sent: Sent) -> Answer:
        _check_writes_apart(sent.requests.entries)
        entries = sent.requests.entries
        held = Held(self._upstream.bundle.answer_size)
        answers: list[bytes] = [b""] * len(entries)
        trails: list[Trail] = []
        reading = asyncio.Semaphore(_READS_AT_ONCE)

        async def one(entry: Entry) -> None:
            async with reading:
                trail, answers[entry.index] = await self._entry(sent, entry, held)
                trails.append(trail)

        for group in _together(entries):
            async with asyncio.TaskGroup() as tasks:
                for entry in group:
                    tasks.create_task(one(entry))
        trails.sort(key=lambda trail: trail.entry or 0)
        await self._record(sent.trail, trails)
        return fhir_answer(answering(Interaction.BATCH, answers))

    async def _entry(self, sent: Sent, entry: Entry, held: Held) -> tuple[Trail, bytes]:
        """The trail of one entry, with the status of its answer, and the entry that answers it."""
        trail = sent.trail.of_entry(entry.index, sent.http)
        is_head = entry.method == "HEAD"
        try:
            read = partial(part_of, entry, sent.http, self._upstream)
            part = await by_length(sent.requests.length, read)
            trail.request, trail.asked = part.http, part.asked
            environment = environment_of(part.http, self._upstream, self._clock, trail.knowledge)
            await check_opened(sent, part, trail, environment)
            answer = await self._passage.pass_one(part.http, part.asked, sent.caller, sent.engine, trail)
            body = await held.whole(answer)
            if body is None:
                return trail.answered(answer.status), entry_of(answer, b"")
        except Exception as error:
            named = located(error, entry) if isinstance(error, FhirError) else error
            answer = self._passage.refused(trail, named)
            body = answer.body if isinstance(answer.body, bytes) else b""
        return trail.answered(answer.status), entry_of(answer, body, head=is_head)

    async def _record(self, trail: Trail, trails: list[Trail]) -> None:
        """A record for each entry, all of them durable; that of the Bundle is written by whoever answers it."""
        trail.decision = "permit" if any(each.decision == "permit" for each in trails) else "deny"
        for each in trails:
            trail.tally.shown += each.tally.shown
            trail.tally.dropped += each.tally.dropped
            trail.obligations = trail.obligations.and_those_of(each.obligations)
        await asyncio.gather(
            *(self._audit.record(each.record(self._upstream.name, each.status)) for each in trails)
        )


def _together(entries: tuple[Entry, ...]) -> list[list[Entry]]:
    """The entries in their order, reads that stand side by side together: they do not change what others see."""
    groups: list[list[Entry]] = []
    for entry in entries:
        reads = entry.method in _READS
        if reads and groups and groups[-1][-1].method in _READS:
            groups[-1].append(entry)
        else:
            groups.append([entry])
    return groups


def _check_writes_apart(entries: tuple[Entry, ...]) -> None:
    """Raise FhirError(INVALID_BODY) when two entries write one resource (FHIR R4 3.1.0.11.1: they are independent)."""
    seen: set[str] = set()
    for entry in entries:
        place = entry.path.strip("/")
        if entry.method not in _WRITES or entry.query:
            continue
        if place in seen:
            raise FhirError(
                Reason.INVALID_BODY, "another entry writes the same resource", expression=entry.expression
            )
        seen.add(place)

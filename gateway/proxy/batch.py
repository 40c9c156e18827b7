"""POST [base]: a Bundle of requests. Each entry of a batch passes as the same request alone would (FHIR R4 3.1.0.11).

Nothing is decided about a batch but whether its entries may come in one; each is then decided, forwarded and filtered
by the passage that single requests take, and has an audit record of its own under the interaction id of the Bundle.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

from authz.clock import Clock
from authz.protocol.request import Answer, HttpRequest
from authz.protocol.tokens import Caller
from gateway.audit import AuditLog
from gateway.fhir.bundle import Entry, Requests, read_requests
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Deny
from gateway.policy.engine import Engine
from gateway.proxy import headers
from gateway.proxy.delivery import fhir_answer
from gateway.proxy.entries import Part, answering, entry_of, located, part_of
from gateway.proxy.refusals import step_up_error
from gateway.proxy.representation import environment_of
from gateway.proxy.trail import Trail
from gateway.settings import Upstream

_READS_AT_ONCE = 4
_READS = frozenset({"GET", "HEAD"})
_WRITES = frozenset({"PUT", "PATCH", "DELETE"})

PassOne = Callable[[HttpRequest, FhirRequest, Caller, Engine, Trail], Awaitable[Answer]]
Refuse = Callable[[Trail, Exception], Answer]
"""The answer to a request that failed by this exception; the trail keeps why."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A Bundle that came, who sent it, and the policies that decide."""

    http: HttpRequest
    trail: Trail
    caller: Caller
    engine: Engine
    requests: Requests


class Bundles:
    """Bundles of requests to one store."""

    def __init__(
        self, *, upstream: Upstream, audit: AuditLog, clock: Clock, pass_one: PassOne, refuse: Refuse
    ) -> None:
        self._upstream = upstream
        self._audit = audit
        self._clock = clock
        self._pass_one = pass_one
        self._refuse = refuse

    async def answer(self, http: HttpRequest, trail: Trail, caller: Caller, engine: Engine) -> Answer:
        """The answer to POST [base]. Raises FhirError, OAuthError (step-up), AuditUnavailable."""
        if not headers.is_json(http.headers.get("content-type", "")):
            raise FhirError(Reason.UNSUPPORTED_MEDIA_TYPE, f"the body must be {headers.FHIR_JSON} in UTF-8")
        limits = self._upstream.bundle
        raw = await http.body.read(limits.size)
        requests = read_requests(raw, bases=self._upstream.bases, most=limits.entries)
        if trail.asked is not None:
            trail.asked = replace(trail.asked, interaction=requests.kind)
        sent = Sent(http, trail, caller, engine, requests)
        if requests.kind is Interaction.TRANSACTION:
            raise FhirError(Reason.INTERACTION_CLOSED, "transactions are closed here")
        return await self._batch(sent)

    async def _batch(self, sent: Sent) -> Answer:
        _check_writes_apart(sent.requests.entries)
        entries = sent.requests.entries
        budget = _Budget(self._upstream.bundle.answer_size)
        answers: list[bytes] = [b""] * len(entries)
        trails: list[Trail] = []
        reading = asyncio.Semaphore(_READS_AT_ONCE)

        async def one(entry: Entry) -> None:
            async with reading:
                trail, answers[entry.index] = await self._entry(sent, entry, budget)
                trails.append(trail)

        for group in _together(entries):
            async with asyncio.TaskGroup() as tasks:
                for entry in group:
                    tasks.create_task(one(entry))
        trails.sort(key=lambda trail: trail.entry or 0)
        await self._record(sent.trail, trails)
        return fhir_answer(answering(Interaction.BATCH, answers))

    async def _entry(self, sent: Sent, entry: Entry, budget: "_Budget") -> tuple[Trail, bytes]:
        """The trail of one entry, with the status of its answer, and the entry that answers it."""
        trail = sent.trail.of_entry(entry.index, sent.http)
        is_head = entry.method == "HEAD"
        try:
            part = part_of(entry, sent.http, self._upstream)
            trail.request, trail.asked = part.http, part.asked
            self._check_opened(sent, part)
            answer = await self._pass_one(part.http, part.asked, sent.caller, sent.engine, trail)
            body = await self._whole(answer, budget)
            if body is None:
                return trail.answered(answer.status), entry_of(answer, b"")
        except Exception as error:
            named = located(error, entry) if isinstance(error, FhirError) else error
            answer = self._refuse(trail, named)
            body = answer.body if isinstance(answer.body, bytes) else b""
        return trail.answered(answer.status), entry_of(answer, body, head=is_head)

    def _check_opened(self, sent: Sent, part: Part) -> None:
        """Raise FhirError, or OAuthError (step-up), unless the entry may come in a Bundle of this kind."""
        environment = environment_of(sent.http, self._upstream, self._clock, sent.trail.knowledge)
        kind, count = sent.requests.kind, len(sent.requests.entries)
        opened = sent.engine.enveloping(part.asked, kind, count, sent.caller, environment)
        if not isinstance(opened, Deny):
            return
        if opened.step_up is not None:
            raise step_up_error(opened.step_up, opened.explanation)
        raise FhirError(
            Reason.NOT_FOUND if opened.conceal else opened.reason, expression=part.entry.expression
        )

    async def _whole(self, answer: Answer, budget: "_Budget") -> bytes | None:
        """The body of an answer; None where it is let go, since the entry was carried out and its answer is too long.

        Raises FhirError(TOO_LARGE) where nothing was changed by the entry, and NOT_ACCEPTABLE for what is no JSON.
        """
        is_json = any(name == "Content-Type" and headers.is_json(value) for name, value in answer.headers)
        body = answer.body
        if isinstance(body, bytes):
            parts, fits = [body], budget.take(len(body))
        else:
            parts, fits = [], True
            try:
                async for piece in body:
                    fits = fits and budget.take(len(piece))
                    if not fits:
                        break
                    parts.append(piece)
            finally:
                await _close(body)
        if fits and (is_json or not parts or parts == [b""]):
            return b"".join(parts)
        if answer.status != 200:
            return None
        if not is_json:
            raise FhirError(Reason.NOT_ACCEPTABLE, "the answer is no FHIR JSON: ask for it by itself")
        raise FhirError(Reason.TOO_LARGE, "the answers of the Bundle are too long together: ask by itself")

    async def _record(self, trail: Trail, trails: list[Trail]) -> None:
        """A record for each entry, all of them durable; that of the Bundle is written by whoever answers it."""
        trail.decision = "permit" if any(each.decision == "permit" for each in trails) else "deny"
        for each in trails:
            trail.tally.shown += each.tally.shown
            trail.tally.dropped += each.tally.dropped
        await asyncio.gather(
            *(self._audit.record(each.record(self._upstream.name, each.status)) for each in trails)
        )


class _Budget:
    """Bytes that the answers of one Bundle may still take."""

    def __init__(self, left: int) -> None:
        self._left = left

    def take(self, count: int) -> bool:
        """Take so many, or none of them when there are not so many left."""
        if count > self._left:
            return False
        self._left -= count
        return True


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


async def _close(body: AsyncIterator[bytes]) -> None:
    close = getattr(body, "aclose", None)
    if close is not None:
        await close()

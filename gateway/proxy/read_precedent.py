"""Reads like one that was answered: what their head decides is known already, the rest is done as for any other.

Two reads whose heads differ in the id and in values of headers that may vary (gateway.wire.likenesses) bring the same
token from the same address, want the same format, mean the same interaction with the same type, and are told to the store
and to the log in the same words but for these values. What is looked at each time: times, revocation and key of the token,
the proof and its claim, limits, the decision by the policies in force, the resource by its judge; and the record is durable
before the answer.

Where anything is not as usual, the request goes on in the passage from where it stands, and its answer is made there.
"""

import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from authz.clock import Clock
from authz.protocol.request import Answer, HttpRequest
from authz.protocol.tokens import Caller
from authz.resource_server import Authenticated, Presented, ResourceServer
from gateway.admission import Admission, Held
from gateway.audit.log import AuditLog, AuditUnavailable
from gateway.fhir import links
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Environment, Permit
from gateway.policy.engine import Engine
from gateway.policy.known import Known
from gateway.proxy import headers
from gateway.proxy.answers.coded_answers import accepts_gzip, coded, varied
from gateway.proxy.answers.delivery import Delivery
from gateway.proxy.answers.tally import About
from gateway.proxy.engine_holder import EngineHolder
from gateway.proxy.forwarding import Forwarding
from gateway.proxy.lookups.knowledge import Knowledge, Lookups
from gateway.proxy.record_forms import RecordForm
from gateway.proxy.recording import Recording
from gateway.proxy.request_forms import RequestForm
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamAnswer, UpstreamClient
from gateway.settings import Upstream

_FORMS = 16  # of rules that hold together; by far most callers have one


class Way(Protocol):
    """The passage, for a request that leaves the usual way."""

    async def handle(self, http: HttpRequest) -> Answer:
        """The answer to a request of which nothing is known yet."""
        ...

    async def pass_known(self, http: HttpRequest, asked: FhirRequest, caller: Caller, trail: Trail) -> Answer:
        """The answer to a request whose caller is known, by the policies that are in force now."""
        ...

    async def carried(self, trail: Trail, work: Awaitable[Answer], caller: Caller | None) -> Answer:
        """What work answers with, or the refusal it ends in, on record; what the trail holds goes with it."""
        ...


@dataclass(frozen=True, slots=True)
class Around:
    """What stands around the reads of one mount. way is the passage itself."""

    way: Way
    upstream: Upstream
    resource_server: ResourceServer
    engines: EngineHolder
    lookups: Lookups
    admission: Admission | None
    audit: AuditLog
    clock: Clock
    forwarding: Forwarding
    delivery: Delivery
    recording: Recording


@dataclass(slots=True)
class _Read:
    """How far one read has come. started is a reading of time.perf_counter()."""

    request: HttpRequest
    id: str
    interaction_id: str
    started: float
    found: Authenticated | None = None
    held: Held | None = None
    is_admitted: bool = False
    decided_at: int | None = None  # seconds since 1970; None where it was not looked at
    rules: tuple[str, ...] | None = None  # that permitted it


class _Shown(NamedTuple):
    """A resource that is shown as it is: its bytes, headers of the store's answer, the rules, and how it is recorded."""

    raw: bytes
    passed: tuple[tuple[str, str], ...]
    rules: tuple[str, ...]
    record: bytes


class _Whole(NamedTuple):
    """The body of an answer with a resource that has to be looked at in the passage's own way, and headers of it."""

    raw: bytes
    passed: tuple[tuple[str, str], ...]


class ReadPrecedent:
    """Answers the reads that are like one which was answered."""

    def __init__(
        self,
        at: Around,
        client: UpstreamClient,
        engine: Engine,
        presented: Presented,
        trail: Trail,
        type_: str,
    ) -> None:
        self._at = at
        self._client = client
        self._engine = engine
        self._presented = presented
        self._caller = presented.caller
        self._type = type_
        self._path = f"{at.upstream.at}/{type_}/"
        self._claims: Mapping[str, Sequence[str]] = engine.claims_of(presented.caller)
        self._wish = trail.wish
        self._known = Known()
        self._like = trail.request
        at_now = Environment(at.clock(), trail.request.peer, at.upstream.identifier)
        self._reads = engine.reads_of(type_, presented.caller, at_now)
        self._forms: dict[tuple[str, ...], RecordForm | None] = {}
        varying = frozenset() if trail.request.likeness is None else trail.request.likeness.varying
        self._sent = RequestForm.of(client, at.upstream, type_, trail.request, varying)
        self._traces_vary = "traceparent" in varying
        self._is_coded = at.upstream.compress and accepts_gzip(
            trail.request.headers.get("accept-encoding", "")
        )
        self._given = headers.PRIVATE
        if at.upstream.compress and not self._is_coded:
            self._given = varied(headers.PRIVATE)

    async def answer(self, request: HttpRequest) -> Answer:
        """The answer to a read whose head is like that of the first."""
        at, path = self._at, request.path
        if (
            at.engines.engine is not self._engine
            or not at.resource_server.is_as_presented(self._presented)
            or not path.startswith(self._path)
        ):
            self.end()
            return await at.way.handle(request)
        id_ = path[len(self._path) :]
        read = _Read(request, id_, headers.interaction_id(request), time.perf_counter())
        found: _Shown | _Whole | UpstreamAnswer | Exception | None
        try:
            try:
                found = await self._find(read)
            except Exception as error:
                found = error
            if isinstance(found, _Shown):
                return await self._told(read, found)
            return await self._on(read, found)
        finally:
            if read.held is not None:
                read.held.release()

    def end(self) -> None:
        """Be followed no more."""
        likeness = self._like.likeness
        if likeness is not None and likeness.precedent is self:
            likeness.precedent = None

    async def _find(self, read: _Read) -> _Shown | _Whole | UpstreamAnswer | None:
        """What is shown; else what the store answered, where it was asked. Raises what refuses the request."""
        at, known = self._at, self._known
        read.found = await at.resource_server.admit(read.request, self._presented)
        if at.admission is not None and at.admission.limits_callers:
            read.held = await at.admission.of_caller(self._caller, at.upstream.name)
        if at.engines.engine is not self._engine:
            return None  # they changed meanwhile
        read.is_admitted = True
        id_, reads = read.id, self._reads
        if reads is not None and reads.opens(id_):
            judge, rules = reads.judge, reads.rules
        else:
            permit = self._decide(read, known)
            if permit is None or permit.judge is None or not _is_usual(permit) or not known.is_untouched:
                self._known = Known()
                return None
            judge, rules = permit.judge, permit.rules
        read.rules = rules
        request = self._sent.filled(id_, read.interaction_id, read.request.headers)
        answer = await self._client.send_written(request)
        said = answer.headers
        is_fhir = answer.status == 200 and headers.is_json(said.get("content-type", ""))
        if not is_fhir or "content-encoding" in said:
            return answer
        try:
            raw = await answer.read(at.upstream.max_resource)
        finally:
            answer.close()
        passed = headers.returned(said, at.upstream, self._type, id_)
        value = at.delivery.large.plain(raw, judge)
        if value is not None and value.get("id") == id_:
            verdict = judge(value)
            if verdict.shown and verdict.seen is None and not links.may_mention(raw, at.upstream.base):
                about = About()
                about.note(value, at.delivery.bases)
                rules = verdict.rules or rules
                form = self._form(rules)
                if form is not None and about.is_plain and known.is_untouched:
                    patients, trace = list(about.patients), read.request.headers.get("traceparent", "")
                    record = form.filled(read.interaction_id, id_.encode("ascii"), patients, trace)
                    return _Shown(raw, passed, rules, record)
        return _Whole(raw, passed)

    async def _told(self, read: _Read, shown: _Shown) -> Answer:
        """What is shown, once it is on record."""
        at = self._at
        try:
            await at.audit.record_written(shown.record)
        except AuditUnavailable:
            read.rules = shown.rules
            trail = self._trail(read)
            answer = at.recording.counted(trail, at.recording.unrecorded(trail))
            return await coded(read.request, answer) if at.upstream.compress else answer
        at.recording.count("read", 200, shown.rules, "permit", read.started)
        fresh = () if read.found is None else read.found.headers
        more = *shown.passed, *fresh, ("x-fapi-interaction-id", read.interaction_id)
        answer = Answer(200, (headers.JSON_BODY, *self._given, *more), shown.raw)
        return await coded(read.request, answer) if self._is_coded else answer

    async def _judged(self, trail: Trail, read: _Read, whole: _Whole) -> Answer:
        """The store's answer in the passage's own way."""
        return await self._at.delivery.judged(trail, self._permit(read, trail), whole.raw, whole.passed)

    async def _received(self, trail: Trail, read: _Read, answer: UpstreamAnswer) -> Answer:
        try:
            permit = self._permit(read, trail)
        except BaseException:
            answer.close()
            raise
        return await self._at.forwarding.received(read.request, trail, permit, self._caller, None, answer)

    def _permit(self, read: _Read, trail: Trail) -> Permit:
        """The permit by which the store was asked. Raises FhirError(INTERNAL): it is the same as it was then."""
        permit = self._decide(read, trail.knowledge)
        if permit is None:
            raise FhirError(Reason.INTERNAL)
        return permit

    def _decide(self, read: _Read, known: Known) -> Permit | None:
        """What permits it at the second at which this was asked first."""
        at = self._at
        if read.decided_at is None:
            read.decided_at = at.clock()
        environment = Environment(read.decided_at, read.request.peer, at.upstream.identifier, known)
        decision = self._engine.decide(self._asked(read), self._caller, environment)
        return decision if isinstance(decision, Permit) else None

    async def _on(self, read: _Read, found: _Whole | UpstreamAnswer | Exception | None) -> Answer:
        """Leave the usual way: before the store was asked, with what it answered, or with what refuses the request."""
        trail = self._trail(read)
        match found:
            case None:
                work = self._at.way.pass_known(read.request, self._asked(read), self._caller, trail)
            case _Whole():
                work = self._judged(trail, read, found)
            case UpstreamAnswer():
                work = self._received(trail, read, found)
            case _:
                work = _refusal(found)
        return await self._at.way.carried(trail, work, trail.caller)

    def _trail(self, read: _Read) -> Trail:
        """The trail that the passage would have left by now; what is held goes over to it."""
        asked, found, engine = self._asked(read), read.found, self._engine
        trail = Trail(read.request, read.interaction_id, read.started, self._at.upstream.identifier, asked)
        trail.wish = self._wish
        if found is not None:
            trail.caller, trail.answer_headers = found.caller, found.headers
        trail.held, read.held = read.held, None
        if read.is_admitted:
            trail.policy_hash, trail.known = engine.policy_hash, self._claims
            trail.knowledge = Knowledge(self._at.lookups, self._caller, engine.policy_hash)
        if read.rules is not None:
            trail.decision, trail.rules = "permit", read.rules
            trail.upstream.append(f"GET {asked.type}/{asked.id}")
        return trail

    def _asked(self, read: _Read) -> FhirRequest:
        return FhirRequest("GET", Interaction.READ, self._type, read.id)

    def _form(self, rules: tuple[str, ...]) -> RecordForm | None:
        """The form of the record of a read that these rules show; None where there is none."""
        if rules in self._forms:
            return self._forms[rules]
        if len(self._forms) >= _FORMS:
            self._forms.clear()
        read = _Read(self._like, "1", "", 0.0, Authenticated(self._caller, ()), is_admitted=True)
        trail = self._trail(read)
        trail.decision, trail.rules = "permit", rules
        form = RecordForm.of(trail, self._at.upstream.name, traces_vary=self._traces_vary)
        self._forms[rules] = form
        return form


async def _refusal(error: Exception) -> Answer:
    raise error


def _is_usual(permit: Permit) -> bool:
    """Whether nothing is owed and nothing else is to be read for it."""
    return permit.by_search is None and permit.by_list is None and permit.obligations.is_empty

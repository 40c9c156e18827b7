"""The passage of one proxied FHIR request, as a straight line:

parse → authenticate → decide → forward → filter → record.

Nothing of the store's answer goes out before the audit record is durable; whatever fails on the way is a refusal
with a stable reason. The passage knows no wire: it takes an HttpRequest and gives an Answer.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from authz.clock import Clock
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.request import Answer, HttpRequest
from authz.protocol.tokens import Caller
from authz.resource_server import ResourceServer
from authz.storage.store import Store
from gateway.admission import Admission
from gateway.audit.log import AuditLog
from gateway.fhir import request
from gateway.fhir.formats import Format
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.operation_parameters import takes_parameters
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.own_references import with_own_references
from gateway.policy.decision import Nothing, Permit
from gateway.policy.engine import Engine
from gateway.proxy import headers
from gateway.proxy.acting import ACTING
from gateway.proxy.answers import formats
from gateway.proxy.answers.coded_answers import coded
from gateway.proxy.answers.delivery import Delivery
from gateway.proxy.answers.representation import Representation, environment_of
from gateway.proxy.answers.sealed_links import Page, SealedLinks
from gateway.proxy.bundles.batch import Bundles
from gateway.proxy.bundles.entries import asked_with, is_page
from gateway.proxy.bundles.provenance import Provenances, brings_provenance
from gateway.proxy.capabilities import Capabilities
from gateway.proxy.coded_bodies import decoded_request
from gateway.proxy.consent_decisions import ConsentDecisions
from gateway.proxy.decisions import Decisions
from gateway.proxy.documents import submissions
from gateway.proxy.documents.attached_writes import AttachedWrites
from gateway.proxy.documents.attachments import Asking, Attachments
from gateway.proxy.documents.binaries import Binaries
from gateway.proxy.engine_holder import EngineHolder
from gateway.proxy.exports import ExportPassage
from gateway.proxy.forwarding import Forwarding
from gateway.proxy.lookups.knowledge import Knowledge, Lookups
from gateway.proxy.obligations import Obliged, shortened
from gateway.proxy.operations import OperationPassage
from gateway.proxy.precedents import Precedents
from gateway.proxy.read_precedent import Around
from gateway.proxy.recording import Recording
from gateway.proxy.refusals import refused
from gateway.proxy.sealed_jobs import SealedJobs
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamClient
from gateway.proxy.writes.changes import WRITES, Writes
from gateway.proxy.writes.conditional_turns import ConditionalTurns
from gateway.proxy.writes.creates import Creates
from gateway.proxy.writes.write_verdicts import Write
from gateway.settings import Upstream
from gateway.telemetry import Metrics

_MAX_FORM_BYTES = 64 * 1024
_READS = frozenset({Interaction.READ, Interaction.VREAD})


class Passage:
    """The passage to one store."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        client: UpstreamClient,
        resource_server: ResourceServer,
        engines: EngineHolder,
        sealed_links: SealedLinks,
        jobs: SealedJobs,
        store: Store,
        audit: AuditLog,
        metrics: Metrics,
        clock: Clock,
        oauth_uris: Mapping[str, str],
        lookups: Lookups,
        admission: Admission | None = None,
        may_write: Callable[[], bool] = lambda: True,
        precedes: bool = True,
    ) -> None:
        """precedes is whether reads may be answered by what is known of those before them, past whoever asks us."""
        self._admission = admission
        self._lookups = lookups
        self._upstream = upstream
        self._client = client
        self._resource_server = resource_server
        self._engines = engines
        self._delivery = Delivery(
            upstream=upstream, sealed_links=sealed_links, audit=audit, metrics=metrics, clock=clock
        )
        show = Representation(upstream=upstream, clock=clock)
        obliged = Obliged(route=upstream.name, store=store, audit=audit, metrics=metrics, clock=clock)
        found = Attachments(upstream=upstream, client=client)
        self._binaries = Binaries(upstream=upstream, client=client, audit=audit, attachments=found)
        filed = submissions.submissions_of(upstream, client, found)
        attached = AttachedWrites(attachments=found, binaries=self._binaries, submissions=filed)
        self._creates = Creates(upstream=upstream, client=client, audit=audit, show=show, attached=attached)
        self._writes = Writes(
            upstream=upstream,
            client=client,
            audit=audit,
            show=show,
            attached=attached,
            meet=obliged.meet,
        )
        self._turns = ConditionalTurns(store, upstream, clock)
        self._decisions = Decisions(
            upstream=upstream, client=client, clock=clock, obliged=obliged, may_write=may_write
        )
        self._operations = OperationPassage(upstream=upstream, client=client, writes=self._writes)
        self._forwarding = Forwarding(
            upstream=upstream, client=client, delivery=self._delivery, operations=self._operations
        )
        self._consents = ConsentDecisions(upstream)
        self._exports = ExportPassage(
            upstream=upstream, client=client, jobs=jobs, store=store, audit=audit, clock=clock
        )
        self._recording = Recording(upstream=upstream, audit=audit, metrics=metrics)
        self._clock = clock
        self._bundles = Bundles(
            upstream=upstream,
            client=client,
            audit=audit,
            clock=clock,
            writes=self._writes,
            show=show,
            decisions=self._decisions,
            passage=self,
        )
        self._provenances = Provenances(upstream=upstream, transactions=self._bundles.transactions)
        self._precedents = None
        if precedes:
            around = Around(
                way=self,
                upstream=upstream,
                resource_server=resource_server,
                engines=engines,
                lookups=lookups,
                admission=admission,
                audit=audit,
                clock=clock,
                forwarding=self._forwarding,
                delivery=self._delivery,
                recording=self._recording,
            )
            self._precedents = Precedents(around, client)
        self._capabilities = Capabilities(
            upstream=upstream, client=client, clock=clock, oauth_uris=oauth_uris
        )

    async def handle(self, http: HttpRequest, caller: Caller | None = None) -> Answer:
        """The answer to a request under this mount; caller is somebody whom our own pages know already."""
        trail = Trail(http, headers.interaction_id(http), time.perf_counter(), self._upstream.identifier)
        answer = await self.carried(trail, self._pass(http, trail, caller), caller)
        if self._precedents is not None and caller is None:
            self._precedents.follow(trail, answer)
        return answer

    async def carried(self, trail: Trail, work: Awaitable[Answer], caller: Caller | None) -> Answer:
        """What work answers with, or the refusal it ends in, on record; whatever the trail holds goes with the answer.

        The store may hear that caller acts, as far as that is known by now.
        """
        before = ACTING.set(caller)
        try:
            answer = await self._answered(trail.request, trail, work)
        except BaseException:
            trail.release()
            raise
        finally:
            ACTING.reset(before)
        return answer if trail.held is None else trail.held.until_sent(answer)

    async def on_behalf(
        self,
        http: HttpRequest,
        work: Callable[[Callable[[HttpRequest], Awaitable[Answer]]], Awaitable[Answer]],
    ) -> Answer:
        """What work answers with, which asks this passage as the caller of http, who is authenticated by that once.

        Each request that work makes is decided and recorded by itself.
        """
        trail = Trail(http, headers.interaction_id(http), time.perf_counter())
        try:
            try:
                caller = await self._authenticate(http, trail)
            except Exception as error:
                return await self._recording.recorded(trail, self.refused(trail, error))
            answer = await work(partial(self.handle, caller=caller))
            return answer.with_headers(trail.answer_headers)
        finally:
            trail.release()

    async def _answered(self, http: HttpRequest, trail: Trail, work: Awaitable[Answer]) -> Answer:
        """What work answers with, or the refusal it ends in: on record, in the format that is wished, as it goes out."""
        try:
            answer = await work
            if trail.wish.format is not Format.JSON:
                answer = await formats.written(answer, trail)
        except Exception as error:
            answer = self.refused(trail, error)
        answer = await self._recording.recorded(trail, answer)
        if trail.wish.format is not Format.JSON:
            answer = await formats.written(answer, trail)
        return await coded(http, answer) if self._upstream.compress else answer

    def refused(self, trail: Trail, error: Exception) -> Answer:
        """The answer to a request that failed by this error; the trail keeps why."""
        return refused(trail, error, self._resource_server, at=self._upstream.at)

    async def _pass(self, http: HttpRequest, trail: Trail, known: Caller | None) -> Answer:
        # A file is NDJSON and a Binary what it holds, whatever is accepted.
        path = self._upstream.fhir_path(http.path)
        is_native = path.startswith(("/_file/", "/Binary/"))
        trail.wish = formats.preferred(http) if is_native else formats.negotiated(http)
        http = decoded_request(http, self._upstream.max_body)
        http = formats.as_json(http, self._upstream.max_resource, path)
        asked = with_own_references(asked_with(http, path), self._upstream.bases)
        trail.asked = asked
        if asked.interaction is Interaction.CAPABILITIES:
            return await self._capabilities.answer(http, trail, self._engines.engine)
        trail.caller = caller = known or await self._authenticate(http, trail)
        ACTING.set(caller)
        return await self.pass_known(http, asked, caller, trail)

    async def pass_known(self, http: HttpRequest, asked: FhirRequest, caller: Caller, trail: Trail) -> Answer:
        """The answer to a request whose caller is known, by the policies that are in force now. Raises as _pass()."""
        engine = self._engines.engine
        if engine is None:
            raise FhirError(Reason.POLICY_UNAVAILABLE, headers=(("Retry-After", "5"),))
        trail.policy_hash, trail.known = engine.policy_hash, engine.claims_of(caller)
        trail.knowledge = Knowledge(self._lookups, caller, engine.policy_hash)
        if brings_provenance(http, asked):
            return await self._provenances.answer(http, asked, trail, caller, engine)
        if asked.interaction is Interaction.BATCH:
            return await self._bundles.answer(http, trail, caller, engine)
        return await self.pass_one(http, asked, caller, engine, trail)

    async def pass_one(
        self, http: HttpRequest, asked: FhirRequest, caller: Caller, engine: Engine, trail: Trail
    ) -> Answer:
        """One request of a caller who is known: decided, forwarded and filtered. asked is http as it was parsed.

        Nothing is recorded here but what must be on record before it happens. Raises FhirError, OAuthError (step-up)
        and what the store and the audit log raise.
        """
        try:
            return await self._pass_one(http, asked, caller, engine, trail)
        finally:
            if trail.turn is not None:
                await trail.turn.end()

    async def _pass_one(
        self, http: HttpRequest, asked: FhirRequest, caller: Caller, engine: Engine, trail: Trail
    ) -> Answer:
        if asked.posted:
            trail.form = form = await http.body.read(_MAX_FORM_BYTES)
            asked = request.with_form(asked, http.headers.get("content-type"), form)
            trail.asked = asked = with_own_references(asked, self._upstream.bases)
            trail.wish = formats.of_form(trail.wish, form)
        if takes_parameters(asked):
            trail.asked = asked = await self._operations.with_parameters(http, asked)
        elif asked.interaction is Interaction.OPERATION and asked.operation == "validate":
            http, asked = await self._operations.validated(http, asked)
            trail.asked = asked
        if asked.sealed is not None:
            environment = environment_of(http, self._upstream, self._clock, trail.knowledge)
            return await self._exports.follow(http, trail, caller, engine, environment)
        target = None
        if is_page(http):
            target = self._delivery.open_page(http, asked, caller, engine)
            trail.asked = asked = target.asked
        permitted = await self._decisions.permitted(http, asked, caller, engine, trail, turns=self._turns)
        asked, found = permitted.asked, permitted.found
        match permitted.decision:
            case Nothing():
                trail.decision = "permit"
                return self._delivery.nothing(http)
            case Permit() if asked.interaction is Interaction.CREATE and found is not None:
                answer = await self._creates.is_there(http, trail, asked, found, caller, engine)
                return shortened(trail, answer)
            case Permit() as permit if asked.interaction is Interaction.CREATE:
                create = (http, trail, permit, caller, engine, permitted.environment)
                return shortened(trail, await self._creates.answer(*create))
            case Permit() as permit if asked.interaction in WRITES:
                write = Write(http, trail, permit, caller, engine, permitted.environment, found)
                return shortened(trail, await self._writes.answer(write))
            case Permit() as permit if asked.interaction is Interaction.OPERATION:
                write = Write(http, trail, permit, caller, engine, permitted.environment)
                return await self._operation(write, target)
            case Permit() as permit if asked.type == "Binary" and asked.interaction in _READS:
                asking = Asking(http, trail, caller, engine, permitted.environment)
                return await self._binaries.answer(asking, permit)
            case Permit() as permit:
                trail.decision = "permit"
                return await self._forwarding.forward(http, trail, permit, caller, target)

    async def _authenticate(self, http: HttpRequest, trail: Trail) -> Caller:
        if self._upstream.mtls_only and http.certificate is None:
            raise OAuthError(ErrorCode.INVALID_TOKEN, "this resource is reached by mutual TLS only")
        presented, found = await self._resource_server.present(http, audience=self._upstream.bases)
        trail.caller, trail.presented = found.caller, presented
        trail.answer_headers = found.headers
        if self._admission is not None:
            trail.held = await self._admission.of_caller(found.caller, self._upstream.name)
        return found.caller

    async def _operation(self, write: Write, page: Page | None) -> Answer:
        http, trail, permit, caller = write.http, write.trail, write.permit, write.caller
        if permit.request.operation == "validate":
            return await self._operations.validate(write)
        if permit.request.id is not None:
            await self._operations.look_at_instance(http, trail, permit)
        if permit.request.operation == "consent-decision":
            return await self._consents.answer(write)
        if permit.request.operation == "export":
            return await self._exports.begin(http, trail, permit, caller)
        trail.decision = "permit"
        return await self._forwarding.forward(http, trail, permit, caller, page)

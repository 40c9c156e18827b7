"""The passage of one proxied FHIR request, as a straight line:

parse → authenticate → decide → forward → filter → record.

Nothing of the store's answer goes out before the audit record is durable; whatever fails on the way is a refusal
with a stable reason. The passage knows no wire: it takes an HttpRequest and gives an Answer.
"""

import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from authz.clock import Clock
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.request import Answer, HttpRequest, RequestError
from authz.protocol.tokens import Caller
from authz.resource_server import ResourceServer
from authz.storage.store import Store, StoreUnavailable
from gateway.audit import AuditLog, AuditUnavailable
from gateway.fhir import links, request, resource
from gateway.fhir.capability import capability_statement
from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.fhir.outcome import FhirError, Reason, operation_outcome
from gateway.policy.decision import Deny, Environment, Nothing, Permit
from gateway.policy.engine import Engine
from gateway.proxy import conditional_writes, creation, headers
from gateway.proxy.coded_bodies import decoded_request
from gateway.proxy.conditional_writes import Found
from gateway.proxy.delivery import PAGE_PREFIX, Delivery, check_status, fhir_answer, judge, settle, stored
from gateway.proxy.exports import ExportPassage
from gateway.proxy.knowledge import Knowledge, Lookups
from gateway.proxy.operations import OperationPassage
from gateway.proxy.refusals import challenge, refusal, step_up_error
from gateway.proxy.sealed_jobs import SealedJobs
from gateway.proxy.sealed_links import SealedLinks
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamClient
from gateway.proxy.writes import WRITES, Write, Writes
from gateway.settings import Upstream
from gateway.telemetry import Metrics

_MAX_FORM_BYTES = 64 * 1024
_CAPABILITIES_SECONDS = 60
_log = logging.getLogger("securus.gateway")


@dataclass(slots=True)
class EngineHolder:
    """The policies in force. A reload swaps the engine in one assignment; a request keeps the one it began with."""

    engine: Engine | None


class Passage:
    """The passage to one store."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        client: UpstreamClient,
        resource_server: ResourceServer,
        engines: EngineHolder,
        links_: SealedLinks,
        jobs: SealedJobs,
        store: Store,
        audit: AuditLog,
        metrics: Metrics,
        clock: Clock,
        oauth_uris: Mapping[str, str],
        lookups: Lookups,
    ) -> None:
        self._lookups = lookups
        self._upstream = upstream
        self._client = client
        self._resource_server = resource_server
        self._engines = engines
        self._delivery = Delivery(upstream=upstream, links_=links_, audit=audit, metrics=metrics, clock=clock)
        self._writes = Writes(upstream=upstream, client=client, audit=audit, show=self._representation)
        self._operations = OperationPassage(upstream=upstream, client=client)
        self._exports = ExportPassage(
            upstream=upstream, client=client, jobs=jobs, store=store, audit=audit, clock=clock
        )
        self._audit = audit
        self._metrics = metrics
        self._clock = clock
        self._oauth_uris = oauth_uris
        self._bases = (*upstream.bases, upstream.base)
        self._capabilities: tuple[int, bytes] = (0, b"")

    async def handle(self, http: HttpRequest) -> Answer:
        """The answer to a request under this mount."""
        trail = Trail(http, headers.interaction_id(http), time.perf_counter())
        try:
            answer = await self._pass(http, trail)
        except FhirError as error:
            answer = refusal(trail, error)
        except OAuthError as error:
            answer = challenge(trail, error, self._resource_server, at=self._upstream.at)
        except RequestError as error:
            reason = Reason.TOO_LARGE if error.status == 413 else Reason.INVALID_BODY
            answer = refusal(trail, FhirError(reason, error.description, status=error.status))
        except StoreUnavailable as error:
            _log.error("the store does not answer", extra={"cause": str(error)})
            answer = refusal(trail, FhirError(Reason.STORE_UNAVAILABLE, headers=(("Retry-After", "2"),)))
        except AuditUnavailable:
            answer = refusal(trail, FhirError(Reason.AUDIT_UNAVAILABLE, headers=(("Retry-After", "5"),)))
        except Exception:
            _log.exception("a passage failed", extra={"interaction_id": trail.interaction_id})
            answer = refusal(trail, FhirError(Reason.INTERNAL))
        return await self._recorded(trail, answer)

    async def _pass(self, http: HttpRequest, trail: Trail) -> Answer:
        if not http.path.startswith(f"{self._upstream.at}/_file/"):  # a file is NDJSON, whatever is accepted
            headers.check_accept(http)
        http = decoded_request(http, self._upstream.max_body)
        page = http.query.startswith(PAGE_PREFIX) and "&" not in http.query
        asked = request.parse(http.method, http.path[len(self._upstream.at) :], "" if page else http.query)
        trail.asked = asked
        if asked.interaction is Interaction.CAPABILITIES:
            return await self._capability(http, trail)
        caller = await self._authenticate(http, trail)
        engine = self._engines.engine
        if engine is None:
            raise FhirError(Reason.POLICY_UNAVAILABLE, headers=(("Retry-After", "5"),))
        trail.policy_hash = engine.policy_hash
        trail.known = Knowledge(self._lookups, caller, engine.policy_hash)
        if asked.posted:
            form = await http.body.read(_MAX_FORM_BYTES)
            trail.asked = asked = request.with_form(asked, http.headers.get("content-type"), form)
        if asked.sealed is not None:
            return await self._exports.follow(http, trail, caller, engine, self._environment(http, trail))
        target = None
        if page:
            asked, target = self._delivery.open_page(http, asked, caller, engine)
            trail.asked = asked
        self._check_profile(asked)
        criteria = conditional_writes.criteria(asked, http)
        environment = self._environment(http, trail)
        decision = await trail.known.decided(
            partial(engine.decide, asked, caller, environment, criteria=criteria)
        )
        found = None
        if criteria and isinstance(decision, Permit):
            found = await self._find(http, trail, asked, criteria, caller, engine)
            if asked.interaction is not Interaction.CREATE:
                asked = conditional_writes.narrowed(asked, found, http)
                decide = partial(engine.decide, asked, caller, environment, criteria=criteria)
                decision = await trail.known.decided(decide)
        trail.rules = decision.rules
        match decision:
            case Deny():
                trail.explanation = decision.explanation
                if decision.step_up is not None:
                    raise step_up_error(decision.step_up, decision.explanation)
                raise FhirError(Reason.NOT_FOUND if decision.conceal else decision.reason)
            case Nothing():
                trail.decision = "permit"
                trail.explanation = decision.explanation
                return self._delivery.nothing(http)
            case Permit() if asked.interaction is Interaction.CREATE and found is not None:
                return await self._is_there(http, trail, asked, found, caller, engine)
            case Permit() if asked.interaction is Interaction.CREATE:
                return await self._create(http, trail, decision, caller, engine)
            case Permit() if asked.interaction in WRITES:
                write = Write(http, trail, decision, caller, engine, environment, found)
                return await self._writes.answer(write)
            case Permit() if asked.interaction is Interaction.OPERATION:
                return await self._operation(http, trail, decision, caller, target)
            case Permit():
                trail.decision = "permit"
                return await self._forward(http, trail, decision, caller, target)

    def _check_profile(self, asked: FhirRequest) -> None:
        """Raise FhirError(UNSUPPORTED_PARAMETER) for what the profile of the store never lets through."""
        for term in asked.terms:
            if term.code in self._upstream.profile.never_parameters:
                raise FhirError(Reason.UNSUPPORTED_PARAMETER, "the parameter is closed for this store")

    def _environment(self, http: HttpRequest, trail: Trail) -> Environment:
        return Environment(self._clock(), http.peer, self._upstream.identifier, trail.known)

    async def _authenticate(self, http: HttpRequest, trail: Trail) -> Caller:
        if self._upstream.mtls_only and http.certificate is None:
            raise OAuthError(ErrorCode.INVALID_TOKEN, "this resource is reached by mutual TLS only")
        found = await self._resource_server.authenticate(http, audience=self._upstream.bases)
        trail.caller = found.caller
        trail.answer_headers = found.headers
        return found.caller

    async def _forward(
        self, http: HttpRequest, trail: Trail, permit: Permit, caller: Caller, page: str | None
    ) -> Answer:
        if page is None:
            permit = replace(permit, request=request.fit_for_the_store(permit.request))
        asked = permit.request
        sent = headers.to_upstream(http, self._upstream, trail.interaction_id)
        method, body, target = "GET", None, page or request.upstream_target(asked)
        if asked.posted and page is None:
            method, body = "POST", request.upstream_form(asked)
            sent["content-type"] = "application/x-www-form-urlencoded"
        trail.upstream.append(f"{method} {target}")
        answer = await self._client.send(method, target, sent, body)
        try:
            check_status(answer)
            if not headers.is_json(answer.headers.get("content-type", "")):
                raise FhirError(Reason.UPSTREAM_INVALID, "the answer is not FHIR JSON")
            if (
                "content-encoding" in answer.headers
                and answer.headers["content-encoding"].lower() != "identity"
            ):
                raise FhirError(Reason.UPSTREAM_INVALID, "the answer is compressed, which was not asked for")
            if asked.interaction in (Interaction.READ, Interaction.VREAD):
                return await self._delivery.one(trail, permit, answer)
            if page is not None:
                # The store's own page link: the criteria stand in it as the store keeps them, the judge checks.
                permit = replace(permit, added=(), exact=permit.exact and not permit.added)
            return await self._delivery.many(http, trail, permit, caller, answer)
        except BaseException:
            answer.close()
            raise

    async def _operation(
        self, http: HttpRequest, trail: Trail, permit: Permit, caller: Caller, page: str | None
    ) -> Answer:
        if permit.request.operation == "validate":
            return await self._operations.validate(http, trail, permit)
        if permit.request.operation == "export":
            if permit.request.id is not None:
                await self._operations.look_at_instance(http, trail, permit)
            return await self._exports.begin(http, trail, permit, caller)
        if permit.request.id is not None:
            await self._operations.look_at_instance(http, trail, permit)
        trail.decision = "permit"
        return await self._forward(http, trail, permit, caller, page)

    async def _create(
        self, http: HttpRequest, trail: Trail, permit: Permit, caller: Caller, engine: Engine
    ) -> Answer:
        """A new resource: judged, and on record, before the store hears of it."""
        kind = creation.body_kind(http, permit)
        body: bytes | AsyncIterator[bytes]
        if kind is creation.BodyKind.RESOURCE:
            raw = await http.body.read(self._upstream.max_resource)
            value, body = creation.new_version(
                raw, permit.request.type, self._bases, may_name_id=http.method == "POST"
            )
            await settle(trail, permit, value)
            judge(trail, permit, value)
        else:
            body = creation.bounded(http.body.stream(), self._upstream.max_body)
        trail.decision = "permit"
        sent = headers.to_upstream(http, self._upstream, trail.interaction_id)
        sent |= creation.upstream_headers(http, kind)
        target = request.upstream_target(permit.request)
        trail.upstream.append(f"POST {target}")
        # A write happens once the store has it, whatever becomes of the answer: it is on record before.
        await self._audit.record(trail.begun(self._upstream.name))
        answer = await self._client.send("POST", target, sent, body)
        try:
            if answer.status not in (200, 201):
                check_status(answer)
                raise FhirError(Reason.UPSTREAM_INVALID)
            made = creation.made(answer.headers, self._upstream, permit.request.type)
            shown = b""
            if made.id is not None and headers.is_json(answer.headers.get("content-type", "")):
                shown = await self._representation(
                    await answer.read(self._upstream.max_resource),
                    made.id,
                    permit.request,
                    caller,
                    engine,
                    http,
                    trail,
                )
        finally:
            answer.close()
        content = (headers.JSON_BODY,) if shown else ()
        passed = (*made.headers, *headers.returned(answer.headers, self._upstream))
        return Answer(201, (*content, *headers.PRIVATE, *passed), shown)

    async def _find(
        self,
        http: HttpRequest,
        trail: Trail,
        asked: FhirRequest,
        criteria: tuple[SearchTerm, ...],
        caller: Caller,
        engine: Engine,
    ) -> Found | None:
        asking = (http, trail, asked, criteria, caller, engine, self._environment(http, trail))
        return await conditional_writes.find(*asking, upstream=self._upstream, client=self._client)

    async def _is_there(
        self,
        http: HttpRequest,
        trail: Trail,
        asked: FhirRequest,
        found: Found,
        caller: Caller,
        engine: Engine,
    ) -> Answer:
        """A conditional create that found its resource: nothing is made (FHIR R4 3.1.0.8.1)."""
        trail.decision = "permit"
        shown = await self._representation(found.raw, found.id, asked, caller, engine, http, trail)
        place = ("Location", f"{self._upstream.identifier}/{asked.type}/{found.id}")
        return Answer(200, (*((headers.JSON_BODY,) if shown else ()), *headers.PRIVATE, place), shown)

    async def _representation(
        self,
        raw: bytes,
        id_: str,
        created: FhirRequest,
        caller: Caller,
        engine: Engine,
        http: HttpRequest,
        trail: Trail,
    ) -> bytes:
        """What was stored, when the caller may read it; nothing otherwise. Never a refusal: it is stored."""
        asked = replace(created, method="GET", interaction=Interaction.READ, id=id_, terms=())
        decide = partial(engine.decide, asked, caller, self._environment(http, trail))
        try:
            decision = await trail.known.decided(decide)
            if not isinstance(decision, Permit) or decision.judge is None:
                return b""
            value = stored(raw)
            await settle(trail, decision, value)
        except FhirError:
            return b""
        verdict = decision.judge(value)
        if not verdict.shown:
            return b""
        value = value if verdict.seen is None else dict(verdict.seen)
        links.rewrite_urls(value, upstream=self._upstream.base, public=self._upstream.identifier)
        return resource.write_resource(value)

    async def _capability(self, http: HttpRequest, trail: Trail) -> Answer:
        """The store's CapabilityStatement, narrowed to what passes here and with our security section."""
        now = self._clock()
        trail.decision = "permit"
        if self._capabilities[0] <= now:
            sent = headers.to_upstream(http, self._upstream, trail.interaction_id)
            trail.upstream.append("GET metadata")
            answer = await self._client.send("GET", "metadata", sent)
            try:
                check_status(answer)
                value = stored(await answer.read(self._upstream.max_resource))
            finally:
                answer.close()
            statement = capability_statement(
                value, public_base=self._upstream.identifier, oauth_uris=self._oauth_uris
            )
            self._capabilities = (now + _CAPABILITIES_SECONDS, resource.write_resource(statement))
        return fhir_answer(self._capabilities[1], ())

    async def _recorded(self, trail: Trail, answer: Answer) -> Answer:
        """The answer, once its record is durable; without a record there is no answer (fail closed)."""
        asked = trail.asked
        interaction = str(asked.interaction) if asked is not None else "none"
        try:
            await self._audit.record(trail.record(self._upstream.name, answer.status))
        except AuditUnavailable:
            trail.reason = str(Reason.AUDIT_UNAVAILABLE)
            error = FhirError(Reason.AUDIT_UNAVAILABLE, headers=(("Retry-After", "5"),))
            await _discard(answer)
            answer = Answer(
                error.status,
                (headers.JSON_BODY, *headers.PRIVATE, *error.headers),
                operation_outcome(error.reason),
            )
        except BaseException:
            await _discard(answer)  # the caller went away while the record was written
            raise
        metrics = self._metrics
        metrics.requests.labels(self._upstream.name, interaction, f"{answer.status // 100}xx").inc()
        metrics.request_seconds.labels(self._upstream.name).observe(time.perf_counter() - trail.started)
        if trail.reason is not None:
            metrics.refusals.labels(trail.reason).inc()
        effect = trail.decision
        for rule in trail.rules:
            policy, _, name = rule.rpartition("/")
            metrics.decisions.labels(policy, name, effect).inc()
        return answer.with_headers((*trail.answer_headers, ("x-fapi-interaction-id", trail.interaction_id)))


async def _discard(answer: Answer) -> None:
    close = getattr(answer.body, "aclose", None)
    if close is not None:
        await close()

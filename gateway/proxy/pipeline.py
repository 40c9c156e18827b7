"""The passage of one proxied FHIR request, as a straight line:

parse → authenticate → decide → forward → filter → record.

Nothing of the store's answer goes out before the audit record is durable; whatever fails on the way is a refusal
with a stable reason. The passage knows no wire: it takes an HttpRequest and gives an Answer.
"""

import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from authz.clock import Clock
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.request import Answer, HttpRequest, RequestError
from authz.protocol.tokens import Caller
from authz.resource_server import ResourceServer
from authz.storage.store import StoreUnavailable
from gateway.audit import AuditLog, AuditUnavailable
from gateway.fhir import links, request, resource
from gateway.fhir.capability import capability_statement
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.outcome import FhirError, Reason, operation_outcome
from gateway.policy.decision import Deny, Environment, Nothing, Permit
from gateway.policy.engine import Engine
from gateway.proxy import creation, headers
from gateway.proxy.long_answer import LongAnswer
from gateway.proxy.response_filter import BundleFilter
from gateway.proxy.sealed_links import SealedLinks
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamAnswer, UpstreamClient
from gateway.settings import Upstream
from gateway.telemetry import Metrics

_PAGE_PREFIX = "_page="
_MAX_FORM_BYTES = 64 * 1024
_HELD_BYTES = 256 * 1024  # an answer this short is held until it is whole: one audit record says all of it
_CAPABILITIES_SECONDS = 60
_PASSED_ON = frozenset({400, 406, 409, 412, 422})  # of the store's refusals
_JSON_BODY = ("Content-Type", f"{headers.FHIR_JSON}; charset=utf-8")
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
        audit: AuditLog,
        metrics: Metrics,
        clock: Clock,
        oauth_uris: Mapping[str, str],
    ) -> None:
        self._upstream = upstream
        self._client = client
        self._resource_server = resource_server
        self._engines = engines
        self._links = links_
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
            answer = self._refusal(trail, error)
        except OAuthError as error:
            answer = self._challenge(trail, error)
        except RequestError as error:
            reason = Reason.TOO_LARGE if error.status == 413 else Reason.INVALID_BODY
            answer = self._refusal(trail, FhirError(reason, error.description, status=error.status))
        except StoreUnavailable as error:
            _log.error("the store does not answer", extra={"cause": str(error)})
            answer = self._refusal(
                trail, FhirError(Reason.STORE_UNAVAILABLE, headers=(("Retry-After", "2"),))
            )
        except AuditUnavailable:
            answer = self._refusal(
                trail, FhirError(Reason.AUDIT_UNAVAILABLE, headers=(("Retry-After", "5"),))
            )
        except Exception:
            _log.exception("a passage failed", extra={"interaction_id": trail.interaction_id})
            answer = self._refusal(trail, FhirError(Reason.INTERNAL))
        return await self._recorded(trail, answer)

    async def _pass(self, http: HttpRequest, trail: Trail) -> Answer:
        headers.check_accept(http)
        page = http.query.startswith(_PAGE_PREFIX) and "&" not in http.query
        asked = request.parse(http.method, http.path[len(self._upstream.at) :], "" if page else http.query)
        trail.asked = asked
        if asked.interaction is Interaction.CAPABILITIES:
            return await self._capability(http, trail)
        caller = await self._authenticate(http, trail)
        engine = self._engines.engine
        if engine is None:
            raise FhirError(Reason.POLICY_UNAVAILABLE, headers=(("Retry-After", "5"),))
        trail.policy_hash = engine.policy_hash
        if asked.posted:
            form = await http.body.read(_MAX_FORM_BYTES)
            trail.asked = asked = request.with_form(asked, http.headers.get("content-type"), form)
        target = None
        if page:
            asked, target = self._open_page(http, asked, caller, engine)
            trail.asked = asked
        decision = engine.decide(asked, caller, Environment(self._clock(), http.peer))
        trail.rules = decision.rules
        match decision:
            case Deny():
                trail.explanation = decision.explanation
                raise FhirError(Reason.NOT_FOUND if decision.conceal else decision.reason)
            case Nothing():
                trail.decision = "permit"
                trail.explanation = decision.explanation
                return self._empty(http)
            case Permit() if asked.interaction is Interaction.CREATE:
                return await self._create(http, trail, decision, caller, engine)
            case Permit():
                trail.decision = "permit"
                return await self._forward(http, trail, decision, caller, target)

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
        asked = permit.request
        sent = headers.to_upstream(http, self._upstream, trail.interaction_id)
        method, body, target = "GET", None, page or request.upstream_target(asked)
        if asked.posted and page is None:
            method, body = "POST", request.upstream_form(asked)
            sent["content-type"] = "application/x-www-form-urlencoded"
        trail.upstream.append(f"{method} {target}")
        answer = await self._client.send(method, target, sent, body)
        try:
            self._check_status(answer)
            if not headers.is_json(answer.headers.get("content-type", "")):
                raise FhirError(Reason.UPSTREAM_INVALID, "the answer is not FHIR JSON")
            if (
                "content-encoding" in answer.headers
                and answer.headers["content-encoding"].lower() != "identity"
            ):
                raise FhirError(Reason.UPSTREAM_INVALID, "the answer is compressed, which was not asked for")
            if asked.interaction in (Interaction.READ, Interaction.VREAD):
                return await self._one(trail, permit, answer)
            if page is not None:
                # The store's own page link: the criteria stand in it as the store keeps them, the judge checks.
                permit = replace(permit, added=(), exact=permit.exact and not permit.added)
            return await self._many(http, trail, permit, caller, answer)
        except BaseException:
            answer.close()
            raise

    def _check_status(self, answer: UpstreamAnswer) -> None:
        """What the store's refusals become: never its own text, never a redirect, never a hint that something was."""
        if answer.status == 200:
            return
        if answer.status in (404, 410):
            raise FhirError(Reason.NOT_FOUND)
        if answer.status in (401, 403, 407) or answer.status >= 500 or answer.status < 400:
            raise FhirError(Reason.UPSTREAM_INVALID, "the FHIR store answered with an error of its own")
        if answer.status == 429:
            raise FhirError(Reason.OVERLOADED, headers=(("Retry-After", "5"),))
        raise FhirError(Reason.UPSTREAM_REFUSED, status=answer.status if answer.status in _PASSED_ON else 400)

    async def _one(self, trail: Trail, permit: Permit, answer: UpstreamAnswer) -> Answer:
        """A single resource: judged whole, before its first byte goes out."""
        raw = await answer.read(self._upstream.max_resource)
        passed = headers.returned(answer.headers, self._upstream)
        answer.close()
        value = _stored(raw)
        trail.tally.dropped = 1
        self._judge(trail, permit, value)
        trail.tally.dropped, trail.tally.shown = 0, 1
        changed = links.rewrite_urls(value, upstream=self._upstream.base, public=self._upstream.identifier)
        return self._fhir(resource.write_resource(value) if changed else raw, passed)

    async def _create(
        self, http: HttpRequest, trail: Trail, permit: Permit, caller: Caller, engine: Engine
    ) -> Answer:
        """A new resource: judged, and on record, before the store hears of it."""
        kind = creation.body_kind(http, permit)
        body: bytes | AsyncIterator[bytes]
        if kind is creation.BodyKind.RESOURCE:
            raw = await http.body.read(self._upstream.max_resource)
            value, body = creation.new_version(raw, permit.request.type, self._bases)
            self._judge(trail, permit, value)
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
                self._check_status(answer)
                raise FhirError(Reason.UPSTREAM_INVALID)
            made = creation.made(answer.headers, self._upstream, permit.request.type)
            shown = b""
            if made.id is not None and headers.is_json(answer.headers.get("content-type", "")):
                shown = self._representation(
                    await answer.read(self._upstream.max_resource),
                    made.id,
                    permit.request,
                    caller,
                    engine,
                    http,
                )
        finally:
            answer.close()
        content = (_JSON_BODY,) if shown else ()
        passed = (*made.headers, *headers.returned(answer.headers, self._upstream))
        return Answer(201, (*content, *headers.PRIVATE, *passed), shown)

    def _representation(
        self, raw: bytes, id_: str, created: FhirRequest, caller: Caller, engine: Engine, http: HttpRequest
    ) -> bytes:
        """What was stored, when the caller may read it; nothing otherwise. Never a refusal: it is stored."""
        asked = replace(created, method="GET", interaction=Interaction.READ, id=id_, terms=())
        decision = engine.decide(asked, caller, Environment(self._clock(), http.peer))
        if not isinstance(decision, Permit) or decision.judge is None:
            return b""
        try:
            value = _stored(raw)
        except FhirError:
            return b""
        if not decision.judge(value).shown:
            return b""
        links.rewrite_urls(value, upstream=self._upstream.base, public=self._upstream.identifier)
        return resource.write_resource(value)

    def _judge(self, trail: Trail, permit: Permit, value: dict[str, Any]) -> None:
        """Raise FhirError unless the judge shows, or takes, this resource."""
        if permit.judge is None:
            raise FhirError(Reason.INTERNAL)
        verdict = permit.judge(value)
        trail.rules = verdict.rules or trail.rules
        if not verdict.shown:
            trail.decision = "deny"
            conceals = permit.conceal and permit.request.interaction is not Interaction.CREATE
            raise FhirError(Reason.NOT_FOUND if conceals else verdict.reason or Reason.POLICY_DENIED)

    async def _many(
        self, http: HttpRequest, trail: Trail, permit: Permit, caller: Caller, answer: UpstreamAnswer
    ) -> Answer:
        """A Bundle: filtered entry by entry; held when short, else streamed."""
        if permit.judge is None:
            raise FhirError(Reason.INTERNAL)
        asked = trail.asked or permit.request
        filtered = BundleFilter(
            judge=permit.judge,
            upstream=self._upstream.base,
            public=self._upstream.identifier,
            kind="searchset" if permit.request.interaction is Interaction.SEARCH else "history",
            added=permit.added,
            exact=permit.exact,
            self_url=self._self_url(http, asked),
            seal=lambda target: self._seal(target, asked, caller, trail.policy_hash or ""),
            tally=trail.tally,
        ).run(answer.stream())
        held: list[bytes] = []
        size = 0
        try:
            async for chunk in filtered:
                held.append(chunk)
                size += len(chunk)
                if size > _HELD_BYTES:
                    break
            else:
                answer.close()
                self._note_narrowing(permit, trail)
                return self._fhir(b"".join(held), ())
        except FhirError as error:
            if error.reason is Reason.NARROWING_IGNORED:
                self._metrics.narrowing_ignored.inc()
            raise
        self._note_narrowing(permit, trail)

        async def record(ended: str) -> None:
            await self._audit.record(trail.delivered(ended))

        return self._fhir(LongAnswer(held, filtered, answer, record), ())

    def _note_narrowing(self, permit: Permit, trail: Trail) -> None:
        if permit.added and trail.tally.narrowing_seen is None and not permit.request.posted:
            # A self link that does not speak: the judge alone decided. The operator should know. (Of a form that
            # was posted, stores do not speak at all.)
            self._metrics.narrowing_ignored.inc()

    def _open_page(
        self, http: HttpRequest, asked: FhirRequest, caller: Caller, engine: Engine
    ) -> tuple[FhirRequest, str]:
        token = http.query[len(_PAGE_PREFIX) :]
        page = self._links.open(token, caller=caller, policy_hash=engine.policy_hash, now=self._clock())
        if page is None or page.asked.type != asked.type:
            raise FhirError(Reason.STALE_LINK)
        return page.asked, page.target

    def _seal(self, target: str, asked: FhirRequest, caller: Caller, policy_hash: str) -> str:
        token = self._links.seal(asked, target, caller=caller, policy_hash=policy_hash, now=self._clock())
        return f"{self._upstream.identifier}/{asked.type}?{_PAGE_PREFIX}{token}"

    def _self_url(self, http: HttpRequest, asked: FhirRequest) -> str:
        if http.query.startswith(_PAGE_PREFIX) or asked.posted:
            return f"{self._upstream.identifier}/{request.upstream_target(asked)}"
        return self._asked_url(http)

    def _asked_url(self, http: HttpRequest) -> str:
        query = f"?{http.query}" if http.query else ""
        return self._upstream.identifier + http.path[len(self._upstream.at) :] + query

    def _empty(self, http: HttpRequest) -> Answer:
        """An allowed search that can find nothing: nobody is asked."""
        link = {"relation": "self", "url": self._asked_url(http)}
        value = {"resourceType": "Bundle", "type": "searchset", "total": 0, "link": [link]}
        return self._fhir(resource.write_resource(value), ())

    async def _capability(self, http: HttpRequest, trail: Trail) -> Answer:
        """The store's CapabilityStatement, narrowed to what passes here and with our security section."""
        now = self._clock()
        trail.decision = "permit"
        if self._capabilities[0] <= now:
            sent = headers.to_upstream(http, self._upstream, trail.interaction_id)
            trail.upstream.append("GET metadata")
            answer = await self._client.send("GET", "metadata", sent)
            try:
                self._check_status(answer)
                value = _stored(await answer.read(self._upstream.max_resource))
            finally:
                answer.close()
            statement = capability_statement(
                value, public_base=self._upstream.identifier, oauth_uris=self._oauth_uris
            )
            self._capabilities = (now + _CAPABILITIES_SECONDS, resource.write_resource(statement))
        return self._fhir(self._capabilities[1], ())

    def _fhir(self, body: bytes | AsyncIterator[bytes], passed: tuple[tuple[str, str], ...]) -> Answer:
        return Answer(200, (_JSON_BODY, *headers.PRIVATE, *passed), body)

    def _refusal(self, trail: Trail, error: FhirError) -> Answer:
        trail.reason = str(error.reason)
        if error.status in (401, 403, 404) and trail.decision == "permit" and trail.tally.shown == 0:
            trail.decision = "deny"
        body = operation_outcome(error.reason, error.diagnostics)
        return Answer(error.status, (_JSON_BODY, *headers.PRIVATE, *error.headers), body)

    def _challenge(self, trail: Trail, error: OAuthError) -> Answer:
        """A refused token or proof: 400 or 401 with WWW-Authenticate, never 403 (RFC 6750 3, RFC 9449 7.1)."""
        has_token = "authorization" in trail.request.headers
        reason = {
            ErrorCode.USE_DPOP_NONCE: Reason.NONCE_REQUIRED,
            ErrorCode.INVALID_DPOP_PROOF: Reason.PROOF_INVALID,
        }.get(error.code, Reason.TOKEN_INVALID if has_token else Reason.TOKEN_MISSING)
        challenge = self._resource_server.challenge(error if has_token else None, trail.request)
        path = f"{trail.request.origin}/.well-known/oauth-protected-resource{self._upstream.at}"
        challenge = tuple(
            (name, f'{value}{"," if " " in value else ""} resource_metadata="{path}"')
            if name == "WWW-Authenticate"
            else (name, value)
            for name, value in challenge
        )
        trail.reason = str(reason)
        trail.explanation = error.detail or error.description
        status = 401 if error.status not in (400,) or error.code is not ErrorCode.INVALID_REQUEST else 400
        body = operation_outcome(reason, error.description)
        return Answer(status, (_JSON_BODY, *headers.PRIVATE, *challenge), body)

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
                error.status, (_JSON_BODY, *headers.PRIVATE, *error.headers), operation_outcome(error.reason)
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


def _stored(raw: bytes) -> dict[str, Any]:
    """A resource that the store answered with. Raises FhirError(UPSTREAM_INVALID): the caller sent nothing wrong."""
    try:
        return resource.parse_resource(raw)
    except FhirError as error:
        raise FhirError(Reason.UPSTREAM_INVALID, "the answer is not a resource with one reading") from error


async def _discard(answer: Answer) -> None:
    close = getattr(answer.body, "aclose", None)
    if close is not None:
        await close()

"""Forwarding: what was permitted goes to the store, and what it answers comes back judged."""

from dataclasses import replace

from authz.protocol.request import Answer, HttpRequest
from authz.protocol.tokens import Caller
from gateway.fhir import request_target
from gateway.fhir.interaction import Interaction
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Permit
from gateway.proxy import headers
from gateway.proxy.answers.delivery import Delivery, check_fhir_json, check_status
from gateway.proxy.answers.sealed_links import Page
from gateway.proxy.kept_consents import profile_of
from gateway.proxy.operations import OperationPassage
from gateway.proxy.proven_searches import provable
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamAnswer, UpstreamClient
from gateway.proxy.writes.stored_version import NO_CACHE
from gateway.settings import Upstream


class Forwarding:
    """Forwards reads and searches to one store."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        client: UpstreamClient,
        delivery: Delivery,
        operations: OperationPassage,
    ) -> None:
        self._upstream = upstream
        self._client = client
        self._delivery = delivery
        self._operations = operations

    async def forward(
        self, http: HttpRequest, trail: Trail, permit: Permit, caller: Caller, page: Page | None
    ) -> Answer:
        """The answer to what the permit lets through; page is what a page link stands for, None for a first page.

        Raises FhirError, AuditUnavailable.
        """
        if page is None:
            fit = request_target.fit_for_the_store(permit.request)
            permit = permit if fit is permit.request else replace(permit, request=fit)
        elif page.proof != (permit.by_search.proof if permit.by_search is not None else ()):
            raise FhirError(Reason.STALE_LINK)  # the search was narrowed by what holds no more
        permit = provable(permit, profile_of(self._upstream, permit.request.type))
        asked = permit.request
        sent = headers.to_upstream(http, self._upstream, trail.interaction_id)
        if permit.by_search is not None:
            sent |= NO_CACHE  # what only a search tells it tells as of now, not as of a minute ago
        method, body, target = (
            "GET",
            None,
            request_target.upstream_target(asked) if page is None else page.target,
        )
        if asked.posted and page is None:
            method, body = "POST", request_target.upstream_form(asked)
            sent["content-type"] = "application/x-www-form-urlencoded"
        trail.upstream.append(f"{method} {target}")
        answer = await self._client.send(method, target, sent, body)
        return await self.received(http, trail, permit, caller, page, answer)

    async def received(
        self,
        http: HttpRequest,
        trail: Trail,
        permit: Permit,
        caller: Caller,
        page: Page | None,
        answer: UpstreamAnswer,
    ) -> Answer:
        """What becomes of the store's answer, as forward() gives it. Raises as forward() does.

        A history that shows no version is answered as a read of the resource is, and with as many questions to the
        store whether there is one or not: else it would tell that somebody else has it (attack case 110).
        """
        is_history = permit.request.interaction is Interaction.HISTORY_INSTANCE and page is None
        try:
            delivered = await self._judged(http, trail, permit, caller, page, answer)
        except FhirError as error:
            if is_history and error.reason is Reason.NOT_FOUND:
                await self._operations.look_at_instance(http, trail, permit)
            raise
        if is_history and not trail.tally.shown:
            await self._operations.look_at_instance(http, trail, permit)
        return delivered

    async def _judged(
        self,
        http: HttpRequest,
        trail: Trail,
        permit: Permit,
        caller: Caller,
        page: Page | None,
        answer: UpstreamAnswer,
    ) -> Answer:
        asked = permit.request
        try:
            check_status(answer)
            check_fhir_json(answer)
            if asked.interaction is Interaction.VREAD:
                return await self._version(http, trail, permit, answer)
            if asked.interaction is Interaction.READ:
                return await self._delivery.one(trail, permit, answer)
            if permit.by_search is not None and permit.by_search.unwraps:
                return await self._delivery.found(trail, permit, answer)
            if page is not None:
                # The store's own page link: the criteria stand in it as the store keeps them, the judge checks.
                is_exact = permit.exact and not permit.added
                permit = replace(permit, added=(), needed=frozenset(), exact=is_exact)
            return await self._delivery.many(http, trail, permit, caller, answer)
        except BaseException:
            answer.close()
            raise

    async def _version(
        self, http: HttpRequest, trail: Trail, permit: Permit, answer: UpstreamAnswer
    ) -> Answer:
        """A version: it and what is stored now are both the caller's, or what moved away could still be read by it."""
        delivered = await self._delivery.one(trail, permit, answer)
        trail.tally.shown, trail.tally.dropped = 0, 1
        await self._operations.look_at_instance(http, trail, permit)
        trail.tally.shown, trail.tally.dropped = 1, 0
        return delivered

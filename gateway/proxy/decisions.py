"""What is decided about one request before the store hears of it, and what of that the store is asked first."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from authz.clock import Clock
from authz.protocol.request import HttpRequest
from authz.protocol.tokens import Caller
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.opened_terms import opened_words
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Nothing, Permit
from gateway.policy.engine import Engine
from gateway.proxy import kept_consents
from gateway.proxy.answers.representation import environment_of
from gateway.proxy.documents import submissions
from gateway.proxy.list_reads import ListReads, with_the_read
from gateway.proxy.obligations import Obliged
from gateway.proxy.permitted import Permitted
from gateway.proxy.refusals import denied
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamClient
from gateway.proxy.writes import conditional_writes
from gateway.proxy.writes.changes import WRITES
from gateway.proxy.writes.conditional_turns import ConditionalTurns
from gateway.settings import Upstream

_CHANGING = WRITES | {Interaction.CREATE}


class Decisions:
    """The decisions about requests to one store."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        client: UpstreamClient,
        clock: Clock,
        obliged: Obliged,
        may_write: Callable[[], bool],
    ) -> None:
        """may_write is whether writes go on: not where a feed of the audit log lags too far."""
        self._upstream = upstream
        self._client = client
        self._clock = clock
        self._obliged = obliged
        self._may_write = may_write
        self._lists = ListReads(upstream=upstream, client=client)

    async def permitted(
        self,
        http: HttpRequest,
        asked: FhirRequest,
        caller: Caller,
        engine: Engine,
        trail: Trail,
        *,
        turns: ConditionalTurns | None = None,
    ) -> Permitted:
        """The decision about a request; criteria of a conditional write are looked up.

        With turns whoever looks for the same waits until the turn of the trail is ended. Raises FhirError, OAuthError
        (step-up) for what is refused.
        """
        if asked.interaction in _CHANGING and not self._may_write():
            raise FhirError(Reason.AUDIT_BACKLOG, headers=(("Retry-After", "30"),))
        self._check_profile(asked)
        criteria = conditional_writes.criteria(asked, http)
        environment = environment_of(http, self._upstream, self._clock, trail.knowledge)
        emergency = await self._obliged.emergency(http, trail, caller, engine)
        # Only this request itself goes by emergency access, nothing that is decided on its way.
        itself = environment if emergency is None else replace(environment, emergency=emergency)
        decision = await trail.knowledge.decided(
            partial(engine.decide, asked, caller, itself, criteria=criteria)
        )
        found = None
        if criteria and isinstance(decision, Permit):
            asking = (http, trail, asked, criteria, caller, engine, environment)
            found = await conditional_writes.find(
                *asking, upstream=self._upstream, client=self._client, turns=turns
            )
            if asked.interaction is not Interaction.CREATE:
                asked = conditional_writes.narrowed(asked, found, http)
                decide = partial(engine.decide, asked, caller, itself, criteria=criteria)
                decision = await trail.knowledge.decided(decide)
        decision = trail.shadows.beside(engine, asked, caller, itself, criteria, decision)
        trail.rules = decision.rules
        if isinstance(decision, Permit):
            reading = await self._lists.decided(decision, trail, caller, engine, environment)
            await self._obliged.meet(trail, with_the_read(decision, reading), caller)
            decision = await self._lists.opened(http, trail, decision, reading)
        if isinstance(decision, Permit):
            decision = kept_consents.without_the_stores(self._upstream, asked, decision)
            return Permitted(asked, decision, environment, found)
        trail.explanation = decision.explanation
        if isinstance(decision, Nothing):
            return Permitted(asked, decision, environment)
        self._obliged.refused(http, decision)
        raise denied(decision)

    def _check_profile(self, asked: FhirRequest) -> None:
        """Raise FhirError(UNSUPPORTED_PARAMETER) for what the profile of the store never lets through.

        A parameter that a policy opens must be one that the store is known to carry out: what it passes over would
        be missing from the search.
        """
        kept_consents.check(self._upstream, asked)
        submissions.check(self._upstream, asked)
        profile = kept_consents.profile_of(self._upstream, asked.type)
        for term in asked.terms:
            if term.code in profile.never_parameters:
                raise FhirError(Reason.UNSUPPORTED_PARAMETER, "the parameter is closed for this store")
        if unknown := opened_words(asked.terms) - profile.opened_parameters:
            said = f"'{min(unknown)}' is closed: this store is not known to carry it out"
            raise FhirError(Reason.UNSUPPORTED_PARAMETER, said)

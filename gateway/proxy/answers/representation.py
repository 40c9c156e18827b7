"""What a caller sees of a resource that was just written: what a read would show, and nothing where it would refuse."""

from dataclasses import replace
from functools import partial

from authz.clock import Clock
from authz.protocol.request import HttpRequest
from authz.protocol.tokens import Caller
from gateway.fhir import links, resource
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.outcome import FhirError
from gateway.policy.decision import Environment, Permit
from gateway.policy.engine import Engine
from gateway.policy.known import Known
from gateway.proxy.answers.delivery import settle, stored
from gateway.proxy.large_bodies import by_length
from gateway.proxy.trail import Trail
from gateway.settings import Upstream


def environment_of(http: HttpRequest, upstream: Upstream, clock: Clock, known: Known) -> Environment:
    """What a decision about a request to this store may depend on beside request and caller."""
    return Environment(clock(), http.peer, upstream.identifier, known)


class Representation:
    """Shows what one store has stored."""

    def __init__(self, *, upstream: Upstream, clock: Clock) -> None:
        self._upstream = upstream
        self._clock = clock

    async def __call__(
        self,
        raw: bytes,
        id_: str,
        written: FhirRequest,
        caller: Caller,
        engine: Engine,
        http: HttpRequest,
        trail: Trail,
    ) -> bytes:
        """What was stored, when the caller may read it; nothing otherwise. Never a refusal: it is stored."""
        asked = replace(written, method="GET", interaction=Interaction.READ, id=id_, terms=())
        environment = environment_of(http, self._upstream, self._clock, trail.knowledge)
        decide = partial(engine.decide, asked, caller, environment)
        try:
            decision = await trail.knowledge.decided(decide)
            if not isinstance(decision, Permit) or decision.judge is None:
                return b""
            value = await by_length(len(raw), partial(stored, raw))
            if (value.get("resourceType"), value.get("id")) != (written.type, id_):
                return b""  # what came back is not what the store says that it has stored
            await settle(trail, decision, value)
        except FhirError:
            return b""
        verdict = decision.judge(value)
        if not verdict.shown:
            return b""
        value = value if verdict.seen is None else dict(verdict.seen)
        links.rewrite_urls(value, upstream=self._upstream.base, public=self._upstream.identifier)
        return await by_length(len(raw), partial(resource.write_resource, value))

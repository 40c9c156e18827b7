"""The store's CapabilityStatement, narrowed to what passes here and with our security section.

What the store says is kept for a minute; what is said of it is built once for each set of policies.
"""

from collections.abc import Mapping
from typing import Any

from authz.clock import Clock
from authz.protocol.request import Answer, HttpRequest
from gateway.fhir import resource
from gateway.fhir.capability import capability_statement
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.engine import Engine
from gateway.policy.openings import Openings
from gateway.proxy import headers
from gateway.proxy.answers.delivery import fhir_answer, whole_resource
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamClient
from gateway.settings import Upstream

_KEPT_SECONDS = 60


class Capabilities:
    """What one store can do, for anybody who asks (FHIR R4 3.1.0.10)."""

    def __init__(
        self, *, upstream: Upstream, client: UpstreamClient, clock: Clock, oauth_uris: Mapping[str, str]
    ) -> None:
        self._upstream = upstream
        self._client = client
        self._clock = clock
        self._oauth_uris = oauth_uris
        self._said: tuple[int, dict[str, Any]] = (0, {})
        self._built: tuple[int, str | None, bytes] = (0, None, b"")

    async def answer(self, http: HttpRequest, trail: Trail, engine: Engine | None) -> Answer:
        """The statement under the policies of engine. Raises FhirError where the store does not tell what it can do."""
        if engine is None:
            raise FhirError(Reason.POLICY_UNAVAILABLE, headers=(("Retry-After", "5"),))
        trail.decision = "permit"
        until, said = await self._of_the_store(http, trail)
        if self._built[:2] != (until, engine.policy_hash):
            statement = capability_statement(
                said,
                public_base=self._upstream.identifier,
                oauth_uris=self._oauth_uris,
                opened=Openings(engine.policies),
                transactions=self._upstream.profile.transactions,
                carried_out=self._upstream.profile.opened_parameters
                - self._upstream.profile.never_parameters,
            )
            self._built = (until, engine.policy_hash, resource.write_resource(statement))
        return fhir_answer(self._built[2], ())

    async def _of_the_store(self, http: HttpRequest, trail: Trail) -> tuple[int, dict[str, Any]]:
        """The statement of the store, and until when it is kept."""
        now = self._clock()
        if self._said[0] <= now:
            sent = headers.to_upstream(http, self._upstream, trail.interaction_id)
            trail.upstream.append("GET metadata")
            answer = await self._client.send("GET", "metadata", sent)
            value = await whole_resource(answer, self._upstream.max_resource)
            self._said = (now + _KEPT_SECONDS, value)
        return self._said

"""The store's CapabilityStatement, narrowed to what passes here and with our security section; kept for a minute."""

from collections.abc import Mapping

from authz.clock import Clock
from authz.protocol.request import Answer, HttpRequest
from gateway.fhir import resource
from gateway.fhir.capability import capability_statement
from gateway.proxy import headers
from gateway.proxy.delivery import check_status, fhir_answer, stored
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
        self._kept: tuple[int, bytes] = (0, b"")

    async def answer(self, http: HttpRequest, trail: Trail) -> Answer:
        """The statement. Raises FhirError where the store does not tell what it can do."""
        now = self._clock()
        trail.decision = "permit"
        if self._kept[0] <= now:
            sent = headers.to_upstream(http, self._upstream, trail.interaction_id)
            trail.upstream.append("GET metadata")
            answer = await self._client.send("GET", "metadata", sent)
            try:
                check_status(answer)
                value = stored(await answer.read(self._upstream.max_resource))
            finally:
                answer.close()
            statement = capability_statement(
                value,
                public_base=self._upstream.identifier,
                oauth_uris=self._oauth_uris,
                transactions=self._upstream.profile.transactions,
            )
            self._kept = (now + _KEPT_SECONDS, resource.write_resource(statement))
        return fhir_answer(self._kept[1], ())

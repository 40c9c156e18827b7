"""What a mount gets whose consents are kept here: a client that knows them, and what tells policies of them."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from authz.clock import Clock
from authz.storage.store import Store
from gateway.consent_service.counted import counted, counter
from gateway.consent_service.grants import GrantConsents, settled
from gateway.consent_service.routing import RoutingClient
from gateway.consent_service.server import ConsentServer
from gateway.proxy.lookups.knowledge import ConsentsAt
from gateway.proxy.lookups.stored_consents import StoredConsents
from gateway.settings import ConsentSettings, GatewaySettings, Upstream
from gateway.telemetry import Metrics

EndGrant = Callable[[str, str, str], Awaitable[None]]
"""Ends an OAuth grant: its id, who ends it, and why."""


def keep_consents(
    upstream: Upstream,
    settings: ConsentSettings,
    observe: Callable[[float], None],
    *,
    store: Store,
    clock: Clock,
    metrics: Metrics,
    end_grant: EndGrant,
) -> tuple[RoutingClient, Callable[[Callable[[str], None]], ConsentsAt]]:
    """The client of the mount, not open yet, and what makes its knowledge of consents."""
    client = RoutingClient(upstream, observe)
    store = counted(store, (upstream,), metrics)
    client.serve(
        ConsentServer(
            base=upstream.identifier,
            url=upstream.base,
            bases=frozenset({*upstream.bases, upstream.base}),
            store=store,
            clock=clock,
            is_there=client.has_patient,
            end_grant=end_grant,
        )
    )

    def knowledge(count: Callable[[str], None]) -> ConsentsAt:
        return StoredConsents(
            store,
            upstream.identifier,
            settings.source,
            clock,
            reading=replace(settings.reading, bases=upstream.bases | {upstream.base}),
            settle=settled,
            count=count,
        )

    return client, knowledge


def given_consents(
    settings: GatewaySettings, store: Store, clock: Clock, metrics: Metrics
) -> Mapping[str, GrantConsents]:
    """What says the consents of the OAuth consent page, by the identifier of each base that keeps them here."""
    issuer, count = settings.authorization.issuer, counter(settings.upstreams, metrics)
    return {
        upstream.identifier: GrantConsents(
            base=upstream.identifier, issuer=issuer, store=store, clock=clock, written=count
        )
        for upstream in settings.upstreams
        if upstream.keeps_consents
    }

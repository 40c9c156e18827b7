"""Where a mount finds out what its policies decide by, made from its settings."""

from collections.abc import Callable
from dataclasses import replace

from authz.clock import Clock
from gateway.proxy.lookups.consents import Consents
from gateway.proxy.lookups.facts import Facts
from gateway.proxy.lookups.knowledge import ConsentsAt, Lookups
from gateway.proxy.lookups.labels import Labels
from gateway.proxy.lookups.preflight import Preflight
from gateway.proxy.upstream import UpstreamClient
from gateway.settings import Upstream
from gateway.telemetry import Metrics

_LONGEST_SECONDS = 5.0  # a request waits no longer for a fact, however patient the mount is with its store


async def open_lookups(
    upstream: Upstream,
    client: UpstreamClient,
    *,
    metrics: Metrics,
    clock: Clock,
    at_most: int,
    kept: Callable[[Callable[[str], None]], ConsentsAt] | None = None,
) -> Lookups:
    """The facts and consents of one mount. client asks its own store; another one for consents is opened here.

    kept gives the consents that the gateway keeps itself, and is handed what counts them.

    at_most is how many searches one request may cost.
    """
    name = upstream.name

    def count_fact(fact: str, outcome: str) -> None:
        metrics.facts.labels(name, fact, outcome).inc()

    def count_consents(outcome: str) -> None:
        metrics.patient_consents.labels(name, outcome).inc()

    def count_spent() -> None:
        metrics.limited.labels("lookups").inc()

    asking = Preflight(client, clock, seconds=min(upstream.answer_timeout, _LONGEST_SECONDS))
    facts = Facts(asking, clock, count_fact)
    labels = Labels(asking, clock)
    settings = upstream.consents
    if kept is not None:
        return Lookups(facts, kept(count_consents), labels, _nothing, at_most, count_spent)
    if settings is None:
        return Lookups(facts, None, labels, _nothing, at_most, count_spent)
    other = None
    if settings.base is not None:
        store = replace(upstream, base=settings.base, bases=frozenset(), authorization=settings.authorization)
        other = UpstreamClient(store, metrics.upstream_seconds.labels(name).observe)
        await other.open()
    asking = Preflight(other or client, clock, seconds=settings.timeout)
    own = frozenset({upstream.base} if settings.base is None else {upstream.base, settings.base})
    consents = Consents(
        asking,
        settings.source,
        clock,
        reading=replace(settings.reading, bases=own | upstream.bases),
        keep=settings.keep,
        count=count_consents,
    )
    return Lookups(facts, consents, labels, _nothing if other is None else other.close, at_most, count_spent)


async def _nothing() -> None:
    """There is nothing of its own to close."""

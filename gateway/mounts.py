"""One mounted store: its client, what it is asked to know, and the passage of requests to it."""

from collections.abc import Callable
from dataclasses import dataclass

from authz.clock import Clock
from authz.keys import KeyRing
from authz.resource_server import ResourceServer
from authz.storage.store import Store
from gateway.admission import Admission
from gateway.audit.log import AuditLog
from gateway.proxy.answers.sealed_links import SealedLinks
from gateway.proxy.answers.signed_answers import SignedAnswers
from gateway.proxy.lookups.at_mount import open_lookups
from gateway.proxy.lookups.knowledge import Lookups
from gateway.proxy.pipeline import EngineHolder, Passage
from gateway.proxy.sealed_jobs import SealedJobs
from gateway.proxy.upstream import UpstreamClient
from gateway.settings import ResponseSignatures, Upstream
from gateway.telemetry import Metrics


@dataclass(slots=True)
class Mount:
    """A store and all that stands before it."""

    upstream: Upstream
    client: UpstreamClient
    passage: Passage
    signed: SignedAnswers | None
    lookups: Lookups


async def open_mount(
    upstream: Upstream,
    *,
    link_key: bytes,
    issuer: str,
    resource_server: ResourceServer,
    engines: EngineHolder,
    keys: KeyRing,
    store: Store,
    audit: AuditLog,
    metrics: Metrics,
    clock: Clock,
    admission: Admission,
    lookups_at_most: int,
    may_write: Callable[[], bool],
) -> Mount:
    """The mount of a store, its connections open: whoever asks for it closes them. link_key seals links to pages."""
    client = UpstreamClient(upstream, metrics.upstream_seconds.labels(upstream.name).observe)
    await client.open()
    lookups = await open_lookups(upstream, client, metrics=metrics, clock=clock, at_most=lookups_at_most)
    passage = Passage(
        upstream=upstream,
        client=client,
        resource_server=resource_server,
        engines=engines,
        links_=SealedLinks(link_key, upstream.name),
        jobs=SealedJobs(link_key, upstream.name),
        store=store,
        audit=audit,
        metrics=metrics,
        clock=clock,
        lookups=lookups,
        admission=admission,
        may_write=may_write,
        oauth_uris={
            "authorize": f"{issuer}/authorize",
            "token": f"{issuer}/token",
            "revoke": f"{issuer}/revoke",
        },
    )
    signed = None
    if upstream.response_signatures is not ResponseSignatures.OFF:
        when = upstream.response_signatures
        signed = SignedAnswers(keys.signer, when=when, clock=clock)
    return Mount(upstream, client, passage, signed, lookups)

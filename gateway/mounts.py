"""One mounted store: its client, what it is asked to know, and the passage of requests to it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.clock import Clock
from authz.keys import KeyRing
from authz.resource_server import ResourceServer
from authz.storage.store import Store
from gateway.admission import Admission
from gateway.audit.log import AuditLog
from gateway.consent_service.keeping import EndGrant, keep_consents
from gateway.consent_service.rest import ConsentApi, KeptBase
from gateway.document_services.kinds import document_service, documents_of_its_own
from gateway.proxy.answers.sealed_links import SealedLinks
from gateway.proxy.engine_holder import EngineHolder
from gateway.proxy.lookups.at_mount import open_lookups
from gateway.proxy.lookups.knowledge import ConsentsAt, Lookups
from gateway.proxy.lookups.preflight import Preflight
from gateway.proxy.pipeline import Passage
from gateway.proxy.sealed_jobs import SealedJobs
from gateway.proxy.upstream import UpstreamClient
from gateway.settings import GatewaySettings, ResponseSignatures, Upstream
from gateway.telemetry import Metrics

if TYPE_CHECKING:
    from gateway.proxy.answers.signed_answers import SignedAnswers

KeptConsents = Callable[[Callable[[str], None]], ConsentsAt]
_SEARCH_SECONDS = 5.0


@dataclass(slots=True)
class Mount:
    """A store and all that stands before it."""

    upstream: Upstream
    client: UpstreamClient
    passage: Passage
    signed: "SignedAnswers | None"
    lookups: Lookups
    kept: KeptConsents | None  # what makes the knowledge of consents that are kept here


def in_order(upstreams: Sequence[Upstream]) -> list[Upstream]:
    """The upstreams as they are opened: those first that others rely on."""
    return sorted(upstreams, key=lambda each: each.documents is not None)


def searches_of(mounts: Sequence[Mount], clock: Clock) -> Mapping[str, Preflight]:
    """Searches of our own at each store, by the identifier of its base, that no request waits for."""
    return {
        mount.upstream.identifier: Preflight(mount.client, clock, seconds=_SEARCH_SECONDS) for mount in mounts
    }


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
    others: Sequence[Mount],
    end_grant: EndGrant,
    may_write: Callable[[], bool],
) -> Mount:
    """The mount of a store, its connections open: whoever asks for it closes them. link_key seals links to pages.

    others are those opened before: one of them knows the patients of a service of documents.
    """
    observe = metrics.upstream_seconds.labels(upstream.name).observe
    client, kept = UpstreamClient(upstream, observe), None
    if upstream.documents is not None:
        store_of_patients = next(each for each in others if each.upstream.name == upstream.documents.patients)
        client = document_service(upstream, upstream.documents, observe, store_of_patients.client, clock)
        kept = store_of_patients.kept
    elif upstream.kind == "mhd":
        client = documents_of_its_own(upstream, observe)
    elif upstream.consents is not None and upstream.keeps_consents:
        client, kept = keep_consents(
            upstream,
            upstream.consents,
            observe,
            store=store,
            clock=clock,
            metrics=metrics,
            end_grant=end_grant,
        )
    await client.open()
    lookups = await open_lookups(
        upstream, client, metrics=metrics, clock=clock, at_most=lookups_at_most, kept=kept
    )
    passage = Passage(
        upstream=upstream,
        client=client,
        resource_server=resource_server,
        engines=engines,
        sealed_links=SealedLinks(link_key, upstream.name),
        jobs=SealedJobs(link_key, upstream.name),
        store=store,
        audit=audit,
        metrics=metrics,
        clock=clock,
        lookups=lookups,
        admission=admission,
        may_write=may_write,
        precedes=upstream.response_signatures is ResponseSignatures.OFF,
        oauth_uris={
            "authorize": f"{issuer}/authorize",
            "token": f"{issuer}/token",
            "revoke": f"{issuer}/revoke",
        },
    )
    signed = None
    if upstream.response_signatures is not ResponseSignatures.OFF:
        from gateway.proxy.answers.signed_answers import SignedAnswers  # where answers are signed at all

        when = upstream.response_signatures
        signed = SignedAnswers(keys.signer, when=when, clock=clock)
    return Mount(upstream, client, passage, signed, lookups, kept)


def consent_api(
    settings: GatewaySettings, mounts: Sequence[Mount], keys: KeyRing, clock: Clock
) -> ConsentApi:
    """/consents over the mounts whose consents are kept here."""
    kept = [
        KeptBase(mount.upstream, mount.passage)
        for mount in mounts
        if mount.kept is not None and mount.upstream.documents is None
    ]
    authorization = settings.authorization
    return ConsentApi(
        kept,
        keys=keys,
        issuer=authorization.issuer,
        organisation=authorization.organisation,
        clock=clock,
    )

"""The composition root: the only place that names concrete classes. Builds the gateway, listens, reloads, drains."""

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace

from authz.clock import Clock, system_clock
from authz.events import Event, Refused
from authz.fetch import Fetcher
from authz.keys import KeyRing
from authz.login.finding import Finder
from authz.server import AuthorizationServer
from authz.storage.opening import open_storage
from authz.storage.store import Store
from gateway import tls
from gateway.account.opening import open_own_records
from gateway.admission import Admission
from gateway.audit.chains import chain_of
from gateway.audit.feeds.feeds import open_feeds
from gateway.audit.in_force import InForce
from gateway.audit.log import AuditLog
from gateway.background import Background
from gateway.cds_services import CdsServices
from gateway.consent_service.counted import counted
from gateway.consent_service.keeping import given_consents
from gateway.cors import CrossOrigin
from gateway.doors import PAGES, Doors
from gateway.emergencies import note_ends
from gateway.engines import engine_of
from gateway.fetching import open_fetcher
from gateway.listening import Listening
from gateway.mounts import Mount, consent_api, in_order, open_mount, searches_of
from gateway.notifications import outbox_of
from gateway.officer.opening import open_officer
from gateway.officer.oversight import Oversight
from gateway.operations import Operations
from gateway.pickers.finder import MountFinder
from gateway.policies_folder import PoliciesRefused, load_policies, policy_files
from gateway.policy import language
from gateway.policy.engine import Engine
from gateway.policy.reading.criteria_used import criteria_used
from gateway.policy.scope_layer import grantable
from gateway.proxy.engine_holder import EngineHolder
from gateway.proxy.probing import UpstreamProbes
from gateway.quiet import Quiet
from gateway.sealing import Sealing
from gateway.settings import GatewaySettings, PickerSettings
from gateway.signing_keys import open_key_ring
from gateway.telemetry import Metrics
from gateway.wire.service import Handler
from gateway.workers.worker import Worker

_REFRESH_SECONDS = 0.5
_HOUSEKEEPING_SECONDS = 5.0
_NOTIFY_SECONDS = 1.0
_log = logging.getLogger("securus.app")


class Gateway:
    """The whole process, without signals and without a supervisor. Made by open(), ended by close()."""

    def __init__(
        self, settings: GatewaySettings, store: Store, clock: Clock, worker: Worker | None = None
    ) -> None:
        self.settings = settings
        self._worker = worker
        self._leads = False
        self.store = store
        self.clock = clock
        self._precise_clock = time.time if clock is system_clock else clock
        self.metrics = Metrics()
        self.engines = EngineHolder(None)
        self._admission = Admission(
            settings.limits,
            store,
            counted=lambda limit: self.metrics.limited.labels(limit).inc(),
            clock=clock,
        )
        self.draining = False
        self._mounts: list[Mount] = []
        self._finders: dict[str, Finder] = {}
        self._records: dict[str, MountFinder] = {}
        self._listening = Listening(settings, worker)
        self._doors: Doors | None = None
        self._quiet = Quiet(lambda: 0 if self._doors is None else self._doors.inflight)
        self._reloading = asyncio.Lock()
        self._criteria: Mapping[str, frozenset[str]] = {}
        self._probes = UpstreamProbes((), dict)
        self.handle: Handler
        self._background: Background
        self.audit: AuditLog
        self.keys: KeyRing
        self.authorization: AuthorizationServer
        self.operations: Operations
        self._fetcher: Fetcher

    @classmethod
    async def open(
        cls, settings: GatewaySettings, *, clock: Clock = system_clock, worker: Worker | None = None
    ) -> "Gateway":
        """Build everything and listen. Raises before a socket opens when anything is wrong.

        A worker shares its listeners with the others, answers operators at its own socket, and leads when it is told.
        """
        policies = await asyncio.to_thread(policy_files, settings.policies)
        store = await open_storage(settings.storage)
        gateway = cls(settings, store, clock, worker)
        try:
            await gateway._build(policies)
            await gateway._listen()
        except BaseException:
            await gateway.close()
            raise
        return gateway

    async def _build(self, policies: dict[str, str]) -> None:
        settings = self.settings
        self.engines.engine = self._engine(load_policies(policies)) if policies else None
        if self.engines.engine is None:
            _log.error(
                "no policy is in force: every request is refused", extra={"file": str(settings.policies)}
            )
        self.audit = await AuditLog.open(
            self.store,
            self._precise_clock,
            chain=chain_of(settings, 0 if self._worker is None else self._worker.number),
            written=self.metrics.audit_events.inc,
        )
        self._in_force = await asyncio.to_thread(InForce, settings.file, self._emit)
        self._in_force.begins(None if self.engines.engine is None else self.engines.engine.policy_hash)
        self._background = Background(self.audit)
        shared = (self.store, self.audit, self.metrics, self.clock)
        self._feeds = await open_feeds(settings, *shared, self._background.repeat)
        authorization = settings.authorization
        if not authorization.certificate_anchors:
            # Also of listeners behind a proxy: it asks for certificates, the chain is judged here.
            anchors = [
                anchor
                for listener in settings.listeners
                for anchor in await asyncio.to_thread(tls.anchors_der, listener)
            ]
            authorization = replace(authorization, certificate_anchors=tuple(dict.fromkeys(anchors)))
        self.keys = await open_key_ring(settings, self.store, clock=self.clock, emit=self._emit)
        self._sealing = Sealing(
            settings=settings,
            store=self.store,
            log=self.audit,
            keys=self.keys,
            metrics=self.metrics,
            clock=self.clock,
            precise_clock=self._precise_clock,
            moment=self._quiet.moment,
        )
        self._fetcher = await asyncio.to_thread(open_fetcher, settings)
        consents = counted(self.store, settings.upstreams, self.metrics)
        self.authorization = await AuthorizationServer.open(
            settings=authorization,
            store=self.store,
            keys=self.keys,
            clients={client.client_id: client for client in settings.clients},
            accounts={account.username: account for account in settings.accounts},
            emit=self._emit,
            clock=self.clock,
            grantable=grantable,
            fetch=self._fetcher.get,
            finders=self._finders,
            admit=self._admission.of_client,
            own=open_own_records(settings, consents, self.keys, self.clock, self._records),
            given=given_consents(settings, consents, self.clock, self.metrics),
        )
        link_key = await self.store.secret("page-links", secrets.token_bytes(32))
        for upstream in in_order(settings.upstreams):
            mount = await open_mount(
                upstream,
                link_key=link_key,
                issuer=authorization.issuer,
                resource_server=self.authorization.resource_server,
                engines=self.engines,
                keys=self.keys,
                store=self.store,
                audit=self.audit,
                metrics=self.metrics,
                clock=self.clock,
                admission=self._admission,
                lookups_at_most=settings.limits.lookups,
                others=self._mounts,
                end_grant=self.authorization.end_grant,
                may_write=self._feeds.may_write,
            )
            self._mounts.append(mount)
            finder = MountFinder(upstream, mount.passage, upstream.picker or PickerSettings())
            self._records[upstream.identifier] = finder
            if upstream.picker is not None:
                self._finders[upstream.identifier] = finder
        cors = CrossOrigin(
            settings.cors,
            self.authorization.clients,
            pages=PAGES,
            public=[
                *self.authorization.doors.public_paths,
                *(f"{upstream.at}/metadata" for upstream in settings.upstreams),
            ],
        )
        doors = Doors(
            authorization=self.authorization,
            officer=open_officer(
                settings=settings,
                store=self.store,
                audit=self.audit,
                authorization=self.authorization,
                engine=lambda: self.engines.engine,
                emit=self._emit,
                clock=self.clock,
            ),
            mounts=self._mounts,
            services=CdsServices(
                [(mount.upstream, mount.passage) for mount in self._mounts],
                resource_server=self.authorization.resource_server,
                admission=self._admission,
                issuer=authorization.issuer,
                emit=self._emit,
            ),
            cors=cors,
            admission=self._admission,
            audit=self.audit,
            metrics=self.metrics,
            at_once=settings.limits.concurrent_requests,
            make_room=self._listening.end_a_body,
            consents=consent_api(settings, self._mounts, self.keys, self.clock),
        )
        self.handle = doors.handle
        self._doors = doors
        self._probes = UpstreamProbes([mount.client for mount in self._mounts], lambda: self._criteria)
        self.operations = Operations(
            settings=lambda: self.settings,
            store=self.store,
            keys=self.keys,
            authorization=self.authorization,
            engines=self.engines,
            probes=self._probes,
            metrics=self.metrics,
            clock=self.clock,
            is_draining=lambda: self.draining,
            lookups={mount.upstream.at: mount.lookups for mount in self._mounts},
            is_leading=lambda: self._leads,
        )
        await self.operations.hold_to_profiles()
        await self.audit.settled()

    def _engine(self, policies: language.PolicySet) -> Engine:
        engine = engine_of(policies, self.settings, now=self.clock())
        self._criteria = criteria_used(policies)
        self.metrics.put_in_force(engine.policy_hash)
        return engine

    async def _listen(self) -> None:
        await self._listening.open(self.handle, self.authorization.clients, self.metrics)
        operations = self.operations
        await self._listening.open_for_operators(
            operations.answer if self._worker is None else operations.answer_supervisor
        )
        self._background.repeat(self._refresh, _REFRESH_SECONDS, pause=self._until_change)
        # Apart: a token that holds the keys may be slow, and revocations must not wait for it.
        self._background.repeat(self.keys.tick, _REFRESH_SECONDS, pause=self._until_change)
        if self._worker is None:
            self.lead()
        self.metrics.workers.set(1)

    def lead(self) -> None:
        """Do from now on what one process of those that share listeners must do: clean, deliver, probe."""
        if self._leads:
            return
        self._leads = True
        background = self._background
        background.repeat(self.authorization.housekeeping, _HOUSEKEEPING_SECONDS)
        outbox = outbox_of(self.settings, self._fetcher, self.store, self.audit, self.metrics, self.clock)
        background.repeat(outbox.deliver, _NOTIFY_SECONDS)
        background.repeat(self._note_ends, _HOUSEKEEPING_SECONDS)
        background.keep(self._probes.keep())
        Oversight(
            settings=self.settings,
            store=self.store,
            audit=self.audit,
            metrics=self.metrics,
            clock=self.clock,
            stores=searches_of(self._mounts, self.clock),
            moment=self._quiet.moment,
        ).begin(background)
        self._sealing.begin(background)
        self._feeds.lead(background.repeat)

    async def _note_ends(self) -> None:
        await note_ends(self.store, self.audit, now=self.clock())

    async def _refresh(self) -> None:
        """Learn what other nodes changed; a client's certificate is let through, or not any more, from then on."""
        await self.authorization.refresh()
        self._listening.trust(self.authorization.clients)

    async def _until_change(self, seconds: float) -> None:
        await self.store.wait_for_change(at_most_seconds=seconds)

    def _emit(self, event: Event) -> None:
        self.metrics.event(event)
        if isinstance(event, Refused):
            self.metrics.refusals.labels(event.code).inc()
        self.audit.note(event)

    async def reload(self) -> None:
        """Read certificates and policies again; what is wrong keeps the old ones in force and says so."""
        async with self._reloading:  # one that read older files must not be the last to put its own in force
            await self._reload()

    async def _reload(self) -> None:
        self._listening.reload()
        await self.operations.hold_to_profiles()
        try:
            files = await asyncio.to_thread(policy_files, self.settings.policies)
            engine = self._engine(await asyncio.to_thread(load_policies, files))
        except (OSError, UnicodeDecodeError, PoliciesRefused) as error:
            _log.error("policies not reloaded, the old ones stay in force", extra={"cause": str(error)})
            self._in_force.stays()
            return
        self.engines.engine = engine
        self._in_force.changes(engine.policy_hash)
        _log.info("policies reloaded", extra={"version": engine.policy_hash})

    async def close(self) -> None:
        """Stop listening, let requests in flight finish within the drain time, close everything."""
        self.draining = True
        await self._listening.stop(self.settings.limits.drain)
        if hasattr(self, "_background"):
            await self._background.stop()
        if hasattr(self, "_feeds"):
            await self._feeds.close()
        await self._listening.close()
        for mount in self._mounts:
            await mount.client.close()
            await mount.lookups.close()
        if hasattr(self, "authorization"):
            await self.authorization.close()
        if hasattr(self, "_fetcher"):
            self._fetcher.close()
        try:
            if hasattr(self, "_sealing"):
                await self._sealing.finish()
            if hasattr(self, "keys"):
                await self.keys.close()
            if hasattr(self, "audit"):
                await self.audit.close()
        finally:
            await self.store.close()

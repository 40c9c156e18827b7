"""What proves the audit log of a running gateway: heads signed beside the requests, delivered, and old records retired."""

import logging
import time
from collections.abc import Callable

from authz.clock import Clock
from authz.keys import KeyRing
from authz.storage.audit_seals import TreeHead
from authz.storage.store import Store, StoreUnavailable
from gateway.audit.checkpoints import Checkpoints, Deliver, Often
from gateway.audit.head_file import HeadFile
from gateway.audit.keys import AuditKeys
from gateway.audit.log import AuditLog, AuditUnavailable
from gateway.audit.retention import Retention
from gateway.background import Background
from gateway.notifications import message
from gateway.quiet import Moment, any_moment
from gateway.settings import GatewaySettings
from gateway.telemetry import Metrics

_ROUND_SECONDS = 1.0
_RETENTION_SECONDS = 60.0
_log = logging.getLogger("securus.audit")


class Sealing:
    """The seals of one store."""

    def __init__(
        self,
        *,
        settings: GatewaySettings,
        store: Store,
        log: AuditLog,
        keys: KeyRing,
        metrics: Metrics,
        clock: Clock,
        precise_clock: Callable[[], float],
        moment: Moment = any_moment,
    ) -> None:
        said = settings.audit_log
        self._store = store
        self._clock = clock
        self._receivers = said.heads_notify
        self._feeds = [feed.name for feed in settings.audit.feeds]
        self._metrics = metrics
        deliver: list[Deliver] = [self._notify] if said.heads_notify else []
        if said.heads_file is not None:
            self._file = HeadFile(said.heads_file, store)
            deliver.append(self._append)
        self._keys = AuditKeys(store, keys.homes, clock)
        self._checkpoints = Checkpoints(
            store=store,
            log=log,
            keys=self._keys,
            often=Often(said.head_records, said.head_seconds),
            clock=precise_clock,
            monotonic=time.monotonic,
            deliver=deliver,
            covered=metrics.audit_covered.set,
            whole=lambda is_whole: metrics.audit_broken.set(not is_whole),
            moment=moment,
        )

        self._retention = None
        if said.retention_seconds is not None:
            self._retention = Retention(
                store=store,
                log=log,
                keys=self._keys,
                period_seconds=said.retention_seconds,
                clock=precise_clock,
                monotonic=time.monotonic,
                read_to=self._read_to,
                retired=metrics.audit_retired.inc,
                ended=lambda outcome: metrics.audit_retention.labels(outcome).inc(),
            )

    def begin(self, background: Background) -> None:
        """Do it from now on."""
        background.repeat(self._checkpoints.round, _ROUND_SECONDS)
        if self._retention is not None:
            background.repeat(self._retire, _RETENTION_SECONDS)

    async def _read_to(self, chain: str) -> int:
        """What the index and every feed of the configuration have read."""
        places = [(await self._store.audit_feed(name)).get(chain, 0) for name in self._feeds]
        return min([await self._store.indexed_to(chain), *places])

    async def _retire(self) -> None:
        """In the process that signs: of several nodes that is one."""
        if self._retention is not None and self._checkpoints.leads:
            await self._retention.round()

    async def finish(self) -> None:
        """Sign what is uncovered before the store is closed; what cannot be signed now is signed by who comes next."""
        try:
            await self._checkpoints.finish()
        except (StoreUnavailable, AuditUnavailable) as error:
            _log.error("the last records are not signed yet", extra={"cause": str(error)})

    async def _append(self, head: TreeHead) -> None:
        try:
            await self._file.append(head)
        except OSError as error:
            self._metrics.audit_heads_undelivered.inc()
            _log.error("a head of the audit log was not written", extra={"cause": error.strerror})

    async def _notify(self, head: TreeHead) -> None:
        said = {"event": "audit-head", "number": head.number, "head": head.head.decode("ascii")}
        now = self._clock()
        await self._store.put_notifications([message(name, said, now=now) for name in self._receivers])

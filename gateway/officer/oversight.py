"""What the leader does beside the requests for the privacy officer: index, look for signals, forget what is old."""

from collections.abc import Mapping

from authz.clock import Clock
from authz.storage.effects import Notification
from authz.storage.store import Store
from gateway.audit.index.follower import IndexFollower, bases_of, remove_old
from gateway.audit.log import AuditLog
from gateway.audit.signals.findings import Staff
from gateway.audit.signals.watch import Watch
from gateway.background import Background
from gateway.notifications import message
from gateway.officer.patients import Searches, StorePatients
from gateway.quiet import Moment, any_moment
from gateway.settings import GatewaySettings
from gateway.telemetry import Metrics

FOLLOW_SECONDS = 1.0
_FORGET_SECONDS = 300.0
_DAY = 86400


class Oversight:
    """The work of one gateway. stores are searched for facts of patients; begin() is for the process that leads."""

    def __init__(
        self,
        *,
        settings: GatewaySettings,
        store: Store,
        audit: AuditLog,
        metrics: Metrics,
        clock: Clock,
        stores: Mapping[str, Searches],
        moment: Moment = any_moment,
    ) -> None:
        self._settings = settings
        self._store = store
        self._metrics = metrics
        self._moment = moment
        self._clock = clock
        self._follower = IndexFollower(
            store, bases_of(settings), indexed=metrics.audit_indexed.inc, moment=moment
        )
        self._watch = Watch(
            store=store,
            audit=audit,
            settings=settings.officer,
            staff=Staff.of(settings.accounts),
            patients=StorePatients(stores, clock),
            message=self._message,
            clock=clock,
            found=lambda rule: metrics.signals.labels(rule).inc(),
        )

    def begin(self, background: Background) -> None:
        """Do it from now on."""
        background.repeat(self.follow, FOLLOW_SECONDS)
        background.repeat(self._watch.look, FOLLOW_SECONDS)
        background.repeat(self.forget, _FORGET_SECONDS)

    async def follow(self) -> None:
        """Index what is new. Raises StoreUnavailable."""
        waiting = await self._follower.behind()
        self._metrics.audit_behind.set(waiting)
        if waiting:
            await self._follower.follow()
            self._metrics.audit_behind.set(await self._follower.behind())

    async def forget(self) -> None:
        """Remove entries that are older than they are kept. Raises StoreUnavailable."""
        keep = self._settings.officer.keep_days * _DAY
        retention = self._settings.audit_log.retention_seconds
        # What the log has retired is not told by its index either.
        keep = keep if retention is None else min(keep, retention)
        await remove_old(self._store, now=self._clock(), keep=keep, moment=self._moment)

    def _message(self, receiver: str, said: Mapping[str, object]) -> Notification:
        return message(receiver, said, now=self._clock())

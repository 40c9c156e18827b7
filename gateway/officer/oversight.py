"""What the leader does beside the requests so that the officer's questions are answered: index, and forget what is old."""

from authz.clock import Clock
from authz.storage.store import Store
from gateway.audit.index.follower import IndexFollower, bases_of, remove_old
from gateway.background import Background
from gateway.settings import GatewaySettings
from gateway.telemetry import Metrics

FOLLOW_SECONDS = 1.0
_FORGET_SECONDS = 300.0
_DAY = 86400


class Oversight:
    """The work of one gateway. begin() is for the process that leads."""

    def __init__(self, *, settings: GatewaySettings, store: Store, metrics: Metrics, clock: Clock) -> None:
        self._settings = settings
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._follower = IndexFollower(store, bases_of(settings), indexed=metrics.audit_indexed.inc)

    def begin(self, background: Background) -> None:
        """Do it from now on."""
        background.repeat(self.follow, FOLLOW_SECONDS)
        background.repeat(self.forget, _FORGET_SECONDS)

    async def follow(self) -> None:
        """Index what is new. Raises StoreUnavailable."""
        self._metrics.audit_behind.set(await self._follower.behind())
        await self._follower.follow()
        self._metrics.audit_behind.set(await self._follower.behind())

    async def forget(self) -> None:
        """Remove entries that are older than they are kept. Raises StoreUnavailable."""
        await remove_old(self._store, now=self._clock(), keep=self._settings.officer.keep_days * _DAY)

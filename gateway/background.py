"""Work that comes again and again beside the requests: refresh, housekeeping, deliveries, probes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress

from authz.storage.store import StoreUnavailable
from gateway.audit.log import AuditLog, AuditUnavailable

_log = logging.getLogger("securus.background")


class Background:
    """The background tasks of one process. What fails is logged and tried again."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._tasks: list[asyncio.Task[None]] = []

    def keep(self, work: Coroutine[object, object, None]) -> None:
        """Have it done until it ends by itself, or the process does."""
        self._tasks.append(asyncio.create_task(work))

    def repeat(
        self,
        work: Callable[[], Awaitable[None]],
        seconds: float,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Have it done after each pause; what it noted for the audit log is durable before the next."""
        self.keep(self._repeated(work, seconds, pause))

    async def stop(self) -> None:
        """End all of it."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _repeated(
        self,
        work: Callable[[], Awaitable[None]],
        seconds: float,
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        while True:
            await pause(seconds)
            try:
                await work()
                await self._audit.settled()
            except (StoreUnavailable, AuditUnavailable) as error:
                _log.error("background work failed", extra={"cause": str(error)})
            except Exception:
                # It comes again: a key that cannot be opened must not end the removal of old rows.
                _log.exception("background work failed")

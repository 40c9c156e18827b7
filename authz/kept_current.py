"""What a node keeps in memory of the store: how it is read anew, and how old it may be."""

import asyncio
from abc import ABC, abstractmethod

_RELOAD_SECONDS = 3600


class KeptCurrent(ABC):
    """Read from the store twice a second, what is new only; once an hour the whole, so that what it dropped is gone.

    Where the reading is late, as on a node that was cut off, whoever relies on it reads first: what was changed at one
    node is known to all within a second.
    """

    def __init__(self) -> None:
        self._read_at = -1
        self._reload_at = 0
        self._refreshing = asyncio.Lock()

    async def refresh(self, *, now: int) -> None:
        """Take in what any node changed since the last call. Raises StoreUnavailable."""
        async with self._refreshing:  # an answer that is older must not be taken in after a newer one
            await self._refresh(now)

    async def be_current(self, *, now: int) -> None:
        """Refresh where that is late, once for all who wait for it. Raises StoreUnavailable."""
        async with self._refreshing:
            if self.is_stale(now):
                await self._refresh(now)

    def is_stale(self, now: int) -> bool:
        """Whether the last refresh began in an earlier second: nobody should rely on what is here any more."""
        return now > self._read_at

    async def _refresh(self, now: int) -> None:
        whole = now >= self._reload_at
        await self._read(whole=whole)
        if whole:
            self._reload_at = now + _RELOAD_SECONDS
        self._read_at = now

    @abstractmethod
    async def _read(self, *, whole: bool) -> None:
        """Take in what is new, or the whole in the place of what is here."""

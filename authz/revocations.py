"""What was revoked and may still be in somebody's hands: in memory on every node, read from the store in order."""

import asyncio

from authz.storage.store import Store

_RELOAD_SECONDS = 3600


class Revocations:
    """Ids of revoked grants and access tokens.

    Read from the store twice a second, what is new only; once an hour the whole anew, so that an id leaves memory
    after the store has dropped it. Where the reading is late, as on a node that was cut off, whoever relies on it reads
    first: what was revoked at one node is refused by all within a second.
    """

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._added: set[str] = set()
        self._sequence = 0
        self._read_at = -1
        self._reload_at = 0
        self._refreshing = asyncio.Lock()

    async def refresh(self, store: Store, *, now: int) -> None:
        """Take in what any node revoked since the last call. Raises StoreUnavailable."""
        async with self._refreshing:  # an answer that is older must not be taken in after a newer one
            await self._refresh(store, now)

    async def be_current(self, store: Store, *, now: int) -> None:
        """Refresh where that is late, once for all who wait for it. Raises StoreUnavailable."""
        async with self._refreshing:
            if self.is_stale(now):
                await self._refresh(store, now)

    async def _refresh(self, store: Store, now: int) -> None:
        if now >= self._reload_at:
            self._sequence, revoked = await store.revocations_since(0)
            # What this node revoked while the store answered is perhaps not in the answer.
            self._ids = {*revoked, *self._added}
            self._added = set()
            self._reload_at = now + _RELOAD_SECONDS
        else:
            self._sequence, revoked = await store.revocations_since(self._sequence)
            self._ids.update(revoked)
        self._read_at = now

    def is_stale(self, now: int) -> bool:
        """Whether the last refresh began in an earlier second: nobody should rely on is_revoked() any more."""
        return now > self._read_at

    def add(self, id: str) -> None:
        """Revoke on this node at once; the store has it already."""
        self._ids.add(id)
        self._added.add(id)

    def is_revoked(self, token_id: str, grant_id: str | None) -> bool:
        """Whether the token or its grant was revoked."""
        return token_id in self._ids or (grant_id is not None and grant_id in self._ids)

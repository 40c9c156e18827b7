"""The place of the one process that delivers a feed: renewed every few seconds, and lost after half a minute without.

No clock on a wall decides who has it, so none that is set, goes wrong at one of several nodes or differs from that of
another gives it away or keeps it. What the store has of a place is a mark that the holder changes with each renewal, and
takes away when the round is done. Whoever finds the same mark for half a minute by a clock of its own that is never set
knows that nobody renewed it, and puts its own mark there by comparison: of several one is first. The mark is a time only
so that it differs from those before; nobody compares it with a clock, and housekeeping leaves places alone.

Who cannot renew it stops before the half minute is over: from then on another may be at work. A process that stood still
for longer, and comes back, finds that its place is gone with its next renewal, and that the feed's places in the log were
moved before it delivers anything more (`feed.py`). What was on its way when it stopped is delivered twice and never lost.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from authz.clock import Clock
from authz.storage.claims import Namespace
from authz.storage.store import Store, StoreUnavailable

LEASE_SECONDS = 30
RENEWED_AFTER_SECONDS = 7.5
_PATIENCE_SECONDS = 2.0  # for the store, at each renewal
_FREE = 0  # the mark of a place that was given back: no claim ends then
_log = logging.getLogger("securus.audit")


class Place:
    """The place of one feed, as one process sees it."""

    def __init__(
        self,
        store: Store,
        name: str,
        clock: Clock,
        *,
        renewed_after_seconds: float = RENEWED_AFTER_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._name = name
        self._key = name.encode()
        self._clock = clock
        self._renewed_after_seconds = renewed_after_seconds
        self._monotonic = monotonic
        self._seen: int | None = None  # the mark of another, and since when it is the same
        self._seen_since = 0.0

    async def while_held(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work in this place, unless another process has it; ended where the place is lost.

        Raises what the work raises, and StoreUnavailable where the place cannot be asked for.
        """
        asked_at = self._monotonic()
        mark = await self._taken()
        if mark is None:
            return
        working = asyncio.ensure_future(work())
        try:
            while not (await asyncio.wait({working}, timeout=self._renewed_after_seconds))[0]:
                now = self._monotonic()
                ends = self._mark(after=mark)
                is_held = await self._renewed(mark, ends)
                if is_held:
                    mark, asked_at = ends, now
                elif is_held is False or self._may_end(asked_at):
                    _log.warning("an audit feed is left to another process", extra={"detail": self._name})
                    break
            else:
                await working
        finally:
            if not working.done():
                working.cancel()
                await asyncio.wait({working})
            with suppress(StoreUnavailable):
                await self._store.renew(Namespace.AUDIT_FEED, self._key, held_until=mark, until=_FREE)

    async def _taken(self) -> int | None:
        """Our mark, where the place was free or nobody renews it any more; None where another has it."""
        mine = self._mark(after=_FREE)
        if await self._store.claim(Namespace.AUDIT_FEED, self._key, until=mine, now=_FREE):
            self._seen = None
            return mine
        found = await self._store.claimed_until(Namespace.AUDIT_FEED, self._key)
        now = self._monotonic()
        if found is None or found != self._seen:
            self._seen, self._seen_since = found, now
            return None
        if now - self._seen_since < LEASE_SECONDS:
            return None
        self._seen = None
        mine = self._mark(after=found)
        is_taken = await self._store.renew(Namespace.AUDIT_FEED, self._key, held_until=found, until=mine)
        return mine if is_taken else None

    def _mark(self, *, after: int) -> int:
        """A mark that was not there before, though the clock was set back."""
        return max(self._clock() + LEASE_SECONDS, after + 1)

    def _may_end(self, asked_at: float) -> bool:
        """Whether another may have the place before the next renewal is answered."""
        left = asked_at + LEASE_SECONDS - self._monotonic()
        return left <= self._renewed_after_seconds + _PATIENCE_SECONDS

    async def _renewed(self, mark: int, ends: int) -> bool | None:
        """Whether the place is still ours, and has the new mark; None where nobody can say."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await self._store.renew(Namespace.AUDIT_FEED, self._key, held_until=mark, until=ends)
        except (StoreUnavailable, TimeoutError):
            return None

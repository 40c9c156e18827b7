"""Moments in which nobody waits for an answer: when work beside the requests does its next piece.

A request takes several turns of the loop: it is read, its proof is claimed, the store answers, the record is committed.
Work that does a piece in each turn makes such a request wait for as many of them. So a piece waits until no request is
being answered. Where no such moment comes within a few milliseconds it is done all the same, one piece of all work
together: a request waits for one of them, and records are indexed and signed under any load.
"""

import asyncio
from collections.abc import Awaitable, Callable

Moment = Callable[[], Awaitable[None]]
"""Waits until a piece of work may be done."""

_LOOKS = 4
_BETWEEN_LOOKS_SECONDS = 0.001


async def any_moment() -> None:
    """The next turn of the loop: for work that nobody shares the loop with, or that is behind."""
    await asyncio.sleep(0)


class Quiet:
    """Knows when a process is quiet. inflight says how many requests are being answered."""

    def __init__(self, inflight: Callable[[], int]) -> None:
        self._inflight = inflight
        self._next = asyncio.Lock()

    async def moment(self) -> None:
        """Wait until no request is being answered and no other work waits for it, for some milliseconds at most."""
        async with self._next:
            # What arrived during the last piece is read in the first turn, and begins to be answered in the second.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for _ in range(_LOOKS):
                if not self._inflight():
                    return
                await asyncio.sleep(_BETWEEN_LOOKS_SECONDS)

"""Work on consents in turns of about a millisecond: who has very many, or very long ones, keeps nobody else waiting."""

import asyncio

from gateway.consents.asking import Found, Steps
from gateway.consents.given import Given

_STEPS = 400  # pairs of provisions that are compared in one turn
_ASKED = 100  # provisions that are asked


class Turns:
    """Gives others their turn whenever enough was done."""

    def __init__(self) -> None:
        self._done = 0.0

    async def spend(self, share: float) -> None:
        """Note that so much of a turn was used; at the end of one others have theirs."""
        self._done += share
        if self._done >= 1:
            self._done = 0.0
            await asyncio.sleep(0)

    async def compile(self, given: Given) -> None:
        """Find out all that a consent is asked for again and again."""
        for _ in given.compiling():
            await self.spend(len(given.provisions) / _STEPS)

    async def take(self, steps: Steps[Found]) -> Found:
        """What steps find, each of which says as how many provisions it counts."""
        try:
            while True:
                await self.spend(next(steps) / _ASKED)
        except StopIteration as end:
            found: Found = end.value
            return found

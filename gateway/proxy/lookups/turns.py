"""Work on consents in turns of about a millisecond: who has very many, or very long ones, keeps nobody else waiting."""

import asyncio
from collections.abc import Collection, Iterable
from itertools import product

from gateway.consents.consent import ConsentQuestion, ConsentReading
from gateway.consents.given import Given

_STEPS = 400  # pairs of provisions that are compared in one turn
_LEFT = 150  # provisions that are asked whether they may speak of a caller


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

    async def leave(
        self,
        given: Iterable[Given],
        questions: Collection[ConsentQuestion],
        now: int,
        reading: ConsentReading,
    ) -> None:
        """Find out what is left of consents for those who are about to ask, so that they are asked at once."""
        for each, question in product(given, questions):
            if question.scope in each.scopes and each.is_active:
                each.left(question, now, reading)
                await self.spend((1 + len(each.provisions)) / _LEFT)

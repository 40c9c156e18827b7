"""Answers about many things, asked for together and kept for a while: each is asked once for all who wait for it."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from typing import Generic, TypeVar

from authz.clock import Clock

_MAX_KEPT = 10_000
Value = TypeVar("Value")


class Kept(Generic[Value]):
    """Answers by name.

    ask      what gives the answers about some names, None for all of them where they could not be had; raises nothing
    at_once  names that one question takes
    keep     seconds that an answer is good
    count    is told of each answer that was kept
    """

    def __init__(
        self,
        ask: Callable[[list[str]], Awaitable[dict[str, Value] | None]],
        clock: Clock,
        *,
        at_once: int,
        keep: float,
        count: Callable[[str], None],
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._at_once = at_once
        self._keep = keep
        self._count = count
        self._kept: OrderedDict[str, tuple[Value, int]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[dict[str, Value]]] = {}

    async def of(self, names: Collection[str]) -> dict[str, Value]:
        """The answers about these names; those that could not be had are not among them. Raises nothing."""
        found: dict[str, Value] = {}
        tasks: set[asyncio.Task[dict[str, Value]]] = set()
        new: list[str] = []
        for name in names:
            kept = self._kept.get(name)
            if kept is not None and self._clock() - kept[1] < self._keep:
                self._kept.move_to_end(name)
                self._count("kept")
                found[name] = kept[0]
            elif name in self._asking:
                tasks.add(self._asking[name])
            else:
                new.append(name)
        for start in range(0, len(new), self._at_once):
            tasks.add(self._begun(new[start : start + self._at_once]))
        for task in tasks:
            # A task of its own: who asked first may go away, the others wait on.
            found |= await asyncio.shield(task)
        return {name: found[name] for name in names if name in found}

    def _begun(self, names: list[str]) -> "asyncio.Task[dict[str, Value]]":
        task = asyncio.create_task(self._asked(names))
        for name in names:
            self._asking[name] = task

        def done(_: object) -> None:
            for name in names:
                self._asking.pop(name, None)

        task.add_done_callback(done)
        return task

    async def _asked(self, names: list[str]) -> dict[str, Value]:
        began = self._clock()
        found = await self._ask(names)
        self._count("unavailable" if found is None else "asked")
        for name, value in (found or {}).items():
            self._kept.pop(name, None)
            self._kept[name] = (value, began)
        while len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)
        return found or {}

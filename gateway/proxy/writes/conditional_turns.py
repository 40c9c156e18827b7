"""Conditional writes by the same criteria take turns, on all nodes: what the first one makes, the second one finds.

A store is never asked to write conditionally, so nothing at it keeps two callers apart who look for the same at the same
moment, find nothing, and create it twice. Here whoever looks has the turn of its search from before the search to the
answer of the write. The turn is that of the search as it goes to the store, narrowed to what this caller may find: who may
not find the same waits for nobody, and nobody learns from waiting that a stranger looks for the same.

A turn is a claim in the shared store. Who ends without giving it back, since it was killed or its caller has gone while the
store was at work, has it until the store must have answered.
"""

import asyncio
from contextlib import suppress
from hashlib import sha256

from authz.clock import Clock
from authz.storage.claims import Namespace
from authz.storage.store import Store, StoreUnavailable
from gateway.fhir.outcome import FhirError, Reason
from gateway.settings import Upstream

_LOOKS_EVERY_SECONDS = 0.05
_MOST_LOOKS = 100
_ENDED = 0
_MARGIN_SECONDS = 30  # clocks of nodes, and what comes before and after the store's answers


class Turn:
    """The turn of one search."""

    def __init__(self, store: Store, key: bytes, until: int) -> None:
        self._store = store
        self._key = key
        self._until = until

    async def end(self) -> None:
        """Let others look, unless this request is broken off: then the store may still be at work.

        Where our own store is away, too, others wait until the turn ends by itself.
        """
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            return
        with suppress(StoreUnavailable):
            namespace = Namespace.CONDITIONAL_WRITE
            await self._store.renew(namespace, self._key, held_until=self._until, until=_ENDED)


class ConditionalTurns:
    """The turns at one store."""

    def __init__(self, store: Store, upstream: Upstream, clock: Clock) -> None:
        self._store = store
        self._name = upstream.name
        self._clock = clock
        self._seconds = int(2 * (upstream.connect_timeout + upstream.answer_timeout)) + _MARGIN_SECONDS

    async def take(self, search: str) -> Turn:
        """The turn of a search, as it goes to the store. Raises FhirError(VERSION_CONFLICT), StoreUnavailable."""
        key = sha256(f"{self._name}\n{search}".encode()).digest()
        for _ in range(_MOST_LOOKS):
            now = self._clock()
            until = now + self._seconds
            if await self._store.claim(Namespace.CONDITIONAL_WRITE, key, until=until, now=now):
                return Turn(self._store, key, until)
            await asyncio.sleep(_LOOKS_EVERY_SECONDS)
        raise FhirError(Reason.VERSION_CONFLICT, "another write by the same criteria is under way: ask again")

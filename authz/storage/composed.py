"""A store of two: replay claims and rates in one place, everything else in another."""

from collections.abc import Sequence
from typing import Any, Protocol

from authz.storage.claims import Namespace, SingleUse, Then
from authz.storage.effects import RateLimit
from authz.storage.replay import REPLAY, one_after_the_other
from authz.storage.store import Store


class Replay(Protocol):
    """What is kept apart. Every method means what it means at Store."""

    async def claim(self, namespace: str, key: bytes, *, until: int, now: int) -> bool: ...
    async def spend(self, limits: Sequence[RateLimit], *, now: int) -> int: ...
    async def count(self, key: str, *, window_seconds: int, now: int, by: int = 1) -> int: ...
    async def check(self) -> None: ...
    async def close(self) -> None: ...


class _Composed:
    """Both. What is not here is the other store's, release() too: it is for claims of a place, and none is a replay."""

    def __init__(self, store: Store, replay: Replay) -> None:
        self._store = store
        self._replay = replay
        self.spend = replay.spend
        self.count = replay.count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def claim(self, namespace: Namespace, key: bytes, *, until: int, now: int) -> bool:
        """True for the first caller that names this key before until."""
        if namespace in REPLAY:
            return await self._replay.claim(namespace, key, until=until, now=now)
        return await self._store.claim(namespace, key, until=until, now=now)

    async def claim_in_order(self, uses: Sequence[SingleUse], *, now: int, then: Then | None = None) -> int:
        """Claim each, and stop at the first that was claimed before."""
        return await one_after_the_other(self, self._store, uses, now=now, then=then)

    async def check(self) -> None:
        """Raise StoreUnavailable unless both can be used."""
        await self._store.check()
        await self._replay.check()

    async def close(self) -> None:
        """Close both."""
        try:
            await self._replay.close()
        finally:
            await self._store.close()


def with_replay(store: Store, replay: Replay) -> Store:
    """The store whose replay claims and rates are those of replay. It closes both."""
    composed: Any = _Composed(store, replay)  # by __getattr__ it has every method of store
    whole: Store = composed
    return whole

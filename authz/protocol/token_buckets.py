"""Token buckets: who may do something how often, with a bound on what is remembered.

A bucket holds so many tokens, gets new ones at an even rate, and each use takes one. Of each only the time is kept at
which it will be full again (the generic cell rate algorithm, ITU-T I.371): a full bucket is like one that nobody
knows, so it is forgotten without loss. One that is not full is never forgotten: while the table is full of those, all
further keys share one bucket, from which each goes on when it gets one of its own. Who fills the table with keys thus
gets less than before, never more.
"""

from collections.abc import Hashable
from heapq import heappop, heappush
from itertools import count

_FORGET_AT_ONCE = 2  # for each new key, so that the table shrinks while it is used


class TokenBuckets:
    """Buckets of one size, by key. Times are seconds of one clock that never goes back."""

    def __init__(self, *, size: int, per_second: float, most: int) -> None:
        """size is how many uses are given at once, most how many keys are remembered."""
        self._period = 1 / per_second
        self._longest = size / per_second  # from empty to full
        self._most = most
        self._full_at: dict[Hashable, float] = {}
        self._by_time: list[tuple[float, int, Hashable]] = []  # each key once; its time may have moved on
        self._order = count()
        self._others_full_at = 0.0

    def __len__(self) -> int:
        """How many buckets are remembered."""
        return len(self._full_at)

    def wait(self, key: Hashable, *, now: float) -> float:
        """The seconds until this key has a token: 0 when it has one. Takes none."""
        full_at = self._full_at.get(key)
        if full_at is None:
            full_at = self._others_full_at
        wait = max(full_at, now) + self._period - self._longest - now
        return wait if wait > 1e-9 else 0.0  # the rounding of times must not cost a token

    def take(self, key: Hashable, *, now: float) -> float:
        """Take a token: 0. Without one nothing is taken: the seconds until there is one."""
        wait = self.wait(key, now=now)
        if wait:
            return wait
        full_at = max(self._full_at.get(key, self._others_full_at), now) + self._period
        if key in self._full_at:
            self._full_at[key] = full_at
        elif self._is_crowded(now):
            self._others_full_at = full_at
        else:
            self._full_at[key] = full_at
            heappush(self._by_time, (full_at, next(self._order), key))
        return 0.0

    def _is_crowded(self, now: float) -> bool:
        """Whether there is no place for a new key. Forgets what is full."""
        for _ in range(_FORGET_AT_ONCE):
            self._forget_one(now)
        return len(self._full_at) >= self._most and not self._forget_one(now)

    def _forget_one(self, now: float) -> bool:
        """Forget a bucket that is full; False when there is none."""
        while self._by_time and self._by_time[0][0] <= now:
            _, order, key = heappop(self._by_time)
            full_at = self._full_at[key]
            if full_at <= now:
                del self._full_at[key]
                return True
            heappush(self._by_time, (full_at, order, key))  # it was used since: its time is later
        return False

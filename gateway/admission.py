"""Who may ask how often, and how much at once: by address before anything is read, by client and person once known.

A limit is held by this process, in token buckets, or by all that share a store, in the store's rates. Each is off
unless the configuration has it. What is refused spends nothing.
"""

import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from hashlib import sha256

from authz.clock import Clock
from authz.networks import network_of
from authz.protocol.request import Answer, HttpRequest
from authz.protocol.token_buckets import TokenBuckets
from authz.protocol.tokens import Caller
from authz.storage.effects import EffectsStore, RateLimit
from gateway.settings import Limits, RequestRate

_MOST_BUCKETS = 50_000  # for each limit, about 250 bytes each
_SHARED_KEY = "request limit\0{}\0{}"
_TOKEN_PATHS = frozenset({"/token", "/par", "/revoke", "/introspect"})


class Limited(Exception):
    """A limit is used up. seconds is how long to wait, limit its name in the configuration."""

    def __init__(self, limit: str, seconds: float) -> None:
        self.limit = limit
        self.seconds = max(math.ceil(seconds), 1)
        super().__init__(f"the limit '{limit}' is used up")

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Retry-After, in whole seconds (RFC 9110 10.2.3)."""
        return (("Retry-After", str(self.seconds)),)


class Held:
    """Places in limits of what is done at once, to be given back exactly once; however a request ends."""

    def __init__(self, used: Counter[tuple[str, str]], keys: list[tuple[str, str]]) -> None:
        self._used = used
        self._keys = keys

    def release(self) -> None:
        """Give them back."""
        keys, self._keys = self._keys, []
        for key in keys:
            self._used[key] -= 1
            if not self._used[key]:
                del self._used[key]

    def until_sent(self, answer: Answer) -> Answer:
        """The answer, with which the places are given back: at once, or when the last of a stream is out."""
        if isinstance(answer.body, bytes) or not self._keys:
            self.release()
            return answer
        return replace(answer, body=_HeldBody(answer.body, self))


class _HeldBody:
    """A streamed body that gives places back at its end."""

    def __init__(self, body: AsyncIterator[bytes], held: Held) -> None:
        self._body = body
        self._held = held

    def __aiter__(self) -> "_HeldBody":
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._body)
        except BaseException:
            self._held.release()
            raise

    async def aclose(self) -> None:
        """Nobody takes the rest."""
        self._held.release()
        close = getattr(self._body, "aclose", None)
        if close is not None:
            await close()

    def __del__(self) -> None:
        self._held.release()  # of a body that nobody began to take


class Admission:
    """The limits of one process. counted is told the name of each limit that refused something."""

    def __init__(
        self,
        limits: Limits,
        store: EffectsStore,
        *,
        counted: Callable[[str], None],
        clock: Clock,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rates = limits.rates
        self._at_once = limits.at_once
        self._store = store
        self._counted = counted
        self._clock = clock
        self._steady = steady
        self._used = Counter[tuple[str, str]]()
        self._buckets = {
            name: TokenBuckets(size=rate.burst, per_second=rate.uses / rate.seconds, most=_MOST_BUCKETS)
            for name, rate in limits.rates.items()
            if not rate.shared
        }

    async def at_door(self, request: HttpRequest) -> None:
        """Before anything of a request is looked at but its path. Raises Limited, StoreUnavailable."""
        if not self.limits_doors:
            return
        address = network_of(request.peer)
        keys = {"address": address}
        if request.path in _TOKEN_PATHS:
            keys["token"] = address
        elif request.path == "/register" or request.path.startswith("/register/"):
            keys["register"] = address
        elif request.path.startswith("/admin/"):
            keys["admin"] = address
        await self._spend(keys)

    @property
    def limits_doors(self) -> bool:
        """Whether at_door() may refuse somebody."""
        return bool(self._rates)

    @property
    def limits_callers(self) -> bool:
        """Whether of_caller() may refuse somebody."""
        return bool(self._rates or self._at_once)

    async def of_client(self, client_id: str) -> int:
        """A client that authenticated at the authorization server: 0, or how many seconds it must wait.

        Raises StoreUnavailable.
        """
        if "client" not in self._rates:
            return 0
        try:
            await self._spend({"client": client_id})
        except Limited as limited:
            return limited.seconds
        return 0

    async def of_caller(self, caller: Caller, route: str) -> Held:
        """A caller with a good token at a mount; what it holds from now on. Raises Limited, StoreUnavailable."""
        if not self.limits_callers:
            return Held(self._used, [])
        who = {"client": caller.client_id, "user": _person(caller)}
        held = self._hold(who)
        try:
            await self._spend({**who, "route": route})
        except BaseException:
            held.release()
            raise
        return held

    def _hold(self, keys: Mapping[str, str]) -> Held:
        wanted = [(name, key) for name, key in keys.items() if name in self._at_once]
        for name, key in wanted:
            if self._used[name, key] >= self._at_once[name]:
                limit = f"at_once.{name}"
                self._counted(limit)
                raise Limited(limit, 1)
        self._used.update(wanted)
        return Held(self._used, wanted)

    async def _spend(self, keys: Mapping[str, str]) -> None:
        """One use of each limit that there is, of those of this process all or none."""
        now = self._steady()
        own = [(name, key, self._buckets[name]) for name, key in keys.items() if name in self._buckets]
        for name, key, buckets in own:
            wait = buckets.wait(key, now=now)
            if wait:
                self._refuse(name, wait)
        for _, key, buckets in own:
            buckets.take(key, now=now)
        for name, key in keys.items():
            rate = self._rates.get(name)
            if rate is not None and rate.shared:
                wait = await self._store.spend([_shared(name, key, rate)], now=self._clock())
                if wait:
                    self._refuse(name, wait)

    def _refuse(self, name: str, wait: float) -> None:
        self._counted(f"rates.{name}")
        raise Limited(f"rates.{name}", wait)


def _shared(name: str, key: str, rate: RequestRate) -> RateLimit:
    digest = sha256(_SHARED_KEY.format(name, key).encode()).digest()
    return RateLimit(digest, rate.uses, rate.seconds)


def _person(caller: Caller) -> str:
    return f"{caller.issuer}\n{caller.subject}"

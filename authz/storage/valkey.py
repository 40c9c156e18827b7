"""Replay claims and rates in Valkey or Redis, for nodes that share more load than their database should write.

A claim is one SET NX PX. The server ends it by its own clock, counted from the moment of the claim and half a minute
longer, so that clocks need not agree by more than that; where the key is still there and our clock says that it has
ended, one script takes it over. Claims of one turn of the event loop go in one pipeline. Nothing is sent twice: whether
a claim whose answer was lost was made is not known, so it counts as not won.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionFailed
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as AnswerLate

from authz.outgoing_tls import OF_NEWER_PYTHONS
from authz.storage.effects import RateLimit
from authz.storage.store import StoreUnavailable
from authz.storage.valkey_settings import ValkeySettings

_AT_ONCE = 200
_MOST_WAITING = 20_000
_LEAST_MILLISECONDS = 1000
_CLOCKS_DIFFER_SECONDS = 30
_SAFE_POLICY = "noeviction"
# RuntimeError is what uvloop says when somebody writes to a connection that was reset.
_FAILURES = (RedisError, OSError, TimeoutError, RuntimeError)
_log = logging.getLogger("securus.storage")
T = TypeVar("T")

_TAKE_OVER = """
local held = redis.call('GET', KEYS[1])
if held and tonumber(held) > tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return 1
"""
# KEYS: the limits; ARGV: now, then of each limit how many uses and in how many seconds.
_SPEND = """
local now, wait = tonumber(ARGV[1]), 0
for n, key in ipairs(KEYS) do
  local row = redis.call('HMGET', key, 'used', 'ends')
  if row[1] and tonumber(row[2]) > now and tonumber(row[1]) >= tonumber(ARGV[2 * n]) then
    wait = math.max(wait, tonumber(row[2]) - now)
  end
end
if wait > 0 then return wait end
for n, key in ipairs(KEYS) do
  local ends = redis.call('HGET', key, 'ends')
  if ends and tonumber(ends) > now then
    redis.call('HINCRBY', key, 'used', 1)
  else
    local seconds = tonumber(ARGV[2 * n + 1])
    redis.call('HSET', key, 'used', 1, 'ends', now + seconds)
    redis.call('PEXPIRE', key, seconds * 1000)
  end
end
return 0
"""
_COUNT = """
local value = redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return value
"""


@dataclass(frozen=True, slots=True)
class _Claim:
    key: bytes
    until: int
    now: int
    won: asyncio.Future[bool]

    @property
    def milliseconds(self) -> int:
        """How long the server keeps it: by so much longer that a claim of a node whose clock is ahead does not go while
        others would still take what was claimed. When it has ended is told by its value."""
        return (self.until - self.now + _CLOCKS_DIFFER_SECONDS) * 1000


class Valkey:
    """The part of a store that is kept in Valkey. Made by open_valkey(); every method raises StoreUnavailable."""

    def __init__(self, client: Redis, prefix: str) -> None:
        self._client = client
        self._prefix = prefix.encode()
        self._waiting: list[_Claim] = []
        self._sending: set[asyncio.Task[None]] = set()
        self._in_hand = 0
        self._is_closed = False
        self._take_over = client.register_script(_TAKE_OVER)
        self._spend = client.register_script(_SPEND)
        self._count = client.register_script(_COUNT)

    async def claim(self, namespace: str, key: bytes, *, until: int, now: int) -> bool:
        """True for the first that names this key before until, False for every other."""
        if until <= now:
            return False
        if self._in_hand >= _MOST_WAITING:
            raise StoreUnavailable(f"{_MOST_WAITING} claims wait for Valkey")
        loop = asyncio.get_running_loop()
        claim = _Claim(self._key(b"claim", namespace.encode() + b":" + key), until, now, loop.create_future())
        self._waiting.append(claim)
        self._in_hand += 1
        if len(self._waiting) == 1:
            # In the next turn: what else this turn has to claim comes along.
            loop.call_soon(self._send)
        return await claim.won

    async def spend(self, limits: Sequence[RateLimit], *, now: int) -> int:
        """Spend one use of every limit: 0; or nothing, and the seconds until the one that is used up opens again."""
        if not limits:
            return 0
        arguments: list[int] = [now]
        for limit in limits:
            arguments += [limit.at_most, limit.seconds]
        keys = [self._key(b"rate", limit.key) for limit in limits]
        return int(await self._asked(lambda: self._spend(keys=keys, args=arguments)))

    async def count(self, key: str, *, window_seconds: int, now: int, by: int = 1) -> int:
        """Add to the counter of key in the window that now is in and return the new value."""
        name = self._key(b"count", f"{window_seconds}:{now // window_seconds}:{key}".encode())
        return int(await self._asked(lambda: self._count(keys=[name], args=[by, window_seconds * 1000])))

    async def check(self) -> None:
        """Raise StoreUnavailable unless it answers and can be written."""
        await self._asked(lambda: self._client.set(self._key(b"check", b""), b"1", px=_LEAST_MILLISECONDS))

    async def check_settings(self) -> None:
        """Raise StoreUnavailable when the server may throw keys away, or is one that only reads."""
        said: dict[str, Any] = await self._asked(lambda: self._client.info("memory"))
        policy = said.get("maxmemory_policy", _SAFE_POLICY)
        if said.get("maxmemory", 0) and policy != _SAFE_POLICY:
            raise StoreUnavailable(
                f"Valkey has maxmemory-policy {policy}: it may forget that a proof was used, set it to {_SAFE_POLICY}"
            )
        kept: dict[str, Any] = await self._asked(lambda: self._client.info("persistence"))
        if not kept.get("aof_enabled"):
            cause = (
                "appendonly is off: after a restart of it, used proofs are taken again until they are too old"
            )
            _log.warning("Valkey keeps no claim on its disk", extra={"cause": cause})
        await self.check()

    async def close(self) -> None:
        """Let go of the connections."""
        if self._sending:
            await asyncio.wait(self._sending)
        self._is_closed = True
        await self._client.aclose()

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What the server answers. Raises StoreUnavailable."""
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        try:
            return await ask()
        except _FAILURES as error:
            if isinstance(error, ConnectionFailed | AnswerLate | OSError | TimeoutError | RuntimeError):
                # The others that are idle are as dead as this one: each would cost a request to find out.
                with suppress(*_FAILURES):
                    await self._client.connection_pool.disconnect(inuse_connections=False)
            raise StoreUnavailable(f"Valkey does not answer as it should: {error}") from error

    def _key(self, kind: bytes, key: bytes) -> bytes:
        return b":".join((self._prefix, kind, key))

    def _send(self) -> None:
        claims, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
        loop = asyncio.get_running_loop()
        if self._waiting:
            loop.call_soon(self._send)
        task = loop.create_task(self._make(claims))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _make(self, claims: list[_Claim]) -> None:
        try:
            await self._try(claims)
        finally:
            for claim in claims:
                if not claim.won.done():  # whatever went wrong, nobody waits for ever
                    self._tell(claim, StoreUnavailable("Valkey was asked, and failed"))

    async def _try(self, claims: list[_Claim]) -> None:
        try:
            answers = await self._asked(lambda: self._set(claims))
        except StoreUnavailable as error:
            answers = [error for _ in claims]
        taken = []
        for claim, answer in zip(claims, answers, strict=True):
            if isinstance(answer, Exception) or answer:
                self._tell(claim, answer if isinstance(answer, Exception) else True)
            else:
                taken.append(claim)
        if taken:
            over = await asyncio.gather(*map(self._is_over, taken), return_exceptions=True)
            for claim, result in zip(taken, over, strict=True):
                self._tell(claim, result)

    def _tell(self, claim: _Claim, result: bool | BaseException) -> None:
        self._in_hand -= 1
        if claim.won.done():
            return  # whoever went away has made its claim all the same
        if isinstance(result, BaseException):
            # An error of each one's own: the traceback is written into it.
            claim.won.set_exception(StoreUnavailable(f"the claim cannot be made: {result}"))
        else:
            claim.won.set_result(result)

    async def _set(self, claims: list[_Claim]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for claim in claims:
            pipeline.set(claim.key, claim.until, nx=True, px=claim.milliseconds)
        return await pipeline.execute(raise_on_error=False)

    async def _is_over(self, claim: _Claim) -> bool:
        """Whether the claim that is there has ended by our clock; it is ours from then on."""
        arguments = [claim.until, claim.now, claim.milliseconds]
        return bool(await self._asked(lambda: self._take_over(keys=[claim.key], args=arguments)))


async def open_valkey(settings: ValkeySettings) -> Valkey:
    """Connections to the server of these settings. Raises StoreUnavailable when it is away or may forget claims."""
    parts = urlsplit(settings.url)
    more: dict[str, Any] = {}
    if settings.has_tls:
        more = {
            "ssl_ca_data": settings.authorities,
            "ssl_min_version": ssl.TLSVersion.TLSv1_2,
            "ssl_exclude_verify_flags": OF_NEWER_PYTHONS,
        }
    pool = BlockingConnectionPool(
        connection_class=SSLConnection if settings.has_tls else Connection,
        host=parts.hostname,
        port=parts.port or 6379,
        db=int(parts.path.strip("/") or 0),
        username=settings.username,
        password=settings.password,
        max_connections=settings.connections,
        timeout=settings.timeout_seconds,
        socket_timeout=settings.timeout_seconds,
        socket_connect_timeout=settings.timeout_seconds,
        retry=Retry(NoBackoff(), 0),
        **more,
    )
    valkey = Valkey(Redis.from_pool(pool), settings.prefix)
    try:
        await valkey.check_settings()
    except BaseException:
        await valkey.close()
        raise
    return valkey

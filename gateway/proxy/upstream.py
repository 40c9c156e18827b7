"""The store behind a mount: what the passage sends to it and has of it, with limits and timeouts.

The bytes are the matter of gateway.wire: a pool of connections of our own, and one strict reading of answers.
"""

import asyncio
import logging
import ssl
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType

from yarl import URL

from authz.outgoing_tls import client_context
from authz.protocol.tokens import Caller
from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy.coded_bodies import CodingError, gunzip
from gateway.settings import Upstream
from gateway.wire.upstream_addresses import Addresses
from gateway.wire.upstream_connection import UpstreamConnection
from gateway.wire.upstream_exchange import PIECE_BYTES, Exchange, Stale, TookTooLong, Unreachable
from gateway.wire.upstream_head import Head, InvalidAnswer
from gateway.wire.upstream_pool import UpstreamPool
from gateway.wire.upstream_request import UnsendableRequest, request_bytes, send_body

_SAFE = frozenset({"GET", "HEAD"})
_TOO_LARGE = "the resource is larger than this gateway judges"
_CODED = frozenset({"gzip", "x-gzip"})
_log = logging.getLogger("securus.upstream")


class UpstreamAnswer:
    """The store's answer: status and headers are here, the body still comes. To be closed.

    A store that compresses though nobody asked is read all the same: gzip is decoded here, and headers say nothing of
    it. Any other coding stays in headers, for the reader to refuse.
    """

    __slots__ = ("_exchange", "_is_gzip", "_length", "_upstream", "headers", "status")

    def __init__(self, exchange: Exchange, head: Head, upstream: Upstream) -> None:
        self._exchange = exchange
        self._length = head.length
        self._upstream = upstream
        self.status = head.status
        said: Mapping[str, str] = head.headers
        self._is_gzip = "content-encoding" in said and said["content-encoding"].lower() in _CODED
        if self._is_gzip:
            said = {name: said[name] for name in said if name not in ("content-encoding", "content-length")}
        self.headers = said

    async def __aenter__(self) -> "UpstreamAnswer":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body. Raises FhirError: UPSTREAM_INVALID when it is longer than limit_bytes or breaks off.

        What has come whole is given at once, without a switch of tasks.
        """
        if not self._is_gzip:
            whole = self._exchange.whole()
            if whole is not None:
                if len(whole) > limit_bytes:
                    raise FhirError(Reason.UPSTREAM_INVALID, _TOO_LARGE)
                return whole
            if self._length > limit_bytes:
                raise FhirError(Reason.UPSTREAM_INVALID, _TOO_LARGE)
        parts: list[bytes] = []
        size = 0
        async for chunk in self.stream():
            size += len(chunk)
            if size > limit_bytes:
                raise FhirError(Reason.UPSTREAM_INVALID, _TOO_LARGE)
            parts.append(chunk)
        return b"".join(parts)

    async def stream(self) -> AsyncIterator[bytes]:
        """The body in pieces, decoded, read from the socket only as fast as they are taken."""
        pieces = gunzip(self._chunks(), self._upstream.max_body) if self._is_gzip else self._chunks()
        try:
            async for piece in pieces:
                yield piece
        except CodingError as error:
            _tell(self._upstream, error)
            raise FhirError(Reason.UPSTREAM_INVALID, f"the answer cannot be decoded: {error}") from error

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            try:
                piece = await self._exchange.piece()
            except TookTooLong as error:
                _tell(self._upstream, error)
                raise FhirError(Reason.UPSTREAM_TIMEOUT) from error
            except (InvalidAnswer, Unreachable) as error:
                _tell(self._upstream, error)
                raise FhirError(Reason.UPSTREAM_INVALID, "the answer broke off") from error
            if not piece:
                return
            if len(piece) <= PIECE_BYTES:
                yield piece
                continue
            for start in range(0, len(piece), PIECE_BYTES):
                yield piece[start : start + PIECE_BYTES]

    def close(self) -> None:
        """Let the connection go: one whose answer did not come to its end is broken off."""
        self._exchange.close()

    def __del__(self) -> None:
        # Whoever forgets an answer that nobody can read any more takes no connection with it.
        self._exchange.close()


class UpstreamClient:
    """Sends requests to one store."""

    def __init__(self, upstream: Upstream, observe: Callable[[float], None]) -> None:
        self.upstream = upstream
        self._observe = observe
        base = upstream.base.rstrip("/")
        url = URL(base)
        self._path = URL(base, encoded=True).raw_path.rstrip("/")
        self._host = url.host_port_subcomponent or ""
        self._url = url
        self._pool: UpstreamPool | None = None
        self._now: Callable[[], float] = time.monotonic  # the clock of the loop, once there is one
        self._credentials: dict[str, str] = {}
        if url.user is not None:
            pair = b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
            self._credentials["authorization"] = f"Basic {pair}"

    @property
    def in_use(self) -> int:
        """Connections that have a request, or are being opened for one."""
        return 0 if self._pool is None else self._pool.in_use

    async def open(self) -> None:
        """Make the pool; no connection yet."""
        loop = asyncio.get_running_loop()
        self._now = loop.time
        context = self.tls() if self._url.scheme == "https" else None
        if context is not None:
            context.set_alpn_protocols(["http/1.1"])
        addresses = Addresses(loop, self._url.raw_host or "", self._url.port or 80, context)
        self._pool = UpstreamPool(
            loop, addresses, limit=self.upstream.connections, body_seconds=self.upstream.idle_timeout
        )

    def tls(self) -> ssl.SSLContext:
        """How the store is believed to be who it is."""
        return client_context()

    async def close(self) -> None:
        """Close every connection."""
        if self._pool is not None:
            await self._pool.close()

    async def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> UpstreamAnswer:
        """Send a request; target is relative to the store's base. Redirects are never followed.

        A body that is an iterator is taken only as fast as the store takes it; what it raises is raised here.
        Raises FhirError: UPSTREAM_UNAVAILABLE, UPSTREAM_TIMEOUT, UPSTREAM_INVALID.
        """
        pool = self._pool
        if pool is None:
            raise FhirError(Reason.UPSTREAM_UNAVAILABLE)
        started = time.perf_counter()
        try:
            request = self._written(method, target, headers, body)
            if body is None or isinstance(body, bytes):
                exchange, head = await self._ask(pool, request, method, is_repeatable=body is None)
            else:
                length = int(headers["content-length"]) if "content-length" in headers else None
                exchange, head = await self._ask_with(pool, request, body, length)
        except _FAILURES as error:
            raise _failure(self.upstream, error) from error
        finally:
            self._observe(time.perf_counter() - started)
        return UpstreamAnswer(exchange, head, self.upstream)

    def reading(self, type_: str) -> "UpstreamClient | None":
        """Who sends a read of this type just as it was written; None where only send() knows what becomes of it."""
        return self if type(self) is UpstreamClient else None

    def written(self, target: str, headers: Mapping[str, str]) -> bytes:
        """A GET as send() would write it, for send_written(). Raises UnsendableRequest."""
        return b"".join(self._written("GET", target, headers, None))

    async def send_written(self, request: bytes) -> UpstreamAnswer:
        """Send a GET that was written before. Raises as send() does."""
        pool = self._pool
        if pool is None:
            raise FhirError(Reason.UPSTREAM_UNAVAILABLE)
        started = time.perf_counter()
        try:
            exchange, head = await self._ask(pool, (request,), "GET", is_repeatable=True)
        except _FAILURES as error:
            raise _failure(self.upstream, error) from error
        finally:
            self._observe(time.perf_counter() - started)
        return UpstreamAnswer(exchange, head, self.upstream)

    def _written(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes] | None
    ) -> tuple[bytes, ...]:
        path = f"{self._path}/{target.partition('#')[0]}" if target else self._path or "/"
        if self._credentials:
            headers = {**self._credentials, **headers}
        return request_bytes(method, path, self._host, headers, body)

    async def write(
        self,
        caller: Caller,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None,
    ) -> UpstreamAnswer:
        """Send what this caller writes. A store over there does not hear who it is. Raises as send() does."""
        return await self.send(method, target, headers, body)

    async def _ask(
        self, pool: UpstreamPool, request: tuple[bytes, ...], method: str, *, is_repeatable: bool
    ) -> tuple[Exchange, Head]:
        deadline = self._deadline()
        connection = pool.take() or await self._acquire(pool, deadline)
        is_repeatable = is_repeatable and method in _SAFE and connection.is_used
        try:
            return await _answered(connection, request, is_head=method == "HEAD", deadline=deadline)
        except Stale:
            # The store closed a connection that it had kept, as the request went out. RFC 9110 9.2.2: only what
            # changes nothing is sent again, and once.
            if not is_repeatable:
                raise
        connection = await self._acquire(pool, deadline, fresh=True)
        return await _answered(connection, request, is_head=method == "HEAD", deadline=deadline)

    async def _ask_with(
        self, pool: UpstreamPool, request: tuple[bytes, ...], body: AsyncIterator[bytes], length: int | None
    ) -> tuple[Exchange, Head]:
        """Ask with a body that comes in pieces. A refusal may come before its end, and ends it.

        A success is none before all of the body was given: whoever gives it may still find that it must not pass.
        """
        seconds = self.upstream.answer_timeout
        connection = await self._acquire(pool, self._deadline())
        exchange = connection.begin(request, is_head=False, is_whole=False, deadline=self._deadline())
        sending = asyncio.create_task(send_body(connection, body, length=length, seconds=seconds))
        sending.add_done_callback(lambda _: exchange.wake())
        try:
            while True:
                failed = sending.exception() if sending.done() else None
                if failed is not None and not isinstance(failed, Unreachable):
                    raise failed
                head = exchange.head
                if exchange.error is not None:
                    raise exchange.error
                if head is not None and (head.status >= 300 or sending.done()):
                    if failed is not None and head.status < 300:
                        raise failed
                    break
                await exchange.more()
            if not sending.done():
                await _stopped(sending)
                connection.send_no_more()
        except BaseException:
            connection.abort()
            await _stopped(sending)
            raise
        return exchange, head

    async def _acquire(
        self, pool: UpstreamPool, deadline: float, *, fresh: bool = False
    ) -> UpstreamConnection:
        by = min(deadline, self._now() + self.upstream.connect_timeout)
        return await pool.acquire(by, fresh=fresh)

    def _deadline(self) -> float:
        return self._now() + self.upstream.answer_timeout


_FAILURES = (TookTooLong, InvalidAnswer, Unreachable, UnsendableRequest)


def _failure(upstream: Upstream, error: Exception) -> FhirError:
    """What the caller is told of a store that did not answer."""
    if isinstance(error, UnsendableRequest):
        said = {"route": upstream.name, "cause": str(error)}
        _log.error("a request to a store cannot be written", extra=said)
        return FhirError(Reason.INTERNAL)
    _tell(upstream, error)
    if isinstance(error, TookTooLong):
        return FhirError(Reason.UPSTREAM_TIMEOUT)
    if isinstance(error, InvalidAnswer):
        return FhirError(Reason.UPSTREAM_INVALID, "the answer is not HTTP/1.1 in one reading")
    return FhirError(Reason.UPSTREAM_UNAVAILABLE)


def _tell(upstream: Upstream, error: Exception) -> None:
    """Say in the log what no caller is told: at which step the store failed."""
    _log.warning("a store does not answer as it should", extra={"route": upstream.name, "cause": str(error)})


async def _stopped(sending: asyncio.Task[None]) -> None:
    sending.cancel()
    await asyncio.wait([sending])
    if not sending.cancelled():
        sending.exception()  # whoever stops it does not ask for it any more


async def _answered(
    connection: UpstreamConnection, request: tuple[bytes, ...], *, is_head: bool, deadline: float
) -> tuple[Exchange, Head]:
    exchange = connection.begin(request, is_head=is_head, is_whole=True, deadline=deadline)
    try:
        return exchange, await exchange.answered()
    except BaseException:
        exchange.close()
        raise

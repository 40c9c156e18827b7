"""The store behind a mount: a pool of connections with limits and timeouts, and streams in both directions.

This file and gateway.listener are the only ones that know aiohttp's wire side, so that protocols of our own can take
their place without touching the passage between them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType

import aiohttp
from yarl import URL

from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy.coded_bodies import CodingError, gunzip
from gateway.settings import Upstream

_CHUNK = 64 * 1024


class UpstreamAnswer:
    """The store's answer: status and headers are here, the body still comes. To be closed.

    A store that compresses though nobody asked is read all the same: gzip is decoded here, and headers say nothing of
    it. Any other coding stays in headers, for the reader to refuse.
    """

    def __init__(self, response: aiohttp.ClientResponse, max_decoded_bytes: int) -> None:
        self._response = response
        self._max_decoded_bytes = max_decoded_bytes
        self.status = response.status
        said = {name.lower(): value for name, value in response.headers.items()}
        self._is_gzip = said.get("content-encoding", "").strip().lower() in ("gzip", "x-gzip")
        if self._is_gzip:
            said = {name: said[name] for name in said if name not in ("content-encoding", "content-length")}
        self.headers: Mapping[str, str] = said

    async def __aenter__(self) -> "UpstreamAnswer":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body. Raises FhirError: UPSTREAM_INVALID when it is longer than limit_bytes or breaks off."""
        parts: list[bytes] = []
        size = 0
        async for chunk in self.stream():
            size += len(chunk)
            if size > limit_bytes:
                raise FhirError(Reason.UPSTREAM_INVALID, "the resource is larger than this gateway judges")
            parts.append(chunk)
        return b"".join(parts)

    async def stream(self) -> AsyncIterator[bytes]:
        """The body in pieces, decoded, read from the socket only as fast as they are taken."""
        pieces = gunzip(self._chunks(), self._max_decoded_bytes) if self._is_gzip else self._chunks()
        try:
            async for piece in pieces:
                yield piece
        except CodingError as error:
            raise FhirError(Reason.UPSTREAM_INVALID, f"the answer cannot be decoded: {error}") from error

    async def _chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_chunked(_CHUNK):
                yield chunk
        except TimeoutError as error:
            raise FhirError(Reason.UPSTREAM_TIMEOUT) from error
        except (aiohttp.ClientError, OSError) as error:
            raise FhirError(Reason.UPSTREAM_INVALID, "the answer broke off") from error

    def close(self) -> None:
        """Give the connection back when the body was read to its end, else break it off."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class UpstreamClient:
    """Sends requests to one store."""

    def __init__(self, upstream: Upstream, observe: Callable[[float], None]) -> None:
        self.upstream = upstream
        self._observe = observe
        self._base = upstream.base.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool; no connection yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self.upstream.connections, ttl_dns_cache=30, keepalive_timeout=30
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=self.upstream.connect_timeout,
                sock_connect=self.upstream.connect_timeout,
                sock_read=self.upstream.idle_timeout,
            ),
            max_line_size=16 * 1024,
            max_field_size=16 * 1024,
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> UpstreamAnswer:
        """Send a request; target is relative to the store's base. Redirects are never followed.

        A body that is an iterator is taken only as fast as the store takes it; what it raises is raised here.
        Raises FhirError: UPSTREAM_UNAVAILABLE, UPSTREAM_TIMEOUT.
        """
        if self._session is None:
            raise FhirError(Reason.UPSTREAM_UNAVAILABLE)
        url = URL(f"{self._base}/{target}" if target else self._base, encoded=True)
        started = time.perf_counter()
        sending: _Sending | None = None
        data: bytes | _Sending | None = body if body is None or isinstance(body, bytes) else None
        try:
            async with asyncio.timeout(self.upstream.answer_timeout) as limit:
                if body is not None and not isinstance(body, bytes):
                    data = sending = _Sending(body, limit, self.upstream.answer_timeout)
                response = await self._session.request(
                    method, url, headers=headers, data=data, allow_redirects=False
                )
        except TimeoutError as error:
            raise FhirError(Reason.UPSTREAM_TIMEOUT) from error
        except (aiohttp.ClientError, OSError) as error:
            if sending is not None and sending.error is not None:
                raise sending.error from error
            raise FhirError(Reason.UPSTREAM_UNAVAILABLE) from error
        finally:
            self._observe(time.perf_counter() - started)
        return UpstreamAnswer(response, self.upstream.max_body)


class _Sending:
    """A body on its way to the store: each piece that is taken puts off the end of the wait for the answer."""

    def __init__(self, body: AsyncIterator[bytes], limit: asyncio.Timeout, seconds: float) -> None:
        self._body = body
        self._limit = limit
        self._seconds = seconds
        self.error: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        try:
            async for chunk in self._body:
                if not self._limit.expired():
                    self._limit.reschedule(loop.time() + self._seconds)
                yield chunk
        except Exception as error:
            self.error = error
            raise

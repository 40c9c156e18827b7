"""The one outbound way: GET of URLs that strangers chose, and POST of messages to receivers of the configuration.

https with verified certificates; no redirect, proxy, cookie, credential or decompression; 2.5 s and a number of bytes
at most; four at a time. A name is looked up once, each address is checked, and the connection goes to a checked
address, not to the name: an answer of the name server that changes in between (DNS rebinding) changes nothing. Our own
origins and listeners are never fetched from, whatever the allow-list says.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from authz.protocol.addresses import (
    Address,
    AllowList,
    FetchUrl,
    NotFetched,
    check_address,
    inner_address,
    read_url,
)
from authz.protocol.caching import max_age_of

TOTAL_SECONDS = 2.5
_CONNECT_SECONDS = 1.0  # an address that does not answer leaves time for the next one
_AT_ONCE = 4
_MAX_ADDRESSES = 4
_CHUNK_BYTES = 8 * 1024

Resolve = Callable[[str, int], Awaitable[list[Address]]]


class FetchError(Exception):
    """What was asked for could not be had. The text is for the operator, not for callers.

    outcome  'refused', 'unreachable', 'tls', 'slow', 'status', 'type', 'size' or 'malformed'
    """

    def __init__(self, outcome: str, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole body. max_age_seconds is how long its sender calls it fresh, None where it does not say."""

    body: bytes
    max_age_seconds: int | None


class Fetcher:
    """Fetches over the guarded way."""

    def __init__(
        self,
        *,
        allow: AllowList,
        own_origins: Iterable[str],
        own_ports: Iterable[int],
        certificate_authorities: str | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        """own_ports are those of our listeners; certificate_authorities PEM that is trusted beside the system's."""
        self._allow = allow
        self._own = frozenset(_host_and_port(origin) for origin in own_origins)
        self._own_ports = frozenset(own_ports)
        self._resolve = resolve or self._look_up
        self._slots = asyncio.Semaphore(_AT_ONCE)
        # Threads of its own: a name server that does not answer must not hold what others wait for.
        self._lookups = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch-lookup")
        self._context = ssl.create_default_context()
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate_authorities is not None:
            self._context.load_verify_locations(cadata=certificate_authorities)

    async def get(self, url: str, *, media_types: Collection[str], max_bytes: int) -> Fetched:
        """The body at this URL: status 200, of one of media_types, at most max_bytes. Raises FetchError."""
        try:
            async with asyncio.timeout(TOTAL_SECONDS), self._slots:
                asked = read_url(url)
                return await self._from_any(
                    asked, await self._addresses(asked), media_types=media_types, max_bytes=max_bytes
                )
        except NotFetched as error:
            raise FetchError("refused", str(error)) from error
        except TimeoutError as error:
            raise FetchError("slow", f"no whole answer within {TOTAL_SECONDS} s") from error

    async def post(self, url: str, body: bytes, *, media_type: str, authorization: str | None = None) -> None:
        """Send a message to this URL; done when it is answered with 2xx. Raises FetchError."""
        try:
            async with asyncio.timeout(TOTAL_SECONDS), self._slots:
                asked = read_url(url)
                addresses = await self._addresses(asked)
                headers = {"Content-Type": media_type}
                if authorization is not None:
                    headers["Authorization"] = authorization
                await self._to_any(asked, addresses, body, headers)
        except NotFetched as error:
            raise FetchError("refused", str(error)) from error
        except TimeoutError as error:
            raise FetchError("slow", f"no answer within {TOTAL_SECONDS} s") from error

    def close(self) -> None:
        """Look up no more names."""
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def _addresses(self, asked: FetchUrl) -> list[Address]:
        """The addresses of the host that may be connected to, never none. Raises NotFetched, FetchError."""
        if (asked.host, asked.port) in self._own:
            raise NotFetched("the URL is one of this server's own")
        try:
            found = [ip_address(asked.host)]
        except ValueError:
            try:
                found = await self._resolve(asked.host, asked.port)
            except UnicodeError as error:  # a label that is empty or too long never gets to a name server
                raise FetchError("unreachable", f"'{asked.host}' is not a name that has addresses") from error
            except OSError as error:
                raise FetchError("unreachable", f"'{asked.host}' has no address: {error.strerror}") from error
        allowed: list[Address] = []
        refusal = NotFetched(f"'{asked.host}' has no address")
        for address in found:
            try:
                check_address(address, asked.host, self._allow)
                if asked.port in self._own_ports and _is_of_this_host(inner_address(address)):
                    raise NotFetched(f"port {asked.port} of {address} is this server's own")
                allowed.append(address)
            except NotFetched as error:
                refusal = error
        if not allowed:
            raise refusal
        return allowed[:_MAX_ADDRESSES]

    async def _look_up(self, host: str, port: int) -> list[Address]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._lookups, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]

    async def _from_any(
        self, asked: FetchUrl, addresses: list[Address], *, media_types: Collection[str], max_bytes: int
    ) -> Fetched:
        headers = {"Accept": ", ".join(media_types)}
        async with self._answer("GET", asked, addresses, headers) as response:
            return await _read(response, media_types=media_types, max_bytes=max_bytes)

    async def _to_any(
        self, asked: FetchUrl, addresses: list[Address], body: bytes, headers: dict[str, str]
    ) -> None:
        async with self._answer("POST", asked, addresses, headers, body) as response:
            if not 200 <= response.status < 300:
                raise FetchError(
                    "status", f"the status is {response.status}, expected 2xx; redirects are not followed"
                )

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        asked: FetchUrl,
        addresses: list[Address],
        headers: dict[str, str],
        body: bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer of the first address that can be connected to."""
        for number, address in enumerate(addresses, start=1):
            connected = False
            try:
                async with (
                    self._session() as session,
                    session.request(
                        method,
                        _at(asked, address),
                        headers={"Host": asked.authority, "Accept-Encoding": "identity", **headers},
                        data=body,
                        server_hostname=asked.host,  # the certificate is that of the name
                        allow_redirects=False,
                    ) as response,
                ):
                    connected = True
                    yield response
                    return
            except aiohttp.ClientSSLError as error:
                raise FetchError("tls", f"TLS with {asked.authority} failed: {error}") from error
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                if number == len(addresses) or connected:
                    raise FetchError("unreachable", f"{asked.authority} cannot be connected to") from error
            except (aiohttp.ClientError, ValueError) as error:
                raise FetchError("malformed", f"the answer cannot be read: {type(error).__name__}") from error

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._context, force_close=True, limit=1),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
        )


def _at(asked: FetchUrl, address: Address) -> URL:
    """The URL with the address in it, so that nothing is looked up again."""
    at = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
    return URL(f"https://{at}:{asked.port}{asked.target}", encoded=True)


async def _read(response: aiohttp.ClientResponse, *, media_types: Collection[str], max_bytes: int) -> Fetched:
    if response.status != 200:
        raise FetchError(
            "status", f"the status is {response.status}, expected 200; redirects are not followed"
        )
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type not in media_types:
        raise FetchError("type", f"Content-Type is not {' or '.join(media_types)}")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchError("type", "the body is compressed, although only identity was asked for")
    body = b""
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > max_bytes:
            raise FetchError("size", f"the body is longer than {max_bytes} bytes")
    return Fetched(body, max_age_of(response.headers.get("Cache-Control")))


def _host_and_port(origin: str) -> tuple[str, int]:
    parts = urlsplit(origin)
    return (parts.hostname or "").rstrip("."), parts.port or 443


def _is_of_this_host(address: Address) -> bool:
    """Whether an address is one of this machine's: only those can be bound to."""
    if address.is_loopback:
        return True
    family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True

"""The one outbound way: GET of URLs that strangers chose, and POST of messages to receivers of the configuration.

https with verified certificates; no redirect, proxy, cookie, credential or decompression; 2.5 s and a number of bytes
at most; four at a time. A name is looked up once, each address is checked, and the connection goes to a checked
address, not to the name: an answer of the name server that changes in between (DNS rebinding) changes nothing. Our own
origins and listeners are never fetched from, whatever the allow-list says.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from authz.fetched import Fetched, FetchError
from authz.protocol.addresses import (
    Address,
    AllowList,
    FetchUrl,
    NotFetched,
    check_address,
    inner_address,
    read_url,
)

if TYPE_CHECKING:
    from authz.fetch_exchange import Exchange

TOTAL_SECONDS = 2.5
_AT_ONCE = 4
_MAX_ADDRESSES = 4

Resolve = Callable[[str, int], Awaitable[list[Address]]]


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
        self._authorities = certificate_authorities
        if certificate_authorities is not None:  # those that cannot be read are told at start
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificate_authorities)
        self._exchange: Exchange | None = None

    async def get(self, url: str, *, media_types: Collection[str], max_bytes: int) -> Fetched:
        """The body at this URL: status 200, of one of media_types, at most max_bytes. Raises FetchError."""
        exchange = await self._opened()
        try:
            async with asyncio.timeout(TOTAL_SECONDS), self._slots:
                asked = read_url(url)
                return await exchange.get(
                    asked, await self._addresses(asked), media_types=media_types, max_bytes=max_bytes
                )
        except NotFetched as error:
            raise FetchError("refused", str(error)) from error
        except TimeoutError as error:
            raise FetchError("slow", f"no whole answer within {TOTAL_SECONDS} s") from error

    async def post(self, url: str, body: bytes, *, media_type: str, authorization: str | None = None) -> None:
        """Send a message to this URL; done when it is answered with 2xx. Raises FetchError."""
        exchange = await self._opened()
        try:
            async with asyncio.timeout(TOTAL_SECONDS), self._slots:
                asked = read_url(url)
                addresses = await self._addresses(asked)
                headers = {"Content-Type": media_type}
                if authorization is not None:
                    headers["Authorization"] = authorization
                await exchange.post(asked, addresses, body, headers)
        except NotFetched as error:
            raise FetchError("refused", str(error)) from error
        except TimeoutError as error:
            raise FetchError("slow", f"no answer within {TOTAL_SECONDS} s") from error

    def close(self) -> None:
        """Look up no more names."""
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def _opened(self) -> "Exchange":
        if self._exchange is None:
            self._exchange = await asyncio.to_thread(_exchange, self._authorities)
        return self._exchange

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


def _exchange(certificate_authorities: str | None) -> "Exchange":
    from authz.fetch_exchange import Exchange  # with the first fetch

    return Exchange(certificate_authorities)


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

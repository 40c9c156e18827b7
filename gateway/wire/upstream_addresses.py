"""Where a store is: its addresses, looked up at most every 30 seconds, and a connection to the first that answers."""

import asyncio
import ipaddress
import math
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from gateway.wire.upstream_exchange import TookTooLong, Unreachable

_GOOD_SECONDS = 30.0
_MAX_ADDRESSES = 16
_P = TypeVar("_P", bound=asyncio.BaseProtocol)
_Address = tuple[int, str]  # family and numeric host


class Addresses:
    """The addresses of one host. context is for TLS, which checks the certificate against the host."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, host: str, port: int, context: ssl.SSLContext | None
    ) -> None:
        self._loop = loop
        self._host = host
        self._port = port
        self._context = context
        self._known: list[_Address] = []
        self._failed: set[_Address] = set()
        self._good_until = 0.0
        self._next = 0
        self._looking = asyncio.Lock()
        literal = _literal(host)
        if literal is not None:
            self._known, self._good_until = [literal], math.inf

    async def connect(self, protocol: Callable[[], _P], deadline: float) -> _P:
        """A connection to one of them, by the deadline of the loop's clock.

        They take turns; those that failed come last. An address that does not answer has its share of the time.
        Raises Unreachable, TookTooLong.
        """
        try:
            async with asyncio.timeout_at(deadline):
                addresses = await self._in_order()
        except TimeoutError as late:
            raise TookTooLong("the name of the store was not looked up in time") from late
        silent = False
        error: OSError | None = None
        for number, address in enumerate(addresses):
            left = deadline - self._loop.time()
            try:
                async with asyncio.timeout(left / (len(addresses) - number)):
                    found = await self._connect_to(protocol, address)
                self._failed.discard(address)
                return found
            except TimeoutError:
                silent = True
            except OSError as each:
                error = each
            self._failed.add(address)
        if silent or error is None:
            raise TookTooLong("no address of the store answered in time")
        raise Unreachable(f"no address of the store can be reached: {error}") from error

    async def _connect_to(self, protocol: Callable[[], _P], address: _Address) -> _P:
        family, host = address
        _, made = await self._loop.create_connection(
            protocol,
            host,
            self._port,
            family=family,
            ssl=self._context,
            server_hostname=None if self._context is None else self._host.rstrip("."),
        )
        return made

    async def _in_order(self) -> list[_Address]:
        if self._loop.time() >= self._good_until:
            async with self._looking:
                if self._loop.time() >= self._good_until:
                    self._known = await self._look_up()
                    self._failed &= set(self._known)
                    self._good_until = self._loop.time() + _GOOD_SECONDS
        first = self._next % len(self._known)
        self._next += 1
        turn = self._known[first:] + self._known[:first]
        return sorted(turn, key=self._failed.__contains__)

    async def _look_up(self) -> list[_Address]:
        try:
            found = await self._loop.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            )
        except (OSError, UnicodeError) as error:
            raise Unreachable(f"the name of the store has no address: {error}") from error
        addresses = dict.fromkeys((int(family), str(place[0])) for family, _, _, _, place in found)
        if not addresses:
            raise Unreachable("the name of the store has no address")
        return list(addresses)[:_MAX_ADDRESSES]


def _literal(host: str) -> _Address | None:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    return (socket.AF_INET if version == 4 else socket.AF_INET6), host

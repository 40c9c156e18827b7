"""The connections to one store: so many at most, whoever finds none free waits in line."""

import asyncio
from collections import deque

from gateway.wire.upstream_addresses import Addresses
from gateway.wire.upstream_connection import UpstreamConnection
from gateway.wire.upstream_exchange import TookTooLong, Unreachable

IDLE_SECONDS = 30.0
# What somebody in line is given: a connection, or None for the right to open one.
_Given = asyncio.Future[UpstreamConnection | None]


class UpstreamPool:
    """The connections to one store. Each counts from when it is begun until it has ended."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, addresses: Addresses, *, limit: int, body_seconds: float
    ) -> None:
        self._loop = loop
        self._addresses = addresses
        self._limit = limit
        self._body_seconds = body_seconds
        self._idle: list[UpstreamConnection] = []  # the last one let go is the first to be used
        self._open: set[UpstreamConnection] = set()
        self._places = 0  # taken: by connections, and by those that open one
        self._waiting: deque[_Given] = deque()
        self._is_closed = False

    @property
    def in_use(self) -> int:
        """Connections that are opened or have a request."""
        return self._places - len(self._idle)

    @property
    def size(self) -> int:
        """Connections, and those that are being opened."""
        return self._places

    def take(self) -> UpstreamConnection | None:
        """A connection that is free, without waiting. None when there is none, or when others wait already."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_quiet():
                return connection
            connection.abort()
        return None

    async def acquire(self, deadline: float, *, fresh: bool = False) -> UpstreamConnection:
        """A connection by the deadline of the loop's clock: opened, or, where that are too many, waited for in line.

        fresh is whether one that is free will not do. Raises Unreachable, TookTooLong.
        """
        if not fresh:
            connection = self.take()
            if connection is not None:
                return connection
        try:
            if self._places < self._limit:
                self._places += 1
            elif fresh and self._idle:
                self._idle.pop(0).abort()
                self._places += 1
            else:
                given = await self._wait(deadline)
                if given is not None and given.is_quiet():
                    return given
                if given is not None:  # it ended on its way here, and with it its place
                    given.abort()
                    return await self.acquire(deadline, fresh=fresh)
            return await self._connect(deadline)
        except TimeoutError as error:
            raise TookTooLong("no connection to the store became free in time") from error

    async def close(self) -> None:
        """End every connection; whoever waits for one gets none."""
        self._is_closed = True
        while self._waiting:
            given = self._waiting.popleft()
            if not given.done():
                given.set_exception(Unreachable("the gateway stops"))
        for connection in [*self._open]:
            connection.abort()
        await asyncio.sleep(0)  # so that the transports let their sockets go

    async def _wait(self, deadline: float) -> UpstreamConnection | None:
        given: _Given = self._loop.create_future()
        self._waiting.append(given)
        try:
            async with asyncio.timeout_at(deadline):
                return await given
        except BaseException:
            if given.done() and not given.cancelled() and given.exception() is None:
                self._give(given.result())  # it came as we left
            else:
                given.cancel()
                self._waiting = deque(each for each in self._waiting if each is not given)
            raise

    async def _connect(self, deadline: float) -> UpstreamConnection:
        made: list[UpstreamConnection] = []

        def protocol() -> UpstreamConnection:
            made.append(
                UpstreamConnection(
                    self._loop, free=self._freed, ended=self._ended, body_seconds=self._body_seconds
                )
            )
            return made[-1]

        try:
            if self._is_closed:
                raise Unreachable("the gateway stops")
            connection = await self._addresses.connect(protocol, deadline)
            if self._is_closed or not connection.is_open:
                raise Unreachable("the store ended the connection")
        except BaseException:
            for each in made:
                each.abort()
            self._give(None)
            raise
        self._open.add(connection)
        return connection

    def _freed(self, connection: UpstreamConnection) -> None:
        self._give(connection)

    def _ended(self, connection: UpstreamConnection) -> None:
        if connection in self._open:
            self._open.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._give(None)

    def _give(self, connection: UpstreamConnection | None) -> None:
        """To the first in line; else it is idle, or its place is free."""
        while self._waiting:
            given = self._waiting.popleft()
            if not given.done():
                given.set_result(connection)
                return
        if connection is None:
            self._places -= 1
        else:
            self._idle.append(connection)
            connection.idle_until(IDLE_SECONDS)

"""A proxy of TCP that a test puts between a node and its store, and that fails in the ways in which a network does."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

_PIECE = 65536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: a close is a reset


class Way(StrEnum):
    """What the proxy does with bytes.

    stall  they wait and go on later, as when packets are lost and sent again
    deaf   questions go on, answers are lost: the store does what nobody hears of
    drop   both are lost; a connection that lost bytes stays dead, as behind a firewall that forgot it
    reset  connections are reset, and new ones at once
    """

    PASS = "pass"
    STALL = "stall"
    DEAF = "deaf"
    DROP = "drop"
    RESET = "reset"


class TcpProxy:
    """Listens on an address and leads to another, both of loopback where nothing else is said. Made by tcp_proxy()."""

    def __init__(self, target: int, host: str = "127.0.0.1") -> None:
        self._target = (host, target)
        self._way = Way.PASS
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    def turn(self, way: Way) -> None:
        """Do this from now on, with the connections that are there too."""
        self._way = way
        self._changed.set()
        self._changed = asyncio.Event()
        if way is Way.RESET:
            for writer in tuple(self._writers):
                _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            if self._way is Way.RESET:
                _reset(writer)
                return
            answers, there = await asyncio.open_connection(*self._target)
            self._writers.add(there)
            pumps = [
                asyncio.ensure_future(self._pump(reader, there, (Way.DROP,))),
                asyncio.ensure_future(self._pump(answers, writer, (Way.DROP, Way.DEAF))),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            _reset(writer)
        finally:
            for each in (writer, there):
                if each is not None:
                    self._writers.discard(each)
                    each.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: tuple[Way, ...]
    ) -> None:
        is_dead = False
        with suppress(OSError):
            while piece := await reader.read(_PIECE):
                while self._way is Way.STALL:
                    await self._changed.wait()
                is_dead = is_dead or self._way in losing
                if not is_dead:
                    writer.write(piece)
                    await writer.drain()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End every connection."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def tcp_proxy(
    target: int, *, host: str = "127.0.0.1", at: tuple[str, int] = ("127.0.0.1", 0)
) -> AsyncIterator[TcpProxy]:
    """A proxy to this port of host, at this address; port 0 is any."""
    proxy = TcpProxy(target, host)
    server = await asyncio.start_server(proxy.accept, *at)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()

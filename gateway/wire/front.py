"""The front: a listening socket and the connections behind it, which it counts, times and drains."""

import asyncio
import logging
import ssl
from contextlib import suppress
from pathlib import Path

from gateway.wire.connection import Connection, Service

_HANDSHAKE_SECONDS = 20.0
_END_SECONDS = 5.0
_log = logging.getLogger("securus.listener")


class Front:
    """Serves HTTP/1.1 at one address. Made by open()."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def open(
        self, address: str, port: int, context: ssl.SSLContext | None, *, shared: bool = False
    ) -> None:
        """Listen; shared with other processes of ours, which do so too. Raises OSError."""
        service, loop = self._service, self._loop
        self._server = await loop.create_server(
            lambda: Connection(service, loop),
            address,
            port,
            ssl=context,
            ssl_handshake_timeout=None if context is None else _HANDSHAKE_SECONDS,
            backlog=1024,
            reuse_port=shared or None,
        )
        self._sweep()

    async def open_file(self, path: Path) -> None:
        """Listen at a socket file in plain HTTP. Raises OSError."""
        service, loop = self._service, self._loop
        self._server = await loop.create_unix_server(lambda: Connection(service, loop), str(path))
        self._sweep()

    def take_no_more(self) -> None:
        """Take no more connections; those that are there go on."""
        if self._server is not None:
            self._server.close()

    def drain(self) -> None:
        """Take no more connections, close idle ones; each answer in work is the last of its connection."""
        self._service.is_draining = True
        self.take_no_more()
        for connection in tuple(self._service.connections):
            connection.drain()

    async def close(self, seconds: float) -> None:
        """Drain, give the answers in work so long, then break off what is left."""
        self.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while any(connection.is_busy for connection in self._service.connections):
                    self._service.lost.clear()
                    await self._service.lost.wait()
        if self._sweeping is not None:
            self._sweeping.cancel()
        work = {c.work for c in self._service.connections if c.work is not None}
        for connection in tuple(self._service.connections):
            connection.abort()
        for task in work:
            task.cancel()
        if work:
            said = {"count": len(work), "cause": "the time to drain is over"}
            _log.warning("answers broke off", extra=said)
            await asyncio.wait(work, timeout=_END_SECONDS)

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in [c for c in self._service.connections if c.deadline < now]:
            try:
                connection.overdue()
            except Exception:
                # The clock of all others goes on.
                _log.exception("a connection cannot be ended in good order")
                connection.abort()
        self._sweeping = self._loop.call_later(self._service.patience.look, self._sweep)

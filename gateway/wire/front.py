"""The front: a listener and the connections behind it, which it times and drains."""

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from gateway.wire.accepting import Acceptor
from gateway.wire.places import Bounds, Places, Waiting
from gateway.wire.service import Service

_END_SECONDS = 5.0
_TURNS = 8  # of the loop, in which the transports of what was broken off let their sockets go
_FEW = Bounds(64, 64)
_log = logging.getLogger("securus.listener")


class Front:
    """Serves HTTP/1.1 at one address. Made by open()."""

    def __init__(
        self,
        service: Service,
        places: Places | None = None,
        *,
        is_unbound: Callable[[str], bool] = lambda address: False,
    ) -> None:
        """places are shared with other fronts; without them this one serves operators, and has a few of its own.

        is_unbound says of an address whether it may have as many connections as there are places.
        """
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._places = places or Places(_FEW)
        self._acceptor = Acceptor(
            service,
            self._places,
            is_unbound=is_unbound,
            serves_operators=places is None,
            loop=self._loop,
        )
        self._places.watch(self._waiting, lambda: service.connections)
        self._sweeping: asyncio.TimerHandle | None = None

    async def open(
        self, address: str, port: int, context: ssl.SSLContext | None, *, shared: bool = False
    ) -> None:
        """Listen; shared with other processes of ours, which do so too. Raises OSError."""
        await self._acceptor.listen(address, port, context, shared=shared)
        self._sweep()

    async def open_file(self, path: Path) -> None:
        """Listen at a socket file in plain HTTP. Raises OSError."""
        self._acceptor.listen_at_file(path)
        self._sweep()

    def take_no_more(self) -> None:
        """Take no more connections; those that are there go on."""
        self._acceptor.close()

    def drain(self) -> None:
        """Take no more connections, close idle ones; each answer in work is the last of its connection.

        Whoever had connected by then, and was not heard yet, is answered once, if the request comes at once.
        """
        if self._service.is_draining:
            return
        self._service.is_draining = True
        for connection in tuple(self._service.connections):
            connection.drain()
        self._acceptor.take_what_has_arrived()
        self._acceptor.close()
        self._loop.call_later(self._service.patience.late, self._end_arrivals)

    async def close(self, seconds: float) -> None:
        """Drain, give the answers in work so long, then break off what is left."""
        self.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._acceptor.arrivals or any(c.is_busy for c in self._service.connections):
                    self._service.lost.clear()
                    await self._service.lost.wait()
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._end_arrivals()
        work = {c.work for c in self._service.connections if c.work is not None}
        for connection in tuple(self._service.connections):
            connection.abort()
        for task in work:
            task.cancel()
        if work:
            said = {"count": len(work), "cause": "the time to drain is over"}
            _log.warning("answers broke off", extra=said)
            await asyncio.wait(work, timeout=_END_SECONDS)
        for _ in range(_TURNS):
            if self._service.connections or self._acceptor.arrivals:
                await asyncio.sleep(0)

    def _end_arrivals(self) -> None:
        for arrival in tuple(self._acceptor.arrivals):
            arrival.make_room()

    def _waiting(self) -> Iterable[Waiting]:
        yield from self._service.connections
        yield from self._acceptor.arrivals

    def _sweep(self) -> None:
        service, now = self._service, self._loop.time()
        for connection in [c for c in service.connections if c.deadline < now]:
            try:
                connection.overdue()
            except Exception:
                # The clock of all others goes on.
                _log.exception("a connection cannot be ended in good order")
                connection.abort()
        self._acceptor.look()
        self._places.tell()
        self._sweeping = self._loop.call_later(service.patience.look, self._sweep)

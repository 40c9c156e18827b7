"""Connections as they are accepted: the listening sockets of one front, and what becomes of those that arrive at them.

The loop's own server is not asked, for three reasons. It makes a transport, and begins a TLS handshake, before anybody
can say no; here who is refused costs an accept and a close. It tells nobody of handshakes, so those that never end
could not be counted. And without descriptors libuv closes whatever waits, with one that it holds back; where that one
is gone it is called again without end, at the cost of a whole processor, and says nothing.

So descriptors are held back here, too. Where none is left, connections that wait make room, or else what has arrived
is refused with the help of one that was held back; then the listener rests for a moment. The front of the operators
serves them with what it held back: health and metrics are seen also then.
"""

import asyncio
import errno
import logging
import os
import socket
import ssl
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gateway.wire.arrivals import Arrival
from gateway.wire.connection import Connection
from gateway.wire.places import FOR_DESCRIPTORS, FOR_ERROR, Places
from gateway.wire.repeated import Repeated
from gateway.wire.service import Service

_BACKLOG = 1024
_AT_ONCE = 16  # connections at most that are accepted in one turn of the loop: others are answered between
_HANDSHAKE_SECONDS = 20.0
_REST_SECONDS = 0.1
_SHORT_REST_SECONDS = 0.01  # until those that made room are gone
_HELD_FOR_OPERATORS = 4
_BREAK_OFF = struct.pack("ii", 1, 0)  # a reset, which leaves nothing behind here
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# What accept(2) says of a connection that is gone, not of us.
_OF_THE_CALLER = frozenset(
    {
        errno.ECONNABORTED, errno.EPROTO, errno.ENOPROTOOPT, errno.EPERM, errno.EOPNOTSUPP, errno.ENETDOWN,
        errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENONET,
    }
)  # fmt: skip
_log = logging.getLogger("securus.listener")


class Acceptor:
    """Accepts connections at one address, or at a socket file. Made for one front."""

    def __init__(
        self,
        service: Service,
        places: Places,
        *,
        is_unbound: Callable[[str], bool],
        serves_operators: bool,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """is_unbound says of an address whether it may have as many connections as there are places."""
        self._service = service
        self._places = places
        self._is_unbound = is_unbound
        self._serves_operators = serves_operators
        self._loop = loop
        self._context: ssl.SSLContext | None = None
        self._listening: list[socket.socket] = []
        self._resting: dict[socket.socket, asyncio.TimerHandle] = {}
        self._at_once = 1  # so many are tried; a try that finds nobody costs as much as half a connection
        self._held: list[int] = []  # descriptors of nothing, for when no other is left
        self.arrivals: set[Arrival] = set()
        self.failures = Repeated("connections cannot be accepted")

    async def listen(self, address: str, port: int, context: ssl.SSLContext | None, *, shared: bool) -> None:
        """Listen; shared with other processes of ours. Raises OSError."""
        self._context = context
        found = await self._loop.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, _, protocol, _, place in dict.fromkeys(found):
                listening = socket.socket(family, socket.SOCK_STREAM, protocol)
                self._listening.append(listening)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if shared:
                    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family == socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                try:
                    listening.bind(place)
                    listening.listen(_BACKLOG)
                except OSError as error:
                    why = (error.strerror or str(error)).lower()
                    raise OSError(error.errno, f"cannot listen at {address} port {port}: {why}") from None
        except BaseException:
            self.close()
            raise
        self._begin()

    def listen_at_file(self, path: Path) -> None:
        """Listen at a socket file, in plain HTTP; one that is left over is replaced. Raises OSError."""
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(path.stat().st_mode):
                path.unlink()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.append(listening)
        try:
            listening.bind(str(path))
            listening.listen(_BACKLOG)
        except BaseException:
            self.close()
            raise
        self._begin()

    def take_what_has_arrived(self) -> None:
        """Accept what waits in line, which would be lost with the listening socket. It is bounded by the backlog."""
        for listening in self._listening:
            if listening not in self._resting:
                self._at_once = _AT_ONCE
                for _ in range(_BACKLOG // _AT_ONCE):
                    if not self._accept(listening):
                        break

    def look(self) -> None:
        """End what arrived too long ago, and tell what failed; to be called about once a second."""
        overdue = self._loop.time() - _HANDSHAKE_SECONDS
        for arrival in tuple(self.arrivals):
            if arrival.waits_since is not None and arrival.waits_since < overdue:
                arrival.make_room()
        self._places.handshakes.look()
        self.failures.tell()
        self.hold_back()

    def close(self) -> None:
        """Accept no more. What has arrived goes on."""
        for timer in self._resting.values():
            timer.cancel()
        for listening in self._listening:
            if listening.fileno() >= 0 and listening not in self._resting:
                self._loop.remove_reader(listening.fileno())
            listening.close()
        self._resting.clear()
        self._listening.clear()
        while self._held:
            os.close(self._held.pop())

    def hold_back(self) -> None:
        """Hold descriptors back, as far as there are some again."""
        wanted = _HELD_FOR_OPERATORS if self._serves_operators else 1
        with suppress(OSError):
            while self._listening and len(self._held) < wanted:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def _begin(self) -> None:
        self.hold_back()
        for listening in self._listening:
            listening.setblocking(False)
            self._resume(listening)

    def _resume(self, listening: socket.socket) -> None:
        self._resting.pop(listening, None)
        self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _rest(self, listening: socket.socket, seconds: float) -> None:
        if listening not in self._resting:
            self._loop.remove_reader(listening.fileno())
            self._resting[listening] = self._loop.call_later(seconds, self._resume, listening)

    def _accept(self, listening: socket.socket) -> bool:
        """Take what has arrived, so much in one turn; whether there may be more."""
        for _ in range(self._at_once):
            try:
                accepted, address = listening.accept()
            except BlockingIOError:
                self._at_once = 1
                return False
            except OSError as error:
                if error.errno in _OF_THE_CALLER:
                    continue
                self._cannot_accept(listening, error)
                return False
            self._welcome(accepted, address)
        self._at_once = min(2 * self._at_once, _AT_ONCE)
        return True

    def _cannot_accept(self, listening: socket.socket, error: OSError) -> None:
        if error.errno not in _NO_DESCRIPTORS:
            self._places.count(FOR_ERROR)
            self.failures.happened(str(error))
            self._rest(listening, _REST_SECONDS)
            return
        if not self._serves_operators and self._places.make_room():
            for _ in range(_AT_ONCE - 1):
                if not self._places.make_room():
                    break
            self._rest(listening, _SHORT_REST_SECONDS)
            return
        while self._held:
            os.close(self._held.pop())
            try:
                accepted, address = listening.accept()
            except OSError:
                break
            if self._serves_operators:
                self._welcome(accepted, address)
            else:
                _refuse(accepted)
                self._places.turned_away(FOR_DESCRIPTORS)
                self.hold_back()
        self.hold_back()
        self._rest(listening, _REST_SECONDS)

    def _welcome(self, accepted: socket.socket, address: object) -> None:
        peer = str(address[0]) if isinstance(address, tuple) else None
        place = self._places.take(None if peer is None or self._is_unbound(peer) else peer)
        if place is None:
            _refuse(accepted)
            return
        accepted.setblocking(False)
        connection = Connection(self._service, self._loop, place)

        async def make(accepted: socket.socket) -> None:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=None if self._context is None else _HANDSHAKE_SECONDS,
            )

        arrival = Arrival(
            accepted,
            place,
            make=make,
            ended=lambda arrival: self._ended(arrival, connection),
            handshakes=self._places.handshakes,
            loop=self._loop,
        )
        self.arrivals.add(arrival)
        if self._context is None:
            arrival.begin()
        else:
            arrival.hear()

    def _ended(self, arrival: Arrival, connection: Connection) -> None:
        """The connection is made, and gives its place back when it is lost; or nothing became of it."""
        self.arrivals.discard(arrival)
        if connection not in self._service.connections:
            arrival.accepted.close()
            arrival.place.give_back()
        self._service.lost.set()
        task = arrival.task
        error = None if task is None or task.cancelled() else task.exception()
        # A handshake that failed or a caller that left; RuntimeError is what uvloop says of one that we closed.
        if error is not None and not isinstance(error, OSError | RuntimeError):
            _log.error("a connection cannot be made", exc_info=error)


def _refuse(accepted: socket.socket) -> None:
    with suppress(OSError):
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _BREAK_OFF)
    accepted.close()

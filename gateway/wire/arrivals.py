"""A connection that is accepted and not made yet: it is heard of, waits for its turn, and shakes hands."""

import asyncio
import socket
from collections.abc import Callable, Coroutine

from gateway.wire.handshakes import Handshakes
from gateway.wire.places import Place

_HEADERS = 9  # of a record and of the message in it (RFC 8446 5.1, 4)
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_LONGEST = 16384
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.005, 1.0
_ESTABLISHED = 1  # TCP_ESTABLISHED of Linux


def hello_bytes(said: bytes) -> int:
    """How many bytes must be there before a handshake can go on that begins like this: those of the whole ClientHello.

    It may be in several records, which are a few bytes more. 0 for what is none, and for a caller that left.
    """
    if not said or said[0] != _HANDSHAKE or (len(said) > 5 and said[5] != _CLIENT_HELLO):
        return 0
    if len(said) < _HEADERS:
        return _HEADERS
    length = int.from_bytes(said[6:_HEADERS])
    return _HEADERS + length if length <= _LONGEST else 0


class Arrival:
    """With TLS, from when a connection is accepted until its handshake has ended; else for a moment."""

    __slots__ = (
        "_ended", "_handshakes", "_hears", "_loop", "_make", "_pause", "_since", "_timer", "accepted", "place", "task",
    )  # fmt: skip

    def __init__(
        self,
        accepted: socket.socket,
        place: Place,
        *,
        make: Callable[[socket.socket], Coroutine[None, None, None]],
        ended: Callable[["Arrival"], None],
        handshakes: Handshakes,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """make is what becomes of it, handshake included. ended is called once, whatever became of it."""
        self.accepted = accepted
        self.place = place
        self.task: asyncio.Task[None] | None = None
        self._make = make
        self._ended = ended
        self._handshakes = handshakes
        self._loop = loop
        self._since: float | None = loop.time()
        self._hears = False
        self._timer: asyncio.TimerHandle | None = None
        self._pause = _FIRST_PAUSE_SECONDS

    @property
    def address(self) -> str | None:
        """What it is counted for; None where it has no bound of its own."""
        return self.place.address

    @property
    def waits_since(self) -> float | None:
        """When it arrived; None once it makes room."""
        return None if self.task is not None and self.task.done() else self._since

    def hear(self) -> None:
        """Wait for the caller's hello, and then for the turn of its handshake: who says half of one costs nothing."""
        self._hears = True
        self._loop.add_reader(self.accepted.fileno(), self._heard)

    def begin(self) -> None:
        """Make it a connection."""
        self.task = self._loop.create_task(self._make(self.accepted))
        self.task.add_done_callback(lambda task: self._end())

    def make_room(self) -> None:
        """Break it off."""
        self._since = None
        if self.task is not None:
            self.task.cancel()
        else:
            self._end()

    def _heard(self) -> None:
        try:
            wanted = hello_bytes(self.accepted.recv(_HEADERS, socket.MSG_PEEK))
            is_whole = wanted > 0 and len(self.accepted.recv(wanted, socket.MSG_PEEK)) == wanted
            if wanted and not is_whole and self._is_connected():
                self._look_again()
                return
        except BlockingIOError:
            return
        except OSError:
            is_whole = False
        if is_whole:
            self._be_deaf()
            self._handshakes.come(self)
        else:
            self.make_room()

    def _look_again(self) -> None:
        """Look later for the rest of a hello. The loop would call at every turn, since half of one is there."""
        self._be_deaf()
        self._timer = self._loop.call_later(self._pause, self._heard)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)

    def _is_connected(self) -> bool:
        """Whether the caller has not closed: behind bytes that wait to be read nothing else tells."""
        return self.accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED

    def _be_deaf(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._hears:
            self._hears = False
            self._loop.remove_reader(self.accepted.fileno())

    def _end(self) -> None:
        self._be_deaf()
        self._handshakes.leave(self)
        self._ended(self)

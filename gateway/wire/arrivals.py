"""A connection that is accepted and not made yet: it is heard of, waits for its turn, and shakes hands."""

import asyncio
import socket
from collections.abc import Callable, Coroutine

from gateway.wire.handshakes import Handshakes
from gateway.wire.places import Place


class Arrival:
    """With TLS, from when a connection is accepted until its handshake has ended; else for a moment."""

    __slots__ = ("_ended", "_handshakes", "_hears", "_loop", "_make", "_since", "accepted", "place", "task")

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

    @property
    def address(self) -> str | None:
        """What it is counted for; None where it has no bound of its own."""
        return self.place.address

    @property
    def waits_since(self) -> float | None:
        """When it arrived; None once it makes room."""
        return None if self.task is not None and self.task.done() else self._since

    def hear(self) -> None:
        """Wait until the caller says something, and then for the turn of its handshake: who is silent costs nothing."""
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
            is_gone = not self.accepted.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            is_gone = True
        if is_gone:
            self.make_room()
        else:
            self._be_deaf()
            self._handshakes.come(self)

    def _be_deaf(self) -> None:
        if self._hears:
            self._hears = False
            self._loop.remove_reader(self.accepted.fileno())

    def _end(self) -> None:
        self._be_deaf()
        self._handshakes.leave(self)
        self._ended(self)

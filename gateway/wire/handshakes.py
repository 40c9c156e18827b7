"""Whose TLS handshake goes on: of all that strangers can have done it costs the most, so addresses take turns at it.

The keys of one handshake cost as much as a read, and everybody waits while they are made. Two hundred connections that
shake hands again and again would be two hundred in one turn of the loop, and every reader behind them. So a handshake
begins once its caller has said the whole of its hello, one at a time with a pause between them in which whoever is
connected is answered. Each address has its turn after every other: who comes again and again waits behind itself, and a
stranger behind one of each.

How many are under way is bounded, of an address and of all, so that many cannot be led to their last step and then be let
go at once. One that does not go on keeps nobody out: where others wait for what it holds, it is ended after a while.
Whoever waits is refused nothing: it has its place as other connections have, and the same patience.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

AT_ONCE, OF_ADDRESS = 2048, 64
"""Handshakes under way: of all, more than begin in the time that one may stall; and of one address that has a bound."""
PAUSE_SECONDS = 0.002
"""Between two that begin: 500 a second, which is half of a process. As many as have places had their turn in 20 s."""
STALLED_SECONDS = 2.0
"""So long one may take that others wait for. What is left of it then is an answer to our half, over any network."""


class Handshake(Protocol):
    """A connection whose caller has said its hello. address is the one that it counts for; None for one without a bound."""

    @property
    def address(self) -> str | None: ...
    def begin(self) -> None:
        """Shake hands from now on."""
        ...

    def make_room(self) -> None:
        """Break off; leave() is called."""
        ...


class Handshakes:
    """The handshakes of one process, which its listeners share."""

    def __init__(
        self, *, stalled: Callable[[], None] = lambda: None, steady: Callable[[], float] = time.monotonic
    ) -> None:
        """stalled is called for each that was ended as others waited for it."""
        self._stalled = stalled
        self._steady = steady
        # The next address first.
        self._lines: OrderedDict[str | None, OrderedDict[Handshake, None]] = OrderedDict()
        self._begun: OrderedDict[Handshake, float] = OrderedDict()  # since when, the oldest first
        self._of_address: dict[str, int] = {}  # of those
        self._is_called = False
        self._next_at = 0.0

    @property
    def under_way(self) -> int:
        """Handshakes that have begun."""
        return len(self._begun)

    @property
    def waiting(self) -> int:
        """Handshakes that have not had their turn."""
        return sum(map(len, self._lines.values()))

    def come(self, handshake: Handshake) -> None:
        """Let it have its turn."""
        self._lines.setdefault(handshake.address, OrderedDict())[handshake] = None
        self._call()

    def leave(self, handshake: Handshake) -> None:
        """It has ended, or will never begin."""
        address = handshake.address
        if self._begun.pop(handshake, None) is not None:
            if address is not None:
                left = self._of_address.pop(address) - 1
                if left:
                    self._of_address[address] = left
            self._call()
            return
        line = self._lines.get(address)
        if line is not None and handshake in line:
            del line[handshake]
            if not line:
                del self._lines[address]

    def look(self) -> None:
        """End those that have stalled, as many as others wait for; to be called about once a second."""
        if not self._lines:
            return
        late, held = self._steady() - STALLED_SECONDS, dict(self._of_address)
        in_line = {address: len(line) for address, line in self._lines.items()}
        # Where all are held, by whoever holds the most: one slow caller of another address is none of them.
        most = max(held.values(), default=0) if len(self._begun) >= AT_ONCE else AT_ONCE
        everybody = self.waiting
        for handshake in [each for each, since in self._begun.items() if since < late]:
            address = handshake.address
            mine = 0 if address is None else held.get(address, 0)
            if mine >= OF_ADDRESS and in_line.get(address, 0):
                in_line[address] -= 1
            elif mine < most or not everybody:
                continue
            everybody -= 1
            self._stalled()
            handshake.make_room()

    def _call(self) -> None:
        if self._lines and not self._is_called:
            self._is_called = True
            loop, wait = asyncio.get_running_loop(), self._next_at - self._steady()
            if wait > 0:
                loop.call_later(wait, self._take_turn)
            else:
                loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._is_called = False
        handshake = self._next()
        if handshake is None:
            return  # until one ends
        address, now = handshake.address, self._steady()
        self._begun[handshake] = now
        self._next_at = now + PAUSE_SECONDS
        if address is not None:
            self._of_address[address] = self._of_address.get(address, 0) + 1
        handshake.begin()
        self._call()

    def _next(self) -> Handshake | None:
        if len(self._begun) >= AT_ONCE:
            return None
        for address, line in self._lines.items():
            if address is None or self._of_address.get(address, 0) < OF_ADDRESS:
                handshake, _ = line.popitem(last=False)
                self._lines.move_to_end(address)
                if not line:
                    del self._lines[address]
                return handshake
        return None

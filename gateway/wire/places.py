"""How many callers may be connected to this process, all together and from one address, and who makes room for whom.

Who connects beyond the bound of an address is refused, before a byte is read: otherwise one address could have every
place. Where all places are taken, a connection that waits for a request, for the rest of a head or of a handshake is
ended for the new one, the longest waiting first: nothing of it was taken yet, so its caller loses nothing that it may
not send again, and whoever holds places without asking for anything keeps nobody out. nginx does the same with
connections that it keeps alive. Only where every connection has a request in work the newest is refused, as Envoy and
nginx do.

Requests are bounded too, elsewhere. There it is the same with bodies: who sends a head and then hardly anything has a
request in work. Where too many are, the one whose body is overdue first is ended for the new one.

Nobody is told one by one in the log: what happened is told together, at most every ten seconds.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import nsmallest
from operator import attrgetter, itemgetter
from typing import Generic, Protocol, TypeVar

from authz.networks import network_of
from gateway.wire.handshakes import STALLED_SECONDS, Handshakes

TELL_SECONDS = 10.0
_PART_LOOKED_OUT = 16  # of the places
_LOOK_AGAIN_SECONDS = 0.1  # after a look that found nobody
_log = logging.getLogger("securus.listener")

FOR_ADDRESS, FOR_ALL, FOR_ROOM = "address", "all", "room"
FOR_BODY, FOR_DESCRIPTORS, FOR_ERROR, FOR_HANDSHAKE = "body", "descriptors", "error", "handshake"
"""Why a connection was turned away: its address has too many, nobody could make room, it made room for another, its
request did as its body did not come, the process could open no more descriptors, accepting failed otherwise, or its
handshake did not go on while others waited for theirs."""


class Waiting(Protocol):
    """A connection, or what becomes one."""

    @property
    def waits_since(self) -> float | None:
        """The time of the loop since which it waits for its caller and has nothing to lose; None while it does not."""
        ...

    def make_room(self) -> None:
        """Break off; it waits no more from now on."""
        ...


class WaitingForBody(Protocol):
    """A connection as somebody sees it who needs the place of its request."""

    @property
    def body_due(self) -> float | None:
        """The time of the loop at which a body that is waited for is overdue; None where none is waited for."""
        ...

    def end_body(self) -> None:
        """Wait for the body no more; the request is answered with 408."""
        ...


W = TypeVar("W")


class LookedOut(Generic[W]):
    """Those of many that are ended first, by a time that each has; who has none is not ended.

    One look at all of them finds many, so that a flood does not cost a look for each newcomer. A look that finds nobody
    is not repeated at once.
    """

    def __init__(
        self, time_of: Callable[[W], float | None], *, at_once: int, steady: Callable[[], float]
    ) -> None:
        self.sources: list[Callable[[], Iterable[W]]] = []
        self._time_of = time_of
        self._at_once = at_once
        self._steady = steady
        self._found: list[tuple[float, W]] = []  # the first is the last
        self._look_again = 0.0

    def next(self) -> tuple[float, W] | None:
        """The next one, with the time that it had when it was looked out; None where there is none."""
        if self._found:
            return self._found.pop()
        now = self._steady()
        if now < self._look_again:
            return None
        everyone = (each for source in self.sources for each in source())
        found = [(at, each) for each in everyone if (at := self._time_of(each)) is not None]
        if not found:
            self._look_again = now + _LOOK_AGAIN_SECONDS
            return None
        self._found = nsmallest(self._at_once, found, key=itemgetter(0))[::-1]
        return self._found.pop()


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many connections may be open: all together, and of one address, which may be as many."""

    connections: int
    of_address: int


class Place:
    """The place of one connection, from when it is accepted until its socket is closed."""

    __slots__ = ("_places", "address")

    def __init__(self, places: "Places", address: str | None) -> None:
        self._places: Places | None = places
        self.address = address  # as it is counted; None where it has no bound of its own

    def give_back(self) -> None:
        """Give it back. Only the first time counts."""
        places, self._places = self._places, None
        if places is not None:
            places.left(self.address)


class Places:
    """The places of one process, which its listeners share. counted is told why each connection was turned away."""

    def __init__(
        self,
        bounds: Bounds,
        *,
        counted: Callable[[str], None] = lambda why: None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bounds = bounds
        self.handshakes = Handshakes(stalled=lambda: self.turned_away(FOR_HANDSHAKE), steady=steady)
        self._counted = counted
        self._steady = steady
        self._taken = 0
        self._of_address = Counter[str]()
        part = max(bounds.connections // _PART_LOOKED_OUT, 1)
        self._waiting = LookedOut[Waiting](attrgetter("waits_since"), at_once=part, steady=steady)
        self._bodies = LookedOut[WaitingForBody](attrgetter("body_due"), at_once=part, steady=steady)
        self._untold = Counter[str]()
        self._last_peer = ""
        self._tell_again = 0.0

    @property
    def taken(self) -> int:
        """Connections that are open."""
        return self._taken

    def watch(
        self,
        waiting: Callable[[], Iterable[Waiting]],
        bodies: Callable[[], Iterable[WaitingForBody]] = lambda: (),
    ) -> None:
        """Look for those that may make room also among what these give."""
        self._waiting.sources.append(waiting)
        self._bodies.sources.append(bodies)

    def take(self, address: str | None) -> Place | None:
        """A place for a new connection; None where it is refused. An address of None is one without a bound."""
        key = None if address is None else network_of(address)
        if key is not None and self._of_address[key] >= self.bounds.of_address < self.bounds.connections:
            self._last_peer = address or ""
            self.turned_away(FOR_ADDRESS)
            return None
        if self._taken >= self.bounds.connections and not self.make_room():
            self.turned_away(FOR_ALL)
            return None
        self._taken += 1
        if key is not None:
            self._of_address[key] += 1
        return Place(self, key)

    def left(self, key: str | None) -> None:
        """A place is free again."""
        self._taken -= 1
        if key is not None:
            self._of_address[key] -= 1
            if self._of_address[key] <= 0:
                del self._of_address[key]

    def make_room(self) -> bool:
        """End the connection that has waited longest; whether there was one."""
        while (found := self._waiting.next()) is not None:
            since, waiting = found
            if waiting.waits_since == since:  # it was not heard of since it was looked out
                waiting.make_room()
                self.turned_away(FOR_ROOM)
                return True
        return False

    def end_a_body(self) -> bool:
        """End the request whose body is overdue first; whether there was one."""
        while (found := self._bodies.next()) is not None:
            if found[1].body_due is not None:
                found[1].end_body()
                self.turned_away(FOR_BODY)
                return True
        return False

    def turned_away(self, why: str) -> None:
        """Count a connection that was refused or ended, and have it told."""
        self._counted(why)
        self._untold[why] += 1

    def count(self, why: str) -> None:
        """Count what whoever saw it tells."""
        self._counted(why)

    def tell(self) -> None:
        """Say in the log what happened since it was said last, unless that was just now."""
        if not self._untold or self._steady() < self._tell_again:
            return
        self._tell_again = self._steady() + TELL_SECONDS
        untold, self._untold = self._untold, Counter()
        for why, count in untold.items():
            said: dict[str, object] = {"count": count, "cause": self._cause(why)}
            if why == FOR_ADDRESS:
                said["peer"] = self._last_peer
            _log.warning(_TOLD[why], extra=said)

    def _cause(self, why: str) -> str:
        match why:
            case "address":
                return f"an address may have {self.bounds.of_address} open; peer is the last one"
            case "all":
                return f"each of {self.bounds.connections} connections has a request in work"
            case "room":
                return f"they waited longest, and {self.bounds.connections} are open"
            case "body":
                return "their bodies did not come, and limits.concurrent_requests are under way"
            case "handshake":
                return f"others waited for theirs, and these took more than {STALLED_SECONDS:.0f} s"
            case _:
                return "the process can open no more descriptors"


_TOLD = {
    FOR_ADDRESS: "connections were refused",
    FOR_ALL: "connections were refused",
    FOR_ROOM: "connections that waited made room for new ones",
    FOR_BODY: "requests that waited for their bodies made room for new ones",
    FOR_DESCRIPTORS: "connections could not be accepted",
    FOR_HANDSHAKE: "handshakes that did not go on made room for others",
}

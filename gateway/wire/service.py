"""What the connections of one listener have in common: how requests are read and answered, how long all is waited for."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from authz.protocol.request import Answer, Body, HttpRequest
from gateway.wire.answer_heads import Dates
from gateway.wire.likenesses import Likenesses
from gateway.wire.peers import Peer
from gateway.wire.reading import RawHeaders

Read = Callable[[str, str, RawHeaders, Peer, Body | None], HttpRequest]
Handler = Callable[[HttpRequest], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a connection waits, in seconds."""

    head: float = 20.0  # for the rest of a head that has begun
    next_request: float = 75.0
    body: float = 60.0  # for a body that somebody reads, beyond what its bytes give back
    reader: float = 120.0  # for a reader who takes nothing of an answer
    linger: float = 2.0  # for bytes that nobody reads, behind the last answer
    quiet: float = 0.5  # without such bytes
    close: float = 30.0  # for what is written to go out
    late: float = 1.0  # for the request of a caller that had just connected when the drain began
    look: float = 1.0  # between two looks at all of them


class Served(Protocol):
    """A connection as its front sees it.

    deadline  time of the loop at which what the connection waits for is overdue
    work      the request that is being answered
    """

    deadline: float
    work: asyncio.Task[None] | None

    @property
    def is_busy(self) -> bool: ...
    @property
    def waits_since(self) -> float | None: ...
    def drain(self) -> None: ...
    def overdue(self) -> None: ...
    @property
    def body_due(self) -> float | None: ...
    def make_room(self) -> None: ...
    def end_body(self) -> None: ...
    def abort(self) -> None: ...


@dataclass(slots=True)
class Service:
    """What the connections of a listener have in common."""

    read: Read
    handle: Handler
    max_url: int
    max_head: int
    likenesses: Likenesses
    patience: Patience = Patience()
    dates: Dates = field(default_factory=Dates)
    connections: set[Served] = field(default_factory=set)
    is_draining: bool = False
    lost: asyncio.Event = field(default_factory=asyncio.Event)  # set whenever a connection is gone

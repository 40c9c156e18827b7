"""One request to a store and the answer to it, as far as it has come: what the connection fills and a reader takes."""

import asyncio
from typing import Protocol

from gateway.wire.upstream_head import Head

HIGH_WATER_BYTES = 256 * 1024  # beyond this the socket is not read
_LOW_WATER_BYTES = 64 * 1024


class Unreachable(Exception):
    """No connection to the store, or it ended before an answer began."""


class Stale(Unreachable):
    """The connection ended before the first byte of an answer: on one that was kept, the store had closed it."""


class TookTooLong(Exception):
    """The store let the time for a step go by."""


class Line(Protocol):
    """The connection, as the reader of an answer sees it."""

    def resume(self) -> None:
        """Read on."""
        ...

    def abort(self) -> None:
        """End it."""
        ...


class Exchange:
    """A request that was sent. is_sent is whether all of it has been; is_head, whether HEAD was asked."""

    __slots__ = (
        "_line", "_loop", "_pieces", "_waiter", "buffered", "error", "head", "is_ended", "is_head", "is_sent",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, line: Line, *, is_head: bool, is_sent: bool) -> None:
        self._loop = loop
        self._line: Line | None = line
        self._pieces: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self.buffered = 0  # bytes that nobody has taken yet
        self.error: Exception | None = None
        self.head: Head | None = None
        self.is_ended = False  # the answer is whole
        self.is_head = is_head
        self.is_sent = is_sent

    # What the connection does

    def begin(self, head: Head) -> None:
        """The head has come."""
        self.head = head
        self.wake()

    def put(self, piece: bytes) -> None:
        """A piece of the body has come."""
        self._pieces.append(piece)
        self.buffered += len(piece)
        self.wake()

    def end(self) -> None:
        """The answer is whole."""
        self.is_ended = True
        self.wake()

    def let_go(self) -> None:
        """The connection goes its own way; what came stays here."""
        self._line = None

    def fail(self, error: Exception) -> None:
        """There will be no more. What came before is still given; an answer that was whole stays so."""
        self._line = None
        if self.error is None and not self.is_ended:
            self.error = error
        self.wake()

    def wake(self) -> None:
        """Let the one who waits look again."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    # What the reader does

    async def answered(self) -> Head:
        """The head. Raises Unreachable, TookTooLong, InvalidAnswer: also where the answer is known to be broken."""
        while self.error is None:
            if self.head is not None:
                return self.head
            await self.more()
        raise self.error

    async def more(self) -> None:
        """Wait until something has changed."""
        self._waiter = self._loop.create_future()
        await self._waiter

    def whole(self) -> bytes | None:
        """The whole body when it is here: no wait, no switch of tasks. None when it is not, or was begun."""
        if not self.is_ended or self.error is not None:
            return None
        pieces, self._pieces, self.buffered = self._pieces, [], 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def piece(self) -> bytes:
        """The next piece of the body, b'' at its end. Raises TookTooLong, InvalidAnswer, Unreachable."""
        while True:
            if self._pieces:
                pieces, self._pieces, self.buffered = self._pieces, [], 0
                if self._line is not None:
                    self._line.resume()
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
            if self.error is not None:
                raise self.error
            if self.is_ended:
                return b""
            await self.more()

    def close(self) -> None:
        """The reader wants no more: a connection whose answer did not end is of no use."""
        line, self._line = self._line, None
        self._pieces = []
        self.buffered = 0
        if line is not None:
            line.abort()

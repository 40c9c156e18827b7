"""One request to a store and the answer to it, as far as it has come: what the connection fills and a reader takes."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from gateway.wire.upstream_head import Head

HIGH_WATER_BYTES = 256 * 1024  # beyond this the socket is not read
LOW_WATER_BYTES = 128 * 1024  # from here on it is read again
PIECE_BYTES = 64 * 1024  # short pieces are given together up to this


class Unreachable(Exception):
    """No connection to the store, or it ended before an answer began."""


class Stale(Unreachable):
    """The connection ended before the first byte of an answer: on one that was kept, the store had closed it."""


class TookTooLong(Exception):
    """The store let the time for a step go by."""


@runtime_checkable
class Stream(Protocol):
    """What a connection needs of its transport; uvloop's are no asyncio.Transport."""

    # What asyncio says of them holds.
    def write(self, data: bytes) -> None: ...
    def writelines(self, list_of_data: Iterable[bytes]) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def is_closing(self) -> bool: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...


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
        self._pieces: deque[bytes] = deque()
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

    def put(self, pieces: list[bytes]) -> None:
        """Pieces of the body have come."""
        for piece in pieces:
            if piece:
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
            waiter = self._waiter = self._loop.create_future()
            await waiter
        raise self.error

    async def more(self) -> None:
        """Wait until something has changed."""
        self._waiter = self._loop.create_future()
        await self._waiter

    def whole(self) -> bytes | None:
        """The whole body when it is here: no wait, no switch of tasks. None when it is not, or was begun."""
        if not self.is_ended or self.error is not None:
            return None
        pieces, self._pieces, self.buffered = self._pieces, deque(), 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def piece(self) -> bytes:
        """The next piece of the body, b'' at its end. Raises TookTooLong, InvalidAnswer, Unreachable."""
        while True:
            if self._pieces:
                piece = self._next()
                if self._line is not None and self.buffered <= LOW_WATER_BYTES:
                    self._line.resume()
                return piece
            if self.error is not None:
                raise self.error
            if self.is_ended:
                return b""
            await self.more()

    def _next(self) -> bytes:
        piece = self._pieces.popleft()
        size = len(piece)
        if self._pieces and size + len(self._pieces[0]) <= PIECE_BYTES:
            parts = [piece]
            while self._pieces and size + len(self._pieces[0]) <= PIECE_BYTES:
                parts.append(self._pieces.popleft())
                size += len(parts[-1])
            piece = b"".join(parts)
        self.buffered -= size
        return piece

    def close(self) -> None:
        """The reader wants no more: a connection whose answer did not end is of no use."""
        line, self._line = self._line, None
        self._pieces.clear()
        self.buffered = 0
        if line is not None:
            line.abort()

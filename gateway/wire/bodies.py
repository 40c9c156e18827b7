"""The body of a request as it comes in, taken no faster than somebody reads it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

from authz.protocol.request import RequestError

_HIGH_BYTES = 64 * 1024
_LOW_BYTES = 16 * 1024


class Tap(Protocol):
    """Where a body comes from."""

    def body_is_wanted(self) -> None:
        """Somebody waits for the next bytes of the body."""
        ...

    def body_has_come(self) -> None:
        """Nobody waits any more."""
        ...

    def shut(self) -> None:
        """Bring no more bytes for now."""
        ...

    def open(self) -> None:
        """Bring bytes again."""
        ...


class IncomingBody:
    """A body that is streamed once.

    length  what Content-Length says, None for chunks
    begun   whether bytes of it have come
    """

    __slots__ = ("_ended", "_error", "_is_shut", "_pieces", "_size", "_tap", "_waiter", "begun", "length")

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self.length: int | None = None
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_shut = False
        self.begun = False

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body. Raises RequestError(413) as soon as it is known to be longer, and what stream() raises."""
        if self.length is not None and self.length > limit_bytes:
            raise RequestError(413, f"the body is longer than {limit_bytes} bytes")
        if self._ended and self._error is None and len(self._pieces) == 1 and not self._is_shut:
            (piece,) = self._pieces  # it came with its head, as short ones do
            if len(piece) <= limit_bytes:
                self._pieces.clear()
                self._size = 0
                return piece
        parts: list[bytes] = []
        size = 0
        async for piece in self.stream():
            size += len(piece)
            if size > limit_bytes:
                raise RequestError(413, f"the body is longer than {limit_bytes} bytes")
            parts.append(piece)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def stream(self) -> AsyncIterator[bytes]:
        """The body in pieces.

        Raises RequestError(400) for framing with two readings, RequestError(408) when it does not come,
        ConnectionError when the caller is gone.
        """
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._size -= len(piece)
                if self._is_shut and self._size <= _LOW_BYTES:
                    self._is_shut = False
                    self._tap.open()
                yield piece
            if self._error is not None:
                raise self._error
            if self._ended:
                return
            await self._more()

    async def _more(self) -> None:
        self._tap.body_is_wanted()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._tap.body_has_come()

    def feed(self, piece: bytes) -> None:
        """The next bytes."""
        self.begun = True
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > _HIGH_BYTES and not self._is_shut:
            self._is_shut = True
            self._tap.shut()
        self._wake()

    def end(self) -> None:
        """The body is whole."""
        self._ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """The body will never be whole: its reader learns why, after the bytes that came."""
        if not self._ended and self._error is None:
            self._error = error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

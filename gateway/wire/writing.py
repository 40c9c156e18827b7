"""Answers on their way out: a short one in a single write, a long one as fast as its reader takes it."""

import asyncio
import logging
from collections.abc import AsyncIterator

from authz.protocol.request import Answer, Trailer
from gateway.wire import answer_heads
from gateway.wire.answer_heads import Dates

_GATHERED_BYTES = 16 * 1024  # pieces up to this size go out together
_log = logging.getLogger("securus.listener")


class AnswerWriter:
    """The writing side of one connection.

    is_paused  the reader is slow: nothing more is written before it has caught up
    """

    __slots__ = ("_dates", "_gathered", "_loop", "_size", "_transport", "_waiter", "is_paused")

    def __init__(
        self, transport: asyncio.WriteTransport, dates: Dates, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._transport = transport
        self._dates = dates
        self._loop = loop
        self._gathered: list[bytes] = []
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self.is_paused = False

    def pause(self) -> None:
        """The transport holds as much as it may."""
        self.is_paused = True

    def resume(self) -> None:
        """The reader has caught up."""
        self.is_paused = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def caught_up(self) -> None:
        """Wait until the reader has caught up."""
        while self.is_paused:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def whole(self, answer: Answer, body: bytes, *, is_head: bool, more: str) -> None:
        """Write an answer whose body is there; more are lines of the connection. Raises ValueError as head() does."""
        if self._transport.is_closing():
            return
        more = self._dates.line() + more
        if answer_heads.is_bodiless(answer.status):
            self._transport.write(answer_heads.head(answer.status, answer.headers, more))
            return
        more += answer_heads.length_line(len(body), is_head=is_head)
        head = answer_heads.head(answer.status, answer.headers, more, has_body=bool(body) and not is_head)
        if is_head:
            self._transport.write(head)
        elif len(body) <= _GATHERED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines([head, body])

    async def stream(self, answer: Answer, *, is_head: bool, is_chunked: bool, more: str) -> None:
        """Write an answer piece by piece; in the end its body is closed.

        Raises ValueError as head() does before anything is out. What fails afterwards breaks the connection off.
        """
        body = answer.body
        if isinstance(body, bytes):
            raise TypeError("this answer is whole")
        has_body = not is_head and not answer_heads.is_bodiless(answer.status)
        try:
            head = self._head_of_stream(answer, has_body=has_body, is_chunked=is_chunked, more=more)
            try:
                self._gather(head)
                if has_body:
                    await self._body(body, answer.trailer, is_chunked=is_chunked)
                self._flush()
            except ConnectionError:
                self._transport.abort()  # the caller went away, or whoever fed the body
            except Exception:
                # The status line is out: the only honest end is a connection that breaks off.
                _log.exception("an answer broke off")
                self._transport.abort()
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    def _head_of_stream(self, answer: Answer, *, has_body: bool, is_chunked: bool, more: str) -> bytes:
        more = self._dates.line() + more
        if has_body and is_chunked:
            more += answer_heads.CHUNKED
            if answer.trailer is not None:
                more += f"Trailer: {', '.join(answer.trailer.names)}\r\n"
        return answer_heads.head(answer.status, answer.headers, more, has_body=has_body)

    async def _body(self, body: AsyncIterator[bytes], trailer: Trailer | None, *, is_chunked: bool) -> None:
        async for piece in body:
            if piece:  # an empty chunk would be the end
                await self._piece(piece, is_chunked=is_chunked)
        if is_chunked:
            fields = () if trailer is None else await trailer.fields()
            self._gather(answer_heads.trailer_section(fields))

    async def _piece(self, piece: bytes, *, is_chunked: bool) -> None:
        if self._transport.is_closing():
            raise ConnectionResetError("the caller went away")
        if is_chunked:
            self._gather(b"%x\r\n" % len(piece))
            self._gather(piece)
            self._gather(b"\r\n")
        else:
            self._gather(piece)
        if self.is_paused:
            await self.caught_up()

    def _gather(self, content: bytes) -> None:
        """Hold it until the loop turns, so that a head and its first pieces are one write."""
        if not self._gathered:
            self._loop.call_soon(self._flush)
        self._gathered.append(content)
        self._size += len(content)
        if self._size > _GATHERED_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._gathered:
            gathered, self._gathered, self._size = self._gathered, [], 0
            if not self._transport.is_closing():
                self._transport.writelines(gathered)

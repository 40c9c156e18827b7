"""One connection to a store: one exchange at a time, and an end to it whenever anything is not as it must be.

What comes without being asked for ends the connection: bytes that are left over would be taken for the answer to the
next request, which is somebody else's. One timer serves every wait, and is set anew only when it would be too late.
"""

import asyncio
import select
from collections.abc import Callable

from gateway.wire.upstream_body import BodyReader, OpenBody, body_reader
from gateway.wire.upstream_exchange import HIGH_WATER_BYTES, Exchange, Stale, Stream, TookTooLong, Unreachable
from gateway.wire.upstream_head import (
    MAX_HEAD_BYTES,
    Head,
    InvalidAnswer,
    check_beginning,
    read_head,
)

_MAX_INTERIM_ANSWERS = 16  # 1xx before the answer
_CLOCK_SECONDS = 0.002  # a timer may ring this early


class UpstreamConnection(asyncio.Protocol):
    """A connection. free is called when it can take another request, ended once when it never will."""

    __slots__ = (
        "_body",
        "_deadline",
        "_drained",
        "_ended",
        "_exchange",
        "_free",
        "_head",
        "_idle_seconds",
        "_interim",
        "_is_paused",
        "_keeps",
        "_loop",
        "_partial",
        "_poll",
        "_timer",
        "_timer_at",
        "_transport",
        "body_seconds",
        "is_open",
        "is_used",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        free: Callable[["UpstreamConnection"], None],
        ended: Callable[["UpstreamConnection"], None],
        body_seconds: float,
    ) -> None:
        self._loop = loop
        self._free = free
        self._ended = ended
        self.body_seconds = body_seconds  # at most, between two pieces of a body
        self.is_open = False
        self.is_used = False  # an answer has come on it
        self._transport: Stream | None = None
        self._poll: select.poll | None = None
        self._exchange: Exchange | None = None
        self._partial = bytearray()  # of a head
        self._body: BodyReader | None = None
        self._interim = 0
        self._keeps = False
        self._idle_seconds: int | None = None
        self._is_paused = False
        self._drained: asyncio.Future[None] | None = None
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # Asking

    def is_quiet(self) -> bool:
        """Whether nothing came since it was let go: neither its end nor an answer that nobody asked for.

        The socket itself is asked, since the loop may not have read it yet.
        """
        return self.is_open and self._poll is not None and not self._poll.poll(0)

    def begin(
        self, request: tuple[bytes, ...], *, is_head: bool, is_whole: bool, deadline: float
    ) -> Exchange:
        """Send a request, or the head of one. Raises Stale when the connection has ended."""
        transport = self._transport
        if transport is None or not self.is_open or transport.is_closing():
            raise Stale("the connection has ended")
        exchange = self._exchange = Exchange(self._loop, self, is_head=is_head, is_sent=is_whole)
        if len(request) == 1:
            transport.write(request[0])
        else:
            transport.writelines(request)
        self.until(deadline)
        return exchange

    async def send(self, *parts: bytes) -> None:
        """Send a part of the body, as fast as the store takes it. Raises Unreachable when the connection ends."""
        transport = self._transport
        if transport is None or not self.is_open or transport.is_closing():
            raise Unreachable("the connection ended while the body was sent")
        transport.writelines(parts)
        while self._drained is not None:
            await asyncio.shield(self._drained)

    def sent(self) -> None:
        """The whole body is out."""
        exchange = self._exchange
        if exchange is not None:
            exchange.is_sent = True
            if exchange.is_ended:
                self._let_go(exchange)
            elif exchange.head is not None:
                self.until(None if self._is_paused else self._loop.time() + self.body_seconds)

    def send_no_more(self) -> None:
        """The rest of the body stays here: the answer is still read, and the connection ends with it."""
        self._keeps = False
        self.sent()

    def until(self, deadline: float | None) -> None:
        """What is waited for has time until then; None: nothing is waited for."""
        self._deadline = deadline
        if deadline is not None and (self._timer is None or deadline < self._timer_at):
            self._set_timer(deadline)

    def put_off(self, seconds: float) -> None:
        """The store did its part: it has so many seconds from now for the next."""
        if self.is_open:
            self.until(self._loop.time() + seconds)

    def resume(self) -> None:
        """Read on: what had come was taken."""
        transport = self._transport
        if self._is_paused and transport is not None and not transport.is_closing():
            self._is_paused = False
            transport.resume_reading()
            self.until(self._loop.time() + self.body_seconds)

    def abort(self) -> None:
        """End it here and now, whatever it is doing."""
        self._end(Unreachable("the connection was given up"))

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        if not isinstance(transport, Stream):
            raise TypeError("a stream is needed")
        self._transport = transport
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer."""
        exchange = self._exchange
        try:
            if exchange is None or exchange.is_ended:
                raise InvalidAnswer("the store sent bytes that nobody asked for")
            if self._body is None:
                self._head_came(exchange, data)
            else:
                self._body_came(exchange, self._body, data)
        except InvalidAnswer as error:
            self._end(error)

    def eof_received(self) -> bool:
        """The store will send nothing more: the end of a body that says so, of any other a break."""
        if self._exchange is not None and isinstance(self._body, OpenBody):
            self._whole(self._exchange, b"")
        self._end(self._break())
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        self._end(self._break())
        self._transport = None

    def pause_writing(self) -> None:
        """The store does not take what is sent."""
        if self._drained is None:
            self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """The store takes more."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # An answer comes

    def _head_came(self, exchange: Exchange, data: bytes) -> None:
        if self._partial:
            looked = len(self._partial)
            self._partial += data
            end = self._partial.find(b"\r\n\r\n", max(0, looked - 3))
            if end < 0:
                check_beginning(self._partial, looked)
                return
            data = bytes(self._partial)
            self._partial.clear()
        else:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._partial += data
                check_beginning(self._partial, 0)
                return
        if end > MAX_HEAD_BYTES:
            raise InvalidAnswer("the head of the answer is too long")
        head = read_head(data[: end + 2], is_head=exchange.is_head)
        rest = data[end + 4 :]
        if head.status < 200:
            self._interim_came(exchange, head, rest)
            return
        self._keeps, self._idle_seconds = head.keeps and not exchange.is_head, head.idle
        length = head.length
        if 0 <= length == len(rest):  # the usual case: a short answer in one piece
            if rest:
                exchange.put([rest])
            exchange.begin(head)
            self._whole(exchange, b"")
            return
        exchange.begin(head)
        body = self._body = body_reader(length)
        self._body_came(exchange, body, rest)

    def _interim_came(self, exchange: Exchange, head: Head, rest: bytes) -> None:
        self._interim += 1
        if head.status == 101 or self._interim > _MAX_INTERIM_ANSWERS:
            raise InvalidAnswer("the store answered with what nobody asked for")
        if rest:
            self._head_came(exchange, rest)

    def _body_came(self, exchange: Exchange, body: BodyReader, data: bytes) -> None:
        pieces, rest = body.feed(data)
        exchange.put(pieces)
        if rest is not None:
            self._whole(exchange, rest)
        elif exchange.buffered > HIGH_WATER_BYTES:
            if not self._is_paused and self._transport is not None:
                self._is_paused = True
                self._transport.pause_reading()
                if exchange.is_sent:
                    self.until(None)  # it is the reader who is waited for
        elif exchange.is_sent:
            self.until(self._loop.time() + self.body_seconds)

    def _whole(self, exchange: Exchange, rest: bytes) -> None:
        if rest:
            raise InvalidAnswer("there are bytes behind the end of the answer")
        self._body = None
        exchange.end()
        if exchange.is_sent:
            self._let_go(exchange)

    def _let_go(self, exchange: Exchange) -> None:
        """The exchange is over: the connection takes the next, or ends."""
        self._exchange = None
        exchange.let_go()
        self._interim = 0
        transport = self._transport
        if transport is None or not self._keeps:
            self._end(Unreachable("the connection was not kept"))
            return
        if transport.get_write_buffer_size():
            # An answer before the request was out: the rest of it still goes, but nothing behind it.
            transport.close()
            self._loop.call_later(self.body_seconds, transport.abort)
            self._end(Unreachable("the connection was not kept"), aborts=False)
            return
        if self._is_paused:
            self._is_paused = False
            transport.resume_reading()
        self.is_used = True
        self.until(None)
        self._free(self)

    def idle_until(self, seconds: float) -> None:
        """Nobody needs it now; it ends in so many seconds, before the store would end it where the store says when."""
        if self._idle_seconds is not None:
            seconds = min(seconds, self._idle_seconds - 1)
        if seconds <= 0:
            self.abort()
        else:
            self.until(self._loop.time() + seconds)

    # Ends

    def _break(self) -> Exception:
        exchange = self._exchange
        if exchange is not None and (exchange.head is not None or self._partial or self._interim):
            return InvalidAnswer("the answer broke off")
        return Stale("the connection ended before an answer")

    def _end(self, error: Exception, *, aborts: bool = True) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.fail(error)
        if not self.is_open:
            return
        self.is_open = False
        self._body = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.resume_writing()
        if self._transport is not None and aborts:
            self._transport.abort()
        self._ended(self)

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(at, self._rings), at

    def _rings(self) -> None:
        self._timer = None
        deadline = self._deadline
        if deadline is None:
            return
        if deadline > self._loop.time() + _CLOCK_SECONDS:
            self._set_timer(deadline)
        else:
            exchange = self._exchange
            has_begun = exchange is not None and exchange.head is not None
            self._end(TookTooLong(f"the answer did not {'go on' if has_begun else 'begin'} in time"))

"""One connection of a caller: an asyncio protocol that answers one request after the other.

Bytes of further requests wait unread while one is in work, so that answers go out in order and what a pipelining
caller can pile up is bounded. Body and answer have back-pressure each. When the caller goes away, the work for it
is cancelled. An answer that cannot go on breaks the connection off: a short one must not look whole.
"""

import asyncio
import logging
from socket import SO_KEEPALIVE, SOL_SOCKET
from typing import cast

from authz.protocol.request import Answer, Body, HttpRequest, RequestError
from gateway.wire import heads
from gateway.wire.answer_heads import CLOSE, CONTINUE, KEEP, plain
from gateway.wire.peers import Peer, peer_of
from gateway.wire.places import Place
from gateway.wire.reading import RawHeaders, RequestReader
from gateway.wire.service import Service
from gateway.wire.writing import AnswerWriter

_PIPELINED_BYTES = 64 * 1024
_SLOWEST_BODY = 500.0  # bytes a second: who sends a body more slowly uses up the patience for it
_SLOWEST_READER = 500.0  # bytes a second: who takes that much of an answer is waited for further
_NEVER = float("inf")
_log = logging.getLogger("securus.listener")


class Connection(asyncio.Protocol):
    """Made for each caller that connects."""

    __slots__ = (
        "_hears", "_is_deaf", "_is_shut", "_left", "_loop", "_peer", "_place", "_reader", "_searched",
        "_service", "_transport", "_unsent", "_waiting", "_wanted_at", "_writer", "deadline", "work",
    )  # fmt: skip
    _transport: asyncio.Transport
    _writer: AnswerWriter
    _peer: Peer

    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop, place: Place | None = None) -> None:
        self._service = service
        self._place = place
        self._loop = loop
        self._reader = RequestReader()
        self._waiting = b""  # bytes behind the request in work, or of a head that is not whole
        self._searched = 0  # bytes of them that hold no end of a head
        self._is_deaf = False  # whatever comes is thrown away: the answer in work is the last
        self._is_shut = False
        self._hears = False  # bytes that were thrown away
        self._unsent = 0  # of an answer, when its reader was last found to go on
        self._left = self._wanted_at = 0.0  # what is left of the patience for the body in work
        self.work: asyncio.Task[None] | None = None
        self.deadline = _NEVER

    # The transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to listen to the caller."""
        self._transport = cast(asyncio.Transport, transport)
        self._peer = peer_of(transport)
        socket = transport.get_extra_info("socket")
        if socket is not None:
            socket.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        self._writer = AnswerWriter(self._transport, self._service.dates, self._loop)
        self._service.connections.add(self)
        patience = self._service.patience
        self.deadline = self._loop.time() + (
            patience.late if self._service.is_draining else patience.next_request
        )

    def data_received(self, data: bytes) -> None:
        """Bytes of the caller: of a head, of the body in work, or of what comes after."""
        if self._is_deaf:
            self._hears = True
            return
        if self._reader.body is not None:
            self._take_body(data)
        elif self.work is not None:
            self._waiting += data
            if len(self._waiting) > _PIPELINED_BYTES:
                self.shut()
        else:
            self._take(self._waiting + data if self._waiting else data)

    def eof_received(self) -> bool:
        """The caller writes no more: it is taken as gone, and the transport closes."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything: whoever works for the caller stops."""
        self._service.connections.discard(self)
        self._service.lost.set()
        if self._place is not None:
            self._place.give_back()
        self._is_deaf = True
        self._waiting = b""
        self.deadline = _NEVER
        self._reader.close()
        if self.work is not None:
            self.work.cancel()

    def pause_writing(self) -> None:
        """The caller reads slowly."""
        self._writer.pause()
        self._unsent = self._transport.get_write_buffer_size()
        self.deadline = self._loop.time() + self._service.patience.reader

    def resume_writing(self) -> None:
        """The caller has caught up."""
        self._writer.resume()
        if self.work is not None:
            self.deadline = _NEVER

    # Reading

    def _take(self, data: bytes) -> None:
        """Bytes that begin with a head. Nothing is in work."""
        service = self._service
        end = data.find(heads.HEAD_END, self._searched) + 4
        try:
            if end < 4 or end > service.max_head:
                self._reader.is_whole = False
                heads.check_unfinished(data, service.max_url, service.max_head)
                if not self._waiting:
                    self.deadline = self._loop.time() + service.patience.head
                self._waiting, self._searched = data, max(0, len(data) - 3)
                return
            self._searched = 0
            self.deadline = _NEVER
            if end == len(data):
                self._waiting = b""
            else:
                self._waiting, data = data[end:], data[:end]
            request = self._begin(data)
        except RequestError as error:
            self._refuse(error)
            return
        except Exception:
            _log.exception("a request failed")
            self._refuse(RequestError(500, "the gateway failed"))
            return
        self._left = service.patience.body
        self.work = self._loop.create_task(self._serve(request))
        if self._waiting and self._reader.body is not None:
            behind, self._waiting = self._waiting, b""
            self._take_body(behind)

    def _begin(self, head: bytes) -> HttpRequest:
        likenesses = self._service.likenesses
        cut = likenesses.cut(head, self._peer)
        if cut is None:
            return self._reader.begin(head, self._read, self)
        request = likenesses.find(cut)
        if request is not None:
            self._reader.begin_as_before()
            return request
        request = self._reader.begin(head, self._read, self)
        return likenesses.note(cut, request) if self._reader.is_usual else request

    def _read(self, method: str, target: str, raw_headers: RawHeaders, body: Body | None) -> HttpRequest:
        return self._service.read(method, target, raw_headers, self._peer, body)

    def _take_body(self, data: bytes) -> None:
        """Bytes of the body in work, and perhaps of what comes after."""
        self._left = min(self._left + len(data) / _SLOWEST_BODY, self._service.patience.body)
        self._waiting = self._reader.more(data)
        if self._reader.is_lost:
            self._is_deaf = True

    def _refuse(self, error: RequestError) -> None:
        """Answer what is no request; the connection ends with it, for nobody knows where the next one begins."""
        _log.info("a request cannot be read", extra={"peer": self._peer.address, "cause": error.description})
        answer = plain(error.status, error.description)
        self._writer.whole(answer, cast(bytes, answer.body), is_head=False, more=CLOSE)
        if self._reader.is_whole and not self._waiting:
            self._close()
        else:
            self._linger()

    # The tap of a body

    def body_is_wanted(self) -> None:
        """Ask for the body, only now that somebody wants it (RFC 9110 10.1.1, attack case 30)."""
        self._wanted_at = self._loop.time()
        self.deadline = self._wanted_at + self._left
        reader = self._reader
        if reader.expects:
            reader.expects = False
            if reader.body is not None and not reader.body.begun and not self._transport.is_closing():
                self._transport.write(CONTINUE)

    def body_has_come(self) -> None:
        """The body is waited for no more."""
        self._left -= self._loop.time() - self._wanted_at
        if not self._writer.is_paused:
            self.deadline = _NEVER

    def shut(self) -> None:
        """Read no more for now."""
        if not self._is_shut and not self._transport.is_closing():
            self._is_shut = True
            self._transport.pause_reading()

    def open(self) -> None:
        """Read again."""
        if self._is_shut:
            self._is_shut = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    # Answering

    async def _serve(self, request: HttpRequest) -> None:
        service = self._service
        try:
            try:
                answer = await service.handle(request)
            except RequestError as error:
                answer = plain(error.status, error.description)
            except Exception:
                _log.exception("a request failed")
                answer = plain(500, "the gateway failed")
            try:
                await self._send(request.method, answer)
            except ValueError:
                _log.exception("an answer cannot be written")
                await self._send(request.method, plain(500, "the gateway failed"))
            if self._writer.is_paused:
                await self._writer.caught_up()
            self._answered()
        except BaseException:
            self._transport.abort()
            raise

    async def _send(self, method: str, answer: Answer) -> None:
        reader = self._reader
        is_head = method == "HEAD"
        body = answer.body
        if reader.body is not None or self._is_deaf or self._service.is_draining:
            # A body that nobody read to its end ends the connection, not the next request.
            reader.keeps = False
        elif reader.is_1_0 and not isinstance(body, bytes):
            reader.keeps = False  # HTTP/1.0 has no chunks: the end of the connection is that of the body
        reader.expects = False
        more = ("" if not reader.is_1_0 else KEEP) if reader.keeps else CLOSE
        if isinstance(body, bytes):
            self._writer.whole(answer, body, is_head=is_head, more=more)
        else:
            # Nor has HTTP/1.0 a trailer section: its callers go without.
            await self._writer.stream(answer, is_head=is_head, is_chunked=not reader.is_1_0, more=more)

    def _answered(self) -> None:
        """The answer is out: on to the next request, or to the end."""
        self.work = None
        if self._transport.is_closing():
            return
        if self._reader.body is not None or self._is_deaf:
            self._linger()
        elif not self._reader.keeps or self._service.is_draining:
            self._close()
        else:
            self.open()
            self.deadline = self._loop.time() + self._service.patience.next_request
            if self._waiting:
                waiting, self._waiting = self._waiting, b""
                self._take(waiting)

    # The end

    def _linger(self) -> None:
        """Read on without use for a moment: a close would take the answer from a caller who still sends."""
        self._is_deaf = True
        self._waiting = b""
        self._reader.fail(ConnectionResetError("the request is answered"))
        self.open()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self.deadline = self._loop.time() + self._service.patience.linger
        self._listen_for_quiet()

    def _listen_for_quiet(self) -> None:
        self._hears = False
        self._loop.call_later(self._service.patience.quiet, self._after_quiet)

    def _after_quiet(self) -> None:
        if self._transport.is_closing():
            return
        if self._hears:
            self._listen_for_quiet()
        else:
            self._close()

    def _close(self) -> None:
        self._is_deaf = True
        self.deadline = self._loop.time() + self._service.patience.close
        # asyncio's transport of TLS can be asked nothing once closed twice.
        if not self._transport.is_closing():
            self._transport.close()

    def drain(self) -> None:
        """Close when nothing is in work; else the answer in work is the last."""
        if self.work is None and not self._is_deaf:
            if self._waiting:
                self.deadline = min(self.deadline, self._loop.time() + self._service.patience.late)
            else:
                self._close()

    @property
    def is_busy(self) -> bool:
        """Whether something is in work, on its way out, or still waited for."""
        return self.work is not None or not self._is_deaf or self._transport.get_write_buffer_size() > 0

    @property
    def waits_since(self) -> float | None:
        """Since when it waits for a request, the rest of a head or the end of a closed connection; else None.

        Whoever ends it then takes no answer from anybody.
        """
        if (
            self.work is not None
            or self.deadline == _NEVER
            or self._transport.get_write_buffer_size() > 0
            or (self._is_deaf and not self._transport.is_closing())
        ):
            return None
        patience = self._service.patience
        if self._is_deaf:
            return self.deadline - patience.close
        return self.deadline - (patience.head if self._waiting else patience.next_request)

    def make_room(self) -> None:
        """Break off for another caller."""
        self.deadline = _NEVER
        self._transport.abort()

    @property
    def body_due(self) -> float | None:
        """When a body that somebody waits for is overdue; None where nobody waits for one."""
        if self._reader.body is None or self.deadline == _NEVER or self._writer.is_paused or self._is_deaf:
            return None
        return self.deadline

    def end_body(self) -> None:
        """Wait for the body no more: whoever reads it answers 408."""
        self._is_deaf = True
        self.deadline = _NEVER
        self._reader.fail(RequestError(408, "the body does not come"))

    def abort(self) -> None:
        """Break off."""
        self._transport.abort()

    def overdue(self) -> None:
        """The deadline is over."""
        if self._writer.is_paused:
            unsent, patience = self._transport.get_write_buffer_size(), self._service.patience.reader
            if self._unsent - unsent >= _SLOWEST_READER * patience:
                self._unsent, self.deadline = unsent, self._loop.time() + patience
                return
            said = {"peer": self._peer.address, "cause": "its reader took nothing of it"}
            _log.info("an answer broke off", extra=said)
            self._transport.abort()
        elif self._is_deaf:
            self._transport.abort()
        elif self._reader.body is not None:
            self.end_body()
        elif self.work is not None:
            self.deadline = _NEVER
        elif self._waiting:
            self._refuse(RequestError(408, "the rest of the request does not come"))
        else:
            self._close()

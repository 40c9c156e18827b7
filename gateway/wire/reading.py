"""Requests out of bytes: llhttp under our own rules, head by head, body by body. No socket here.

The head is cut out before llhttp sees it, and llhttp must find its end in the same place. Only then comes the body:
as many bytes as Content-Length says, or chunks as llhttp finds them. Behind a body of chunks the connection takes
nothing more from the same bytes: who pipelines there must ask again (RFC 9112 9.3.2).
"""

from collections.abc import Callable

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from authz.protocol.request import Body, HttpRequest, RequestError
from gateway.wire import heads
from gateway.wire.bodies import IncomingBody, Tap

RawHeaders = list[tuple[bytes, bytes]]
Read = Callable[[str, str, RawHeaders, Body | None], HttpRequest]
_CHUNK_FRAMING = 16 * 1024  # bytes that are no body, in a body of chunks; eight more for each byte of it


class _Behind(Exception):
    """A request begins behind a body of chunks, in the same bytes."""


class RequestReader:
    """The reading side of one connection.

    body      that of the request in work, while it is not whole
    keeps     whether the caller lets the connection live after this request
    is_1_0    whether the request is HTTP/1.0
    expects   the caller waits for 100 Continue before it sends the body
    is_whole  the last byte of the request has come
    is_lost   nobody knows where the next request begins
    """

    __slots__ = (
        "_allowance",
        "_chunks_are_whole",
        "_head_is_whole",
        "_parser",
        "_raw_headers",
        "_remaining",
        "body",
        "expects",
        "is_1_0",
        "is_lost",
        "is_whole",
        "keeps",
    )

    def __init__(self) -> None:
        self._parser = HttpRequestParser(self)
        self._raw_headers: RawHeaders = []
        self._remaining: int | None = None  # bytes of the body by Content-Length; None for chunks
        self._allowance = 0
        self._head_is_whole = self.is_whole = self._chunks_are_whole = False
        self.body: IncomingBody | None = None
        self.keeps = True
        self.is_1_0 = False
        self.expects = False
        self.is_lost = False

    def begin(self, head: bytes, read: Read, tap: Tap) -> HttpRequest:
        """The request of these bytes, which are a whole head. Raises RequestError; the connection ends with it."""
        self._head_is_whole = self.is_whole = False
        method, target, self.is_1_0 = heads.request_line(head)
        raw_headers: RawHeaders = []
        self._raw_headers = raw_headers
        is_upgrade = False
        try:
            self._parser.feed_data(head)
        except HttpParserUpgrade:
            is_upgrade = True  # which is not taken: this is HTTP/1.1 and stays so (RFC 9110 7.8)
            self.is_whole = False
        except HttpParserError as error:
            raise RequestError(400, heads.NOT_ONE_READING) from error
        if not self._head_is_whole:
            raise RequestError(400, heads.NOT_ONE_READING)
        body = None if self.is_whole else IncomingBody(tap)
        request = read(method, target, raw_headers, body)
        length = heads.body_length(method, request.headers, is_http_1_0=self.is_1_0)
        if body is None:
            if length != 0:
                raise RequestError(400, heads.NOT_ONE_READING)
            return request
        body.length = self._remaining = length
        if is_upgrade:
            self._begin_body_of_upgrade(length)
            if length == 0:
                self.is_whole = True
                body.end()
                return request
        elif length == 0:
            raise RequestError(400, heads.NOT_ONE_READING)
        self.body = body
        self._allowance = _CHUNK_FRAMING
        self.expects = not self.is_1_0 and request.headers.get("expect", "").lower() == "100-continue"
        return request

    @property
    def is_usual(self) -> bool:
        """Whether the request that was begun has no body, is HTTP/1.1, and leaves the connection as it was."""
        return self.is_whole and self.body is None and self.keeps and not self.is_1_0

    def begin_as_before(self) -> None:
        """A usual request whose head was read elsewhere; llhttp hears nothing of it."""
        self.is_whole = self.keeps = True
        self.is_1_0 = self.expects = False

    def _begin_body_of_upgrade(self, length: int | None) -> None:
        """llhttp takes what is behind the head for another protocol: a new parser reads it by the framing we know."""
        keeps, self._parser = self.keeps, HttpRequestParser(self)
        if length != 0:
            framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
            self._parser.feed_data(f"POST / HTTP/1.1\r\nHost: upgrade\r\n{framing}\r\n\r\n".encode())
        self.keeps = keeps

    def more(self, content: bytes) -> bytes:
        """Bytes of the body in work; gives back those behind it. What cannot be framed fails the body."""
        behind = b""
        remaining = self._remaining
        if remaining is None:
            self._allowance -= len(content)
        else:
            if len(content) > remaining:
                behind, content = content[remaining:], content[:remaining]
            self._remaining = remaining - len(content)
        try:
            self._parser.feed_data(content)
            if remaining is None and self._allowance < 0:
                raise HttpParserError("more framing than body")
        except HttpParserError:
            self.fail(RequestError(400, "the body is not framed as HTTP/1.1 says"))
        if self._chunks_are_whole:
            # What a parser keeps of a trailer section must not reach the next head.
            self._chunks_are_whole = False
            self._parser = HttpRequestParser(self)
        return behind

    def fail(self, error: Exception) -> None:
        """The body in work comes to no end: its reader learns why."""
        self.is_lost = True
        if self.body is not None:
            self.body.fail(error)
            self.body = None

    def close(self) -> None:
        """Let go of the parser, which holds methods of this object."""
        self.fail(ConnectionResetError("the caller went away"))
        del self._parser

    # What llhttp calls

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self._chunks_are_whole:
            raise _Behind

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a field behind a body of chunks, which nobody reads."""
        self._raw_headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The end of the head."""
        self._head_is_whole = True
        self.keeps = self._parser.should_keep_alive()

    def on_body(self, piece: bytes) -> None:
        """Bytes of the body."""
        if self.body is not None:
            self._allowance += 9 * len(piece)
            self.body.feed(piece)

    def on_message_complete(self) -> None:
        """The end of the request."""
        self.is_whole = True
        if self.body is not None:
            self._chunks_are_whole = self._remaining is None
            self.body.end()
            self.body = None

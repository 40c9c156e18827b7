"""What we read of an answer, another reader reads alike: aiohttp's client (llhttp), whatever the bytes and the pieces.

The other way round need not hold: what it reads and we refuse is refused.
"""

import asyncio
import socket
from typing import Any

import pytest
from aiohttp import http_exceptions, http_parser
from aiohttp.base_protocol import BaseProtocol
from hypothesis import example, given
from hypothesis import strategies as some

from gateway.wire.upstream_connection import UpstreamConnection
from gateway.wire.upstream_head import Head
from tests.conformance.upstream.test_upstream_wire import BROKEN, READ, REFUSED

LOOP = asyncio.new_event_loop()
PAIR = socket.socketpair()


class Wire:
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        self.is_closed = False
        self.sent = b""

    def get_extra_info(self, name: str) -> socket.socket:
        return PAIR[0]

    def write(self, data: bytes) -> None:
        self.sent += data

    def writelines(self, list_of_data: Any) -> None:
        self.sent += b"".join(list_of_data)

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.is_closed = True

    close = abort

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def ours(said: bytes, cuts: list[int]) -> tuple[Head, bytes, bool] | None:
    """Head, body and whether the connection is kept; None for what is no whole answer."""
    kept: list[object] = []
    wire: Any = Wire()
    connection = UpstreamConnection(LOOP, free=kept.append, ended=lambda _: None, body_seconds=5)
    connection.connection_made(wire)
    exchange = connection.begin((b"GET",), is_head=False, is_whole=True, deadline=LOOP.time() + 5)
    at = 0
    for cut in [*sorted(min(cut, len(said)) for cut in cuts), len(said)]:
        if cut > at and not wire.is_closed:
            connection.data_received(said[at:cut])
        at = max(at, cut)
    was_open = connection.is_open
    if was_open and not kept:
        connection.eof_received()
        connection.connection_lost(None)
    connection.abort()
    if exchange.error is not None or not exchange.is_ended:
        return None
    assert exchange.head is not None
    return exchange.head, exchange.whole() or b"", bool(kept) and was_open


async def _theirs(said: bytes) -> tuple[int, dict[str, str], bytes, bool] | None:
    protocol = BaseProtocol(LOOP)
    parser = http_parser.HttpResponseParser(
        protocol, LOOP, 2**16, max_line_size=2**15, max_field_size=2**15, max_headers=200,
        response_with_body=True, read_until_eof=True, auto_decompress=False,
    )  # fmt: skip
    try:
        messages, _, rest = parser.feed_data(said)
        parser.feed_eof()
    except http_exceptions.HttpProcessingError:
        return None
    final = [each for each in messages if each[0].code >= 200]
    if len(final) != 1 or rest:
        return None
    message, payload = final[0]
    headers: dict[str, str] = {}
    for name, value in message.headers.items():
        headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
    body = b"" if payload is http_parser.EMPTY_PAYLOAD else await payload.read()
    return message.code, headers, body, not message.should_close


def theirs(said: bytes) -> tuple[int, dict[str, str], bytes, bool] | None:
    """The same by aiohttp: status, headers, body, whether it would keep the connection."""
    return LOOP.run_until_complete(_theirs(said))


def compare(said: bytes, cuts: list[int]) -> None:
    found, in_pieces = ours(said, []), ours(said, cuts)
    if (
        found is None and in_pieces is not None
    ):  # what was too much came behind the answer, and ended the connection
        assert not in_pieces[2]
        assert in_pieces[:2] in [(ours(said[:cut], []) or ())[:2] for cut in cuts]
    else:
        assert found == in_pieces
    if found is None:
        return
    head, body, is_kept = found
    other = theirs(said)
    assert other is not None, "we read what the other reader refuses"
    status, headers, content, keeps = other
    assert (head.status, body) == (status, content)
    assert {name: value for name, value in head.headers.items() if name not in TWICE} == {
        name: value for name, value in headers.items() if name not in TWICE
    }
    assert keeps or not is_kept, "we keep what the other reader closes"


TWICE = {"content-type", "etag", "location"}  # said twice alike, they are one for us and a list for the test


@pytest.mark.parametrize(
    "said", [row[1] for row in [*READ, *REFUSED, *BROKEN]], ids=[r[0] for r in [*READ, *REFUSED, *BROKEN]]
)
def test_the_table_of_answers_is_read_alike(said: bytes) -> None:
    compare(said, [1, 5, len(said) // 2, len(said) - 1])


def test_the_table_is_read_at_all() -> None:
    assert sum(ours(row[1], []) is not None for row in READ) == len(READ)
    assert sum(theirs(row[1]) is not None for row in READ) == len(READ)
    assert not [row[0] for row in [*REFUSED, *BROKEN] if ours(row[1], []) is not None]


STATUS = some.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 204 X",
        b"HTTP/1.1 304 X",
        b"HTTP/1.1 404",
        b"HTTP/1.1 500 \xfc",
    ]
)
LINES = some.sampled_from(
    [
        b"Content-Length: 5", b"content-length:5", b"Content-Length: 0", b"Content-Length: 05",
        b"Transfer-Encoding: chunked", b"transfer-encoding: CHUNKED", b"Connection: close",
        b"Connection: keep-alive", b"Connection: x,keep-alive", b"X: y", b"Keep-Alive: timeout=5",
        b"X: \t z \t", b"X-B:\xc3\xbc\xff", b"ETag: W/\"1\"", b"Content-Type: a/b", b"Vary: a", b"",
        b" X: y", b"X : y", b"Trailer: x", b"Upgrade: x",
    ]
)  # fmt: skip
BODIES = some.sampled_from(
    [
        b"", b"hello", b"hell", b"hello\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"5;a=b\r\nhello\r\n0\r\n\r\n", b"1\r\nh\r\n4\r\nello\r\n00\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", b"5\nhello\r\n0\r\n\r\n", b"0\r\n\r\n",
        b'5;a="b;c"\r\nhello\r\n0\r\n\r\n', b"5;a\r\nhello\r\n0;b=c;d\r\n\r\n",
    ]
)  # fmt: skip
CUTS = some.lists(some.integers(1, 200), max_size=4)
END = some.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b" \r\n"])
BYTES = some.sampled_from([bytes([each]) for each in b'\r\n\t :;,="\\/\0\x7f\x80\xff0159aAfFxX-+_.H'])


@some.composite
def answers(draw: some.DrawFn) -> bytes:
    """Something like an answer, with a few bytes of it changed, gone, or more of them."""
    said = b""
    if draw(some.integers(0, 5)) == 0:
        said += b"HTTP/1.1 100 Continue" + draw(END) + draw(END)
    said += draw(STATUS) + draw(END)
    for line in draw(some.lists(LINES, max_size=5)):
        said += line + draw(END)
    said += draw(END) + draw(BODIES)
    for _ in range(draw(some.integers(0, 2))):
        at = draw(some.integers(0, len(said)))
        said = said[:at] + draw(some.sampled_from([b""]) | BYTES) + said[at + draw(some.integers(0, 1)) :]
    return said


@given(answers(), CUTS)
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", [3])
def test_what_is_accepted_is_read_alike(said: bytes, cuts: list[int]) -> None:
    compare(said, cuts)


@given(
    some.lists(some.binary(min_size=1, max_size=40), max_size=4),
    some.binary(min_size=1, max_size=9),
    CUTS,
    some.data(),
)
def test_a_body_is_what_was_sent_no_byte_less_and_no_byte_more(
    pieces: list[bytes], more: bytes, cuts: list[int], data: some.DataObject
) -> None:
    body = b"".join(pieces)
    sized = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])
    for said in (sized, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks):
        found = ours(said, cuts)
        assert found is not None
        assert found[1:] == (body, True)
        assert ours(said + more, []) is None
        assert ours(said[: data.draw(some.integers(0, len(said) - 1))], cuts) is None

"""The front beside aiohttp's own reading of the same bytes (RFC 9112): never more, never another.

Both stand on llhttp, in builds of their own, with other code around it. The yardstick is aiohttp's parser, one byte at
a time, and the one strict reading of authz.http behind it: what that refuses the front refuses, and what the front
takes is the same request there. The front may be stricter; a table says where, and that ordinary requests pass.
"""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authz.protocol.request import RequestError
from gateway.wire.peers import Peer
from tests.support.wire import MAX_HEADER, MAX_URL, Seen, read_request, requests_in

GET = b"GET /a HTTP/1.1\r\nHost: gw\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: gw\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def aiohttp_parser() -> HttpRequestParser:
    """aiohttp's parser with the bounds of the front."""
    loop = asyncio.get_running_loop()
    return HttpRequestParser(
        BaseProtocol(loop), loop, 2**16, max_line_size=MAX_URL + 64, max_field_size=MAX_HEADER, max_headers=128,
        auto_decompress=False,
    )  # fmt: skip


async def in_aiohttp(content: bytes) -> Seen:
    """The whole requests that aiohttp and our reading behind it find, up to the first that one of them refuses."""
    parser = aiohttp_parser()
    found = []
    whole = 0
    for position in range(len(content)):
        try:
            messages, upgraded, _ = parser.feed_data(content[position : position + 1])
        except HttpProcessingError:
            break
        found += messages
        if upgraded:
            break
        if len(found) > whole and found[-1][1].is_eof():
            whole = len(found)
            if found[-1][0].chunked and not found[-1][0].should_close:
                # aiohttp's own takes the fields of a trailer section for headers of the next request.
                parser = aiohttp_parser()
    seen: Seen = []
    for message, payload in found:
        if not payload.is_eof() or payload.exception() is not None:
            break
        body = await payload.read()
        raw = list(message.raw_headers)
        try:
            request = read_request(message.method, message.path, raw, Peer("192.0.2.1"), None)
        except RequestError:
            break
        target = request.path + ("?" + request.query if request.query else "")
        seen.append((request.method, target, dict(request.headers), body))
    return seen


async def both(content: bytes, cuts: list[int]) -> tuple[Seen, Seen]:
    places = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
    seen, _ = await requests_in([content[start:end] for start, end in pairwise(places)])
    return seen, await in_aiohttp(content)


HOSTILE = {
    "both framings": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nabc",
    "both framings, the other way": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\nabc",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "the same length twice": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "lengths in one line": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "a length with a sign": POST + b"Content-Length: +3\r\n\r\nabc",
    "a negative length": POST + b"Content-Length: -3\r\n\r\nabc",
    "a length in hexadecimal": POST + b"Content-Length: 0x3\r\n\r\nabc",
    "an empty length": POST + b"Content-Length:\r\n\r\nabc",
    "a length without end": POST + b"Content-Length: 99999999999999999999\r\n\r\nabc",
    "a length of 19 digits": POST + b"Content-Length: 1000000000000000000\r\n\r\nabc",
    "a space before the colon": POST + b"Content-Length : 3\r\n\r\nabc",
    "a tab before the colon": POST + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "a line that begins with a space": b"GET /a HTTP/1.1\r\n Host: gw\r\n\r\n",
    "a folded header": GET + b"X-A: b\r\n c\r\n\r\n",
    "a folded header with a tab": GET + b"X-A: b\r\n\tc\r\n\r\n",
    "a bare LF in the head": b"GET /a HTTP/1.1\r\nHost: gw\nX-A: b\r\n\r\n",
    "LF for all line ends": b"GET /a HTTP/1.1\nHost: gw\n\n",
    "LF at the end of the head": GET + b"\n",
    "a bare CR in a value": GET + b"X-A: b\rc\r\n\r\n",
    "a bare CR at the end of a line": GET + b"X-A: b\r\r\n\r\n",
    "a NUL in a value": GET + b"X-A: b\0c\r\n\r\n",
    "a NUL in a name": GET + b"X-\0A: b\r\n\r\n",
    "a NUL in the target": b"GET /a\0b HTTP/1.1\r\nHost: gw\r\n\r\n",
    "a name with a byte outside ASCII": GET + b"X-\xe9: b\r\n\r\n",
    "no name": GET + b": b\r\n\r\n",
    "no colon": GET + b"X-A\r\n\r\n",
    "no Host": b"GET /a HTTP/1.1\r\nX-A: b\r\n\r\n",
    "two Hosts": GET + b"Host: other\r\n\r\n",
    "a coding with a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a coding that is not chunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked in quotes": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "chunked, not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked behind another coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\nabc",
    "chunks in HTTP/1.0": b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a size with a space": CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n",
    "a size with a sign": CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n",
    "a size with 0x": CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
    "no size": CHUNKED + b"\r\nabc\r\n0\r\n\r\n",
    "a size without end": CHUNKED + b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "a size that ends with LF": CHUNKED + b"3\nabc\r\n0\r\n\r\n",
    "a chunk that is longer than its size": CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
    "a chunk that ends with LF": CHUNKED + b"3\r\nabc\n0\r\n\r\n",
    "an extension with a bare LF": CHUNKED + b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "an extension with a bare CR": CHUNKED + b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "a trailer section with LF": CHUNKED + b"0\r\nX-A: b\n\r\n",
    "a trailer field without colon": CHUNKED + b"0\r\nX-A\r\n\r\n",
    "CONNECT": b"CONNECT gw:443 HTTP/1.1\r\nHost: gw\r\n\r\n",
    "CONNECT to a path": b"CONNECT /a HTTP/1.1\r\nHost: gw\r\n\r\n",
    "an absolute target": b"GET http://gw/a HTTP/1.1\r\nHost: gw\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: gw\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: gw\r\n\r\n",
    "no version": b"GET /a\r\n\r\n",
    "two spaces": b"GET  /a HTTP/1.1\r\nHost: gw\r\n\r\n",
    "a tab for a space": b"GET\t/a HTTP/1.1\r\nHost: gw\r\n\r\n",
    "a space behind the version": b"GET /a HTTP/1.1 \r\nHost: gw\r\n\r\n",
    "HTTP/0.9": b"GET /a HTTP/0.9\r\nHost: gw\r\n\r\n",
    "HTTP/1.2": b"GET /a HTTP/1.2\r\nHost: gw\r\n\r\n",
    "HTTP/2.0": b"GET /a HTTP/2.0\r\nHost: gw\r\n\r\n",
    "HTTP/01.1": b"GET /a HTTP/01.1\r\nHost: gw\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "ICE": b"SOURCE /a ICE/1.1\r\nHost: gw\r\n\r\n",
    "a method in lower case": b"get /a HTTP/1.1\r\nHost: gw\r\n\r\n",
    "an unknown method": b"FETCH /a HTTP/1.1\r\nHost: gw\r\n\r\n",
    "two empty lines before it": b"\r\n\r\n" + GET + b"\r\n",
    "an LF before it": b"\n" + GET + b"\r\n",
    "the handshake of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a long target": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: gw\r\n\r\n",
    "a long header": GET + b"X-A: " + b"b" * 17000 + b"\r\n\r\n",
    "129 headers": GET + b"".join(b"X-%d: b\r\n" % number for number in range(129)) + b"\r\n",
}  # fmt: skip


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("bytewise", [False, True])
async def test_9112_what_has_two_readings_is_refused_and_nothing_behind_it_is_read(
    content: bytes, bytewise: bool
) -> None:
    content += GET + b"Connection: close\r\n\r\n"
    pieces = [content[n : n + 1] for n in range(len(content))] if bytewise else [content]
    seen, wire = await requests_in(pieces)
    assert seen == []
    assert wire.written.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
    assert b"\r\nConnection: close\r\n" in wire.written
    assert wire.written.count(b"\r\nServer: ") == 1


@pytest.mark.parametrize(
    "start", [b"\x16\x03\x01\x02", b"\x80", b"get /", b"\n", b"\r\n\r\nG", b"\rG", b" GET", b"\0"]
)
async def test_9112_what_can_be_no_request_is_refused_before_it_ends(start: bytes) -> None:
    seen, wire = await requests_in([start])
    assert seen == []
    assert wire.written.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "start", [b"\r", b"\r\n", b"\r\nG", b"G", b"GET /a HTTP/1.1\r", b"GET /a HTTP/1.1\r\nHo"]
)
async def test_9112_what_may_become_a_request_is_waited_for(start: bytes) -> None:
    _, wire = await requests_in([start])
    assert wire.written == b""


ORDINARY = {
    "a read": (GET + b"\r\n", [b""]),
    "one empty line before it": (b"\r\n" + GET + b"\r\n", [b""]),
    "an empty value": (GET + b"X-A:\r\nX-B:  \r\n\r\n", [b""]),
    "a query": (b"GET /a?b=c|d&e=%20 HTTP/1.1\r\nHost: gw\r\n\r\n", [b""]),
    "HTTP/1.0 without Host": (b"GET /a HTTP/1.0\r\n\r\n", [b""]),
    "a body": (POST + b"Content-Length: 3\r\n\r\nabc", [b"abc"]),
    "a body of nothing": (POST + b"Content-Length: 0\r\n\r\n", [b""]),
    "a GET with a body": (GET + b"Content-Length: 3\r\n\r\nabc", [b"abc"]),
    "chunks": (CHUNKED + b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", [b"abc0123456789"]),
    "chunks in capital letters": (POST + b"Transfer-Encoding: Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", [b"a"]),
    "extensions, which are ignored (7.1.1)": (CHUNKED + b'3;a=b;c="d"\r\nabc\r\n0;e\r\n\r\n', [b"abc"]),
    "a trailer section, which is not read (6.5.1)": (CHUNKED + b"1\r\na\r\n0\r\nX-A: b\r\n\r\n", [b"a"]),
    "two reads at once": ((GET + b"\r\n") * 2, [b"", b""]),
    "a read behind a body": (POST + b"Content-Length: 3\r\n\r\nabc" + GET + b"\r\n", [b"abc", b""]),
    "an upgrade, which is not taken": (GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + GET + b"\r\n", [b"", b""]),
    "an upgrade with a body": (
        POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc" + GET + b"\r\n", [b"abc", b""]
    ),
    "an upgrade with chunks": (
        POST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", [b"a"]
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "bodies"), ORDINARY.values(), ids=ORDINARY)
@pytest.mark.parametrize("bytewise", [False, True])
async def test_9112_ordinary_requests_are_read_however_they_are_cut(
    content: bytes, bodies: list[bytes], bytewise: bool
) -> None:
    pieces = [content[n : n + 1] for n in range(len(content))] if bytewise else [content]
    seen, wire = await requests_in(pieces)
    assert [body for *_, body in seen] == bodies
    assert wire.written.count(b"HTTP/1.1 204") == len(bodies)


async def test_9112_6_5_a_trailer_field_never_becomes_a_header_of_the_next_request() -> None:
    trailer = b"0\r\nAuthorization: DPoP stolen\r\nX-A: b\r\n\r\n"
    seen, _ = await requests_in([CHUNKED + trailer, GET + b"\r\n"])
    assert [sorted(headers) for _, _, headers, _ in seen] == [["host", "transfer-encoding"], ["host"]]


async def test_9112_9_3_2_what_is_pipelined_behind_chunks_in_the_same_bytes_is_not_read_and_the_connection_ends() -> (
    None
):
    seen, wire = await requests_in([CHUNKED + b"0\r\n\r\n" + GET + b"\r\n"])
    assert [method for method, *_ in seen] == ["POST"]
    assert wire.written.count(b"HTTP/1.1 204") == 1
    assert b"\r\nConnection: close\r\n" in wire.written


@pytest.mark.parametrize("flood", [b"1" + b";a" * 9000, b"0\r\n" + b"X-A: b\r\n" * 3000])
async def test_9112_7_1_1_more_framing_than_body_is_refused(flood: bytes) -> None:
    seen, wire = await requests_in([CHUNKED, flood[:9000], flood[9000:]])
    assert seen == []
    assert wire.written.startswith(b"HTTP/1.1 400 ")


LINES = [
    b"X-A:", b"Connection: keep-alive", b"Connection: Upgrade\r\nUpgrade: h2c", b"X-A: b", b"Content_Length: 5",
    b"Cookie: a=\xe9", b"Accept: a", b"Accept: b", b"Content-Type: a/b", b"Expect: 100-continue", b"Content-Length: 0",
]  # fmt: skip
ODD_LINES = [
    b"Content-Length: 3", b"Content-Length: 7", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b" c",
    b"transfer-encoding : chunked", b"Connection: close", b"X-A: \xe9", b"\x00: a", b"Content-Length:\t3 ", b"Host: other",
    b"Transfer-Encoding:\x0cchunked",
]  # fmt: skip
STARTS = [
    b"GET /a HTTP/1.1",
    b"POST /a?b=c HTTP/1.1",
    b"HEAD /a HTTP/1.1",
    b"\r\nGET /a HTTP/1.1",
    b"QUERY /a HTTP/1.1",
]
ODD_STARTS = [
    b"PUT /a HTTP/1.0", b"get /a HTTP/1.1", b"GET  /a HTTP/1.1", b"GET /a HTTP/2.0", b"GET /\xe9 HTTP/1.1",
    b"OPTIONS * HTTP/1.1", b"GET //a HTTP/1.1", b"GET /a%zz HTTP/1.1", b"M-SEARCH /a HTTP/1.1", b"\r\n\r\nGET /a HTTP/1.1",
]  # fmt: skip
BODIES = [
    (b"", b""), (b"Content-Length: 3\r\n", b"abc"), (b"Content-Length: 7\r\n", b"0\r\n\r\nab"),
    (b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
    (b"Transfer-Encoding: chunked\r\n", b"3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n"),
    (b"Transfer-Encoding: chunked\r\n", b"03\r\nabc\r\n00\r\n\r\n"),
]  # fmt: skip
ODD_BODIES = [
    (b"Transfer-Encoding: chunked\r\n", b"3\r\nabcd\r\n0\r\n\r\n"), (b"", b"abc"),
    (b"Transfer-Encoding: chunked\r\n", b"3\nabc\r\n0\r\n\r\n"), (b"Content-Length: 3\r\n", b"ab"),
    (b"Transfer-Encoding: chunked\r\n", b"-1\r\na\r\n0\r\n\r\n"), (b"Content-Length: 3\r\n", b"abcd"),
]  # fmt: skip
BYTES = [b"\0", b" ", b"\t", b"\r", b"\n", b":", b"\x0b", b"\x80", b";", b"0", b"", b"\r\n", b"a"]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Requests in a row; one part in ten goes wrong in a known way, and in every other stream a byte or two."""

    def one(usual: list[Any], odd: list[Any]) -> Any:
        return draw(st.sampled_from(odd if draw(st.integers(0, 9)) == 9 else usual))

    content = b""
    for _ in range(draw(st.integers(1, 4))):
        framing, body = one(BODIES, ODD_BODIES)
        lines = [one(LINES, ODD_LINES) for _ in range(draw(st.integers(0, 3)))]
        content += one(STARTS, ODD_STARTS) + b"\r\nHost: gw\r\n" + b"".join(line + b"\r\n" for line in lines)
        content += framing + b"\r\n" + body
    for _ in range(max(0, draw(st.integers(-2, 2)))):
        place = draw(st.integers(0, len(content)))
        content = content[:place] + draw(st.sampled_from(BYTES)) + content[place + draw(st.integers(0, 1)) :]
    return content


@settings(deadline=None, max_examples=600)
@example(CHUNKED + b"0\r\n\r\n" + GET + b"\r\n", [])
@example(CHUNKED + b"0\r\nX: y\r\n\r\n" + GET + b"\r\n", [len(CHUNKED) + 11])
@given(streams(), st.lists(st.integers(0, 2**16), max_size=6))
def test_9112_the_front_reads_nothing_that_aiohttp_does_not_read_the_same(
    content: bytes, cuts: list[int]
) -> None:
    ours, theirs = asyncio.run(both(content, cuts))
    assert ours == theirs[: len(ours)]

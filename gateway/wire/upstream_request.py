"""A request to a store as bytes: checked before the first goes out, its body after it where that comes in pieces.

Values come from callers and from stores. A line end in one would begin a header, or a request, of somebody else's
making: what is no field value (RFC 9110 5.5) is not written.
"""

import re
from collections.abc import AsyncIterator, Mapping

from gateway.wire.upstream_connection import UpstreamConnection
from gateway.wire.upstream_exchange import Unreachable

_NAME = rb"[!#$%&'*+\-.^_`|~0-9a-z]+"  # in lower case, so that none is there twice
_HEAD = re.compile(rb"[A-Z]+ /[!-~]* HTTP/1\.1\r\n(?:" + _NAME + rb": [\t -~\x80-\xff]*\r\n)+")
# Of these we say ourselves what holds.
_OURS = frozenset(
    {"connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect"}
)
_JOINED_BYTES = 64 * 1024  # a body this short goes out with the head, in one write
_WITH_LENGTH = frozenset({"POST", "PUT", "PATCH"})  # RFC 9110 8.6


class UnsendableRequest(Exception):
    """The request has a value that cannot be written as one header, or contradicts itself.

    Nothing was sent, unless it is the body that is not as long as its head said.
    """


def request_bytes(
    method: str, target: str, host: str, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes] | None
) -> tuple[bytes, ...]:
    """What goes out at first: the head, and the body where that is whole. Raises UnsendableRequest.

    target is path and query. The length of a body in pieces is what headers say, else it goes in chunks.
    """
    if not _OURS.isdisjoint(headers):
        raise UnsendableRequest("a header is not the passage's to set")
    framing = ""
    if body is None:
        framing = "content-length: 0\r\n" if method in _WITH_LENGTH else ""
    elif isinstance(body, bytes):
        framing = f"content-length: {len(body)}\r\n"
    elif "content-length" not in headers:
        framing = "transfer-encoding: chunked\r\n"
    elif not (headers["content-length"].isascii() and headers["content-length"].isdigit()):
        raise UnsendableRequest("content-length is not a number of bytes")
    if framing and "content-length" in headers:
        raise UnsendableRequest("content-length is not the passage's to set")
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    text = f"{method} {target} HTTP/1.1\r\nhost: {host}\r\n{fields}{framing}"
    try:
        head = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise UnsendableRequest("a header is no text") from error
    # As many lines as were meant: a value that is a whole header more would be well written, too.
    if head.count(b"\n") != 2 + len(headers) + bool(framing) or _HEAD.fullmatch(head) is None:
        raise UnsendableRequest("a header is not one line of text")
    if not isinstance(body, bytes):
        return (head + b"\r\n",)
    return (head + b"\r\n" + body,) if len(body) <= _JOINED_BYTES else (head + b"\r\n", body)


async def send_body(
    connection: UpstreamConnection, body: AsyncIterator[bytes], *, length: int | None, seconds: float
) -> None:
    """Send a body, each piece once the store took the one before; the store has so many seconds for each.

    length is what the head said; None: in chunks. Raises Unreachable, UnsendableRequest, and what the body raises.
    """
    sent = 0
    async for piece in body:
        connection.put_off(seconds)
        if not piece:
            continue
        sent += len(piece)
        if length is None:
            await connection.send(b"%x\r\n" % len(piece), piece, b"\r\n")
        elif sent > length:
            raise UnsendableRequest("the body is longer than its content-length")
        else:
            await connection.send(piece)
    if length is None:
        await connection.send(b"0\r\n\r\n")
    elif sent != length:
        raise UnsendableRequest("the body is shorter than its content-length")
    if not connection.is_open:
        raise Unreachable("the connection ended while the body was sent")
    connection.put_off(seconds)
    connection.sent()

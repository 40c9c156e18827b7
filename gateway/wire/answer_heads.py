"""The head of an answer as bytes (RFC 9112 4 to 6). Only this file, the connection and its writer know about framing."""

import re
import time
from collections.abc import Iterable, Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from authz.protocol.request import Answer

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Every byte that may stand in a line: what is left of a head without them is its line ends, or an injection.
_IN_LINES = bytes(byte for byte in range(256) if byte == 0x09 or (byte >= 0x20 and byte != 0x7F))
_LINE_END = b"\r\n"
_FRAMING = frozenset(
    {
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "server",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""What the wire says of itself: no answer brings it."""
CLOSE, KEEP = "Connection: close\r\n", "Connection: keep-alive\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Dates:
    """The Date line of answers (RFC 9110 6.6.1), made once a second."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._line = ""

    def line(self) -> str:
        """The line of now."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = f"Date: {formatdate(second, usegmt=True)}\r\n"
        return self._line


def head(status: int, headers: Iterable[tuple[str, str]], more: str, *, has_body: bool = False) -> bytes:
    """The head: status line, headers, and the lines in more, which end with CRLF each; a body has a Content-Type.

    Raises ValueError for a name that is no token or belongs to the wire, and for a value with control characters.
    """
    fields = [f"{_beginning(name)}{value}\r\n" for name, value in headers]
    lines = more.count("\n") + len(fields) + 3
    content = "".join((_status_line(status), more, *fields, "\r\n")).encode()
    if content.translate(None, _IN_LINES) != _LINE_END * lines:
        raise ValueError("a header of an answer holds control characters")
    if has_body and b"\r\nContent-Type: " not in content and b"\r\ncontent-type: " not in content.lower():
        # Nobody guesses (RFC 9110 8.3).
        return content[:-2] + b"Content-Type: application/octet-stream\r\n\r\n"
    return content


def trailer_section(fields: Sequence[tuple[str, str]]) -> bytes:
    """The end of a body in chunks, with these fields (RFC 9112 7.1.2). Raises ValueError as head() does."""
    content = "".join(f"{_beginning(name)}{value}\r\n" for name, value in fields).encode()
    if content.translate(None, _IN_LINES) != _LINE_END * len(fields):
        raise ValueError("a field of a trailer section holds control characters")
    return b"0\r\n" + content + _LINE_END


def length_line(answer_length: int, *, is_head: bool) -> str:
    """Content-Length of a whole answer; none for an empty one to HEAD, where it would say that GET is empty too."""
    return "" if is_head and not answer_length else f"Content-Length: {answer_length}\r\n"


def is_bodiless(status: int) -> bool:
    """Whether an answer of this status never has a body (RFC 9110 6.4.1)."""
    return status in (204, 304) or status < 200


def plain(status: int, description: str) -> Answer:
    """An answer of one line of text."""
    body = f"{description}\n".encode()
    return Answer(
        status, (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")), body
    )


@lru_cache(256)
def _status_line(status: int) -> str:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\nServer: securus\r\n"


@lru_cache(1024)
def _beginning(name: str) -> str:
    if not _NAME.fullmatch(name) or name.lower() in _FRAMING:
        raise ValueError(f"an answer has no header {name[:40]!r}")
    return f"{name}: "

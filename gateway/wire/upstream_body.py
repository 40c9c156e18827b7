"""The body of a response as it comes: of a length, in chunks (RFC 9112 7.1), or until the store closes.

Each takes bytes from the wire and gives the content in them, and what is left behind the end of the answer.
"""

import re
from typing import Protocol

from gateway.wire.upstream_head import CHUNKED, TOKEN, UNTIL_CLOSE, InvalidAnswer, check_trailer

_MAX_SIZE_LINE_BYTES = 1024
_MAX_TRAILER_BYTES = 16 * 1024
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
# Extensions are ignored, as RFC 9112 7.1.1 wants; blanks around them are not taken.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;" + TOKEN + rb"(?:=(?:" + TOKEN + rb"|" + _QUOTED + rb"))?)*")


class BodyReader(Protocol):
    """Reads a body."""

    def feed(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        """The content in data, and what is behind the end of the body: None before it. Raises InvalidAnswer."""
        ...


class SizedBody:
    """A body of so many bytes."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    def feed(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        """As much of data as belongs to the body, and the rest."""
        self._left -= len(data)
        if self._left > 0:
            return [data], None
        if self._left == 0:
            return [data], b""
        return [data[: self._left]], data[self._left :]


class OpenBody:
    """A body that ends with the connection."""

    __slots__ = ()

    def feed(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        """All of data."""
        return [data], None


class ChunkedBody:
    """A body in chunks. The trailer section is held to its grammar, and dropped."""

    __slots__ = ("_is_trailer", "_left", "_line", "_trailer")

    def __init__(self) -> None:
        self._left = 0  # of a chunk and the line end behind it
        self._line = b""  # what has come of a line that is not whole
        self._is_trailer = False
        self._trailer = 0

    def feed(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        """The content of the chunks in data. Raises InvalidAnswer: chunks are strict, bare line feeds are none."""
        pieces: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if self._left > 0:
                at = self._chunk(data, at, pieces)
                continue
            end = data.find(b"\n", at)
            line = self._line + data[at : size if end < 0 else end + 1]
            if len(line) > (_MAX_TRAILER_BYTES if self._is_trailer else _MAX_SIZE_LINE_BYTES):
                raise InvalidAnswer("a line between the chunks of the answer is too long")
            if end < 0:
                self._line = line
                break
            self._line, at = b"", end + 1
            if not line.endswith(b"\r\n"):
                raise InvalidAnswer("a line between the chunks of the answer has no right end")
            if self._is_trailer:
                if line == b"\r\n":
                    return pieces, data[at:]
                self._trailer_line(line)
            else:
                self._size_line(line[:-2])
        return pieces, None

    def _chunk(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        content = self._left - 2
        if content > 0:
            piece = data[at : at + content]
            pieces.append(piece)
            self._left -= len(piece)
            at += len(piece)
        while 0 < self._left <= 2 and at < len(data):
            if data[at] != b"\r\n"[2 - self._left]:
                raise InvalidAnswer("a chunk of the answer is not as long as it says")
            self._left -= 1
            at += 1
        return at

    def _size_line(self, line: bytes) -> None:
        found = _SIZE.fullmatch(line)
        if found is None:
            raise InvalidAnswer("the size of a chunk of the answer is not one")
        length = int(found[1], 16)
        self._is_trailer = length == 0
        self._left = length + 2 if length else 0

    def _trailer_line(self, line: bytes) -> None:
        self._trailer += len(line)
        if self._trailer > _MAX_TRAILER_BYTES:
            raise InvalidAnswer("the trailer section of the answer is too long")
        check_trailer(line)


def body_reader(length: int) -> BodyReader:
    """The reader of a body of this length, as the head of an answer says it."""
    if length == CHUNKED:
        return ChunkedBody()
    return OpenBody() if length == UNTIL_CLOSE else SizedBody(length)

"""The head of a response, status line and header section, in the one reading it has (RFC 9112 4 to 6).

One regular expression is the grammar: what it does not take is no answer. Nothing is repaired: bare line feeds,
folded lines, blanks before a colon, control characters, lengths that contradict each other are refused, since a
second reader on the way may have read them in another way.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

MAX_HEAD_BYTES = 64 * 1024
MAX_LINE_BYTES = 16 * 1024
MAX_FIELDS = 128
_KEPT_LINE = 128  # characters of a line that is kept as it was read

CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2
_MAX_LENGTH_DIGITS = 18

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_FIELD = TOKEN + rb":[\t -~\x80-\xff]*\r\n"
_HEAD = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?\r\n((?:" + _FIELD + rb")*)")
_FIELDS = re.compile(rb"(?:" + _FIELD + rb")*")
_START = b"HTTP/1."
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_KEEP_ALIVE_TIMEOUT = re.compile(r"(?:^|[,;\s])timeout=([0-9]{1,6})(?:$|[,;\s])", re.IGNORECASE)
# Of these a second value is another reading of the answer. Further ones are lists, and joined (RFC 9110 5.3).
_ONCE = frozenset(
    {
        "content-length", "content-location", "content-range", "content-type", "etag", "last-modified", "location",
        "retry-after", "transfer-encoding",
    }
)  # fmt: skip


class InvalidAnswer(Exception):
    """What came is no answer in one reading, or goes beyond a limit. The connection is of no use any more."""


class Head(NamedTuple):
    """The head of an answer.

    status   100 to 599
    headers  names in lower case, each once
    length   bytes of the body, or CHUNKED, or UNTIL_CLOSE
    keeps    whether the store leaves the connection open after it
    idle     seconds that the store leaves it open, where it says so
    """

    status: int
    headers: dict[str, str]
    length: int
    keeps: bool
    idle: int | None


def read_head(block: bytes, *, is_head: bool) -> Head:
    """The head whose lines are block, each with its end, without the empty line. is_head: HEAD was asked.

    Raises InvalidAnswer.
    """
    found = _HEAD.fullmatch(block)
    if found is None:
        raise InvalidAnswer("the head of the answer is not HTTP/1.1")
    minor, code, fields = found.groups()
    if len(block) > MAX_LINE_BYTES:
        _check_lines(block)
    if block.count(b"\n") > MAX_FIELDS + 1:
        raise InvalidAnswer(f"the answer has more than {MAX_FIELDS} header fields")
    headers: dict[str, str] = {}
    # Bytes that are not UTF-8 stay what they are, for whoever passes a value on to look at.
    for line in fields.decode("utf-8", "surrogateescape").split("\r\n"):
        if not line:
            break
        name, value = _field(line) if len(line) <= _KEPT_LINE else _read_field(line)
        if name in headers:
            value = _joined(name, headers[name], value)
        headers[name] = value
    status, is_old = int(code), minor == b"0"
    length = _length(status, headers, is_old=is_old, is_head=is_head)
    keeps = length != UNTIL_CLOSE and _keeps(headers.get("connection"), is_old=is_old)
    return Head(status, headers, length, keeps, _idle(headers.get("keep-alive")))


def _read_field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip("\t ")


_field = lru_cache(1024)(_read_field)  # most lines of a store are the same each time


def check_beginning(partial: bytearray, looked: int) -> None:
    """Raise InvalidAnswer unless partial may become a head: who never ends a line right is not waited for.

    looked is how much of it was looked at before.
    """
    if not partial.startswith(_START[: len(partial)]):
        raise InvalidAnswer("the answer is not HTTP/1.1")
    if len(partial) > MAX_HEAD_BYTES:
        raise InvalidAnswer("the head of the answer is too long")
    if _BARE_LINE_FEED.search(partial, looked):
        raise InvalidAnswer("a line of the head of the answer has no right end")


def check_trailer(block: bytes) -> None:
    """Raise InvalidAnswer unless block is the lines of a trailer section, each with its end (RFC 9112 7.1.2)."""
    if _FIELDS.fullmatch(block) is None or block.count(b"\n") > MAX_FIELDS:
        raise InvalidAnswer("the trailer section of the answer is not one")
    if any(
        line.lower().startswith((b"content-length:", b"transfer-encoding:")) for line in block.split(b"\r\n")
    ):
        raise InvalidAnswer("the trailer section of the answer has what frames it")  # RFC 9110 6.5.1


def _check_lines(block: bytes) -> None:
    if max(map(len, block.split(b"\r\n"))) > MAX_LINE_BYTES:
        raise InvalidAnswer(f"a header line of the answer is longer than {MAX_LINE_BYTES} bytes")


def _joined(name: str, first: str, second: str) -> str:
    if name not in _ONCE:
        return f"{first}, {second}"
    if first != second or name in ("content-length", "transfer-encoding"):
        raise InvalidAnswer(f"the answer has {name} twice")
    return first


def _length(status: int, headers: dict[str, str], *, is_old: bool, is_head: bool) -> int:
    """RFC 9112 6.3, in its order; where it lets a client repair, we refuse."""
    coding, said = headers.get("transfer-encoding"), headers.get("content-length")
    if said is not None and not (said.isascii() and said.isdigit() and len(said) <= _MAX_LENGTH_DIGITS):
        raise InvalidAnswer("content-length of the answer is not a number of bytes")
    if coding is not None:
        if said is not None:
            raise InvalidAnswer("the answer has content-length and transfer-encoding")
        if is_old or status < 200 or status == 204:
            raise InvalidAnswer("the answer has transfer-encoding where it cannot have one")
        if coding.lower() != "chunked":
            raise InvalidAnswer("transfer-encoding of the answer is not chunked")
    if status < 200 or status == 204:
        if said is not None and (status < 200 or int(said) != 0):
            raise InvalidAnswer("the answer has a length where it cannot have a body")
        return 0
    if is_head or status == 304:
        return 0
    if coding is not None:
        return CHUNKED
    return UNTIL_CLOSE if said is None else int(said)


def _keeps(connection: str | None, *, is_old: bool) -> bool:
    """RFC 9112 9.3."""
    if connection is None or connection == "keep-alive":  # the usual case
        return not is_old or connection is not None
    options = {option.strip("\t ") for option in connection.lower().split(",")}
    return "close" not in options and (not is_old or "keep-alive" in options)


def _idle(keep_alive: str | None) -> int | None:
    found = None if keep_alive is None else _KEEP_ALIVE_TIMEOUT.search(keep_alive)
    return None if found is None else int(found[1])

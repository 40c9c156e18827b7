"""The head of a request on the wire: where it ends, its request line, and the framing of its body (RFC 9112).

llhttp checks every byte of a head, with none of its leniencies on. What stands here is refused beyond that, because
other programs read it in another way: versions that are not 1.0 or 1.1, more than one space in the request line, a
coding that is not exactly `chunked`, chunks in HTTP/1.0, HTTP/1.1 without Host, CONNECT.
"""

import re
from collections.abc import Mapping

from authz.protocol.request import RequestError

NOT_ONE_READING = "the request is not HTTP/1.1 in one reading"
HEAD_END = b"\r\n\r\n"
# An empty line before it is from old clients (RFC 9112 2.2); more than one is not.
_REQUEST_LINE = re.compile(rb"(?:\r\n)?([A-Z][A-Z-]*) ([!-~]+) HTTP/1\.([01])\r\n")
_BEGINNING = re.compile(rb"\r?\Z|(?:\r\n)?(?:[A-Z]|\Z)")
_LENGTH = re.compile(r"[0-9]{1,18}")
_LINE_BYTES = 64  # of a request line, beside its target
_SEPARATORS = 1024  # the colons, spaces and line ends of a head, beside its names and values


def longest(max_url: int, max_header: int) -> int:
    """The bytes that a head may have; authz.http measures its parts."""
    return max_url + _LINE_BYTES + max_header + _SEPARATORS


def request_line(head: bytes) -> tuple[str, str, bool]:
    """Method, target, and whether it is HTTP/1.0. Raises RequestError(400)."""
    found = _REQUEST_LINE.match(head)
    if found is None:
        raise RequestError(400, NOT_ONE_READING)
    method, target, minor = found.groups()
    return method.decode("ascii"), target.decode("ascii"), minor == b"0"


def check_unfinished(start: bytes, max_url: int, max_head: int) -> None:
    """Raise RequestError for bytes that can no longer become a head: 400 by their form, 414 and 431 by their size."""
    if not _BEGINNING.match(start) or start.count(b"\n") != start.count(b"\r\n"):
        raise RequestError(400, NOT_ONE_READING)
    if len(start) > max_url + _LINE_BYTES and b"\n" not in start[2 : max_url + _LINE_BYTES]:
        raise RequestError(414, f"the request target is longer than {max_url} bytes")
    if len(start) > max_head:
        raise RequestError(431, "the header fields are too long")


def body_length(method: str, headers: Mapping[str, str], *, is_http_1_0: bool) -> int | None:
    """How long the body is, None for one in chunks. Raises RequestError: 400, 501 for other codings (RFC 9112 6)."""
    if method == "CONNECT":
        raise RequestError(400, "this is no tunnel: CONNECT is not spoken here")
    if "host" not in headers and not is_http_1_0:
        raise RequestError(400, "a request of HTTP/1.1 has the header host")  # RFC 9112 3.2
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if is_http_1_0:
            raise RequestError(400, "a request of HTTP/1.0 has no Transfer-Encoding")  # RFC 9112 6.1
        if coding.lower() != "chunked":
            raise RequestError(501, "the only Transfer-Encoding that is understood is chunked")
        return None
    length = headers.get("content-length", "0")
    if not _LENGTH.fullmatch(length):
        raise RequestError(400, "Content-Length must be a number of up to 18 digits")
    return int(length)

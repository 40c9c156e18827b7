"""Strict readings of bytes: base64url, JSON objects and forms, each with exactly one meaning or none."""

import base64
import binascii
import json
import re
from urllib.parse import unquote_to_bytes

from authz.protocol.errors import ErrorCode, OAuthError, speakable

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_MAX_PARAMETERS = 200


def base64url(content: bytes) -> str:
    """The content in base64url without padding (RFC 7515 2)."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def base64url_decode(text: str) -> bytes:
    """The bytes of canonical base64url without padding (RFC 7515 2). Raises ValueError for any other text.

    Canonical: trailing bits must be zero, so that no two texts stand for the same bytes (RFC 4648 3.5).
    """
    if not _BASE64URL.fullmatch(text):
        raise ValueError("not base64url without padding")
    try:
        content = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("not base64url without padding") from error
    if base64url(content) != text:
        raise ValueError("base64url is not canonical: unused bits are set")
    return content


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a member twice")
    return found


def _constant(word: str) -> object:
    raise ValueError(f"{word} is not JSON")


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def strict_json(content: bytes, *, max_bytes: int = 65536, max_depth: int = 32) -> object:
    """The value of a JSON text (RFC 8259). Raises ValueError when it has more than one reading or is too large.

    Stricter than RFC 8259: duplicate members, NaN and Infinity, a byte order mark and lone surrogates are
    refused, and nesting is bounded.
    """
    if len(content) > max_bytes:
        raise ValueError(f"longer than {max_bytes} bytes")
    text = content.decode("utf-8")  # UnicodeDecodeError is a ValueError
    if text.startswith("\ufeff"):
        raise ValueError("begins with a byte order mark")
    if _depth(text) > max_depth:
        raise ValueError(f"nested deeper than {max_depth} levels")
    value: object = _JSON.decode(text)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # a lone surrogate is UnicodeEncodeError, a ValueError
    return value


def _depth(text: str) -> int:
    """An upper bound of the nesting: brackets inside strings count too, which can only refuse more."""
    if text.count("[") + text.count("{") <= 32:
        return 0
    deepest = level = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            level += 1
            deepest = max(deepest, level)
        elif character in "]}":
            level -= 1
    return deepest


def parse_query(text: str) -> list[tuple[str, str]]:
    """Names and values of an application/x-www-form-urlencoded text, in order, decoded once.

    Raises ValueError for what parsers read differently: broken percent-encoding, bytes that are no UTF-8, NUL
    and other control characters but tab and line ends, ';', non-ASCII, a missing name, too many parameters.
    """
    if not text:
        return []
    if not text.isascii():
        raise ValueError("characters outside ASCII must be percent-encoded")
    if ";" in text:
        raise ValueError("';' must be percent-encoded")
    if _PERCENT.search(text):
        raise ValueError("'%' must be followed by two hexadecimal digits")
    pairs = text.split("&")
    if len(pairs) > _MAX_PARAMETERS:
        raise ValueError(f"more than {_MAX_PARAMETERS} parameters")
    found: list[tuple[str, str]] = []
    for pair in pairs:
        name, _, value = pair.partition("=")
        if not name:
            raise ValueError("a parameter has no name")
        found.append((_decode(name), _decode(value)))
    return found


def _decode(text: str) -> str:
    decoded = unquote_to_bytes(text.replace("+", " ")).decode("utf-8")
    for character in decoded:
        if (character < " " and character not in "\t\r\n") or character == "\x7f":
            raise ValueError("control characters are not allowed")
    return decoded


def parse_form(content: bytes) -> dict[str, str]:
    """The parameters of a form (RFC 6749 appendix B), each named once.

    Raises OAuthError(INVALID_REQUEST) when one is repeated (RFC 6749 3.1, 3.2) or the form has no single
    reading. Parameters without a value are left out, as RFC 6749 3.1 says.
    """
    try:
        pairs = parse_query(content.decode("ascii"))
    except UnicodeDecodeError as error:
        raise OAuthError(ErrorCode.INVALID_REQUEST, "the form must be ASCII, percent-encoded") from error
    except ValueError as error:
        raise OAuthError(ErrorCode.INVALID_REQUEST, f"the form cannot be read: {speakable(str(error))}") from error
    found: dict[str, str] = {}
    seen: set[str] = set()
    for name, value in pairs:
        if name in seen:
            raise OAuthError(ErrorCode.INVALID_REQUEST, f"the parameter {speakable(name)} is sent more than once")
        seen.add(name)
        if value:
            found[name] = value
    return found

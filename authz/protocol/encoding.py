"""Encodings read in exactly one way: base64url (RFC 7515 2), JSON (RFC 8259, I-JSON RFC 7493) and forms.

Two programs that read one text differently are how a check is passed by one and missed by the other. Whatever has
a second reading is refused: padding and non-canonical base64url, duplicate JSON members and form parameters.
"""

import binascii
import json
import math
import re

import msgspec

from authz.protocol.errors import ErrorCode, OAuthError, speakable

_STRINGS_AND_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{\]}]', re.DOTALL)
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
# Printable ASCII but ';'; '%' only before two hex digits.
_FORM_TEXT = re.compile(r"[!-$&-:<-~]*+(?:%[0-9A-Fa-f]{2}[!-$&-:<-~]*+)*+")

_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")  # what plain base64 alone has is none of ours
_PADDING = (b"", b"", b"==", b"=")  # by what the length leaves over fours
_LAST = ("", "", "AQgw", "AEIMQUYcgkosw048")  # last characters whose bits behind the last byte are 0
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_MAX_PARAMETERS = 200
_HEX = "0123456789abcdefABCDEF"
_OCTETS = {(high + low).encode("ascii"): bytes.fromhex(high + low) for high in _HEX for low in _HEX}
"""What stands behind '%' → the octet that it means."""
_PRINTABLE = {key.decode(): octet.decode() for key, octet in _OCTETS.items() if b" " <= octet <= b"~"}


def base64url(content: bytes) -> str:
    """The content in base64url without padding (RFC 7515 2)."""
    return binascii.b2a_base64(content, newline=False).rstrip(b"=").translate(_TO_URL).decode("ascii")


def base64url_decode(text: str) -> bytes:
    """The bytes of base64url without padding. Raises ValueError for every text that base64url() would not write.

    Padding, white space, the characters of plain base64 and set bits behind the last byte are refused, so that
    one value has one text (RFC 7515 2, RFC 4648 3.5).
    """
    over = len(text) % 4
    if over and text[-1] not in _LAST[over]:
        raise ValueError("not base64url without padding, or not its canonical form")
    try:
        content = text.encode("ascii").translate(_FROM_URL) + _PADDING[over]
        return binascii.a2b_base64(content, strict_mode=True)
    except ValueError as error:
        raise ValueError("not base64url without padding") from error


def strict_json(content: bytes, *, max_bytes: int = 65536, max_depth: int = 32) -> object:
    """The value of a JSON text in UTF-8. Raises ValueError.

    Refused beside what RFC 8259 refuses: duplicate member names, a byte order mark, NaN and infinities, lone
    surrogates (RFC 7493 2), more than max_bytes, more than max_depth nested arrays and objects.
    """
    if len(content) > max_bytes:
        raise ValueError(f"JSON of {len(content)} bytes, at most {max_bytes} are accepted")
    if max_depth >= content.count(b"{") + content.count(b"["):
        # As most programs write it: read and written again in C to the same bytes it has lost nothing, no member either.
        try:
            plain: object = _decode_plain(content)
            if _encode_plain(plain) == content:
                return plain
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass
    text = content.decode("utf-8")
    if text.count("{") + text.count("[") > max_depth and _depth(text) > max_depth:
        raise ValueError(f"JSON nested deeper than {max_depth}")
    value: object = _JSON.decode(text)
    if _SURROGATE_ESCAPE.search(text):
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # UnicodeEncodeError is a ValueError
    return value


def compact_json(value: object) -> bytes:
    """A JSON value as JSON without white space, in UTF-8. Raises ValueError, TypeError for what is no JSON value.

    msgspec writes the same text as the json module does (but for floats, of which it writes the same value), and null for
    what is no number: whatever has a null in it is left to json, and what msgspec does not take.
    """
    try:
        content: bytes = _encode_plain(value)
    except (TypeError, OverflowError):
        content = b"null"
    return _encode_strictly(value).encode("utf-8") if b"null" in content else content


def parse_query(text: str) -> list[tuple[str, str]]:
    """Names and values of application/x-www-form-urlencoded text, in order, duplicates kept. Raises ValueError.

    Decoded once: '+' is a space, '%' must lead two hex digits, the bytes must be UTF-8. Refused: characters that a
    sender must escape, a plain ';' (a second separator to some), escaped control characters but tab and line ends,
    an empty piece between '&', a parameter without a name, more than 200 parameters.
    """
    if not text:
        return []
    if not _FORM_TEXT.fullmatch(text):
        raise ValueError("must be printable ASCII without ; and with two hexadecimal digits after every %")
    pieces = text.split("&")
    if len(pieces) > _MAX_PARAMETERS:
        raise ValueError(f"holds more than {_MAX_PARAMETERS} parameters")
    pairs = []
    for piece in pieces:
        name, _, value = piece.partition("=")
        if not name:
            raise ValueError("holds a parameter without a name")
        if "%" in piece or "+" in piece:
            name, value = _form_decode(name), _form_decode(value)
        pairs.append((name, value))
    return pairs


def parse_form(content: bytes, *, repeatable: frozenset[str] = frozenset()) -> dict[str, str]:
    """The parameters of an application/x-www-form-urlencoded body. Raises OAuthError(INVALID_REQUEST).

    A parameter that is sent twice is refused; one without a value counts as not sent (RFC 6749 3.1, 3.2). Those that
    are repeatable hold URIs (RFC 8707 2): their values come joined by single spaces, which no URI holds.
    """
    try:
        pairs = parse_query(content.decode("ascii"))
    except UnicodeDecodeError as error:
        raise OAuthError(
            ErrorCode.INVALID_REQUEST, "the form must be ASCII, other characters escaped"
        ) from error
    except ValueError as error:
        raise OAuthError(ErrorCode.INVALID_REQUEST, f"the form {error}") from error
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if name in repeatable:
            if any(c.isspace() for c in value):
                raise OAuthError(
                    ErrorCode.INVALID_TARGET, f"{name} must be one URI each time that it is sent"
                )
            parameters[name] = f"{parameters.get(name, '')} {value}".strip()
            continue
        if name in parameters:
            raise OAuthError(
                ErrorCode.INVALID_REQUEST, f"parameter {speakable(name, at_most=60)} is sent more than once"
            )
        parameters[name] = value
    return {name: value for name, value in parameters.items() if value}


def _form_decode(text: str) -> str:
    text = text.replace("+", " ")
    if "%" not in text:
        return text
    first_text, *escaped_texts = text.split("%")
    try:
        return first_text + "".join([_PRINTABLE[part[:2]] + part[2:] for part in escaped_texts])
    except KeyError:
        pass  # something else than printable ASCII
    first, *escaped = text.encode("ascii").split(b"%")
    content = first + b"".join([_OCTETS[part[:2]] + part[2:] for part in escaped])
    try:
        decoded = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("holds percent-escapes that are not UTF-8") from error
    if _CONTROL.search(decoded):
        raise ValueError("holds an escaped control character")
    return decoded


def _depth(text: str) -> int:
    """The deepest nesting of brackets outside strings. Wrong brackets are the parser's to find."""
    deepest = depth = 0
    for match in _STRINGS_AND_BRACKETS.finditer(text):
        mark = match[0]
        if mark in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in "]}":
            depth -= 1
    return deepest


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("JSON object with a member name that occurs twice")
    return members


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("JSON number too large")
    return number


def _no_constant(text: str) -> object:
    raise ValueError(f"JSON has no {text}")


_decode_plain = msgspec.json.Decoder().decode
_encode_plain = msgspec.json.Encoder().encode
_encode_strictly = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_JSON = json.JSONDecoder(object_pairs_hook=_members, parse_float=_finite, parse_constant=_no_constant)

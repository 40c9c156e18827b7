"""A resource as JSON: read strictly with its numbers as they were written, and written back (FHIR R4 2.6.2).

FHIR decimals carry their precision: 1.50 is not 1.5. A float would lose that, so a decimal is a Number, which keeps
its text. Whatever has two readings is refused: members that occur twice, NaN, text behind the value.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any

from gateway.fhir.links import is_readable, mentions, rewrite_urls, to_public
from gateway.fhir.outcome import FhirError, Reason

MAX_DEPTH = 64
_TOO_DEEP = f"The JSON is nested deeper than {MAX_DEPTH} objects and arrays"


class Number:
    """A JSON number with a fraction or an exponent, as written."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Number({self.text})"

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Number) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def decimal(self) -> Decimal:
        """The value, exact."""
        return Decimal(self.text)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member name occurs twice in one object")
    return members


def _no_constant(text: str) -> Any:
    raise ValueError(f"JSON has no {text}")


DECODER = json.JSONDecoder(object_pairs_hook=_members, parse_float=Number, parse_constant=_no_constant)


def parse_resource(content: bytes, *, reason: Reason = Reason.INVALID_BODY) -> dict[str, Any]:
    """The resource of a body in UTF-8. Raises FhirError with the reason: UPSTREAM_INVALID fits a store's answer.

    Refused beside what parse_json() refuses: a value that is not an object with a resourceType.
    """
    value = parse_json(content, reason=reason)
    if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
        raise FhirError(reason, "The body must be a JSON object with a resourceType")
    return value


def parse_json(content: bytes, *, reason: Reason = Reason.INVALID_BODY) -> Any:
    """The JSON value of a body in UTF-8. Raises FhirError with the reason.

    Refused beside what RFC 8259 refuses: a byte order mark, members that occur twice, NaN and infinities, more than
    MAX_DEPTH nested objects and arrays.
    """
    try:
        text = content.decode("utf-8")
        value = DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise FhirError(reason, "The body is not UTF-8") from error
    except RecursionError as error:
        raise FhirError(reason, _TOO_DEEP) from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise FhirError(reason, f"The body is not JSON, from {where} on") from error
    except ValueError as error:
        raise FhirError(reason, f"The body is not strict JSON: {error}") from error
    if isinstance(value, dict | list) and is_too_deep(value):
        raise FhirError(reason, _TOO_DEEP)
    return value


def rewrite_entry(raw: bytes, value: Mapping[str, Any], *, upstream: str, public: str) -> bytes:
    """The bytes of a Bundle's entry with the store's base replaced; value is the entry as it was parsed.

    Where only fullUrl names the store, which is nearly always, its text alone is exchanged and every other byte stays.
    """
    is_escaped = b"\\" in raw and b"\\u" in raw  # one byte is found much faster than two
    count = mentions(raw, upstream)
    if not count and not is_escaped:
        return raw
    if count == 1 and not is_escaped:
        old, new = full_urls(upstream, public)
        url = value.get("fullUrl")
        if isinstance(url, str) and is_readable(url):
            if raw.startswith(old):
                return new + raw[len(old) :]
            written, changed = (
                encode_basestring(url).encode(),
                to_public(url, upstream=upstream, public=public),
            )
            if changed is not None and raw.count(written) == 1:
                return raw.replace(written, encode_basestring(changed).encode())
    exact = DECODER.decode(raw.decode("utf-8"))
    return write_resource(exact) if rewrite_urls(exact, upstream=upstream, public=public) else raw


@cache
def full_urls(upstream: str, public: str) -> tuple[bytes, bytes]:
    """How an entry begins whose fullUrl is below the store's base, and how it does below the public one."""
    first, second = (
        b'{"fullUrl":' + encode_basestring(base.rstrip("/") + "/").encode()[:-1]
        for base in (upstream, public)
    )
    return first, second


def write_resource(value: Any) -> bytes:
    """The value as JSON in UTF-8 without white space, every number with the text that it was read from."""
    parts: list[str] = []
    _write(value, parts.append)
    text = "".join(parts)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate, which JSON can only say as an escape
        parts.clear()
        _write(value, parts.append, quote=encode_basestring_ascii)
        return "".join(parts).encode("ascii")


_NO_STRUCTURE = bytes(byte for byte in range(256) if byte not in b'{[]}"')
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_LEVELS = 24  # resources have about ten


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of an array, without what is none; nothing of what is no array."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def may_be_too_deep(raw: bytes) -> bool:
    """Whether JSON may be nested deeper than MAX_DEPTH objects and arrays; False is certain, and costs passes in C."""
    if raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH:
        return False
    if b"\\" in raw:
        return True
    # Without escapes a string has two quotes, side by side here unless there is a bracket between them.
    rest = raw.translate(_ONE_KIND, _NO_STRUCTURE).replace(b'""', b"")
    if b'"' in rest:
        return True
    for _ in range(_LEVELS):
        if not rest:
            return False
        rest = rest.replace(b"[]", b"")
    return bool(rest)


def is_too_deep(value: Any) -> bool:
    """Whether a JSON value is nested deeper than MAX_DEPTH objects and arrays."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return False
    return True


def _write(value: Any, put: Any, quote: Any = encode_basestring) -> None:
    match value:
        case str():
            put(quote(value))
        case dict():
            mark = "{"
            for key, member in value.items():
                put(f"{mark}{quote(key)}:")
                _write(member, put, quote)
                mark = ","
            put("}" if value else "{}")
        case list():
            mark = "["
            for item in value:
                put(mark)
                _write(item, put, quote)
                mark = ","
            put("]" if value else "[]")
        case True:
            put("true")
        case False:
            put("false")
        case None:
            put("null")
        case Number():
            put(value.text)
        case int():
            put(int.__repr__(value))
        case _:
            raise TypeError(f"{type(value).__name__} is not a JSON value")

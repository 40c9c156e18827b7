"""JSON objects as most programs write them: no white space, no member twice, no escape that is not needed.

Such an object is read by a decoder in C and written again by an encoder in C. The same bytes mean that nothing was lost
on the way: a member that occurred twice would be missing, a number in another form would show. Whatever comes back
in other bytes is left to the strict decoder of resource.py, which is slower and reads it all.

Decimals are floats here, each with the shortest text of its value. To look at they are exact; to write one, read its
bytes again by exact_object(), which keeps every number as it was written.
"""

from typing import Any

import msgspec

from gateway.fhir.resource import DECODER, is_too_deep, may_be_too_deep

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def plain_object(raw: bytes) -> dict[str, Any] | None:
    """The object that these bytes are; None where another decoder must say so, or that they are none."""
    try:
        value = _decode(raw)
        if _encode(value) != raw or type(value) is not dict:
            return None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    if may_be_too_deep(raw) and is_too_deep(value):
        return None
    return value


def number_text(value: float) -> str:
    """A decimal of a plain object as it was written: in any other form its object would not have been plain."""
    return _encode(value).decode("ascii")


def exact_object(raw: bytes) -> dict[str, Any]:
    """The object of bytes that were read before, with every number as it was written."""
    value: dict[str, Any] = DECODER.decode(raw.decode("utf-8"))
    return value

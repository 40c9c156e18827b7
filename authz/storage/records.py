"""Records as stored: JSON text of each record's fields, written and read by type. The same in every store."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from authz.storage.store import StoreUnavailable

LARGEST = 2**63 - 1
"""The largest integer that a column of any store holds: below it stands every number."""
R = TypeVar("R")
_decoders: dict[object, Callable[[bytes], object]] = {}


def encode(record: object) -> bytes:
    """The record as JSON."""
    return msgspec.json.encode(record)


def decode(content: object, kind: type[R]) -> R:
    """The record of that type in a column. Raises StoreUnavailable when it is not one: nothing is guessed."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind).decode
    try:
        value: R = decoder(octets(content))  # type: ignore[assignment]
    except msgspec.DecodeError as error:
        raise StoreUnavailable(f"a stored {kind.__name__} cannot be read: {error}") from error
    return value


def octets(value: object) -> bytes:
    """A column of bytes. Raises StoreUnavailable."""
    if not isinstance(value, bytes):
        raise StoreUnavailable(f"a column holds {type(value).__name__}, expected bytes")
    return value


def integer(value: object) -> int:
    """A column with a number. Raises StoreUnavailable."""
    if not isinstance(value, int):
        raise StoreUnavailable(f"a column holds {type(value).__name__}, expected a number")
    return value


def text(value: object) -> str:
    """A column of text. Raises StoreUnavailable."""
    if not isinstance(value, str):
        raise StoreUnavailable(f"a column holds {type(value).__name__}, expected text")
    return value

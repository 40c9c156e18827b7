"""Records as stored: JSON text of each record's fields, written and read by type. The same in every store."""

from collections.abc import Callable, Sequence
from typing import TypeGuard, TypeVar

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


def numbered_octets(rows: Sequence[tuple[object, ...]]) -> Sequence[tuple[int, bytes]]:
    """Rows of a number and bytes, asked at once: every line that is indexed is read here. Raises StoreUnavailable."""
    return rows if _are_numbered_octets(rows) else [(integer(row[0]), octets(row[1])) for row in rows]


def _are_numbered_octets(rows: Sequence[tuple[object, ...]]) -> TypeGuard[Sequence[tuple[int, bytes]]]:
    numbers, values = zip(*rows, strict=True) if rows else ((), ())
    return {*map(type, numbers)} <= {int} and {*map(type, values)} <= {bytes}

"""The pieces that a Bundle comes in when it is read as it arrives: members of its top level, and entries."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Member:
    """A top-level member of the Bundle other than entry: its name, its value, the value's exact bytes."""

    name: str
    raw: bytes
    value: Any


@dataclass(frozen=True, slots=True)
class EntriesBegin:
    """The array of entries begins."""


class Entry(NamedTuple):
    """One entry: its value, and its exact bytes."""

    raw: bytes
    value: dict[str, Any]


class PlainEntries(NamedTuple):
    """Entries that follow each other, each as an Entry would have it: bytes and value. As they come from most stores."""

    entries: Iterable[tuple[bytes, dict[str, Any]]]


class AlikeEntries(NamedTuple):
    """Entries that follow each other and were read by their forms: the bytes of each, and what of it is looked at.

    That is the search of an entry and those members of its resource that the reader was told; those which are alike in
    them share one object, and nobody changes it. fullUrl names the resource, and is the only address of the store in it.
    Lines of a file are such entries too: of a resource alone, in which no address of the store is.
    """

    entries: list[tuple[bytes, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class EntriesEnd:
    """The array of entries ends."""


@dataclass(frozen=True, slots=True)
class End:
    """The Bundle was whole: one object, of type Bundle, and nothing behind it."""


Piece = Member | EntriesBegin | Entry | PlainEntries | AlikeEntries | EntriesEnd | End


def values(pieces: Iterable[Piece]) -> Iterator[dict[str, Any]]:
    """The values of the entries among these pieces, of which none was read by its form."""
    for piece in pieces:
        if isinstance(piece, Entry):
            yield piece.value
        elif isinstance(piece, PlainEntries):
            yield from (value for _, value in piece.entries)


def held(pieces: Iterable[Piece]) -> list[Piece]:
    """The pieces with all their entries; of no entries there is no piece."""
    found: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, PlainEntries):
            entries = list(piece.entries)
            if entries:
                found.append(PlainEntries(entries))
        else:
            found.append(piece)
    return found

"""Mentions: which records name somebody, as numbers that a page of entries keeps in a few bytes.

A mention is a number: 32 bits of a checksum of what is named (a patient, a user, a client, a grant), and 16 of the place
of the record within its block of 65,536. Who looks for somebody gets every record that names them, and now and then one
that names somebody with the same checksum: the entries themselves say who is meant, and are always asked. So a checksum
that somebody strives for costs a look, and no answer. Mentions are in no order: to look for the bytes of a checksum
among a thousand takes less time than to make numbers of them.
"""

import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from zlib import crc32

from authz.storage.audit_index import AccessEntry, AuditQuery

if TYPE_CHECKING:
    Numbers = array[int]
else:
    Numbers = array

BLOCK_BITS = 16
PARTS = 256
"""So many parts a volume has, by the first bits of its mentions."""
PART_SHIFT = 48 - 8
_PLACES = (1 << BLOCK_BITS) - 1
_MENTION_BYTES, _PLACE_BYTES = 8, 2
_MOST_CALLERS = 20_000
PATIENT, USER, CLIENT, GRANT = (crc32(kind) for kind in (b"patient", b"user", b"client", b"grant"))
"""Kinds of what is named: where its checksum begins."""
_known_callers: dict[tuple[str, str, str], Sequence[int]] = {}


def mark(kind: int, name: str) -> int:
    """The upper bits of every mention of somebody of that kind."""
    return crc32(name.encode(), kind) << BLOCK_BITS


def marks_of(wanted: AuditQuery) -> Sequence[int]:
    """The marks of which every entry that is wanted has one; none where the query names nobody.

    Of several that it names those are taken that fewer entries have.
    """
    if wanted.patients:
        return [mark(PATIENT, patient) for patient in wanted.patients]
    for kind, name in ((GRANT, wanted.grant), (USER, wanted.user), (CLIENT, wanted.client)):
        if name is not None:
            return [mark(kind, name)]
    return ()


def mentions_of(entries: Iterable[AccessEntry]) -> list[int]:
    """The mentions of entries of one block, some of them more than once."""
    found: list[int] = []
    add, known = found.append, _known_callers
    for entry in entries:
        place, patient, caller = entry[1] & _PLACES, entry[4], entry[5:8]
        if patient:
            add(crc32(patient.encode(), PATIENT) << BLOCK_BITS | place)
        for each in known.get(caller) or _marks_of_caller(caller):
            add(each | place)
    return found


def _marks_of_caller(caller: tuple[str, str, str]) -> Sequence[int]:
    """The marks of a user, a client and a grant."""
    if len(_known_callers) >= _MOST_CALLERS:
        _known_callers.clear()
    named = zip((USER, CLIENT, GRANT), caller, strict=True)
    marks = _known_callers[caller] = tuple(mark(kind, name) for kind, name in named if name)
    return marks


def packed(mentions: Iterable[int]) -> bytes:
    """Mentions as a store keeps them: eight bytes each, the lowest byte first."""
    return _turned(array("Q", mentions)).tobytes()


def unpacked(kept: bytes) -> Numbers:
    """What packed() made."""
    return _turned(array("Q", kept))


def sequences_of(kept: bytes, marks: Iterable[int], block: int) -> set[int]:
    """The sequences of the records of a block whose mentions, as a store keeps them, have one of the marks."""
    found = set()
    for each in marks:
        sought = (each >> BLOCK_BITS).to_bytes(_MENTION_BYTES - _PLACE_BYTES, "little")
        at = kept.find(sought)
        while at >= 0:
            if at % _MENTION_BYTES == _PLACE_BYTES:
                place = kept[at - 2] | kept[at - 1] << 8
                found.add(block << BLOCK_BITS | place)
            at = kept.find(sought, at + 1)
    return found


def part_of(mention: int) -> int:
    """The part of a volume that has the mentions of a mark, by the mark or one of them."""
    return mention >> PART_SHIFT


def _turned(numbers: Numbers) -> Numbers:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers

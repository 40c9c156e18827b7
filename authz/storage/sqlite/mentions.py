"""Mentions: which records name somebody, as sorted numbers that a page of entries keeps in a few bytes.

A mention is a number: 32 bits of a checksum of what is named (a patient, a user, a client, a grant), and 16 of the place
of the record within its block of 65,536. Who looks for somebody gets every record that names them, and now and then one
that names somebody with the same checksum: the entries themselves say who is meant, and are always asked. So a checksum
that somebody strives for costs a look, and no answer.
"""

import sys
from array import array
from bisect import bisect_left
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
"""Into so many parts a volume is sorted, by the first bits of its mentions."""
_PART_SHIFT = 48 - 8
_PLACES = (1 << BLOCK_BITS) - 1
PATIENT, USER, CLIENT, GRANT = (crc32(kind) for kind in (b"patient", b"user", b"client", b"grant"))
"""Kinds of what is named: where its checksum begins."""


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
    add = found.append
    for _, sequence, _, _, patient, user, client, grant, *_ in entries:
        place = sequence & _PLACES
        if patient:
            add(crc32(patient.encode(), PATIENT) << BLOCK_BITS | place)
        if user:
            add(crc32(user.encode(), USER) << BLOCK_BITS | place)
        if client:
            add(crc32(client.encode(), CLIENT) << BLOCK_BITS | place)
        if grant:
            add(crc32(grant.encode(), GRANT) << BLOCK_BITS | place)
    return found


def packed(mentions: Iterable[int]) -> bytes:
    """Mentions as a store keeps them: each once, sorted, eight bytes each, the lowest byte first."""
    return _turned(array("Q", sorted(set(mentions)))).tobytes()


def unpacked(kept: bytes) -> Numbers:
    """What packed() made, sorted."""
    return _turned(array("Q", kept))


def sequences_of(mentions: Numbers, marks: Iterable[int], block: int) -> set[int]:
    """The sequences of the records of a block whose mentions have one of the marks."""
    found = set()
    for each in marks:
        end, at = each | _PLACES, bisect_left(mentions, each)
        while at < len(mentions) and mentions[at] <= end:
            found.add(block << BLOCK_BITS | mentions[at] & _PLACES)
            at += 1
    return found


def part_of(mark: int) -> int:
    """The part of a volume that has the mentions of a mark."""
    return mark >> _PART_SHIFT


def parts_of(pages: Iterable[Numbers], first: int, end: int) -> Sequence[tuple[int, bytes]]:
    """The parts first ... end of the volume of these pages, the latter not included; those without mentions are left out."""
    among: list[int] = []
    for page in pages:
        among += page[bisect_left(page, first << _PART_SHIFT) : _from(page, end)]
    among.sort()
    found, at = [], 0
    for part in range(first, end):
        until = bisect_left(among, part + 1 << _PART_SHIFT, at)
        if until > at:
            found.append((part, _turned(array("Q", among[at:until])).tobytes()))
        at = until
    return found


def _from(page: Numbers, part: int) -> int:
    return bisect_left(page, part << _PART_SHIFT) if part < PARTS else len(page)


def _turned(numbers: Numbers) -> Numbers:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers

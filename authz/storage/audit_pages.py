"""Pages and volumes of mentions beside the index: written with its entries, bound beside the requests, and found again.

A search reads one part of each volume and the pages that are in none yet, of some thousands of entries of each chain,
however many there are: a million have 120 volumes. A volume is bound in short steps: its
pages are read, a few at a time, into the memory of who binds, and its parts are written, with how far that came. Whoever
comes next, after a kill too, reads the same pages again. They stay until the volume counts, and go a few at a time:
what is in both is found twice, which is once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from authz.storage.audit_index import AccessEntry
from authz.storage.audit_mentions import (
    BLOCK_BITS,
    PART_SHIFT,
    PARTS,
    mentions_of,
    packed,
    part_of,
    sequences_of,
    unpacked,
)
from authz.storage.audit_sheets import SPAN
from authz.storage.audit_steps import Many, Row, Statement, Steps
from authz.storage.records import integer, octets, text

PAGE_ENTRIES = 128
"""A page that has as many is full: what is written together stays together, and what comes one by one is gathered."""
VOLUME_ENTRIES = 8192
_ENTRIES_AT_ONCE = 1024  # a third of a millisecond
_PAGES_AT_ONCE = 8
_PARTS_AT_ONCE = 32
_BINDING, _CLEARING, _WHOLE = range(3)
Found = tuple[int, str, set[int]]
"""Records that name somebody: the latest time that one of them has at most, their chain, and their sequences."""


@dataclass
class Binding:
    """What a process has read of the pages of a volume. of says which one it is, and which pages."""

    of: tuple[object, ...] = ()
    pages_read: int = 0
    parts: list[list[int]] = field(default_factory=list)


def add_page(entries: Sequence[AccessEntry], chain: str) -> Steps[None]:
    """Keep the mentions of entries of one chain, in the transaction that adds them."""
    by_block: dict[int, list[AccessEntry]] = {}
    for entry in entries:
        by_block.setdefault(entry.sequence >> BLOCK_BITS, []).append(entry)
    for block, of_block in sorted(by_block.items()):
        yield from _add_page(of_block, chain, block)


def _add_page(entries: Sequence[AccessEntry], chain: str, block: int) -> Steps[None]:
    mentions = packed(mentions_of(entries))
    times = [entry.at for entry in entries]
    count, earliest, latest = len(times), min(times), max(times)
    if count < PAGE_ENTRIES:
        last = yield Statement(
            "SELECT id, entries, earliest, latest, mentions FROM audit_page"
            " WHERE chain = $1 AND block = $2 AND volume IS NULL ORDER BY id DESC LIMIT 1",
            (chain, block),
        )
        if last and integer(last[0][1]) < PAGE_ENTRIES:
            id, there, of_earliest, of_latest = (integer(each) for each in last[0][:4])
            yield Statement(
                "UPDATE audit_page SET entries = $1, earliest = $2, latest = $3, mentions = $4 WHERE id = $5",
                (
                    count + there,
                    min(earliest, of_earliest),
                    max(latest, of_latest),
                    octets(last[0][4]) + mentions,
                    id,
                ),
            )
            return
    yield Statement(
        "INSERT INTO audit_page (id, chain, block, entries, earliest, latest, mentions)"
        " VALUES ((SELECT COALESCE(MAX(id), 0) + 1 FROM audit_page), $1, $2, $3, $4, $5, $6)",
        (chain, block, count, earliest, latest, mentions),
    )


def mentions(marks: Sequence[int], *, earliest: int | None, latest: int | None) -> Steps[Sequence[Row]]:
    """Pages, and parts of volumes, that may mention somebody with one of the marks, those first that may be the newest.

    earliest and latest are times between which, both included, a record is looked for. What there is is read at once:
    what becomes a volume in between would be found in neither.
    """
    between = (-(1 << 63) if earliest is None else earliest, (1 << 63) - 1 if latest is None else latest)
    rows = yield Statement(
        "SELECT latest, chain, block, mentions FROM audit_page WHERE latest >= $1 AND earliest <= $2"  # noqa: S608
        " UNION ALL SELECT volume.latest, chain, block, mentions FROM audit_volume AS volume CROSS JOIN EACH($3)"
        f" JOIN audit_volume_part AS part ON part.id = volume.id * {PARTS} + each.value"
        " WHERE volume.latest >= $1 AND earliest <= $2 AND state > 0",
        (*between, sorted({part_of(each) for each in marks})),
    )
    return sorted(rows, key=_latest, reverse=True)


def records_in(rows: Iterable[Row], marks: Sequence[int]) -> Iterator[Found]:
    """Records that name somebody with one of the marks, by rows of mentions(), in their order.

    Rows are understood as far as records are asked for.
    """
    for latest, chain, block, mentions in rows:
        sequences = sequences_of(octets(mentions), marks, integer(block))
        if sequences:
            yield integer(latest), text(chain), sequences


def _latest(row: Row) -> int:
    return integer(row[0])


def tend(binding: Binding) -> Steps[bool]:
    """Bind or remove a few rows in one short transaction; False when nothing is left to do."""
    begun = yield Statement(
        "SELECT id, chain, block, earliest, latest, parts, state FROM audit_volume WHERE state < 2 LIMIT 1"
    )
    if begun:
        *volume, state = begun[0]
        if state == _BINDING:
            yield from _bind(volume, binding)
        else:
            yield from _clear(volume[0])
        return True
    return (yield from _begin()) or (yield from _remove())


def _begin() -> Steps[bool]:
    """Name the pages of a volume: the oldest of a block that has enough, or to which nothing is added any more."""
    ready = yield Statement(
        "SELECT chain, block FROM audit_page WHERE volume IS NULL GROUP BY chain, block HAVING SUM(entries) > $1"
        " OR block < (SELECT MAX(block) FROM audit_page AS other"
        " WHERE other.chain = audit_page.chain AND other.volume IS NULL) LIMIT 1",
        (VOLUME_ENTRIES,),
    )
    if not ready:
        return False
    pages = yield Statement(
        "SELECT id, entries, earliest, latest FROM audit_page WHERE chain = $1 AND block = $2 AND volume IS NULL"
        " ORDER BY id",
        ready[0],
    )
    pages = _until(pages, VOLUME_ENTRIES)
    (volume,) = yield Statement("SELECT COALESCE(MAX(id), 0) + 1 FROM audit_volume")
    earliest, latest = min(integer(page[2]) for page in pages), max(integer(page[3]) for page in pages)
    yield Statement(
        "INSERT INTO audit_volume (id, chain, block, earliest, latest, parts, state)"
        " VALUES ($1, $2, $3, $4, $5, 0, 0)",
        (*volume, *ready[0], earliest, latest),
    )
    yield Many("UPDATE audit_page SET volume = $1 WHERE id = $2", [(*volume, page[0]) for page in pages])
    return True


def _until(pages: Sequence[Row], entries: int) -> Sequence[Row]:
    """The first of these pages, by their ids and how many entries they have, that have so many together."""
    there = accumulate(integer(page[1]) for page in pages)
    return pages[: 1 + sum(1 for count in there if count < entries)]


def _bind(begun: Sequence[object], binding: Binding) -> Steps[None]:
    """Read the next pages of a volume or write its next parts; with the last ones it counts."""
    volume, first = integer(begun[0]), integer(begun[-1])
    pages = yield Statement("SELECT id, entries FROM audit_page WHERE volume = $1 ORDER BY id", (volume,))
    of = (*begun[:-1], *pages)
    if binding.of != of:
        binding.of, binding.pages_read, binding.parts = of, 0, [[] for _ in range(PARTS)]
    if binding.pages_read < len(pages):
        some = _until(pages[binding.pages_read :], _ENTRIES_AT_ONCE)
        rows = yield Statement(
            "SELECT mentions FROM audit_page WHERE volume = $1 AND id >= $2 AND id <= $3 ORDER BY id",
            (volume, some[0][0], some[-1][0]),
        )
        parts = binding.parts
        for row in rows:
            for mention in unpacked(octets(row[0])):
                parts[mention >> PART_SHIFT].append(mention)
        binding.pages_read += len(some)
        return
    end = min(first + _PARTS_AT_ONCE, PARTS)
    numbered = zip(range(first, end), binding.parts[first:end], strict=True)
    yield Many(
        "INSERT INTO audit_volume_part (id, mentions) VALUES ($1, $2)",
        [(volume * PARTS + part, packed(mentions)) for part, mentions in numbered if mentions],
    )
    state = _CLEARING if end == PARTS else _BINDING
    yield Statement("UPDATE audit_volume SET parts = $1, state = $2 WHERE id = $3", (end, state, volume))
    if state == _CLEARING:
        binding.of, binding.parts = (), []


def _clear(volume: object) -> Steps[None]:
    """Remove a few pages of a volume that counts."""
    pages = yield Statement("SELECT id FROM audit_page WHERE volume = $1 LIMIT $2", (volume, _PAGES_AT_ONCE))
    yield Many("DELETE FROM audit_page WHERE id = $1", pages)
    if len(pages) < _PAGES_AT_ONCE:
        yield Statement("UPDATE audit_volume SET state = $1 WHERE id = $2", (_WHOLE, volume))


def _remove() -> Steps[bool]:
    """Remove a page, or some parts of a volume, all of whose entries are gone: the oldest entry is younger."""
    oldest = yield Statement(
        "SELECT MIN(at) FROM (SELECT MIN(latest) - $1 AS at FROM audit_sheet UNION ALL"  # noqa: S608
        f" SELECT MIN(earliest) FROM audit_sheet WHERE latest - earliest > {SPAN}) AS those",
        (SPAN,),
    )
    before = (1 << 63) - 1 if oldest[0][0] is None else integer(oldest[0][0])
    page = yield Statement(
        "SELECT id FROM audit_page WHERE latest < $1 AND volume IS NULL LIMIT 1", (before,)
    )
    if page:
        yield Statement("DELETE FROM audit_page WHERE id = $1", page[0])
        return True
    found = yield Statement("SELECT id, parts FROM audit_volume WHERE latest < $1 LIMIT 1", (before,))
    if not found:
        return False
    volume, parts = integer(found[0][0]), integer(found[0][1])
    left = max(0, parts - _PARTS_AT_ONCE)
    yield Many(
        "DELETE FROM audit_volume_part WHERE id = $1",
        [(volume * PARTS + part,) for part in range(left, parts)],
    )
    if left:
        yield Statement("UPDATE audit_volume SET parts = $1 WHERE id = $2", (left, volume))
    else:
        yield Statement("DELETE FROM audit_volume WHERE id = $1", (volume,))
    return True

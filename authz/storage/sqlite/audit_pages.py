"""Pages and volumes of mentions beside the index: written with its entries, bound beside the requests, and found again.

A search reads one part of each volume and the pages that are in none yet, at most 64 and a few of each chain, however
many entries there are: a million that were written by hundreds have 160 volumes. A volume is bound in short transactions,
each of which says how far it came, so that whoever comes next, after a kill too, goes on from there. Its pages stay until
all parts are written, and go in the transaction in which it begins to count.
"""

from collections.abc import Iterable, Iterator, Sequence
from sqlite3 import Connection

from authz.storage.audit_index import AccessEntry
from authz.storage.records import integer, octets, text
from authz.storage.sqlite.connection import SqliteConnection
from authz.storage.sqlite.mentions import (
    BLOCK_BITS,
    PARTS,
    mentions_of,
    packed,
    part_of,
    parts_of,
    sequences_of,
    unpacked,
)

PAGE_ENTRIES = 64
"""A page that has as many is full: what is written together stays together, and what comes one by one is gathered."""
VOLUME_PAGES = 64
_PARTS_AT_ONCE = 16  # half a millisecond
Found = tuple[int, str, set[int]]
"""Records that name somebody: the latest time that one of them has at most, their chain, and their sequences."""


def write_pages(connection: Connection, entries: Sequence[AccessEntry], chain: str) -> None:
    """Keep the mentions of entries of one chain, in the transaction that adds them."""
    if not entries:
        return
    blocks = [entry.sequence >> BLOCK_BITS for entry in entries]
    if min(blocks) != max(blocks):
        for block in sorted(set(blocks)):
            write_pages(
                connection, [entry for entry, of in zip(entries, blocks, strict=True) if of == block], chain
            )
        return
    block, mentions = blocks[0], mentions_of(entries)
    times = [entry.at for entry in entries]
    count, earliest, latest = len(times), min(times), max(times)
    last = None
    if count < PAGE_ENTRIES:
        last = connection.execute(
            "SELECT id, entries, earliest, latest, mentions FROM audit_page"
            " WHERE chain = ? AND block = ? AND volume IS NULL ORDER BY id DESC LIMIT 1",
            (chain, block),
        ).fetchone()
    if last is None or integer(last[1]) >= PAGE_ENTRIES:
        connection.execute(
            "INSERT INTO audit_page (chain, block, entries, earliest, latest, mentions) VALUES (?, ?, ?, ?, ?, ?)",
            (chain, block, count, earliest, latest, packed(mentions)),
        )
        return
    mentions += unpacked(octets(last[4]))
    connection.execute(
        "UPDATE audit_page SET entries = ?, earliest = ?, latest = ?, mentions = ? WHERE id = ?",
        (
            count + integer(last[1]),
            min(earliest, integer(last[2])),
            max(latest, integer(last[3])),
            packed(mentions),
            last[0],
        ),
    )


def find(
    database: SqliteConnection, marks: Sequence[int], *, earliest: int | None, latest: int | None
) -> Iterator[Found]:
    """Records that name somebody with one of the marks, those first that may be the newest.

    earliest and latest are times between which, both included, a record is looked for. What there is is read at once,
    and understood as far as it is asked for.
    """
    between = (-(1 << 63) if earliest is None else earliest, (1 << 63) - 1 if latest is None else latest)
    # Pages first: what becomes a volume in between is found twice, and not never.
    pages = database.rows(
        "SELECT latest, chain, block, mentions FROM audit_page WHERE latest >= ? AND earliest <= ?", *between
    )
    rows = [(integer(row[0]), row, marks) for row in pages]
    by_part: dict[int, list[int]] = {}
    for each in marks:
        by_part.setdefault(part_of(each), []).append(each)
    for part, of_part in by_part.items():
        parts = database.rows(
            "SELECT volume.latest, chain, block, mentions FROM audit_volume AS volume JOIN audit_volume_part AS part"
            " ON part.part = ? AND part.volume = volume.id"
            " WHERE volume.latest >= ? AND earliest <= ? AND is_whole = 1",
            part,
            *between,
        )
        rows += [(integer(row[0]), row, of_part) for row in parts]
    rows.sort(key=lambda row: row[0], reverse=True)
    return _understood(rows)


def _understood(rows: Iterable[tuple[int, Sequence[object], Sequence[int]]]) -> Iterator[Found]:
    for latest, (_, chain, block, mentions), marks in rows:
        sequences = sequences_of(unpacked(octets(mentions)), marks, integer(block))
        if sequences:
            yield latest, text(chain), sequences


def tend(database: SqliteConnection) -> bool:
    """Bind or remove a few rows in one short transaction; False when nothing is left to do."""
    with database.transaction() as connection:
        begun = connection.execute("SELECT id, parts FROM audit_volume WHERE is_whole = 0 LIMIT 1").fetchone()
        if begun is not None:
            _bind(connection, integer(begun[0]), integer(begun[1]))
            return True
        return _begin(connection) or _remove(connection)


def _begin(connection: Connection) -> bool:
    """Name the pages of a volume: the oldest of a block that has enough, or to which nothing is added any more."""
    ready = connection.execute(
        "SELECT chain, block FROM audit_page WHERE volume IS NULL GROUP BY chain, block HAVING COUNT(*) > ?"
        " OR block < (SELECT MAX(block) FROM audit_page AS other"
        " WHERE other.chain = audit_page.chain AND other.volume IS NULL) LIMIT 1",
        (VOLUME_PAGES,),
    ).fetchone()
    if ready is None:
        return False
    pages = connection.execute(
        "SELECT id, earliest, latest FROM audit_page WHERE chain = ? AND block = ? AND volume IS NULL ORDER BY id LIMIT ?",
        (*ready, VOLUME_PAGES),
    ).fetchall()
    volume = connection.execute(
        "INSERT INTO audit_volume (chain, block, earliest, latest, parts, is_whole) VALUES (?, ?, ?, ?, 0, 0)",
        (*ready, min(page[1] for page in pages), max(page[2] for page in pages)),
    ).lastrowid
    connection.executemany(
        "UPDATE audit_page SET volume = ? WHERE id = ?", [(volume, page[0]) for page in pages]
    )
    return True


def _bind(connection: Connection, volume: int, first: int) -> None:
    """Write the next parts of a volume; with the last ones it counts, and its pages go."""
    end = min(first + _PARTS_AT_ONCE, PARTS)
    pages = connection.execute("SELECT mentions FROM audit_page WHERE volume = ?", (volume,)).fetchall()
    parts = parts_of([unpacked(octets(page[0])) for page in pages], first, end)
    connection.executemany(
        "INSERT INTO audit_volume_part (part, volume, mentions) VALUES (?, ?, ?)",
        [(part, volume, mentions) for part, mentions in parts],
    )
    is_whole = end == PARTS
    connection.execute(
        "UPDATE audit_volume SET parts = ?, is_whole = ? WHERE id = ?", (end, int(is_whole), volume)
    )
    if is_whole:
        connection.execute("DELETE FROM audit_page WHERE volume = ?", (volume,))


def _remove(connection: Connection) -> bool:
    """Remove a page, or some parts of a volume, all of whose entries are gone: the oldest entry is younger."""
    gone = "latest < COALESCE((SELECT MIN(at) FROM audit_entry), 9223372036854775807)"
    page = connection.execute(f"SELECT id FROM audit_page WHERE {gone} AND volume IS NULL LIMIT 1").fetchone()  # noqa: S608
    if page is not None:
        connection.execute("DELETE FROM audit_page WHERE id = ?", page)
        return True
    found = connection.execute(f"SELECT id, parts FROM audit_volume WHERE {gone} LIMIT 1").fetchone()  # noqa: S608
    if found is None:
        return False
    volume, parts = integer(found[0]), integer(found[1])
    left = max(0, parts - _PARTS_AT_ONCE)
    connection.executemany(
        "DELETE FROM audit_volume_part WHERE part = ? AND volume = ?",
        [(part, volume) for part in range(left, parts)],
    )
    if left:
        connection.execute("UPDATE audit_volume SET parts = ? WHERE id = ?", (left, volume))
    else:
        connection.execute("DELETE FROM audit_volume WHERE id = ?", (volume,))
    return True


def forget(connection: Connection) -> None:
    """Forget every page and volume, and how far each chain was read."""
    for table in ("audit_page", "audit_volume", "audit_volume_part", "audit_page_place"):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608

"""Adding entries to the sheets of the index, and removing what is old: steps of one transaction.

What follows the newest sheet of a chain becomes sheets of its own, or goes into that one while it is small. What was
read before, by a follower that is behind or began anew, is added where it belongs: an entry that is there stays as it is.
"""

from bisect import bisect_right
from collections.abc import Sequence

from authz.storage import audit_pages
from authz.storage.audit_index import AccessEntry
from authz.storage.audit_sheets import (
    SHEET_COLUMNS,
    SHEET_ENTRIES,
    SPAN,
    Sheet,
    entries_in,
    in_order,
    key,
    sheet_of,
    sheets_of,
)
from authz.storage.audit_steps import Many, Statement, Steps
from authz.storage.records import integer, text

FOLLOWER = "index"
_INSERT = f"INSERT INTO audit_sheet ({SHEET_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)"  # noqa: S608
_FEW = SHEET_ENTRIES // 2
_WIDE = f"latest - earliest > {SPAN}"
_SOME_OLD = (
    "SELECT chain, first, count, latest, entries FROM audit_sheet WHERE latest < $1 ORDER BY latest LIMIT 1",
    "SELECT chain, first, count, latest, entries FROM audit_sheet WHERE latest < CAST($1 AS BIGINT)"  # noqa: S608
    f" + {SPAN} AND earliest < $1 ORDER BY latest LIMIT 1",
    f"SELECT chain, first, count, latest, entries FROM audit_sheet WHERE {_WIDE} AND earliest < $1 LIMIT 1",  # noqa: S608
)


def add(entries: Sequence[AccessEntry], *, chain: str, read_to: int) -> Steps[None]:
    """Add entries of a chain, in any order, with their mentions, and move the follower's place."""
    if entries:
        yield from _add(in_order(entries), chain)
        yield from audit_pages.add_page(entries, chain)
    yield Statement(
        "INSERT INTO audit_place (follower, chain, sequence) VALUES ($1, $2, $3) ON CONFLICT (follower, chain)"
        " DO UPDATE SET sequence = excluded.sequence WHERE audit_place.sequence < excluded.sequence",
        (FOLLOWER, chain, read_to),
    )


def _add(entries: Sequence[AccessEntry], chain: str) -> Steps[None]:
    newest = yield Statement(
        "SELECT first, last, count, earliest, latest FROM audit_sheet WHERE chain = $1 ORDER BY first DESC LIMIT 1",
        (chain,),
    )
    if newest:
        first, last, count, earliest, latest = (integer(each) for each in newest[0])
        if entries[0].sequence <= last:
            entries = yield from _amend(entries, chain, last)
            if not entries:
                return
        elif len(entries) < _FEW and count + len(entries) <= SHEET_ENTRIES:
            times = [earliest, latest, *(entry.at for entry in entries)]
            if max(times) - min(times) <= SPAN:
                there = yield from _entries(chain, first)
                yield _rewritten(chain, first, sheet_of(chain, [*there, *entries]))
                return
    yield Many(_INSERT, sheets_of(chain, entries))


def _amend(entries: Sequence[AccessEntry], chain: str, last: int) -> Steps[Sequence[AccessEntry]]:
    """Add what is not behind the last sequence, each to the sheet that it is within, or between two; the others."""
    behind = [entry for entry in entries if entry.sequence <= last]
    rows = yield Statement(
        "SELECT DISTINCT sheet.first, sheet.last FROM EACH($2) JOIN audit_sheet AS sheet ON sheet.chain = $1"
        " AND sheet.first = (SELECT MAX(first) FROM audit_sheet WHERE chain = $1 AND first <= each.value)"
        " ORDER BY sheet.first",
        (chain, sorted({entry.sequence for entry in behind})),
    )
    firsts, lasts = [integer(row[0]) for row in rows], [integer(row[1]) for row in rows]
    within: dict[int, list[AccessEntry]] = {}
    between: dict[int, list[AccessEntry]] = {}
    for entry in behind:
        sheet = bisect_right(firsts, entry.sequence) - 1
        is_within = sheet >= 0 and entry.sequence <= lasts[sheet]
        (within if is_within else between).setdefault(sheet, []).append(entry)
    for sheet, more in within.items():
        there = yield from _entries(chain, firsts[sheet])
        known = {key(entry) for entry in there}
        if new := [entry for entry in more if key(entry) not in known]:
            yield _rewritten(chain, firsts[sheet], sheet_of(chain, in_order([*there, *new])))
    for more in between.values():
        yield Many(_INSERT, sheets_of(chain, more))
    return [entry for entry in entries if entry.sequence > last]


def _entries(chain: str, first: int) -> Steps[list[AccessEntry]]:
    rows = yield Statement("SELECT entries FROM audit_sheet WHERE chain = $1 AND first = $2", (chain, first))
    return entries_in(rows[0][0])


def _rewritten(chain: str, first: int, sheet: Sheet) -> Statement:
    return Statement(
        "UPDATE audit_sheet SET first = $3, last = $4, count = $5, earliest = $6, latest = $7, entries = $8"
        " WHERE chain = $1 AND first = $2",
        (chain, first, *sheet[1:]),
    )


def remove(*, before: int, at_most: int) -> Steps[int]:
    """Remove entries older than that, at most so many; how many went."""
    removed = 0
    for sql in _SOME_OLD:
        while removed < at_most and (rows := (yield Statement(sql, (before,)))):
            chain, first, count, latest = text(rows[0][0]), *(integer(each) for each in rows[0][1:4])
            left = at_most - removed
            if latest < before and count <= left:
                yield _gone(chain, first)
                removed += count
                continue
            entries = entries_in(rows[0][4])
            old = {key(entry) for entry in [entry for entry in entries if entry.at < before][:left]}
            removed += len(old)
            stay = [entry for entry in entries if key(entry) not in old]
            yield _rewritten(chain, first, sheet_of(chain, stay)) if stay else _gone(chain, first)
    return removed


def _gone(chain: str, first: int) -> Statement:
    return Statement("DELETE FROM audit_sheet WHERE chain = $1 AND first = $2", (chain, first))


def rewind() -> Steps[None]:
    """Forget every mention and how far each chain was read; the entries stay."""
    for table in ("audit_page", "audit_volume", "audit_volume_part"):
        yield Statement(f"DELETE FROM {table}")  # noqa: S608
    yield Statement("DELETE FROM audit_place WHERE follower = $1", (FOLLOWER,))

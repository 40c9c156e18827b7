"""The index of the audit log on SQLite. What each method means stands at AuditIndexStore.

Entries are rows in the order of the log, with an index of their time. Whom they name is found by pages and volumes.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from sqlite3 import Connection

from authz.storage.audit_index import AccessEntry, AuditQuery, Cursor
from authz.storage.audit_queries import ENTRY_COLUMNS, access_entry, search
from authz.storage.records import integer
from authz.storage.sqlite import audit_pages
from authz.storage.sqlite.audit_pages import Found
from authz.storage.sqlite.connection import SqliteConnection
from authz.storage.sqlite.mentions import USER, mark, marks_of

_BY_RECORD = "audit_entry INDEXED BY audit_entry_record"
_AMONG = "chain = ?1 AND sequence IN (SELECT value FROM json_each(?2))"
_AT_ONCE = 500  # records that one statement looks at
_OFTEN = 1000
"""Who is named by so many records of one volume or page is found as soon by the time of all entries."""


class SqliteAuditIndex:
    """The part of SqliteStore that keeps the index."""

    _database: SqliteConnection

    async def index_audit(self, entries: Sequence[AccessEntry], *, chain: str, read_to: int) -> None:
        """Add entries and move the place, in one transaction."""
        with self._database.transaction() as connection:
            connection.executemany(
                f"INSERT INTO audit_entry ({ENTRY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
                " ON CONFLICT DO NOTHING",
                entries,
            )
            audit_pages.write_pages(connection, entries, chain)
            connection.execute(
                "INSERT INTO audit_page_place VALUES (?, ?) ON CONFLICT (chain)"
                " DO UPDATE SET sequence = excluded.sequence WHERE sequence < excluded.sequence",
                (chain, read_to),
            )

    async def indexed_to(self, chain: str) -> int:
        """The place of the follower in a chain."""
        row = self._database.row("SELECT sequence FROM audit_page_place WHERE chain = ?", chain)
        return 0 if row is None else integer(row[0])

    async def find_audit(self, wanted: AuditQuery) -> Sequence[AccessEntry]:
        """What is wanted, the newest first."""
        marks = marks_of(wanted)
        if not marks:
            return self._search(wanted)
        until = [] if wanted.until is None else [wanted.until]
        if wanted.before is not None:
            until.append(wanted.before.at)
        records = audit_pages.find(
            self._database, marks, earliest=wanted.since, latest=min(until, default=None)
        )
        if records and len(records[0][2]) > _OFTEN:
            return self._search(wanted)
        found: dict[Cursor, AccessEntry] = {}  # each once: two followers may have read the same lines
        newest: list[AccessEntry] = []
        for at_most, chain, sequences in _batches(records, at_least=wanted.limit):
            if len(newest) == wanted.limit and newest[-1].at > at_most:
                break  # whoever comes now is older
            for entry in self._search(wanted, chain, sequences):
                found[Cursor.behind(entry)] = entry
            newest = sorted(found.values(), key=_order, reverse=True)[: wanted.limit]
        return newest

    def _search(
        self, wanted: AuditQuery, chain: str = "", sequences: Collection[int] = ()
    ) -> list[AccessEntry]:
        """What is wanted among all entries, by their time, or among those of some records of a chain."""
        if sequences:
            sql, values = search(
                wanted, _place, table=_BY_RECORD, also=_AMONG, given=_among(chain, sequences)
            )
        else:
            sql, values = search(wanted, _place)
        return [access_entry(row) for row in self._database.rows(sql, *values)]

    async def audit_entries(self, *, chain: str, after: int, limit: int) -> Sequence[AccessEntry]:
        """The entries of the next records of a chain."""
        rows = self._database.rows(
            f"SELECT {ENTRY_COLUMNS} FROM audit_entry WHERE chain = ?1 AND sequence > ?2 AND sequence <="  # noqa: S608
            " (SELECT MAX(sequence) FROM (SELECT DISTINCT sequence FROM audit_entry WHERE chain = ?1"
            " AND sequence > ?2 ORDER BY sequence LIMIT ?3)) ORDER BY sequence, base, patient",
            chain,
            after,
            limit,
        )
        return [access_entry(row) for row in rows]

    async def last_use(self, grants: Collection[str]) -> Mapping[str, int]:
        """When each grant was used last."""
        found: dict[str, int] = {}
        for grant in grants:
            for entry in await self.find_audit(AuditQuery(grant=grant, limit=1)):
                found[grant] = entry.at
        return found

    async def patients_per_window(
        self, user: str, *, since: int, until: int, window: int
    ) -> Mapping[int, int]:
        """Patients of a user's permitted accesses, window by window."""
        records = audit_pages.find(self._database, [mark(USER, user)], earliest=since, latest=until - 1)
        seen: set[tuple[object, ...]] = set()
        for _, chain, sequences in _batches(records, at_least=_AT_ONCE):
            seen.update(
                self._database.rows(
                    "SELECT DISTINCT (?5 - 1 - at) / ?6, base, patient"  # noqa: S608
                    f" FROM {_BY_RECORD} WHERE {_AMONG} AND person = ?3 AND at >= ?4 AND at < ?5"
                    " AND patient <> '' AND outcome = 'permit'",
                    *_among(chain, sequences),
                    user,
                    since,
                    until,
                    window,
                )
            )
        return Counter(integer(number) for number, *_ in seen)

    async def remove_audit_entries(self, *, before: int, at_most: int) -> int:
        """Remove some of what is old."""
        return self._database.change(
            "DELETE FROM audit_entry WHERE rowid IN (SELECT rowid FROM audit_entry WHERE at < ? LIMIT ?)",
            before,
            at_most,
        )

    async def tend_audit_index(self) -> bool:
        """Bind pages into a volume, or remove what names nobody any more, a little at a time."""
        return audit_pages.tend(self._database)

    async def rewind_audit_index(self) -> None:
        """Begin every chain anew."""
        with self._database.transaction() as connection:
            audit_pages.forget(connection)


def _batches(records: Sequence[Found], *, at_least: int) -> Iterator[Found]:
    """The same records in fewer groups, each of one chain and of so many where there are as many, in the same order."""
    at_most, chain, sequences = 0, "", set[int]()
    for of_latest, of_chain, found in records:
        if sequences and (of_chain != chain or len(sequences) >= at_least):
            yield at_most, chain, sequences
            sequences = set()
        if not sequences:
            at_most, chain = of_latest, of_chain
        sequences = sequences | found
    if sequences:
        yield at_most, chain, sequences


def _among(chain: str, sequences: Collection[int]) -> tuple[object, ...]:
    return chain, json.dumps(sorted(sequences))


def _order(entry: AccessEntry) -> tuple[int, str, int, str, str]:
    return entry.at, entry.chain, entry.sequence, entry.base, entry.patient


def _place(number: int) -> str:
    return f"?{number}"


def place(database: SqliteConnection, follower: str, chain: str) -> int:
    """How far a follower has read a chain."""
    row = database.row("SELECT sequence FROM audit_place WHERE follower = ? AND chain = ?", follower, chain)
    return 0 if row is None else integer(row[0])


def move_place(
    connection: Connection, follower: str, chain: str, read_to: int, read_from: int | None = None
) -> bool:
    """Move a follower's place, never back; False when it is there or beyond, or not at read_from."""
    return (
        connection.execute(
            "INSERT INTO audit_place VALUES (?, ?, ?) ON CONFLICT (follower, chain)"
            " DO UPDATE SET sequence = excluded.sequence WHERE sequence < excluded.sequence"
            " AND sequence = COALESCE(?, sequence)",
            (follower, chain, read_to, read_from),
        ).rowcount
        == 1
    )

"""The index of the audit log on SQLite. What each method means stands at AuditIndexStore."""

from collections.abc import Collection, Mapping, Sequence
from sqlite3 import Connection

from authz.storage.audit_index import AccessEntry, AuditQuery
from authz.storage.audit_queries import ENTRY_COLUMNS, access_entry, entry_values, search
from authz.storage.records import integer
from authz.storage.sqlite.connection import SqliteConnection

_PAGES_BESIDE = 5  # of an entry: its indexes but that of the time, where the newest stand side by side


class SqliteAuditIndex:
    """The part of SqliteStore that keeps the index."""

    _database: SqliteConnection

    async def index_audit(self, entries: Sequence[AccessEntry], *, chain: str, read_to: int) -> None:
        """Add entries and move the place, in one transaction."""
        with self._database.transaction() as connection:
            connection.executemany(
                f"INSERT INTO audit_entry ({ENTRY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
                " ON CONFLICT DO NOTHING",
                [entry_values(entry) for entry in entries],
            )
            move_place(connection, "index", chain, read_to)
            self._database.wrote_beside(_PAGES_BESIDE * len(entries))

    async def indexed_to(self, chain: str) -> int:
        """The place of the follower in a chain."""
        return place(self._database, "index", chain)

    async def find_audit(self, wanted: AuditQuery) -> Sequence[AccessEntry]:
        """What is wanted, the newest first."""
        sql, values = search(wanted, lambda number: f"?{number}")
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
            # One look at the index for each grant, however often it was used.
            row = self._database.row(
                "SELECT at FROM audit_entry WHERE grant_id = ? AND grant_id <> '' ORDER BY at DESC LIMIT 1",
                grant,
            )
            if row is not None:
                found[grant] = integer(row[0])
        return found

    async def patients_per_window(
        self, user: str, *, since: int, until: int, window: int
    ) -> Mapping[int, int]:
        """Patients of a user's permitted accesses, window by window."""
        rows = self._database.rows(
            "SELECT number, COUNT(*) FROM (SELECT DISTINCT (?3 - 1 - at) / ?4 AS number, base, patient"
            " FROM audit_entry WHERE person = ?1 AND person <> '' AND at >= ?2 AND at < ?3 AND patient <> ''"
            " AND outcome = 'permit') GROUP BY number",
            user,
            since,
            until,
            window,
        )
        return {integer(number): integer(count) for number, count in rows}

    async def remove_audit_entries(self, *, before: int, at_most: int) -> int:
        """Remove some of what is old."""
        return self._database.change(
            "DELETE FROM audit_entry WHERE rowid IN (SELECT rowid FROM audit_entry WHERE at < ? LIMIT ?)",
            before,
            at_most,
        )

    async def rewind_audit_index(self) -> None:
        """Begin every chain anew."""
        self._database.change("DELETE FROM audit_place WHERE follower = 'index'")


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

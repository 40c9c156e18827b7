"""The index of the audit log on SQLite. What each method means stands at AuditIndexStore.

Entries are rows in the order of the log, with an index of their time. Whom they name is found by pages and volumes.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain as chained
from sqlite3 import Connection

from authz.storage.audit_index import AccessEntry, AuditQuery
from authz.storage.audit_queries import ENTRY_COLUMNS, access_entry, search
from authz.storage.records import integer, text
from authz.storage.sqlite import audit_pages
from authz.storage.sqlite.audit_pages import Found
from authz.storage.sqlite.connection import SqliteConnection
from authz.storage.sqlite.mentions import USER, mark, marks_of

_BY_RECORD = "audit_entry INDEXED BY audit_entry_record"
_AMONG = "chain = ?1 AND sequence IN (SELECT value FROM json_each(?2))"
_AT_ONCE = 500  # records that one statement looks at
_OFTEN = 1000
"""Who is named by so many records of one volume or page is found as soon by the time of all entries."""
_MOST_KNOWN = 20_000  # records of users whose accesses are counted
_Access = tuple[int, str, str]


class SqliteAuditIndex:
    """The part of SqliteStore that keeps the index."""

    _database: SqliteConnection

    def __init__(self) -> None:
        self._known_accesses: dict[tuple[str, str, int], Sequence[_Access]] = {}

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
        if self._known_accesses:
            for entry in entries:
                self._known_accesses.pop((entry.user, chain, entry.sequence), None)

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
        found: set[AccessEntry] = set()  # each once: two followers may have read the same lines
        newest: list[AccessEntry] = []
        for at_most, chain, sequences in _batches(records, at_least=wanted.limit):
            if len(newest) == wanted.limit and newest[-1].at > at_most:
                break  # whoever comes now is older
            if len(sequences) > _OFTEN:
                return self._search(wanted)
            found.update(self._search(wanted, chain, sequences))
            newest = sorted(found, key=_order, reverse=True)[: wanted.limit]
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
        seen = {
            ((until - 1 - at) // window, base, patient)
            for _, chain, sequences in _batches(records, at_least=_AT_ONCE)
            for at, base, patient in self._accesses(user, chain, sequences)
            if since <= at < until
        }
        return Counter(number for number, _, _ in seen)

    def _accesses(self, user: str, chain: str, sequences: Collection[int]) -> Iterator[_Access]:
        """Time, base and patient of a user's permitted accesses among some records.

        A watch asks for the same ones again with each new one: what was read is remembered until it may have changed.
        """
        known = self._known_accesses
        if len(known) > _MOST_KNOWN:
            known.clear()
        missing: dict[int, list[_Access]] = {
            each: [] for each in sequences if (user, chain, each) not in known
        }
        if missing:
            rows = self._database.rows(
                "SELECT sequence, at, base, patient"  # noqa: S608
                f" FROM {_BY_RECORD} WHERE {_AMONG} AND person = ?3 AND patient <> '' AND outcome = 'permit'",
                *_among(chain, missing),
                user,
            )
            for sequence, at, base, patient in rows:
                missing[integer(sequence)].append((integer(at), text(base), text(patient)))
            known.update({(user, chain, each): found for each, found in missing.items()})
        return chained.from_iterable([known[user, chain, each] for each in sequences])

    async def remove_audit_entries(self, *, before: int, at_most: int) -> int:
        """Remove some of what is old."""
        self._known_accesses.clear()
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
        self._known_accesses.clear()
        with self._database.transaction() as connection:
            audit_pages.forget(connection)


def _batches(records: Iterable[Found], *, at_least: int) -> Iterator[Found]:
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

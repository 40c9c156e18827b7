"""The index of the audit log on SQLite. What each method means stands at AuditIndexStore, how it is done at the steps."""

import asyncio
import json
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from sqlite3 import Connection

from authz.storage import audit_adding, audit_finding, audit_pages
from authz.storage.audit_finding import Accesses
from authz.storage.audit_index import AccessEntry, AuditQuery
from authz.storage.audit_pages import Binding
from authz.storage.audit_steps import Many, OneMoment, R, Row, Statement, Steps, Turn
from authz.storage.records import integer
from authz.storage.sqlite.connection import SqliteConnection
from authz.storage.sqlite.moments import one_moment

_PAGE_BYTES = 4096


class SqliteAuditIndex:
    """The part of SqliteStore that keeps the index."""

    audit_lines_at_once = 128
    _database: SqliteConnection

    def __init__(self) -> None:
        self._known_accesses: Accesses = {}
        self._binding = Binding()

    async def index_audit(self, entries: Sequence[AccessEntry], *, chain: str, read_to: int) -> None:
        """Add entries and move the place, in one transaction."""
        self._write(audit_adding.add(entries, chain=chain, read_to=read_to))
        if self._known_accesses:
            for entry in entries:
                self._known_accesses.pop((entry.user, chain, entry.sequence), None)

    async def indexed_to(self, chain: str) -> int:
        """The place of the follower in a chain."""
        return place(self._database, audit_adding.FOLLOWER, chain)

    async def find_audit(self, wanted: AuditQuery) -> Sequence[AccessEntry]:
        """What is wanted, the newest first."""
        return await self._read(audit_finding.find(wanted))

    async def audit_entries(self, *, chain: str, after: int, limit: int) -> Sequence[AccessEntry]:
        """The entries of the next records of a chain."""
        return await self._read(audit_finding.of_chain(chain=chain, after=after, limit=limit))

    async def last_use(self, grants: Collection[str]) -> Mapping[str, int]:
        """When each grant was used last."""
        return await self._read(audit_finding.last_use(grants))

    async def patients_per_window(
        self, user: str, *, since: int, until: int, window: int
    ) -> Mapping[int, int]:
        """Patients of a user's permitted accesses, window by window."""
        known = self._known_accesses
        steps = audit_finding.patients_per_window(user, since=since, until=until, window=window, known=known)
        return await self._read(steps)

    async def remove_audit_entries(self, *, before: int, at_most: int) -> int:
        """Remove some of what is old."""
        self._known_accesses.clear()
        return self._write(audit_adding.remove(before=before, at_most=at_most))

    async def tend_audit_index(self) -> bool:
        """Bind pages into a volume, or remove what names nobody any more, a little at a time."""
        return self._write(audit_pages.tend(self._binding))

    async def rewind_audit_index(self) -> None:
        """Begin every chain anew."""
        self._known_accesses.clear()
        self._write(audit_adding.rewind())

    async def _read(self, steps: Steps[R]) -> R:
        """In turns with others; what is to be one moment is read by a connection of its own."""
        with ExitStack() as ending:
            rows = self._database.rows
            try:
                asked = next(steps)
                while True:
                    if isinstance(asked, Turn):
                        await asyncio.sleep(0)
                    elif isinstance(asked, OneMoment):
                        rows = ending.enter_context(one_moment(self._database.path)).rows
                    asked = steps.send(
                        rows(_spelled(asked.sql), *_values(asked)) if isinstance(asked, Statement) else ()
                    )
            except StopIteration as end:
                found: R = end.value
                return found

    def _write(self, steps: Steps[R]) -> R:
        """In one transaction."""
        with self._database.transaction() as connection:
            try:
                asked = next(steps)
                while True:
                    self._database.weigh(_pages(asked))
                    asked = steps.send(_rows(connection, asked))
            except StopIteration as end:
                done: R = end.value
                return done


def _rows(connection: Connection, asked: Statement | Many | OneMoment | Turn) -> Sequence[Row]:
    if isinstance(asked, OneMoment | Turn):  # it is a transaction
        return ()
    if isinstance(asked, Many):
        connection.executemany(_spelled(asked.sql), asked.rows)
        return ()
    return connection.execute(_spelled(asked.sql), _values(asked)).fetchall()


def _pages(asked: Statement | Many | OneMoment | Turn) -> int:
    """How many pages what is written takes beside one a row."""
    rows = asked.rows if isinstance(asked, Many) else [asked.values] if isinstance(asked, Statement) else ()
    return sum(len(value) // _PAGE_BYTES for values in rows for value in values if isinstance(value, bytes))


@lru_cache(100)
def _spelled(sql: str) -> str:
    """The statement as SQLite has it."""
    sql = re.sub(r"EACH\((\$\d)\)", r"json_each(\1) AS each", sql)
    return re.sub(r"AMONG \[(.*)\]", r"IN (\1)", sql).replace("$", "?")


def _values(asked: Statement) -> tuple[object, ...]:
    return tuple(json.dumps(value) if isinstance(value, list) else value for value in asked.values)


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

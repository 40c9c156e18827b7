"""The index of the audit log on PostgreSQL. What each method means stands at AuditIndexStore, how it is done at the steps.

Who writes holds a lock until the transaction ends: two followers of a chain come one after the other, as on SQLite.
"""

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

from authz.storage import audit_adding, audit_finding, audit_pages
from authz.storage.audit_finding import Accesses
from authz.storage.audit_index import AccessEntry, AuditQuery
from authz.storage.audit_pages import Binding
from authz.storage.audit_steps import Many, OneMoment, R, Row, Statement, Steps, Turn
from authz.storage.postgresql.pool import PostgresqlPool, Transaction
from authz.storage.postgresql.schema import INDEX_LOCK, LOCKS
from authz.storage.records import integer

_LOCKED = f"BEGIN; SELECT pg_advisory_xact_lock({LOCKS}, {INDEX_LOCK})"
_ONE_MOMENT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class PostgresqlAuditIndex:
    """The part of PostgresqlStore that keeps the index."""

    audit_lines_at_once = 512  # a transaction takes as many ways to the server as one of few
    _database: PostgresqlPool

    def __init__(self) -> None:
        self._known_accesses: Accesses = {}
        self._binding = Binding()

    async def index_audit(self, entries: Sequence[AccessEntry], *, chain: str, read_to: int) -> None:
        """Add entries and move the place, in one transaction."""
        await self._write(audit_adding.add(entries, chain=chain, read_to=read_to))
        if self._known_accesses:
            for entry in entries:
                self._known_accesses.pop((entry.user, chain, entry.sequence), None)

    async def indexed_to(self, chain: str) -> int:
        """The place of the follower in a chain."""
        return await place(self._database, audit_adding.FOLLOWER, chain)

    async def find_audit(self, wanted: AuditQuery) -> Sequence[AccessEntry]:
        """What is wanted, the newest first."""
        return await self._read(audit_finding.find(wanted))

    async def audit_entries(self, *, chain: str, after: int, limit: int) -> Sequence[AccessEntry]:
        """The entries of the next records of a chain."""
        steps = audit_finding.of_chain(chain=chain, after=after, limit=limit)
        return await self._read(steps)

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
        return await self._write(audit_adding.remove(before=before, at_most=at_most))

    async def tend_audit_index(self) -> bool:
        """Bind pages into a volume, or remove what names nobody any more, a little at a time."""
        return await self._write(audit_pages.tend(self._binding))

    async def rewind_audit_index(self) -> None:
        """Begin every chain anew."""
        self._known_accesses.clear()
        await self._write(audit_adding.rewind())

    async def _read(self, steps: Steps[R]) -> R:
        """Without a transaction around it, as far as steps need none: each statement is one way to the server."""
        try:
            asked = next(steps)
            while isinstance(asked, Statement | Turn):
                asked = steps.send(await _rows(self._database, asked))
        except StopIteration as end:
            found: R = end.value
            return found
        return await self._run(steps, begin=_ONE_MOMENT)

    async def _write(self, steps: Steps[R]) -> R:
        return await self._run(steps, begin=_LOCKED)

    async def _run(self, steps: Steps[R], *, begin: str) -> R:
        """What is left of steps, in one transaction."""
        async with self._database.transaction(begin) as transaction:
            try:
                asked = next(steps)
                while True:
                    asked = steps.send(await _done(transaction, asked))
            except StopIteration as end:
                done: R = end.value
        return done


async def _done(transaction: Transaction, asked: Statement | Many | OneMoment | Turn) -> Sequence[Row]:
    if isinstance(asked, Many):
        await transaction.change_each(_spelled(asked.sql), asked.rows)
        return ()
    return () if isinstance(asked, OneMoment) else await _rows(transaction, asked)


async def _rows(database: Transaction | PostgresqlPool, asked: Statement | Turn) -> Sequence[Row]:
    if isinstance(asked, Turn):
        await asyncio.sleep(0)
        return ()
    return await database.rows(_spelled(asked.sql), *asked.values)


@lru_cache(100)
def _spelled(sql: str) -> str:
    """The statement as PostgreSQL has it."""
    sql = re.sub(r"EACH\((\$\d)\)", r"unnest(\1::bigint[]) AS each (value)", sql)
    return re.sub(r"AMONG \[(.*)\]", r"= ANY (ARRAY(\1))", sql)


async def place(database: PostgresqlPool, follower: str, chain: str) -> int:
    """How far a follower has read a chain."""
    row = await database.row(
        "SELECT sequence FROM audit_place WHERE follower = $1 AND chain = $2", follower, chain
    )
    return 0 if row is None else integer(row[0])


async def move_place(
    transaction: Transaction, follower: str, chain: str, read_to: int, read_from: int | None = None
) -> bool:
    """Move a follower's place, never back; False when it is there or beyond, or not at read_from."""
    moved = await transaction.change(
        "INSERT INTO audit_place VALUES ($1, $2, $3) ON CONFLICT (follower, chain)"
        " DO UPDATE SET sequence = excluded.sequence WHERE audit_place.sequence < excluded.sequence"
        " AND audit_place.sequence = COALESCE($4, audit_place.sequence)",
        follower,
        chain,
        read_to,
        read_from,
    )
    return moved == 1

"""A SQLite store copied into PostgreSQL: once while the gateway works, and once more, shortly, while nobody writes.

The first pass copies everything as it stands at one moment. The last one holds the write lock of the SQLite file, takes
over what changed since, compares every table, and leaves the file sealed: whoever still works on it can write nothing
any more and refuses every request. Until then a gateway that is pointed at the copy does not start. So there is no
moment at which two stores are both in force, and nothing that was revoked or used up comes back.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from authz.storage.moved import seal
from authz.storage.postgresql.pool import FAILURES, PostgresqlPool, said
from authz.storage.postgresql.schema import UNFINISHED_COPY, migrate
from authz.storage.postgresql.settings import PostgresqlSettings
from authz.storage.schema import applied, migrations, pending
from authz.storage.store import StoreUnavailable
from authz.storage.tables import RETIRED, TABLES, Table

_PAGE_ROWS = 5_000
_WRITE_LOCK_SECONDS = 30.0
_NUMBERED = (
    ("revocation", "revocation"),
    ("registration", "registration_change"),
    ("consent", "consent_version"),
)
_encode = msgspec.msgpack.encode


@dataclass(frozen=True, slots=True)
class Copied:
    """A table that is the same in both stores. digest is over its rows in the order of their key.

    Of what is only appended to it is over the rows that this pass copied: each page was read back and compared.
    """

    table: str
    rows: int
    digest: str


async def copy(
    source: Path, target: PostgresqlSettings, *, finish: bool, progress: Callable[[str], None]
) -> Sequence[Copied]:
    """Copy everything; with finish for good. Raises StoreUnavailable, and then nothing is finished.

    target is to be empty, or a copy of the same store that was not finished; its role owns the tables.
    """
    with _opened(source, finish=finish) as sqlite:
        pool = await PostgresqlPool.open(target)
        try:
            await migrate(pool, migrations("postgresql"))
            async with _connected(pool) as postgresql:
                await _prepare(postgresql)
                done = [await _append(sqlite, postgresql, t, progress) for t in TABLES if t.is_appended]
                async with postgresql.transaction():
                    rest = [table for table in TABLES if not table.is_appended]
                    await postgresql.execute(f"TRUNCATE {', '.join(table.name for table in rest)}")
                    done += [await _replace(sqlite, postgresql, table, progress) for table in rest]
                    await _set_beside(sqlite, postgresql)
                    if finish:
                        await postgresql.execute(f"DROP TABLE {UNFINISHED_COPY}")
                        # Sealed before the copy counts: should this end here, neither store works, and
                        # another attempt finishes.
                        seal(sqlite)
                        sqlite.execute("COMMIT")
                return done
        except (OSError, *FAILURES) as error:
            raise StoreUnavailable(f"the copy was not made: {said(error)}") from error
        finally:
            await pool.close()


@contextmanager
def _opened(path: Path, *, finish: bool) -> Iterator[sqlite3.Connection]:
    """The source as it stands at this moment; with finish nobody else writes from here on."""
    if not path.is_file():
        raise StoreUnavailable(f"there is no store at '{path}'")
    connection = sqlite3.connect(path, isolation_level=None, timeout=_WRITE_LOCK_SECONDS)
    try:
        connection.execute("BEGIN IMMEDIATE" if finish else "BEGIN")
        if pending(migrations("sqlite"), applied(connection)):
            raise StoreUnavailable(f"the store '{path}' has an older schema: run 'securus db migrate' first")
        yield connection
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the store '{path}' cannot be read: {error}") from error
    finally:
        connection.close()  # what was not committed is taken back


@asynccontextmanager
async def _connected(pool: PostgresqlPool) -> AsyncIterator[Any]:
    """A connection for work that takes its time."""
    connection = await pool.connect()
    try:
        await connection.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        yield connection
    finally:
        await connection.close(timeout=5)


async def _prepare(postgresql: Any) -> None:
    """Mark the target as a copy that nobody may work on yet. Raises StoreUnavailable when it holds something else."""
    if await postgresql.fetchval(f"SELECT to_regclass('{UNFINISHED_COPY}') IS NOT NULL"):
        return
    for table in TABLES:
        if await postgresql.fetchval(f"SELECT EXISTS (SELECT 1 FROM {table.name})"):  # noqa: S608
            raise StoreUnavailable(
                f"the target is not empty: the table {table.name} has rows, and no copy was begun there"
            )
    await postgresql.execute(f"CREATE TABLE {UNFINISHED_COPY} (begun_at TIMESTAMPTZ NOT NULL DEFAULT now())")


async def _append(
    sqlite: sqlite3.Connection, postgresql: Any, table: Table, progress: Callable[[str], None]
) -> Copied:
    """Copy what the target lacks, page after page, each read back; numbers of each group go on by themselves."""
    counts = f"SELECT COUNT(*) FROM {table.name} WHERE {table.condition or 'true'}"  # noqa: S608
    if table.name == "audit":  # retired in the source since the pass before
        await postgresql.execute(f"DELETE FROM audit WHERE {RETIRED}")  # noqa: S608
    total = sha256()
    for group in _groups(sqlite, table):
        await _append_group(sqlite, postgresql, table, group, total)
        progress(f"{table.name}{f' of {group[0]!r}' if group and group[0] else ''}: copied")
    counted = sqlite.execute(counts).fetchone()[0]
    if await postgresql.fetchval(counts) != counted:
        raise StoreUnavailable(f"the table {table.name} has not the {counted} rows of its source")
    return Copied(table.name, counted, total.hexdigest())


def _groups(sqlite: sqlite3.Connection, table: Table) -> list[tuple[object, ...]]:
    """The values of a key before its number: one empty group where the number is the key."""
    named = ", ".join(table.key[:-1])
    if not named:
        return [()]
    return sqlite.execute(f"SELECT DISTINCT {named} FROM {table.name} ORDER BY {named}").fetchall()  # noqa: S608


async def _append_group(
    sqlite: sqlite3.Connection, postgresql: Any, table: Table, group: tuple[object, ...], total: Any
) -> None:
    columns, number = ", ".join(table.columns), table.key[-1]
    place = table.columns.index(number)
    which = "".join(f"{name} = ? AND " for name in table.key[:-1]) + f"{number} > ?"
    if table.condition:
        which += f" AND {table.condition}"
    last = await postgresql.fetchrow(
        f"SELECT {columns} FROM {table.name} WHERE {_dollars(which)} ORDER BY {number} DESC LIMIT 1",  # noqa: S608
        *group,
        0,
    )
    sequence = 0
    if last is not None:
        sequence = last[place]
        same = sqlite.execute(
            f"SELECT {columns} FROM {table.name} WHERE {which} ORDER BY {number} LIMIT 1",  # noqa: S608
            (*group, sequence - 1),
        )
        if same.fetchone() != tuple(last):
            raise StoreUnavailable(f"the target is a copy of another store: {table.name} {sequence} differs")
    page = f"SELECT {columns} FROM {table.name} WHERE %s ORDER BY {number} LIMIT {_PAGE_ROWS}"  # noqa: S608
    while rows := sqlite.execute(page % which, (*group, sequence)).fetchall():
        await postgresql.copy_records_to_table(table.name, records=rows, columns=table.columns)
        there = [tuple(row) for row in await postgresql.fetch(page % _dollars(which), *group, sequence)]
        if there != rows:
            raise StoreUnavailable(f"the table {table.name} differs after {number} {sequence}")
        for row in rows:
            total.update(_encode(row))
        sequence = rows[-1][place]


def _dollars(condition: str) -> str:
    """The same condition with the placeholders of PostgreSQL."""
    parts = condition.split("?")
    return parts[0] + "".join(f"${number}{part}" for number, part in enumerate(parts[1:], start=1))


async def _replace(
    sqlite: sqlite3.Connection, postgresql: Any, table: Table, progress: Callable[[str], None]
) -> Copied:
    """Copy the whole table and read it back."""
    columns, order = ", ".join(table.columns), ", ".join(table.key)
    select = f"SELECT {columns} FROM %s ORDER BY {order}"  # noqa: S608
    cursor = sqlite.execute(select % table.in_sqlite)
    here, there, counted = sha256(), sha256(), 0
    while rows := [_converted(table, row) for row in cursor.fetchmany(table.rows_at_once)]:
        await postgresql.copy_records_to_table(table.name, records=rows, columns=table.columns)
        counted += len(rows)
        for row in rows:
            here.update(_encode(row))
    read = 0
    async for row in postgresql.cursor(select % table.name, prefetch=table.rows_at_once):
        there.update(_encode(tuple(row)))
        read += 1
    if (read, there.digest()) != (counted, here.digest()):
        raise StoreUnavailable(
            f"the table {table.name} differs: {counted} rows were copied, {read} are there"
        )
    progress(f"{table.name}: {counted} rows")
    return Copied(table.name, counted, here.hexdigest())


def _converted(table: Table, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The row as PostgreSQL keeps it: a counter's key is bytes there."""
    if table.name != "counter":
        return row
    return (str(row[0]).encode("utf-8", "surrogatepass"), *row[1:])


async def _set_beside(sqlite: sqlite3.Connection, postgresql: Any) -> None:
    """The heads of the audit log, and numbers that go on where those of SQLite end."""
    head = sqlite.execute("SELECT sequence, digest FROM audit_head").fetchone()
    await postgresql.execute(
        "UPDATE audit_head SET sequence = $1, digest = $2 WHERE sequence < $1", *(head or (0, b""))
    )
    for chain, sequence, digest in sqlite.execute(
        "SELECT chain, sequence, digest FROM audit_chain"
    ).fetchall():
        await postgresql.execute(
            "INSERT INTO audit_chain (chain, sequence, digest) VALUES ($1, $2, $3)"
            " ON CONFLICT (chain) DO UPDATE SET sequence = excluded.sequence, digest = excluded.digest"
            " WHERE audit_chain.sequence < excluded.sequence",
            chain,
            sequence,
            digest,
        )
    for name, table in _NUMBERED:
        row = sqlite.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        await postgresql.execute(
            "UPDATE numbering SET value = $1 WHERE name = $2", 0 if row is None else row[0], name
        )

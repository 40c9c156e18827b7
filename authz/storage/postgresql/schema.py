"""Forward migrations of PostgreSQL: one process of all brings the schema up to date, the others wait for it."""

from collections.abc import Mapping, Sequence

import asyncpg

from authz.storage.postgresql.pool import PostgresqlPool, Transaction
from authz.storage.postgresql.settings import PostgresqlSettings
from authz.storage.schema import Migration, pending
from authz.storage.store import StoreUnavailable

LOCKS = 0x5EC0
"""First half of our advisory locks: the second half says what is locked."""
MIGRATION_LOCK, HOUSEKEEPING_LOCK, INDEX_LOCK = 1, 2, 3
EMERGENCY_LOCKS, CONSENT_LOCKS = LOCKS + 1, LOCKS + 2
UNFINISHED_COPY = "unfinished_copy"
"""A table that is there while the database is being filled from another store (authz.storage.copying)."""
_MIGRATION_SECONDS = 60
_TABLE = (
    "CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL,"
    " applied_at TIMESTAMPTZ NOT NULL DEFAULT now())"
)


async def waiting_migrations(pool: PostgresqlPool, known: Sequence[Migration]) -> Sequence[Migration]:
    """The migrations that the database lacks. Raises StoreUnavailable as pending() does."""
    async with pool.transaction() as transaction:
        return pending(known, await _applied(transaction))


async def migrate(pool: PostgresqlPool, known: Sequence[Migration]) -> int:
    """Bring the database to the newest schema; the number of migrations applied.

    All or nothing. A schema that is up to date needs no right to change it. Raises StoreUnavailable when the database
    is newer than the program, was made by migrations other than these, or may not be changed by this role.
    """
    if not await waiting_migrations(pool, known):
        return 0
    try:
        return await _migrate(pool, known)
    except StoreUnavailable as error:
        if not isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
            raise
        raise StoreUnavailable(
            f"{error}: run 'securus db migrate' with a role that owns the tables"
        ) from error


async def _migrate(pool: PostgresqlPool, known: Sequence[Migration]) -> int:
    async with pool.transaction() as transaction:
        await _take_time(transaction)
        await transaction.rows("SELECT pg_advisory_xact_lock($1, $2)", LOCKS, MIGRATION_LOCK)
        applied = await _applied(transaction)
        if not applied:
            await transaction.script(_TABLE)
        waiting = pending(known, applied)
        for migration in waiting:
            await transaction.script(migration.sql)
            await transaction.change(
                "INSERT INTO migration (number, name, digest) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.digest,
            )
    return len(waiting)


async def refuse_unfinished_copy(pool: PostgresqlPool) -> None:
    """Raise StoreUnavailable when the database is a copy that may lack what was revoked since."""
    if await pool.rows("SELECT 1 WHERE to_regclass($1) IS NOT NULL", UNFINISHED_COPY):
        raise StoreUnavailable("the database holds an unfinished copy: run 'securus db copy' with --finish")


async def require_newest(pool: PostgresqlPool, known: Sequence[Migration]) -> None:
    """Raise StoreUnavailable unless the schema is the one of this program."""
    waiting = await waiting_migrations(pool, known)
    if waiting:
        raise StoreUnavailable(
            f"the database has schema {known[-1].number - len(waiting)}, this program needs {known[-1].number}:"
            " run 'securus db migrate' with a role that owns the tables"
        )


async def read_status(
    settings: PostgresqlSettings, tables: Sequence[str]
) -> tuple[Sequence[tuple[int, str, str]], Mapping[str, int], str]:
    """The migrations of a database, the rows of those tables that are there, and what stands against using it."""
    pool = await PostgresqlPool.open(settings)
    try:
        async with pool.transaction() as transaction:
            await _take_time(transaction)
            applied = await _applied(transaction)
            rows = {}
            for table in tables:
                if await transaction.row("SELECT 1 WHERE to_regclass($1) IS NOT NULL", table):
                    ((rows[table],),) = await transaction.rows(f"SELECT COUNT(*) FROM {table}")  # noqa: S608
        try:
            await refuse_unfinished_copy(pool)
        except StoreUnavailable as error:
            return applied, rows, str(error)
        return applied, rows, ""
    finally:
        await pool.close()


async def _take_time(transaction: Transaction) -> None:
    """Let statements of this transaction take longer than those of a request, and no longer than a minute."""
    transaction.patience_seconds = 2.0 * _MIGRATION_SECONDS
    for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        await transaction.rows("SELECT set_config($1, $2, true)", limit, f"{_MIGRATION_SECONDS}s")


async def _applied(transaction: Transaction) -> list[tuple[int, str, str]]:
    # By a look at the catalogue itself: to_regclass() alone may remember from before the wait for the lock that there is
    # no such table, and an advisory lock tells a session nothing of what others made.
    found = await transaction.row(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = to_regclass('migration'))"
    )
    if found != (True,):
        return []
    rows = await transaction.rows("SELECT number, name, digest FROM migration ORDER BY number")
    return [(number, name, digest) for number, name, digest in rows]

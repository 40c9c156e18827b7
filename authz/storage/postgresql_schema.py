"""Forward migrations of PostgreSQL: one process of all brings the schema up to date, the others wait for it."""

from collections.abc import Sequence

from authz.storage.postgresql_pool import PostgresqlPool, Transaction
from authz.storage.schema import Migration, pending
from authz.storage.store import StoreUnavailable

LOCKS = 0x5EC0
"""First half of our advisory locks: the second half says what is locked."""
MIGRATION_LOCK, HOUSEKEEPING_LOCK, EMERGENCY_LOCKS = 1, 2, LOCKS + 1
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
    async with pool.transaction() as transaction:
        # A migration may take longer than a request; what holds a table for long is not waited for without end.
        transaction.patience_seconds = 2.0 * _MIGRATION_SECONDS
        await transaction.rows("SELECT set_config('statement_timeout', $1, true)", f"{_MIGRATION_SECONDS}s")
        await transaction.rows("SELECT set_config('lock_timeout', $1, true)", f"{_MIGRATION_SECONDS}s")
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


async def require_newest(pool: PostgresqlPool, known: Sequence[Migration]) -> None:
    """Raise StoreUnavailable unless the schema is the one of this program."""
    waiting = await waiting_migrations(pool, known)
    if waiting:
        raise StoreUnavailable(
            f"the database has schema {known[-1].number - len(waiting)}, this program needs {known[-1].number}:"
            " run 'securus db migrate' with a role that owns the tables"
        )


async def _applied(transaction: Transaction) -> list[tuple[int, str, str]]:
    found = await transaction.row("SELECT to_regclass('migration') IS NOT NULL")
    if found != (True,):
        return []
    rows = await transaction.rows("SELECT number, name, digest FROM migration ORDER BY number")
    return [(number, name, digest) for number, name, digest in rows]

"""Forward migrations: numbered SQL files, applied once each, in order, in one transaction with their own record."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable

from authz.storage.claims import Namespace
from authz.storage.store import StoreUnavailable

# What expires: table, primary key, further condition. The busiest come last, so that they starve no other. A used
# code has no clock of its own: it goes with its grant, by the foreign key, and so do refresh tokens that are left.
EXPIRING = (
    ("pushed_request", "id", ""),
    ("launch", "id", ""),
    ("interaction", "id", ""),
    ("browser_session", "id", ""),
    ("authorization_code", "id", " AND uses = 0"),
    ("refresh_token", "id", ""),
    ("grant_record", "id", ""),
    ("registration", "client_id", ""),  # an expires_at of NULL is never reached
    ("initial_access_token", "id", ""),
    ("revocation", "sequence", ""),
    ("emergency", "id", " AND end_noted = 1"),
    ("audit_signal", "id", ""),
    ("rate", "key", ""),
    ("counter", "key, window_seconds, period", ""),
    # A place at work has a mark, and no end that any clock knows of. There is one for each feed that ever was.
    ("claim", "namespace, key", f" AND namespace <> '{Namespace.AUDIT_FEED}'"),
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered SQL file."""

    number: int
    name: str
    sql: str

    @property
    def digest(self) -> str:
        """SHA-256 of the file: an applied migration is never edited."""
        return sha256(self.sql.encode()).hexdigest()


def migrations(dialect: str) -> Sequence[Migration]:
    """The migrations that this version of the program knows, in order."""
    return read_migrations(resources.files("authz.storage.migrations").joinpath(dialect))


def read_migrations(folder: Traversable) -> Sequence[Migration]:
    """The migrations NNNN_name.sql of a folder. Raises StoreUnavailable unless they are numbered 1, 2, 3 …"""
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    for expected, file in enumerate(files, start=1):
        if not file.name.startswith(f"{expected:04}_"):
            raise StoreUnavailable(f"the migration {file.name} is not numbered {expected:04}")
    return [
        Migration(number, file.name, file.read_text(encoding="utf-8"))
        for number, file in enumerate(files, start=1)
    ]


def migrate(connection: sqlite3.Connection, known: Sequence[Migration]) -> int:
    """Bring a SQLite database to the newest schema; the number of migrations applied.

    All or nothing, and safe when several processes start at once: the first holds the write lock, the others find
    nothing to do. Raises StoreUnavailable when the database is newer than the program, or was made by migrations
    other than these.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        done = _apply(connection, known)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return done


def _apply(connection: sqlite3.Connection, known: Sequence[Migration]) -> int:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL,"
        " digest TEXT NOT NULL, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"
    )
    waiting = pending(known, applied(connection))
    for migration in waiting:
        for statement in statements(migration):
            connection.execute(statement)
        connection.execute(
            "INSERT INTO migration (number, name, digest) VALUES (?, ?, ?)",
            (migration.number, migration.name, migration.digest),
        )
    return len(waiting)


def applied(connection: sqlite3.Connection) -> Sequence[tuple[int, str, str]]:
    """Number, name and digest of the migrations that a SQLite database has. Raises sqlite3.Error without such a table."""
    return connection.execute("SELECT number, name, digest FROM migration ORDER BY number").fetchall()


def pending(known: Sequence[Migration], applied: Sequence[tuple[int, str, str]]) -> Sequence[Migration]:
    """The migrations of this program that a database lacks; applied are number, name and digest of those it has.

    Raises StoreUnavailable when the database is newer than the program, or was made by migrations other than these.
    """
    if len(applied) > len(known):
        raise StoreUnavailable(
            f"the database has schema {len(applied)} and this program knows up to {len(known)}: use a newer program"
        )
    for migration, (number, name, digest) in zip(known, applied, strict=False):
        if (number, digest) != (migration.number, migration.digest):
            raise StoreUnavailable(
                f"migration {number} of the database ({name}) is not {migration.name} of this program"
            )
    return known[len(applied) :]


def statements(migration: Migration) -> list[str]:
    """The single statements of a migration, triggers whole: executescript() would commit in between.

    Raises StoreUnavailable when the last one is not complete.
    """
    found: list[str] = []
    pending = ""
    for line in migration.sql.splitlines(keepends=True):
        pending += line
        if line.rstrip().endswith(";") and sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    if any(line.strip() and not line.lstrip().startswith("--") for line in pending.splitlines()):
        raise StoreUnavailable(f"the migration {migration.name} ends in the middle of a statement")
    return found

"""Forward migrations: numbered SQL files, applied once each, in order, in one transaction with their own record."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources

from authz.storage.store import StoreUnavailable


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
    folder = resources.files("authz.storage.migrations").joinpath(dialect)
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [Migration(int(f.name[:4]), f.name, f.read_text(encoding="utf-8")) for f in files]


def migrate(connection: sqlite3.Connection, known: Sequence[Migration]) -> int:
    """Bring a SQLite database to the newest schema; the number of migrations applied.

    Safe when several processes start at once: the first holds the write lock, the others find nothing to do.
    Raises StoreUnavailable when the database is newer than the program or an applied migration was edited.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL,"
            " digest TEXT NOT NULL, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"
        )
        applied = dict(connection.execute("SELECT number, digest FROM migration ORDER BY number"))
        newest = max((m.number for m in known), default=0)
        if applied and max(applied) > newest:
            raise StoreUnavailable(
                f"the database has schema {max(applied)}, this program knows up to {newest}"
            )
        done = 0
        for migration in known:
            if migration.number in applied:
                if applied[migration.number] != migration.digest:
                    raise StoreUnavailable(f"migration {migration.name} is not the one that was applied")
                continue
            for statement in _statements(migration.sql):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO migration (number, name, digest) VALUES (?, ?, ?)",
                (migration.number, migration.name, migration.digest),
            )
            done += 1
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return done


def _statements(sql: str) -> list[str]:
    """The single statements of a file: executescript() would commit in between."""
    found: list[str] = []
    pending = ""
    for line in sql.splitlines(keepends=True):
        pending += line
        if line.rstrip().endswith(";") and sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    if any(line.strip() and not line.lstrip().startswith("--") for line in pending.splitlines()):
        raise StoreUnavailable("a migration ends in the middle of a statement")
    return found

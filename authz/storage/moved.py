"""The mark of a SQLite store that was moved to PostgreSQL: nobody writes to it any more, and whoever tries hears why."""

import sqlite3

from authz.storage.tables import ONLY_IN_SQLITE, TABLES

MOVED = "this store was moved to PostgreSQL"
_PULSE = "pulse"


def seal(connection: sqlite3.Connection) -> None:
    """Refuse every write from the next commit on, that of the readiness check included."""
    for name in (*(table.name for table in TABLES), *ONLY_IN_SQLITE, _PULSE):
        for event in ("INSERT", "UPDATE", "DELETE"):
            connection.execute(
                f"CREATE TRIGGER IF NOT EXISTS {_trigger(name, event)} BEFORE {event} ON {name}"
                f" BEGIN SELECT RAISE(ABORT, '{MOVED}'); END"
            )


def is_sealed(connection: sqlite3.Connection) -> bool:
    """Whether that was done."""
    sql = "SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND name = ?"
    return connection.execute(sql, (_trigger(_PULSE, "UPDATE"),)).fetchone() is not None


def _trigger(table: str, event: str) -> str:
    return f"sealed_{table}_{event.lower()}"

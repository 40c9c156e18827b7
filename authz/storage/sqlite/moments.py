"""What a SQLite file holds at one moment, read in turns with others who write to it meanwhile.

A connection of its own sees nothing of what is committed after its first look. While it is open, the write-ahead log
cannot begin anew: it is for some hundred short statements, and no longer.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from authz.storage.sqlite.connection import Row
from authz.storage.store import StoreUnavailable

_BUSY_SECONDS = 1.0  # a reader waits for nobody, but for whoever begins a new log


class Moment:
    """One moment of a file. Made by one_moment()."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, *values: object) -> list[Row]:
        """Every row of one statement that reads. Raises StoreUnavailable."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable(str(error)) from error


@contextmanager
def one_moment(path: Path) -> Iterator[Moment]:
    """The file as it is at the first statement. Raises StoreUnavailable."""
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"cannot open the store {path}: {error}") from error
    try:
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
        except sqlite3.Error as error:
            raise StoreUnavailable(str(error)) from error
        yield Moment(connection)
    finally:
        connection.close()

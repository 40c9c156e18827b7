"""One connection to the SQLite file: how it is opened, how statements and transactions run, how the log is folded in.

Statements run inline on the event loop: a claim costs about 25 µs, a hop to a thread several times that. They are
short, so another process that holds the write lock is waited for, at most five seconds; we look again after 50 µs
and then less often, where SQLite's own waiting begins at a millisecond. What takes milliseconds, copying the
write-ahead log back into the database file with its two fsyncs, is done beside them in a thread.

The log begins anew only when nothing is left to copy, and while a thread copies, we write on. Without more it would grow
up to where SQLite copies all that the thread has not yet, inline. So from three quarters of that on the thread copies until
a few pages came meanwhile, and those are copied inline. Their two fsyncs take 4 to 8 ms: with a long log that is seldom,
every few seconds at most, so that it is no hundredth of the requests that waits for them.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from authz.beside import threads_beside
from authz.storage.schema import migrate, migrations
from authz.storage.store import StoreUnavailable

_BUSY_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 50e-6
_LONGEST_PAUSE_SECONDS = 2e-3
_CACHE_KIBIBYTES = 16_000
# SQLite folds the log in by itself, inline, when the thread is so many pages (256 MiB) behind.
_MAX_LOG_PAGES = 64_000
_LONG_LOG_PAGES = _MAX_LOG_PAGES * 3 // 4
_FEW_PAGES = 64
_MOST_PASSES = 8
_MAX_LOG_BYTES = 256 * 1024 * 1024
_FOLD_IN_AFTER_CHANGES = 5_000  # rows: alone, a read changes three and writes three pages
_SYNCHRONOUS = {"normal": "NORMAL", "full": "FULL"}

R = TypeVar("R")
Row = tuple[object, ...]


class SqliteConnection:
    """A connection for one thread of one process. To be opened after a fork, never before."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._folded_in = 0  # so many rows had been changed when the log was folded in last
        self._thread = threads_beside(1, "sqlite-checkpoint")
        self._folding: Future[bool] | None = None

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._path

    @classmethod
    def open(cls, path: Path, options: Mapping[str, str]) -> "SqliteConnection":
        """The database at path, made when missing, readable by its owner only, with the newest schema.

        Raises StoreUnavailable.
        """
        synchronous = _synchronous(options)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # SQLite gives its own files (-wal, -shm) the mode of the database.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"cannot open the store {path}: {error}") from error
        try:
            _prepare(connection, path, synchronous)
            migrate(connection, migrations("sqlite"))
            connection.execute("PRAGMA busy_timeout = 0")  # from here on we wait ourselves
        except sqlite3.Error as error:
            connection.close()
            raise StoreUnavailable(f"cannot open the store {path}: {error}") from error
        except StoreUnavailable:
            connection.close()
            raise
        return cls(path, connection)

    def rows(self, sql: str, *values: object) -> list[Row]:
        """Every row of one statement, which is complete, committed if it wrote, when this returns."""
        try:
            return _patiently(lambda: self._connection.execute(sql, values).fetchall())
        except sqlite3.Error as error:
            raise StoreUnavailable(str(error)) from error

    def row(self, sql: str, *values: object) -> Row | None:
        """The first row of one statement."""
        # All are fetched: a statement with RETURNING commits after its last row.
        rows = self.rows(sql, *values)
        return rows[0] if rows else None

    def change(self, sql: str, *values: object) -> int:
        """Run one statement; the number of rows that it changed."""
        try:
            changed = _patiently(lambda: self._connection.execute(sql, values).rowcount)
        except sqlite3.Error as error:
            raise StoreUnavailable(str(error)) from error
        self._written()
        return changed

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: committed at the end, rolled back when anything is raised, the commit included.

        It takes the write lock at its beginning: a lock taken later, after a read, could be refused.
        """
        try:
            _patiently(lambda: self._connection.execute("BEGIN IMMEDIATE"))
        except sqlite3.Error as error:
            raise StoreUnavailable(str(error)) from error
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException as error:
            self._roll_back()
            if isinstance(error, sqlite3.Error):
                raise StoreUnavailable(str(error)) from error
            raise
        self._written()

    def weigh(self, rows: int) -> None:
        """Count what is being written as so many rows more: for rows that take more than a page each."""
        self._folded_in -= rows

    def close(self) -> None:
        """Close; every later call raises StoreUnavailable."""
        self._thread.shutdown()
        self._connection.close()

    def _written(self) -> None:
        """Have the log folded in when enough was written. Readers and writers go on meanwhile."""
        if self._folding is not None:
            if not self._folding.done():
                return
            if self._folding.result():
                with suppress(sqlite3.Error):
                    _copied(self._connection)  # the few pages since; the log begins anew with the next write
            self._folding = None
        changes = self._connection.total_changes
        if changes - self._folded_in >= _FOLD_IN_AFTER_CHANGES:
            self._folded_in = changes
            self._folding = self._thread.submit(_fold_in, self._path)

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:  # SQLite may have rolled back already, e.g. on a full disk
                self._connection.execute("ROLLBACK")
                return
        if self._connection.in_transaction:
            # What follows would be written into this dead transaction, acknowledged and lost.
            self._connection.close()


def _patiently(act: Callable[[], R]) -> R:
    """What act gives, once no other connection is in its way. Raises sqlite3.OperationalError after five seconds.

    A statement or BEGIN that found the lock taken has done nothing, so it can be run again.
    """
    try:
        return act()
    except sqlite3.OperationalError as error:
        if not _is_busy(error):
            raise
    deadline, pause = time.monotonic() + _BUSY_SECONDS, _FIRST_PAUSE_SECONDS
    while True:
        time.sleep(pause)
        try:
            return act()
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() >= deadline:
                raise
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _synchronous(options: Mapping[str, str]) -> str:
    unknown = sorted(options.keys() - {"synchronous"})
    if unknown:
        raise StoreUnavailable(f"the option '{unknown[0]}' is not known, expected 'synchronous'")
    chosen = options.get("synchronous", "normal")
    if chosen not in _SYNCHRONOUS:
        raise StoreUnavailable(f"the option synchronous is '{chosen}', expected 'normal' or 'full'")
    return _SYNCHRONOUS[chosen]


def _prepare(connection: sqlite3.Connection, path: Path, synchronous: str) -> None:
    # Of several processes that open a new file, one makes the log; SQLite does not wait for it by itself.
    mode = _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
    if mode != "wal":
        raise StoreUnavailable(
            f"the store {path} cannot have a write-ahead log ({mode}): put it on a local disk"
        )
    for pragma in (
        f"synchronous = {synchronous}",
        "foreign_keys = ON",
        f"cache_size = -{_CACHE_KIBIBYTES}",
        f"wal_autocheckpoint = {_MAX_LOG_PAGES}",
        f"journal_size_limit = {_MAX_LOG_BYTES}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _fold_in(path: Path) -> bool:
    """Copy the log into the file; whether it is long, and so little is left that the next write does the rest."""
    # A failure is not lost: the log stays whole, and the write that meets the same trouble reports it.
    with suppress(sqlite3.Error):
        connection = sqlite3.connect(path, isolation_level=None, timeout=0)
        try:
            pages = _copied(connection)
            for _ in range(_MOST_PASSES if pages >= _LONG_LOG_PAGES else 0):
                before, pages = pages, _copied(connection)
                if before <= pages < before + _FEW_PAGES:
                    return True
        finally:
            connection.close()
    return False


def _copied(connection: sqlite3.Connection) -> int:
    """Copy what the log has; how many pages that are since it began."""
    return int(connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1])

"""What a store holds and which schema it has: read without changing anything, whichever program made it."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from authz.storage.moved import MOVED, is_sealed
from authz.storage.opening import require_there
from authz.storage.schema import Migration, applied, migrations, pending
from authz.storage.settings import StoreSettings
from authz.storage.store import StoreUnavailable
from authz.storage.tables import TABLES


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """A store as it is found.

    schema   number of its newest migration, 0 without any
    known    number of the newest migration of this program
    waiting  names of the migrations that it lacks
    problem  why this program cannot work on it; '' when it can, once nothing is waiting
    rows     rows of each table that is there
    """

    kind: str
    schema: int
    known: int
    waiting: Sequence[str]
    problem: str
    rows: Mapping[str, int]


async def status(settings: StoreSettings) -> StoreStatus:
    """The state of the store. Raises StoreUnavailable when it is not there or does not answer."""
    if settings.postgresql is not None:
        postgresql: Any = import_module("authz.storage.postgresql.schema")
        found = await postgresql.read_status(settings.postgresql, [table.name for table in TABLES])
        return _status("postgresql", *found)
    require_there(settings)
    return _status("sqlite", *_read_sqlite(Path(settings.path)))


def _read_sqlite(path: Path) -> tuple[Sequence[tuple[int, str, str]], Mapping[str, int], str]:
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"cannot open the store {path}: {error}") from error
    try:
        there = {
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        }
        found = applied(connection) if "migration" in there else []
        rows = {
            table.name: connection.execute(f"SELECT COUNT(*) FROM {source}").fetchone()[0]  # noqa: S608
            for table in TABLES
            if (source := table.in_sqlite if table.in_sqlite in there else table.name) in there
        }
        problem = MOVED if is_sealed(connection) else ""
    except sqlite3.Error as error:
        raise StoreUnavailable(f"cannot read the store {path}: {error}") from error
    finally:
        connection.close()
    return found, rows, problem


def _status(
    kind: str, found: Sequence[tuple[int, str, str]], rows: Mapping[str, int], problem: str
) -> StoreStatus:
    known = migrations(kind)
    waiting: Sequence[Migration] = ()
    try:
        waiting = pending(known, found)
    except StoreUnavailable as error:
        problem = str(error)
    return StoreStatus(kind, len(found), len(known), [each.name for each in waiting], problem, rows)

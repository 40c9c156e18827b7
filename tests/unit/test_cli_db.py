"""securus db status | migrate: what a store holds and which schema it has, and the list of its tables."""

import asyncio
import json
import sqlite3
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from authz.storage.schema import migrations
from authz.storage.settings import StoreSettings
from authz.storage.sqlite.store import open_store
from authz.storage.store import Store
from authz.storage.tables import ONLY_IN_SQLITE, TABLES
from gateway.cli import main
from tests.support.filled_store import at, source, target
from tests.support.postgresql import PrivateServer
from tests.unit.test_config import CONFIGURATION, Write, write

__all__ = ["source", "target", "write"]  # fixtures
BESIDE = (*ONLY_IN_SQLITE, "consent_newest", "migration", "pulse")  # made anew by a copy
pytestmark = [pytest.mark.process, pytest.mark.xdist_group("postgresql")]


def answer(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_the_list_of_tables_has_every_table_and_column_of_both_schemas(
    tmp_path: Path, postgresql: PrivateServer, target: StoreSettings
) -> None:
    listed = {table.name: set(table.columns) for table in TABLES}
    asyncio.run(_nothing(open_store(tmp_path / "empty.db")))
    with sqlite3.connect(tmp_path / "empty.db") as database:
        names = {
            row[0]
            for row in database.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            )
        }
        found = {
            name: {row[1] for row in database.execute(f"PRAGMA table_info({name})")}
            for name in names - set(BESIDE)
        }
    database.close()
    assert found == listed
    at(target, lambda store: store.check())
    assert target.postgresql is not None
    rows = asyncio.run(
        postgresql.run(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'",
            target.postgresql.dsn.rpartition("/")[2].partition("?")[0],
        )
    )
    columns: dict[str, set[str]] = {}
    for name, column in rows:
        columns.setdefault(name, set()).add(column)
    assert {n: c for n, c in columns.items() if n not in (*BESIDE, "numbering")} == listed


async def _nothing(opening: Awaitable[Store]) -> None:
    await (await opening).close()


def test_status_tells_schema_and_rows_of_either_store_and_changes_nothing(
    write: Write, source: Path, target: StoreSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(CONFIGURATION + f"storage: {{path: {source}}}\n")
    assert main(["db", "status", "-c", str(config), "--json"]) == 0
    found = answer(capsys)
    newest = len(migrations("sqlite"))
    assert (found["kind"], found["schema"], found["known"], found["waiting"]) == (
        "sqlite",
        newest,
        newest,
        [],
    )
    assert all(rows > 0 for rows in found["rows"].values())
    assert found["rows"]["audit"] == 11_020
    config = write(CONFIGURATION + "storage: {postgresql: {dsn: {file: dsn}}}\n")
    for _ in range(2):
        assert main(["db", "status", "-c", str(config), "--json"]) == 0
        found = answer(capsys)
        assert (found["schema"], found["rows"]) == (0, {})
        assert found["waiting"] == [each.name for each in migrations("postgresql")]
    assert main(["db", "migrate", "-c", str(config), "--json"]) == 0
    newest = len(migrations("postgresql"))
    assert answer(capsys) == {"from": 0, "to": newest}
    assert main(["db", "migrate", "-c", str(config), "--dsn-file", str(tmp_path / "dsn")]) == 0
    assert f"schema {newest} is the newest" in capsys.readouterr().out
    assert main(["db", "status", "-c", str(config)]) == 0
    assert f"postgresql, schema {newest} of {newest}" in capsys.readouterr().out


def test_status_of_a_store_that_is_newer_than_the_program_is_a_refusal(
    write: Write, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(source) as database:
        database.execute("INSERT INTO migration (number, name, digest) VALUES (99, 'later.sql', 'x')")
    database.close()
    config = write(CONFIGURATION + f"storage: {{path: {source}}}\n")
    assert main(["db", "status", "-c", str(config), "--json"]) == 1
    assert "use a newer program" in answer(capsys)["problem"]

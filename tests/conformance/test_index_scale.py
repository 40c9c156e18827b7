"""A million entries: a search for one patient, user, client or grant goes by its index, and never over all of them."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from authz.storage.audit_index import AuditQuery, Cursor
from authz.storage.audit_queries import ENTRY_COLUMNS, search
from authz.storage.postgresql.store import PostgresqlStore, open_postgresql
from authz.storage.sqlite.store import open_store
from authz.storage.store import StoreSettings
from tests.support.audit_index_contract import BASE, START, entry
from tests.support.filled_store import target  # noqa: F401 - fixture
from tests.support.postgresql import PrivateServer

ENTRIES = 1_000_000
PATIENTS, PEOPLE, CLIENTS, GRANTS = 20_000, 500, 20, 5_000
QUERIES = {
    "audit_entry_patient": AuditQuery(base=BASE, patients=["p77"], limit=50),
    "audit_entry_person": AuditQuery(user="u77", limit=50),
    "audit_entry_client": AuditQuery(client="c7", limit=50, before=Cursor(START + 500_000_000, "", 500_000)),
    "audit_entry_grant": AuditQuery(grant="g77", limit=50),
    "audit_entry_time": AuditQuery(limit=50),
}
"""A search and the index that it is to go by."""


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with a million entries, as an index of some months has them."""
    path = tmp_path_factory.mktemp("million") / "securus.db"

    async def empty() -> None:
        await (await open_store(path)).close()

    asyncio.run(empty())
    with sqlite3.connect(path) as database:
        # Each index is built once, sorted, and not a million times: that takes seconds and not minutes.
        indexes = database.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'audit_entry'"
        ).fetchall()
        for name, _ in indexes:
            database.execute(f"DROP INDEX {name}")
        marks = ", ".join("?" * len(ENTRY_COLUMNS.split(",")))
        database.executemany(
            f"INSERT INTO audit_entry ({ENTRY_COLUMNS}) VALUES ({marks})",
            (
                (
                    "", n, START + n * 1000, BASE, f"p{n * 7919 % PATIENTS}", f"u{n % PEOPLE}", f"c{n % CLIENTS}",
                    f"g{n % GRANTS}", "read", "permit", "ward/treating", "TREAT", "Observation",
                )
                for n in range(1, ENTRIES + 1)
            ),
        )  # fmt: skip
        for _, sql in indexes:
            database.execute(sql)
    database.close()
    return path


@pytest.mark.parametrize("index", QUERIES)
async def test_of_a_million_entries_a_search_reads_those_of_its_index(million: Path, index: str) -> None:
    store = await open_store(million)
    found = await store.find_audit(QUERIES[index])
    await store.close()
    assert len(found) == 50
    assert [each.at for each in found] == sorted((each.at for each in found), reverse=True)
    sql, values = search(QUERIES[index], lambda number: f"?{number}")
    with sqlite3.connect(million) as database:
        plan = " ".join(str(row[3]) for row in database.execute(f"EXPLAIN QUERY PLAN {sql}", values))
    database.close()
    assert f"USING INDEX {index}" in plan
    assert "SCAN audit_entry USING" not in plan or index == "audit_entry_time"


async def test_an_index_that_was_taken_away_would_be_missed(million: Path) -> None:
    """The plan above can be another: without its index a search for a person goes over all entries."""
    sql, values = search(QUERIES["audit_entry_person"], lambda number: f"?{number}")
    with sqlite3.connect(million) as database:
        plan = " ".join(
            str(row[3])
            for row in database.execute(
                f"EXPLAIN QUERY PLAN {sql.replace('FROM audit_entry', 'FROM audit_entry NOT INDEXED')}",
                values,
            )
        )
    database.close()
    assert "SCAN audit_entry" in plan


@pytest.mark.process
@pytest.mark.xdist_group("postgresql")
@pytest.mark.parametrize("index", ["audit_entry_patient", "audit_entry_person", "audit_entry_grant"])
async def test_on_postgresql_a_search_goes_by_the_same_index(
    postgresql: PrivateServer,
    target: StoreSettings,  # noqa: F811
    index: str,
) -> None:
    assert target.postgresql is not None
    store: PostgresqlStore = await open_postgresql(target.postgresql)
    entries = [
        entry(n, patient=f"p{n % 500}", user=f"u{n % 200}", grant=f"g{n % 400}") for n in range(1, 20_001)
    ]
    for start in range(0, len(entries), 2000):
        await store.index_audit(entries[start : start + 2000], chain="", read_to=start + 2000)
    assert len(await store.find_audit(QUERIES[index])) >= 40
    sql, values = search(QUERIES[index], lambda number: f"${number}")
    literal = sql
    for number in range(len(values), 0, -1):
        value = values[number - 1]
        literal = literal.replace(f"${number}", str(value) if isinstance(value, int) else f"'{value}'")
    async with store._database.transaction() as transaction:
        await transaction.rows("ANALYZE audit_entry")
        plan = " ".join(str(row[0]) for row in await transaction.rows(f"EXPLAIN {literal}"))
    await store.close()
    assert index in plan

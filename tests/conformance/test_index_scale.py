"""A million entries: a search for one patient, user, client or grant goes by its index, and never over all of them."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import islice
from pathlib import Path

import pytest

from authz.storage.audit_index import AccessEntry, AuditQuery, Cursor
from authz.storage.audit_queries import search
from authz.storage.postgresql.store import PostgresqlStore, open_postgresql
from authz.storage.sqlite.audit_pages import write_pages
from authz.storage.sqlite.store import SqliteStore, open_store
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
    "both": AuditQuery(
        base=BASE, patients=["p77"], user=f"u{77 * pow(7919, -1, PATIENTS) % PEOPLE}", limit=50
    ),
    "nobody": AuditQuery(base=BASE, patients=["nobody"], limit=50),
}
"""A search, by the index that PostgreSQL has for it."""
_STEPS = 200_000  # of SQLite's machine; a walk over all entries takes some millions


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with a million entries, as an index of some months has them."""
    path = tmp_path_factory.mktemp("million") / "securus.db"
    entries = (
        entry(
            n,
            patient=f"p{n * 7919 % PATIENTS}",
            user=f"u{n % PEOPLE}",
            client=f"c{n % CLIENTS}",
            grant=f"g{n % GRANTS}",
        )
        for n in range(1, ENTRIES + 1)
    )

    async def filled() -> None:
        store = await open_store(path)
        with store._database.transaction() as connection:
            while page := list(islice(entries, 128)):
                connection.executemany(
                    f"INSERT INTO audit_entry VALUES ({', '.join('?' * 13)})",
                    page,
                )
                write_pages(connection, page, "")
        while await store.tend_audit_index():
            pass
        await store.close()

    asyncio.run(filled())
    return path


async def steps(path: Path, work: Callable[[SqliteStore], Awaitable[object]]) -> int:
    """How many steps of SQLite's machine it takes, a hundred at a time."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 100
        return 0

    store = await open_store(path)
    store._database._connection.set_progress_handler(count, 100)
    await work(store)
    store._database._connection.set_progress_handler(None, 0)
    await store.close()
    return counted


@pytest.mark.parametrize("name", QUERIES)
async def test_of_a_million_entries_a_search_reads_few_and_finds_what_a_walk_over_all_finds(
    million: Path, name: str
) -> None:
    found: list[AccessEntry] = []
    walked: list[AccessEntry] = []

    async def search(store: SqliteStore) -> None:
        found.extend(await store.find_audit(QUERIES[name]))

    async def walk(store: SqliteStore) -> None:
        walked.extend(store._search(QUERIES[name]))

    assert await steps(million, search) < _STEPS
    await steps(million, walk)
    assert found == walked
    assert len(found) == (0 if name == "nobody" else 50)


async def test_a_walk_over_all_entries_would_be_seen(million: Path) -> None:
    async def walk(store: SqliteStore) -> None:
        store._search(QUERIES["nobody"])

    assert await steps(million, walk) > 10 * _STEPS


async def test_of_a_million_entries_the_last_use_of_a_grant_and_the_patients_of_a_user_are_found_as_soon(
    million: Path,
) -> None:
    until = START + ENTRIES * 1000 + 1

    async def ask(store: SqliteStore) -> None:
        assert await store.last_use(["g77", "never"]) == {"g77": START + (ENTRIES - GRANTS + 77) * 1000}
        counted = await store.patients_per_window("u77", since=until - 10**7, until=until, window=10**6)
        assert sum(counted.values()) == 20

    assert await steps(million, ask) < _STEPS


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

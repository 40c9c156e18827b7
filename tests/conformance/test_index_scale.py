"""A million entries: a search for one patient, user, client or grant goes by its index, and never over all of them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from authz.storage import audit_adding, audit_finding
from authz.storage.audit_index import AccessEntry, AuditQuery, Cursor
from authz.storage.postgresql.pool import PostgresqlPool, Transaction
from authz.storage.postgresql.store import open_postgresql
from authz.storage.settings import StoreSettings
from authz.storage.sqlite import audit_index
from authz.storage.sqlite.moments import Moment, one_moment
from authz.storage.sqlite.store import SqliteStore, open_store
from tests.support.audit_index_contract import BASE, START, entry
from tests.support.filled_store import target  # noqa: F401 - fixture
from tests.support.postgresql import PrivateServer

ENTRIES = 1_000_000
PATIENTS, PEOPLE, CLIENTS, GRANTS = 20_000, 500, 20, 5_000
QUERIES = {
    "patient": AuditQuery(base=BASE, patients=["p77"], limit=50),
    "user": AuditQuery(user="u77", limit=50),
    "client": AuditQuery(client="c7", limit=50, before=Cursor(START + 500_000_000, "", 500_000)),
    "grant": AuditQuery(grant="g77", limit=50),
    "time": AuditQuery(limit=50),
    "time-long-ago": AuditQuery(until=START + 500_000, limit=50),
    "both": AuditQuery(
        base=BASE, patients=["p77"], user=f"u{77 * pow(7919, -1, PATIENTS) % PEOPLE}", limit=50
    ),
    "nobody": AuditQuery(base=BASE, patients=["nobody"], limit=50),
}
_STEPS = 40_000  # of SQLite's machine; a walk over all sheets takes more than a million


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
        while page := list(islice(entries, 128)):
            store._write(audit_adding.add(page, chain="", read_to=page[-1].sequence))
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

    @contextmanager
    def counted_moment(path: Path) -> Iterator[Moment]:
        with one_moment(path) as moment:
            moment._connection.set_progress_handler(count, 100)
            yield moment

    store = await open_store(path)
    store._database._connection.set_progress_handler(count, 100)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(audit_index, "one_moment", counted_moment)
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
        walked.extend(await store._read(audit_finding.by_time(QUERIES[name])))

    assert await steps(million, search) < _STEPS
    await steps(million, walk)
    assert found == walked
    assert len(found) == (0 if name == "nobody" else 50)


async def test_a_walk_over_all_entries_would_be_seen(million: Path) -> None:
    async def walk(store: SqliteStore) -> None:
        await store._read(audit_finding.by_time(QUERIES["nobody"]))

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
async def test_on_postgresql_every_statement_of_a_search_goes_by_an_index(
    postgresql: PrivateServer,
    target: StoreSettings,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert target.postgresql is not None
    store = await open_postgresql(target.postgresql)
    entries = [
        entry(n, patient=f"p{n % 500}", user=f"u{n % 200}", client=f"c{n % 20}", grant=f"g{n % 400}")
        for n in range(1, 60_001)
    ]
    for start in range(0, len(entries), 500):
        await store.index_audit(entries[start : start + 500], chain="", read_to=start + 500)
        await store.tend_audit_index()
    while await store.tend_audit_index():
        pass
    for table in ("audit_sheet", "audit_page", "audit_volume", "audit_volume_part"):
        await store._database.change(f"ANALYZE {table}")
    plans: list[str] = []
    for whose in (Transaction, PostgresqlPool):
        plain = whose.rows

        async def explained(
            self: Any, sql: str, *values: object, plain: Any = plain
        ) -> list[tuple[object, ...]]:
            if "audit_sheet" in sql or "audit_volume_part" in sql:
                plans.append(" ".join(str(row[0]) for row in await plain(self, f"EXPLAIN {sql}", *values)))
            found: list[tuple[object, ...]] = await plain(self, sql, *values)
            return found

        monkeypatch.setattr(whose, "rows", explained)
    for name, wanted in QUERIES.items():
        if name == "client":
            continue  # who is in a seventh of these few sheets is found as soon by reading them all
        plans.clear()
        found = await store.find_audit(wanted)
        assert len(found) == (0 if name in ("nobody", "both") else 50)
        assert plans
        assert not [
            plan
            for plan in plans
            if "Seq Scan on audit_sheet" in plan or "Seq Scan on audit_volume_part" in plan
        ]
    await store.close()

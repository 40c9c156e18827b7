"""The embedded store: the contract, and what is SQLite's own: file, migrations, several processes on one file."""

import asyncio
import multiprocessing
import os
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from authz.storage import schema
from authz.storage.claims import Namespace
from authz.storage.grants import Redemption
from authz.storage.schema import Migration, migrate, migrations, read_migrations
from authz.storage.sqlite import connection as sqlite_connection
from authz.storage.sqlite.consents import _STANDING, CONSENTS_PAGE
from authz.storage.sqlite.store import SqliteStore, open_store
from authz.storage.store import AuditConflict, Store, StoreUnavailable
from tests.support.consents_contract import CONSENT
from tests.support.store_contract import (
    CHANGE,
    CODE,
    GRANT,
    INITIAL,
    INTERACTION,
    KEY,
    NOW,
    PUSHED,
    REGISTRATION,
    SESSION,
    StoreContract,
    audit_lines,
    complete,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "securus.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(path)
    yield opened
    await opened.close()


class TestSqliteStore(StoreContract):
    """SqliteStore fulfils the contract of every store."""


# The file


async def test_the_file_and_its_log_are_readable_by_the_owner_only(path: Path) -> None:
    mask = os.umask(0)
    try:
        store = await open_store(path)
        await store.check()
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        await store.close()
    finally:
        os.umask(mask)
    assert modes == {"securus.db": 0o600, "securus.db-wal": 0o600, "securus.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_what_was_written_is_there_after_opening_again(path: Path, store: SqliteStore) -> None:
    await store.put_grant(GRANT, expires_at=NOW + 300)
    await store.close()
    again = await open_store(path)
    assert await again.grant("grant", now=NOW) == GRANT
    await again.close()


@pytest.mark.parametrize(
    ("option", "level"), [({}, 1), ({"synchronous": "normal"}, 1), ({"synchronous": "full"}, 2)]
)
async def test_the_option_synchronous_reaches_the_connection(
    path: Path, option: dict[str, str], level: int
) -> None:
    connection = sqlite_connection.SqliteConnection.open(path, option)
    assert connection.row("PRAGMA synchronous") == (level,)
    assert connection.row("PRAGMA journal_mode") == ("wal",)
    assert connection.row("PRAGMA foreign_keys") == (1,)
    connection.close()


@pytest.mark.parametrize(
    "options", [{"synchronous": "off"}, {"synchronous": "FULL; DROP"}, {"syncronous": "full"}]
)
async def test_an_option_that_is_not_known_is_refused(path: Path, options: dict[str, str]) -> None:
    with pytest.raises(StoreUnavailable, match="expected '"):
        await open_store(path, options)


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.db"
    path.write_bytes(b"Dear colleague, " * 100)
    with pytest.raises(StoreUnavailable, match="cannot open the store"):
        await open_store(path)
    assert path.read_bytes() == b"Dear colleague, " * 100


async def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="cannot open the store"):
        await open_store(tmp_path / "file" / "securus.db")


async def test_a_record_that_cannot_be_read_is_not_guessed(path: Path, store: SqliteStore) -> None:
    await store.put_session(SESSION)
    with sqlite3.connect(path) as outside:
        outside.execute("UPDATE browser_session SET record = ?", (b'{"id": 5}',))
    outside.close()
    with pytest.raises(StoreUnavailable, match="BrowserSession cannot be read"):
        await store.session("session", now=NOW)


async def test_a_full_disk_is_said_by_every_write_and_by_the_check(path: Path, store: SqliteStore) -> None:
    await store.put_pushed_request(PUSHED)
    database = store._database
    pages = database.row("PRAGMA page_count")
    assert pages is not None
    database.rows(f"PRAGMA max_page_count = {pages[0]}")
    big = replace(GRANT, claims={"note": "x" * 100_000})
    with pytest.raises(StoreUnavailable, match="full"):
        await store.put_grant(big, expires_at=NOW + 300)
    with pytest.raises(StoreUnavailable, match="full"):
        await complete(store, grant=big)
    assert await store.pushed_request("request", now=NOW) == PUSHED
    database.rows("PRAGMA max_page_count = 1000000")
    # Nothing of the failed transaction is left open: what is acknowledged now is on the file for everybody.
    assert await complete(store, grant=big)
    other = await open_store(path)
    assert await other.grant("grant", now=NOW) == big
    await other.close()


async def test_a_writer_that_holds_the_lock_too_long_makes_the_store_unavailable(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_connection, "_BUSY_SECONDS", 0.002)
    outside = sqlite3.connect(path, isolation_level=None)
    outside.execute("BEGIN IMMEDIATE")
    for attempt in (
        store.check(),
        store.claim(Namespace.DPOP_PROOF, b"k", until=NOW + 60, now=NOW),
        complete(store),
        store.append_audit(audit_lines(1, 1)),
    ):
        with pytest.raises(StoreUnavailable, match="locked"):
            await attempt
    assert await store.grant("grant", now=NOW) is None  # readers do not wait for a writer
    outside.execute("ROLLBACK")
    outside.close()
    assert await store.claim(Namespace.DPOP_PROOF, b"k", until=NOW + 60, now=NOW)


async def test_audit_records_cannot_be_changed_or_removed_through_sql(path: Path, store: SqliteStore) -> None:
    await store.append_audit(audit_lines(1, 3))
    outside = sqlite3.connect(path, isolation_level=None)
    for sql in ("DELETE FROM audit WHERE sequence = 3", "UPDATE audit SET line = x'00' WHERE sequence = 2"):
        with pytest.raises(sqlite3.IntegrityError, match="audit records are never"):
            outside.execute(sql)
    outside.close()


async def test_versions_of_consents_cannot_be_changed_or_removed_through_sql(
    path: Path, store: SqliteStore
) -> None:
    await store.add_consent(CONSENT)
    outside = sqlite3.connect(path, isolation_level=None)
    for sql in ("DELETE FROM consent_version", "UPDATE consent_version SET status = 'active'"):
        with pytest.raises(sqlite3.IntegrityError, match="a version of a consent is never"):
            outside.execute(sql)
    outside.close()


async def test_consents_are_found_by_an_index(store: SqliteStore) -> None:
    for condition in ("base = ? AND patient IN (SELECT value FROM json_each(?))", "base = ? AND id > ?"):
        plan = store._database.rows(
            f"EXPLAIN QUERY PLAN SELECT id FROM consent_version WHERE {condition}",
            "b",
            "[]",
        )
        assert any("USING INDEX" in str(row) or "COVERING INDEX" in str(row) for row in plan), plan


async def test_consents_that_stand_are_counted_in_an_index_alone(store: SqliteStore) -> None:
    plan = store._database.rows(f"EXPLAIN QUERY PLAN {_STANDING}", "b", "A", "", '["active"]')
    assert any("COVERING INDEX consent_newest_patient" in str(row) for row in plan), plan


async def test_a_page_of_consents_is_a_walk_along_an_index(store: SqliteStore) -> None:
    """From where the page begins to where it ends, with no order to be made of all the patient's."""
    plan = store._database.rows(f"EXPLAIN QUERY PLAN {CONSENTS_PAGE}", "b", "A", 0, 100, 20)
    steps = [str(row[-1]) for row in plan]
    assert any(
        "consent_newest_page (base=? AND patient=? AND <expr>=? AND sequence<?)" in each for each in steps
    )
    assert not any("TEMP B-TREE" in each for each in steps), steps


def test_consents_from_before_they_were_paged_have_their_place(connection: sqlite3.Connection) -> None:
    known = migrations("sqlite")
    migrate(connection, [each for each in known if each.number < 15])
    columns = "base, id, version, patient, status, resource, recorded_at, recorded_by"
    written = (("c", 1, "active"), ("d", 1, "active"), ("c", 2, "inactive"), ("e", 1, "active"))
    for id, version, status in written:
        connection.execute(
            f"INSERT INTO consent_version ({columns}) VALUES ('b', ?, ?, 'A', ?, '{{}}', 1, 'x')",
            (id, version, status),
        )
    migrate(connection, known)
    for is_active, expected in ((1, ["e", "d"]), (0, ["c"])):
        found = connection.execute(CONSENTS_PAGE, ("b", "A", is_active, 99, 9)).fetchall()
        assert [row[1] for row in found] == expected


def test_consents_from_before_their_provisions_were_counted_count_by_their_braces(
    connection: sqlite3.Connection,
) -> None:
    known = migrations("sqlite")
    before = [each for each in known if each.number < 14]
    migrate(connection, before)
    columns = "base, id, version, patient, status, resource, recorded_at, recorded_by"
    for id, version, text in (("c", 1, "{}"), ("c", 2, '{"p":{"p":[{},{}]}}'), ("d", 1, "{}")):
        connection.execute(
            f"INSERT INTO consent_version ({columns}) VALUES ('b', ?, ?, 'A', 'active', ?, 1, 'x')",
            (id, version, text.encode()),
        )
    migrate(connection, known)
    found = connection.execute("SELECT id, version, provisions FROM consent_newest ORDER BY id").fetchall()
    assert found == [("c", 2, 4), ("d", 1, 1)]
    assert connection.execute(_STANDING, ("b", "A", "", '["active"]')).fetchall() == [(2, 5)]


async def test_expiry_and_lookups_use_an_index(store: SqliteStore) -> None:
    database = store._database
    for table in ("claim", "counter", "pushed_request", "interaction", "browser_session", "authorization_code",
                  "refresh_token", "grant_record", "revocation"):  # fmt: skip
        condition = " AND uses = 0" if table == "authorization_code" else ""
        plan = database.rows(
            f"EXPLAIN QUERY PLAN SELECT 1 FROM {table} WHERE expires_at <= ?{condition} LIMIT ?", NOW, 10
        )
        assert f"{table}_expires" in str(plan), plan


async def test_the_log_is_folded_in_beside_the_loop(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded = threading.Event()
    threads: list[str] = []
    fold_in = sqlite_connection._fold_in

    def watched(file: Path) -> bool:
        is_nearly_done = fold_in(file)
        threads.append(threading.current_thread().name)
        folded.set()
        return is_nearly_done

    monkeypatch.setattr(sqlite_connection, "_fold_in", watched)
    monkeypatch.setattr(sqlite_connection, "_FOLD_IN_AFTER_CHANGES", 50)
    before = path.stat().st_size
    for number in range(50):
        await store.claim(Namespace.DPOP_PROOF, os.urandom(16), until=NOW + number + 1, now=NOW)
        await store.put_session(replace(SESSION, id=f"{number}", csrf_key="x" * 1000))
    assert folded.wait(10)
    assert path.stat().st_size > before
    assert all(name.startswith("sqlite-checkpoint") for name in threads)
    assert await store.session("49", now=NOW) is not None


async def test_claims_that_share_a_commit_count_each_for_the_log(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded = threading.Event()
    monkeypatch.setattr(sqlite_connection, "_fold_in", lambda file: folded.set())
    monkeypatch.setattr(sqlite_connection, "_FOLD_IN_AFTER_CHANGES", 50)
    keys = [os.urandom(16) for _ in range(60)]
    made = [store.claim(Namespace.DPOP_PROOF, key, until=NOW + 9, now=NOW) for key in keys]
    assert all(await asyncio.gather(*made))
    assert folded.wait(10)


async def test_a_long_log_begins_anew_before_sqlite_folds_it_in_inline(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write(rows: int) -> None:
        for number in range(rows):
            await store.put_session(replace(SESSION, id=f"{number}", csrf_key="x" * 1000))

    def logs() -> int:
        """How many logs there were: the number stands in the head of each."""
        return int.from_bytes(path.with_name(f"{path.name}-wal").read_bytes()[12:16], "big")

    await write(20)
    assert not sqlite_connection._fold_in(path)  # it is short
    monkeypatch.setattr(sqlite_connection, "_LONG_LOG_PAGES", 10)
    assert sqlite_connection._fold_in(path)
    await write(1)
    first = logs()
    # While a thread copies we write on: some pages are always left, and the same log goes on.
    says = {"is_nearly_done": False}
    monkeypatch.setattr(sqlite_connection, "_fold_in", lambda file: says["is_nearly_done"])
    monkeypatch.setattr(sqlite_connection, "_FOLD_IN_AFTER_CHANGES", 1)
    for says["is_nearly_done"] in (False, True):
        assert logs() == first
        for _ in range(3):
            await write(1)
            if store._database._folding is not None:
                store._database._folding.result(10)
    assert logs() > first
    assert await store.session("19", now=NOW) is not None


# Migrations


def _file(folder: Path, name: str, sql: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(sql)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "m.db", isolation_level=None)) as opened:
        yield opened


ONE = Migration(1, "0001_one.sql", "CREATE TABLE a (x);\n")
TWO = Migration(2, "0002_two.sql", "CREATE TABLE b (x);\nINSERT INTO b VALUES (';\n');\n")


def test_migrations_run_once_each_and_forward(connection: sqlite3.Connection) -> None:
    assert migrate(connection, [ONE]) == 1
    assert migrate(connection, [ONE]) == 0
    assert migrate(connection, [ONE, TWO]) == 1
    assert connection.execute("SELECT x FROM b").fetchall() == [(";\n",)]
    connection.close()


def test_a_migration_that_was_edited_is_refused(connection: sqlite3.Connection) -> None:
    migrate(connection, [ONE, TWO])
    edited = replace(ONE, sql="CREATE TABLE a (x, y);\n")
    with pytest.raises(StoreUnavailable, match=r"migration 1 of the database \(0001_one.sql\) is not"):
        migrate(connection, [edited, TWO])
    connection.close()


def test_a_database_newer_than_the_program_is_refused(connection: sqlite3.Connection) -> None:
    migrate(connection, [ONE, TWO])
    with pytest.raises(StoreUnavailable, match="has schema 2 and this program knows up to 1"):
        migrate(connection, [ONE])
    connection.close()


def test_a_migration_that_fails_leaves_nothing_behind(connection: sqlite3.Connection) -> None:
    broken = Migration(2, "0002_broken.sql", "CREATE TABLE b (x);\nCREATE TABLE a (x);\n")
    with pytest.raises(sqlite3.Error, match="already exists"):
        migrate(connection, [ONE, broken])
    tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    assert tables == []
    connection.close()


@pytest.mark.parametrize("name", ["0003_gap.sql", "0002.sql", "2_two.sql", "0001_twice.sql"])
def test_migrations_are_numbered_without_gaps(tmp_path: Path, name: str) -> None:
    _file(tmp_path / "f", "0001_one.sql", ONE.sql)
    _file(tmp_path / "f", name, TWO.sql)
    with pytest.raises(StoreUnavailable, match="is not numbered 000"):
        read_migrations(tmp_path / "f")


def test_triggers_are_whole_statements_and_half_a_statement_is_refused() -> None:
    trigger = "CREATE TRIGGER t BEFORE DELETE ON a\nBEGIN SELECT 1;\nSELECT 2;\nEND;\n-- the end;\n"
    assert len(schema.statements(Migration(1, "0001_t.sql", ONE.sql + trigger))) == 2
    with pytest.raises(StoreUnavailable, match="ends in the middle"):
        schema.statements(Migration(1, "0001_t.sql", "CREATE TABLE a (x)\n"))


def test_the_shipped_migrations_can_be_read() -> None:
    assert [m.number for m in migrations("sqlite")] == list(range(1, len(migrations("sqlite")) + 1))


async def test_the_history_of_a_client_is_never_changed_nor_removed(path: Path, store: SqliteStore) -> None:
    assert await store.put_registration(REGISTRATION, CHANGE, spending=None, now=NOW)
    outside = sqlite3.connect(path)
    for statement in ("UPDATE registration_change SET record = x'00'", "DELETE FROM registration_change"):
        with pytest.raises(sqlite3.IntegrityError, match="the history of a client is never"):
            outside.execute(statement)
    outside.close()


# Several workers on one file

ROUNDS = 40


async def _contend(store: Store, worker: int) -> dict[str, int]:
    """What one worker won, of what all of them try to win: per round a claim, a code, a pushed request, a kid."""
    won = dict.fromkeys(("claim", "code", "completed", "key", "registered", "changed"), 0)
    for number in range(ROUNDS):
        won["claim"] += await store.claim(Namespace.DPOP_PROOF, b"%d" % number, until=NOW + 60, now=NOW)
        redeemed = await store.redeem_code(f"code{number}", now=NOW)
        assert redeemed is not None
        won["code"] += redeemed.redemption is Redemption.FIRST
        grant = replace(GRANT, grant_id=f"grant{number}/{worker}")
        won["completed"] += await store.complete_authorization(
            request_id=f"request{number}",
            interaction_id="",
            grant=grant,
            code=replace(CODE, id=f"code{number}/{worker}", grant_id=grant.grant_id),
            now=NOW,
        )
        won["key"] += await store.put_key(replace(KEY, kid=f"key{number}"))
        won["registered"] += await store.put_registration(
            replace(REGISTRATION, client_id=f"app{number}/{worker}"),
            replace(CHANGE, client_id=f"app{number}/{worker}"),
            spending=f"initial{number}",
            now=NOW,
        )
        won["changed"] += await store.change_registration(
            replace(REGISTRATION, client_id=f"known{number}", version=2),
            replace(CHANGE, client_id=f"known{number}", what="approved", version=2),
            from_version=1,
        )
        await store.count("all", window_seconds=3600, now=NOW)
        await _append_behind_whoever_was_last(store)
    return won


async def _append_behind_whoever_was_last(store: Store) -> None:
    while True:
        sequence, digest = await store.audit_head() or (0, b"start")
        try:
            await store.append_audit(audit_lines(sequence + 1, sequence + 2, previous=digest))
            return
        except AuditConflict:
            continue


async def _prepare(path: Path) -> None:
    store = await open_store(path)
    for number in range(ROUNDS):
        await store.put_pushed_request(replace(PUSHED, id=f"past{number}"))
        await store.complete_authorization(
            request_id=f"past{number}",
            interaction_id=INTERACTION.id,
            grant=replace(GRANT, grant_id=f"past{number}"),
            code=replace(CODE, id=f"code{number}", grant_id=f"past{number}"),
            now=NOW,
        )
        await store.put_pushed_request(replace(PUSHED, id=f"request{number}"))
        await store.put_initial_access_token(replace(INITIAL, id=f"initial{number}", uses_left=1))
        known = replace(REGISTRATION, client_id=f"known{number}")
        await store.put_registration(known, CHANGE, spending=None, now=NOW)
    await store.close()


async def _check_one_winner_each(path: Path, won: list[dict[str, int]]) -> None:
    for prize in won[0]:
        assert sum(worker[prize] for worker in won) == ROUNDS, (prize, won)
    store = await open_store(path)
    assert await store.count("all", window_seconds=3600, now=NOW) == ROUNDS * len(won) + 1
    grants = [await store.grant(f"grant{n}/{w}", now=NOW) for n in range(ROUNDS) for w in range(len(won))]
    assert sum(grant is not None for grant in grants) == ROUNDS
    _, registrations = await store.registrations_since(0)
    assert len(registrations) == 2 * ROUNDS
    assert len({registration.sequence for registration in registrations}) == 2 * ROUNDS
    assert await store.initial_access_tokens(now=NOW) == []
    appended = ROUNDS * len(won) * 2
    assert list(await store.audit(after=0, limit=10_000)) == audit_lines(1, appended)
    await store.close()


def _work(path: Path, worker: int, ready: Callable[[], object]) -> dict[str, int]:
    async def run() -> dict[str, int]:
        store = await open_store(path)
        ready()
        try:
            return await _contend(store, worker)
        finally:
            await store.close()

    return asyncio.run(run())


async def test_D5_of_several_threads_exactly_one_wins_each_single_use_object(path: Path) -> None:
    await _prepare(path)
    together = threading.Barrier(4)
    work = (asyncio.to_thread(_work, path, worker, lambda: together.wait(30)) for worker in range(4))
    await _check_one_winner_each(path, list(await asyncio.gather(*work)))


def _process(path: Path, worker: int, pipe: Connection) -> None:
    def ready() -> None:
        pipe.send("ready")
        pipe.recv()

    pipe.send(_work(path, worker, ready))


@pytest.mark.process
async def test_D5_of_several_processes_exactly_one_wins_each_single_use_object(path: Path) -> None:
    await _prepare(path)
    spawn = multiprocessing.get_context("spawn")
    workers = []
    for number in range(3):
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_process, args=(path, number, theirs))
        process.start()
        workers.append((process, ours))
    for _, pipe in workers:
        assert pipe.recv() == "ready"
    for _, pipe in workers:
        pipe.send("go")
    won = [pipe.recv() for _, pipe in workers]
    for process, _ in workers:
        process.join(30)
        assert process.exitcode == 0
    await _check_one_winner_each(path, won)


async def test_several_workers_may_open_a_new_file_at_once(path: Path) -> None:
    together = threading.Barrier(6)

    def work() -> None:
        async def run() -> None:
            together.wait(30)
            store = await open_store(path)
            for number in range(50):  # who came first is already writing when the last ones open
                await store.claim(Namespace.DPOP_PROOF, os.urandom(16), until=NOW + number + 1, now=NOW)
            await store.close()

        asyncio.run(run())

    await asyncio.gather(*(asyncio.to_thread(work) for _ in range(6)))
    store = await open_store(path)
    assert await store.keys() == []
    await store.close()

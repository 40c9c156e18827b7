"""The store of several nodes: the contract, and what is PostgreSQL's own: the schema, what two nodes see of each other."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from authz.storage import opening
from authz.storage.claims import Namespace
from authz.storage.postgresql import changes as postgresql_changes
from authz.storage.postgresql import schema as postgresql_schema
from authz.storage.postgresql.consents import CONSENTS_PAGE
from authz.storage.postgresql.pool import PostgresqlPool
from authz.storage.postgresql.store import PostgresqlStore, open_postgresql
from authz.storage.schema import Migration, migrations
from authz.storage.settings import StoreSettings
from authz.storage.store import StoreUnavailable
from tests.support.consents_contract import CONSENT
from tests.support.postgresql import PrivateServer
from tests.support.postgresql_database import claim, database, shared, store
from tests.support.store_contract import CHANGE, EMERGENCY, KEY, NOW, REGISTRATION, StoreContract, audit_lines

__all__ = ["database", "shared", "store"]  # fixtures
pytestmark = [pytest.mark.process, pytest.mark.xdist_group("postgresql")]


@pytest.fixture
async def empty(postgresql: PrivateServer) -> AsyncIterator[str]:
    """A database without a schema."""
    name = await postgresql.new_database()
    yield name
    await postgresql.drop(name)


class TestPostgresqlStore(StoreContract):
    """PostgresqlStore fulfils the contract of every store."""


# The schema


async def test_of_several_nodes_that_start_at_once_one_makes_the_schema(
    postgresql: PrivateServer, empty: str
) -> None:
    pools = [await PostgresqlPool.open(postgresql.settings(empty)) for _ in range(4)]
    known = migrations("postgresql")
    done = await asyncio.gather(*(postgresql_schema.migrate(pool, known) for pool in pools))
    assert sorted(done) == [0, 0, 0, len(known)]
    for pool in pools:
        await pool.close()


async def test_a_schema_that_is_newer_or_made_by_others_is_refused(
    postgresql: PrivateServer, empty: str
) -> None:
    pool = await PostgresqlPool.open(postgresql.settings(empty))
    known = [Migration(1, "0001_a.sql", "CREATE TABLE a (b INTEGER);")]
    newer = [*known, Migration(2, "0002_b.sql", "CREATE TABLE c (d INTEGER); CREATE TABLE e (f INTEGER);")]
    assert await postgresql_schema.migrate(pool, newer) == 2
    with pytest.raises(StoreUnavailable, match="has schema 2 and this program knows up to 1: use a newer"):
        await postgresql_schema.migrate(pool, known)
    edited = [replace(known[0], sql="CREATE TABLE a (b TEXT);"), newer[1]]
    with pytest.raises(StoreUnavailable, match="migration 1 of the database"):
        await postgresql_schema.migrate(pool, edited)
    await pool.close()


async def test_a_migration_that_fails_leaves_nothing_behind(postgresql: PrivateServer, empty: str) -> None:
    pool = await PostgresqlPool.open(postgresql.settings(empty))
    wrong = [Migration(1, "0001_a.sql", "CREATE TABLE a (b INTEGER); CREATE TABLE a (b INTEGER);")]
    with pytest.raises(StoreUnavailable, match="already exists"):
        await postgresql_schema.migrate(pool, wrong)
    assert await pool.rows("SELECT to_regclass('a'), to_regclass('migration')") == [(None, None)]
    await pool.close()


async def test_a_verb_beside_the_gateway_makes_no_schema(postgresql: PrivateServer, empty: str) -> None:
    settings = StoreSettings(kind="postgresql", path="", postgresql=postgresql.settings(empty))
    with pytest.raises(StoreUnavailable, match=r"the database has schema 0, .* run 'securus db migrate'"):
        await opening.open_existing(settings)
    await (await opening.open_storage(settings)).close()
    await (await opening.open_existing(settings)).close()


async def test_audit_records_and_histories_are_refused_to_change_even_for_the_owner(
    postgresql: PrivateServer, database: str, store: PostgresqlStore
) -> None:
    await store.append_audit(audit_lines(1, 2))
    await store.put_registration(REGISTRATION, CHANGE, spending=None, now=NOW)
    await store.add_consent(CONSENT)
    for table in ("audit", "registration_change", "consent_version"):
        for change in (f"UPDATE {table} SET sequence = 9", f"DELETE FROM {table}", f"TRUNCATE {table}"):
            with pytest.raises(asyncpg.RaiseError, match=f"rows of {table} are never (changed|removed)"):
                await postgresql.run(change, database)
    assert len(await store.audit(after=0, limit=10)) == 2


async def test_a_database_in_another_encoding_is_refused(postgresql: PrivateServer) -> None:
    await postgresql.run("CREATE DATABASE plain ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(StoreUnavailable, match="is in SQL_ASCII, expected one in UTF8"):
        await open_postgresql(postgresql.settings("plain"))


async def test_a_server_that_takes_no_writes_is_refused(postgresql: PrivateServer, empty: str) -> None:
    await postgresql.run(f"ALTER DATABASE {empty} SET default_transaction_read_only = on")
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await open_postgresql(postgresql.settings(empty))


async def test_without_asyncpg_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(opening, "import_module", absent)
    settings = StoreSettings(postgresql=PrivateServer(None, 1, None, {}).settings("x"))  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable, match=r"pip install 'securus\[postgresql\]'"):
        await opening.open_storage(settings)


# What two nodes see of each other


async def test_a_number_is_seen_only_after_every_lower_one(
    postgresql: PrivateServer, database: str, store: PostgresqlStore
) -> None:
    """Whoever reads by sequence would miss a lower number that is committed later."""
    slow = await asyncpg.connect(postgresql.dsn(database))
    async with slow.transaction():
        await slow.execute("UPDATE numbering SET value = value + 1")
        await slow.execute("INSERT INTO revocation SELECT 'slow', value, 2000000000 FROM numbering LIMIT 1")
        late = asyncio.create_task(store.revoke_token("late", now=NOW, keep_until=NOW + 300))
        await asyncio.wait({late}, timeout=0.2)
        assert not late.done()
        assert await store.revocations_since(0) == (0, [])
    await late
    await slow.close()
    assert (await store.revocations_since(0))[1] == ["slow", "late"]


async def test_the_same_emergency_access_at_two_nodes_begins_once(
    postgresql: PrivateServer, database: str, store: PostgresqlStore
) -> None:
    other = await open_postgresql(postgresql.settings(database))
    for number in range(50):
        patient = f"p{number}"
        begun = await asyncio.gather(
            *(
                node.begin_emergency(replace(EMERGENCY, id=f"{number}-{place}", patient=patient), [], now=NOW)
                for place, node in enumerate((store, other, store, other))
            )
        )
        assert sum(begun) == 1
    await other.close()


async def test_claims_that_go_together_are_each_decided_by_themselves(store: PostgresqlStore) -> None:
    """Three callers for each key, some a minute later, when the first claim of their key has expired."""

    async def at(number: int, now: int) -> bool:
        return await store.claim(Namespace.DPOP_PROOF, b"%d" % (number % 100), until=now + 60, now=now)

    early = await asyncio.gather(*(at(number, NOW) for number in range(300)))
    # Which of the three is first is nobody's promise: two statements are on their way at one moment.
    assert sorted(number % 100 for number, won in enumerate(early) if won) == list(range(100))
    mixed = await asyncio.gather(*(at(number, NOW + 60 * (number % 2)) for number in range(300)))
    assert sorted(number % 100 for number, won in enumerate(mixed) if won) == list(range(1, 100, 2))


async def test_claims_that_wait_are_all_refused_when_the_store_is_gone(store: PostgresqlStore) -> None:
    claims = [asyncio.create_task(claim(store, b"%d" % number)) for number in range(50)]
    await asyncio.sleep(0)
    await store.close()
    answers = await asyncio.gather(*claims, return_exceptions=True)
    assert {type(answer) for answer in answers[2:]} == {StoreUnavailable}  # two were on their way


async def test_a_caller_that_goes_away_takes_nobody_with_it(store: PostgresqlStore) -> None:
    claims = [asyncio.create_task(claim(store, b"%d" % number)) for number in range(50)]
    await asyncio.sleep(0)
    for number in (0, 1, 10, 20):
        claims[number].cancel()
    answers = await asyncio.gather(*claims, return_exceptions=True)
    assert [number for number, answer in enumerate(answers) if answer is not True] == [0, 1, 10, 20]


async def test_one_node_at_a_time_removes_what_expired_and_a_row_that_is_held_waits(
    postgresql: PrivateServer, database: str, store: PostgresqlStore
) -> None:
    for key in (b"a", b"b", b"c"):
        await claim(store, key)
    other = await asyncpg.connect(postgresql.dsn(database))
    async with other.transaction():
        lock = (postgresql_schema.LOCKS, postgresql_schema.HOUSEKEEPING_LOCK)
        await other.execute("SELECT pg_advisory_xact_lock($1, $2)", *lock)
        assert await store.remove_expired(now=NOW + 60, at_most=10) == 0
    async with other.transaction():
        await other.execute("SELECT 1 FROM claim WHERE key = 'b' FOR UPDATE")
        assert await store.remove_expired(now=NOW + 60, at_most=10) == 2
    assert await store.remove_expired(now=NOW + 60, at_most=10) == 1
    await other.close()


async def heard(store: PostgresqlStore) -> bool:
    """Whether a notice came; a store without one would wait for an hour."""
    async with asyncio.timeout(30):
        await store.wait_for_change(at_most_seconds=3600)
    return True


async def test_what_nodes_keep_in_memory_is_told_to_the_others_and_nothing_else_is(
    postgresql: PrivateServer, database: str, store: PostgresqlStore
) -> None:
    other = await open_postgresql(postgresql.settings(database))
    assert await heard(store)  # listening has begun
    changes: list[Any] = [
        lambda: other.revoke_token("t", now=NOW, keep_until=NOW + 60),
        lambda: other.revoke_grant("g", now=NOW, keep_until=NOW + 60),
        lambda: other.put_registration(REGISTRATION, CHANGE, spending=None, now=NOW),
        lambda: other.put_key(KEY),
        lambda: other.move_key("key", from_state="announced", to_state="active", now=NOW),
        lambda: other.delete_key("key"),
    ]
    for change in changes:
        await change()
        assert await heard(store)
    await claim(other, b"k")
    await other.append_audit(audit_lines(1, 1))
    waiting = asyncio.create_task(heard(store))
    await asyncio.wait({waiting}, timeout=0.2)
    assert not waiting.done()
    await other.revoke_token("u", now=NOW, keep_until=NOW + 60)
    assert await waiting
    await other.close()


async def test_a_listener_that_was_cut_off_listens_again_and_reads_what_it_missed(
    postgresql: PrivateServer, database: str, store: PostgresqlStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "securus.storage")
    assert await heard(store)
    assert caplog.messages == []
    await postgresql.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"
    )
    assert await heard(store)  # begins again by looking
    assert caplog.messages == ["notices of changes are not heard", "notices of changes are heard again"]
    assert vars(caplog.records[0])["cause"] == "the connection was ended"


async def test_a_listener_that_gets_no_connection_says_so_once(
    postgresql: PrivateServer,
    database: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = await open_postgresql(postgresql.settings(database))
    connect, refused = store._database.connect, 0

    async def full() -> Any:
        nonlocal refused
        refused += 1
        if refused > 3:
            return await connect()
        raise asyncpg.TooManyConnectionsError("sorry, too many clients already")

    monkeypatch.setattr(store._database, "connect", full)
    monkeypatch.setattr(postgresql_changes, "_CONNECT_AGAIN_SECONDS", 0)
    assert await heard(store)
    assert refused == 4
    (said,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert (said.message, vars(said)["cause"]) == (
        "notices of changes are not heard",
        "sorry, too many clients already",
    )
    await store.close()


async def test_a_page_of_consents_is_a_walk_along_an_index(store: PostgresqlStore) -> None:
    """From where the page begins to where it ends, with no order to be made of all the patient's."""
    async with store._database.transaction() as transaction:
        columns = "sequence, base, id, version, patient, status, resource, recorded_at, recorded_by"
        await transaction.rows(
            f"INSERT INTO consent_version ({columns})"
            " SELECT n, 'b', 'c' || n, 1, 'p' || n % 5, CASE n % 3 WHEN 0 THEN 'active' ELSE 'inactive' END, '{}', 1, 'x'"
            " FROM generate_series(1, 20000) AS n"
        )
        await transaction.rows("ANALYZE consent_newest")
        await transaction.rows("ANALYZE consent_version")
        literal = CONSENTS_PAGE
        for number, value in ((5, "20"), (4, "9000"), (3, "0"), (2, "'p1'"), (1, "'b'")):
            literal = literal.replace(f"${number}", value)
        plan = " ".join(str(row[0]) for row in await transaction.rows(f"EXPLAIN {literal}"))
    assert "consent_newest_page" in plan
    assert "Sort" not in plan

"""PostgreSQL that is slow, stands still, stops or comes back: refused at once, never waited for without end."""

import asyncio
import os
import signal
from pathlib import Path

import asyncpg
import pytest

from authz.storage.audit_lines import AuditLine
from authz.storage.interactions import Launch
from authz.storage.postgresql.pool import PostgresqlPool
from authz.storage.postgresql.settings import PostgresqlSettings, dsn_fault
from authz.storage.postgresql.store import PostgresqlStore, open_postgresql
from authz.storage.store import StoreUnavailable
from gateway.demo.authority import Authority
from tests.support import postgresql as support
from tests.support.postgresql import PrivateServer, private_server
from tests.support.postgresql_database import claim, database, shared, store
from tests.support.store_contract import KEY, NOW
from tests.support.tcp_proxy import Way, tcp_proxy

__all__ = ["database", "shared", "store"]  # fixtures
pytestmark = [pytest.mark.process, pytest.mark.xdist_group("postgresql")]


async def works(store: PostgresqlStore) -> None:
    """Return once the store answers again."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await store.check()
            except StoreUnavailable:
                await asyncio.sleep(0.05)


async def test_connections_that_the_server_ended_are_replaced(
    postgresql: PrivateServer, database: str, store: PostgresqlStore
) -> None:
    for number in range(3):
        await asyncio.gather(*(claim(store, b"%d-%d" % (number, each)) for each in range(10)))
        ended = await postgresql.run(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
        )
        assert len(ended) >= 2
        await works(store)
        assert not await claim(store, b"%d-0" % number)


async def test_a_server_that_stops_is_said_at_once_and_is_used_again_when_it_is_back() -> None:
    with private_server() as server:
        database = await server.new_database()
        store = await open_postgresql(server.settings(database))
        assert await claim(store, b"before")
        server.stop()
        async with asyncio.timeout(30):
            for number in range(200):
                with pytest.raises(StoreUnavailable):
                    await claim(store, b"%d" % number)
        server.start()
        await works(store)
        assert await claim(store, b"0")  # what was refused had not been counted
        assert not await claim(store, b"before")
        await store.close()


async def test_a_server_that_stands_still_is_waited_for_once_and_is_used_again_when_it_goes_on() -> None:
    with private_server() as server:
        database = await server.new_database()
        limits = {"statement_timeout_seconds": 0.2, "connect_timeout_seconds": 0.5}
        store = await open_postgresql(server.settings(database, **limits))
        await asyncio.gather(*(claim(store, b"%d" % number) for number in range(10)))
        with server.frozen():
            async with asyncio.timeout(30):  # 200 that each waited would take four minutes
                for number in range(200):
                    with pytest.raises(StoreUnavailable):
                        await claim(store, b"frozen-%d" % number)
        await works(store)
        assert await claim(store, b"after")
        await store.close()


async def test_a_postmaster_that_stands_still_hurts_only_new_connections() -> None:
    with private_server() as server:
        database = await server.new_database()
        store = await open_postgresql(server.settings(database, connect_timeout_seconds=0.3))
        assert await claim(store, b"one")
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            assert not await claim(store, b"one")  # on the connection that there is
            answers = await asyncio.gather(
                *(claim(store, b"%d" % number) for number in range(10)), return_exceptions=True
            )
            assert {type(answer) for answer in answers} == {bool, StoreUnavailable}
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        await works(store)
        await store.close()


async def test_a_statement_that_takes_too_long_is_ended_and_its_connection_goes_on(
    postgresql: PrivateServer, database: str
) -> None:
    pool = await PostgresqlPool.open(postgresql.settings(database, pool=1, statement_timeout_seconds=0.2))
    before = await pool.rows("SELECT pg_backend_pid()")
    with pytest.raises(StoreUnavailable, match="statement timeout"):
        await pool.rows("SELECT pg_sleep(60)")
    assert await pool.rows("SELECT pg_backend_pid()") == before
    await pool.close()


async def test_a_lock_that_somebody_holds_is_not_waited_for_without_end(
    postgresql: PrivateServer, database: str
) -> None:
    store = await open_postgresql(postgresql.settings(database, statement_timeout_seconds=0.3))
    await store.put_key(KEY)
    holder = await asyncpg.connect(postgresql.dsn(database))
    async with holder.transaction():
        await holder.execute("LOCK TABLE signing_key")
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            await store.keys()
    await holder.close()
    assert list(await store.keys()) == [KEY]
    await store.close()


async def test_a_node_that_is_cut_off_in_the_midst_of_a_record_makes_no_other_node_refuse(
    postgresql: PrivateServer, database: str, store: PostgresqlStore
) -> None:
    def cut_off(head: tuple[int, bytes] | None) -> list[AuditLine]:
        proxy.turn(
            Way.DROP
        )  # the place in the log is locked, and nobody will say that it is not needed any more
        return [AuditLine(1, b"", b"1" * 32, b"{}")]

    async with tcp_proxy(postgresql.port) as proxy:
        address = postgresql.dsn(database).replace(f":{postgresql.port}/", f":{proxy.port}/")
        there = await open_postgresql(PostgresqlSettings(address))
        cutting = asyncio.create_task(there.extend_audit(cut_off))
        while (
            await postgresql.run(
                "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'", database
            )
        ) != [(1,)]:
            await asyncio.sleep(0.02)
        here = AuditLine(1, b"", b"2" * 32, b"{}")
        await store.extend_audit(lambda head: [here])
        assert list(await store.audit(after=0, limit=9)) == [here]
        with pytest.raises(StoreUnavailable):
            await cutting
        await there.close()


async def test_a_caller_that_gives_up_leaves_no_connection_in_an_unknown_state(
    postgresql: PrivateServer, database: str
) -> None:
    pool = await PostgresqlPool.open(postgresql.settings(database, pool=1))
    await pool.change("CREATE TABLE t (a INTEGER)")

    async def halfway() -> None:
        async with pool.transaction() as transaction:
            await transaction.change("INSERT INTO t VALUES (1)")
            await transaction.rows("SELECT pg_sleep(60)")

    for work in (halfway(), pool.rows("SELECT pg_sleep(60)")):
        task = asyncio.create_task(work)
        await asyncio.wait({task}, timeout=0.1)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert await pool.rows("SELECT COUNT(*) FROM t") == [(0,)]
    await pool.close()


async def test_when_every_connection_is_busy_the_next_caller_waits_and_then_is_refused(
    postgresql: PrivateServer, database: str
) -> None:
    pool = await PostgresqlPool.open(postgresql.settings(database, pool=2, statement_timeout_seconds=0.2))
    pool.patience_seconds = 0.2
    async with pool.transaction(), pool.transaction():
        with pytest.raises(StoreUnavailable, match="all 2 connections to PostgreSQL are busy"):
            await pool.rows("SELECT 1")
        waiting = asyncio.create_task(pool.rows("SELECT 1"))
        await asyncio.sleep(0)
    assert await waiting == [(1,)]
    answers = await asyncio.gather(*(pool.rows("SELECT pg_backend_pid()") for _ in range(20)))
    assert len({pid for ((pid,),) in answers}) <= 2
    await pool.close()


async def test_a_refusal_of_the_server_does_not_repeat_what_was_to_be_stored(store: PostgresqlStore) -> None:
    launch = Launch("secret-launch", "portal", "https://fhir.example", "person", {}, NOW + 60)
    await store.put_launch(launch)
    with pytest.raises(StoreUnavailable) as error:
        await store.put_launch(launch)
    assert "duplicate key" in str(error.value)
    assert "secret-launch" not in str(error.value)


# TLS


async def test_a_server_is_believed_by_its_certificate_alone(tmp_path: Path) -> None:
    ours, other = Authority.new("Test CA"), Authority.new("Other CA")
    (tmp_path / "ours.pem").write_bytes(ours.pem)
    (tmp_path / "other.pem").write_bytes(other.pem)
    with private_server(ours, name="db.example") as server:
        address = (
            f"postgresql://owner@localhost:{server.port}/postgres?sslmode=%s&sslrootcert={tmp_path}/%s.pem"
        )
        for mode, authority in (("verify-full", "ours"), ("verify-ca", "other")):
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await PostgresqlPool.open(PostgresqlSettings(address % (mode, authority)))
        await (await PostgresqlPool.open(PostgresqlSettings(address % ("verify-ca", "ours")))).close()
    with private_server(ours, name="localhost") as server:
        database = await server.new_database()
        dsn = f"postgresql://owner@localhost:{server.port}/{database}?sslmode=verify-full&sslrootcert={tmp_path}"
        pool = await PostgresqlPool.open(PostgresqlSettings(f"{dsn}/ours.pem"))
        assert await pool.rows("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [(True,)]
        await pool.close()
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await PostgresqlPool.open(PostgresqlSettings(f"{dsn}/other.pem"))


async def test_a_server_without_TLS_is_refused_where_TLS_is_asked_for(
    postgresql: PrivateServer, database: str
) -> None:
    for mode in ("require", "verify-full"):
        dsn = postgresql.dsn(database).replace("sslmode=disable", f"sslmode={mode}")
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await PostgresqlPool.open(PostgresqlSettings(dsn))


# A machine without PostgreSQL


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_without_postgresql_these_tests_are_skipped_and_in_ci_they_fail(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setattr(support, "programs", lambda: None)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="PostgreSQL is not installed"):
        support.require_programs()


# The address


@pytest.mark.parametrize(
    ("dsn", "fault"),
    [
        ("postgresql://gateway:secret@db.example/securus?sslmode=verify-full&sslrootcert=/ca.pem", None),
        ("postgres://gateway@db.example:5433/securus?sslmode=disable", None),
        ("postgresql://gateway@127.0.0.1/securus", None),
        ("postgresql://gateway@[::1]:5432/securus", None),
        ("postgresql:///securus?host=/run/postgresql", None),
        ("postgresql://a.example,b.example:5433/securus?sslmode=verify-full", None),
        ("postgresql://gateway:secret@db.example/securus", "the host db.example needs an explicit sslmode"),
        ("postgresql://gateway@db.example/securus?sslmode=prefer", "needs an explicit sslmode"),
        ("postgresql://gateway@127.0.0.1,db.example/securus", "the host db.example needs"),
        ("postgresql:///securus?host=db.example", "the host db.example needs"),
        ("postgresql://127.0.0.1/securus?sslmode=verify_full", "sslmode is not one of"),
        ("postgresql://gateway@127.0.0.1/", "names no database"),
        ("postgresql:///securus", "names no host"),
        ("postgresql://gateway:secret@/securus?sslmode=disable", "names no host"),
        ("mysql://gateway@127.0.0.1/securus", "does not begin with postgresql://"),
        ("host=127.0.0.1 dbname=securus", "does not begin with postgresql://"),
        ("postgresql://[::1/securus", "is not a URL"),
    ],
)
def test_an_address_says_how_a_connection_over_the_network_is_protected(dsn: str, fault: str | None) -> None:
    found = dsn_fault(dsn)
    assert (found is None) == (fault is None)
    assert (fault or "") in (found or "")
    assert "secret" not in (found or "")

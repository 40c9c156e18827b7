"""A primary that dies under load and a synchronous standby in its place: nothing acknowledged is lost, nodes find it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from authz.storage.claims import Namespace
from authz.storage.postgresql.settings import PostgresqlSettings
from authz.storage.postgresql.store import PostgresqlStore, open_postgresql
from authz.storage.store import StoreUnavailable
from tests.support.postgresql import PrivateServer, private_server, standby_of
from tests.support.store_contract import NOW, audit_lines

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("postgresql-failover")]
_REPLICATED = {"wal_level": "replica", "max_wal_senders": "4", "hot_standby": "on"}
_ENOUGH = 200
_TRY_SECONDS = 60


@pytest.fixture
def pair() -> Iterator[tuple[PrivateServer, PrivateServer]]:
    """A primary, and its standby, which has all that the primary acknowledges."""
    with private_server(more=_REPLICATED) as primary, standby_of(primary) as standby:
        yield primary, standby


@pytest.fixture
async def stores(pair: tuple[PrivateServer, PrivateServer]) -> AsyncIterator[list[PostgresqlStore]]:
    """Two nodes that know both servers: they take the one that can be written."""
    primary, _ = pair
    database = await primary.new_database()
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in pair)
    dsn = f"postgresql://owner@{hosts}/{database}?sslmode=disable"
    settings = PostgresqlSettings(dsn, statement_timeout_seconds=2)
    opened = [await open_postgresql(settings) for _ in range(2)]
    await primary.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
    await primary.run("SELECT pg_reload_conf()")
    async with asyncio.timeout(_TRY_SECONDS):
        while not await primary.run("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"):
            await asyncio.sleep(0.05)
    yield opened
    for store in opened:
        await store.close()


async def test_what_was_acknowledged_is_known_to_the_standby_that_takes_over(
    pair: tuple[PrivateServer, PrivateServer], stores: list[PostgresqlStore]
) -> None:
    primary, standby = pair
    numbers, stopping = itertools.count(), asyncio.Event()
    claimed: list[bytes] = []
    revoked: list[str] = []
    refused = 0

    async def work(store: PostgresqlStore) -> None:
        nonlocal refused
        while not stopping.is_set():
            number = next(numbers)
            try:
                assert await store.claim(Namespace.DPOP_PROOF, b"%d" % number, until=NOW + 60, now=NOW)
                claimed.append(b"%d" % number)
                await store.revoke_token(f"t{number}", now=NOW, keep_until=NOW + 300)
                revoked.append(f"t{number}")
            except StoreUnavailable:
                refused += 1
                await asyncio.sleep(0.05)

    async def grown(to: int) -> None:
        async with asyncio.timeout(_TRY_SECONDS):
            while len(revoked) < to:
                await asyncio.sleep(0.02)

    await stores[0].append_audit(audit_lines(1, 10))
    async with asyncio.TaskGroup() as group:
        for store in stores * 4:
            group.create_task(work(store))
        await grown(_ENOUGH)
        primary.stop()
        before = len(revoked)
        async with asyncio.timeout(_TRY_SECONDS):
            while refused < 20:  # nobody takes the standby, which can only be read
                await asyncio.sleep(0.02)
        assert len(revoked) <= before + 8  # those whose answer was on its way
        await standby.run("SELECT pg_promote()")
        await grown(len(revoked) + _ENOUGH)
        stopping.set()
    for store in stores:
        again = [await store.claim(Namespace.DPOP_PROOF, key, until=NOW + 60, now=NOW) for key in claimed]
        assert not any(again)
        assert set(revoked) <= set((await store.revocations_since(0))[1])
        await store.check()
    lines = audit_lines(1, 20)
    assert await stores[1].audit_head() == (10, lines[9].digest)
    await stores[1].append_audit(lines[10:])
    assert list(await stores[0].audit(after=0, limit=100)) == lines

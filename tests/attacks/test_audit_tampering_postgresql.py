"""The same in PostgreSQL's tables, by their owner with the triggers off; and what the triggers refuse while they are on."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest

from authz.storage.postgresql.store import PostgresqlStore, open_postgresql
from gateway.audit.heads import PublicKeys
from gateway.audit.retention import Retention
from gateway.audit.verification import Verification, verify
from tests.support.postgresql import PrivateServer
from tests.support.sealed_log import SealedLog, sealed_log

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("postgresql")]
PER_SEAL = 8
HEADS = 3
CHAINS = ["", "node-a"]


@dataclass(slots=True)
class World:
    """A log of two chains with three heads and a stub, in a database of its own."""

    server: PrivateServer
    database: str
    store: PostgresqlStore
    log: SealedLog
    public: PublicKeys

    async def damage(self, sql: str) -> None:
        """By the owner, who can switch triggers off."""
        await self.server.run(f"SET session_replication_role = replica; {sql}", self.database)

    async def found(self) -> Verification:
        return await verify(self.store, self.public)


@pytest.fixture
async def world(postgresql: PrivateServer) -> AsyncIterator[World]:
    database = await postgresql.migrated_database()
    store = await open_postgresql(postgresql.settings(database))
    made = await sealed_log(store)
    keeper = Retention(
        store=store,
        log=made.logs[""],
        keys=made.keys,
        period_seconds=86400 * 30,
        clock=lambda: made.clocks.wall,
        monotonic=lambda: made.clocks.steady,
    )
    for number in range(HEADS):
        await made.record(PER_SEAL)
        await made.record(PER_SEAL, "node-a")
        await made.seal()
        if number == 0:
            made.clocks.pass_(86400 * 40)
            await keeper.round()
    yield World(postgresql, database, store, made, await made.public())
    await store.close()
    await postgresql.drop(database)


async def test_a_log_with_a_stub_is_whole(world: World) -> None:
    found = await world.found()
    assert (found.whole, found.heads, found.retired) == (True, HEADS, 2 * PER_SEAL + 1)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("seed", range(3))
async def test_records_that_were_changed_dropped_or_moved_are_named(
    world: World, chain: str, seed: int
) -> None:
    chance = random.Random(seed)
    lines = await world.store.audit(chain=chain, after=0, limit=99)
    first, second = sorted(chance.sample([line.sequence for line in lines], 2))
    where = f"chain = '{chain}' AND sequence"
    await world.damage(f"UPDATE audit SET sequence = -1 WHERE {where} = {first}")
    found = await world.found()
    assert (found.whole, found.chain, found.broken_at) == (False, chain, first)
    await world.damage(
        f"UPDATE audit SET sequence = {first} WHERE {where} = {second};"
        f" UPDATE audit SET sequence = {second} WHERE {where} = -1"
    )
    found = await world.found()
    assert (found.whole, found.chain, found.broken_at) == (False, chain, first)
    await world.damage(
        f"UPDATE audit SET sequence = -1 WHERE {where} = {first};"
        f" UPDATE audit SET sequence = {first} WHERE {where} = {second};"
        f" UPDATE audit SET sequence = {second} WHERE {where} = -1"
    )
    assert (await world.found()).whole
    at = chance.randrange(40)
    await world.damage(
        f"UPDATE audit SET line = set_byte(line, {at}, get_byte(line, {at}) # 1) WHERE {where} = {second}"
    )
    found = await world.found()
    assert (found.whole, found.chain, found.broken_at) == (False, chain, second)


@pytest.mark.parametrize("number", range(1, HEADS + 1))
async def test_a_head_that_was_changed_or_dropped_is_named(world: World, number: int) -> None:
    where = f"number = {number}"
    await world.damage(
        f"UPDATE audit_tree_head SET head = set_byte(head, 99, 65 + get_byte(head, 99) % 7) WHERE {where}"
    )
    found = await world.found()
    assert (found.whole, found.head) == (False, number)
    await world.damage(f"DELETE FROM audit_tree_head WHERE {where}")
    found = await world.found()
    assert (found.whole, found.head) == (False, number)


@pytest.mark.parametrize("chain", CHAINS)
async def test_a_stub_that_was_changed_or_dropped_is_named_and_so_is_a_chain_that_vanished(
    world: World, chain: str
) -> None:
    await world.damage(f"UPDATE audit_stub SET last = last + 1 WHERE chain = '{chain}'")
    found = await world.found()
    assert (found.whole, found.chain, found.broken_at) == (False, chain, 1)
    await world.damage(f"DELETE FROM audit_stub WHERE chain = '{chain}'")
    found = await world.found()
    assert (found.whole, found.chain, found.broken_at) == (False, chain, 1)
    await world.damage(
        f"DELETE FROM audit WHERE chain = '{chain}'; DELETE FROM audit_chain WHERE chain = '{chain}'"
    )
    found = await world.found()
    assert (found.whole, found.chain, found.broken_at) == (False, chain, 1)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit SET line = ''",
        "DELETE FROM audit WHERE sequence > 9",
        "TRUNCATE audit",
        "UPDATE audit_head SET sequence = sequence - 1",
        "UPDATE audit_chain SET sequence = sequence, digest = ''",
        "DELETE FROM audit_chain",
        "TRUNCATE audit_head",
        "UPDATE audit_tree_head SET head = ''",
        "DELETE FROM audit_tree_head",
        "TRUNCATE audit_tree_head",
        "UPDATE audit_stub SET last = 99",
        "DELETE FROM audit_stub",
        "DELETE FROM audit_key",
        "DELETE FROM audit_hold",
    ],
)
async def test_the_owner_is_refused_while_the_triggers_are_on(world: World, sql: str) -> None:
    if "audit_hold" in sql:
        await world.server.run("INSERT INTO audit_hold VALUES ('h', 0, 1, 'w', 'b', 0, NULL)", world.database)
    with pytest.raises(asyncpg.RaiseError, match="never"):
        await world.server.run(sql, world.database)
    assert (await world.found()).whole

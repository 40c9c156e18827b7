"""Retention: what goes, what stays, and that everything else is proven as before."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from authz.storage.audit_seals import Hold, Stub
from authz.storage.sqlite.store import SqliteStore, open_store
from authz.storage.store import StoreUnavailable
from gateway.audit import retention as room
from gateway.audit.exports import Exported, export
from gateway.audit.following import ChainBroken
from gateway.audit.heads import sign_stub
from gateway.audit.merkle import ProofError
from gateway.audit.proofs import check_proof, prove_heads, prove_record
from gateway.audit.retention import Retention
from gateway.audit.verification import verify
from gateway.audit_settings import AuditLogSettings
from gateway.sealing import Sealing
from tests.support.gateway import start_gateway, stop_gateway
from tests.support.sealed_log import BEGAN, SealedLog, sealed_log

DAY = 86400
PERIOD = 100 * DAY


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "audit.db")
    yield opened
    await opened.close()


@pytest.fixture
async def world(store: SqliteStore) -> SealedLog:
    """Ten days with a head each, of two chains."""
    made = await sealed_log(store)
    for _ in range(10):
        await made.record(6)
        await made.record(3, "node-a")
        await made.seal()
        made.clocks.pass_(DAY - 60)
    return made


def retention(world: SealedLog) -> Retention:
    return Retention(
        store=world.store,
        log=world.logs[""],
        keys=world.keys,
        period_seconds=PERIOD,
        clock=lambda: world.clocks.wall,
        monotonic=lambda: world.clocks.steady,
    )


async def days_left(store: SqliteStore, chain: str = "") -> list[int]:
    """Days whose records are there, the first being 0; those of later events left out."""
    lines = await store.audit(chain=chain, after=0, limit=1000)
    said = [json.loads(line.line) for line in lines]
    first = 15  # BEGAN is the 15th of January 2027
    return sorted({int(each["at"][8:10]) - first for each in said if each["event"] == "access"})


async def test_whole_days_that_are_over_go_and_the_rest_is_proven_as_before(
    world: SealedLog, store: SqliteStore
) -> None:
    before = await verify(store, await world.public())
    heads = [row.head for row in await store.tree_heads(after=0, limit=99)]
    keeper = retention(world)
    world.clocks.pass_(PERIOD - 6 * DAY)
    await keeper.round()
    assert await days_left(store) == [4, 5, 6, 7, 8, 9]
    assert await days_left(store, "node-a") == [4, 5, 6, 7, 8, 9]
    public = await world.public()
    found = await verify(store, public)
    assert (found.whole, found.heads) == (True, before.heads)
    assert (found.records, found.retired) == (before.records + 2, 27 + 13)  # two records tell of it
    for sequence in (28, 40, 60):
        proof = await prove_record(store, public, chain="", sequence=sequence, head=heads[-1])
        check_proof(json.loads(json.dumps(proof)), public)
    for former, later in ((4, 10), (5, 9)):
        proof = await prove_heads(store, public, former=heads[former - 1], head=heads[later - 1])
        check_proof(json.loads(json.dumps(proof)), public)
    with pytest.raises(ProofError, match="was it retired"):
        await prove_record(store, public, chain="", sequence=5, head=heads[-1])
    with pytest.raises(ProofError, match="within retired records"):
        await prove_heads(store, public, former=heads[1], head=heads[-1])


async def test_nothing_goes_before_its_time_and_more_goes_later(world: SealedLog, store: SqliteStore) -> None:
    keeper = retention(world)
    await keeper.round()
    assert await days_left(store) == list(range(10))
    for gone in (3, 7):
        world.clocks.pass_(PERIOD - 10 * DAY + gone * DAY - (world.clocks.wall - BEGAN - 10 * DAY))
        await keeper.round()
        assert await days_left(store) == list(range(gone, 10))
        assert (await verify(store, await world.public())).whole
    assert [(each.first, each.last) for each in await store.stubs("")] == [(1, 20), (21, 48)]


async def test_what_an_index_or_a_feed_has_not_read_stays(world: SealedLog, store: SqliteStore) -> None:
    read = {"": 20, "node-a": 0}

    async def read_to(chain: str) -> int:
        return read[chain]

    keeper = Retention(
        store=store,
        log=world.logs[""],
        keys=world.keys,
        period_seconds=PERIOD,
        clock=lambda: world.clocks.wall,
        monotonic=lambda: world.clocks.steady,
        read_to=read_to,
    )
    world.clocks.pass_(PERIOD)
    await keeper.round()
    assert [(each.first, each.last) for each in await store.stubs("")] == [(1, 20)]
    assert list(await store.stubs("node-a")) == []
    read.update({"": 69, "node-a": 31})
    await keeper.round()
    assert await days_left(store) == await days_left(store, "node-a") == []
    assert (await verify(store, await world.public())).whole


async def test_what_no_head_covers_stays(world: SealedLog, store: SqliteStore) -> None:
    await world.record(5, at_the_end="yes")
    keeper = retention(world)
    world.clocks.pass_(3 * PERIOD)
    await keeper.round()
    left = [json.loads(line.line) for line in await store.audit(after=0, limit=99)]
    assert sum("at_the_end" in each for each in left) == 5
    assert (await verify(store, await world.public())).whole


async def test_a_stretch_under_legal_hold_stays_whole_until_the_hold_ends(
    world: SealedLog, store: SqliteStore
) -> None:
    since = int(BEGAN) + 3 * DAY
    await store.put_hold(Hold("h", since, since + DAY, "a claim", "officer", int(BEGAN)))
    keeper = retention(world)
    world.clocks.pass_(PERIOD)
    await keeper.round()
    assert await days_left(store) == [3, 4]  # the stretch behind begins with a record of the held day
    found = await verify(store, await world.public())
    assert found.whole
    assert len(await store.stubs("")) == 2
    await store.end_hold("h", now=int(world.clocks.wall))
    await keeper.round()
    assert await days_left(store) == []
    assert (await verify(store, await world.public())).whole


@pytest.mark.parametrize("jump", [-2.0 * PERIOD, 2.0 * PERIOD])
async def test_a_clock_that_jumps_retires_nothing(world: SealedLog, store: SqliteStore, jump: float) -> None:
    keeper = retention(world)
    world.clocks.wall += jump
    await keeper.round()
    assert await days_left(store) == list(range(10))


async def test_a_record_from_a_clock_that_was_ahead_keeps_its_stretch(
    world: SealedLog, store: SqliteStore
) -> None:
    world.clocks.wall += 400 * DAY
    await world.record(1)
    world.clocks.wall -= 400 * DAY
    await world.seal()
    await world.record(1)
    world.clocks.pass_(DAY)
    await world.seal()
    keeper = retention(world)
    world.clocks.pass_(2 * PERIOD)
    await keeper.round()
    lines = await store.audit(after=0, limit=99)
    assert lines[0].sequence == 70  # the record of the tenth head, and all behind it
    assert (await verify(store, await world.public())).whole


@pytest.mark.parametrize("removed", [0, 1, 5])
async def test_a_process_that_ends_in_the_middle_leaves_a_whole_log_and_the_next_goes_on(
    world: SealedLog, store: SqliteStore, monkeypatch: pytest.MonkeyPatch, removed: int
) -> None:
    monkeypatch.setattr(room, "_REMOVED_AT_ONCE", 1)
    remove, done = store.remove_stubbed, 0

    async def dies(stub: Stub, *, limit: int) -> int:
        nonlocal done
        if done >= removed:
            raise asyncio.CancelledError
        done += 1
        return await remove(stub, limit=limit)

    monkeypatch.setattr(store, "remove_stubbed", dies)
    keeper = retention(world)
    world.clocks.pass_(PERIOD)
    with pytest.raises(asyncio.CancelledError):
        await keeper.round()
    monkeypatch.undo()
    found = await verify(store, await world.public())
    assert (found.whole, found.retired) == (True, 69)
    again = retention(world)
    world.clocks.pass_(1)
    await again.round()
    assert await days_left(store) == []
    found = await verify(store, await world.public())
    assert (found.whole, found.retired) == (True, 69 + 31)


async def test_an_export_of_a_retired_log_is_verified(
    world: SealedLog, store: SqliteStore, tmp_path: Path
) -> None:
    since = int(BEGAN) + 3 * DAY
    await store.put_hold(Hold("h", since, since + DAY, "a claim", "officer", int(BEGAN)))
    keeper = retention(world)
    world.clocks.pass_(PERIOD - 3 * DAY)
    await keeper.round()
    rows = [line async for line in export(store)]
    (tmp_path / "log").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    public = await world.public()
    assert await verify(Exported(tmp_path / "log"), public) == await verify(store, public)
    for index, row in enumerate(rows):
        said = json.loads(row)
        if "record" in said and json.loads(said["record"])["seq"] > {"": 69, "node-a": 31}[said["chain"]]:
            continue  # under no head: what nobody signed can be cut off an export
        (tmp_path / "log").write_text(
            "".join(f"{each}\n" for each in rows if each is not row), encoding="utf-8"
        )
        assert not (await verify(Exported(tmp_path / "log"), public)).whole, rows[index]


# Stubs that somebody else made


@pytest.mark.parametrize("seed", range(8))
async def test_a_stub_that_was_changed_dropped_or_put_in_is_named(
    world: SealedLog, store: SqliteStore, seed: int
) -> None:
    chance = random.Random(seed)
    keeper = retention(world)
    world.clocks.pass_(PERIOD - 5 * DAY)
    await keeper.round()
    [stub] = await store.stubs("")
    connection = store._database._connection
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    changed = bytearray(stub.stub)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(7)
    public = await world.public()
    connection.execute("UPDATE audit_stub SET stub = ? WHERE chain = ''", (bytes(changed),))
    found = await verify(store, public)
    assert (found.whole, found.chain, found.broken_at) == (False, "", 1)
    connection.execute("UPDATE audit_stub SET stub = ?, last = last + 1 WHERE chain = ''", (stub.stub,))
    found = await verify(store, public)
    assert (found.whole, found.broken_at) == (False, 1)
    connection.execute("UPDATE audit_stub SET chain = 'x' WHERE chain = ''")
    found = await verify(store, public)
    assert (found.whole, found.broken_at) == (False, 1)
    assert "record 1 is missing" in found.why
    connection.execute("DELETE FROM audit_stub WHERE chain = 'x'")
    assert not (await verify(store, public)).whole


async def test_a_stub_by_another_key_stands_for_nothing_and_removes_nothing(
    world: SealedLog, store: SqliteStore, tmp_path: Path
) -> None:
    """Whoever can write to the store opens the way of the trigger with it, and is found."""
    other_store = await open_store(tmp_path / "other.db")
    other = await sealed_log(other_store)
    lines = await store.audit(after=0, limit=99)
    going = room._Going(1, lines[0].previous, [room.leaf_hash(line.line) for line in lines[:6]])
    said = room.Retired("", 1, 6, going.before, lines[5].digest, going.subtrees(), 1, "2027")
    forged = Stub("", 1, 6, await sign_stub(said, await other.keys.signer()))
    await other_store.close()
    assert await store.add_stub(forged)
    found = await verify(store, await world.public())
    assert (found.whole, found.broken_at) == (False, 1)
    assert "not signed by us" in found.why
    await retention(world).round()
    assert len(await store.audit(after=0, limit=6)) == 6
    assert await store.remove_stubbed(forged, limit=9) == 6  # as the store's owner could
    assert not (await verify(store, await world.public())).whole
    assert replace(forged, last=7) != forged


async def test_each_round_says_how_it_went_and_how_many_records_it_retired(
    world: SealedLog, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    keeper = Retention(
        store=store,
        log=world.logs[""],
        keys=world.keys,
        period_seconds=PERIOD,
        clock=lambda: world.clocks.wall,
        monotonic=lambda: world.clocks.steady,
        retired=told.append,
        ended=told.append,
    )
    await keeper.round()
    assert told == ["done"]
    world.clocks.pass_(PERIOD - 6 * DAY)
    await keeper.round()
    assert sum(each for each in told if isinstance(each, int)) == 27 + 13
    assert told[-1] == "done"
    world.clocks.wall += 2 * 3600
    await keeper.round()
    world.clocks.wall -= 2 * 3600
    monkeypatch.setattr(keeper, "_retire", failing(ChainBroken("record 1 of chain '' is missing")))
    await keeper.round()
    monkeypatch.setattr(keeper, "_retire", failing(StoreUnavailable("away")))
    with pytest.raises(StoreUnavailable):
        await keeper.round()
    assert told[-3:] == ["clock", "broken", "unavailable"]


def failing(error: Exception) -> Callable[[str], Awaitable[None]]:
    async def fail(chain: str) -> None:
        raise error

    return fail


async def test_the_rounds_of_a_gateway_are_counted(tmp_path: Path) -> None:
    running = await start_gateway(tmp_path)
    try:
        gateway = running.gateway
        said = replace(gateway.settings, audit_log=AuditLogSettings(retention_seconds=PERIOD))
        sealing = Sealing(
            settings=said, store=gateway.store, log=gateway.audit, keys=gateway.keys,
            metrics=gateway.metrics, clock=gateway.clock, precise_clock=lambda: float(gateway.clock()),
        )  # fmt: skip
        sealing._checkpoints._leads = True
        await sealing._retire()
        count = gateway.metrics.registry.get_sample_value
        assert count("securus_audit_retention_rounds_total", {"outcome": "done"}) == 1
        assert count("securus_audit_retired_records_total") == 0
    finally:
        await stop_gateway(running)

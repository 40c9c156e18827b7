"""Signed heads: when one is made, what it covers, who makes it, and that a log that is not whole gets none."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from authz.keys.homes import KeyHomes, Made, Opened
from authz.keys.making import generate_private_key
from authz.keys.sealing import SealedKeys
from authz.protocol.encoding import base64url
from authz.protocol.jose import LocalSigner, PrivateKey, public_jwk
from authz.storage.audit_seals import AuditKey
from authz.storage.server_keys import StoredKey
from authz.storage.sqlite.store import SqliteStore, open_store
from gateway.audit import following
from gateway.audit.checkpoints import Often
from gateway.audit.following import Follower
from gateway.audit.head_file import HeadFile, read_heads_file
from gateway.audit.heads import BadSeal, digest_of, read_head
from gateway.audit.verification import verify
from tests.support.sealed_log import SealedLog, sealed_log


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "audit.db")
    yield opened
    await opened.close()


@pytest.fixture
async def world(store: SqliteStore) -> SealedLog:
    return await sealed_log(store)


async def heads(store: SqliteStore) -> list[bytes]:
    return [row.head for row in await store.tree_heads(after=0, limit=100)]


async def test_a_head_says_how_far_each_chain_goes_and_is_linked_to_the_one_before(
    world: SealedLog, store: SqliteStore
) -> None:
    await world.record(3)
    await world.record(2, "node-a")
    await world.seal()
    await world.record(4, "node-a")
    await world.seal()
    first, second = [read_head(each, await world.public()) for each in await heads(store)]
    assert {name: state.size for name, state in first.chains.items()} == {"": 3, "node-a": 3}
    assert {name: state.size for name, state in second.chains.items()} == {"": 4, "node-a": 7}
    assert (first.previous, second.previous) == (b"", digest_of((await heads(store))[0]))
    assert (first.number, first.at) == (1, "2027-01-15T08:01:00.000Z")
    found = await verify(store, await world.public())
    assert (found.whole, found.records, found.heads) == (True, 12, 2)


async def test_a_new_chain_is_announced_by_its_first_record(world: SealedLog, store: SqliteStore) -> None:
    await world.record(1, "node-a")
    first, second = await store.audit(chain="node-a", after=0, limit=9)
    assert json.loads(first.line)["event"] == "chain-begun"
    assert json.loads(first.line)["chain"] == "node-a"
    assert json.loads(second.line)["event"] == "access"


async def test_a_head_is_named_by_a_record_and_such_records_alone_need_no_head(
    world: SealedLog, store: SqliteStore
) -> None:
    await world.record(2)
    await world.seal()
    for _ in range(3):
        await world.seal()
    assert len(await heads(store)) == 1
    last = await store.last_audit()
    assert last is not None
    said = json.loads(last.line)
    assert (said["event"], said["head"]) == ("audit-head", 1)
    assert said["digest"] == base64url(digest_of((await heads(store))[0]))


async def test_a_head_is_due_after_so_many_records_or_so_many_seconds(store: SqliteStore) -> None:
    world = await sealed_log(store, often=Often(records=10, seconds=60))
    await world.record(9)
    await world.checkpoints.round()
    assert await heads(store) == []
    await world.record(1)
    await world.checkpoints.round()
    assert len(await heads(store)) == 1
    await world.record(1)
    world.clocks.pass_(59)
    await world.checkpoints.round()
    assert len(await heads(store)) == 1
    world.clocks.pass_(1)
    await world.checkpoints.round()
    assert len(await heads(store)) == 2


@pytest.mark.parametrize("jump", [-400 * 86400.0, 400 * 86400.0])
async def test_a_clock_that_jumps_neither_stops_heads_nor_breaks_what_they_prove(
    world: SealedLog, store: SqliteStore, jump: float
) -> None:
    await world.record(2)
    await world.seal()
    world.clocks.wall += jump
    await world.record(2)
    await world.seal()
    found = await verify(store, await world.public())
    assert (found.whole, found.heads) == (True, 2)


async def test_what_is_uncovered_at_the_end_is_signed_by_who_signs(
    world: SealedLog, store: SqliteStore
) -> None:
    await world.record(2)
    await world.checkpoints.finish()  # it has signed nothing yet: another node may be the one
    assert await heads(store) == []
    await world.seal()
    await world.record(1)
    await world.checkpoints.finish()
    assert len(await heads(store)) == 2


async def test_another_node_goes_on_only_when_records_stay_uncovered_for_three_periods(
    world: SealedLog, store: SqliteStore
) -> None:
    await world.record(2)
    await world.seal()
    other = await sealed_log(store)
    other.clocks.pass_(170)
    await world.record(1)
    await other.checkpoints.round()
    assert len(await heads(store)) == 1
    other.clocks.pass_(10)
    await other.checkpoints.round()
    assert (len(await heads(store)), other.checkpoints.leads) == (2, True)
    await world.record(5)
    await world.checkpoints.round()
    assert not world.checkpoints.leads
    assert (await verify(store, await world.public())).whole


async def test_processes_that_never_live_for_three_periods_sign_all_the_same(
    world: SealedLog, store: SqliteStore
) -> None:
    await world.record(1)
    await world.seal()
    for restart in range(1, 5):
        again = await sealed_log(store)
        again.clocks.wall += 60 + 100 * restart
        await again.record(1)
        await again.checkpoints.round()
        again.clocks.pass_(60)
        await again.checkpoints.round()
    assert len(await heads(store)) > 1
    assert (await verify(store, await world.public())).whole


async def test_a_key_is_made_in_the_token_where_keys_live_in_one(store: SqliteStore) -> None:
    """The store holds its name alone, and the one that lost a race is ended there."""
    token = Token()
    world = await sealed_log(store, homes=KeyHomes(SealedKeys(bytes(32)), token))
    await world.record(1)
    await world.seal()
    [kept] = await store.audit_keys()
    assert kept.encrypted == b"token:" + kept.kid.encode()
    assert (await verify(store, await world.public())).heads == 1
    read, looked = store.audit_keys, 0

    async def late() -> Sequence[AuditKey]:
        nonlocal looked
        looked += 1
        return [] if looked == 1 else await read()

    store.audit_keys = late  # type: ignore[method-assign]
    assert await world.keys.make() == kept.kid
    assert list(token.keys) == [kept.kid]


class Token:
    """A home outside the store."""

    def __init__(self) -> None:
        self.keys: dict[str, PrivateKey] = {}

    def holds(self, encrypted: bytes) -> bool:
        return encrypted.startswith(b"token:")

    async def make(self, kid: str, algorithm: str) -> Made:
        self.keys[kid] = generate_private_key(algorithm)
        return Made(b"token:" + kid.encode(), public_jwk(self.keys[kid], kid=kid, algorithm=algorithm))

    async def open_row(self, key: StoredKey) -> Opened:
        private = self.keys[key.kid]
        return Opened(
            LocalSigner(key.kid, key.algorithm, private),
            public_jwk(private, kid=key.kid, algorithm=key.algorithm),
        )

    async def destroy(self, kid: str, encrypted: bytes) -> None:
        del self.keys[kid]

    async def check(self) -> None: ...
    async def close(self) -> None: ...


async def test_of_two_that_sign_at_once_one_does(world: SealedLog, store: SqliteStore) -> None:
    other = await sealed_log(store)
    await world.record(2)
    await other.checkpoints.round()
    world.clocks.pass_(60)
    other.clocks.pass_(60)
    await world.checkpoints.round()
    await other.checkpoints._sign()  # as if it had looked before the first one signed
    assert len(await heads(store)) == 1
    assert (world.checkpoints.leads, other.checkpoints.leads) == (True, False)


async def test_a_restart_goes_on_from_the_frontier_without_reading_the_log_again(
    world: SealedLog, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.record(50)
    await world.seal()
    again = await sealed_log(store)
    read: list[int] = []
    page = store.audit

    async def counted(*, after: int, limit: int, chain: str = "") -> object:
        found = await page(after=after, limit=limit, chain=chain)
        read.extend(line.sequence for line in found)
        return found

    await again.record(2)
    monkeypatch.setattr(store, "audit", counted)
    again.clocks.pass_(180)
    await again.checkpoints.round()
    assert read == [51, 52, 53]  # the record of the head, and two
    monkeypatch.undo()
    assert (await verify(store, await again.public())).heads == 2


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE audit SET line = x'7b7d' WHERE sequence = 52",
        "DELETE FROM audit WHERE sequence = 52",
        "UPDATE audit_tree_head SET frontier = x'80'",
        "UPDATE audit_tree_head SET frontier = x'00'",
        "UPDATE audit_tree_head SET head = x'41'",
        "UPDATE audit_head SET sequence = 9; DELETE FROM audit WHERE sequence > 9",
    ],
)
async def test_a_log_that_is_not_whole_is_not_signed(
    world: SealedLog, store: SqliteStore, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    await world.record(50)
    await world.seal()
    await world.record(2)
    _outside(store, damage)
    again = await sealed_log(store)
    again.clocks.pass_(180)
    await again.checkpoints.round()
    assert again.broken[-1]
    assert len(await heads(store)) == 1
    assert "the audit log is not whole and is not signed" in caplog.text


async def test_heads_that_vanish_under_a_running_gateway_are_not_signed_over(
    world: SealedLog, store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    await world.record(2)
    await world.seal()
    _outside(store, "DELETE FROM audit_tree_head")
    await world.record(1)
    for _ in range(5):
        await world.seal()
    assert world.broken[-5:] == [True] * 5
    assert caplog.text.count("the audit log is not whole and is not signed") == 1
    assert await heads(store) == []


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_chain_that_vanishes_whole_is_told_at_once_and_not_signed_over(
    world: SealedLog, store: SqliteStore, restarts: bool
) -> None:
    await world.record(3)
    await world.record(3, "node-a")
    await world.seal()
    _outside(store, "DELETE FROM audit WHERE chain = 'node-a'")
    _outside(store, "DELETE FROM audit_chain")
    await world.record(1)
    if restarts:
        world = await sealed_log(store)
        world.clocks.pass_(180)
    await world.seal()
    assert world.broken[-1]
    assert len(await heads(store)) == 1


async def test_each_head_goes_to_the_file_and_what_it_missed_follows(
    world: SealedLog, store: SqliteStore, tmp_path: Path
) -> None:
    path = tmp_path / "heads.jws"
    await world.record(1)
    await world.seal()
    first = await store.newest_tree_head()
    assert first is not None
    await HeadFile(path, store).append(first)
    path.write_bytes(path.read_bytes()[:-20])  # a crash left half a line
    await world.record(1)
    await world.seal()
    newest = await store.newest_tree_head()
    assert newest is not None
    await HeadFile(path, store).append(newest)
    found = read_heads_file(path)
    assert [found[number] for number in (1, 2)] == await heads(store)
    assert (await verify(store, await world.public(), elsewhere=found)).whole
    path.write_bytes(b"half.a.head\n" + path.read_bytes())
    with pytest.raises(BadSeal, match="line 1 of"):
        read_heads_file(path)


async def test_a_key_that_is_rotated_signs_from_then_on_and_the_former_one_still_proves(
    world: SealedLog, store: SqliteStore
) -> None:
    await world.record(1)
    await world.seal()
    former = set(await world.public())
    kid = await world.keys.make()
    await world.record(1)
    await world.seal()
    public = await world.public()
    assert set(public) == former | {kid}
    assert (await verify(store, public)).whole
    only = {name: key for name, key in public.items() if name == kid}
    found = await verify(store, only)
    assert (found.whole, found.head) == (False, 1)
    assert "a key" in found.why
    assert not (await verify(store, {name: replace(public[kid]) for name in former})).whole


def _outside(store: SqliteStore, *sql: str) -> None:
    """Change the file as somebody would who has it and knows SQLite."""
    connection = store._database._connection
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    for statement in sql:
        for each in statement.split("; "):
            connection.execute(each)


async def test_behind_a_round_that_left_records_no_moment_is_waited_for_until_all_is_read(
    world: SealedLog, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a load without a quiet moment would leave more and more records out of the tree."""
    monkeypatch.setattr(following, "_MOST_LINES", 20)
    monkeypatch.setattr(following, "_PAGE_LINES", 10)
    waited = 0

    async def moment() -> None:
        nonlocal waited
        waited += 1

    follower = Follower(store, moment)
    await world.record(30)
    assert not await follower.follow()
    assert (follower.news, waited) == (20, 2)
    assert await follower.follow()
    assert (follower.news, waited) == (30, 2)
    await world.record(5)
    assert await follower.follow()
    assert (follower.news, waited) == (35, 3)

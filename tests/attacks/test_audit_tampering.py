"""Whoever has the store's file or tables changes the log: each change at each place is found, and where it is said."""

import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from authz.protocol.encoding import base64url
from authz.storage.audit_lines import AuditLine
from authz.storage.sqlite.store import SqliteStore, open_store
from gateway.audit.heads import PublicKeys
from gateway.audit.lines import linked
from gateway.audit.verification import Verification, verify
from tests.support.sealed_log import sealed_log

PER_SEAL = 8
HEADS = 4


@dataclass(slots=True)
class World:
    """A log of two chains with four heads, and the file it is in."""

    store: SqliteStore
    public: PublicKeys
    path: Path

    def damage(self, *sql: tuple[str, tuple[object, ...]]) -> None:
        """Change the file as its owner could: no trigger stands in the way."""
        outside = sqlite3.connect(self.path, isolation_level=None)
        for (name,) in outside.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            outside.execute(f"DROP TRIGGER {name}")
        for statement, values in sql:
            outside.execute(statement, values)
        outside.close()

    async def found(self, **more: object) -> Verification:
        return await verify(self.store, self.public, **more)  # type: ignore[arg-type]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    path = tmp_path / "audit.db"
    store = await open_store(path)
    made = await sealed_log(store)
    for _ in range(HEADS):
        await made.record(PER_SEAL)
        await made.record(PER_SEAL, "node-a", who="person")
        await made.seal()
    yield World(store, await made.public(), path)
    await store.close()


async def lines_of(world: World, chain: str) -> list[AuditLine]:
    return list(await world.store.audit(chain=chain, after=0, limit=1000))


CHAINS = ["", "node-a"]
SEEDS = range(12)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_record_that_was_changed_is_named(world: World, chain: str, seed: int) -> None:
    chance = random.Random(seed)
    line = chance.choice(await lines_of(world, chain))
    at = chance.randrange(len(line.line))
    changed = bytearray(line.line)
    changed[at] ^= 1 << chance.randrange(8)
    world.damage(
        ("UPDATE audit SET line = ? WHERE chain = ? AND sequence = ?", (bytes(changed), chain, line.sequence))
    )
    found = await world.found()
    assert (found.whole, found.chain, found.broken_at) == (False, chain, line.sequence)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("seed", SEEDS)
async def test_records_that_were_dropped_are_named_wherever_they_stood(
    world: World, chain: str, seed: int
) -> None:
    chance = random.Random(seed)
    lines = await lines_of(world, chain)
    first = chance.randint(1, len(lines))
    last = min(len(lines), first + chance.randint(0, 5))
    world.damage(("DELETE FROM audit WHERE chain = ? AND sequence BETWEEN ? AND ?", (chain, first, last)))
    found = await world.found()
    assert (found.whole, found.chain, found.broken_at) == (False, chain, first)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("seed", SEEDS)
async def test_records_that_changed_places_are_named(world: World, chain: str, seed: int) -> None:
    first, second = sorted(random.Random(seed).sample(range(1, len(await lines_of(world, chain)) + 1), 2))
    move = "UPDATE audit SET sequence = ? WHERE chain = ? AND sequence = ?"
    world.damage((move, (-1, chain, first)), (move, (first, chain, second)), (move, (second, chain, -1)))
    found = await world.found()
    assert (found.whole, found.chain, found.broken_at) == (False, chain, first)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_record_that_is_played_again_in_another_place_is_named(
    world: World, chain: str, seed: int
) -> None:
    lines = await lines_of(world, chain)
    old, place = random.Random(seed).sample(lines, 2)
    world.damage(
        (
            "UPDATE audit SET line = ?, previous = ?, digest = ? WHERE chain = ? AND sequence = ?",
            (old.line, old.previous, old.digest, chain, place.sequence),
        )
    )
    found = await world.found()
    assert (found.whole, found.chain, found.broken_at) == (False, chain, place.sequence)


def _relinked(lines: list[AuditLine], first: int, change: Callable[[bytes], bytes]) -> list[AuditLine]:
    """The chain with one line changed, and everything behind it made to fit."""
    made = lines[: first - 1]
    digest = lines[first - 1].previous
    for line in lines[first - 1 :]:
        text = line.line.replace(base64url(line.previous).encode(), base64url(digest).encode())
        text = change(text) if line.sequence == first else text
        following = sha256(digest + text).digest()
        made.append(AuditLine(line.sequence, digest, following, text, line.chain))
        digest = following
    return made


def _written(lines: list[AuditLine]) -> list[tuple[str, tuple[object, ...]]]:
    chain, last = lines[0].chain, lines[-1]
    head = ("UPDATE audit_head SET sequence = ?, digest = ?", (last.sequence, last.digest))
    if chain:
        sql = "UPDATE audit_chain SET sequence = ?, digest = ? WHERE chain = ?"
        head = (sql, (last.sequence, last.digest, chain))  # type: ignore[assignment]
    return [
        ("DELETE FROM audit WHERE chain = ?", (chain,)),
        *(
            ("INSERT INTO audit VALUES (?, ?, ?, ?, ?)", (chain, x.sequence, x.previous, x.digest, x.line))
            for x in lines
        ),
        head,
    ]


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_record_that_was_changed_with_all_behind_it_is_found_by_the_head_that_covers_it(
    world: World, chain: str, seed: int
) -> None:
    """Nothing in the chain itself shows it: every digest and its head were reckoned anew."""
    lines = await lines_of(world, chain)
    kind = b'"event":"access"'
    first = random.Random(seed).choice(
        [line.sequence for line in lines[: -PER_SEAL - 2] if kind in line.line]
    )
    world.damage(*_written(_relinked(lines, first, lambda text: text.replace(b"access", b"excess"))))
    found = await world.found()
    assert (found.whole, found.chain) == (False, chain)
    assert found.head is not None
    assert found.broken_at is not None
    assert found.broken_at <= first <= found.broken_at + PER_SEAL + 1
    assert f"not those of head {found.head}: one was changed" in found.why


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("kept", [1, 9, 20, 32])
async def test_a_chain_that_was_cut_off_with_its_own_head_is_found_by_the_signed_ones(
    world: World, chain: str, kept: int
) -> None:
    world.damage(*_written((await lines_of(world, chain))[:kept]))
    found = await world.found()
    assert (found.whole, found.broken_at) == (False, kept + 1)
    assert (found.chain, found.head is not None) == (chain, True)


@pytest.mark.parametrize("chain", CHAINS)
async def test_a_chain_that_vanished_is_found(world: World, chain: str) -> None:
    head = "DELETE FROM audit_chain" if chain else "DELETE FROM audit_head"
    world.damage(("DELETE FROM audit WHERE chain = ?", (chain,)), (head, ()))
    found = await world.found()
    assert (found.whole, found.chain, found.broken_at) == (False, chain, 1)


async def test_a_chain_that_took_the_name_of_another_is_found(world: World) -> None:
    world.damage(("UPDATE audit SET chain = 'node-b' WHERE chain = 'node-a'", ()))
    world.damage(("UPDATE audit_chain SET chain = 'node-b'", ()))
    found = await world.found()
    assert (found.whole, found.chain, found.broken_at) == (False, "node-a", 1)


async def test_a_record_put_in_at_the_end_is_found(world: World) -> None:
    last = (await lines_of(world, ""))[-1]
    [forged] = linked([(b"2027", b"")], last.sequence, last.digest, "")
    values = ("", forged.sequence, forged.previous, forged.digest, forged.line)
    world.damage(("INSERT INTO audit VALUES (?, ?, ?, ?, ?)", values))
    found = await world.found()
    assert (found.whole, found.broken_at) == (False, forged.sequence)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_record_put_in_between_two_with_all_behind_it_moved_on_is_found(
    world: World, seed: int
) -> None:
    """Linked anew from there, numbers and digests and the head of the chain too."""
    lines = await lines_of(world, "")
    at = random.Random(seed).randrange(1, len(lines) - PER_SEAL - 2)
    texts = [(b"2027-01-15T08:00:00.000Z", b'"event":"access",')]
    for line in lines[at:]:
        said = line.line.partition(b'"at":"')[2]
        moment, _, rest = said.partition(b'",')
        texts.append((moment, rest.rpartition(b'"previous":')[0]))
    before = lines[at - 1]
    world.damage(*_written([*lines[:at], *linked(texts, before.sequence, before.digest, "")]))
    found = await world.found()
    assert not found.whole
    assert found.head is not None
    assert found.broken_at is not None
    assert found.broken_at <= at + 1


# Heads


@pytest.mark.parametrize("old", range(1, HEADS + 1))
async def test_a_head_that_is_played_again_behind_the_newest_is_named(world: World, old: int) -> None:
    sql = "INSERT INTO audit_tree_head SELECT ?, head, frontier FROM audit_tree_head WHERE number = ?"
    world.damage((sql, (HEADS + 1, old)))
    found = await world.found()
    assert (found.whole, found.head) == (False, HEADS + 1)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_head_that_was_changed_is_named(world: World, seed: int) -> None:
    chance = random.Random(seed)
    number = chance.randint(1, HEADS)
    [row] = await world.store.tree_heads(after=number - 1, limit=1)
    changed = bytearray(row.head)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(7)
    world.damage(("UPDATE audit_tree_head SET head = ? WHERE number = ?", (bytes(changed), number)))
    found = await world.found()
    assert (found.whole, found.head) == (False, number)


@pytest.mark.parametrize("number", range(1, HEADS + 1))
async def test_a_head_that_was_dropped_is_named(world: World, number: int) -> None:
    world.damage(("DELETE FROM audit_tree_head WHERE number = ?", (number,)))
    found = await world.found()
    assert (found.whole, found.head) == (False, number)


@pytest.mark.parametrize("kept", range(HEADS))
async def test_heads_that_were_cut_off_are_missed_by_the_records_that_name_them(
    world: World, kept: int
) -> None:
    world.damage(("DELETE FROM audit_tree_head WHERE number > ?", (kept,)))
    found = await world.found()
    assert (found.whole, found.head) == (False, kept + 1)
    assert f"head {kept + 1} is missing: record" in found.why


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 4), (1, 4)])
async def test_heads_that_changed_places_are_named(world: World, first: int, second: int) -> None:
    move = "UPDATE audit_tree_head SET number = ? WHERE number = ?"
    world.damage((move, (99, first)), (move, (first, second)), (move, (second, 99)))
    found = await world.found()
    assert (found.whole, found.head) == (False, first)
    assert f"head {second} stands in the place of head {first}" in found.why


@pytest.mark.parametrize(("old", "place"), [(1, 2), (1, 4), (3, 4)])
async def test_a_head_that_is_played_again_is_named(world: World, old: int, place: int) -> None:
    sql = "UPDATE audit_tree_head SET head = (SELECT head FROM audit_tree_head WHERE number = ?) WHERE number = ?"
    world.damage((sql, (old, place)))
    found = await world.found()
    assert (found.whole, found.head) == (False, place)


async def test_a_head_by_a_key_of_somebody_else_is_named(world: World, tmp_path: Path) -> None:
    store = await open_store(tmp_path / "other.db")
    other = await sealed_log(store)
    await other.record(PER_SEAL)
    await other.seal()
    [row] = await store.tree_heads(after=0, limit=1)
    await store.close()
    world.damage(("UPDATE audit_tree_head SET head = ? WHERE number = 1", (row.head,)))
    found = await world.found()
    assert (found.whole, found.head) == (False, 1)
    assert "is not known here" in found.why


async def test_a_log_that_was_set_back_as_a_whole_is_found_by_a_head_that_was_kept_elsewhere(
    world: World,
) -> None:
    heads = {row.number: row.head for row in await world.store.tree_heads(after=0, limit=9)}
    for chain in CHAINS:
        lines = await lines_of(world, chain)
        named = b'"event":"audit-head","head":3'
        kept = next((n for n, line in enumerate(lines) if named in line.line), 26)
        world.damage(*_written(lines[:kept]))
    world.damage(("DELETE FROM audit_tree_head WHERE number > 2", ()))
    assert (await world.found()).whole, "a whole log of yesterday looks whole"
    found = await world.found(elsewhere=heads)
    assert (found.whole, found.head) == (False, 3)
    assert "head 3 was kept elsewhere and is missing here" in found.why

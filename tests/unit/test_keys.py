"""The server's keys: their life, several nodes over one store, and what rests on the disk."""

import asyncio
import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from authz.events import Event, KeyChanged
from authz.keys import (
    KeyRing,
    KeyRingError,
    by_hand,
    generate_private_key,
    load_or_create_encryption_key,
    read_encryption_key,
)
from authz.keys.sealing import SealedKeys
from authz.protocol import jose
from authz.protocol.encoding import base64url
from authz.storage.sqlite.store import SqliteStore, open_store
from authz.storage.store import StoreUnavailable

START = 1_800_000_000
ANNOUNCED = 1000
ACTIVE = 10_000
KEPT = 86400  # published after retirement
SECRET = bytes(range(32))


@dataclass
class World:
    """A store, its clock, and nodes that share both."""

    store: SqliteStore
    now: int = START
    events: list[Event] = field(default_factory=list)

    async def node(self, *, secret: bytes = SECRET, algorithm: str = "ES256") -> KeyRing:
        return await KeyRing.open(
            self.store,
            encryption_key=secret,
            algorithms=(algorithm,),
            announced_seconds=ANNOUNCED,
            active_seconds=ACTIVE,
            clock=lambda: self.now,
            emit=self.events.append,
        )

    async def states(self) -> list[str]:
        return [key.state for key in await self.store.keys()]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = await open_store(tmp_path / "keys.db")
    yield World(store)
    await store.close()


async def signed_by(ring: KeyRing) -> str:
    """kid of the key that ring signs with now."""
    kid = jose.parse_compact(await ring.sign({"a": 1}, typ="at+jwt")).header["kid"]
    assert isinstance(kid, str)
    return kid


def published(ring: KeyRing) -> list[str]:
    keys = ring.jwks()["keys"]
    assert isinstance(keys, list)
    return [key["kid"] for key in keys]


def verifies(ring: KeyRing, token: str) -> bool:
    jws = jose.parse_compact(token)
    key = ring.public_key(str(jws.header["kid"]))
    if key is None:
        return False
    key.verify(jws.signature, jws.signing_input, str(jws.header["alg"]))
    return True


# The life of a key


async def test_the_very_first_key_signs_at_once(world: World) -> None:
    ring = await world.node()
    assert await world.states() == ["active"]
    assert verifies(ring, await ring.sign({"a": 1}, typ="at+jwt"))
    assert world.events == [KeyChanged(published(ring)[0], "active")]


async def test_a_key_is_announced_then_active_then_retired_then_removed(world: World) -> None:
    ring = await world.node()
    [first] = published(ring)
    token = await ring.sign({"a": 1}, typ="at+jwt")

    world.now = START + ACTIVE - ANNOUNCED - 1
    await ring.tick()
    assert published(ring) == [first]
    world.now += 1
    await ring.tick()
    _, second = published(ring)
    assert await world.states() == ["active", "announced"]
    assert await signed_by(ring) == first

    world.now = START + ACTIVE - 1
    await ring.tick()
    assert await signed_by(ring) == first
    world.now += 1
    await ring.tick()
    assert await world.states() == ["retired", "active"]
    assert await signed_by(ring) == second
    assert verifies(ring, token)

    world.now = START + ACTIVE + KEPT - 1
    await ring.tick()
    assert first in published(ring)
    world.now += 1
    await ring.tick()
    assert first not in published(ring)
    assert not verifies(ring, token)
    told = [(event.kid, event.state) for event in world.events if isinstance(event, KeyChanged)]
    assert told[:4] == [(first, "active"), (second, "announced"), (second, "active"), (first, "retired")]
    assert told[-1] == (first, "removed")


async def test_nothing_happens_between_the_steps(world: World) -> None:
    ring = await world.node()
    before, generation = await world.store.keys(), ring.generation
    for _ in range(5):
        world.now += 1000
        await ring.tick()
    assert await world.store.keys() == before
    assert ring.generation == generation


async def test_a_key_that_signed_too_long_stays_published_after_its_last_token(world: World) -> None:
    """The server slept for weeks: the old key signs until its successor was announced long enough."""
    ring = await world.node()
    [first] = published(ring)
    world.now = START + ACTIVE + 30 * 86400
    await ring.tick()
    assert await signed_by(ring) == first
    world.now += ANNOUNCED - 1
    token = await ring.sign({"a": 1}, typ="at+jwt")
    world.now += 1
    await ring.tick()
    assert await signed_by(ring) != first
    for _ in range(3):
        await ring.tick()
    assert verifies(ring, token)
    world.now += KEPT
    await ring.tick()
    assert not verifies(ring, token)


async def test_rotate_announces_now_and_the_successor_signs_after_the_announced_period(world: World) -> None:
    ring = await world.node()
    first = await signed_by(ring)
    second = (await ring.change(by_hand.rotate)).kid
    assert published(ring) == [first, second]
    world.now += ANNOUNCED - 1
    await ring.tick()
    assert await signed_by(ring) == first
    world.now += 1
    await ring.tick()
    assert await signed_by(ring) == second
    assert await world.states() == ["retired", "active"]


async def test_a_successor_does_not_wait_when_the_active_key_was_taken_away(world: World) -> None:
    ring = await world.node()
    first = await signed_by(ring)
    second = (await ring.change(by_hand.rotate)).kid
    await world.store.delete_key(first)
    await ring.tick()
    assert await signed_by(ring) == second
    assert published(ring) == [second]


async def test_another_algorithm_in_the_settings_announces_a_key_of_it(world: World) -> None:
    await world.node()
    world.now += 10  # no longer the first start
    ring = await world.node(algorithm="EdDSA")
    assert [(key.algorithm, key.state) for key in await world.store.keys()] == [
        ("ES256", "active"),
        ("EdDSA", "announced"),
    ]
    world.now += ANNOUNCED
    await ring.tick()
    header = jose.parse_compact(await ring.sign({}, typ="at+jwt")).header
    assert header["alg"] == "EdDSA"


async def test_generation_grows_when_the_published_keys_change_and_only_then(world: World) -> None:
    ring = await world.node()
    seen = [ring.generation]
    for moment in (START + 1, START + ACTIVE - ANNOUNCED, START + ACTIVE, START + ACTIVE + KEPT):
        world.now = moment
        await ring.tick()
        await ring.tick()
        seen.append(ring.generation)
    # nothing · announced · active and retired (same keys) · removed
    assert seen[1] == seen[0]
    assert seen[2] > seen[1]
    assert seen[3] == seen[2]
    assert seen[4] > seen[3]


# Several nodes


async def test_nodes_that_start_together_have_one_first_key(world: World, tmp_path: Path) -> None:
    stores = [await open_store(tmp_path / "keys.db") for _ in range(4)]
    worlds = [World(store) for store in stores]
    rings = await asyncio.gather(*(node.node() for node in worlds))
    tokens = [await ring.sign({"node": number}, typ="at+jwt") for number, ring in enumerate(rings)]
    assert all(verifies(ring, token) for ring in rings for token in tokens)
    assert await world.states() == ["active"]
    assert sum(len(node.events) for node in worlds) == 1
    for store in stores:
        await store.close()


async def test_each_step_is_made_by_one_node_and_taken_in_by_all(world: World) -> None:
    rings = [await world.node() for _ in range(3)]
    for moment in (START + ACTIVE - ANNOUNCED, START + ACTIVE, START + ACTIVE + KEPT):
        world.now = moment
        await asyncio.gather(*(ring.tick() for ring in rings))
        await asyncio.gather(*(ring.tick() for ring in rings))
        assert len({tuple(published(ring)) for ring in rings}) == 1
        assert len({await signed_by(ring) for ring in rings}) == 1
    told = [(event.kid, event.state) for event in world.events if isinstance(event, KeyChanged)]
    assert len(told) == len(set(told))


async def test_a_node_verifies_what_another_signs_from_the_first_token_of_a_new_key(world: World) -> None:
    fast, slow = await world.node(), await world.node()
    world.now = START + ACTIVE - ANNOUNCED
    await fast.tick()
    await slow.tick()
    world.now = START + ACTIVE
    await fast.tick()
    assert verifies(slow, await fast.sign({}, typ="at+jwt"))  # announced long ago, before slow's next tick
    assert verifies(fast, await slow.sign({}, typ="at+jwt"))  # retired a moment ago


# On the disk


async def test_no_private_key_rests_in_the_clear(world: World, tmp_path: Path) -> None:
    await world.node()
    [stored] = await world.store.keys()
    der = AESGCM(SECRET).decrypt(stored.encrypted[:12], stored.encrypted[12:], stored.kid.encode())
    on_disk = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert stored.encrypted in on_disk
    assert der[-60:] not in on_disk
    assert der[30:60] not in on_disk


def test_each_sealing_has_its_own_nonce() -> None:
    sealed, private = SealedKeys(SECRET), generate_private_key("EdDSA")
    assert len({sealed.seal(private, "kid")[:12] for _ in range(100)}) == 100


async def test_another_encryption_key_is_refused_at_start_by_name(world: World) -> None:
    ring = await world.node()
    with pytest.raises(
        KeyRingError, match=f"'{published(ring)[0]}' cannot be opened with this key encryption key"
    ):
        await world.node(secret=bytes(32))
    assert await world.states() == ["active"]


@pytest.mark.parametrize("size", [0, 16, 31, 33])
async def test_an_encryption_key_of_another_length_is_refused(world: World, size: int) -> None:
    with pytest.raises(KeyRingError, match=f"has {size} bytes, expected 32"):
        await world.node(secret=bytes(size))


async def test_a_sealed_key_does_not_open_under_another_kid(world: World) -> None:
    await world.node()
    [stored] = await world.store.keys()
    await world.store.delete_key(stored.kid)
    await world.store.put_key(replace(stored, kid=stored.kid[:-1] + "9"))
    with pytest.raises(KeyRingError, match="cannot be opened"):
        await world.node()


async def test_a_key_that_somebody_else_wrote_into_the_store_never_becomes_ours(world: World) -> None:
    """Who can write the database, but has no encryption key, cannot make tokens that pass."""
    ring = await world.node()
    [stored] = await world.store.keys()
    forged = generate_private_key("ES256")
    jwk = jose.public_jwk(forged, kid=stored.kid)
    await world.store.delete_key(stored.kid)
    await world.store.put_key(replace(stored, public_jwk=jwk))
    again = await world.node()
    assert again.jwks() == ring.jwks()

    own_row = replace(stored, kid="forged", state="retired", public_jwk=jose.public_jwk(forged, kid="forged"))
    await world.store.put_key(own_row)
    with pytest.raises(StoreUnavailable, match="'forged' cannot be opened"):
        await again.tick()
    assert again.public_key("forged") is None
    assert verifies(again, await again.sign({}, typ="at+jwt"))  # what was known stays in use


async def test_a_changed_row_stops_the_start(world: World, tmp_path: Path) -> None:
    await world.node()
    outside = sqlite3.connect(tmp_path / "keys.db", isolation_level=None)
    for damage in (b"", b"short", os.urandom(200)):
        outside.execute("UPDATE signing_key SET encrypted = ?", (damage,))
        with pytest.raises(KeyRingError, match="cannot be opened"):
            await world.node()
    outside.close()


# The file with the encryption key


def test_the_encryption_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "key-encryption.key"
    mask = os.umask(0)
    try:
        key = load_or_create_encryption_key(path)
    finally:
        os.umask(mask)
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert load_or_create_encryption_key(path) == key
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_processes_that_start_together_read_one_encryption_key(tmp_path: Path) -> None:
    path = tmp_path / "key-encryption.key"
    made = await asyncio.gather(*(asyncio.to_thread(load_or_create_encryption_key, path) for _ in range(8)))
    assert len(set(made)) == 1
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_what_a_killed_process_left_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / f".key-encryption.key.{os.getpid()}").write_text("half")
    assert len(load_or_create_encryption_key(tmp_path / "key-encryption.key")) == 32


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds 0 bytes, expected 32"),
        (b"\n", "holds 0 bytes, expected 32"),
        (b"AAAA\n", "holds 3 bytes, expected 32"),
        (b"not base64!\n", "does not hold base64"),
        (bytes(range(128, 160)), "cannot be read"),
    ],
)
def test_a_file_without_a_key_is_refused_and_left_alone(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "key-encryption.key"
    path.write_bytes(content)
    with pytest.raises(KeyRingError, match=problem):
        load_or_create_encryption_key(path)
    assert path.read_bytes() == content


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyRingError, match="cannot be read from"):
        load_or_create_encryption_key(tmp_path)


def test_base64_of_both_alphabets_with_and_without_padding_is_read() -> None:
    key = bytes([251, 255, 254]) * 10 + b"ab"
    url = base64url(key)
    for text in (url, url + "=", url.replace("-", "+").replace("_", "/") + "=\n"):
        assert read_encryption_key(text, "here") == key


def test_an_algorithm_that_is_not_supported_makes_no_key() -> None:
    with pytest.raises(KeyRingError, match="RS384 is not supported"):
        generate_private_key("RS384")

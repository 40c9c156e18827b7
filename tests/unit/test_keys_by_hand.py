"""What an operator does with the keys while nodes run: rotate, retire, remove, import, reseal."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from authz.events import Event
from authz.keys import KeyRing, KeyRingError, by_hand, generate_private_key
from authz.keys.by_hand import KeyRefused
from authz.protocol import jose
from authz.storage.sqlite.store import SqliteStore, open_store
from authz.storage.store import StoreUnavailable

START = 1_800_000_000
ANNOUNCED, ACTIVE, KEPT = 1000, 10_000, 5000
OLD, NEW = bytes(range(32)), bytes(range(32, 64))


@dataclass
class World:
    """A store, its clock, and nodes that share both."""

    store: SqliteStore
    now: int = START
    events: list[Event] = field(default_factory=list)

    async def node(self, *algorithms: str, secret: bytes = OLD, other: bytes | None = None) -> KeyRing:
        return await KeyRing.open(
            self.store,
            encryption_key=secret,
            other_encryption_key=other,
            algorithms=algorithms or ("ES256",),
            announced_seconds=ANNOUNCED,
            active_seconds=ACTIVE,
            published_after_retirement_seconds=KEPT,
            clock=lambda: self.now,
            emit=self.events.append,
        )

    async def states(self) -> list[tuple[str, str]]:
        return [(key.algorithm, key.state) for key in await self.store.keys()]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = await open_store(tmp_path / "keys.db")
    yield World(store)
    await store.close()


async def signed_by(ring: KeyRing, algorithm: str | None = None) -> str:
    return str(jose.parse_compact(await ring.sign({}, typ="JWT", algorithm=algorithm)).header["kid"])


def published(ring: KeyRing) -> list[str]:
    keys = ring.jwks()["keys"]
    assert isinstance(keys, list)
    return [key["kid"] for key in keys]


def rotate(algorithm: str) -> Any:
    return lambda steps: by_hand.rotate(steps, algorithm)


# Rotate


async def test_rotate_now_signs_with_a_new_key_as_soon_as_every_node_publishes_it(world: World) -> None:
    ring, other = await world.node(), await world.node()
    first = await signed_by(ring)
    successor = await ring.change(by_hand.rotate_now)
    assert (successor.signs_in_seconds, successor.is_unknown_to_caches) == (10, True)
    assert await signed_by(ring) == first
    world.now += 5
    await other.tick()
    assert successor.kid in published(other)
    world.now += 5
    await ring.tick()
    assert await signed_by(ring) == successor.kid
    assert other.public_key(successor.kid) is not None


async def test_rotate_now_lets_the_announced_successor_sign_at_once(world: World) -> None:
    ring = await world.node()
    announced = await ring.change(by_hand.rotate)
    world.now += ANNOUNCED // 2
    successor = await ring.change(by_hand.rotate_now)
    assert (successor.kid, successor.signs_in_seconds) == (announced.kid, 0)
    assert successor.is_unknown_to_caches
    assert await signed_by(ring) == announced.kid
    [_, row] = await world.store.keys()
    assert (row.activates_at, row.retires_at) == (world.now, world.now + ACTIVE)


async def test_rotate_now_waits_until_every_node_knows_what_was_announced_a_moment_ago(world: World) -> None:
    ring = await world.node()
    announced = await ring.change(by_hand.rotate)
    world.now += 9
    with pytest.raises(KeyRefused, match=f"'{announced.kid}' is so new .* try again in 1 s"):
        await ring.change(by_hand.rotate_now)
    world.now += 1
    assert (await ring.change(by_hand.rotate_now)).kid == announced.kid


async def test_rotate_now_a_second_time_makes_no_third_key(world: World) -> None:
    ring = await world.node()
    first = await ring.change(by_hand.rotate_now)
    world.now += 3
    again = await ring.change(by_hand.rotate_now)
    assert (again.kid, again.signs_in_seconds) == (first.kid, 7)
    assert len(await world.states()) == 2


async def test_rotate_refuses_while_a_successor_is_announced(world: World) -> None:
    ring = await world.node()
    kid = (await ring.change(by_hand.rotate)).kid
    with pytest.raises(
        KeyRefused, match=f"'{kid}' is announced already and signs in {ANNOUNCED} s: use --now"
    ):
        await ring.change(by_hand.rotate)


async def test_an_algorithm_that_is_not_configured_is_not_rotated(world: World) -> None:
    ring = await world.node()
    with pytest.raises(KeyRefused, match=r"PS256 is not in keys\.algorithms, which is ES256"):
        await ring.change(rotate("PS256"))


# Retire and remove


async def test_an_active_key_retires_when_its_successor_takes_over_and_stays_published(world: World) -> None:
    ring = await world.node()
    first = await signed_by(ring)
    successor = await ring.change(by_hand.rotate)
    world.now += 10
    ended = await ring.change(lambda steps: by_hand.retire(steps, first))
    assert (ended.state, ended.successor) == ("retired", successor.kid)
    assert await signed_by(ring) == successor.kid
    assert published(ring) == [first, successor.kid]
    world.now += KEPT
    await ring.tick()
    assert published(ring) == [successor.kid]


@pytest.mark.parametrize("end", [by_hand.retire, by_hand.remove])
async def test_the_only_signer_is_neither_retired_nor_removed(world: World, end: Any) -> None:
    ring = await world.node("ES256", "EdDSA")
    for algorithm in ("ES256", "EdDSA"):
        kid = await signed_by(ring, algorithm)
        with pytest.raises(
            KeyRefused, match=f"the only key that signs {algorithm}: run 'securus key rotate --now'"
        ):
            await ring.change(lambda steps, kid=kid: end(steps, kid))  # type: ignore[misc]
    assert await world.states() == [("ES256", "active"), ("EdDSA", "active")]


async def test_an_announced_key_is_dropped_and_its_kid_is_never_given_again(world: World) -> None:
    """Caches hold the dropped key under its kid: another key of that kid would not verify there."""
    ring = await world.node()
    kid = (await ring.change(by_hand.rotate)).kid
    ended = await ring.change(lambda steps: by_hand.retire(steps, kid))
    assert (ended.state, ended.successor) == ("removed", None)
    assert kid not in published(ring)
    again = (await ring.change(by_hand.rotate)).kid
    assert again != kid
    assert again.rpartition(".")[2] == "3"
    await ring.tick()
    assert kid not in {key.kid for key in await world.store.keys()}  # a later number is there: the row may go


async def test_a_compromised_key_is_unpublished_at_once_on_every_node(world: World) -> None:
    ring, other = await world.node(), await world.node()
    first, before = await signed_by(ring), other.generation
    await ring.change(by_hand.rotate_now)
    ended = await ring.change(lambda steps: by_hand.remove(steps, first))
    assert ended.successor is not None
    assert await signed_by(ring) == ended.successor
    assert other.public_key(first) is not None
    await other.tick()
    assert other.public_key(first) is None
    assert other.generation > before  # what was verified with it is forgotten
    assert await signed_by(other) == ended.successor


async def test_a_retired_key_is_removed_at_once_and_not_retired_twice(world: World) -> None:
    ring = await world.node()
    first = await signed_by(ring)
    await ring.change(by_hand.rotate)
    world.now += ANNOUNCED
    await ring.tick()
    with pytest.raises(KeyRefused, match="is retired already"):
        await ring.change(lambda steps: by_hand.retire(steps, first))
    await ring.change(lambda steps: by_hand.remove(steps, first))
    assert ring.public_key(first) is None
    with pytest.raises(KeyRefused, match=f"there is no key '{first}'"):
        await ring.change(lambda steps: by_hand.remove(steps, first))


# Import


@pytest.mark.parametrize("algorithm", ["ES256", "PS256", "EdDSA"])
async def test_an_imported_key_is_announced_like_any_other_and_sealed(world: World, algorithm: str) -> None:
    ring = await world.node(algorithm)
    private = generate_private_key(algorithm)
    successor = await ring.change(lambda steps: by_hand.take_in(steps, private, at_once=False))
    assert successor.signs_in_seconds == ANNOUNCED
    world.now += ANNOUNCED
    await ring.tick()
    assert await signed_by(ring) == successor.kid
    key = ring.public_key(successor.kid)
    assert key is not None
    assert key.thumbprint == jose.thumbprint(jose.public_jwk(private, kid="k"))
    again = await world.node(algorithm)
    assert again.jwks() == ring.jwks()


async def test_an_imported_key_with_now_signs_when_every_node_publishes_it(world: World) -> None:
    ring = await world.node()
    successor = await ring.change(
        lambda steps: by_hand.take_in(steps, generate_private_key("ES256"), at_once=True)
    )
    assert (successor.signs_in_seconds, successor.is_unknown_to_caches) == (10, True)


async def test_a_key_that_is_here_or_of_another_algorithm_is_not_imported(world: World) -> None:
    ring = await world.node()
    private = generate_private_key("ES256")
    kid = (await ring.change(lambda steps: by_hand.take_in(steps, private, at_once=False))).kid
    with pytest.raises(KeyRefused, match=f"the key is here already, as '{kid}', announced"):
        await ring.change(lambda steps: by_hand.take_in(steps, private, at_once=False))
    with pytest.raises(KeyRefused, match=r"the key is for EdDSA, and keys\.algorithms is ES256"):
        await ring.change(lambda steps: by_hand.take_in(steps, generate_private_key("EdDSA"), at_once=False))


# Another encryption key


async def test_the_encryption_key_is_changed_while_nodes_go_on(world: World) -> None:
    """Each node in turn: opens both and seals with the old; opens both and seals with the new; then all is resealed."""
    first = await world.node(secret=OLD, other=NEW)
    second = await world.node(secret=NEW, other=OLD)
    signed = await first.sign({}, typ="JWT")
    await second.change(by_hand.rotate)  # sealed under the new one
    await first.tick()
    assert published(first) == published(second)
    resealed = await second.change(by_hand.reseal)
    assert len(resealed) == 1
    assert await second.change(by_hand.reseal) == []
    await first.tick()
    alone = await world.node(secret=NEW)
    assert alone.jwks() == first.jwks()
    assert alone.public_key(str(jose.parse_compact(signed).header["kid"])) is not None
    with pytest.raises(KeyRingError, match="cannot be opened"):
        await world.node(secret=OLD)


async def test_reseal_changes_nothing_when_one_key_cannot_be_opened(world: World) -> None:
    ring = await world.node(secret=NEW, other=OLD)
    stranger = await world.node(secret=NEW)
    rows = {key.kid: key.encrypted for key in await world.store.keys()}
    kid = next(iter(rows))
    await world.store.reseal_key(kid, expected=rows[kid], encrypted=b"damaged")
    with pytest.raises(KeyRingError, match=f"'{kid}' cannot be opened"):
        await ring.change(by_hand.reseal)
    with pytest.raises(StoreUnavailable):
        await stranger.tick()
    assert await stranger.sign({}, typ="JWT")  # what was known stays in use


# Several algorithms


async def test_each_algorithm_has_an_active_key_and_the_first_is_the_default(world: World) -> None:
    ring = await world.node("PS256", "ES256")
    assert list(ring.algorithms) == ["PS256", "ES256"]
    header = jose.parse_compact(await ring.sign({}, typ="JWT")).header
    assert header["alg"] == "PS256"
    assert await signed_by(ring, "ES256") != header["kid"]
    with pytest.raises(StoreUnavailable, match="no signing key is active for EdDSA"):
        await ring.sign({}, typ="JWT", algorithm="EdDSA")


async def test_an_algorithm_that_is_added_is_announced_before_it_signs(world: World) -> None:
    await world.node("ES256")
    world.now += 10  # no longer the first start
    ring = await world.node("ES256", "EdDSA")
    assert await world.states() == [("ES256", "active"), ("EdDSA", "announced")]
    assert list(ring.algorithms) == ["ES256"]
    world.now += ANNOUNCED
    await ring.tick()
    assert list(ring.algorithms) == ["ES256", "EdDSA"]
    assert await world.states() == [("ES256", "active"), ("EdDSA", "active")]


async def test_an_algorithm_that_is_taken_away_retires(world: World) -> None:
    await world.node("ES256", "EdDSA")
    ring = await world.node("ES256")
    assert await world.states() == [("ES256", "active"), ("EdDSA", "retired")]
    assert list(ring.algorithms) == ["ES256"]
    assert len(published(ring)) == 2


async def test_another_default_signs_when_it_was_announced_and_the_former_one_until_then(
    world: World,
) -> None:
    await world.node("ES256")
    world.now += 10  # no longer the first start
    ring = await world.node("EdDSA")
    assert list(ring.algorithms) == ["ES256"]
    world.now += ANNOUNCED
    await ring.tick()
    assert list(ring.algorithms) == ["EdDSA"]
    assert await world.states() == [("ES256", "retired"), ("EdDSA", "active")]


async def test_each_algorithm_is_rotated_by_itself(world: World) -> None:
    ring = await world.node("ES256", "EdDSA")
    default, first = await signed_by(ring), await signed_by(ring, "EdDSA")
    await ring.change(rotate("EdDSA"))
    world.now += ANNOUNCED
    await ring.tick()
    assert await signed_by(ring) == default
    assert await signed_by(ring, "EdDSA") != first


async def test_a_node_that_meets_another_in_its_first_start_lets_the_missing_keys_sign_at_once(
    world: World,
) -> None:
    await world.node("ES256")
    ring = await world.node("ES256", "EdDSA")
    assert await world.states() == [("ES256", "active"), ("EdDSA", "active")]
    assert list(ring.algorithms) == ["ES256", "EdDSA"]

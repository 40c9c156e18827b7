"""What an operator may do with the keys at any time, while nodes run: they take it in with their next tick.

Each is work for KeyRing.change(). A refusal says what would be right, and nothing has changed then.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from authz.keys.calendar import NODES_LEARN_SECONDS, in_state, newest, next_number
from authz.keys.encryption_key import KeyRingError
from authz.keys.making import algorithm_of
from authz.keys.steps import KeySteps
from authz.protocol import jose
from authz.protocol.jose import PrivateKey
from authz.storage.server_keys import StoredKey


class KeyRefused(KeyRingError):
    """What was asked for is not done: it would leave no signer, or make no sense. The text says what would be right."""


@dataclass(frozen=True, slots=True)
class Successor:
    """The key that follows, and in how many seconds it signs.

    is_unknown_to_caches says that it will sign before it was announced as long as the settings ask.
    """

    kid: str
    algorithm: str
    signs_in_seconds: int
    is_unknown_to_caches: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a key, and which one signs in its place where it was one that signed."""

    kid: str
    state: str
    successor: str | None = None


async def rotate(steps: KeySteps, algorithm: str | None = None) -> Successor:
    """Announce a successor, whatever the calendar says. It signs after the announced period."""
    algorithm = _configured(steps, algorithm)
    keys = await steps.keys()
    announced = _of(algorithm, in_state(keys, "announced"))
    if announced:
        key, seconds = newest(announced), max(0, newest(announced).activates_at - steps.clock())
        raise KeyRefused(
            f"'{key.kid}' is announced already and signs in {seconds} s: use --now to let it sign at once, or"
            f" 'securus key retire {key.kid}' to drop it"
        )
    seconds = steps.periods.announced
    kid = await steps.create(algorithm, next_number(keys), activates_at=steps.clock() + seconds)
    return Successor(kid, algorithm, seconds)


async def rotate_now(steps: KeySteps, algorithm: str | None = None) -> Successor:
    """Let a successor sign at once: the announced one, else a new one as soon as every node publishes it."""
    algorithm = _configured(steps, algorithm)
    keys, now = await steps.keys(), steps.clock()
    announced = _of(algorithm, in_state(keys, "announced"))
    if not announced:
        activates_at = now + NODES_LEARN_SECONDS
        kid = await steps.create(algorithm, next_number(keys), activates_at=activates_at)
        return Successor(kid, algorithm, NODES_LEARN_SECONDS, is_unknown_to_caches=True)
    key = newest(announced)
    is_new = now - key.created_at < steps.periods.announced
    if key.activates_at <= now + NODES_LEARN_SECONDS:
        return Successor(key.kid, algorithm, max(0, key.activates_at - now), is_new)
    _wait_for_nodes(key, now)
    await steps.move(key, "active")
    return Successor(key.kid, algorithm, 0, is_new)


async def retire(steps: KeySteps, kid: str) -> Ended:
    """End a key before its time: an announced one is dropped, an active one gives place to its announced successor.

    What a retired key signed stays good: it is published as long as any other.
    """
    keys = await steps.keys()
    key = _named(keys, kid)
    if key.state == "announced":
        return await _drop(steps, key)
    if key.state == "retired":
        raise KeyRefused(
            f"'{kid}' is retired already; it is published until nothing that it signed is in use"
        )
    successor = _successor(keys, key)
    if successor.state == "announced":
        _wait_for_nodes(successor, steps.clock())
        await steps.move(successor, "active")
    await steps.move(key, "retired")
    return Ended(kid, "retired", successor.kid)


async def remove(steps: KeySteps, kid: str) -> Ended:
    """Stop publishing a key at once, as one that others know: every token that it signed fails from now on."""
    keys = await steps.keys()
    key = _named(keys, kid)
    if key.state == "announced":
        return await _drop(steps, key)
    successor = None
    if key.state == "active":
        successor = _successor(keys, key)
        if successor.state == "announced":
            # Not even for the nodes that learn of it a moment later may the compromised key go on.
            await steps.move(successor, "active")
    await steps.move(key, "removed")
    return Ended(kid, "removed", successor.kid if successor else None)


async def take_in(steps: KeySteps, private: PrivateKey, *, at_once: bool) -> Successor:
    """Announce a key that came from a file; with at_once it signs as soon as every node publishes it."""
    if not steps.homes.takes_in:
        raise KeyRefused("new keys are made in the PKCS#11 token and stay there: nothing is imported")
    algorithm = algorithm_of(private)
    if algorithm not in steps.algorithms:
        raise KeyRefused(f"the key is for {algorithm}, and keys.algorithms is {', '.join(steps.algorithms)}")
    thumbprint = jose.thumbprint(jose.public_jwk(private, kid="new"))
    for key in await steps.keys():
        if jose.thumbprint(key.public_jwk) == thumbprint:
            raise KeyRefused(f"the key is here already, as '{key.kid}', {key.state}")
    seconds = NODES_LEARN_SECONDS if at_once else steps.periods.announced
    kid = await steps.take_in(private, algorithm, activates_at=steps.clock() + seconds)
    if kid is None:
        raise KeyRefused("another key was made in this moment: try again")
    return Successor(kid, algorithm, seconds, is_unknown_to_caches=at_once)


async def reseal(steps: KeySteps) -> Sequence[str]:
    """Seal every key anew under the encryption key; the kids of those that rested under the other one.

    Row by row: broken off in the middle, it is run again. Raises KeyRingError for a key that neither opens.
    """
    keys = [key for key in await steps.keys() if not steps.homes.is_outside(key)]
    for key in keys:
        steps.homes.sealed.open(key.kid, key.encrypted)  # all, before one is changed
    return [key.kid for key in keys if await steps.reseal(key)]


def _configured(steps: KeySteps, algorithm: str | None) -> str:
    if algorithm is None:
        return steps.algorithms[0]
    if algorithm not in steps.algorithms:
        raise KeyRefused(f"{algorithm} is not in keys.algorithms, which is {', '.join(steps.algorithms)}")
    return algorithm


def _of(algorithm: str, keys: Sequence[StoredKey]) -> list[StoredKey]:
    return [key for key in keys if key.algorithm == algorithm]


def _named(keys: Sequence[StoredKey], kid: str) -> StoredKey:
    for key in keys:
        if key.kid == kid and key.state != "removed":
            return key
    known = ", ".join(key.kid for key in keys if key.state != "removed")
    raise KeyRefused(f"there is no key '{kid}': {known}")


def _successor(keys: Sequence[StoredKey], key: StoredKey) -> StoredKey:
    """Who signs in the place of an active key: another active one, else the announced one. Raises KeyRefused."""
    fitting = _of(key.algorithm, [other for other in keys if other.kid != key.kid])
    for state in ("active", "announced"):
        found = in_state(fitting, state)
        if found:
            return newest(found)
    raise KeyRefused(
        f"'{key.kid}' is the only key that signs {key.algorithm}: run 'securus key rotate --now' first, then this again"
    )


def _wait_for_nodes(key: StoredKey, now: int) -> None:
    missing = key.created_at + NODES_LEARN_SECONDS - now
    if missing > 0:
        raise KeyRefused(f"'{key.kid}' is so new that not every node knows it: try again in {missing} s")


async def _drop(steps: KeySteps, key: StoredKey) -> Ended:
    await steps.move(key, "removed")
    return Ended(key.kid, "removed")

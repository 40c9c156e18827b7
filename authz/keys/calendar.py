"""Which step of a signing key's life is due when. Every node reckons the same from the same keys.

    announced ──activates_at──▶ active ──a newer one is active──▶ retired ──removes_at──▶ removed

The number behind the last dot of a kid says which key came later. A row that was removed stays while its number is
the highest: a kid is never given to a second key, which somebody might take for the first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from authz.protocol.jose import OF_ID_TOKENS
from authz.storage.server_keys import StoredKey

NODES_LEARN_SECONDS = 10
"""In so many seconds every node has read the keys again: two of its rounds."""


@dataclass(frozen=True, slots=True)
class Periods:
    """How long a key is in each state, in seconds."""

    announced: int = 86400  # published before it signs: longer than anybody caches our JWKS
    active: int = 90 * 86400
    # Longer than any token that it signed, and the clocks of all nodes.
    published_after_retirement: int = 86400


@dataclass(frozen=True, slots=True)
class Create:
    """Make a key: the one with this number."""

    algorithm: str
    number: int
    activates_at: int


@dataclass(frozen=True, slots=True)
class Move:
    """Change the state of a key."""

    key: StoredKey
    to_state: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Delete the row of a removed key."""

    key: StoredKey


Step = Create | Move | Forget


def steps_due(
    keys: Sequence[StoredKey],
    *,
    algorithms: Sequence[str],
    periods: Periods,
    now: int,
    is_at_home: Callable[[StoredKey], bool],
) -> list[Step]:
    """The steps to make now; none when all is as it should be. Of algorithms the first is the default.

    is_at_home says whether a key lives where new ones are made: another one is succeeded as if its time were over.
    """
    active, announced = in_state(keys, "active"), in_state(keys, "announced")
    # A key that signs ID tokens only stands in for no other.
    signing_all, announced_for_all = for_everything(active), for_everything(announced)
    if not signing_all and not announced_for_all:
        # Nobody has cached our JWKS yet: the very first keys sign at once.
        there = {key.algorithm for key in (*active, *announced)}
        missing = [algorithm for algorithm in algorithms if algorithm not in there]
        first = next_number(keys)
        return [Create(algorithm, first + place, now) for place, algorithm in enumerate(missing)]
    if not signing_all:
        # Somebody took the active keys away: a successor cannot wait.
        wanted = [key for key in announced_for_all if key.algorithm == algorithms[0]]
        return [Move(newest(wanted or announced_for_all), "active")]
    steps: list[Step] = [Move(key, "active") for key in announced if key.activates_at <= now]
    number = next_number(keys)
    # Another node is making the very first keys in this moment: those that are still missing sign at once, too.
    is_first_start = all(key.created_at > now - NODES_LEARN_SECONDS for key in keys)
    for algorithm in algorithms:
        if any(key.algorithm == algorithm for key in announced):
            continue
        signing = [key for key in active if key.algorithm == algorithm]
        if signing:
            current = newest(signing)
            if is_at_home(current) and current.retires_at - periods.announced > now:
                continue
        at_once = is_first_start and not signing
        # Apps that get an ID token look up its key then: the first one waits for our own nodes only.
        is_first = algorithm in OF_ID_TOKENS and not signing
        announced_for = NODES_LEARN_SECONDS if is_first else periods.announced
        steps.append(Create(algorithm, number, now if at_once else now + announced_for))
        number += 1
    return [*steps, *_endings(keys, active, algorithms, now)]


def _endings(
    keys: Sequence[StoredKey], active: Sequence[StoredKey], algorithms: Sequence[str], now: int
) -> list[Step]:
    """Retire what has a successor, remove what nobody needs, forget what was removed."""
    has_default = any(key.algorithm == algorithms[0] for key in active)
    steps: list[Step] = []
    for key in active:
        latest = newest([other for other in active if other.algorithm == key.algorithm])
        if key.kid != latest.kid or (key.algorithm not in algorithms and has_default):
            steps.append(Move(key, "retired"))
    steps += [Move(key, "removed") for key in in_state(keys, "retired") if key.removes_at <= now]
    highest = next_number(keys) - 1
    steps += [Forget(key) for key in in_state(keys, "removed") if number_of(key.kid) < highest]
    return steps


def signing_keys(keys: Sequence[StoredKey], algorithms: Sequence[str]) -> dict[str, StoredKey]:
    """The key that signs for each algorithm, the default's first; without one for it, the newest of another.

    Those for ID tokens only are not among them: keys_of_id_tokens() tells these.
    """
    active = for_everything(in_state(keys, "active"))
    found = {}
    for algorithm in algorithms:
        fitting = [key for key in active if key.algorithm == algorithm]
        if fitting:
            found[algorithm] = newest(fitting)
    if active and algorithms[0] not in found:
        # The default was changed a moment ago and its key is not announced long enough: the former one goes on.
        stand_in = newest([key for key in active if key.algorithm not in algorithms] or active)
        found = {stand_in.algorithm: stand_in, **found}
    return found


def keys_of_id_tokens(keys: Sequence[StoredKey], algorithms: Sequence[str]) -> dict[str, StoredKey]:
    """The key that signs nothing but ID tokens, for each such algorithm that has an active one."""
    active = in_state(keys, "active")
    found = {}
    for algorithm in algorithms:
        fitting = [key for key in active if key.algorithm == algorithm]
        if algorithm in OF_ID_TOKENS and fitting:
            found[algorithm] = newest(fitting)
    return found


def for_everything(keys: Sequence[StoredKey]) -> list[StoredKey]:
    """The keys that are not for ID tokens only."""
    return [key for key in keys if key.algorithm not in OF_ID_TOKENS]


def in_state(keys: Sequence[StoredKey], state: str) -> list[StoredKey]:
    """The keys in that state."""
    return [key for key in keys if key.state == state]


def newest(keys: Sequence[StoredKey]) -> StoredKey:
    """The key that came last; there is at least one."""
    return max(keys, key=lambda key: (number_of(key.kid), key.activates_at))


def next_number(keys: Sequence[StoredKey]) -> int:
    """The number of the next key."""
    return 1 + max((number_of(key.kid) for key in keys), default=0)


def number_of(kid: str) -> int:
    """The number behind the last dot; 0 without one."""
    number = kid.rpartition(".")[2]
    return int(number) if number.isdecimal() and number.isascii() else 0

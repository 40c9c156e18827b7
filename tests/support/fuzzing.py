"""A fuzzer that knows JSON and keeps what reaches new code: coverage by sys.settrace, no dependency, any machine.

The native fuzzers have wheels for few machines. What they gain in speed matters less here than a run that every
machine makes and that one seed repeats.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from random import Random
from types import FrameType
from typing import Any, Generic, TypeVar

S = TypeVar("S")
Edge = tuple[int, int, int]


class Raw(str):
    """JSON text that stands in a tree as it is."""


class Members(list[tuple[str, Any]]):
    """A JSON object as its members in order, in which a name may come twice."""


def tree(value: object) -> Any:
    """The value with every object as Members."""
    if isinstance(value, dict):
        return Members((name, tree(each)) for name, each in value.items())
    return [tree(each) for each in value] if isinstance(value, list | tuple) else value


def text(node: Any) -> str:
    """The JSON text of a tree."""
    if isinstance(node, Raw):
        return str(node)
    if isinstance(node, Members):
        return "{" + ",".join(f"{json.dumps(name)}:{text(each)}" for name, each in node) + "}"
    return "[" + ",".join(map(text, node)) + "]" if isinstance(node, list) else json.dumps(node)


HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 0.5, 1e300, 2**31, 2**53, 2**53 - 1, 2**63, 2**64, -(2**53), "", " ", "x", "none", "None",
    "HS256", "RS256", "ES256", "ES384", "EdDSA", "Ed25519", "Ed448", "PS256", "sig", "enc", "verify", "EC", "OKP", "RSA",
    "oct", "P-256", "P-384", "dpop+jwt", "DPOP+JWT", "jwt", "at+jwt", "application/dpop+jwt", "\x00", "é", "a\nb", '"\\',
    "\U0001f600", "x" * 129, "x" * 5000, [], Members(), [None], [[]], Members([("a", 1), ("a", 2)]), Raw("NaN"),
    Raw("Infinity"), Raw("-Infinity"), Raw("1e999"), Raw("-0"), Raw("01"), Raw('"\\ud800"'), Raw('"\\udc00\\ud800"'),
    Raw("9" * 400), Raw("9" * 5000), Raw("1." + "0" * 400), Raw("[" * 40 + "]" * 40), Raw('{"a":' * 40 + "1" + "}" * 40),
    Raw('{"a":1,"a":1}'), Raw(""), Raw("'x'"), Raw("undefined"), Raw("\ufeff1"),
)  # fmt: skip
NAMES = (
    "alg", "typ", "cty", "kid", "jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "kty", "crv", "x", "y", "n", "e", "d", "p",
    "k", "oth", "use", "key_ops", "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "htm", "htu", "ath", "nonce", "request",
    "request_uri", "client_id", "scope", "state", "claims", "authorization_details", "max_age", "resource", "",
)  # fmt: skip


def mutated(node: Any, random: Random) -> Any:
    """The tree with one change, somewhere in it."""
    if isinstance(node, Members) and random.random() < 0.9:
        return _changed_members(node, random)
    if isinstance(node, list) and node and random.random() < 0.7:
        place = random.randrange(len(node))
        return [*node[:place], mutated(node[place], random), *node[place + 1 :]]
    return _changed_value(node, random)


def _changed_members(node: Members, random: Random) -> Members:
    found = Members(node)
    deed = random.randrange(6)
    if deed == 0 or not found:
        found.insert(random.randint(0, len(found)), (random.choice(NAMES), random.choice(HOSTILE)))
        return found
    place = random.randrange(len(found))
    name, value = found[place]
    if deed == 1:
        del found[place]
    elif deed == 2:
        found.insert(random.randint(0, len(found)), (name, random.choice((value, random.choice(HOSTILE)))))
    elif deed == 3:
        found[place] = (random.choice((name.upper(), name + " ", random.choice(NAMES))), value)
    else:
        found[place] = (name, mutated(value, random))
    return found


def _changed_value(value: Any, random: Random) -> Any:
    deed = random.randrange(4)
    if deed == 0 and isinstance(value, int | float) and not isinstance(value, bool):
        return value + random.choice(
            (-3600, -301, -61, -60, -11, -10, -1, 1, 10, 11, 60, 61, 300, 301, 3600, 0.5)
        )
    if deed == 0 and isinstance(value, str) and value:
        place = random.randrange(len(value))
        other = random.choice((value[place].swapcase(), "", "A", "=", "-", "_", "/", "%", "\u00e9", " "))
        return value[:place] + other + value[place + 1 :]
    if deed == 1 and isinstance(value, str):
        return random.choice(
            (value + "=", value.upper(), value + value, value[:-1], [value], f" {value}", f"{value}/")
        )
    return random.choice(HOSTILE)


@dataclass(frozen=True)
class Target(Generic[S]):
    """What is fuzzed.

    seeds   what it begins with, each with whether it must be accepted
    mutate  makes a sample of two others
    run     whether the sample is accepted; raises AssertionError, or whatever the code should not have raised
    """

    name: str
    seeds: Sequence[tuple[S, bool]]
    mutate: Callable[[S, S, Random], S]
    run: Callable[[S], bool]


@dataclass(frozen=True)
class Outcome:
    """What a run was: samples tried, how many of them were accepted, and samples that reached something new."""

    tried: int
    accepted: int
    kept: int


def fuzz(
    target: Target[S], *, seed: int, code: str, seconds: float = 0.0, at_most: int | None = None
) -> Outcome:
    """Try the seeds, then mutations of what reached new code in files whose path holds code, until the time is up.

    Raises AssertionError that names seed, count and sample.
    """
    random = Random(f"{target.name}:{seed}")
    corpus: list[S] = []
    edges: set[Edge] = set()
    accepted = 0
    deadline = 0.0
    for number in count():
        is_seed = number < len(target.seeds)
        if number <= len(target.seeds):
            deadline = (
                time.monotonic() + seconds
            )  # the time is that of the search; one mutation is tried at least
        elif number == at_most if at_most is not None else time.monotonic() >= deadline:
            return Outcome(number, accepted, len(corpus))
        if is_seed:
            sample, expected = target.seeds[number]
        else:
            # Half of the time what was found last: it is the furthest in.
            newest = corpus[-20:] if random.random() < 0.5 else corpus
            sample, expected = target.mutate(random.choice(newest), random.choice(corpus), random), None
        try:
            with _edges(code) as reached:
                taken = target.run(sample)
            assert expected is None or taken == expected, (
                f"seed {number} was {'taken' if taken else 'refused'}"
            )
        except Exception as error:
            said = f"{target.name}, seed {seed}, sample {number}: {type(error).__name__}: {error}\n{sample!r}"
            raise AssertionError(said) from error
        accepted += taken
        if is_seed or not reached <= edges:
            edges |= reached
            corpus.append(sample)
    raise AssertionError("unreachable")


@contextmanager
def _edges(code: str) -> Iterator[set[Edge]]:
    """The pairs of lines that ran one after the other, in files whose path holds code."""
    found: set[Edge] = set()
    if sys.gettrace() is not None:  # a debugger or a coverage tool is at work: then without guidance
        yield found
        return
    wanted: dict[int, bool] = {}

    def enter(frame: FrameType, event: str, argument: object) -> Any:
        key = id(frame.f_code)
        if key not in wanted:
            wanted[key] = code in frame.f_code.co_filename
        return _lines(key, found) if wanted[key] else None

    sys.settrace(enter)
    try:
        yield found
    finally:
        sys.settrace(None)


def _lines(key: int, found: set[Edge]) -> Any:
    last = 0

    def line(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal last
        found.add((key, last, frame.f_lineno))
        last = frame.f_lineno
        return line

    return line

"""Network namespaces of the tests' own: a node in each, joined to us by two links of which each can be cut by itself.

By the link in front callers come and the charts are reached, by the link behind it the store and the cache. Addresses
are of RFC 2544, which no network uses, and of which others on this machine may have taken some. Whoever may make no
namespace skips, in CI too: not every machine of a build lets its containers do so.
"""

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

_NOBODY = "02:00:00:00:00:99"


class Cut(StrEnum):
    """How the link behind a node fails.

    down   it is taken down: nothing passes, and the node sees it
    deaf   what the store answers goes to nobody; questions arrive
    mute   what the node asks goes to nobody; nobody sees that
    """

    DOWN = "down"
    DEAF = "deaf"
    MUTE = "mute"


@dataclass(frozen=True)
class Namespace:
    """The namespace of a node. Made by namespaces()."""

    number: int
    name: str
    third: int  # the third number of its addresses

    @property
    def node(self) -> str:
        """The address at which callers reach it."""
        return f"198.18.{self.third}.2"

    @property
    def front(self) -> str:
        """Our address at the link in front."""
        return f"198.18.{self.third}.1"

    @property
    def behind(self) -> str:
        """Our address at the link behind."""
        return f"198.19.{self.third}.1"

    def within(self, *command: str) -> tuple[str, ...]:
        """The command that runs this one in it."""
        return ("ip", "netns", "exec", self.name, *command)

    @contextmanager
    def cut(self, how: Cut) -> Iterator[None]:
        """Cut the link behind it, for as long as this lasts."""
        ours, theirs = _ends(self, "b")
        peer = f"198.19.{self.third}.2"
        match how:
            case Cut.DOWN:
                begin, end = (f"ip link set {ours} down",), (f"ip link set {ours} up",)
            case Cut.DEAF:
                begin = (f"ip neigh replace {peer} lladdr {_NOBODY} dev {ours} nud permanent",)
                end = (f"ip neigh del {peer} dev {ours}",)
            case Cut.MUTE:
                begin = (
                    f"ip -n {self.name} neigh replace {self.behind} lladdr {_NOBODY} dev {theirs} nud permanent",
                )
                end = (f"ip -n {self.name} neigh del {self.behind} dev {theirs}",)
        _run(*begin)
        try:
            yield
        finally:
            _run(*end)


@contextmanager
def namespaces(count: int) -> Iterator[list[Namespace]]:
    """So many, with their links. Skips where none can be made."""
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need iproute2: ip is not installed")
    _remove_stale()
    with ExitStack() as stack:
        found = []
        used = set(map(int, re.findall(r"inet 198\.1[89]\.(\d+)\.", _run("ip -o -4 address"))))
        free = [third for third in range(256) if third not in used]
        for number, third in enumerate(random.sample(free, count)):
            place = Namespace(number, f"securus-{os.getpid()}-{number}", third)
            try:
                _run(f"ip netns add {place.name}")
            except RuntimeError as error:
                pytest.skip(f"no network namespace can be made here: {error}")
            stack.callback(_remove, place)
            try:
                _join(place)
            except RuntimeError as error:
                pytest.skip(f"a network namespace cannot be joined here: {error}")
            found.append(place)
        yield found


def _join(place: Namespace) -> None:
    _run(f"ip -n {place.name} link set lo up")
    for side, prefix in (("f", "198.18"), ("b", "198.19")):
        ours, theirs = _ends(place, side)
        _run(
            f"ip link add {ours} type veth peer name {theirs} netns {place.name}",
            f"ip address add {prefix}.{place.third}.1/30 dev {ours}",
            f"ip link set {ours} up",
            f"ip -n {place.name} address add {prefix}.{place.third}.2/30 dev {theirs}",
            f"ip -n {place.name} link set {theirs} up",
        )


def _remove_stale() -> None:
    """Those of tests that were killed: their links go with them."""
    for name, pid in re.findall(r"^(securus-(\d+)-\d+)\b", _run("ip netns list"), re.M):
        if not Path(f"/proc/{pid}").exists():
            with suppress(RuntimeError):
                _run(f"ip netns delete {name}")


def _remove(place: Namespace) -> None:
    """The links go with the namespace, ours by hand first: the kernel takes its time."""
    for side in ("f", "b"):
        with suppress(RuntimeError):
            _run(f"ip link delete {_ends(place, side)[0]}")
    with suppress(RuntimeError):
        _run(f"ip netns delete {place.name}")


def _ends(place: Namespace, side: str) -> tuple[str, str]:
    """The names of the two ends of a link, of at most 15 characters."""
    return f"sec{os.getpid() % 100_000}{side}{place.number}", f"{side}0"


def _run(*commands: str) -> str:
    """What the last of them printed. Raises RuntimeError."""
    said = ""
    for command in commands:
        done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip() or command)
        said = done.stdout
    return said

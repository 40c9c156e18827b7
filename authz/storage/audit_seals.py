"""What proves the audit log, as a store keeps it: signed tree heads, stubs of what was retired, keys, legal holds.

Heads and stubs are only ever added. A stub stands for a range of lines: lines that a stub stands for, and no others,
can be removed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TreeHead:
    """A signed tree head. frontier is what the next one is reckoned from; it is not signed, its root is."""

    number: int  # 1, 2, ... without gaps, over all chains
    head: bytes  # a compact JWS
    frontier: bytes


@dataclass(frozen=True, slots=True)
class Stub:
    """What stands for the lines first ... last of a chain."""

    chain: str
    first: int
    last: int
    stub: bytes  # a compact JWS


@dataclass(frozen=True, slots=True)
class AuditKey:
    """A key that signs heads and stubs; the one of the highest number does so now."""

    number: int
    kid: str
    algorithm: str
    encrypted: bytes
    public_jwk: Mapping[str, object]
    created_at: int


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold: no line of these days is retired while it lasts. Times are seconds since 1970."""

    id: str
    since: int
    until: int
    why: str
    by: str
    created_at: int
    ended_at: int | None = None


class AuditSealStore(Protocol):
    """The part of the Store that keeps it. What holds for every method of a Store holds for these."""

    async def add_tree_head(self, head: TreeHead) -> bool:
        """Add a head; False, and nothing written, when its number is not the newest + 1."""
        ...

    async def tree_heads(self, *, after: int, limit: int) -> Sequence[TreeHead]:
        """Heads after that number, in their order."""
        ...

    async def newest_tree_head(self) -> TreeHead | None: ...

    async def add_stub(self, stub: Stub) -> bool:
        """Add a stub; False, and nothing written, when one of the chain stands for some of its lines."""
        ...

    async def stubs(self, chain: str) -> Sequence[Stub]:
        """The stubs of a chain, in the order of their lines."""
        ...

    async def remove_stubbed(self, stub: Stub, *, limit: int) -> int:
        """Remove at most so many lines of those that a stub of the store stands for; how many were there."""
        ...

    async def add_audit_key(self, key: AuditKey) -> bool:
        """Add a key; False when there is one of this number."""
        ...

    async def audit_keys(self) -> Sequence[AuditKey]:
        """Every key, the oldest first."""
        ...

    async def reseal_audit_key(self, number: int, *, expected: bytes, encrypted: bytes) -> bool:
        """Replace the encrypted part of a key in one statement; False when it was not the expected one."""
        ...

    async def put_hold(self, hold: Hold) -> None: ...
    async def end_hold(self, id: str, *, now: int) -> bool:
        """False when there is none of this id that lasts."""
        ...

    async def holds(self) -> Sequence[Hold]:
        """Every hold, also those that ended, the oldest first."""
        ...

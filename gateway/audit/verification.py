"""Walking the audit log: every record of every chain, every signed head, every stub; what is broken, and where.

What each finds: the chain a record that was changed, dropped, moved or put in; the heads one that was changed together
with all behind it, and a chain that vanished; the links of the heads, and the records that name them, a head that was
changed or dropped. What nobody has signed yet, and a log that was set back as a whole, is found by heads that were
kept elsewhere.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from authz.protocol.encoding import base64url
from authz.storage.audit_lines import AuditLine
from authz.storage.audit_seals import Stub, TreeHead
from gateway.audit.heads import (
    BadSeal,
    ChainState,
    Head,
    PublicKeys,
    Retired,
    digest_of,
    read_head,
    read_stub,
)
from gateway.audit.lines import Place, fault, genesis, place_of
from gateway.audit.merkle import Tree, leaf_hash

_PAGE_LINES = 1000
_PAGE_HEADS = 500


class AuditSource(Protocol):
    """Where a log is read: a store, or an export. Every method means what it means at Store."""

    async def chains(self) -> Sequence[str]: ...
    async def audit_head(self, chain: str = "") -> tuple[int, bytes] | None: ...
    async def audit(self, *, after: int, limit: int, chain: str = "") -> Sequence[AuditLine]: ...
    async def tree_heads(self, *, after: int, limit: int) -> Sequence[TreeHead]: ...
    async def stubs(self, chain: str) -> Sequence[Stub]: ...


@dataclass(frozen=True, slots=True)
class Verification:
    """What a walk over the log found.

    records   that are whole, those that a stub stands for included
    broken_at sequence of the first record that is not, in that chain
    head      number of the signed head that is broken, or that shows what is broken
    heads     signed heads that are whole
    retired   records that a stub stands for
    """

    whole: bool
    records: int
    broken_at: int | None = None
    why: str = ""
    chain: str = ""
    heads: int = 0
    head: int | None = None
    retired: int = 0


class _Broken(Exception):
    def __init__(self, why: str, *, at: int | None = None, head: int | None = None) -> None:
        super().__init__(why)
        self.why, self.at, self.head = why, at, head


async def verify(
    source: AuditSource, keys: PublicKeys | None = None, *, elsewhere: Mapping[int, bytes] | None = None
) -> Verification:
    """Walk the whole log, a live one too, and name the first thing that is missing, changed or out of place.

    keys are those that may have signed; without them signatures are not looked at. elsewhere are heads that were kept
    outside the store, by number: each must be there, as it was. Raises StoreUnavailable.
    """
    records = retired = 0
    chain, heads, newest = "", 0, None
    try:
        async for newest in _linked_heads(source, keys, elsewhere or {}):
            heads = newest.number
        late = [number for number in elsewhere or {} if number > heads]
        if late:
            raise _Broken(f"head {min(late)} was kept elsewhere and is missing here", head=min(late))
        names = sorted({*await source.chains(), *(newest.chains if newest else ())})
        for chain in names:
            walk = _Walk(source, keys, chain, heads)
            try:
                await walk.run()
            finally:
                records, retired = records + walk.sequence, retired + walk.retired
    except _Broken as broken:
        return Verification(False, records, broken.at, broken.why, chain, heads, broken.head, retired)
    return Verification(True, records, heads=heads, retired=retired)


async def _linked_heads(
    source: AuditSource, keys: PublicKeys | None, elsewhere: Mapping[int, bytes]
) -> AsyncIterator[Head]:
    """Every head in order, each checked against the one before. Raises _Broken."""
    number, previous, former = 0, b"", None
    while rows := await source.tree_heads(after=number, limit=_PAGE_HEADS):
        for row in rows:
            number += 1
            head = _opened_head(row, keys, number)
            if head.previous != previous:
                raise _Broken(f"head {number} does not follow the one before it", head=number)
            if elsewhere.get(number, row.head) != row.head:
                raise _Broken(f"head {number} is not the one that was kept elsewhere", head=number)
            if former is not None:
                _must_grow(former, head)
            previous, former = digest_of(row.head), head
            yield head
        await asyncio.sleep(0)


def _opened_head(row: TreeHead, keys: PublicKeys | None, number: int) -> Head:
    if row.number != number:
        raise _Broken(f"head {number} is missing: head {row.number} comes next", head=number)
    try:
        head = read_head(row.head, keys)
    except BadSeal as error:
        raise _Broken(f"head {number} was changed, or not signed by us: {error}", head=number) from error
    if head.number != number:
        raise _Broken(f"head {head.number} stands in the place of head {number}", head=number)
    return head


def _must_grow(former: Head, head: Head) -> None:
    for name, state in former.chains.items():
        after = head.chains.get(name)
        if after is None or after.size < state.size or (after.size == state.size and after != state):
            raise _Broken(f"head {head.number} does not go on from the one before it", head=head.number)


class _Walk:
    """The walk over one chain."""

    def __init__(self, source: AuditSource, keys: PublicKeys | None, chain: str, heads: int) -> None:
        self._source = source
        self._keys = keys
        self._chain = chain
        self._states = _states(source, chain, heads)
        self._next: tuple[int, ChainState] | None = None
        self._agreed = 0  # so many records are as a head has them
        self._tree = Tree()
        self._digest = genesis(chain)
        self._stubs: list[Stub] = []
        self.sequence = 0
        self.retired = 0

    async def run(self) -> None:
        """Raises _Broken. sequence and retired say how far it came."""
        before = await self._source.audit_head(self._chain)
        self._next = await anext(self._states, None)
        await self._read_stubs()
        goes_on = True
        while goes_on:
            goes_on = await self._step(before)
            await asyncio.sleep(0)
        if before is not None and self.sequence < before[0]:
            raise self._missing(f"the log ends at {self.sequence}, its head says {before[0]}")
        if self._next is not None:
            number, state = self._next
            raise self._missing(
                f"the log ends at {self.sequence}, head {number} has {state.size}", head=number
            )
        newest = await self._source.audit_head(self._chain)  # it has moved when records came during the walk
        known = 0 if newest is None else newest[0]
        if self.sequence > known:
            self.sequence = known
            raise self._broken(f"record {known + 1} is not known to the head of the log, which says {known}")

    async def _step(self, before: tuple[int, bytes] | None) -> bool:
        """One page of records, or one stub. False at the end."""
        if self._stubs and self._stubs[0].first == self.sequence + 1:
            await self._retire(self._stubs.pop(0))
            return True
        lines = await self._source.audit(chain=self._chain, after=self.sequence, limit=_PAGE_LINES)
        if not lines or lines[0].sequence != self.sequence + 1:
            await self._read_stubs()  # it may have come since
            if self._stubs and self._stubs[0].first == self.sequence + 1:
                return True
        for line in lines:
            if self._stubs and self._stubs[0].first == self.sequence + 1:
                return True
            await self._check(line, before)
        return bool(lines)

    async def _check(self, line: AuditLine, before: tuple[int, bytes] | None) -> None:
        place = place_of(line.line)
        why = fault(line, place, self.sequence + 1, self._digest)
        if why is None and before is not None and line.sequence == before[0] and line.digest != before[1]:
            why = f"record {line.sequence} is not the one that the head of the log names"
        if why is None and place is not None and place.event == "audit-head":
            await self._check_named(place)
        if why is not None or line.chain != self._chain:
            raise self._broken(why or f"record {line.sequence} is of another chain")
        self._tree.add(leaf_hash(line.line))
        self.sequence, self._digest = line.sequence, line.digest
        await self._compare()

    async def _check_named(self, place: Place) -> None:
        """The head that a record names is there: heads cannot be cut off unnoticed."""
        found = await self._source.tree_heads(after=place.head - 1, limit=1)
        if not found or found[0].number != place.head:
            raise _Broken(f"head {place.head} is missing: record {place.seq} tells of it", head=place.head)
        if base64url(digest_of(found[0].head)) != place.digest:
            raise _Broken(
                f"head {place.head} is not the one that record {place.seq} tells of", head=place.head
            )

    async def _compare(self) -> None:
        """Compare with the head that covers the records up to here, where one does."""
        while self._next is not None and self._next[1].size <= self.sequence:
            number, state = self._next
            if state.size == self.sequence:  # else it lies within retired records
                if (state.root, state.digest) != (self._tree.root(), self._digest):
                    first, self.sequence = self._agreed + 1, self._agreed
                    raise self._broken(
                        f"records {first} to {state.size} are not those of head {number}: one was changed",
                        head=number,
                    )
                self._agreed = self.sequence
            self._next = await anext(self._states, None)

    async def _retire(self, row: Stub) -> None:
        """Go on over the records that a stub stands for."""
        place = f"the stub of records {row.first} to {row.last}"
        try:
            stub = read_stub(row.stub, self._keys)
        except BadSeal as error:
            raise self._broken(f"{place} was changed, or not signed by us: {error}") from error
        if (stub.chain, stub.first, stub.last) != (self._chain, row.first, row.last):
            raise self._broken(f"{place} is one of records {stub.first} to {stub.last} of '{stub.chain}'")
        if stub.before != self._digest:
            raise self._broken(f"{place} does not follow the record before it")
        self._add(stub)
        self.sequence, self._digest = stub.last, stub.after
        self.retired += stub.last - stub.first + 1
        await self._compare()

    def _add(self, stub: Retired) -> None:
        try:
            for subtree in stub.subtrees:
                self._tree.add_subtree(subtree)
        except ValueError as error:
            raise self._broken(f"the stub of records {stub.first} to {stub.last}: {error}") from error

    async def _read_stubs(self) -> None:
        found = await self._source.stubs(self._chain)
        self._stubs = [each for each in found if each.first > self.sequence]

    def _missing(self, why: str, *, head: int | None = None) -> _Broken:
        return self._broken(f"record {self.sequence + 1} is missing: {why}", head=head)

    def _broken(self, why: str, *, head: int | None = None) -> _Broken:
        return _Broken(why, at=self.sequence + 1, head=head)


async def _states(source: AuditSource, chain: str, heads: int) -> AsyncIterator[tuple[int, ChainState]]:
    """How far each head says that the chain went, each size once, by heads whose links were checked."""
    number, size = 0, 0
    while number < heads and (rows := await source.tree_heads(after=number, limit=_PAGE_HEADS)):
        for row in rows:
            number = row.number
            if number > heads:
                return
            try:
                state = read_head(row.head, None).chains.get(chain)
            except BadSeal as error:
                raise _Broken(f"head {number} was changed during the walk", head=number) from error
            if state is not None and state.size > size:
                size = state.size
                yield number, state

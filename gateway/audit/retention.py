"""Retiring records whose time is over: a signed stub takes their place, so that everything else can still be proven.

Only whole stretches between two signed heads are retired, each compared with the heads around it first; a stretch with
one record that must stay, for its age, for a legal hold or for who has not read it yet, stays as a whole. The stub is
durable before the first record goes, and records go in small batches: ended at any moment, it goes on from there.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from authz.keys.encryption_key import KeyRingError
from authz.storage.audit_seals import Hold, Stub
from authz.storage.store import Store, StoreUnavailable
from gateway.audit.following import ChainBroken
from gateway.audit.heads import (
    BadSeal,
    ChainState,
    Head,
    PublicKeys,
    Retired,
    read_head,
    read_stub,
    sign_stub,
)
from gateway.audit.keys import AuditKeys
from gateway.audit.lines import fault, genesis, place_of
from gateway.audit.log import AuditLog, AuditUnavailable
from gateway.audit.merkle import Subtree, Tree, leaf_hash, subtrees_of

_PAGE_LINES = 100
_PAGE_HEADS = 100
_REMOVED_AT_ONCE = 200
_MOST_RECORDS = 20_000  # of one stub, where one stretch is not longer
_MOST_LEAP_SECONDS = 3600.0
_log = logging.getLogger("securus.audit")


class _At(msgspec.Struct):
    at: str


_read_at = msgspec.json.Decoder(_At).decode


@dataclass(slots=True)
class _Place:
    """How far a chain was looked at: behind that record, its digest and that head."""

    sequence: int
    digest: bytes
    head: int = 0


@dataclass(slots=True)
class _Going:
    """Stretches that go together into one stub."""

    first: int
    before: bytes
    leaves: list[bytes] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.first + len(self.leaves) - 1

    def subtrees(self) -> Sequence[Subtree]:
        found = []
        for begin, end in subtrees_of(self.first - 1, self.last):
            tree = Tree()
            for leaf in self.leaves[begin - self.first + 1 : end - self.first + 1]:
                tree.add(leaf)
            found.append(Subtree((end - begin).bit_length() - 1, tree.root()))
        return found


class Retention:
    """Retires what is older than a period. One process of all does so."""

    def __init__(
        self,
        *,
        store: Store,
        log: AuditLog,
        keys: AuditKeys,
        period_seconds: int,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        read_to: Callable[[str], Awaitable[int]] | None = None,
        retired: Callable[[int], None] = lambda records: None,
        ended: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        """read_to tells the last record of a chain that all who follow the log have read.

        retired is told of how many records a stub stands from now on, ended how each round went: 'done', 'clock' (it
        jumped: nothing is retired until the next start), 'broken' (the log is not whole: nothing is), 'unavailable'.
        """
        self._retired = retired
        self._ended = ended
        self._read_to = read_to
        self._store = store
        self._log = log
        self._keys = keys
        self._period = period_seconds
        self._clock = clock
        self._monotonic = monotonic
        self._began = clock() - monotonic()  # stays so while the clock does not jump
        self._places: dict[str, _Place] = {}
        self._holds: Sequence[Hold] = ()
        self._emptied: set[tuple[str, int]] = set()

    async def round(self) -> None:
        """Retire at most one stub's records of each chain. Raises StoreUnavailable, AuditUnavailable."""
        try:
            outcome = await self._round()
        except (StoreUnavailable, AuditUnavailable):
            self._ended("unavailable")
            raise
        self._ended(outcome)

    async def _round(self) -> str:
        leap = self._clock() - self._monotonic() - self._began
        if abs(leap) > _MOST_LEAP_SECONDS:
            _log.error(
                "the clock jumped: nothing is retired until the next start", extra={"count": int(leap)}
            )
            return "clock"
        holds = [hold for hold in await self._store.holds() if hold.ended_at is None]
        if holds != self._holds:
            self._holds, self._places = holds, {}  # what was held may go now
        try:
            await self._keys.load()
            for chain in await self._store.chains():
                await self._retire(chain)
        except (ChainBroken, BadSeal) as error:
            _log.error("the audit log is not whole: nothing is retired", extra={"cause": str(error)})
            return "broken"
        except KeyRingError as error:
            raise StoreUnavailable(str(error)) from error
        return "done"

    async def _retire(self, chain: str) -> None:
        place = self._places.setdefault(chain, _Place(0, genesis(chain)))
        stubs = list(await self._store.stubs(chain))
        for stub in stubs:
            await self._empty(stub)
        going: _Going | None = None
        until = _text(self._clock() - self._period)
        read_to = None if self._read_to is None else await self._read_to(chain)
        async for head, state in _states(self._store, chain, place.head, self._keys.public):
            while stubs and stubs[0].first <= place.sequence + 1:
                await self._stub(chain, going, place)  # what was held between two stubs
                going = None
                _pass(stubs.pop(0), place, self._keys.public)
            if state.size <= place.sequence:
                place.head = head.number
                continue
            if stubs and stubs[0].first <= state.size:
                raise ChainBroken(f"a stub of chain '{chain}' begins where no head does")
            if head.at >= until or (read_to is not None and state.size > read_to):
                break
            leaves, newest, is_held = await self._stretch(chain, place, state)
            if newest >= until:
                break
            if is_held:
                await self._stub(chain, going, place)
                going = None
            else:
                going = going or _Going(place.sequence + 1, place.digest)
                going.leaves += leaves
            self._places[chain] = place = _Place(state.size, state.digest, head.number)
            if going is not None and len(going.leaves) >= _MOST_RECORDS:
                break
        await self._stub(chain, going, place)

    async def _stretch(self, chain: str, place: _Place, state: ChainState) -> tuple[list[bytes], str, bool]:
        """The leaves up to a head, the newest time among them, and whether one is held. Raises ChainBroken."""
        sequence, digest, newest, is_held = place.sequence, place.digest, "", False
        held = [(_text(hold.since), _text(hold.until)) for hold in self._holds]
        leaves: list[bytes] = []
        while sequence < state.size:
            limit = min(_PAGE_LINES, state.size - sequence)
            lines = await self._store.audit(chain=chain, after=sequence, limit=limit)
            if not lines:
                raise ChainBroken(f"record {sequence + 1} of chain '{chain}' is missing")
            for line in lines:
                why = fault(line, place_of(line.line), sequence + 1, digest)
                if why is not None:
                    raise ChainBroken(f"chain '{chain}': {why}")
                at = _read_at(line.line).at
                newest = max(newest, at)
                is_held = is_held or any(since <= at < until for since, until in held)
                leaves.append(leaf_hash(line.line))
                sequence, digest = line.sequence, line.digest
            await asyncio.sleep(0)
        if digest != state.digest:
            raise ChainBroken(f"records up to {state.size} of chain '{chain}' are not those that were signed")
        return leaves, newest, is_held

    async def _stub(self, chain: str, going: _Going | None, place: _Place) -> None:
        """Put the stub in the place of records, and let them go."""
        if going is None:
            return
        said = Retired(
            chain, going.first, going.last, going.before, place.digest, going.subtrees(), place.head,
            _text(self._clock()),
        )  # fmt: skip
        stub = Stub(chain, going.first, going.last, await sign_stub(said, await self._keys.signer()))
        if not await self._store.add_stub(stub):
            raise ChainBroken(f"another stub stands for records of chain '{chain}' from {going.first} on")
        self._retired(stub.last - stub.first + 1)
        await self._log.record(
            {"event": "records-retired", "chain": chain, "first": stub.first, "last": stub.last}
        )
        await self._empty(stub)

    async def _empty(self, stub: Stub) -> None:
        """Remove what a stub stands for, in small batches; also what a process that was ended left."""
        if (stub.chain, stub.first) in self._emptied:
            return
        said = read_stub(stub.stub, self._keys.public)  # nothing goes for a stub that is not ours
        if (said.chain, said.first, said.last) != (stub.chain, stub.first, stub.last):
            raise BadSeal(f"the stub of records {stub.first} to {stub.last} is that of others")
        removed = _REMOVED_AT_ONCE
        while removed:
            removed = await self._store.remove_stubbed(stub, limit=_REMOVED_AT_ONCE)
            await asyncio.sleep(0)
        self._emptied.add((stub.chain, stub.first))


def _pass(stub: Stub, place: _Place, keys: PublicKeys) -> None:
    """Go on behind a stub."""
    if stub.last > place.sequence:
        place.sequence, place.digest = stub.last, read_stub(stub.stub, keys).after


async def _states(
    store: Store, chain: str, after: int, keys: PublicKeys
) -> AsyncIterator[tuple[Head, ChainState]]:
    """The heads after that number that say how far the chain went. Raises BadSeal."""
    while rows := await store.tree_heads(after=after, limit=_PAGE_HEADS):
        for row in rows:
            head = read_head(row.head, keys)
            if chain in head.chains:
                yield head, head.chains[chain]
            after = row.number


def _text(at: float) -> str:
    """The moment as records have it."""
    moment = datetime.fromtimestamp(at, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

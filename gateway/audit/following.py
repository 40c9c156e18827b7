"""Following the chains: the tree over each, from line to line, as far as it was read and found whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

import msgspec

from authz.storage.store import Store
from gateway.audit.heads import ChainState, Head
from gateway.audit.lines import genesis
from gateway.audit.merkle import Tree, leaf_hash
from gateway.quiet import Moment, any_moment

_PAGE_LINES = 128  # half a millisecond: requests are served by the same loop
_MOST_LINES = 20_000  # of one round
# After so many lines of a round, or behind a round that left some, no moment is waited for any more.
_PATIENT_LINES = 10_000
_HEAD_RECORD = b'"event":"audit-head"'  # a quote in a text is escaped: no other line has these bytes
_HEAD_BYTES = 256  # within so many it stands in the record of a head, behind its place and a digest


class ChainBroken(Exception):
    """A chain is not what it was: it must not be signed."""


@dataclass(slots=True)
class _Followed:
    tree: Tree
    digest: bytes
    news: int = 0  # records since the last head that tell of more than a head


@dataclass(slots=True)
class Follower:
    """The trees over the chains of a store. A page is read at a moment that suits it."""

    store: Store
    moment: Moment = any_moment
    _chains: dict[str, _Followed] = field(default_factory=dict)
    _left_some: bool = False

    @property
    def news(self) -> int:
        """How many records no head covers yet, records of heads left out."""
        return sum(each.news for each in self._chains.values())

    def states(self) -> Mapping[str, ChainState]:
        """How far each chain was followed."""
        return {
            name: ChainState(each.tree.size, each.tree.root(), each.digest)
            for name, each in self._chains.items()
            if each.tree.size
        }

    def covered(self) -> None:
        """A head covers what was followed so far."""
        for each in self._chains.values():
            each.news = 0

    def frontier(self) -> bytes:
        """What begin() goes on from."""
        return msgspec.msgpack.encode(
            {name: (each.tree.size, each.tree.frontier) for name, each in self._chains.items()}
        )

    def begin(self, head: Head | None, frontier: bytes) -> None:
        """Go on from a signed head. The frontier is believed where it leads to the roots that were signed.

        Raises ChainBroken.
        """
        self._chains = {}
        if head is None:
            return
        try:
            kept = msgspec.msgpack.decode(frontier, type=dict[str, tuple[int, list[bytes]]])
            for name, state in head.chains.items():
                size, roots = kept[name]
                tree = Tree(size, roots)
                if (size, tree.root()) != (state.size, state.root):
                    raise ChainBroken(f"the frontier of head {head.number} does not lead to its roots")
                self._chains[name] = _Followed(tree, state.digest)
        except (msgspec.DecodeError, KeyError, ValueError) as error:
            raise ChainBroken(f"the frontier of head {head.number} was changed") from error

    async def follow(self) -> bool:
        """Read on, at most so many lines; whether that was all. Raises ChainBroken, StoreUnavailable."""
        left = _MOST_LINES
        patience = 0 if self._left_some else _PATIENT_LINES
        ends = await self.store.audit_heads()
        for name, followed in self._chains.items():
            if followed.tree.size and name not in ends:
                raise ChainBroken(f"chain '{name}' is gone, and had {followed.tree.size} records")
        for name, (sequence, _) in ends.items():
            chain = self._chains.get(name)
            if chain is None:
                chain = self._chains[name] = _Followed(Tree(), genesis(name))
            if sequence < chain.tree.size:
                raise ChainBroken(f"chain '{name}' ends at {sequence}, and had {chain.tree.size} records")
            while chain.tree.size < sequence:
                if left <= 0:
                    self._left_some = True
                    return False
                left -= await self._page(name, chain)
                await (self.moment if _MOST_LINES - left < patience else any_moment)()
        self._left_some = False
        return True

    async def _page(self, name: str, chain: _Followed) -> int:
        lines = await self.store.audit(chain=name, after=chain.tree.size, limit=_PAGE_LINES)
        if not lines:
            raise ChainBroken(f"record {chain.tree.size + 1} of chain '{name}' is missing")
        expected, end, leaves, news = chain.tree.size, chain.digest, [], 0
        for sequence, previous, digest, line, _ in lines:
            expected += 1
            if sequence != expected or previous != end or sha256(end + line).digest() != digest:
                raise ChainBroken(f"record {expected} of chain '{name}' is not whole")
            end = digest
            leaves.append(leaf_hash(line))
            news += line.find(_HEAD_RECORD, 0, _HEAD_BYTES) < 0
        chain.tree.extend(leaves)
        chain.digest = end
        chain.news += news
        return len(lines)

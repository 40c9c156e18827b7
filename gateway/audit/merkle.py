"""The Merkle tree over the lines of a chain, as RFC 9162 2.1 has it: roots, inclusion and consistency proofs.

    leaf = SHA-256(0x00 || line)        node = SHA-256(0x01 || left || right)

A tree is kept by its frontier: the roots of its whole subtrees from the left, one for each bit of its size. What is
retired goes into it as whole subtrees, so that the tree goes on without the lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()
_LEAF = sha256(b"\x00")
Range = tuple[int, int]
"""Leaves from ... to, the latter not included, counted from 0."""


class ProofError(Exception):
    """A proof does not show what it is to show."""


def leaf_hash(line: bytes) -> bytes:
    """The leaf of a line (RFC 9162 2.1.1)."""
    hash = _LEAF.copy()
    hash.update(line)
    return hash.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The node above two (RFC 9162 2.1.1)."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Subtree:
    """A whole subtree of 2**level leaves, by its root."""

    level: int
    root: bytes


class Tree:
    """A tree that grows to the right. It needs one hash for each bit of its size."""

    def __init__(self, size: int = 0, frontier: Sequence[bytes] = ()) -> None:
        """The tree of that size whose whole subtrees have these roots, the biggest first. Raises ValueError."""
        if len(frontier) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} subtrees, not {len(frontier)}")
        self.size = size
        self._roots = list(frontier)

    @property
    def frontier(self) -> Sequence[bytes]:
        """The roots of the whole subtrees, the biggest first."""
        return tuple(self._roots)

    def add(self, leaf: bytes) -> None:
        """Add a leaf, by its hash."""
        self._add(leaf, 0)

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Add leaves, by their hashes, level by level: what add() does with each."""
        nodes, place, right = list(leaves), self.size, list[bytes]()
        self.size += len(nodes)
        while nodes:
            if place & 1:
                nodes.insert(0, self._roots.pop())
            if len(nodes) & 1:
                right.append(nodes.pop())
            nodes = [
                sha256(b"\x01" + left + of_right).digest()
                for left, of_right in zip(nodes[::2], nodes[1::2], strict=True)
            ]
            place >>= 1
        self._roots += reversed(right)

    def add_subtree(self, subtree: Subtree) -> None:
        """Add 2**level leaves at once. Raises ValueError where such a subtree does not begin."""
        if self.size % (1 << subtree.level):
            raise ValueError(f"a subtree of level {subtree.level} does not begin at leaf {self.size}")
        self._add(subtree.root, subtree.level)

    def _add(self, root: bytes, level: int) -> None:
        before = self.size >> level
        self.size += 1 << level
        while before & 1:
            root = node_hash(self._roots.pop(), root)
            before >>= 1
        self._roots.append(root)

    def root(self) -> bytes:
        """The root over all leaves (RFC 9162 2.1.1)."""
        if not self._roots:
            return EMPTY_ROOT
        root = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            root = node_hash(left, root)
        return root


def subtrees_of(first: int, end: int) -> Sequence[Range]:
    """The whole subtrees that leaves first ... end consist of, as ranges from the left."""
    found = []
    while first < end:
        level = (end - first).bit_length() - 1
        if first:
            level = min(level, (first & -first).bit_length() - 1)
        found.append((first, first + (1 << level)))
        first += 1 << level
    return found


def inclusion_path(leaf: int, size: int) -> Sequence[Range]:
    """The ranges whose roots prove that a leaf is in the tree of that size, in the order of the proof (2.1.3.1)."""
    if not 0 <= leaf < size:
        raise ValueError(f"leaf {leaf} is not in a tree of {size}")
    return _inclusion(leaf, 0, size)


def _inclusion(leaf: int, first: int, end: int) -> list[Range]:
    if end - first == 1:
        return []
    middle = first + _left(end - first)
    if leaf < middle:
        return [*_inclusion(leaf, first, middle), (middle, end)]
    return [*_inclusion(leaf, middle, end), (first, middle)]


def consistency_path(former: int, size: int) -> Sequence[Range]:
    """The ranges whose roots prove that the tree of that size goes on from the former one (2.1.4.1)."""
    if not 0 < former <= size:
        raise ValueError(f"a tree of {size} does not go on from one of {former}")
    return _consistency(former, 0, size, is_whole=True)


def _consistency(former: int, first: int, end: int, *, is_whole: bool) -> list[Range]:
    if former == end:
        return [] if is_whole else [(first, end)]
    middle = first + _left(end - first)
    if former <= middle:
        return [*_consistency(former, first, middle, is_whole=is_whole), (middle, end)]
    return [*_consistency(former, middle, end, is_whole=False), (first, middle)]


def _left(size: int) -> int:
    """The largest power of two smaller than size."""
    return 1 << (size - 1).bit_length() - 1


def check_inclusion(*, leaf: bytes, at: int, size: int, root: bytes, path: Sequence[bytes]) -> None:
    """Check that the leaf of that hash stands at that place of the tree with this root (2.1.3.2). Raises ProofError."""
    if not 0 <= at < size:
        raise ProofError(f"leaf {at} is not in a tree of {size}")
    place, last, reckoned = at, size - 1, leaf
    for step in path:
        if last == 0:
            raise ProofError("the path is too long")
        if place & 1 or place == last:
            reckoned = node_hash(step, reckoned)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            reckoned = node_hash(reckoned, step)
        place, last = place >> 1, last >> 1
    if last:
        raise ProofError("the path is too short")
    if reckoned != root:
        raise ProofError("the path leads to another root")


def check_consistency(
    *, former: int, former_root: bytes, size: int, root: bytes, path: Sequence[bytes]
) -> None:
    """Check that the tree with this root goes on from the former one (2.1.4.2). Raises ProofError."""
    if not 0 < former <= size:
        raise ProofError(f"a tree of {size} does not go on from one of {former}")
    if former == size:
        if path or former_root != root:
            raise ProofError("two trees of one size have two roots" if not path else "the path is too long")
        return
    steps = list(path)
    if former & (former - 1) == 0:
        steps.insert(0, former_root)
    if not steps:
        raise ProofError("the path is too short")
    place, last = former - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = steps[0]
    for step in steps[1:]:
        if last == 0:
            raise ProofError("the path is too long")
        if place & 1 or place == last:
            before, after = node_hash(step, before), node_hash(step, after)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, step)
        place, last = place >> 1, last >> 1
    if last:
        raise ProofError("the path is too short")
    if before != former_root:
        raise ProofError("the path does not begin at the former root")
    if after != root:
        raise ProofError("the path leads to another root")

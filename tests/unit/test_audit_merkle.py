"""The Merkle tree: the published vectors of RFC 6962 implementations, and every proof of every small tree."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.merkle import (
    ProofError,
    Range,
    Subtree,
    Tree,
    check_consistency,
    check_inclusion,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    subtrees_of,
)

# Facts: the eight inputs, roots and proofs that certificate-transparency implementations publish for RFC 6962 2.1.
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def grown(lines: list[bytes]) -> Tree:
    tree = Tree()
    for line in lines:
        tree.add(leaf_hash(line))
    return tree


def root_of(lines: list[bytes]) -> bytes:
    """The definition of RFC 9162 2.1.1, word for word."""
    if not lines:
        return Tree().root()
    if len(lines) == 1:
        return leaf_hash(lines[0])
    split = 1
    while split * 2 < len(lines):
        split *= 2
    return node_hash(root_of(lines[:split]), root_of(lines[split:]))


def hashes(lines: list[bytes], path: "list[Range] | tuple[Range, ...] | object") -> list[bytes]:
    return [root_of(lines[first:end]) for first, end in path]  # type: ignore[attr-defined]


def test_RFC_9162_2_1_1_the_published_roots() -> None:
    assert [grown(INPUTS[:size]).root().hex() for size in range(9)] == ROOTS


def test_RFC_9162_2_1_3_a_published_inclusion_proof() -> None:
    assert [each.hex() for each in hashes(INPUTS, inclusion_path(5, 8))] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


def test_RFC_9162_2_1_4_published_consistency_proofs() -> None:
    assert [each.hex() for each in hashes(INPUTS, consistency_path(6, 8))] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    assert [each.hex() for each in hashes(INPUTS[:5], consistency_path(2, 5))] == [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]


LINES = [b'{"n":%d}' % number for number in range(40)]


def test_every_inclusion_proof_of_every_tree_up_to_40_and_none_of_its_neighbours() -> None:
    for size in range(1, 41):
        root = root_of(LINES[:size])
        assert grown(LINES[:size]).root() == root
        for at in range(size):
            leaf, path = leaf_hash(LINES[at]), hashes(LINES, inclusion_path(at, size))
            check_inclusion(leaf=leaf, at=at, size=size, root=root, path=path)
            wrong = [
                (leaf_hash(b"other"), at, size, root, path),
                (leaf, at, size, leaf_hash(b""), path),
                (leaf, at, size, root, [*path, root]),
                (leaf, size, size, root, path),
                (leaf, -1, size, root, path),
            ]
            wrong += [(leaf, other, size, root, path) for other in range(size) if other != at]
            wrong += [(leaf, at, size, root, path[:-1])] if path else []
            wrong += [(leaf, at, size, root, [*path[:-1], b"\x00" * 32])] if path else []
            for leaf_, at_, size_, root_, path_ in wrong:
                with pytest.raises(ProofError):
                    check_inclusion(leaf=leaf_, at=at_, size=size_, root=root_, path=path_)


def test_every_consistency_proof_of_every_tree_up_to_40_and_none_of_its_neighbours() -> None:
    for size in range(1, 41):
        root = root_of(LINES[:size])
        for former in range(1, size + 1):
            before, path = root_of(LINES[:former]), hashes(LINES, consistency_path(former, size))
            check_consistency(former=former, former_root=before, size=size, root=root, path=path)
            wrong = [
                (former, leaf_hash(b""), size, root, path),
                (former, before, size, leaf_hash(b""), path),
                (former, before, size, root, [*path, root]),
                (0, before, size, root, path),
                (size + 1, before, size, root, path),
            ]
            wrong += [(former, before, size, root, path[:-1])] if path else []
            wrong += [(former, before, size, root, [b"\x00" * 32, *path[1:]])] if path else []
            for former_, before_, size_, root_, path_ in wrong:
                with pytest.raises(ProofError):
                    check_consistency(former=former_, former_root=before_, size=size_, root=root_, path=path_)


@pytest.mark.parametrize("seed", range(20))
def test_a_tree_goes_on_over_whole_subtrees_as_over_their_leaves(seed: int) -> None:
    chance = random.Random(seed)
    size = chance.randint(1, 40)
    first = chance.randint(0, size - 1)
    end = chance.randint(first + 1, size)
    tree = grown(LINES[:first])
    for left, right in subtrees_of(first, end):
        tree.add_subtree(Subtree((right - left).bit_length() - 1, root_of(LINES[left:right])))
    again = Tree(tree.size, tree.frontier)
    for line in LINES[end:size]:
        again.add(leaf_hash(line))
    assert (again.size, again.root()) == (size, root_of(LINES[:size]))
    assert len(subtrees_of(first, end)) <= 2 * 6


def test_a_frontier_or_a_subtree_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="a tree of 3 leaves has 2 subtrees, not 1"):
        Tree(3, [b""])
    with pytest.raises(ValueError, match="level 1 does not begin at leaf 3"):
        grown(LINES[:3]).add_subtree(Subtree(1, b""))


@given(st.integers(0, 70), st.lists(st.integers(0, 9), max_size=6))
def test_leaves_that_are_added_together_make_the_tree_that_each_makes_by_itself(
    size: int, pages: list[int]
) -> None:
    one, other = Tree(), Tree()
    for number in range(size):
        one.add(leaf_hash(b"%d" % number))
    other.extend([leaf_hash(b"%d" % number) for number in range(size)])
    for page in [*pages, 33]:
        leaves = [leaf_hash(b"%d of %d" % (number, page)) for number in range(page)]
        for leaf in leaves:
            one.add(leaf)
        other.extend(leaves)
        assert (one.size, one.frontier, one.root()) == (other.size, other.frontier, other.root())

"""Proofs that somebody can check who has neither the store nor the log: one record is in it, one head goes on from another.

A proof is one JSON object with the signed head that it leads to. Hashes are in base64url.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from authz.protocol.encoding import base64url, base64url_decode
from gateway.audit.heads import Head, PublicKeys, read_head, read_stub
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
)
from gateway.audit.verification import AuditSource

INCLUSION, CONSISTENCY = "inclusion", "consistency"
_PAGE_LINES = 1000


@dataclass(frozen=True, slots=True)
class Shown:
    """What a proof showed, in words."""

    head: Head
    said: str


async def prove_record(
    source: AuditSource, keys: PublicKeys, *, chain: str, sequence: int, head: bytes
) -> Mapping[str, object]:
    """That the record of that sequence is under the head. Raises ProofError, BadSeal, StoreUnavailable."""
    state = read_head(head, keys).chains.get(chain)
    if state is None or not 1 <= sequence <= state.size:
        raise ProofError(f"the head covers {state.size if state else 0} records of chain '{chain}'")
    lines = await source.audit(chain=chain, after=sequence - 1, limit=1)
    if not lines or lines[0].sequence != sequence:
        raise ProofError(f"record {sequence} of chain '{chain}' is not there: was it retired?")
    path = inclusion_path(sequence - 1, state.size)
    roots = await _roots(source, keys, chain, path)
    return {
        "proof": INCLUSION,
        "chain": chain,
        "sequence": sequence,
        "record": lines[0].line.decode("utf-8"),
        "path": [base64url(roots[each]) for each in path],
        "head": head.decode("ascii"),
    }


async def prove_heads(
    source: AuditSource, keys: PublicKeys, *, former: bytes, head: bytes
) -> Mapping[str, object]:
    """That each chain of one head goes on in the other. Raises ProofError, BadSeal, StoreUnavailable."""
    before, after = read_head(former, keys), read_head(head, keys)
    paths = {}
    for chain, state in before.chains.items():
        later = after.chains.get(chain)
        if later is None or later.size < state.size:
            raise ProofError(f"chain '{chain}' has {state.size} records in the former head, and fewer later")
        path = consistency_path(state.size, later.size)
        roots = await _roots(source, keys, chain, path)
        paths[chain] = [base64url(roots[each]) for each in path]
    return {
        "proof": CONSISTENCY,
        "former": former.decode("ascii"),
        "head": head.decode("ascii"),
        "paths": paths,
    }


def check_proof(proof: object, keys: PublicKeys) -> Shown:
    """What a proof shows, its heads signed by one of the keys. Raises ProofError, BadSeal."""
    if not isinstance(proof, dict):
        raise ProofError("a proof is a JSON object")
    head = read_head(_text(proof, "head").encode(), keys)
    if proof.get("proof") == INCLUSION:
        return Shown(head, _check_record(proof, head))
    if proof.get("proof") == CONSISTENCY:
        return Shown(head, _check_heads(proof, head, read_head(_text(proof, "former").encode(), keys)))
    raise ProofError(f"the member proof is {INCLUSION} or {CONSISTENCY}")


def _check_record(proof: Mapping[str, object], head: Head) -> str:
    chain, sequence, record = _text(proof, "chain"), proof.get("sequence"), _text(proof, "record")
    state = head.chains.get(chain)
    if state is None or not isinstance(sequence, int):
        raise ProofError(f"the head says nothing of chain '{chain}'")
    check_inclusion(
        leaf=leaf_hash(record.encode("utf-8")),
        at=sequence - 1,
        size=state.size,
        root=state.root,
        path=_hashes(proof.get("path")),
    )
    return f"record {sequence} of chain '{chain}' is under head {head.number} of {head.at}"


def _check_heads(proof: Mapping[str, object], head: Head, former: Head) -> str:
    paths = proof.get("paths")
    for chain, state in former.chains.items():
        later = head.chains.get(chain)
        if later is None or not isinstance(paths, dict) or chain not in paths:
            raise ProofError(f"chain '{chain}' is in the former head, and not in the later one")
        check_consistency(
            former=state.size,
            former_root=state.root,
            size=later.size,
            root=later.root,
            path=_hashes(paths[chain]),
        )
    return f"head {head.number} of {head.at} goes on from head {former.number} of {former.at}"


async def _roots(
    source: AuditSource, keys: PublicKeys, chain: str, ranges: Sequence[Range]
) -> Mapping[Range, bytes]:
    """The roots of these ranges, which do not meet, by one walk over the chain."""
    wanted = sorted(ranges)
    found: dict[Range, bytes] = {}
    tree, place = Tree(), 0
    parts = _parts(source, keys, chain)
    while len(found) < len(wanted):
        first, end = wanted[len(found)]
        part = await anext(parts, None)
        if part is None:
            raise ProofError(f"chain '{chain}' ends at record {place}")
        size = 1 << part.level
        if place < first < place + size or place < end < place + size:
            raise ProofError(f"a head lies within retired records of chain '{chain}'")
        if place >= first:
            tree.add_subtree(part)
        place += size
        if place == end:
            found[(first, end)], tree = tree.root(), Tree()
    return found


async def _parts(source: AuditSource, keys: PublicKeys, chain: str) -> AsyncIterator[Subtree]:
    """The leaves of a chain, or whole subtrees where a stub stands for them."""
    stubs = [read_stub(each.stub, keys) for each in await source.stubs(chain)]
    sequence = 0
    while True:
        if stubs and stubs[0].first == sequence + 1:
            stub = stubs.pop(0)
            for subtree in stub.subtrees:
                yield subtree
            sequence = stub.last
            continue
        lines = await source.audit(chain=chain, after=sequence, limit=_PAGE_LINES)
        if not lines:
            return
        for line in lines:
            if stubs and stubs[0].first == sequence + 1:
                break
            if line.sequence != sequence + 1:
                raise ProofError(f"record {sequence + 1} of chain '{chain}' is missing")
            yield Subtree(0, leaf_hash(line.line))
            sequence = line.sequence


def _text(proof: Mapping[str, object], name: str) -> str:
    value = proof.get(name)
    if not isinstance(value, str):
        raise ProofError(f"the member {name} is missing, expected text")
    return value


def _hashes(value: object) -> list[bytes]:
    if not isinstance(value, list):
        raise ProofError("a path is a list of hashes")
    try:
        return [base64url_decode(str(each)) for each in value]
    except ValueError as error:
        raise ProofError("a hash is not base64url") from error

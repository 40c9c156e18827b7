"""Signed tree heads and stubs: what they say, as compact JWS (RFC 7515), and how each names the one before it.

A head says how far each chain went at a moment, and the root over it; a stub stands for records that were retired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

import msgspec

from authz.protocol import jose
from authz.protocol.encoding import base64url, base64url_decode
from authz.protocol.jose import JoseError, PublicKey, Signer
from gateway.audit.merkle import Subtree

HEAD_TYPE, STUB_TYPE = "securus-audit-head+jwt", "securus-audit-stub+jwt"
_MAX_BYTES = 4 * 1024 * 1024

S = TypeVar("S")
PublicKeys = Mapping[str, PublicKey]
"""Public keys by kid; the one of '' is for every kid."""


class BadSeal(Exception):
    """A head or a stub that was not signed by us, or says what cannot be."""


@dataclass(frozen=True, slots=True)
class ChainState:
    """How far a chain went: its records, the root over them, and the digest of the newest."""

    size: int
    root: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """What a signed tree head says. previous is the digest of the head before it, empty in the first."""

    number: int
    at: str
    previous: bytes
    chains: Mapping[str, ChainState]


@dataclass(frozen=True, slots=True)
class Retired:
    """What a stub says: the records first ... last of a chain, between two digests, as whole subtrees."""

    chain: str
    first: int
    last: int
    before: bytes
    after: bytes
    subtrees: Sequence[Subtree]
    head: int  # the signed head that they were compared with
    at: str


class _State(msgspec.Struct):
    size: int
    root: str
    digest: str


class _Head(msgspec.Struct):
    head: int
    at: str
    previous: str
    chains: dict[str, _State]


class _Stub(msgspec.Struct):
    chain: str
    first: int
    last: int
    before: str
    after: str
    subtrees: list[tuple[int, str]]
    head: int
    at: str


def digest_of(sealed: bytes) -> bytes:
    """What the next head calls this one."""
    return sha256(sealed).digest()


async def sign_head(head: Head, signer: Signer) -> bytes:
    """The head, signed. Raises StoreUnavailable when the key does not answer."""
    claims = {
        "head": head.number,
        "at": head.at,
        "previous": base64url(head.previous),
        "chains": {
            name: {"size": state.size, "root": base64url(state.root), "digest": base64url(state.digest)}
            for name, state in sorted(head.chains.items())
        },
    }
    return (await jose.sign_jwt(claims, typ=HEAD_TYPE, signer=signer)).encode("ascii")


async def sign_stub(stub: Retired, signer: Signer) -> bytes:
    """The stub, signed. Raises StoreUnavailable when the key does not answer."""
    claims = {
        "chain": stub.chain,
        "first": stub.first,
        "last": stub.last,
        "before": base64url(stub.before),
        "after": base64url(stub.after),
        "subtrees": [[each.level, base64url(each.root)] for each in stub.subtrees],
        "head": stub.head,
        "at": stub.at,
    }
    return (await jose.sign_jwt(claims, typ=STUB_TYPE, signer=signer)).encode("ascii")


def read_head(sealed: bytes, keys: PublicKeys | None) -> Head:
    """What a head says, signed by one of the keys; without keys nobody looks at its signature. Raises BadSeal."""
    said = _read(sealed, keys, HEAD_TYPE, _Head)
    chains = {name: ChainState(s.size, _hash(s.root), _hash(s.digest)) for name, s in said.chains.items()}
    previous = _hash(said.previous) if said.previous else b""
    return Head(said.head, said.at, previous, chains)


def read_stub(sealed: bytes, keys: PublicKeys | None) -> Retired:
    """What a stub says, as read_head does. Raises BadSeal."""
    said = _read(sealed, keys, STUB_TYPE, _Stub)
    if not 1 <= said.first <= said.last:
        raise BadSeal(f"it stands for records {said.first} to {said.last}")
    subtrees = [Subtree(level, _hash(root)) for level, root in said.subtrees]
    if sum(1 << each.level for each in subtrees if 0 <= each.level < 64) != said.last - said.first + 1:
        raise BadSeal("its subtrees do not make up its records")
    return Retired(
        said.chain, said.first, said.last, _hash(said.before), _hash(said.after), subtrees, said.head, said.at
    )


def _read(sealed: bytes, keys: PublicKeys | None, typ: str, kind: type[S]) -> S:
    try:
        jws = jose.parse_compact(sealed.decode("ascii"), _MAX_BYTES)
        if jws.header.get("typ") != typ:
            raise BadSeal(f"its typ is not {typ}")
        if keys is not None:
            _check(jws, keys)
        return msgspec.json.decode(jws.payload, type=kind)
    except (JoseError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise BadSeal(str(error).splitlines()[0]) from error


def _check(jws: jose.Jws, keys: PublicKeys) -> None:
    kid = str(jws.header.get("kid"))
    key = keys.get(kid) or keys.get("")
    if key is None:
        raise BadSeal(f"it is signed with a key '{kid}' that is not known here")
    algorithm = jose.algorithm_of(jws.header, frozenset(key.algorithms))
    key.verify(jws.signature, jws.signing_input, algorithm)


def _hash(text: str) -> bytes:
    try:
        found = base64url_decode(text)
    except ValueError as error:
        raise BadSeal("a digest in it cannot be read") from error
    if len(found) != 32:
        raise BadSeal(f"a digest in it has {len(found)} bytes, expected 32")
    return found

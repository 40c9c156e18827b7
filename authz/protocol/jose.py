"""Signed tokens as compact JWS: RFC 7515, 7519, with the advice of RFC 8725. Keys and algorithms are in jwk.py.

A signature is checked with a key that the caller already trusts, or that it will compare by thumbprint. Nothing in
a token ever chooses where a key comes from: jku, x5u and x5c are not looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import msgspec

from authz.protocol.encoding import base64url, base64url_decode, compact_json, strict_json
from authz.protocol.errors import speakable
from authz.protocol.jwk import (
    ALGORITHMS,
    OF_ID_TOKENS,
    JoseError,
    PrivateKey,
    PublicKey,
    import_jwks,
    import_public_jwk,
    public_jwk,
    public_jwk_of,
    sign,
    signs_with,
    thumbprint,
)

__all__ = [
    "ALGORITHMS",
    "OF_ID_TOKENS",
    "JoseError",
    "Jws",
    "LocalSigner",
    "PrivateKey",
    "PublicKey",
    "Signer",
    "Unverified",
    "algorithm_of",
    "decode_part",
    "import_jwks",
    "import_public_jwk",
    "json_object",
    "parse_compact",
    "parse_header",
    "public_jwk",
    "public_jwk_of",
    "read_unverified",
    "sign",
    "sign_jwt",
    "thumbprint",
    "verify",
]

_MAX_TOKEN_BYTES = 16 * 1024
_MAX_KEYS_TRIED = 8  # a token without kid is tried with so many keys at most: verifications cost
_MAX_HEADERS = 4096  # remembered headers of tokens whose signature was right
_MAX_HEADER_CHARACTERS = 512  # of one of them


class Jws(msgspec.Struct, frozen=True):
    """The parts of a compact JWS, decoded; nothing is verified yet."""

    header: Mapping[str, object]
    payload: bytes
    signature: bytes
    signing_input: bytes


class Unverified(msgspec.Struct, frozen=True):
    """A JWT as it was read: nothing in it holds yet. Only read_unverified() makes one."""

    jws: Jws
    claims: Mapping[str, object]


class Signer(Protocol):
    """A signing key, wherever it lives: in memory, in an HSM, at a key service."""

    @property
    def kid(self) -> str: ...
    @property
    def algorithm(self) -> str: ...

    async def sign(self, data: bytes) -> bytes:
        """The JWS signature over data."""
        ...


@dataclass(frozen=True, slots=True)
class LocalSigner:
    """A Signer whose private key is in memory."""

    kid: str
    algorithm: str
    key: PrivateKey

    def __post_init__(self) -> None:
        if self.algorithm not in signs_with(self.key.public_key()):
            raise JoseError(f"the private key is not for alg {speakable(self.algorithm, at_most=20)}")

    async def sign(self, data: bytes) -> bytes:
        """The JWS signature over data."""
        return sign(data, self.key, self.algorithm)


async def sign_jwt(claims: Mapping[str, object], *, typ: str, signer: Signer) -> str:
    """The claims as a compact JWS with header members alg, kid and typ."""
    signing_input = f"{_header(signer.algorithm, signer.kid, typ)}.{base64url(compact_json(claims))}"
    return f"{signing_input}.{base64url(await signer.sign(signing_input.encode('ascii')))}"


@lru_cache(64)
def _header(algorithm: str, kid: str, typ: str) -> str:
    return base64url(compact_json({"alg": algorithm, "kid": kid, "typ": typ}))


def parse_compact(token: str, max_bytes: int = _MAX_TOKEN_BYTES) -> Jws:
    """The parts of a compact JWS (RFC 7515 7.1). Raises JoseError; verifies nothing."""
    if len(token) > max_bytes:
        raise JoseError(f"the token is longer than {max_bytes} bytes")
    parts = token.split(".")
    if len(parts) != 3:
        raise JoseError(f"a compact JWS has 3 parts between dots, this token has {len(parts)}")
    return Jws(
        header=_KNOWN_HEADERS.get(parts[0]) or parse_header(parts[0]),
        payload=decode_part(parts[1], "payload"),
        signature=decode_part(parts[2], "signature"),
        signing_input=token[: token.rindex(".")].encode("ascii"),
    )


def read_unverified(token: str, max_bytes: int = _MAX_TOKEN_BYTES) -> Unverified:
    """The parts and claims of a JWT, to find out by which keys it is to be verified. Raises JoseError."""
    jws = parse_compact(token, max_bytes)
    return Unverified(jws, json_object(jws.payload, "payload"))


def parse_header(encoded: str) -> Mapping[str, object]:
    """The JOSE header in the first part of a JWS; alg is there, and alg, typ, cty and kid are text. Raises JoseError.

    No extension is understood here, so crit is refused (RFC 7515 4.1.11), and b64, which needs it (RFC 7797 6).
    """
    header = json_object(decode_part(encoded, "header"), "header")
    if "crit" in header or "b64" in header:
        raise JoseError("the header members crit and b64 are not supported")
    if not isinstance(header.get("alg"), str):
        raise JoseError("the header must have alg, as a string")
    for name in ("typ", "cty", "kid"):  # RFC 7515 4.1.4, 4.1.9, 4.1.10
        if name in header and not isinstance(header[name], str):
            raise JoseError(f"{name} in the header must be a string")
    return header


def decode_part(encoded: str, what: str) -> bytes:
    """The bytes of one part of a JWS. Raises JoseError naming what it was."""
    try:
        return base64url_decode(encoded)
    except ValueError as error:
        raise JoseError(f"the {what} is not canonical base64url without padding") from error


def json_object(content: bytes, what: str) -> Mapping[str, object]:
    """The JSON object in content (RFC 7519 7.2). Raises JoseError naming what it was."""
    try:
        value = strict_json(content, max_bytes=_MAX_TOKEN_BYTES)
    except ValueError as error:
        raise JoseError(f"the {what} is not JSON with one reading") from error
    if not isinstance(value, dict):
        raise JoseError(f"the {what} must be a JSON object")
    return value


def algorithm_of(header: Mapping[str, object], algorithms: frozenset[str]) -> str:
    """alg of the header when it is one of algorithms. Raises JoseError, naming them."""
    algorithm = str(header.get("alg"))
    if algorithm not in algorithms:
        expected = ", ".join(sorted(algorithms))
        raise JoseError(f"alg is {speakable(algorithm, at_most=20)}, expected one of {expected}")
    return algorithm


def verify(
    token: str | Unverified,
    keys: Sequence[PublicKey],
    *,
    algorithms: frozenset[str] = ALGORITHMS,
    max_bytes: int = _MAX_TOKEN_BYTES,
) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """Header and claims of a JWT that one of keys signed with one of algorithms. Raises JoseError.

    token may have been read before, by read_unverified().

    The key is chosen by kid, then by what it may be used for (kty, crv, use, key_ops, alg). A key that was registered
    without kid is tried when no key has the token's kid. Times and names in the claims are the caller's to check.
    """
    jws = parse_compact(token, max_bytes) if isinstance(token, str) else token.jws
    algorithm = algorithm_of(jws.header, algorithms)
    candidates = _candidates(jws.header.get("kid"), keys, algorithm)
    for number, key in enumerate(candidates, start=1):
        try:
            key.verify(jws.signature, jws.signing_input, algorithm)
            break
        except JoseError:
            if number == len(candidates):
                raise
    _keep_header(jws)
    return jws.header, json_object(jws.payload, "payload") if isinstance(token, str) else token.claims


_KNOWN_HEADERS: dict[str, Mapping[str, object]] = {}
"""Header texts → headers, the oldest first: a client's is the same in all that it signs. What was not signed by a key
that is registered here never comes in, so nobody from outside drives out what is known."""


def _keep_header(jws: Jws) -> None:
    encoded = jws.signing_input[: jws.signing_input.index(b".")].decode("ascii")
    if encoded in _KNOWN_HEADERS or len(encoded) > _MAX_HEADER_CHARACTERS:
        return
    if len(_KNOWN_HEADERS) >= _MAX_HEADERS:
        del _KNOWN_HEADERS[next(iter(_KNOWN_HEADERS))]
    _KNOWN_HEADERS[encoded] = jws.header


def _candidates(kid: object, keys: Sequence[PublicKey], algorithm: str) -> list[PublicKey]:
    """The keys to try, never none. Raises JoseError that says whether the kid or the algorithm did not fit."""
    named = list(keys)
    if kid is not None:
        named = [key for key in keys if key.kid == kid] or [key for key in keys if key.kid is None]
        if not named:
            raise JoseError(f"no key has kid {speakable(str(kid), at_most=60)}")
    fitting = [key for key in named if algorithm in key.algorithms]
    if not fitting:
        raise JoseError(f"no key {'with that kid ' if kid is not None else ''}is for alg {algorithm}")
    return fitting[:_MAX_KEYS_TRIED]

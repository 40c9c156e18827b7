"""Public keys as JWK and signed tokens as compact JWS: RFC 7515, 7517, 7518, 7638, 8037, with the advice of RFC 8725.

Three algorithms and no more: ES256, PS256 and Ed25519 (named EdDSA, or Ed25519 by RFC 9864). A key is imported once
and knows what it may be used for; a signature is checked with a key that the caller already trusts, or that it will
compare by thumbprint. Nothing in a token ever chooses where a key comes from: jku, x5u, x5c and jwk are not looked at.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from authz.protocol.encoding import base64url, base64url_decode, strict_json
from authz.protocol.errors import speakable

ALGORITHMS = frozenset({"ES256", "PS256", "EdDSA", "Ed25519"})
_MAX_TOKEN_BYTES = 16 * 1024
_MAX_KEY_ID_CHARACTERS = 256
_MAX_KEYS_TRIED = 8  # a token without kid is tried with so many keys at most: verifications cost
_MIN_RSA_BITS = 2048  # FAPI 2.0 Security Profile 5.4.1
_MAX_RSA_BITS = 8192  # a longer one costs milliseconds a signature, and is the sender's choice
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_REQUIRED_MEMBERS = {"EC": ("crv", "x", "y"), "RSA": ("e", "n"), "OKP": ("crv", "x")}

_SHA256 = SHA256()
_ECDSA = ec.ECDSA(_SHA256)
# RFC 7518 3.5: the salt is as long as the hash.
_PSS = padding.PSS(mgf=padding.MGF1(_SHA256), salt_length=padding.PSS.DIGEST_LENGTH)
_EDDSA_NAMES = frozenset({"EdDSA", "Ed25519"})

# y of the eight points of small order on Ed25519. Under such a key one signature fits many messages.
_ED25519_PRIME = 2**255 - 19
_ED25519_SMALL_ORDER = frozenset(
    {
        0,
        1,
        _ED25519_PRIME - 1,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
    }
)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
VerifyingKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey


class JoseError(Exception):
    """A key or token that is not acceptable. The text is public: it holds only RFC 6749 5.2's characters."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An imported public key. Only import_public_jwk() makes one.

    algorithms  names of the JWS algorithms that it may verify; empty when use, key_ops or alg say another purpose
    thumbprint  RFC 7638, SHA-256, base64url
    """

    kid: str | None
    algorithms: frozenset[str]
    thumbprint: str
    key: VerifyingKey

    def verify(self, signature: bytes, data: bytes, algorithm: str) -> None:
        """Check the signature over data. Raises JoseError when it does not fit or the key is not for algorithm."""
        if algorithm not in self.algorithms:
            raise JoseError(f"the key is not for alg {speakable(algorithm, at_most=20)}")
        try:
            if isinstance(self.key, ec.EllipticCurvePublicKey):
                if len(signature) != 64:  # RFC 7518 3.4: R and S, 32 bytes each
                    raise JoseError(f"an ES256 signature has 64 bytes, not {len(signature)}")
                r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
                self.key.verify(encode_dss_signature(r, s), data, _ECDSA)
            elif isinstance(self.key, rsa.RSAPublicKey):
                self.key.verify(signature, data, _PSS, _SHA256)
            else:
                self.key.verify(signature, data)
        except InvalidSignature as error:
            raise JoseError("the signature is not valid") from error


@dataclass(frozen=True, slots=True)
class Jws:
    """The parts of a compact JWS, decoded; nothing is verified yet."""

    header: Mapping[str, object]
    payload: bytes
    signature: bytes
    signing_input: bytes


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
        if self.algorithm not in _algorithms_of(self.key.public_key()):
            raise JoseError(f"the private key is not for alg {speakable(self.algorithm, at_most=20)}")

    async def sign(self, data: bytes) -> bytes:
        """The JWS signature over data."""
        return sign(data, self.key)


def sign(data: bytes, key: PrivateKey) -> bytes:
    """The JWS signature over data: ES256, PS256 or EdDSA by the key's type (RFC 7518 3.4, 3.5, RFC 8037 3.1)."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(data, _ECDSA))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, _PSS, _SHA256)
    return key.sign(data)


async def sign_jwt(claims: Mapping[str, object], *, typ: str, signer: Signer) -> str:
    """The claims as a compact JWS with header members alg, kid and typ."""
    header = {"alg": signer.algorithm, "kid": signer.kid, "typ": typ}
    signing_input = f"{base64url(_json(header))}.{base64url(_json(claims))}"
    return f"{signing_input}.{base64url(await signer.sign(signing_input.encode('ascii')))}"


def import_public_jwk(jwk: Mapping[str, object]) -> PublicKey:
    """The public key of a JWK (RFC 7517). Raises JoseError.

    Accepted: EC on P-256, OKP on Ed25519, RSA of 2048 to 8192 bits; members in their canonical encoding. A JWK with
    a private member is refused as a whole: whoever sends one must learn of it.
    """
    private = sorted(_PRIVATE_MEMBERS & jwk.keys())
    if private:
        raise JoseError(f"the jwk must be public, but holds {', '.join(private)}")
    kid = jwk.get("kid")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= _MAX_KEY_ID_CHARACTERS):
        raise JoseError(f"kid of the jwk must be a string of 1 to {_MAX_KEY_ID_CHARACTERS} characters")
    kty = jwk.get("kty")
    if kty == "EC":
        key = _import_ec(jwk)
    elif kty == "OKP":
        key = _import_ed25519(jwk)
    elif kty == "RSA":
        key = _import_rsa(jwk)
    else:
        raise JoseError("kty of the jwk must be EC, OKP or RSA")
    return PublicKey(kid, _algorithms_of(key) & _algorithms_named(jwk), thumbprint(jwk), key)


def public_jwk(key: PrivateKey, *, kid: str) -> dict[str, object]:
    """The public JWK of a private key, with kid, use and alg (RFC 7517 4)."""
    public = key.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_numbers()
        x, y = base64url(point.x.to_bytes(32, "big")), base64url(point.y.to_bytes(32, "big"))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "use": "sig", "alg": "ES256"}
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        n = base64url(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big"))
        e = base64url(numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8, "big"))
        return {"kty": "RSA", "n": n, "e": e, "kid": kid, "use": "sig", "alg": "PS256"}
    x = base64url(public.public_bytes_raw())
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": "EdDSA"}


def import_jwks(keys: Iterable[Mapping[str, object]]) -> tuple[PublicKey, ...]:
    """The keys of a JWK set that can verify signatures; others are left out, as RFC 7517 5 advises."""
    usable = []
    for jwk in keys:
        try:
            key = import_public_jwk(jwk)
        except JoseError:
            continue
        if key.algorithms:
            usable.append(key)
    return tuple(usable)


def thumbprint(jwk: Mapping[str, object]) -> str:
    """SHA-256 thumbprint of a JWK, base64url (RFC 7638 3). Raises JoseError when a required member is missing."""
    kty = jwk.get("kty")
    names = _REQUIRED_MEMBERS.get(kty) if isinstance(kty, str) else None
    if names is None:
        raise JoseError("kty of the jwk must be EC, OKP or RSA")
    required = {"kty": kty, **{name: _text(jwk, name) for name in names}}
    try:
        return base64url(sha256(_json(dict(sorted(required.items())))).digest())
    except UnicodeEncodeError as error:
        raise JoseError("the jwk holds text that is not Unicode") from error


def parse_compact(token: str, max_bytes: int = _MAX_TOKEN_BYTES) -> Jws:
    """The parts of a compact JWS (RFC 7515 7.1). Raises JoseError; verifies nothing."""
    if len(token) > max_bytes:
        raise JoseError(f"the token is longer than {max_bytes} bytes")
    parts = token.split(".")
    if len(parts) != 3:
        raise JoseError(f"a compact JWS has 3 parts between dots, this token has {len(parts)}")
    return Jws(
        header=parse_header(parts[0]),
        payload=decode_part(parts[1], "payload"),
        signature=decode_part(parts[2], "signature"),
        signing_input=token[: token.rindex(".")].encode("ascii"),
    )


def parse_header(encoded: str) -> Mapping[str, object]:
    """The JOSE header in the first part of a JWS; alg is there and is a string. Raises JoseError.

    No extension is understood here, so crit is refused (RFC 7515 4.1.11), and b64, which needs it (RFC 7797 6).
    """
    header = json_object(decode_part(encoded, "header"), "header")
    if "crit" in header or "b64" in header:
        raise JoseError("the header members crit and b64 are not supported")
    if not isinstance(header.get("alg"), str):
        raise JoseError("the header must have alg, as a string")
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
    token: str,
    keys: Sequence[PublicKey],
    *,
    algorithms: frozenset[str] = ALGORITHMS,
    max_bytes: int = _MAX_TOKEN_BYTES,
) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """Header and claims of a JWT that one of keys signed with one of algorithms. Raises JoseError.

    The key is chosen by kid, then by what it may be used for (kty, crv, use, key_ops, alg). A key that was registered
    without kid is tried when no key has the token's kid. Times and names in the claims are the caller's to check.
    """
    jws = parse_compact(token, max_bytes)
    algorithm = algorithm_of(jws.header, algorithms)
    candidates = _candidates(jws.header.get("kid"), keys, algorithm)
    for number, key in enumerate(candidates, start=1):
        try:
            key.verify(jws.signature, jws.signing_input, algorithm)
            break
        except JoseError:
            if number == len(candidates):
                raise
    return jws.header, json_object(jws.payload, "payload")


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


def _algorithms_of(key: object) -> frozenset[str]:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return frozenset({"ES256"}) if isinstance(key.curve, ec.SECP256R1) else frozenset()
    if isinstance(key, rsa.RSAPublicKey):
        return frozenset({"PS256"})
    return _EDDSA_NAMES if isinstance(key, ed25519.Ed25519PublicKey) else frozenset()


def _algorithms_named(jwk: Mapping[str, object]) -> frozenset[str]:
    """The algorithms that use, key_ops and alg leave (RFC 7517 4.2 to 4.4)."""
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return frozenset()
    algorithm = jwk.get("alg")
    if algorithm is None:
        return ALGORITHMS
    if not isinstance(algorithm, str):
        return frozenset()
    return _EDDSA_NAMES if algorithm in _EDDSA_NAMES else frozenset({algorithm})


def _import_ec(jwk: Mapping[str, object]) -> VerifyingKey:
    if jwk.get("crv") != "P-256":
        raise JoseError("crv of an EC jwk must be P-256")
    x, y = _octets(jwk, "x", length=32), _octets(jwk, "y", length=32)
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + x + y)
    except ValueError as error:
        raise JoseError("x and y of the jwk are not a point of P-256") from error


def _import_ed25519(jwk: Mapping[str, object]) -> VerifyingKey:
    if jwk.get("crv") != "Ed25519":  # Ed448 and X25519 among them
        raise JoseError("crv of an OKP jwk must be Ed25519")
    x = _octets(jwk, "x", length=32)
    y = int.from_bytes(x, "little") & (2**255 - 1)
    if y >= _ED25519_PRIME or y in _ED25519_SMALL_ORDER:
        raise JoseError("x of the jwk is not a point of full order on Ed25519")
    return ed25519.Ed25519PublicKey.from_public_bytes(x)


def _import_rsa(jwk: Mapping[str, object]) -> VerifyingKey:
    modulus, exponent = _octets(jwk, "n"), _octets(jwk, "e")
    if not modulus or not exponent or modulus[0] == 0 or exponent[0] == 0:  # RFC 7518 6.3.1.1, 2
        raise JoseError("n and e of the jwk must be base64url of unsigned numbers without leading zero bytes")
    n, e = int.from_bytes(modulus, "big"), int.from_bytes(exponent, "big")
    if not _MIN_RSA_BITS <= n.bit_length() <= _MAX_RSA_BITS:
        raise JoseError(f"the RSA key has {n.bit_length()} bits, expected {_MIN_RSA_BITS} to {_MAX_RSA_BITS}")
    if not (
        65537 <= e < 2**32 and e % 2
    ):  # FIPS 186-5 A.1.1; the upper end bounds the cost of a verification
        raise JoseError("e of the RSA key must be odd and from 65537 to 4294967295")
    if n % 2 == 0:
        raise JoseError("n of the RSA key must be odd")
    return rsa.RSAPublicNumbers(e, n).public_key()


def _octets(jwk: Mapping[str, object], name: str, *, length: int | None = None) -> bytes:
    try:
        octets = base64url_decode(_text(jwk, name))
    except ValueError as error:
        raise JoseError(f"{name} of the jwk is not base64url without padding") from error
    if length is not None and len(octets) != length:  # RFC 7518 6.2.1.2: leading zeros are kept
        raise JoseError(f"{name} of the jwk must have {length} bytes, not {len(octets)}")
    return octets


def _text(jwk: Mapping[str, object], name: str) -> str:
    value = jwk.get(name)
    if not isinstance(value, str):
        raise JoseError(f"{name} of the jwk is missing")
    return value


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")

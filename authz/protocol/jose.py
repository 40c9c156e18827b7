"""JWS and JWK, strict: what we verify and sign (RFC 7515, 7517, 7518, 7638, 8037, 8725, 9864).

Everything inbound (access tokens, proofs, assertions, request objects) is verified here on raw `cryptography`:
three algorithms, compact form only, one reading of the JSON, keys from our own records or, for DPoP, from the
proof's own header. jku, x5u and x5c are never followed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from authz.protocol.encoding import base64url, base64url_decode, strict_json

ALGORITHMS = frozenset({"ES256", "PS256", "EdDSA", "Ed25519"})
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_MAX_TOKEN_BYTES = 16 * 1024
_ES256 = ec.ECDSA(hashes.SHA256())
_PS256 = padding.PSS(
    mgf=padding.MGF1(hashes.SHA256()), salt_length=32
)  # RFC 7518 3.5: salt as long as the hash

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


class JoseError(Exception):
    """A key or signed object that is not acceptable. The caller who knows its meaning translates it."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key that may verify. thumbprint is RFC 7638, SHA-256, base64url."""

    kid: str | None
    kty: str
    algorithms: frozenset[str]
    thumbprint: str
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

    def verify(self, signature: bytes, content: bytes, algorithm: str) -> None:
        """Check the signature. Raises JoseError when it is not right or the key is not for the algorithm."""
        if algorithm not in self.algorithms:
            raise JoseError(f"the key is not for {algorithm}")
        try:
            if isinstance(self.key, ec.EllipticCurvePublicKey):
                if len(signature) != 64:  # RFC 7518 3.4: R and S of 32 bytes each
                    raise JoseError("an ES256 signature has 64 bytes")
                r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
                self.key.verify(encode_dss_signature(r, s), content, _ES256)
            elif isinstance(self.key, rsa.RSAPublicKey):
                self.key.verify(signature, content, _PS256, hashes.SHA256())
            else:
                self.key.verify(signature, content)
        except (InvalidSignature, ValueError) as error:
            raise JoseError("the signature is not right") from error


@dataclass(frozen=True, slots=True)
class Jws:
    """A compact JWS taken apart. Nothing is verified yet."""

    header: Mapping[str, object]
    payload: bytes
    signature: bytes
    signing_input: bytes


def thumbprint(jwk: Mapping[str, object]) -> str:
    """The SHA-256 thumbprint of a JWK (RFC 7638 3). Raises JoseError for a key type that we do not use."""
    required = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n"), "OKP": ("crv", "kty", "x")}
    members = required.get(str(jwk.get("kty")))
    if members is None or not all(isinstance(jwk.get(member), str) for member in members):
        raise JoseError("kty must be EC, RSA or OKP, with its public members")
    text = json.dumps({member: jwk[member] for member in members}, separators=(",", ":"), sort_keys=True)
    return base64url(sha256(text.encode()).digest())


def import_public_jwk(jwk: Mapping[str, object]) -> PublicKey:
    """The key in a JWK (RFC 7517 4), for verifying.

    Raises JoseError for private members, use or key_ops other than verifying, curves other than P-256 and
    Ed25519 (Ed448 included), RSA below 2048 bits or above 8192, and an alg that is not the key's own.
    """
    if private := sorted(_PRIVATE_MEMBERS & jwk.keys()):
        raise JoseError(f"a public key must not have the member {private[0]}")
    if jwk.get("use", "sig") != "sig":
        raise JoseError("use of the key must be sig")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise JoseError("key_ops of the key must hold verify")
    kid = jwk.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise JoseError("kid must be a string")
    key, algorithms = _material(jwk)
    algorithm = jwk.get("alg")
    if algorithm is not None:
        if algorithm not in algorithms:
            raise JoseError("alg of the key must be PS256, ES256 or EdDSA, and fit its type")
        algorithms = frozenset({"EdDSA", "Ed25519"}) if "EdDSA" in algorithms else algorithms
    return PublicKey(kid, str(jwk["kty"]), algorithms, thumbprint(jwk), key)


def _material(
    jwk: Mapping[str, object],
) -> tuple[ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey, frozenset[str]]:
    kty, crv = jwk.get("kty"), jwk.get("crv")
    try:
        if kty == "EC" and crv == "P-256":
            x, y = _fixed(jwk, "x", 32), _fixed(jwk, "y", 32)
            numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), ec.SECP256R1())
            return numbers.public_key(), frozenset({"ES256"})
        if kty == "OKP" and crv == "Ed25519":
            key = ed25519.Ed25519PublicKey.from_public_bytes(_fixed(jwk, "x", 32))
            return key, frozenset({"EdDSA", "Ed25519"})
        if kty == "RSA":
            modulus = int.from_bytes(base64url_decode(_text(jwk, "n")))
            exponent = int.from_bytes(base64url_decode(_text(jwk, "e")))
            if not 2048 <= modulus.bit_length() <= 8192:
                raise JoseError(
                    f"an RSA key must have 2048 to 8192 bits, this one has {modulus.bit_length()}"
                )
            if not 3 <= exponent < 2**32:
                raise JoseError("the RSA exponent is out of range")
            return rsa.RSAPublicNumbers(exponent, modulus).public_key(), frozenset({"PS256"})
    except ValueError as error:
        raise JoseError("the members of the key are not those of a valid public key") from error
    raise JoseError("the key must be EC on P-256, RSA, or OKP on Ed25519")


def _text(jwk: Mapping[str, object], member: str) -> str:
    value = jwk.get(member)
    if not isinstance(value, str):
        raise JoseError(f"the key must have the member {member} as a string")
    return value


def _fixed(jwk: Mapping[str, object], member: str, size: int) -> bytes:
    content = base64url_decode(_text(jwk, member))
    if len(content) != size:
        raise JoseError(f"{member} of the key must have {size} bytes")
    return content


def parse_compact(token: str, max_bytes: int = _MAX_TOKEN_BYTES) -> Jws:
    """Take a compact JWS apart (RFC 7515 7.1). Raises JoseError for anything else, encrypted tokens included."""
    if len(token) > max_bytes:
        raise JoseError(f"longer than {max_bytes} bytes")
    parts = token.split(".")
    if len(parts) != 3 or not parts[2]:
        raise JoseError("not a signed JWT of three parts")
    return Jws(
        header=parse_header(parts[0]),
        payload=_decode(parts[1]),
        signature=_decode(parts[2]),
        signing_input=token[: len(parts[0]) + 1 + len(parts[1])].encode("ascii"),
    )


def parse_header(encoded: str) -> Mapping[str, object]:
    """The protected header, from base64url. Raises JoseError; crit and b64 are refused (RFC 7515 4.1.11)."""
    header = json_object(_decode(encoded), "header")
    if "crit" in header or "b64" in header:
        raise JoseError("header members crit and b64 are not supported")
    if not isinstance(header.get("alg"), str):
        raise JoseError("the header must have alg")
    return header


def json_object(content: bytes, what: str) -> Mapping[str, object]:
    """The JSON object in content. Raises JoseError naming what it was."""
    try:
        value = strict_json(content, max_bytes=_MAX_TOKEN_BYTES)
    except ValueError as error:
        raise JoseError(f"the {what} is not JSON with one reading") from error
    if not isinstance(value, dict):
        raise JoseError(f"the {what} must be a JSON object")
    return value


def _decode(part: str) -> bytes:
    try:
        return base64url_decode(part)
    except ValueError as error:
        raise JoseError(str(error)) from error


def verify(
    token: str,
    keys: Sequence[PublicKey],
    *,
    algorithms: frozenset[str] = ALGORITHMS,
    max_bytes: int = _MAX_TOKEN_BYTES,
) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """Header and claims of a JWT whose signature one of keys verifies. Raises JoseError.

    The key is chosen by kid where the header has one, else by type and algorithm (RFC 7515 appendix D). Claims
    are not looked at: times, issuer and audience are the caller's.
    """
    jws = parse_compact(token, max_bytes)
    algorithm = jws.header["alg"]
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise JoseError("alg must be one of " + ", ".join(sorted(algorithms)))
    kid = jws.header.get("kid")
    fitting = [key for key in keys if algorithm in key.algorithms]
    if kid is not None:
        fitting = [key for key in fitting if key.kid == kid]
    if not fitting:
        raise JoseError("no registered key fits kid and alg of the header")
    for key in fitting:
        try:
            key.verify(jws.signature, jws.signing_input, algorithm)
        except JoseError:
            continue
        return jws.header, json_object(jws.payload, "payload")
    raise JoseError("the signature is not right")


class Signer(Protocol):
    """A private key that signs, wherever it lives."""

    @property
    def kid(self) -> str:
        """Identifier of the key in our JWKS."""
        ...

    @property
    def algorithm(self) -> str:
        """ES256, PS256 or EdDSA."""
        ...

    async def sign(self, content: bytes) -> bytes:
        """The JWS signature over content."""
        ...


@dataclass(frozen=True, slots=True)
class LocalSigner:
    """A signer whose key is in this process."""

    kid: str
    algorithm: str
    key: PrivateKey

    async def sign(self, content: bytes) -> bytes:
        """The JWS signature over content."""
        return sign(content, self.key)


def sign(content: bytes, key: PrivateKey) -> bytes:
    """The JWS signature over content: ES256, PS256 or EdDSA by the type of the key (RFC 7518 3, RFC 8037 3.1)."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(content, _ES256))
        return r.to_bytes(32) + s.to_bytes(32)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(content, _PS256, hashes.SHA256())
    return key.sign(content)


async def sign_jwt(claims: Mapping[str, object], *, typ: str, signer: Signer) -> str:
    """A compact JWT of claims with alg, kid and typ in its header (RFC 7519 7.1)."""
    header = {"alg": signer.algorithm, "kid": signer.kid, "typ": typ}
    signing_input = f"{_json(header)}.{_json(claims)}"
    return f"{signing_input}.{base64url(await signer.sign(signing_input.encode('ascii')))}"


def _json(value: Mapping[str, object]) -> str:
    return base64url(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def public_jwk(key: PrivateKey, *, kid: str) -> dict[str, object]:
    """The public JWK of a private key, with kid, use and alg (RFC 7517 4)."""
    public = key.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        numbers = public.public_numbers()
        x, y = base64url(numbers.x.to_bytes(32)), base64url(numbers.y.to_bytes(32))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "use": "sig", "alg": "ES256"}
    if isinstance(public, rsa.RSAPublicKey):
        material = public.public_numbers()
        n = base64url(material.n.to_bytes((material.n.bit_length() + 7) // 8))
        e = base64url(material.e.to_bytes((material.e.bit_length() + 7) // 8))
        return {"kty": "RSA", "n": n, "e": e, "kid": kid, "use": "sig", "alg": "PS256"}
    x = base64url(public.public_bytes_raw())
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": "EdDSA"}

"""Keys as JWK and signatures by raw `cryptography`: RFC 7517, 7518, 7638, 8037.

Three algorithms and no more: ES256, PS256 and Ed25519 (named EdDSA, or Ed25519 by RFC 9864). Two others, RS384 and
ES384, verify assertions of clients of SMART App Launch, where the caller asks for them. A key is imported once and
knows what it may be used for.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384

from authz.protocol.encoding import base64url, base64url_decode, strict_json
from authz.protocol.errors import speakable

ALGORITHMS = frozenset({"ES256", "PS256", "EdDSA", "Ed25519"})
VERIFIED_ONLY = frozenset({"RS384", "ES384"})
"""What no key here signs with, and what is verified for those who ask for it."""
OF_ID_TOKENS = frozenset({"RS256"})
"""What keys of this server sign ID tokens with for clients of SMART App Launch 2.2, and nothing else ever."""
_MAX_KEY_ID_CHARACTERS = 256
_MIN_RSA_BITS = 2048  # FAPI 2.0 Security Profile 5.4.1
_MAX_KEYS = 100  # of one set: importing them costs
_MAX_RSA_BITS = 8192  # a longer one costs milliseconds a signature, and is the sender's choice
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_REQUIRED_MEMBERS = {"EC": ("crv", "x", "y"), "RSA": ("e", "n"), "OKP": ("crv", "x")}

_SHA256 = SHA256()
_SHA384 = SHA384()
_ECDSA = ec.ECDSA(_SHA256)
_ECDSA_384 = ec.ECDSA(_SHA384)
_PKCS1 = padding.PKCS1v15()
# RFC 7518 3.5: the salt is as long as the hash.
_PSS = padding.PSS(mgf=padding.MGF1(_SHA256), salt_length=padding.PSS.DIGEST_LENGTH)
_OF_CURVES = frozenset({"ES256", "ES384"})
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
            # Which algorithms a key has says of which kind it is; to ask its class takes longer.
            if algorithm in _OF_CURVES:
                # RFC 7518 3.4: R and S, 32 bytes each, or 48
                half, scheme = (48, _ECDSA_384) if algorithm == "ES384" else (32, _ECDSA)
                if len(signature) != 2 * half:
                    raise JoseError(f"an {algorithm} signature has {2 * half} bytes, not {len(signature)}")
                r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
                key = cast(ec.EllipticCurvePublicKey, self.key)
                key.verify(encode_dss_signature(r, s), data, scheme)
            elif isinstance(self.key, rsa.RSAPublicKey) and algorithm == "RS384":
                self.key.verify(signature, data, _PKCS1, _SHA384)
            elif isinstance(self.key, rsa.RSAPublicKey) and algorithm == "RS256":
                self.key.verify(signature, data, _PKCS1, _SHA256)
            elif isinstance(self.key, rsa.RSAPublicKey):
                self.key.verify(signature, data, _PSS, _SHA256)
            else:
                cast(ed25519.Ed25519PublicKey, self.key).verify(signature, data)
        except InvalidSignature as error:
            raise JoseError("the signature is not valid") from error


def sign(data: bytes, key: PrivateKey, algorithm: str | None = None) -> bytes:
    """The JWS signature over data: ES256, PS256 or EdDSA by the key's type (RFC 7518 3.4, 3.5, RFC 8037 3.1).

    algorithm is to be named where it is one of OF_ID_TOKENS (RFC 7518 3.3).
    """
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(data, _ECDSA))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, _PKCS1 if algorithm == "RS256" else _PSS, _SHA256)
    return key.sign(data)


def import_public_jwk(jwk: Mapping[str, object], *, also: frozenset[str] = frozenset()) -> PublicKey:
    """The public key of a JWK (RFC 7517). Raises JoseError.

    Accepted: EC on P-256, OKP on Ed25519, RSA of 2048 to 8192 bits; members in their canonical encoding. also names
    those of VERIFIED_ONLY and OF_ID_TOKENS that are accepted too; ES384 brings EC on P-384. A JWK with a private member
    is refused as a whole: whoever sends one must learn of it.
    """
    kid = public_key_id(jwk)
    kty = jwk.get("kty")
    if kty == "EC":
        key = _import_ec(jwk, with_p384="ES384" in also)
    elif kty == "OKP":
        key = _import_ed25519(jwk)
    elif kty == "RSA":
        key = _import_rsa(jwk)
    else:
        raise JoseError("kty of the jwk must be EC, OKP or RSA")
    known = algorithms_of(key) | (_verified_only(key) & also)
    return PublicKey(kid, known & _algorithms_named(jwk), thumbprint(jwk), key)


def public_key_id(jwk: Mapping[str, object]) -> str | None:
    """The kid of a JWK of whatever kind, None without one. Raises JoseError for a JWK that is not public."""
    private = sorted(_PRIVATE_MEMBERS & jwk.keys())
    if private:
        raise JoseError(f"the jwk must be public, but holds {', '.join(private)}")
    return _key_id(jwk)


def public_jwk(key: PrivateKey, *, kid: str, algorithm: str | None = None) -> dict[str, object]:
    """The public JWK of a private key, with kid, use and alg (RFC 7517 4)."""
    return public_jwk_of(key.public_key(), kid=kid, algorithm=algorithm)


def public_jwk_of(public: VerifyingKey, *, kid: str, algorithm: str | None = None) -> dict[str, object]:
    """The JWK of a public key, with kid, use and alg (RFC 7517 4): that of its kind, or one of OF_ID_TOKENS."""
    if isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_numbers()
        x, y = base64url(point.x.to_bytes(32, "big")), base64url(point.y.to_bytes(32, "big"))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "use": "sig", "alg": "ES256"}
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        n = base64url(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big"))
        e = base64url(numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8, "big"))
        return {"kty": "RSA", "n": n, "e": e, "kid": kid, "use": "sig", "alg": _of_rsa(algorithm)}
    x = base64url(public.public_bytes_raw())
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": "EdDSA"}


def import_jwks(
    keys: Iterable[Mapping[str, object]], *, also: frozenset[str] = frozenset()
) -> tuple[PublicKey, ...]:
    """The keys of a JWK set that can verify signatures; others are left out, as RFC 7517 5 advises."""
    usable = []
    for jwk in keys:
        try:
            key = import_public_jwk(jwk, also=also)
        except JoseError:
            continue
        if key.algorithms:
            usable.append(key)
    return tuple(usable)


def read_key_set(content: bytes) -> tuple[Mapping[str, object], ...]:
    """The keys of a JWK set, not imported yet (RFC 7517 5). Raises JoseError.

    A set with a private or symmetric key is refused as a whole: whoever publishes one must learn of it.
    """
    try:
        value = strict_json(content)
    except ValueError as error:
        raise JoseError("the key set is not JSON with one reading") from error
    keys = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(keys, list) or not keys or not all(isinstance(key, dict) for key in keys):
        raise JoseError("the key set must be an object with keys, a list of at least one object")
    if len(keys) > _MAX_KEYS:
        raise JoseError(f"the key set has {len(keys)} keys, at most {_MAX_KEYS} are accepted")
    private = sorted({name for key in keys for name in _PRIVATE_MEMBERS & key.keys()})
    if private:
        raise JoseError(f"the key set must be public, but holds {', '.join(private)}")
    return tuple(keys)


def thumbprint(jwk: Mapping[str, object]) -> str:
    """SHA-256 thumbprint of a JWK, base64url (RFC 7638 3). Raises JoseError when a required member is missing."""
    kty = jwk.get("kty")
    names = _REQUIRED_MEMBERS.get(kty) if isinstance(kty, str) else None
    if names is None:
        raise JoseError("kty of the jwk must be EC, OKP or RSA")
    required = {"kty": kty, **{name: _text(jwk, name) for name in names}}
    text = json.dumps(dict(sorted(required.items())), separators=(",", ":"), ensure_ascii=False)
    try:
        return base64url(sha256(text.encode("utf-8")).digest())
    except UnicodeEncodeError as error:
        raise JoseError("the jwk holds text that is not Unicode") from error


def signs_with(key: object) -> frozenset[str]:
    """Names of the JWS algorithms that a key of this server may be for, by its public half."""
    return algorithms_of(key) | (OF_ID_TOKENS if isinstance(key, rsa.RSAPublicKey) else frozenset())


def _of_rsa(algorithm: str | None) -> str:
    return algorithm if algorithm in OF_ID_TOKENS else "PS256"


def algorithms_of(key: object) -> frozenset[str]:
    """Names of the JWS algorithms of a public key; none for a key that is not used here."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return frozenset({"ES256"}) if isinstance(key.curve, ec.SECP256R1) else frozenset()
    if isinstance(key, rsa.RSAPublicKey):
        return frozenset({"PS256"})
    return _EDDSA_NAMES if isinstance(key, ed25519.Ed25519PublicKey) else frozenset()


def _verified_only(key: object) -> frozenset[str]:
    """Names of the algorithms of a public key that are verified only."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return frozenset({"ES384"}) if isinstance(key.curve, ec.SECP384R1) else frozenset()
    return frozenset({"RS384"}) | OF_ID_TOKENS if isinstance(key, rsa.RSAPublicKey) else frozenset()


def _key_id(jwk: Mapping[str, object]) -> str | None:
    if "kid" not in jwk:
        return None
    kid = jwk["kid"]
    if not (isinstance(kid, str) and 0 < len(kid) <= _MAX_KEY_ID_CHARACTERS):
        raise JoseError(f"kid of the jwk must be a string of 1 to {_MAX_KEY_ID_CHARACTERS} characters")
    return kid


def _algorithms_named(jwk: Mapping[str, object]) -> frozenset[str]:
    """The algorithms that use, key_ops and alg leave (RFC 7517 4.2 to 4.4)."""
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return frozenset()
    if "alg" not in jwk:
        return ALGORITHMS | VERIFIED_ONLY
    algorithm = jwk["alg"]
    if not isinstance(algorithm, str):
        return frozenset()
    return _EDDSA_NAMES if algorithm in _EDDSA_NAMES else frozenset({algorithm})


def _import_ec(jwk: Mapping[str, object], *, with_p384: bool) -> VerifyingKey:
    if with_p384 and jwk.get("crv") == "P-384":
        return _point(jwk, ec.SECP384R1(), 48)
    if jwk.get("crv") != "P-256":
        raise JoseError("crv of an EC jwk must be P-256")
    return _point(jwk, ec.SECP256R1(), 32)


def _point(jwk: Mapping[str, object], curve: ec.EllipticCurve, length: int) -> VerifyingKey:
    x, y = _octets(jwk, "x", length=length), _octets(jwk, "y", length=length)
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\x04" + x + y)
    except ValueError as error:
        raise JoseError(f"x and y of the jwk are not a point of {jwk['crv']}") from error


def _import_ed25519(jwk: Mapping[str, object]) -> VerifyingKey:
    if jwk.get("crv") != "Ed25519":  # Ed448 and X25519 among them
        raise JoseError("crv of an OKP jwk must be Ed25519")
    x = _octets(jwk, "x", length=32)
    y = int.from_bytes(x, "little") & (2**255 - 1)
    if y >= _ED25519_PRIME or y in _ED25519_SMALL_ORDER:
        raise JoseError("x of the jwk is a point of small order on Ed25519, or not in canonical form")
    return ed25519.Ed25519PublicKey.from_public_bytes(x)


def _import_rsa(jwk: Mapping[str, object]) -> VerifyingKey:
    modulus, exponent = _octets(jwk, "n"), _octets(jwk, "e")
    if not modulus or not exponent or modulus[0] == 0 or exponent[0] == 0:  # RFC 7518 6.3.1.1, 2
        raise JoseError("n and e of the jwk must be base64url of unsigned numbers without leading zero bytes")
    n, e = int.from_bytes(modulus, "big"), int.from_bytes(exponent, "big")
    if not _MIN_RSA_BITS <= n.bit_length() <= _MAX_RSA_BITS:
        raise JoseError(f"the RSA key has {n.bit_length()} bits, expected {_MIN_RSA_BITS} to {_MAX_RSA_BITS}")
    # FIPS 186-5 A.1.1 for the lower end; the upper end bounds the cost of a verification.
    if not (65537 <= e < 2**32 and e % 2):
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

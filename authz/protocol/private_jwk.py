"""A private key that comes as a JWK: RFC 7517, 7518 6.2.2 and 6.3.2, RFC 8037 2. The public part is judged by jwk.py."""

from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from authz.protocol.encoding import base64url_decode
from authz.protocol.jwk import JoseError, PrivateKey, import_public_jwk, public_jwk, thumbprint

_SECRET = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_RSA_MEMBERS = ("d", "p", "q", "dp", "dq", "qi")


def import_private_jwk(jwk: Mapping[str, object]) -> PrivateKey:
    """The private key of a JWK for signing, whose parts fit together. Raises JoseError."""
    public_part = {name: value for name, value in jwk.items() if name not in _SECRET and name != "key_ops"}
    public = import_public_jwk(public_part)
    if not public.algorithms or "sign" not in _operations(jwk):
        raise JoseError("use, key_ops or alg of the jwk say another purpose than to sign")
    if "d" not in jwk:
        raise JoseError("the jwk holds no private key: d is missing")
    if "oth" in jwk:
        raise JoseError("an RSA key of more than two factors is not supported")
    try:
        private = _private(jwk, public.key)
    except ValueError as error:
        raise JoseError("the private and the public members of the jwk do not fit together") from error
    if thumbprint(public_jwk(private, kid="given")) != public.thumbprint:
        raise JoseError("the private and the public members of the jwk do not fit together")
    return private


def _private(jwk: Mapping[str, object], public: object) -> PrivateKey:
    """The key of the private members. Raises ValueError when they make none."""
    if isinstance(public, ec.EllipticCurvePublicKey):
        return ec.derive_private_key(_number(jwk, "d"), ec.SECP256R1())
    if isinstance(public, rsa.RSAPublicKey):
        d, p, q, dp, dq, qi = (_number(jwk, name) for name in _RSA_MEMBERS)
        return rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, public.public_numbers()).private_key()
    return ed25519.Ed25519PrivateKey.from_private_bytes(_octets(jwk, "d"))


def _operations(jwk: Mapping[str, object]) -> list[object]:
    operations = jwk.get("key_ops", ["sign"])
    return operations if isinstance(operations, list) else []


def _number(jwk: Mapping[str, object], name: str) -> int:
    return int.from_bytes(_octets(jwk, name), "big")


def _octets(jwk: Mapping[str, object], name: str) -> bytes:
    value = jwk.get(name)
    if not isinstance(value, str):
        raise JoseError(f"{name} of the jwk is missing")
    try:
        return base64url_decode(value)
    except ValueError as error:
        raise JoseError(f"{name} of the jwk is not base64url without padding") from error

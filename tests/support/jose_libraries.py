"""PyJWT, joserfc and jwcrypto as readers of signed tokens, to compare our own reader with."""

import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jwcrypto.jwk
import jwcrypto.jws
import jwt
from joserfc import jwk as joserfc_jwk
from joserfc import jwt as joserfc_jwt
from joserfc.jws import JWSRegistry

NAMES = ["ES256", "PS256", "EdDSA"]
Claims = Mapping[str, Any]


class Refused(Exception):
    """A library did not accept a token or key."""


def by_pyjwt(token: str, jwk: Claims) -> Claims:
    key = jwt.PyJWK(dict(jwk), {"EC": "ES256", "RSA": "PS256", "OKP": "EdDSA"}[jwk["kty"]]).key
    options: Any = dict.fromkeys(
        ("verify_exp", "verify_iat", "verify_nbf", "verify_aud", "verify_sub"), False
    )
    return dict(jwt.decode(token, key, algorithms=NAMES, options=options))


def by_joserfc(token: str, jwk: Claims) -> Claims:
    key = joserfc_jwk.import_key(dict(jwk))
    # Unknown header members are to be ignored (RFC 7515 4); this library refuses them unless it is told.
    registry = JWSRegistry(algorithms=[*NAMES, "Ed25519"], strict_check_header=False)
    return dict(joserfc_jwt.decode(token, key, registry=registry).claims)


def by_jwcrypto(token: str, jwk: Claims) -> Claims:
    jws = jwcrypto.jws.JWS()
    jws.allowed_algs = [*NAMES, "Ed25519"]
    jws.deserialize(token, jwcrypto.jwk.JWK(**jwk))
    claims = json.loads(jws.payload)
    if not isinstance(claims, dict):
        raise Refused("the payload is no object")
    return claims


LIBRARIES: dict[str, Callable[[str, Claims], Claims]] = {
    "PyJWT": by_pyjwt,
    "joserfc": by_joserfc,
    "jwcrypto": by_jwcrypto,
}


def by_library(name: str, token: str, jwk: Claims) -> Claims | None:
    """The claims that a library reads; None when it refuses, however it says so."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joserfc finds the name EdDSA old, PyJWT short keys weak
            return LIBRARIES[name](token, jwk)
    except Exception:
        return None


def is_signed(token: str, jwk: Claims) -> bool:
    """Whether PyJWT and jwcrypto both find the signature of a compact JWS right, whatever its claims are.

    PyJWT is not asked about the name Ed25519 of RFC 9864, which it does not know.
    """
    plain = public_members(jwk)
    algorithm = jwt.get_unverified_header(token)["alg"]
    if algorithm == "Ed25519":
        return by_library("jwcrypto", token, plain) is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            jwt.api_jws.PyJWS(NAMES).decode(token, jwt.PyJWK(plain, algorithm).key, algorithms=NAMES)
        except jwt.InvalidTokenError:
            return False
    return by_library("jwcrypto", token, plain) is not None


_MEMBERS = {"EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "RSA": ("n", "e")}


def public_members(jwk: Claims) -> dict[str, Any]:
    """The members of a public JWK that its thumbprint is made of (RFC 7638 3.2)."""
    return {name: jwk[name] for name in ("kty", *_MEMBERS[jwk["kty"]])}

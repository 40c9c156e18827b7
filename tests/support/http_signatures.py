"""A verifier of signed answers that shares no code with what signs them, as a client would write one by RFC 9421."""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from jwcrypto.jwk import JWK

Fields = Sequence[tuple[str, str]]
_INPUT = re.compile(
    r'([a-z*][a-z0-9_*.-]*)=(\(((?:"[^"]+"(?:;(?:req|tr))*(?: |(?=\))))*)\)((?:;[a-z]+=[^;]+)*))'
)


class NotSigned(Exception):
    """The answer is not what its signature says, or has none."""


@dataclass
class Exchange:
    """A request and its answer, as a client has both."""

    method: str
    url: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    trailers: list[tuple[str, str]] = field(default_factory=list)
    request_headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Verified:
    """What a signature that is right says."""

    label: str
    components: list[str]
    parameters: dict[str, str]


def verify(exchange: Exchange, jwks: Mapping[str, object], *, digest: bytes | None = None) -> Verified:
    """Check digest and signature with a key of jwks. Raises NotSigned.

    digest is the SHA-256 of a body that was not held.
    """
    sections = [*exchange.headers, *exchange.trailers]
    found = _INPUT.fullmatch(only(sections, "signature-input"))
    if found is None:
        raise NotSigned("Signature-Input has another form")
    label, covered, parameters = found[1], found[3].split(), _parameters(found[4])
    if parameters.get("tag") != "fapi-2-response" or "created" not in parameters:
        raise NotSigned("not a FAPI response signature")
    base = "\n".join(f"{component}: {_value(component, exchange)}" for component in covered)
    base += f'\n"@signature-params": {found[2]}'
    signature = re.fullmatch(re.escape(label) + r"=:([A-Za-z0-9+/=]+):", only(sections, "signature"))
    if signature is None:
        raise NotSigned("Signature has another label, or another form")
    (jwk,) = [key for key in jwks["keys"] if key["kid"] == parameters["keyid"]]  # type: ignore[attr-defined]
    _check(jwk, parameters.get("alg"), base64.b64decode(signature[1]), base.encode())
    if '"content-digest"' in covered or '"content-digest";tr' in covered:
        computed = base64.b64encode(digest or sha256(exchange.body).digest()).decode()
        if only(sections, "content-digest") != f"sha-256=:{computed}:":
            raise NotSigned("the body has another digest")
    elif exchange.body:
        raise NotSigned("there is a body that is not covered")
    return Verified(label, covered, parameters)


def only(fields: Fields, name: str) -> str:
    """The one value of a field. Raises NotSigned when it is not there once."""
    values = [value for said, value in fields if said.lower() == name]
    if len(values) != 1:
        raise NotSigned(f"{name} is there {len(values)} times")
    return values[0]


def _parameters(text: str) -> dict[str, str]:
    return {
        name: value.strip('"') for name, _, value in (part.partition("=") for part in text.split(";")[1:])
    }


def _value(component: str, exchange: Exchange) -> str:
    quoted, *flags = component.split(";")
    name = quoted.strip('"')
    if "req" in flags:
        derived = {"@method": exchange.method, "@target-uri": exchange.url}
        if name in derived:
            return derived[name]
        if name not in exchange.request_headers:
            raise NotSigned(f"the request has no {name}")
        return exchange.request_headers[name]
    if name == "@status":
        return str(exchange.status)
    return only(exchange.trailers if "tr" in flags else exchange.headers, name)


def _check(jwk: Mapping[str, str], algorithm: str | None, signature: bytes, base: bytes) -> None:
    key = JWK(**jwk).get_op_key("verify")
    checks: dict[tuple[str, str | None], Callable[[], None]] = {
        ("ES256", "ecdsa-p256-sha256"): lambda: _ecdsa(key, signature, base),
        ("EdDSA", "ed25519"): lambda: _ed25519(key, signature, base),
        ("PS256", None): lambda: _pss(key, signature, base),
    }
    try:
        checks[jwk["alg"], algorithm]()
    except (InvalidSignature, KeyError) as error:
        raise NotSigned("the signature does not fit") from error


def _ecdsa(key: object, signature: bytes, base: bytes) -> None:
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert len(signature) == 64
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    key.verify(encode_dss_signature(r, s), base, ec.ECDSA(SHA256()))


def _ed25519(key: object, signature: bytes, base: bytes) -> None:
    assert isinstance(key, ed25519.Ed25519PublicKey)
    key.verify(signature, base)


def _pss(key: object, signature: bytes, base: bytes) -> None:
    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(signature, base, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())

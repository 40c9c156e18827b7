"""Keys, proofs, assertions and certificates for tests, made with `cryptography` alone.

Nothing here uses the code under test: a mistake in authz.protocol.jose cannot hide behind the same mistake here.
"""

import base64
import datetime
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
DEFAULT_NOW = 1_800_000_000


class _Absent:
    """One claim left out; its name is the same in every process, for the names of tests."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()
"""As an override: leave this member out."""
FRESH = object()
"""As a jti: one that no other proof has."""

_numbers = itertools.count(1)


def b64(content: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def _number(value: int, size: int | None = None) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def ec_key() -> ec.EllipticCurvePrivateKey:
    """A new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


@cache
def rsa_key(number: int = 0, *, bits: int = 2048) -> rsa.RSAPrivateKey:
    """An RSA key; the same one for the same number, because making one is slow."""
    return rsa.generate_private_key(65537, bits)


def ed_key() -> ed25519.Ed25519PrivateKey:
    """A new Ed25519 key."""
    return ed25519.Ed25519PrivateKey.generate()


def algorithm(key: PrivateKey) -> str:
    """The JWS algorithm of the key."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return "ES256"
    return "PS256" if isinstance(key, rsa.RSAPrivateKey) else "EdDSA"


def public_jwk(key: PrivateKey, **more: object) -> dict[str, Any]:
    """The public JWK of the key, with further members such as kid or use."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        point, size = key.public_key().public_numbers(), (key.key_size + 7) // 8
        x, y = _number(point.x, size), _number(point.y, size)
        return {"kty": "EC", "crv": f"P-{key.key_size}", "x": x, "y": y, **more}
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e), **more}
    return {"kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key().public_bytes_raw()), **more}


def private_jwk(key: PrivateKey, **more: object) -> dict[str, Any]:
    """The JWK of the key with its private members."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        d = _number(key.private_numbers().private_value, (key.key_size + 7) // 8)
        return {**public_jwk(key), "d": d, **more}
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.private_numbers()
        secret = {
            "d": numbers.d, "p": numbers.p, "q": numbers.q, "dp": numbers.dmp1, "dq": numbers.dmq1, "qi": numbers.iqmp,
        }  # fmt: skip
        return {**public_jwk(key), **{name: _number(value) for name, value in secret.items()}, **more}
    return {**public_jwk(key), "d": b64(key.private_bytes_raw()), **more}


def thumbprint(key: PrivateKey) -> str:
    """RFC 7638 thumbprint of the key, SHA-256, base64url."""
    members = json.dumps(dict(sorted(public_jwk(key).items())), separators=(",", ":"))
    return b64(hashlib.sha256(members.encode()).digest())


def raw_signature(key: PrivateKey, data: bytes) -> bytes:
    """The JWS signature over data."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32), hashes.SHA256())
    return key.sign(data)


def make_jws(key: PrivateKey, header: Mapping[str, object], payload: bytes | Mapping[str, object]) -> str:
    """A compact JWS of exactly this header and payload, signed by the key whatever the header says."""
    content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signing_input = f"{b64(json.dumps(header).encode())}.{b64(content)}"
    return f"{signing_input}.{b64(raw_signature(key, signing_input.encode()))}"


def _overridden(members: dict[str, object], overrides: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in (members | dict(overrides)).items() if value is not ABSENT}


def make_proof(
    key: PrivateKey,
    method: str = "POST",
    url: str = "https://as.example/token",
    now: int = DEFAULT_NOW,
    *,
    jti: object = FRESH,
    nonce: str | None = None,
    access_token: str | None = None,
    header: Mapping[str, object] | None = None,
    **overrides: object,
) -> str:
    """A DPoP proof of the key. overrides replace claims, header replaces header members; ABSENT leaves one out."""
    claims: dict[str, object] = {"jti": jti, "htm": method, "htu": url, "iat": now}
    if jti is FRESH:
        claims["jti"] = f"jti-{next(_numbers)}"
    if nonce is not None:
        claims["nonce"] = nonce
    if access_token is not None:
        claims["ath"] = b64(hashlib.sha256(access_token.encode()).digest())
    members: dict[str, object] = {"typ": "dpop+jwt", "alg": algorithm(key), "jwk": public_jwk(key)}
    return make_jws(key, _overridden(members, header or {}), _overridden(claims, overrides))


def make_assertion(
    key: PrivateKey,
    client_id: str,
    audience: object,
    now: int = DEFAULT_NOW,
    *,
    kid: str | None = None,
    header: Mapping[str, object] | None = None,
    **overrides: object,
) -> str:
    """A client assertion (RFC 7523) that lives 60 s. overrides replace claims; ABSENT leaves one out."""
    claims: dict[str, object] = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "jti": f"assertion-{next(_numbers)}",
        "iat": now,
        "exp": now + 60,
    }
    members: dict[str, object] = {"alg": algorithm(key)}
    if kid is not None:
        members["kid"] = kid
    return make_jws(key, _overridden(members, header or {}), _overridden(claims, overrides))


def distinguished_name(*pairs: tuple[str, str]) -> x509.Name:
    """A name of (NameOID attribute in lower case, value) pairs, most significant first."""
    return x509.Name([x509.NameAttribute(getattr(NameOID, oid.upper()), value) for oid, value in pairs])


def _moment(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


class Authority:
    """A certificate authority of tests: its key and its certificate."""

    def __init__(self, key: PrivateKey, certificate: x509.Certificate) -> None:
        self.key = key
        self.certificate = certificate
        self.der = certificate.public_bytes(Encoding.DER)


def make_certificate(
    key: PrivateKey,
    subject: x509.Name,
    issuer: x509.Name,
    issuer_key: PrivateKey,
    *,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    not_before: int = DEFAULT_NOW - 86400,
    not_after: int = DEFAULT_NOW + 86400,
) -> x509.Certificate:
    """A certificate of exactly these parts; extensions are (extension, is critical) pairs."""
    builder = x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=key.public_key(),
        serial_number=next(_numbers),
        not_valid_before=_moment(not_before),
        not_valid_after=_moment(not_after),
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(
        issuer_key, None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    )


def certificate_authority(
    name: str = "Test CA", *, parent: Authority | None = None, **parts: Any
) -> Authority:
    """A new authority: a root, or an intermediate below parent."""
    key = ec_key()
    subject = distinguished_name(("common_name", name))
    parts.setdefault("extensions", [(x509.BasicConstraints(ca=True, path_length=None), True)])
    issuer, issuer_key = (subject, key) if parent is None else (parent.certificate.subject, parent.key)
    return Authority(key, make_certificate(key, subject, issuer, issuer_key, **parts))


def issue_certificate(
    ca: Authority,
    key: PrivateKey | None = None,
    *,
    subject: x509.Name | None = None,
    names: Sequence[x509.GeneralName] = (),
    usages: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.CLIENT_AUTH,),
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    not_before: int = DEFAULT_NOW - 86400,
    not_after: int = DEFAULT_NOW + 86400,
) -> bytes:
    """DER of a client certificate that ca issued. names are its subject alternative names."""
    found = list(extensions)
    if usages:
        found.append((x509.ExtendedKeyUsage(list(usages)), False))
    if names:
        found.append((x509.SubjectAlternativeName(list(names)), False))
    certificate = make_certificate(
        key or ec_key(),
        subject or distinguished_name(("country_name", "US"), ("common_name", "client")),
        ca.certificate.subject,
        ca.key,
        extensions=found,
        not_before=not_before,
        not_after=not_after,
    )
    return certificate.public_bytes(Encoding.DER)


def self_signed_certificate(
    key: PrivateKey, *, subject: x509.Name | None = None, not_after: int = DEFAULT_NOW + 86400
) -> bytes:
    """DER of a certificate that the key issued for itself."""
    name = subject or distinguished_name(("common_name", "client"))
    return make_certificate(key, name, name, key, not_after=not_after).public_bytes(Encoding.DER)


def pem(*certificates: bytes) -> str:
    """The certificates as PEM, one block behind the other."""
    return "".join(
        x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode("ascii") for der in certificates
    )

"""Client certificates: thumbprint, trusted chain, registered subject and registered key (RFC 8705, RFC 5280).

How a certificate comes through a proxy that ends TLS is in certificate_headers.py.
"""

import datetime
import ipaddress
from base64 import b64decode
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from authz.protocol.clients import CertificateSubject
from authz.protocol.distinguished_names import parse_distinguished_name, relative_names
from authz.protocol.encoding import base64url
from authz.protocol.errors import ErrorCode, OAuthError

SUBJECT_KINDS = ("subject_dn", "san_dns", "san_uri", "san_ip", "san_email")
_MAX_CHAIN = 8  # certificates beside the leaf; more only cost time in the search for a path
_MIN_RSA_BITS = 2048
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}  # RFC 7518 6.2.1.1
_UNREADABLE = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)


def thumbprint(der: bytes) -> str:
    """x5t#S256 of a certificate: base64url of its SHA-256 (RFC 8705 3.1)."""
    return base64url(sha256(der).digest())


def verify_chain(der: bytes, chain: Iterable[bytes], anchors: tuple[bytes, ...], now: int) -> None:
    """Check the path from a client certificate to one of the anchors (RFC 5280 6). All are DER.

    Every certificate of the path must be valid at now, issuers must be CAs that may sign certificates, path lengths
    and name constraints hold, unknown critical extensions are refused, and a leaf with extended key usage must
    have clientAuth. A leaf without the extension is not restricted (RFC 5280 4.2.1.12); a leaf that is a CA is
    refused. Revocation is not looked at. Raises OAuthError(INVALID_CLIENT).
    """
    if not anchors:
        raise _refused(
            "this server trusts no certificate authority for clients: authenticate by private_key_jwt"
        )
    try:
        leaf = x509.load_der_x509_certificate(der)
        between = [x509.load_der_x509_certificate(each) for each in chain]
        _check_leaf(leaf, now)
    except _UNREADABLE as error:
        raise _refused(
            "the client certificate or its chain cannot be read: it must be X.509 version 3",
            detail=str(error),
        ) from error
    if len(between) > _MAX_CHAIN:
        raise _refused(f"the chain has {len(between)} certificates, at most {_MAX_CHAIN} are accepted")
    policy = PolicyBuilder().store(_store(anchors)).time(datetime.datetime.fromtimestamp(now, datetime.UTC))
    policy = policy.extension_policies(ee_policy=_LEAF_POLICY, ca_policy=_ISSUER_POLICY)
    try:
        policy.build_client_verifier().verify(leaf, between)
    except VerificationError as error:
        raise _refused(
            "the client certificate does not lead to a certificate authority that this server trusts: send its chain too",
            detail=str(error),
        ) from error


def subject_matches(der: bytes, subject: CertificateSubject) -> bool:
    """Whether the certificate is of the registered subject (RFC 8705 2.1.2).

    subject_dn is compared as RFC 5280 7.1 says: in order, types by OID, values without case and with single spaces.
    Of the alternative names one of the registered kind must be equal: DNS names without case and never as a
    wildcard, addresses as numbers, the domain of an e-mail address without case, URIs byte for byte.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        if subject.kind == "subject_dn":
            expected = parse_distinguished_name(subject.value)
            return bool(expected) and relative_names(certificate.subject) == expected
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if subject.kind == "san_dns":
            dns_names = names.get_values_for_type(x509.DNSName)
            return subject.value.lower() in (name.lower() for name in dns_names)
        if subject.kind == "san_uri":
            return subject.value in names.get_values_for_type(x509.UniformResourceIdentifier)
        if subject.kind == "san_ip":
            return ipaddress.ip_address(subject.value) in names.get_values_for_type(x509.IPAddress)
        if subject.kind == "san_email":
            mailboxes = names.get_values_for_type(x509.RFC822Name)
            return _mailbox(subject.value) in (_mailbox(name) for name in mailboxes)
    except (*_UNREADABLE, x509.ExtensionNotFound):
        return False
    return False


def jwk_holds(der: bytes, jwks: Iterable[Mapping[str, object]]) -> bool:
    """Whether the certificate is one of those in a client's JWK set (RFC 8705 2.2.2), for self-signed ones.

    A JWK with x5c, or else x5t#S256, names one certificate and fits that one only. A JWK with neither fits every
    certificate of its public key. Dates are not looked at: what is registered is trusted until it is removed.
    """
    try:
        public = _public_members(x509.load_der_x509_certificate(der))
    except _UNREADABLE:
        return False
    return public is not None and any(_jwk_fits(jwk, der, public) for jwk in jwks)


def _jwk_fits(jwk: Mapping[str, object], der: bytes, public: Mapping[str, str]) -> bool:
    if any(jwk.get(member) != value for member, value in public.items()):
        return False
    if "x5c" in jwk:
        certificates = jwk["x5c"]
        if not isinstance(certificates, list) or not certificates or not isinstance(certificates[0], str):
            return False
        try:
            # RFC 7517 4.7: the first is the key's own
            return b64decode(certificates[0], validate=True) == der
        except ValueError:
            return False
    return "x5t#S256" not in jwk or jwk["x5t#S256"] == thumbprint(der)


def _public_members(certificate: x509.Certificate) -> Mapping[str, str] | None:
    """The members of the JWK of the certificate's key, None for keys that are refused."""
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        size = (key.curve.key_size + 7) // 8
        point = key.public_numbers()
        x, y = base64url(point.x.to_bytes(size, "big")), base64url(point.y.to_bytes(size, "big"))
        return {"kty": "EC", "crv": _CURVES[key.curve.name], "x": x, "y": y}
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        numbers = key.public_numbers()
        n = base64url(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big"))
        e = base64url(numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8, "big"))
        return {"kty": "RSA", "n": n, "e": e}
    if isinstance(key, ed25519.Ed25519PublicKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": base64url(key.public_bytes_raw())}
    return None


def _mailbox(address: str) -> tuple[str, str]:
    """Local part as it is, domain in lower case (RFC 5280 7.5)."""
    local, _, domain = address.rpartition("@")
    return local, domain.lower()


def _check_leaf(leaf: x509.Certificate, now: int) -> None:
    """What a client's developer can mend, each by its name: dates and extended key usage."""
    begins, ends = int(leaf.not_valid_before_utc.timestamp()), int(leaf.not_valid_after_utc.timestamp())
    if now > ends:
        raise _refused(f"the client certificate expired {now - ends} s ago")
    if now < begins:
        raise _refused(f"the client certificate is not valid for another {begins - now} s")
    for extension in leaf.extensions:
        usage = extension.value
        if isinstance(usage, x509.ExtendedKeyUsage) and ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
            raise _refused("the extended key usage of the client certificate must have clientAuth")


def _check_is_no_issuer(
    _policy: Policy, _leaf: x509.Certificate, constraints: x509.BasicConstraints | None
) -> None:
    if constraints is not None and constraints.ca:
        raise ValueError("the leaf is a certificate authority")


def _check_may_sign(_policy: Policy, _issuer: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("the issuer may not sign certificates")


# The defaults of `cryptography` are those of the public web: they ask for extensions that hospital CAs leave out,
# such as a subject alternative name. What RFC 5280 6.1 asks of a path is asked here.
_LEAF_POLICY = ExtensionPolicy.permit_all().may_be_present(
    x509.BasicConstraints, Criticality.AGNOSTIC, _check_is_no_issuer
)
_ISSUER_POLICY = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)  # its cA is checked in any policy
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _check_may_sign)
)


@lru_cache(maxsize=8)
def _store(anchors: tuple[bytes, ...]) -> Store:
    return Store([x509.load_der_x509_certificate(anchor) for anchor in anchors])


def _refused(description: str, *, detail: str = "") -> OAuthError:
    return OAuthError(ErrorCode.INVALID_CLIENT, description, detail=detail)

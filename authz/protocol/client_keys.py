"""The keys of a client by value: a JWK Set that it registers (RFC 7591 2, RFC 7517 5, RFC 8705 2.2.2)."""

from base64 import b64decode
from collections.abc import Mapping, Sequence

from cryptography import x509

from authz.protocol.certificates import jwk_holds
from authz.protocol.jwk import JoseError, import_public_jwk, public_key_id

_MAX_KEYS = 20


class ClientKeysError(Exception):
    """A JWK Set that a client may not have. The text is public: it holds only RFC 6749 5.2's characters."""


def read_jwks(value: object, *, also: frozenset[str] = frozenset()) -> tuple[Mapping[str, object], ...]:
    """The keys of a JWK Set: public, strong, at least one, no kid twice. Raises ClientKeysError.

    also names algorithms that the client's profile accepts beside those of FAPI 2.0. A key that says that it is for
    encryption may be of any kind: nothing is encrypted here (RFC 7517 4.2, 5).
    """
    keys = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(keys, list) or not keys or not all(isinstance(key, dict) for key in keys):
        raise ClientKeysError("must be a JWK Set: an object with a list of keys")
    if len(keys) > _MAX_KEYS:
        raise ClientKeysError(f"holds {len(keys)} keys, at most {_MAX_KEYS} are accepted")
    named: set[str] = set()
    for number, key in enumerate(keys):
        try:
            kid = public_key_id(key) if key.get("use") == "enc" else import_public_jwk(key, also=also).kid
        except JoseError as error:
            raise ClientKeysError(f"key {number}: {error}") from error
        if kid is not None and kid in named:
            raise ClientKeysError(f"key {number}: its kid is that of an earlier key")
        named |= {kid} if kid is not None else set()
    return tuple(keys)


def check_self_signed(keys: Sequence[Mapping[str, object]]) -> None:
    """Check the certificates of a self_signed_tls_client_auth client (RFC 8705 2.2.2). Raises ClientKeysError.

    Each key comes with its certificate in x5c: the listener must know it to let it through its handshake. There it is
    an anchor of its own, so it must not be one that can issue others: version 3, no CA, no right to sign certificates.
    """
    for number, key in enumerate(keys):
        try:
            _check_certificate(_certificate(key), key)
        except ClientKeysError as error:
            raise ClientKeysError(f"key {number}: {error}") from error


def certificate_of(key: Mapping[str, object]) -> bytes | None:
    """The DER of the certificate that comes with a key in x5c (RFC 7517 4.7); None when it has none that can be read."""
    chain = key.get("x5c")
    if not isinstance(chain, list) or not chain or not isinstance(chain[0], str):
        return None
    try:
        return b64decode(chain[0], validate=True)
    except ValueError:
        return None


def _certificate(key: Mapping[str, object]) -> bytes:
    der = certificate_of(key)
    if der is None:
        raise ClientKeysError("x5c must hold its certificate, in base64")
    return der


def _check_certificate(der: bytes, key: Mapping[str, object]) -> None:
    if not jwk_holds(der, [key]):
        raise ClientKeysError("the certificate in x5c cannot be read or is not that of the key")
    certificate = x509.load_der_x509_certificate(der)
    if certificate.version is not x509.Version.v3:
        raise ClientKeysError("the certificate must be of version 3")
    try:
        for extension in certificate.extensions:
            value = extension.value
            if isinstance(value, x509.BasicConstraints) and value.ca:
                raise ClientKeysError(
                    "the certificate is a certificate authority (CA:TRUE): make one that is not"
                )
            if isinstance(value, x509.KeyUsage) and value.key_cert_sign:
                raise ClientKeysError("the key usage of the certificate lets it sign certificates")
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ClientKeysError("the extensions of the certificate cannot be read") from error

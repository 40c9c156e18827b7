"""Client certificates in the header of a proxy that ends TLS: one strict reader for each form that proxies write.

Whether a header is believed at all is decided where the peer's address is known; here it is only read.
"""

import re
from base64 import b64decode
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from authz.protocol.errors import ErrorCode, OAuthError

_MAX_CERTIFICATES = 9  # a leaf and the longest chain that is accepted
_PEM = re.compile(r"\s*+-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]++)-----END CERTIFICATE-----\s*+")
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_FORWARDED_PAIR = re.compile(r'([A-Za-z]++)=("(?:[^"\\]|\\.)*+"|[^",;]*+)([;,]|\Z)')
_BYTE_SEQUENCE = re.compile(r"[ \t]*+:([A-Za-z0-9+/=]*+):[ \t]*+")


@lru_cache(maxsize=256)
def from_header(
    form: str, header_value: str, chain_value: str | None = None
) -> tuple[bytes | None, tuple[bytes, ...]]:
    """Leaf and chain, as DER, of a header in one of HEADER_FORMS; (None, ()) when the client sent no certificate.

    chain_value is the Client-Cert-Chain header, of form 'rfc9440' only. Raises OAuthError(INVALID_REQUEST) for a
    value that is not of the form or holds something else than certificates. Results are remembered: a client's
    header is the same in all its requests.
    """
    reader = _READERS.get(form)
    if reader is None:
        raise OAuthError(ErrorCode.INVALID_REQUEST, "the form of the certificate header is not known")
    if header_value.strip() in ("", "(null)", '""'):  # nothing, as nginx, Apache and HAProxy write it
        if chain_value:
            raise OAuthError(ErrorCode.INVALID_REQUEST, "a certificate chain came without a certificate")
        return None, ()
    try:
        certificates = reader(header_value)
        if chain_value is not None:
            if form != "rfc9440":
                raise ValueError("only the form rfc9440 has a header for the chain")
            certificates += _byte_sequences(chain_value)
        if not 0 < len(certificates) <= _MAX_CERTIFICATES:
            raise ValueError(f"expected 1 to {_MAX_CERTIFICATES} certificates, found {len(certificates)}")
        for der in certificates:
            x509.load_der_x509_certificate(der).public_key()
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise OAuthError(
            ErrorCode.INVALID_REQUEST,
            f"the certificate header is not a certificate in the form {form}",
            detail=str(error),
        ) from error
    leaf, *chain = certificates
    return leaf, tuple(chain)


def _escaped_pem(value: str) -> list[bytes]:
    """nginx $ssl_client_escaped_cert and AWS ALB X-Amzn-Mtls-Clientcert: percent-escaped PEM, '+' stands for itself."""
    return _pem(_unescape(value))


def _pem(text: str) -> list[bytes]:
    """Apache SSL_CLIENT_CERT: PEM whose line ends have become spaces. One block or several, nothing between."""
    certificates = []
    position = 0
    while position < len(text):
        match = _PEM.match(text, position)
        if match is None:
            raise ValueError("not PEM of certificates")
        certificates.append(_base64("".join(match[1].split())))
        position = match.end()
    return certificates


def _quoted_base64(value: str) -> list[bytes]:
    """HAProxy ssl_c_der,base64, with or without the quotes of its {+Q}."""
    text = value.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return [_base64(text)]


def _bare_pem_list(value: str) -> list[bytes]:
    """Traefik PassTLSClientCert with pem: true: PEM without its lines' ends and borders, comma between certificates.

    Some versions escape the base64, others do not.
    """
    return [_base64(each.strip()) for each in _unescape(value).split(",")]


def _forwarded_client_certificate(value: str) -> list[bytes]:
    """Envoy x-forwarded-client-cert with Cert or Chain. One element only: more would be what somebody else said."""
    found: dict[str, str] = {}
    position, separator = 0, ";"
    while separator:
        match = _FORWARDED_PAIR.match(value, position)
        if match is None or separator == ",":
            raise ValueError("must be one element: set forward_client_cert_details to SANITIZE_SET")
        name, text = match[1].lower(), match[2]
        if name in ("cert", "chain", "hash"):
            if name in found:
                raise ValueError(f"{name} is named twice")
            found[name] = re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text
        position, separator = match.end(), match[3]
    chain = _escaped_pem(found.get("chain", ""))
    certificates = _escaped_pem(found.get("cert", "")) or chain[:1]
    if len(certificates) != 1:
        raise ValueError("must have Cert or Chain: set_current_client_cert_details with cert or chain")
    if chain and chain[0] != certificates[0]:
        raise ValueError("Chain does not begin with Cert")
    if "hash" in found and found["hash"].lower() != sha256(certificates[0]).hexdigest():
        raise ValueError("Hash is not that of Cert")
    return certificates + chain[1:]


def _byte_sequences(value: str) -> list[bytes]:
    """RFC 9440 2.2, 2.3: byte sequences of RFC 8941 without parameters, comma between."""
    certificates = []
    for each in value.split(","):
        match = _BYTE_SEQUENCE.fullmatch(each)
        if match is None:
            raise ValueError("not a byte sequence between colons")
        certificates.append(_base64(match[1]))
    return certificates


def _one_byte_sequence(value: str) -> list[bytes]:
    certificates = _byte_sequences(value)
    if len(certificates) != 1:
        raise ValueError("Client-Cert holds one certificate")
    return certificates


def _unescape(value: str) -> str:
    if _PERCENT.search(value):
        raise ValueError("% must be followed by two hexadecimal digits")
    return unquote_to_bytes(value).decode("ascii")


def _base64(text: str) -> bytes:
    return b64decode(text, validate=True)


_READERS: dict[str, Callable[[str], list[bytes]]] = {
    "apache": _pem,
    "aws-alb": _escaped_pem,
    "envoy": _forwarded_client_certificate,
    "haproxy": _quoted_base64,
    "nginx": _escaped_pem,
    "rfc9440": _one_byte_sequence,
    "traefik": _bare_pem_list,
}
HEADER_FORMS = tuple(_READERS)

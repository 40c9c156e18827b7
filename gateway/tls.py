"""TLS of the listeners: versions and ciphers of FAPI 2.0, client certificates, reload without a restart.

FAPI 2.0 Security Profile 5.2.2: TLS 1.2 with the ciphers of BCP 195, or 1.3. The mutual-TLS listener asks for a
certificate and accepts connections without one: which client must show one is decided by the doors.
"""

import base64
import ssl
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from authz.protocol.clients import AuthenticationMethod, Client
from gateway.settings import Listener

_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)


def server_context(listener: Listener, clients: Iterable[Client]) -> ssl.SSLContext | None:
    """The context of a listener; None for one behind a proxy that ends TLS. Raises OSError, ssl.SSLError."""
    if listener.tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, listener)
    if listener.client_certificates:
        context.verify_mode = ssl.CERT_OPTIONAL
        # A self-signed client certificate is its own anchor; an intermediate may be one too.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if listener.client_certificate_anchors is not None:
            context.load_verify_locations(cafile=str(listener.client_certificate_anchors))
        own = "".join(self_signed_certificates(clients))
        if own:
            context.load_verify_locations(cadata=own)
    return context


def load_certificate(context: ssl.SSLContext, listener: Listener) -> None:
    """Read certificate and key (again); new connections are served with them. Raises OSError, ssl.SSLError.

    What cannot be used leaves the context as it was.
    """
    if listener.tls is None:
        return
    files = str(listener.tls.certificate), str(listener.tls.key)
    # A context that was given a certificate whose key does not fit has lost its old key, and serves nobody.
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files)
    context.load_cert_chain(*files)


def self_signed_certificates(clients: Iterable[Client]) -> list[str]:
    """PEM of the certificates registered by self_signed_tls_client_auth clients (RFC 8705 2.2.2)."""
    found = []
    for client in clients:
        if client.authentication_method is not AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH:
            continue
        for jwk in client.jwks:
            chain = jwk.get("x5c")
            if isinstance(chain, list) and chain and isinstance(chain[0], str):
                certificate = x509.load_der_x509_certificate(base64.b64decode(chain[0]))
                found.append(certificate.public_bytes(Encoding.PEM).decode("ascii"))
    return found


def anchors_der(listener: Listener) -> tuple[bytes, ...]:
    """The anchors of a listener as DER, for the authorization server's own check of the chain."""
    if listener.client_certificate_anchors is None:
        return ()
    certificates = x509.load_pem_x509_certificates(listener.client_certificate_anchors.read_bytes())
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)

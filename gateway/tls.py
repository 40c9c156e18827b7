"""TLS of the listeners: versions and ciphers of FAPI 2.0, client certificates, reload without a restart.

FAPI 2.0 Security Profile 5.2.2: TLS 1.2 with the ciphers of BCP 195, or 1.3. The mutual-TLS listener asks for a
certificate and accepts connections without one: which client must show one is decided by the doors.
"""

import logging
import ssl
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from authz.protocol.client_keys import certificate_of
from authz.protocol.clients import AuthenticationMethod, Client
from gateway.settings import Listener

_log = logging.getLogger("securus.tls")
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
        # A session out of a ticket has the certificate of its client without the chain, by which it is checked.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        # A self-signed client certificate is its own anchor; an intermediate may be one too.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if listener.client_certificate_anchors is not None:
            context.load_verify_locations(cafile=str(listener.client_certificate_anchors))
        _trust(context, self_signed_certificates(clients), _subjects(listener))
    return context


class ListenerTls:
    """The TLS of a listener while it runs: a certificate that is replaced, clients' certificates that come and go.

    A listening socket keeps the context that it was opened with. Trust can be added to a context and never taken out
    of it, so each change of the clients makes a new one, and the first hands every handshake over to the newest.
    """

    def __init__(self, listener: Listener, context: ssl.SSLContext, clients: Iterable[Client]) -> None:
        self.context = context
        self._listener = listener
        self._newest = context
        self._trusted = frozenset(self_signed_certificates(clients))
        if listener.client_certificates:
            context.sni_callback = self._hand_over

    def trust(self, clients: Iterable[Client]) -> bool:
        """Let exactly the certificates of these clients through, from the next connection on; whether that is a change.

        Raises OSError, ssl.SSLError; the old ones stay then.
        """
        wanted = frozenset(self_signed_certificates(clients))
        if wanted == self._trusted or not self._listener.client_certificates:
            return False
        context = server_context(self._listener, clients)
        if context is not None:
            self._newest = context
        self._trusted = wanted
        return True

    def reload(self) -> None:
        """Read certificate and key again, as load_certificate() does."""
        load_certificate(self._newest, self._listener)
        load_certificate(self.context, self._listener)

    def _hand_over(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        if self._newest is not self.context:
            connection.context = self._newest


def _trust(context: ssl.SSLContext, certificates: Iterable[str], authorities: frozenset[bytes]) -> None:
    """Make each certificate an anchor. One that OpenSSL cannot read is its client's trouble and nobody else's.

    None may bear the name of an authority: OpenSSL finds issuers by name, and might try it for certificates of others.
    """
    for certificate in certificates:
        try:
            if (
                x509.load_pem_x509_certificate(certificate.encode("ascii")).subject.public_bytes()
                in authorities
            ):
                _log.error("a client's certificate has the name of an authority: it is not let through")
                continue
            context.load_verify_locations(cadata=certificate)
        except ssl.SSLError as error:
            _log.error("a client's certificate cannot be loaded", extra={"cause": str(error)})


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
            der = certificate_of(jwk)
            if der is not None:
                certificate = x509.load_der_x509_certificate(der)
                found.append(certificate.public_bytes(Encoding.PEM).decode("ascii"))
    return found


def _subjects(listener: Listener) -> frozenset[bytes]:
    """The names of the authorities of a listener, as DER."""
    return frozenset(
        x509.load_der_x509_certificate(der).subject.public_bytes() for der in anchors_der(listener)
    )


def anchors_der(listener: Listener) -> tuple[bytes, ...]:
    """The anchors of a listener as DER, for the authorization server's own check of the chain."""
    if listener.client_certificate_anchors is None:
        return ()
    certificates = x509.load_pem_x509_certificates(listener.client_certificate_anchors.read_bytes())
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)

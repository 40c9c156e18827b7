"""Who is at the other end of a connection: the address, and the certificates of mutual TLS."""

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

_DER = 2  # _ssl.ENCODING_DER


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end, as it is for the life of a connection. certificate and chain are DER, the leaf not in chain."""

    address: str
    certificate: bytes | None = None
    chain: tuple[bytes, ...] = ()


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """The other end of a connection whose TLS handshake, if there is one, is over."""
    name = transport.get_extra_info("peername")
    address = str(name[0]) if isinstance(name, tuple) and name else ""
    tls = transport.get_extra_info("ssl_object")
    if not isinstance(tls, ssl.SSLObject | ssl.SSLSocket):
        return Peer(address)
    leaf = tls.getpeercert(binary_form=True)
    if leaf is None:
        return Peer(address)
    inner = getattr(tls, "_sslobj", None)  # public from Python 3.13 on
    chain: Sequence[object] = ()
    with suppress(AttributeError, ssl.SSLError):
        # None on a resumed session.
        chain = (None if inner is None else inner.get_unverified_chain()) or ()
    return Peer(address, leaf, tuple(c.public_bytes(_DER) for c in chain[1:] if hasattr(c, "public_bytes")))

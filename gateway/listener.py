"""A listener of the gateway: its public face, and the front that serves it.

Every request is served by the front of gateway.wire, which parses with llhttp (attack case 28).
"""

import ipaddress
import ssl

from authz.http import ListenerFace, read
from authz.protocol.request import Body, HttpRequest
from gateway.settings import Limits, Listener
from gateway.wire import heads
from gateway.wire.front import Front
from gateway.wire.likenesses import Likenesses
from gateway.wire.peers import Peer
from gateway.wire.places import Places
from gateway.wire.reading import RawHeaders
from gateway.wire.service import Handler, Service


class Face:
    """One listener: turns its requests into HttpRequests and hands them to the handler."""

    def __init__(
        self,
        listener: Listener,
        limits: Limits,
        handler: Handler,
        places: Places,
    ) -> None:
        """places are those of the process."""
        proxies = listener.proxies
        self.listener = listener
        face = ListenerFace(
            origin=listener.origin,
            trusted=tuple(ipaddress.ip_network(n) for n in proxies.networks) if proxies else (),
            certificate_header=proxies.certificate_header.lower()
            if proxies and proxies.certificate_header
            else None,
            certificate_form=proxies.certificate_form if proxies else None,
        )
        self._front = Front(
            service_of(face, limits, handler),
            places,
            is_unbound=lambda address: bool(face.trusted) and face.is_proxy(address),
        )

    async def open(self, context: ssl.SSLContext | None, *, shared: bool = False) -> None:
        """Listen; without a context in plain HTTP, behind a proxy; shared with other workers. Raises OSError."""
        await self._front.open(self.listener.address, self.listener.port, context, shared=shared)

    def drain(self) -> None:
        """Take no more connections; each answer in work is the last of its connection."""
        self._front.drain()

    async def close(self, seconds: float) -> None:
        """Let the answers in work end within so many seconds, then break them off."""
        await self._front.close(seconds)


def service_of(
    face: ListenerFace,
    limits: Limits,
    handler: Handler,
) -> Service:
    """What the connections of one listener have in common, whatever it listens at."""

    def read_as(
        method: str, target: str, raw_headers: RawHeaders, peer: Peer, body: Body | None
    ) -> HttpRequest:
        return read(
            method,
            target,
            raw_headers,
            peer_address=peer.address,
            face=face,
            certificate=peer.certificate,
            chain=peer.chain,
            body=body,
            max_header=limits.max_header,
            max_url=limits.max_url,
        )

    return Service(
        read=read_as,
        handle=handler,
        max_url=limits.max_url,
        max_head=heads.longest(limits.max_url, limits.max_header),
        likenesses=Likenesses(min(limits.max_url, limits.max_header), face),
    )

"""What a feed needs of its destination: to take a few AuditEvents, and to say of each what became of it."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from authz.outgoing_tls import client_context
from gateway.audit.events.codes import Json
from gateway.audit_settings import FeedSettings


class DestinationAway(Exception):
    """Nothing was taken, or nobody knows: all of it is delivered again. The text names no patient and no address."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a delivery: which events were refused for good, by their id, and why."""

    refused: dict[str, str] = field(default_factory=dict)


class Destination(Protocol):
    """Where events go."""

    async def deliver(self, events: Sequence[Json]) -> Taken:
        """Deliver these, in order. Raises DestinationAway where they must come again."""
        ...

    async def close(self) -> None:
        """Give back what is held open."""
        ...


def tls_context(settings: FeedSettings) -> ssl.SSLContext:
    """TLS to a destination: it must be vouched for; with our certificate where there is one. Raises OSError, SSLError."""
    authorities = None if settings.authorities is None else str(settings.authorities)
    context = client_context(authorities)
    if settings.certificate is not None and settings.key is not None:
        context.load_cert_chain(str(settings.certificate), str(settings.key))
    return context

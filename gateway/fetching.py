"""The one guarded client for what the gateway fetches and posts beyond its stores, made from the settings."""

from authz.fetch import Fetcher
from gateway.settings import GatewaySettings


def open_fetcher(settings: GatewaySettings) -> Fetcher:
    """It reaches no address of our own. Reads the file of authorities: not for the event loop. Raises OSError."""
    authorities = settings.fetch.certificate_authorities
    listeners = settings.listeners
    return Fetcher(
        allow=settings.fetch.allow,
        own_origins=[settings.authorization.issuer, *(listener.origin for listener in listeners)],
        own_ports=[settings.operations.port, *(listener.port for listener in listeners)],
        certificate_authorities=None if authorities is None else authorities.read_text(encoding="ascii"),
    )

"""Origins of web pages, as browsers name them in the header Origin (RFC 6454 6.2), and those of a client."""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from authz.protocol.clients import Client

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::(?P<port>[1-9][0-9]{0,4}))?"
)


def origins_of(client: Client) -> frozenset[str]:
    """The origins of a client's pages: those that are registered, and those of its redirect URIs (RFC 6454 4, 6.2)."""
    return origins_of_uris(client.redirect_uris) | frozenset(client.origins)


def origins_of_uris(uris: Iterable[str]) -> frozenset[str]:
    """The origins of URIs, of those that have one as browsers send it."""
    return frozenset(origin for uri in uris if (origin := _origin_of(uri)) is not None)


def is_origin(text: str) -> bool:
    """Whether a text is an origin as browsers send it: no path, no default port, lower case, and never null."""
    match = _ORIGIN.fullmatch(text)
    return match is not None and match["port"] != str(_DEFAULT_PORTS.get(match["scheme"]))


def _origin_of(uri: str) -> str | None:
    parts = urlsplit(uri)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"

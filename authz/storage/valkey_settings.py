"""How Valkey or Redis is reached, where replay claims and rates are kept beside the store."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

_SCHEMES = ("valkey", "valkeys", "redis", "rediss")
_WITH_TLS = ("valkeys", "rediss")
_HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class ValkeySettings:
    """Address and bounds of the connections of one process.

    url              valkeys://host:6379/0, without a password; valkey:// is plain text, for this machine only
    password         of the user, or of the server where username is None
    authorities      PEM of the authorities of the server's certificate; None is those of the system
    prefix           what each of our keys begins with
    connections      at most so many
    timeout_seconds  so long a connection or an answer may take; then the caller fails closed
    """

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    authorities: str | None = field(default=None, repr=False)
    prefix: str = "securus"
    connections: int = 16
    timeout_seconds: float = 1.0

    @property
    def has_tls(self) -> bool:
        """Whether the connection is protected."""
        return urlsplit(self.url).scheme in _WITH_TLS


def url_fault(url: str) -> str | None:
    """What is wrong with an address, without repeating it; None when it can be used."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        return "it is not a URL"
    if parts.scheme not in _SCHEMES or not parts.hostname or parts.query or parts.fragment:
        return "it is not valkeys://host:port/number"
    if parts.username is not None or parts.password is not None:
        return "it holds a user or a password: these have keys of their own"
    if not parts.path.strip("/").isdecimal() and parts.path not in ("", "/"):
        return "its path is not the number of a database"
    if parts.hostname not in _HERE and parts.scheme not in _WITH_TLS:
        return f"the host {parts.hostname} is on a network: valkeys:// protects the connection"
    return None

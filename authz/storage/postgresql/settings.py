"""How the PostgreSQL store is reached, and what its address has to say."""

from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

_SCHEMES = ("postgresql", "postgres")
_TLS = ("disable", "require", "verify-ca", "verify-full")
_HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class PostgresqlSettings:
    """Address and bounds of the connections of one process.

    dsn                       postgresql://user:password@host/database?sslmode=…; it may hold a password
    pool                      at most so many connections for statements, and one more that listens
    statement_timeout_seconds a statement that takes longer is ended, and the caller fails closed
    connect_timeout_seconds   so long a new connection may take
    """

    dsn: str = field(repr=False)
    pool: int = 10
    statement_timeout_seconds: float = 5.0
    connect_timeout_seconds: float = 3.0


def dsn_fault(dsn: str) -> str | None:
    """What is wrong with an address, without repeating it; None when it can be used.

    Over a network it says in so many words how the connection is protected: libpq's own default takes plain text
    when the server offers no TLS, and whoever is between the two can see to that.
    """
    try:
        parts = urlsplit(dsn)
        query = parse_qs(parts.query, strict_parsing=bool(parts.query), keep_blank_values=True)
        hosts = _hosts(parts.netloc.rpartition("@")[2]) + [
            h for v in query.get("host", ()) for h in _hosts(v)
        ]
    except ValueError:
        return "it is not a URL"
    if parts.scheme not in _SCHEMES:
        return "it does not begin with postgresql://"
    if not parts.path.strip("/") and not query.get("dbname") and not query.get("database"):
        return "it names no database: postgresql://user@host/database"
    if not hosts:  # else the environment of the process would name one
        return "it names no host: postgresql://user@host/database, or ?host=/run/postgresql for a socket"
    far = [host for host in hosts if host not in _HERE and not host.startswith("/")]
    modes = query.get("sslmode", [])
    if far and not set(modes) & set(_TLS):
        return f"the host {far[0]} needs an explicit sslmode, best sslmode=verify-full with sslrootcert=FILE"
    if any(mode not in (*_TLS, "prefer", "allow") for mode in modes):
        return f"sslmode is not one of {', '.join(_TLS)}"
    return None


def _hosts(text: str) -> list[str]:
    """The hosts of host1:5432,host2:5432, without ports and brackets."""
    found = []
    for each in text.split(","):
        host = each.rpartition("]")[0].removeprefix("[") if each.startswith("[") else each.partition(":")[0]
        if host:
            found.append(host.replace("%2F", "/"))
    return found

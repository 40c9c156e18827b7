"""What the audit log is told beside what it records: `audit` of gateway.yaml, read, checked and frozen."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class FeedKind(StrEnum):
    """How a feed delivers."""

    FHIR = "fhir"  # IHE ATNA ITI-20 by REST: AuditEvents are created
    SYSLOG = "syslog"  # IHE ATNA ITI-20 by syslog: RFC 5424 over TLS (RFC 5425), or in clear to loopback
    FILE = "file"  # NDJSON


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """One destination of AuditEvents.

    url            fhir: the base; syslog: tls://host:port, or tcp:// and udp:// of loopback
    authorization  fhir: the Authorization header
    authorities    PEM file of those who may vouch for the destination; None: the system's
    certificate, key  PEM files of our own side of mutual TLS
    path           file: where it is written
    max_size       file: bytes after which it is put aside; kept is how many stay
    at_once        records that one delivery takes at most
    refuse_after_records, refuse_after  how far it may lag before writes are refused: records, seconds; None: never
    """

    name: str
    kind: FeedKind
    url: str = ""
    authorization: str | None = field(default=None, repr=False)
    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    path: Path | None = None
    max_size: int = 100 * 1024 * 1024
    kept: int = 10
    # Of a feed that is new: with the oldest record there is; else with the next one.
    from_beginning: bool = False
    at_once: int = 100
    timeout: float = 10.0
    refuse_after_records: int | None = None
    refuse_after: float | None = None


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """disclosed_to and organizations are clients and organisations outside: what they are shown is a disclosure."""

    disclosed_to: frozenset[str] = frozenset()
    organizations: frozenset[str] = frozenset()
    feeds: tuple[FeedSettings, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditLogSettings:
    """How the audit log is kept.

    node              name of this node's chain; None: '' with SQLite, the name of the machine with PostgreSQL
    head_records      a signed head covers at the latest so many records, or what is so many seconds old
    heads_file        heads are appended to this file too
    heads_notify      names of receivers that get each head
    retention_seconds records older than that are retired; None keeps them for good
    """

    node: str | None = None
    head_records: int = 1000
    head_seconds: float = 60.0
    heads_file: Path | None = None
    heads_notify: tuple[str, ...] = ()
    retention_seconds: int | None = None

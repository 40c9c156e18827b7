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
    from_beginning: bool = (
        False  # of a feed that is new: with the oldest record there is; else with the next one
    )
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

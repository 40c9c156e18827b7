"""Settings of a mount of kind `xds`: where documents are found and kept, and as who the gateway asks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

CLAIMS: Mapping[str, str] = {
    "subject": "name",
    "organization": "org_name",
    "organization_id": "org",
    "role": "roles",
    "purpose": "purpose",
}
"""Which claim of a token is said as what of an assertion, unless it is configured."""


@dataclass(frozen=True, slots=True)
class AssertionSettings:
    """Assertions about callers (IHE XUA). organization, organization_id and purpose are said where the token does not.

    key, certificate  PEM files
    claims            names of claims by the words of CLAIMS
    """

    issuer: str
    audience: str
    key: Path
    certificate: Path
    lifetime_seconds: int = 300
    organization: str = ""
    organization_id: str = ""
    purpose: str = ""
    claims: Mapping[str, str] = field(default_factory=lambda: CLAIMS)


@dataclass(frozen=True, slots=True)
class SoapTls:
    """How registry and repositories are believed, and how the gateway shows itself (IHE ATNA, ITI-19). PEM files."""

    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None


@dataclass(frozen=True, slots=True)
class CodedValue:
    """A code of the affinity domain. system is an OID."""

    code: str
    system: str
    display: str


@dataclass(frozen=True, slots=True)
class ProvideSettings:
    """Where new documents are sent to, and what is said of them that no header says.

    source  the OID of the gateway as a document source
    codes   by the words class, format, facility and practice
    """

    url: str
    source: str
    codes: Mapping[str, CodedValue]


@dataclass(frozen=True, slots=True)
class XdsSettings:
    """assigning_authority is the OID of the affinity domain's patient identifiers, repositories are URLs by OID."""

    assigning_authority: str
    repositories: Mapping[str, str]
    home: str | None = None
    assertion: AssertionSettings | None = None
    provide: ProvideSettings | None = None
    tls: SoapTls = SoapTls()

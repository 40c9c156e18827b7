"""Settings of the whole process, made by gateway.config from gateway.yaml, frozen.

Durations are seconds, sizes bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from authz.protocol.addresses import AllowList
from authz.protocol.clients import Client
from authz.settings import Account, AuthorizationSettings
from authz.storage.settings import StoreSettings
from gateway.account_settings import AccountPages
from gateway.audit_settings import AuditLogSettings, AuditSettings
from gateway.consents.consent import ConsentReading, ConsentSource
from gateway.document_settings import DocumentSettings
from gateway.officer_settings import OfficerSettings


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of a listener; read at start and again on SIGHUP."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """Proxies in front of us that may speak for a client. form: one of authz.protocol.certificate_headers.HEADER_FORMS."""

    networks: tuple[str, ...]  # CIDR
    certificate_header: str | None = None
    certificate_form: str | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening socket. origin is its public origin by configuration, without trailing slash."""

    name: str  # public | mtls
    address: str
    port: int
    origin: str
    tls: TlsFiles | None
    proxies: TrustedProxies | None = None
    client_certificates: bool = False
    client_certificate_anchors: Path | None = None


@dataclass(frozen=True, slots=True)
class Operations:
    """Listener for metrics and health, plain HTTP, never public."""

    address: str = "127.0.0.1"
    port: int = 9090


class Readers(StrEnum):
    """Which web pages may read answers that need a token or a client."""

    REGISTERED = "registered"  # those of the origins of clients that may act
    ANY = "any"


class ResponseSignatures(StrEnum):
    """Which answers of a mount are signed (RFC 9421, FAPI 2.0 HTTP Signatures)."""

    OFF = "off"
    ASKED = "asked"  # those to requests whose Accept-Signature asks for it
    ON = "on"


class SelfLink(StrEnum):
    """What the self link of a store's searches proves."""

    CHECKED = "checked"  # one without our criteria means that they were ignored
    SILENT = "silent"  # of a form it is the place of the form, without criteria
    UNRELIABLE = "unreliable"  # nothing


class Probe(StrEnum):
    """Whether a store is asked at start what it can do."""

    OFF = "off"
    BACKGROUND = "background"
    REQUIRED = "required"  # the gateway is not ready before the store is as its profile says


@dataclass(frozen=True, slots=True)
class UpstreamProfile:
    """What stores of one make do in their own way; gateway/profiles/generic.yaml says what the members mean.

    The defaults are the strictest, and those of that file.
    """

    name: str = "generic"
    page_parameters: frozenset[str] = frozenset(
        {
            "_page", "page", "_offset", "_cursor", "_page_token", "_getpages", "_getpagesoffset", "_bundletype", "ct",
            "_count", "_sort", "_format", "_pretty",
        }
    )  # fmt: skip
    page_links: frozenset[str] = frozenset({"asked", "base"})
    never_parameters: frozenset[str] = frozenset({"_query", "_method"})
    opened_parameters: frozenset[str] = frozenset()  # of what `query: open` names, what the store carries out
    never_headers: frozenset[str] = frozenset(
        {"x-http-method-override", "x-http-method", "x-method-override", "x-provenance", "cookie"}
    )
    strict_handling: bool = True
    self_link: SelfLink = SelfLink.CHECKED
    self_link_of_forms: SelfLink = SelfLink.SILENT
    if_match: bool = True
    # Whether a search finds at once what was stored, and nothing that is gone.
    index_is_immediate: bool = False
    document_location: bool = True
    transactions: bool = True


@dataclass(frozen=True, slots=True)
class BundleLimits:
    """What a batch or transaction may be.

    entries       at most
    size          bytes of the Bundle as sent
    answer_size   bytes of all answers together
    lookups       reads and searches of the gateway's own before a transaction is sent
    """

    entries: int = 200
    size: int = 10 * 1024 * 1024
    answer_size: int = 32 * 1024 * 1024
    lookups: int = 300


@dataclass(frozen=True, slots=True)
class ConsentSettings:
    """Where the consents of a store's patients come from, and which of them count.

    base is the URL of another store; None is the store of the mount itself, or ours. keep and timeout are seconds.
    reading is how they are read, without the bases of the mount.
    """

    source: ConsentSource
    base: str | None = None
    authorization: str | None = field(default=None, repr=False)
    keep: float = 30.0
    timeout: float = 2.0
    kept_here: bool = False  # by the gateway itself, in its own store
    reading: ConsentReading = field(default_factory=ConsentReading)


@dataclass(frozen=True, slots=True)
class PickerSettings:
    """How people find patients and visits of a store at the pages of the authorization server.

    page                  patients or visits that are shown at once
    searches_per_minute   of one person
    lists_at_once         patients are listed before a search, where all that the person may see fit on a page
    """

    page: int = 20
    searches_per_minute: int = 30
    lists_at_once: bool = False


@dataclass(frozen=True, slots=True)
class Upstream:
    """A store behind the gateway and the public path it is mounted at. identifier is the audience of its tokens."""

    name: str
    kind: str  # fhir-r4 | cda-rest | mhd | xds
    at: str  # public path, e.g. '/fhir/r4'
    base: str  # URL of the store with its own base path, no trailing slash
    identifier: str  # public base URL: origin of the public listener + at
    bases: frozenset[str]  # every public base URL of this mount, the mutual-TLS one included
    authorization: str | None = None
    connections: int = 100
    connect_timeout: float = 5.0
    answer_timeout: float = 60.0
    idle_timeout: float = 60.0
    max_resource: int = 10 * 1024 * 1024
    max_body: int = 2 * 1024**3
    mtls_only: bool = False
    # Writes to a store that does not name versions: nothing pins what was judged.
    unversioned_writes: bool = False
    # FHIR systems of the assigning authorities of documents, by 'urn:oid:…'
    identifier_systems: Mapping[str, str] = field(default_factory=dict)
    response_signatures: ResponseSignatures = ResponseSignatures.OFF
    compress: bool = True  # answers to callers that accept gzip
    ask_gzip: bool = False  # the store is asked for gzip
    profile: UpstreamProfile = UpstreamProfile()
    bundle: BundleLimits = BundleLimits()
    probe: Probe = Probe.BACKGROUND
    consents: ConsentSettings | None = None
    picker: PickerSettings | None = None
    documents: DocumentSettings | None = None

    def fhir_path(self, path: str) -> str:
        """A public path of this mount as FHIR has it below its base."""
        below = path[len(self.at) :]
        is_fhir = self.documents is None or self.kind != "cda-rest"
        return below if is_fhir or self.documents is None else self.documents.fhir_path(below)

    @property
    def keeps_consents(self) -> bool:
        """Whether the consents of this base are kept here; a service of documents has those of its patients' base."""
        return self.documents is None and self.consents is not None and self.consents.kept_here


RATES = ("address", "token", "register", "admin", "client", "user", "route")
"""What may be limited by how often: by address at the door, and by whom and where it is asked once that is known."""
AT_ONCE = ("client", "user")
"""Of whom may be limited how many requests are under way."""


@dataclass(frozen=True, slots=True)
class RequestRate:
    """So many uses in so many seconds. burst: how many at once, in this process; shared: counted by the store."""

    uses: int
    seconds: int
    burst: int
    shared: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the process. lookups is how many searches of our own one request may cost beside itself.

    connections and connections_of_address are None where the descriptors of the process say how many may be open.
    """

    max_header: int = 16 * 1024
    max_url: int = 8 * 1024
    concurrent_requests: int = 1000
    drain: float = 30.0
    lookups: int = 256
    connections: int | None = None
    connections_of_address: int | None = None
    rates: Mapping[str, RequestRate] = field(default_factory=dict)  # by names of RATES
    at_once: Mapping[str, int] = field(default_factory=dict)  # by names of AT_ONCE


@dataclass(frozen=True, slots=True)
class Pkcs11Settings:
    """A PKCS#11 token in which the signing keys are made and stay."""

    module: Path  # the vendor's library
    token: str  # its label
    pin: str = field(repr=False)
    label: str = "securus"  # what the labels of our keys begin with


@dataclass(frozen=True, slots=True)
class KeySettings:
    """Where the key that encrypts our signing keys at rest comes from; exactly one of file and value.

    other_encryption_key opens keys as well, while the encryption key is changed.
    """

    encryption_key_file: Path | None
    encryption_key: bytes | None = None
    other_encryption_key: bytes | None = None
    pkcs11: Pkcs11Settings | None = None


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """What the guarded GET for clients' key sets may reach beside the public Internet, and whom it trusts."""

    allow: AllowList = field(default_factory=AllowList)
    certificate_authorities: Path | None = None  # PEM, trusted beside the system's


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who is told when a rule says 'notify'. url takes a POST; None is the operator's log."""

    url: str | None = None
    bearer: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """gateway.yaml, read, checked and resolved."""

    file: Path
    listeners: tuple[Listener, ...]
    operations: Operations
    authorization: AuthorizationSettings
    storage: StoreSettings
    keys: KeySettings
    upstreams: tuple[Upstream, ...]
    policies: Path
    clients: tuple[Client, ...]
    accounts: tuple[Account, ...]
    limits: Limits = field(default_factory=Limits)
    fetch: FetchSettings = field(default_factory=FetchSettings)
    notifications: Mapping[str, Receiver] = field(default_factory=dict)
    audit_log: AuditLogSettings = field(default_factory=AuditLogSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    workers: int = 1  # processes that share the listeners
    cors: Readers = Readers.REGISTERED
    account_pages: AccountPages | None = None
    officer: OfficerSettings = field(default_factory=OfficerSettings)

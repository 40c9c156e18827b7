"""What the rules of the report look at: values that were read from settings, certificates and TLS contexts.

Nothing here is a secret: keys are described by type and size, passwords by the parameters of their hashes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from authz.protocol.clients import Client
from authz.settings import AuthorizationSettings


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """A public key: kind RSA, EC, OKP or '?', size in bits, its own words of its use; kid is None without one."""

    kind: str
    bits: int
    kid: str | None = None
    use: str | None = None
    algorithms: tuple[str, ...] = ()  # what it may verify here; empty when it cannot be used


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """A certificate: of whom (by place, not by content), its key, its life, the hash under its signature."""

    place: str  # e.g. listen.public.tls.certificate
    key: KeyFacts
    not_before: int
    not_after: int
    signature_hash: str | None  # e.g. sha256; None for Ed25519, which has its own


@dataclass(frozen=True, slots=True)
class ListenerFacts:
    """A listener. tls says whether it ends TLS itself; what stands behind is that of its own context."""

    name: str
    origin: str
    tls: bool
    versions: tuple[str, ...] = ()
    ciphers: tuple[str, ...] = ()  # of TLS 1.2
    certificates: tuple[CertificateFacts, ...] = ()
    anchors: tuple[CertificateFacts, ...] = ()
    sees_client_certificates: bool = False
    proxies: tuple[str, ...] = ()  # networks that may speak for a client
    problem: str = ""  # why its files could not be read


@dataclass(frozen=True, slots=True)
class PasswordFacts:
    """The cost of an argon2id hash; memory_kib is 0 when it cannot be read."""

    place: str  # e.g. users[2].password: never the name of a person
    memory_kib: int
    passes: int


@dataclass(frozen=True, slots=True)
class UpstreamFacts:
    """A store behind the gateway."""

    name: str
    base: str
    loopback: bool


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """A client with its keys, as they can be used, and its certificates."""

    client: Client
    keys: tuple[KeyFacts, ...] = ()
    certificates: tuple[CertificateFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the rules look at. jwks is None where no server runs: its keys are then not known."""

    now: int
    settings: AuthorizationSettings
    metadata: Mapping[str, object]
    grants: frozenset[str]  # grant types of the token endpoint
    listeners: tuple[ListenerFacts, ...]
    operations_address: str
    synchronous: str
    upstreams: tuple[UpstreamFacts, ...]
    passwords: tuple[PasswordFacts, ...]
    subjects: frozenset[str]  # of the accounts
    clients: tuple[ClientFacts, ...]
    jwks: tuple[KeyFacts, ...] | None = None
    jwks_members: frozenset[str] = frozenset()  # names of all members of the published keys

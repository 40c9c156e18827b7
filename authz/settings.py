"""Settings of the authorization server, made by the configuration, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from authz.protocol.authorization_details import DetailType
from authz.protocol.brands import PublishedBrands
from authz.protocol.clients import ProfileName


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long things live, in seconds."""

    pushed_request: int = 60
    code: int = 60
    access_token: int = 300
    refresh_token: int = 90 * 86400
    refresh_grace: int = 60  # how long a replaced refresh token stays good, where they are replaced
    browser_session: int = 3600
    sign_in: int = 900  # how long a person may take at the pages
    dpop_proof: int = 60  # oldest iat that is accepted without a nonce
    dpop_nonce: int = 300


@dataclass(frozen=True, slots=True)
class Protected:
    """A protected resource: a mount of the gateway. identifier is its public URL (RFC 9728), the audience of tokens.

    aliases are the same mount on the mutual-TLS listener. signs says whether its answers may be signed with our keys,
    picker whether people search its records at the pages.
    """

    identifier: str
    path: str  # e.g. '/fhir/r4'
    kind: str  # fhir-r4 | cda-rest
    aliases: tuple[str, ...] = ()
    signs: bool = False
    picker: bool = False


@dataclass(frozen=True, slots=True)
class Representation:
    """A person for whom an account may act: a parent for a child, a guardian, somebody with power of attorney.

    patient       FHIR id of the record
    label         how the pages name the person
    relationship  what the one who acts is to the person, a code of v3-RoleCode such as MTH
    may           what of it: 'see', 'consent' (allow apps, give and amend consents), 'revoke' (take back)
    ends_at       seconds since 1970: from then on nothing of it; None for no end
    """

    patient: str
    label: str
    relationship: str
    may: frozenset[str] = frozenset({"see", "consent", "revoke"})
    ends_at: int | None = None

    def allows(self, what: str, now: int) -> bool:
        """Whether it is in force and holds this."""
        return what in self.may and (self.ends_at is None or now < self.ends_at)


@dataclass(frozen=True, slots=True)
class Account:
    """A local account. password_hash is an argon2id hash; claims go into tokens (fhirUser, roles …)."""

    username: str
    subject: str
    password_hash: str
    name: str
    claims: dict[str, object] = field(default_factory=dict)
    patient: str | None = None  # FHIR id of the person's own record
    patients: tuple[tuple[str, str], ...] = ()  # FHIR id and label of the records to choose from
    represents: tuple[Representation, ...] = ()  # people for whom the person may act
    related_person: str | None = None  # the value of an identifier of RelatedPersons that are this person


@dataclass(frozen=True, slots=True)
class RegistrationSettings:
    """Whether and how applications register themselves (RFC 7591).

    automatic            whether a registration is in force without somebody's approval; never one of a weaker profile
    statement_issuers    issuer of software statements → its public keys, as JWK objects
    profiles             the profiles that an application may ask for by itself
    require_dpop         whether every client of the registry binds its tokens to a key, whatever its profile
    """

    enabled: bool = False
    automatic: bool = False
    statement_issuers: Mapping[str, tuple[Mapping[str, object], ...]] = field(default_factory=dict)
    profiles: frozenset[ProfileName] = frozenset({ProfileName.FAPI2})
    require_dpop: bool = True


@dataclass(frozen=True, slots=True)
class AuthorizationSettings:
    """Everything the authorization server is told."""

    issuer: str  # https origin, no trailing slash
    mtls_origin: str | None  # public origin of the mutual-TLS listener
    resources: tuple[Protected, ...]
    scopes_supported: tuple[str, ...] = ()
    profiles: frozenset[ProfileName] = frozenset({ProfileName.FAPI2})
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    dpop_nonce_required: bool = True
    detail_types: tuple[DetailType, ...] = ()  # authorization_details (RFC 9396)
    rotate_refresh_tokens: bool = False  # FAPI 2.0 5.3.2.1: no rotation for confidential clients by default
    signing_algorithms: tuple[str, ...] = ("ES256",)  # of our own keys; the first is the default
    id_token_algorithms: tuple[str, ...] = ()  # more, for ID tokens of clients of SMART: RS256 or none
    key_announced_seconds: int = 86400  # a new key is published this long before it signs
    key_active_seconds: int = 90 * 86400
    key_published_after_retirement_seconds: int = 86400
    certificate_anchors: tuple[bytes, ...] = ()  # DER of the CAs that tls_client_auth clients chain to
    organisation: str = "this hospital"
    privacy_url: str | None = None
    sign_in_attempts_per_minute: int = 10
    registration: RegistrationSettings = field(default_factory=RegistrationSettings)
    frame_ancestors: tuple[str, ...] = ()  # origins that may show the pages of an authorization in a frame
    brands: PublishedBrands | None = None  # user-access brands (SMART App Launch 2.2)

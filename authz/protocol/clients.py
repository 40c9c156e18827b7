"""Clients: what is registered about an application (RFC 7591). What their profiles mean is in client_profiles.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class AuthenticationMethod(StrEnum):
    """token_endpoint_auth_method (RFC 7591 2, RFC 8705 2, OpenID Connect Core 9)."""

    PRIVATE_KEY_JWT = "private_key_jwt"
    TLS_CLIENT_AUTH = "tls_client_auth"
    SELF_SIGNED_TLS_CLIENT_AUTH = "self_signed_tls_client_auth"
    CLIENT_SECRET_BASIC = "client_secret_basic"
    NONE = "none"


class GrantType(StrEnum):
    """grant_type (RFC 6749)."""

    AUTHORIZATION_CODE = "authorization_code"
    REFRESH_TOKEN = "refresh_token"
    CLIENT_CREDENTIALS = "client_credentials"


class BindingKind(StrEnum):
    """How a token is bound to its holder's key."""

    DPOP = "dpop"  # RFC 9449: cnf.jkt
    MTLS = "mtls"  # RFC 8705 3: cnf.x5t#S256
    NONE = "none"  # RFC 6750: whoever holds it can use it


class SubjectType(StrEnum):
    """How people are named to a client (OpenID Connect Core 8)."""

    PUBLIC = "public"
    PAIRWISE = "pairwise"


class ProfileName(StrEnum):
    """Security profiles; a deployment switches on what it needs, fapi2 alone by default."""

    FAPI2 = "fapi2"
    SMART_ASYMMETRIC = "smart-asymmetric"
    SMART_SYMMETRIC = "smart-symmetric"
    SMART_PUBLIC = "smart-public"


@dataclass(frozen=True, slots=True)
class CertificateSubject:
    """The one expected subject of a tls_client_auth client (RFC 8705 2.1.2): kind and value."""

    kind: str  # subject_dn | san_dns | san_uri | san_ip | san_email
    value: str


@dataclass(frozen=True, slots=True)
class Client:
    """A registered and approved client. Being a Client does not mean being authenticated; see AuthenticatedClient."""

    client_id: str
    name: str
    authentication_method: AuthenticationMethod
    scope: tuple[str, ...]  # the scope strings that it may ask for, byte for byte
    grant_types: frozenset[GrantType]
    redirect_uris: tuple[str, ...] = ()
    jwks: tuple[Mapping[str, object], ...] = ()  # public keys, as JWK objects
    jwks_uri: str | None = None  # where its public keys are fetched from, instead of jwks (RFC 7591 2)
    certificate_subject: CertificateSubject | None = None
    # SHA-256 of the secret (client_secret_basic)
    secret_digest: bytes | None = field(default=None, repr=False)
    former_secret: bytes | None = field(default=None, repr=False)  # the one before, good until former_until
    former_until: int = 0
    binding: BindingKind = BindingKind.DPOP  # what its tokens are bound with
    profile: ProfileName = ProfileName.FAPI2
    claims: Mapping[str, object] = field(default_factory=dict)  # of its own tokens, e.g. organisation
    pushed_requests_required: bool = False  # it wants what its profile leaves open (RFC 9126 6)
    signed_requests_required: bool = False  # require_signed_request_object (RFC 9101 10.5)
    signed_responses_required: bool = False  # authorization_signed_response_alg is registered (JARM 3)
    signed_userinfo_required: bool = False  # userinfo_signed_response_alg is registered (OIDC Registration 2)
    signed_response_algorithm: str | None = None  # of ID tokens and signed responses; None for the default
    id_token_algorithm: str | None = None  # of ID tokens alone, where it differs: one of the profile's
    assertion_algorithm: str | None = None  # token_endpoint_auth_signing_alg; None for any of the profile
    request_object_algorithm: str | None = None  # request_object_signing_alg; None for any of the profile
    subject_type: SubjectType = SubjectType.PUBLIC
    default_max_age_seconds: int | None = None  # of requests without max_age (OIDC Registration 2)
    authorization_details_types: tuple[str, ...] = ()  # those that it may ask for (RFC 9396 10); none without
    post_logout_redirect_uris: tuple[str, ...] = ()  # RP-Initiated Logout 3.1
    may_introspect: bool = False  # a resource server: it may ask about every token, not only its own
    origins: tuple[str, ...] = ()  # of its web pages, beside those of its redirect URIs (SMART 2.2 @17)
    policy_url: str | None = None
    contact: str | None = None


@dataclass(frozen=True, slots=True)
class AuthenticatedClient:
    """A client that proved who it is in this request. Only endpoints.client_authentication makes one."""

    client: Client
    certificate_thumbprint: str | None  # x5t#S256 of the certificate of this connection, where one was given

"""The apps of gateway.yaml: clients, as they are registered."""

from authz.protocol.client_profiles import PROFILES
from authz.protocol.client_secrets import MIN_SECRET_CHARACTERS, SECRET, digest_of
from authz.protocol.clients import (
    AuthenticationMethod,
    BindingKind,
    Client,
    GrantType,
    ProfileName,
    SubjectType,
)
from authz.protocol.origins import is_origin
from authz.protocol.redirect_uris import UriError, check_redirect_uri, hosts_of
from authz.protocol.scopes import (
    ADMINISTRATION_SCOPE,
    INTROSPECTION_SCOPE,
    LAUNCH_SCOPE,
    is_known,
    split_scope,
)
from authz.settings import AuthorizationSettings
from gateway.config.accounts import read_claims
from gateway.config.client_keys import read_certificate_subject, read_jwks
from gateway.config.schema import Section
from gateway.yaml_source import Place, did_you_mean

_MUST_OR_MAY = ("required", "optional")
_CERTIFICATES = (AuthenticationMethod.TLS_CLIENT_AUTH, AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH)


def read_clients(
    top: Section, authorization: AuthorizationSettings, *, has_mtls: bool, ends_mtls: bool
) -> tuple[Client, ...]:
    """The clients, each held to its profile. has_mtls: somebody ends mutual TLS here; ends_mtls: a listener of ours does."""
    found: list[Client] = []
    places: dict[str, Place] = {}
    for section in top.sections("clients"):
        client = _client(section, authorization, has_mtls=has_mtls)
        self_signed = client.authentication_method is AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH
        if ends_mtls and self_signed and client.jwks_uri is not None:
            section.report(
                section.place("jwks"),
                "jwks.url of self_signed_tls_client_auth needs a proxy that ends TLS: a listener of our own must know"
                " the certificates when it starts, expected {file: …}",
            )
        if client.client_id in places:
            line = places[client.client_id].line
            said = f"the client_id '{client.client_id}' is used twice (first in line {line})"
            section.report(section.place("client_id"), said)
        places.setdefault(client.client_id, section.place("client_id"))
        found.append(client)
    return tuple(found)


def _client(section: Section, authorization: AuthorizationSettings, *, has_mtls: bool) -> Client:
    section.known(
        "client_id", "name", "contact", "policy_url", "authentication", "binding", "grants", "redirect_uris", "scope",
        "jwks", "certificate_subject", "claims", "profile", "signed_requests", "signed_responses", "introspection",
        "subject_type", "post_logout_redirect_uris", "response_algorithm", "authorization_details_types", "require_dpop",
        "secret", "id_token_algorithm", "origins", "default_max_age",
    )  # fmt: skip
    profile = ProfileName(section.word("profile", [p.value for p in PROFILES], "fapi2"))
    if profile not in authorization.profiles:
        section.report(
            section.place("profile"), f"the profile '{profile}' is not switched on in authorization.profiles"
        )
    methods = sorted(m.value for m in PROFILES[profile].authentication_methods)
    method = AuthenticationMethod(section.word("authentication", methods))
    binding = _binding(section, profile)
    if binding is BindingKind.MTLS and not has_mtls:
        section.report(
            section.place("binding"), "binding mtls needs a listener that sees client certificates"
        )
    if method in _CERTIFICATES and not has_mtls:
        section.report(
            section.place("authentication"), f"{method} needs a listener that sees client certificates"
        )
    grants = _grants(section, profile)
    redirect_uris = section.texts("redirect_uris")
    if GrantType.AUTHORIZATION_CODE in grants and not redirect_uris:
        section.report(section.node.place, f"{section.path} uses authorization_code and has no redirect_uris")
    for uri in redirect_uris:
        _check_redirect_uri(section, uri)
    post_logout = section.texts("post_logout_redirect_uris")
    for uri in post_logout:
        _check_redirect_uri(section, uri, "post_logout_redirect_uris")
    pairwise = section.word("subject_type", [s.value for s in SubjectType], "public") == "pairwise"
    if pairwise and len(hosts_of(redirect_uris)) > 1:
        section.report(
            section.place("subject_type"),
            "subject_type pairwise needs redirect_uris of one host: people are named differently to each host",
        )
    jwks, jwks_uri = read_jwks(section, method, profile)
    signed_requests = section.word("signed_requests", _MUST_OR_MAY, "optional") == "required"
    if signed_requests and not jwks and jwks_uri is None:
        section.report(
            section.place("signed_requests"), "signed_requests: required needs jwks to check the signatures"
        )
    scope = _scope(section)
    may_introspect = _may_introspect(section, method)
    if INTROSPECTION_SCOPE in scope and not may_introspect:
        section.report(section.place("scope"), f"{INTROSPECTION_SCOPE} goes with introspection: all")
    for own in (ADMINISTRATION_SCOPE, LAUNCH_SCOPE, INTROSPECTION_SCOPE):
        if own in scope and GrantType.CLIENT_CREDENTIALS not in grants:
            section.report(section.place("scope"), f"{own} needs client_credentials: no person grants it")
        # SMART 2.2 @282 has introspection by bearer tokens: these are for the operator to allow.
        if own in scope and own != INTROSPECTION_SCOPE and binding is BindingKind.NONE:
            section.report(
                section.place("scope"), f"{own} needs tokens that are bound to a key: require_dpop: true"
            )
    return Client(
        client_id=section.text("client_id"),
        name=section.text("name"),
        authentication_method=method,
        scope=scope,
        grant_types=grants,
        redirect_uris=redirect_uris,
        jwks=jwks,
        jwks_uri=jwks_uri,
        certificate_subject=read_certificate_subject(section, method),
        secret_digest=_secret(section, method),
        binding=binding,
        profile=profile,
        claims=read_claims(section),
        signed_requests_required=signed_requests,
        signed_responses_required=section.word("signed_responses", _MUST_OR_MAY, "optional") == "required",
        signed_response_algorithm=(
            section.word("response_algorithm", authorization.signing_algorithms)
            if section.has("response_algorithm")
            else None
        ),
        id_token_algorithm=_id_token_algorithm(section, profile, authorization),
        subject_type=SubjectType(section.word("subject_type", [s.value for s in SubjectType], "public")),
        default_max_age_seconds=(
            int(section.seconds("default_max_age", 0, low=0)) if section.has("default_max_age") else None
        ),
        authorization_details_types=_detail_types(section, authorization),
        post_logout_redirect_uris=post_logout,
        may_introspect=may_introspect,
        origins=_origins(section),
        policy_url=section.optional_text("policy_url"),
        contact=section.optional_text("contact"),
    )


def _binding(section: Section, profile: ProfileName) -> BindingKind:
    """What tokens are bound with: to nothing only where the profile leaves that to the operator, who says so."""
    binding = BindingKind(section.word("binding", ("dpop", "mtls"), "dpop"))
    if section.flag("require_dpop", True):
        return binding
    if PROFILES[profile].sender_constrained_required:
        said = f"require_dpop: false is not for the profile {profile}, whose tokens are bound to a key"
        section.report(section.place("require_dpop"), said)
    if binding is BindingKind.MTLS:
        section.report(section.place("require_dpop"), "require_dpop: false does not go with binding: mtls")
    return BindingKind.NONE


def _id_token_algorithm(
    section: Section, profile: ProfileName, authorization: AuthorizationSettings
) -> str | None:
    """What signs ID tokens alone: one that the client's profile allows, without a choice of its own where there is one."""
    own = [
        name for name in authorization.id_token_algorithms if name in PROFILES[profile].id_token_algorithms
    ]
    if section.has("id_token_algorithm"):
        return section.word("id_token_algorithm", [*authorization.signing_algorithms, *own])
    return own[0] if own and not section.has("response_algorithm") else None


def _secret(section: Section, method: AuthenticationMethod) -> bytes | None:
    """The digest of the client's secret, which rests in a file or in the environment."""
    if method is not AuthenticationMethod.CLIENT_SECRET_BASIC:
        if section.has("secret"):
            section.report(section.place("secret"), f"secret does not go with authentication: {method}")
        return None
    secret = section.secret("secret") or ""
    if secret and not SECRET.fullmatch(secret):
        section.report(
            section.place("secret"),
            f"secret must have {MIN_SECRET_CHARACTERS} to 256 characters, all of A-Z a-z 0-9 . _ ~ -; make one with"
            " `openssl rand -hex 32`",
        )
    return digest_of(secret) if secret else None


def _may_introspect(section: Section, method: AuthenticationMethod) -> bool:
    may = section.word("introspection", ("own", "all"), "own") == "all"
    if may and method is AuthenticationMethod.NONE:
        section.report(section.place("introspection"), "introspection: all is for clients that authenticate")
    return may


def _grants(section: Section, profile: ProfileName) -> frozenset[GrantType]:
    found = set()
    for text in section.texts("grants"):
        try:
            found.add(GrantType(text))
        except ValueError:
            choices = ", ".join(GrantType)
            section.report(section.place("grants"), f"'{text}' is not a grant of this version: {choices}")
    for grant in sorted(found - PROFILES[profile].grant_types):
        section.report(section.place("grants"), f"{grant} is not for clients of the profile {profile}")
    if not found:
        section.report(
            section.node.place, f"{section.path}.grants is missing, expected for example [client_credentials]"
        )
    return frozenset(found)


def _scope(section: Section) -> tuple[str, ...]:
    try:
        found = split_scope(section.text("scope"))
    except ValueError as error:
        section.report(section.place("scope"), str(error))
        return ()
    for text in found:
        if not is_known(text):
            section.report(
                section.place("scope"), f"'{text}' is not a scope: SMART v1 or v2, or openid, launch …"
            )
    return found


def _detail_types(section: Section, authorization: AuthorizationSettings) -> tuple[str, ...]:
    """The authorization details that the client may ask for (RFC 9396 10), each of a type that is offered."""
    key = "authorization_details_types"
    offered = [kind.name for kind in authorization.detail_types]
    found = section.texts(key)
    for text in found:
        if text not in offered:
            hint = did_you_mean(text, offered)
            section.report(section.place(key), f"authorization_details has no type '{text}'.{hint}")
    return found


def _origins(section: Section) -> tuple[str, ...]:
    """The origins of the app's web pages, as browsers send them (RFC 6454 6.2)."""
    found = section.texts("origins")
    for text in found:
        if not is_origin(text):
            section.report(
                section.place("origins"),
                f"origins: '{text}' is not an origin as browsers send it, such as https://chart.example",
            )
    return found


def _check_redirect_uri(section: Section, uri: str, key: str = "redirect_uris") -> None:
    try:
        check_redirect_uri(uri)
    except UriError as error:
        section.report(section.place(key), f"{key}: '{uri}' {error}")


def scopes_of(clients: tuple[Client, ...]) -> tuple[str, ...]:
    """What metadata tells: the scopes of all clients, without those of this server's own software.

    openid and profile are among them (OpenID Connect Discovery 3: those of Core should be listed).
    """
    found = {text for client in clients for text in client.scope} - {
        ADMINISTRATION_SCOPE,
        LAUNCH_SCOPE,
        INTROSPECTION_SCOPE,
    }
    return tuple(sorted(found))

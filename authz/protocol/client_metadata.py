"""Client metadata: the document that an application registers with → a Client, and back (RFC 7591 2, RFC 7592 2.2).

The whole document is judged at every registration and every update. What it does not know it leaves out, as RFC 7591
2 says; what would change what a client may do, and is not the registrant's to say, is not known here: introspection
of all tokens, fixed claims. The profile is decided before, and every member is held to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from authz.protocol.client_keys import ClientKeysError, check_self_signed, read_jwks
from authz.protocol.client_members import Members, unacceptable
from authz.protocol.client_profiles import FAPI_ALGORITHMS, Profile, algorithms_of
from authz.protocol.clients import (
    AuthenticationMethod,
    BindingKind,
    CertificateSubject,
    Client,
    GrantType,
    SubjectType,
)
from authz.protocol.errors import speakable
from authz.protocol.jwk import import_jwks
from authz.protocol.redirect_uris import hosts_of
from authz.protocol.registered_algorithms import id_token_algorithm, response_algorithm, signing_algorithm
from authz.protocol.scopes import (
    ADMINISTRATION_SCOPE,
    INTROSPECTION_SCOPE,
    LAUNCH_SCOPE,
    covered,
    is_known,
    parse_scope,
    split_scope,
)

_SUBJECTS = {
    "tls_client_auth_subject_dn": "subject_dn",
    "tls_client_auth_san_dns": "san_dns",
    "tls_client_auth_san_uri": "san_uri",
    "tls_client_auth_san_ip": "san_ip",
    "tls_client_auth_san_email": "san_email",
}
_BINDINGS = {
    "dpop_bound_access_tokens": BindingKind.DPOP,  # RFC 9449 5.2
    "tls_client_certificate_bound_access_tokens": BindingKind.MTLS,  # RFC 8705 3.4
}
_WITHOUT_KEYS = frozenset(
    {
        AuthenticationMethod.TLS_CLIENT_AUTH,
        AuthenticationMethod.CLIENT_SECRET_BASIC,
        AuthenticationMethod.NONE,
    }
)
_PAGES = ("client_uri", "logo_uri", "policy_uri", "tos_uri")
# What a client that names one of these relies on would silently not happen: it must learn of that.
_NOT_DONE = {
    "id_token_encrypted_response_alg": "tokens are not encrypted here",
    "userinfo_encrypted_response_alg": "answers are not encrypted here",
    "authorization_encrypted_response_alg": "answers are not encrypted here",
    "introspection_encrypted_response_alg": "answers are not encrypted here",
    "sector_identifier_uri": "it is not fetched here: pairwise names need redirect_uris of one host",
}
METADATA = frozenset(
    {
        "application_type", "authorization_signed_response_alg", "client_name", "contacts", "default_max_age", "grant_types",
        "id_token_signed_response_alg", "introspection_signed_response_alg",
        "jwks", "jwks_uri", "post_logout_redirect_uris", "redirect_uris",
        "request_object_signing_alg", "require_auth_time", "require_pushed_authorization_requests",
        "require_signed_request_object",
        "response_types", "scope", "software_id", "software_version", "subject_type", "token_endpoint_auth_method",
        "token_endpoint_auth_signing_alg", "userinfo_signed_response_alg", *_BINDINGS, *_NOT_DONE, *_PAGES, *_SUBJECTS,
    }
)  # fmt: skip
"""The members that are looked at; every other is left out."""


@dataclass(frozen=True, slots=True)
class RegistrationRules:
    """What a registration is held to, beside the document itself.

    certificates_accepted  whether a listener sees client certificates
    signing_algorithms     those of this server's own signatures
    id_token_algorithms    more of them, for ID tokens of those profiles that may have them
    unbound_allowed        whether a client may have tokens that are bound to no key, where its profile leaves that
    scope_ceiling          what an initial access token or an operator allows to ask for at most; None without a limit
    stated                 metadata that a software statement gives: it takes precedence (RFC 7591 2.3)
    """

    profile: Profile
    certificates_accepted: bool
    signing_algorithms: tuple[str, ...]
    id_token_algorithms: tuple[str, ...] = ()
    unbound_allowed: bool = False
    scope_ceiling: tuple[str, ...] | None = None
    stated: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class ClientMetadata:
    """A document that was found right. Only read_metadata() makes one.

    document  what is registered, as it is told to the client (RFC 7591 3.2.1)
    """

    document: Mapping[str, object]
    template: Client

    def client(self, client_id: str) -> Client:
        """The client that it describes, under its id."""
        return replace(self.template, client_id=client_id)


def read_metadata(document: Mapping[str, object], rules: RegistrationRules) -> ClientMetadata:
    """The metadata in a document, a software statement's laid over it (RFC 7591 2, 2.3, 3.1.1).

    Raises OAuthError: INVALID_REDIRECT_URI for redirect_uris, else INVALID_CLIENT_METADATA, naming the member.
    """
    members = Members(_merged(document, rules.stated or {}))
    for name, why in _NOT_DONE.items():
        if members.has(name):
            raise unacceptable(name, why)
    method = AuthenticationMethod(
        members.word("token_endpoint_auth_method", sorted(rules.profile.authentication_methods))
    )
    certificates = method in (
        AuthenticationMethod.TLS_CLIENT_AUTH,
        AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH,
    )
    if certificates and not rules.certificates_accepted:
        raise unacceptable("token_endpoint_auth_method", "this server sees no client certificates")
    grants = _grant_types(members, rules.profile)
    native = members.word("application_type", ("web", "native"), "web") == "native"
    redirect_uris = members.uris("redirect_uris", native=native)
    if (GrantType.AUTHORIZATION_CODE in grants) != bool(redirect_uris):
        raise unacceptable(
            "redirect_uris", "there must be some with the grant type authorization_code, and none without"
        )
    own = tuple(name for name in rules.id_token_algorithms if name in rules.profile.id_token_algorithms)
    client = Client(
        client_id="",
        name=members.line("client_name"),
        authentication_method=method,
        scope=_scope(members, grants, rules),
        grant_types=grants,
        redirect_uris=redirect_uris,
        binding=_binding(members, rules),
        profile=rules.profile.name,
        signed_requests_required=members.flag("require_signed_request_object"),
        # RFC 9126 6: a client may hold itself to what its profile leaves open, and never the reverse.
        pushed_requests_required=members.flag("require_pushed_authorization_requests")
        or rules.profile.pushed_requests_required,
        signed_responses_required=members.has("authorization_signed_response_alg"),
        signed_userinfo_required=members.has("userinfo_signed_response_alg"),
        signed_response_algorithm=response_algorithm(members, rules.signing_algorithms, own),
        id_token_algorithm=id_token_algorithm(members, own) if redirect_uris else None,
        assertion_algorithm=signing_algorithm(
            members, "token_endpoint_auth_signing_alg", rules.profile.signing_algorithms
        ),
        request_object_algorithm=signing_algorithm(members, "request_object_signing_alg", FAPI_ALGORITHMS),
        subject_type=_subject_type(members, redirect_uris),
        default_max_age_seconds=members.seconds("default_max_age"),
        post_logout_redirect_uris=members.uris("post_logout_redirect_uris", native=native),
        certificate_subject=_certificate_subject(members, method),
    )
    client = _with_keys(members, client, rules.profile)
    members.put("require_pushed_authorization_requests", client.pushed_requests_required)
    pages = {name: members.page(name) for name in _PAGES}
    contacts = members.lines("contacts")
    members.flag("require_auth_time")  # ID tokens always have auth_time: true is kept as false is
    for name in ("software_id", "software_version"):
        members.optional_line(name)
    client = replace(client, policy_url=pages["policy_uri"], contact=contacts[0] if contacts else None)
    return ClientMetadata(members.found, client)


def _merged(document: Mapping[str, object], stated: Mapping[str, object]) -> dict[str, object]:
    """The members that are looked at. null is the same as absent (RFC 7592 2.2)."""
    given = {name: value for name, value in document.items() if name in METADATA and value is not None}
    over = {name: value for name, value in stated.items() if name in METADATA and value is not None}
    for together in (("jwks", "jwks_uri"), tuple(_SUBJECTS), tuple(_BINDINGS)):
        if not over.keys().isdisjoint(together):  # a statement that gives one says that there is no other
            given = {name: value for name, value in given.items() if name not in together}
    return {**given, **over}


def _grant_types(members: Members, profile: Profile) -> frozenset[GrantType]:
    """grant_types and response_types, which must agree (RFC 7591 2.1)."""
    allowed = [grant for grant in GrantType if grant in profile.grant_types]
    grants = frozenset(map(GrantType, members.words("grant_types", allowed, ("authorization_code",))))
    by_code = GrantType.AUTHORIZATION_CODE in grants
    members.words("response_types", ("code",), ("code",) if by_code else ())
    if bool(members.found["response_types"]) != by_code:
        raise unacceptable(
            "response_types", "code goes with the grant type authorization_code, and with no other"
        )
    if GrantType.REFRESH_TOKEN in grants and not by_code:
        raise unacceptable("grant_types", "refresh_token goes with authorization_code")
    return grants


def _scope(members: Members, grants: frozenset[GrantType], rules: RegistrationRules) -> tuple[str, ...]:
    try:
        scope = split_scope(members.text("scope"))
    except ValueError as error:
        raise unacceptable("scope", str(error)) from error
    if not scope:
        raise unacceptable("scope", "it names no scope")
    stated = _stated_scope(rules)
    for text in scope:
        said = speakable(text, at_most=80)
        if not is_known(text):
            raise unacceptable(
                "scope", f"{said} is not a scope: SMART v1 or v2, or openid, launch and others"
            )
        if text in (ADMINISTRATION_SCOPE, LAUNCH_SCOPE, INTROSPECTION_SCOPE):
            raise unacceptable("scope", f"{said} is for clients of gateway.yaml: no registration brings it")
        if rules.scope_ceiling is not None and not covered(text, rules.scope_ceiling):
            raise unacceptable("scope", f"{said} is more than the initial access token allows to register")
        clinical = parse_scope(text)
        if clinical is None:
            continue
        if clinical.context != "system":
            if GrantType.AUTHORIZATION_CODE not in grants:
                raise unacceptable("scope", f"{said} needs the grant type authorization_code")
            continue
        if GrantType.CLIENT_CREDENTIALS not in grants:
            raise unacceptable("scope", f"{said} needs the grant type client_credentials")
        if rules.scope_ceiling is None and text not in stated:
            raise unacceptable(
                "scope", f"{said} needs an initial access token or a software statement that allows it"
            )
    members.put("scope", " ".join(scope))
    return scope


def _stated_scope(rules: RegistrationRules) -> tuple[str, ...]:
    """The scopes that a software statement itself names."""
    stated = (rules.stated or {}).get("scope")
    try:
        return split_scope(stated) if isinstance(stated, str) else ()
    except ValueError:
        return ()


def _binding(members: Members, rules: RegistrationRules) -> BindingKind:
    chosen = [kind for name, kind in _BINDINGS.items() if members.flag(name)]
    if not chosen and rules.unbound_allowed and not rules.profile.sender_constrained_required:
        members.put("dpop_bound_access_tokens", False)
        return BindingKind.NONE
    if len(chosen) != 1:
        raise unacceptable(
            "dpop_bound_access_tokens",
            "exactly one of it and tls_client_certificate_bound_access_tokens must be true",
        )
    if chosen[0] is BindingKind.MTLS and not rules.certificates_accepted:
        raise unacceptable(
            "tls_client_certificate_bound_access_tokens", "this server sees no client certificates"
        )
    return chosen[0]


def _subject_type(members: Members, redirect_uris: tuple[str, ...]) -> SubjectType:
    kind = SubjectType(members.word("subject_type", list(SubjectType), "public"))
    if kind is SubjectType.PAIRWISE and len(hosts_of(redirect_uris)) > 1:
        raise unacceptable(
            "subject_type",
            "pairwise needs redirect_uris of one host: people are named differently to each host",
        )
    return kind


def _certificate_subject(members: Members, method: AuthenticationMethod) -> CertificateSubject | None:
    """RFC 8705 2.1.2: exactly one of the five for tls_client_auth, none for another method."""
    given = [name for name in _SUBJECTS if members.has(name)]
    expected = 1 if method is AuthenticationMethod.TLS_CLIENT_AUTH else 0
    if len(given) != expected:
        said = "exactly one is needed for" if expected else "none goes with"
        raise unacceptable(
            "tls_client_auth_subject_dn, _san_dns, _san_uri, _san_ip or _san_email", f"{said} {method}"
        )
    if not given:
        return None
    return CertificateSubject(_SUBJECTS[given[0]], members.certificate_name(given[0], _SUBJECTS[given[0]]))


def _with_keys(members: Members, client: Client, profile: Profile) -> Client:
    """The client with its keys: by value or by URL, never both (RFC 7591 2)."""
    if members.has("jwks") and members.has("jwks_uri"):
        raise unacceptable("jwks", "give the keys by value or jwks_uri, not both")
    method = client.authentication_method
    if members.has("jwks_uri"):
        if method is AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH:
            raise unacceptable(
                "jwks_uri", "the certificates of self_signed_tls_client_auth are registered by jwks"
            )
        return replace(client, jwks_uri=members.page("jwks_uri"))
    if not members.has("jwks"):
        if method in _WITHOUT_KEYS and not client.signed_requests_required:
            return client
        raise unacceptable("jwks", "the keys of the client are needed: jwks, or jwks_uri")
    try:
        keys = read_jwks(members.raw("jwks"), also=profile.signing_algorithms)
        if method is AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH:
            check_self_signed(keys)
    except ClientKeysError as error:
        raise unacceptable("jwks", str(error)) from error
    members.put("jwks", {"keys": [dict(key) for key in keys]})
    _require_signing_key(client, keys, profile)
    return replace(client, jwks=keys)


def _require_signing_key(client: Client, keys: tuple[Mapping[str, object], ...], profile: Profile) -> None:
    """A client that must sign has a key for it, of the algorithm that it registered."""
    needed = []
    if client.authentication_method is AuthenticationMethod.PRIVATE_KEY_JWT:
        needed.append(client.assertion_algorithm)
    if client.signed_requests_required:
        needed.append(client.request_object_algorithm)
    usable = {name for key in import_jwks(keys, also=profile.signing_algorithms) for name in key.algorithms}
    for algorithm in needed:
        if usable.isdisjoint(algorithms_of(client, algorithm)):
            raise unacceptable(
                "jwks", f"no key is for signing with {algorithm or 'an algorithm of this server'}"
            )

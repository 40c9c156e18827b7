"""Security profiles of clients, as one table: what a client of each must do, and what it may leave.

fapi2 is the FAPI 2.0 Security Profile, for every client that can. The others are the client types of SMART App Launch
2.2 (client-confidential-asymmetric, -symmetric, client-public), for apps that were written for these and know nothing
else. They are weaker, so they are off until `authorization.profiles` names them, and a client is of one of them only
when its own entry says so. Every decision that differs between clients reads this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from authz.protocol.clients import AuthenticationMethod, BindingKind, Client, GrantType, ProfileName
from authz.protocol.jwk import OF_ID_TOKENS


@dataclass(frozen=True, slots=True)
class Profile:
    """One column of the table: what a client of this profile must do.

    pushed_requests_required    authorization requests come by PAR; without it they may come in the address or a form
    sender_constrained_required  every token is bound to a key; without it an operator may let a client have others
    token_url_audience_allowed  aud of an assertion may be the address of the token endpoint
    audience_required           an authorization request names the FHIR base that it is for (SMART's aud)
    key_url_checked             jku in an assertion must be the registered URL of the keys
    redirect_uri_repeated       a code is redeemed with the redirect URI of its request (RFC 6749 4.1.3); without it
                                it may be left out, as OAuth 2.1 10.2 has it: who authenticated named it by PAR
    id_token_algorithms         those that its ID tokens may have beside what every client may choose
    unbound_refresh_needs_rotation  a refresh token that is held to no key is replaced at each use, or not given
    """

    name: ProfileName
    authentication_methods: frozenset[AuthenticationMethod]
    signing_algorithms: frozenset[str]
    grant_types: frozenset[GrantType]
    pushed_requests_required: bool
    sender_constrained_required: bool
    token_url_audience_allowed: bool
    audience_required: bool
    redirect_uri_repeated: bool
    key_url_checked: bool
    unbound_refresh_needs_rotation: bool
    id_token_algorithms: frozenset[str] = frozenset()


FAPI_ALGORITHMS = frozenset({"PS256", "ES256", "EdDSA", "Ed25519"})
SMART_ALGORITHMS = frozenset({"RS384", "ES384"})
_EDDSA = frozenset({"EdDSA", "Ed25519"})
_EVERY_GRANT = frozenset(GrantType)
_BY_PEOPLE = frozenset({GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN})

PROFILES: Mapping[ProfileName, Profile] = {
    ProfileName.FAPI2: Profile(
        name=ProfileName.FAPI2,
        authentication_methods=frozenset(
            {
                AuthenticationMethod.PRIVATE_KEY_JWT,
                AuthenticationMethod.TLS_CLIENT_AUTH,
                AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH,
            }
        ),
        signing_algorithms=FAPI_ALGORITHMS,
        grant_types=_EVERY_GRANT,
        pushed_requests_required=True,
        sender_constrained_required=True,
        token_url_audience_allowed=False,
        audience_required=False,
        redirect_uri_repeated=False,
        key_url_checked=False,
        unbound_refresh_needs_rotation=True,
    ),
    ProfileName.SMART_ASYMMETRIC: Profile(
        name=ProfileName.SMART_ASYMMETRIC,
        authentication_methods=frozenset({AuthenticationMethod.PRIVATE_KEY_JWT}),
        signing_algorithms=FAPI_ALGORITHMS | SMART_ALGORITHMS,
        grant_types=_EVERY_GRANT,
        pushed_requests_required=False,
        sender_constrained_required=False,
        token_url_audience_allowed=True,
        audience_required=True,
        redirect_uri_repeated=True,
        key_url_checked=True,
        unbound_refresh_needs_rotation=False,
        id_token_algorithms=OF_ID_TOKENS,
    ),
    ProfileName.SMART_SYMMETRIC: Profile(
        name=ProfileName.SMART_SYMMETRIC,
        authentication_methods=frozenset({AuthenticationMethod.CLIENT_SECRET_BASIC}),
        signing_algorithms=frozenset(),
        grant_types=_BY_PEOPLE,  # SMART App Launch 2.2: secrets are not for backend services
        pushed_requests_required=False,
        sender_constrained_required=False,
        token_url_audience_allowed=False,
        audience_required=True,
        redirect_uri_repeated=True,
        key_url_checked=False,
        unbound_refresh_needs_rotation=False,
        id_token_algorithms=OF_ID_TOKENS,
    ),
    ProfileName.SMART_PUBLIC: Profile(
        name=ProfileName.SMART_PUBLIC,
        authentication_methods=frozenset({AuthenticationMethod.NONE}),
        signing_algorithms=frozenset(),
        grant_types=_BY_PEOPLE,
        pushed_requests_required=False,
        sender_constrained_required=False,
        token_url_audience_allowed=False,
        audience_required=True,
        redirect_uri_repeated=True,
        key_url_checked=False,
        unbound_refresh_needs_rotation=True,
        id_token_algorithms=OF_ID_TOKENS,
    ),
}

CAPABILITIES: Mapping[ProfileName, str] = {
    ProfileName.SMART_ASYMMETRIC: "client-confidential-asymmetric",
    ProfileName.SMART_SYMMETRIC: "client-confidential-symmetric",
    ProfileName.SMART_PUBLIC: "client-public",
}
"""What SMART's discovery says of a profile that is switched on. Of fapi2 SMART has no name."""

UNBOUND_SECONDS = 300
"""A token that whoever holds it can use lives no longer."""


BOUND_BY = ("dpop_bound_access_tokens", "tls_client_certificate_bound_access_tokens")
"""The members of client metadata that bind tokens to a key (RFC 9449 5.2, RFC 8705 3.4)."""


def profile_asked(metadata: Mapping[str, object]) -> ProfileName:
    """The profile that client metadata ask for (RFC 7591 2): the strictest that has what they name.

    No member of RFC 7591 names a profile. What authenticates without keys, signs as SMART does or binds its tokens to
    nothing is no client of fapi2.
    """
    method = metadata.get("token_endpoint_auth_method")
    if method == AuthenticationMethod.NONE:
        return ProfileName.SMART_PUBLIC
    if method == AuthenticationMethod.CLIENT_SECRET_BASIC:
        return ProfileName.SMART_SYMMETRIC
    signs = metadata.get("token_endpoint_auth_signing_alg")
    unbound = not any(metadata.get(name) is True for name in BOUND_BY)
    if method == AuthenticationMethod.PRIVATE_KEY_JWT and (unbound or signs in tuple(SMART_ALGORITHMS)):
        return ProfileName.SMART_ASYMMETRIC
    return ProfileName.FAPI2


def algorithms_of(client: Client, registered: str | None) -> frozenset[str]:
    """The JWS algorithms that a client may sign with: those of its profile, or the one that it registered (RFC 7591 2).

    EdDSA and Ed25519 are two names of one algorithm (RFC 9864 2.2).
    """
    allowed = PROFILES[client.profile].signing_algorithms
    if registered is None:
        return allowed
    return allowed & (_EDDSA if registered in _EDDSA else frozenset({registered}))


def may_have_unbound_tokens(client: Client | None, profiles: frozenset[ProfileName]) -> bool:
    """Whether tokens that are bound to no key are this client's, by its entry and by the profiles that are on."""
    return (
        client is not None
        and client.binding is BindingKind.NONE
        and client.profile in profiles
        and not PROFILES[client.profile].sender_constrained_required
    )


def may_refresh(client: Client, *, bound: bool, rotates: bool) -> bool:
    """Whether the client may have a refresh token. bound says whether that will be held to a key.

    A stolen one that needs neither a key nor a client's credentials is found out by its replacement only (RFC 9700
    2.2.2).
    """
    if GrantType.REFRESH_TOKEN not in client.grant_types:
        return False
    return bound or rotates or not PROFILES[client.profile].unbound_refresh_needs_rotation

"""The authorization request: what a pushed request must hold, as a table of rules.

RFC 6749 4.1, RFC 7636, RFC 8707, RFC 9126, FAPI 2.0 Security Profile 5.3.2.2.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from authz.protocol import pkce
from authz.protocol.authorization_answers import SIGNED_RESPONSE_MODES
from authz.protocol.client_profiles import PROFILES
from authz.protocol.clients import BindingKind, Client, GrantType, ProfileName
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.granting import ServerBits, audience, details, granted_scope
from authz.protocol.openid import read_claims_request
from authz.protocol.redirect_uris import is_registered

PROMPTS = ("none", "login", "consent", "select_account")
_SECONDS = re.compile(r"[0-9]{1,9}")
RESPONSE_MODES = ("query", *SIGNED_RESPONSE_MODES)
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_MAX_VALUE = 4096
_KEPT = frozenset(
    {
        "acr_values", "aud", "authorization_details", "claims", "client_id", "code_challenge", "code_challenge_method",
        "display", "dpop_jkt", "grant_management_action", "id_token_hint", "launch", "login_hint", "max_age",
        "nonce", "prompt", "redirect_uri", "resource", "response_mode", "response_type", "scope", "state", "ui_locales",
    }
)  # fmt: skip
"""Parameters that are kept. Others are ignored, as RFC 6749 3.1 wants, and never stored: credentials among them."""
KNOWN = _KEPT | {"grant_id", "request_uri"}
"""Parameters that mean something here. Of all others not even the form is looked at: launch_context among them, which
only we may say."""
_WITH_OWN_BOUNDS = frozenset({"authorization_details", "claims", "id_token_hint", "scope"})


REPEATABLE = frozenset({"resource"})
"""The one parameter that may be sent several times (RFC 8707 2). Its values stand in one text, parted by spaces."""


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A pushed request that passed every rule. Only check() makes one."""

    client_id: str
    redirect_uri: str
    scope: tuple[str, ...]
    state: str | None
    nonce: str | None
    code_challenge: str
    dpop_jkt: str | None
    audience: tuple[str, ...]
    parameters: Mapping[str, str]


def check(
    parameters: Mapping[str, str], client: Client, server: ServerBits, *, proof_thumbprint: str | None = None
) -> AuthorizationRequest:
    """Run every rule of RULES that the client's profile has over a pushed request.

    proof_thumbprint is the key of the DPoP proof that came with it, None without one. Raises OAuthError; nothing
    here redirects.
    """
    parameters = {name: value for name, value in parameters.items() if name in KNOWN}
    for rule, profiles in RULES:
        if client.profile in profiles:
            rule(parameters, client, server)
    kept = {name: value for name, value in parameters.items() if name in _KEPT}
    if (
        client.default_max_age_seconds is not None
    ):  # what the request says itself is preferred (OIDC Registration 2)
        kept.setdefault("max_age", str(client.default_max_age_seconds))
    asked_jkt = kept.get("dpop_jkt")
    if proof_thumbprint is not None and asked_jkt is not None and asked_jkt != proof_thumbprint:
        raise OAuthError(
            ErrorCode.INVALID_DPOP_PROOF,
            "dpop_jkt is not the thumbprint of the proof's key: send one of the two, or both of one key",
        )
    if client.binding is BindingKind.MTLS and (proof_thumbprint or asked_jkt) is not None:
        # Such a code could never be redeemed: better said now than after the person has signed in.
        raise OAuthError(
            ErrorCode.INVALID_REQUEST,
            "the tokens of this client are bound to its certificate, not to a DPoP key: send neither proof nor dpop_jkt",
        )
    return AuthorizationRequest(
        client_id=client.client_id,
        redirect_uri=kept["redirect_uri"],
        scope=granted_scope(kept, client, server),
        state=kept.get("state"),
        nonce=kept.get("nonce"),
        code_challenge=kept["code_challenge"],
        dpop_jkt=proof_thumbprint or asked_jkt,
        audience=audience(kept, server),
        parameters=kept,
    )


Rule = Callable[[Mapping[str, str], Client, ServerBits], None]


def _client_is_the_one_authenticated(
    parameters: Mapping[str, str], client: Client, server: ServerBits
) -> None:
    """C8: a client_id parameter names the authenticated client."""
    if parameters.get("client_id", client.client_id) != client.client_id:
        raise OAuthError(
            ErrorCode.INVALID_CLIENT,
            "client_id is not the client that authenticated: leave it out, or send its own",
        )


def _no_request_uri(parameters: Mapping[str, str], client: Client, server: ServerBits) -> None:
    """P3, RFC 9126 2.1."""
    if "request_uri" in parameters:
        raise OAuthError(
            ErrorCode.INVALID_REQUEST,
            "request_uri is not a parameter of a pushed request: push the parameters themselves",
        )


def _details_are_of_known_types(parameters: Mapping[str, str], client: Client, server: ServerBits) -> None:
    """RFC 9396 5, 10."""
    details(parameters, client, server)


def _claims_can_be_read(parameters: Mapping[str, str], client: Client, server: ServerBits) -> None:
    """OpenID Connect Core 5.5."""
    if "claims" in parameters:
        read_claims_request(parameters["claims"], server.acr_values)


def _grant_management_creates(parameters: Mapping[str, str], client: Client, server: ServerBits) -> None:
    """Grants are made here, and ended; none is merged into another, which no person would see through."""
    action = parameters.get("grant_management_action")
    if action not in (None, "create") or "grant_id" in parameters:
        raise OAuthError(
            ErrorCode.INVALID_REQUEST, "grant_management_action must be create, without grant_id"
        )


def _max_age_is_seconds(parameters: Mapping[str, str], client: Client, server: ServerBits) -> None:
    if not _SECONDS.fullmatch(parameters.get("max_age", "0")):
        raise OAuthError(ErrorCode.INVALID_REQUEST, "max_age must be a number of seconds")


def _client_may_use_codes(parameters: Mapping[str, str], client: Client, server: ServerBits) -> None:
    if GrantType.AUTHORIZATION_CODE not in client.grant_types:
        allowed = ", ".join(sorted(client.grant_types))
        raise OAuthError(
            ErrorCode.UNAUTHORIZED_CLIENT,
            f"the client is not registered for authorization_code: it has {allowed}",
        )


def _response_type_is_code(parameters: Mapping[str, str], client: Client, server: ServerBits) -> None:
    """P6."""
    response_type = parameters.get("response_type")
    if response_type is None:
        raise OAuthError(ErrorCode.INVALID_REQUEST, "response_type is required: code")
    if response_type != "code":
        raise OAuthError(ErrorCode.UNSUPPORTED_RESPONSE_TYPE, "response_type must be code")


def _response_mode_is_offered(parameters: Mapping[str, str], client: Client, server: ServerBits) -> None:
    """A6: plain or signed in the query; a client that must use JARM gets no plain answer."""
    asked = parameters.get("response_mode")
    if asked is not None and asked not in RESPONSE_MODES:
        raise OAuthError(
            ErrorCode.INVALID_REQUEST, f"response_mode must be one of {', '.join(RESPONSE_MODES)}"
        )
    if asked == "query" and client.signed_responses_required:
        raise OAuthError(
            ErrorCode.INVALID_REQUEST, "the answers to this client are signed: response_mode=jwt"
        )


def _redirect_uri_is_registered(parameters: Mapping[str, str], client: Client, server: ServerBits) -> None:
    """P5: exactly one of those registered, compared as text but for the port of a native app (RFC 9700 2.1)."""
    redirect_uri = parameters.get("redirect_uri")
    if redirect_uri is None:
        raise OAuthError(ErrorCode.INVALID_REQUEST, "redirect_uri is required: send one of those registered")
    if not is_registered(redirect_uri, client.redirect_uris):
        raise OAuthError(
            ErrorCode.INVALID_REQUEST, "redirect_uri is not one of those registered for this client"
        )


def _pkce_is_s256(parameters: Mapping[str, str], client: Client, server: ServerBits) -> None:
    """P4."""
    pkce.check_challenge(parameters.get("code_challenge"), parameters.get("code_challenge_method"))


def _dpop_jkt_is_a_thumbprint(parameters: Mapping[str, str], client: Client, server: ServerBits) -> None:
    """P11, RFC 9449 10."""
    jkt = parameters.get("dpop_jkt")
    if jkt is not None and not _THUMBPRINT.fullmatch(jkt):
        raise OAuthError(
            ErrorCode.INVALID_REQUEST, "dpop_jkt must be a thumbprint of 43 base64url characters"
        )


def _values_are_bounded(parameters: Mapping[str, str], client: Client, server: ServerBits) -> None:
    """P13: state and nonce of at least 512 characters come back intact. Nothing longer than this is kept."""
    for name in sorted(parameters.keys() & _KEPT - _WITH_OWN_BOUNDS):
        if len(parameters[name]) > _MAX_VALUE:
            raise OAuthError(ErrorCode.INVALID_REQUEST, f"{name} must have at most {_MAX_VALUE} characters")


def _prompt_is_honoured(parameters: Mapping[str, str], client: Client, server: ServerBits) -> None:
    """OpenID Connect Core 3.1.2.1: none stands alone."""
    words = parameters.get("prompt", "").split()
    for word in words:
        if word not in PROMPTS:
            raise OAuthError(ErrorCode.INVALID_REQUEST, f"prompt must be one of {', '.join(PROMPTS)}")
    if "none" in words and len(words) > 1:
        raise OAuthError(ErrorCode.INVALID_REQUEST, "prompt none stands alone: leave the other values out")


def _resource_is_ours(parameters: Mapping[str, str], client: Client, server: ServerBits) -> None:
    audience(parameters, server)


def _resource_is_named(parameters: Mapping[str, str], client: Client, server: ServerBits) -> None:
    """SMART App Launch 2.2: the app names the FHIR base that it is for, so that no other server can use its token."""
    if "aud" not in parameters and "resource" not in parameters:
        raise OAuthError(ErrorCode.INVALID_REQUEST, "aud is required: the FHIR base that the app is for")


def _state_is_sent(parameters: Mapping[str, str], client: Client, server: ServerBits) -> None:
    if "state" not in parameters:
        raise OAuthError(ErrorCode.INVALID_REQUEST, "state is required: a value that cannot be guessed")


def _scope_may_be_asked(parameters: Mapping[str, str], client: Client, server: ServerBits) -> None:
    granted_scope(parameters, client, server)


EVERY = frozenset(ProfileName)
NAMES_ITS_RESOURCE = frozenset(name for name, profile in PROFILES.items() if profile.audience_required)

RULES: tuple[tuple[Rule, frozenset[ProfileName]], ...] = (
    (_client_is_the_one_authenticated, EVERY),
    (_no_request_uri, EVERY),
    (_client_may_use_codes, EVERY),
    (_response_type_is_code, EVERY),
    (_response_mode_is_offered, EVERY),
    (_redirect_uri_is_registered, EVERY),
    (_pkce_is_s256, EVERY),
    (_dpop_jkt_is_a_thumbprint, EVERY),
    (_values_are_bounded, EVERY),
    (_prompt_is_honoured, EVERY),
    (_grant_management_creates, EVERY),
    (_max_age_is_seconds, EVERY),
    (_claims_can_be_read, EVERY),
    (_details_are_of_known_types, EVERY),
    (_resource_is_named, NAMES_ITS_RESOURCE),
    (_state_is_sent, NAMES_ITS_RESOURCE),
    (_resource_is_ours, EVERY),
    (_scope_may_be_asked, EVERY),
)
"""What a pushed request must pass, and in which profiles, in this order; the first rule that fails answers."""

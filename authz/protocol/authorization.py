"""The authorization request and its answer: what a pushed request must hold, as a table of rules, and the redirect.

RFC 6749 4.1, RFC 7636, RFC 8707, RFC 9126, RFC 9207, FAPI 2.0 Security Profile 5.3.2.2.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from authz.protocol import pkce
from authz.protocol.authorization_details import Detail, DetailType, is_covered, read_details, refused
from authz.protocol.clients import BindingKind, Client, GrantType, ProfileName
from authz.protocol.errors import ErrorCode, OAuthError, speakable
from authz.protocol.openid import read_claims_request
from authz.protocol.scopes import CLIENT_SCOPES, covered, is_known, parse_scope, split_scope

PROMPTS = ("none", "login", "consent", "select_account")
_SECONDS = re.compile(r"[0-9]{1,9}")
RESPONSE_MODES = ("query", "jwt", "query.jwt")  # the last two are one: JARM 2.3.4
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_SIGNED_RESPONSE_SECONDS = 300  # at most 10 minutes (FAPI 2.0 Message Signing 5.4.1)
_MAX_VALUE = 4096
_MAX_SCOPE = 4096  # a token that carries more would not fit into the header that it is sent in
_KEPT = frozenset(
    {
        "acr_values", "aud", "authorization_details", "claims", "client_id", "code_challenge", "code_challenge_method",
        "display", "dpop_jkt", "grant_management_action", "id_token_hint", "launch", "login_hint", "max_age",
        "nonce", "prompt", "redirect_uri", "resource", "response_mode", "response_type", "scope", "state", "ui_locales",
    }
)  # fmt: skip
"""Parameters that are kept. Others are ignored, as RFC 6749 3.1 wants, and never stored: credentials among them."""
_WITH_OWN_BOUNDS = frozenset({"authorization_details", "claims", "id_token_hint", "scope"})


REPEATABLE = frozenset({"resource"})
"""The one parameter that may be sent several times (RFC 8707 2). Its values stand in one text, parted by spaces."""


@dataclass(frozen=True, slots=True)
class ServerBits:
    """What the rules need to know of the server.

    resources maps every accepted spelling of a resource identifier to the identifier that tokens carry.
    grantable says whether the gateway can enforce a clinical scope.
    ungranted are scopes that a registered client may ask for and that are left out of what is granted.
    acr_values are the authentication contexts that a person can reach here.
    """

    issuer: str
    resources: Mapping[str, str]
    grantable: Callable[[str], bool]
    ungranted: frozenset[str] = frozenset()
    acr_values: tuple[str, ...] = ()
    detail_types: Mapping[str, DetailType] = field(default_factory=dict)


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
    for rule, profiles in RULES:
        if client.profile in profiles:
            rule(parameters, client, server)
    kept = {name: value for name, value in parameters.items() if name in _KEPT}
    asked_jkt = kept.get("dpop_jkt")
    if proof_thumbprint is not None and asked_jkt is not None and asked_jkt != proof_thumbprint:
        raise OAuthError(
            ErrorCode.INVALID_DPOP_PROOF,
            "dpop_jkt is not the thumbprint of the proof's key: send one of the two, or both of one key",
        )
    if client.binding is not BindingKind.DPOP and (proof_thumbprint or asked_jkt) is not None:
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
    """P5: exactly one of those registered, compared as text (RFC 9700 2.1)."""
    redirect_uri = parameters.get("redirect_uri")
    if redirect_uri is None:
        raise OAuthError(ErrorCode.INVALID_REQUEST, "redirect_uri is required: send one of those registered")
    if redirect_uri not in client.redirect_uris:
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


def _scope_may_be_asked(parameters: Mapping[str, str], client: Client, server: ServerBits) -> None:
    granted_scope(parameters, client, server)


EVERY = frozenset(ProfileName)

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
    (_resource_is_ours, EVERY),
    (_scope_may_be_asked, EVERY),
)
"""What a pushed request must pass, and in which profiles, in this order; the first rule that fails answers."""


def granted_scope(parameters: Mapping[str, str], client: Client, server: ServerBits) -> tuple[str, ...]:
    """The scopes that a person may grant, in the order asked. Raises OAuthError(INVALID_SCOPE) naming the one not.

    Without a scope parameter all that the client is registered for is meant (RFC 6749 3.3).
    """
    asked = _asked(parameters)
    if asked is None:
        asked = tuple(t for t in client.scope if not t.startswith("system/") and t not in CLIENT_SCOPES)
    for text in asked:
        if text.startswith("system/") or text in CLIENT_SCOPES:
            raise _no_scope(f"{speakable(text)} is for client_credentials, not for people")
    return _checked(asked, client.scope, server, "is not registered for this client")


def own_scope(parameters: Mapping[str, str], client: Client, server: ServerBits) -> tuple[str, ...]:
    """The scopes that a client has for itself (client_credentials): system scopes. Raises OAuthError(INVALID_SCOPE)."""
    asked = _asked(parameters)
    if asked is None:
        asked = tuple(t for t in client.scope if t.startswith("system/") or t in CLIENT_SCOPES)
    for text in asked:
        if not text.startswith("system/") and text not in CLIENT_SCOPES and text not in server.ungranted:
            raise _no_scope(f"client_credentials is for system scopes, not {speakable(text)}")
    return _checked(asked, client.scope, server, "is not registered for this client")


def narrowed_scope(
    parameters: Mapping[str, str], granted: tuple[str, ...], server: ServerBits
) -> tuple[str, ...]:
    """The scopes of a refreshed token: granted, or what of it is asked for (RFC 6749 6).

    A client may repeat what it asked for at first, so scopes that are never granted are left out again. Raises
    OAuthError(INVALID_SCOPE).
    """
    asked = _asked(parameters)
    if asked is None:
        return granted
    asked = tuple(text for text in asked if text not in server.ungranted)
    return _checked(asked, granted, server, "was not granted before")


def _asked(parameters: Mapping[str, str]) -> tuple[str, ...] | None:
    scope = parameters.get("scope")
    if scope is None:
        return None
    if len(scope) > _MAX_SCOPE:
        raise _no_scope(f"scope has {len(scope)} characters, at most {_MAX_SCOPE} are accepted")
    try:
        return split_scope(scope)
    except ValueError as error:
        raise _no_scope(str(error)) from error


def _checked(
    asked: tuple[str, ...], allowed: tuple[str, ...], server: ServerBits, refusal: str
) -> tuple[str, ...]:
    for text in asked:
        if not is_known(text):
            raise _no_scope(
                f"the scope {speakable(text)} is not known here: SMART v1 or v2, or one of scopes_supported"
            )
        if not covered(text, allowed):
            raise _no_scope(f"the scope {speakable(text)} {refusal}: leave it out")
        if parse_scope(text) is not None and not server.grantable(text):
            raise _no_scope(
                f"the scope {speakable(text)} cannot be enforced here: ask for the type without this filter"
            )
    found = tuple(text for text in asked if text not in server.ungranted)
    if not found:
        raise _no_scope(
            "none of the scopes asked for can be granted here: ask for openid, patient/, user/ or system/ scopes"
        )
    return found


def _no_scope(description: str) -> OAuthError:
    return OAuthError(ErrorCode.INVALID_SCOPE, description)


def details(parameters: Mapping[str, str], client: Client, server: ServerBits) -> tuple[Detail, ...]:
    """The authorization details that are asked for. Raises OAuthError(INVALID_AUTHORIZATION_DETAILS)."""
    text = parameters.get("authorization_details")
    if text is None:
        return ()
    registered = client.authorization_details_types
    return read_details(text, server.detail_types, server.resources, registered=registered)


def narrowed_details(
    parameters: Mapping[str, str], granted: tuple[Detail, ...], client: Client, server: ServerBits
) -> tuple[Detail, ...]:
    """The details of a token: those granted, or what of them the token request asks for (RFC 9396 6).

    A type that the client has lost since then is left out. A grant whose details are all lost gives nothing: without
    details its tokens would say more than the person allowed. Raises OAuthError: INVALID_GRANT then,
    INVALID_AUTHORIZATION_DETAILS for details that the grant does not cover.
    """
    known = {name for name in client.authorization_details_types if name in server.detail_types}
    left = tuple(detail for detail in granted if detail.get("type") in known)
    if granted and not left:
        raise OAuthError(
            ErrorCode.INVALID_GRANT, "the client is not registered any more for the details that were granted"
        )
    asked = details(parameters, client, server)
    if not asked:
        return left
    if not is_covered(asked, left, server.detail_types):
        raise refused("the authorization_details go beyond those that were granted")
    return asked


def audience(parameters: Mapping[str, str], server: ServerBits) -> tuple[str, ...]:
    """The resource identifiers that tokens are for: each `resource` (RFC 8707 2), or SMART's `aud`, else all.

    Raises OAuthError(INVALID_TARGET) for a resource that is not ours, and for an aud that is none of the resources.
    """
    found = [_identifier(text, server) for text in parameters.get("resource", "").split(" ") if text]
    if "aud" in parameters:
        said = _identifier(parameters["aud"], server)
        if found and said not in found:
            raise OAuthError(ErrorCode.INVALID_TARGET, "aud is none of the resources that are asked for")
        found = found or [said]
    return tuple(dict.fromkeys(found or server.resources.values()))


def _identifier(text: str, server: ServerBits) -> str:
    identifier = server.resources.get(text.removesuffix("/"))
    if identifier is None:
        raise OAuthError(ErrorCode.INVALID_TARGET, f"{speakable(text)} is not a resource of this server")
    return identifier


@dataclass(frozen=True, slots=True)
class RedirectTarget:
    """A redirect URI that was proved to be the client's. Only locate() makes one; only its holder can redirect."""

    redirect_uri: str
    state: str | None
    client_id: str
    signed: bool  # the answer goes as one signed response (JARM)
    signed_response_algorithm: str | None = None  # the client's choice, the server's default without


def locate(parameters: Mapping[str, str], client: Client) -> RedirectTarget:
    """Where the answer to a pushed request goes. Raises OAuthError when it is not a registered address any more."""
    redirect_uri = parameters.get("redirect_uri", "")
    if redirect_uri not in client.redirect_uris:
        raise OAuthError(
            ErrorCode.INVALID_REQUEST, "redirect_uri is not one of those registered for this client"
        )
    signed = client.signed_responses_required or parameters.get("response_mode", "query") != "query"
    return RedirectTarget(
        redirect_uri, parameters.get("state"), client.client_id, signed, client.signed_response_algorithm
    )


def success(target: RedirectTarget, code: str, *, issuer: str) -> dict[str, str]:
    """The members of an answer with a code: code, state, iss (RFC 6749 4.1.2, RFC 9207 2)."""
    return _answer(target, {"code": code}, issuer)


def failure(target: RedirectTarget, error: OAuthError, *, issuer: str) -> dict[str, str]:
    """The members of a refusal: error, error_description, state, iss (RFC 6749 4.1.2.1, RFC 9207 2)."""
    return _answer(target, {"error": str(error.code), "error_description": error.description}, issuer)


def signed_response_claims(
    target: RedirectTarget, answer: Mapping[str, str], *, now: int
) -> dict[str, object]:
    """The claims of a signed response that says the answer (JARM 2.1); iss stands among its members."""
    return {**answer, "aud": target.client_id, "exp": now + _SIGNED_RESPONSE_SECONDS}


def _answer(target: RedirectTarget, answer: dict[str, str], issuer: str) -> dict[str, str]:
    if target.state is not None:
        answer["state"] = target.state
    return answer | {"iss": issuer}


def answer_url(target: RedirectTarget, answer: Mapping[str, str]) -> str:
    """The redirect that carries these members."""
    # A registered query is kept as it is: the answer is appended to it (RFC 6749 3.1.2).
    separator = "&" if "?" in target.redirect_uri else "?"
    return target.redirect_uri + separator + urlencode(answer)

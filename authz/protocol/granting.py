"""What of a request can be granted: its scopes, its details and the resources of its tokens, and what narrows them later.

RFC 6749 3.3, 6, RFC 8707, RFC 9396 5, 6.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from authz.protocol.authorization_details import Detail, DetailType, is_covered, read_details, refused
from authz.protocol.clients import Client
from authz.protocol.errors import ErrorCode, OAuthError, speakable
from authz.protocol.launch_context import context_of, left_out
from authz.protocol.scopes import CLIENT_SCOPES, covered, is_known, parse_scope, split_scope

_MAX_SCOPE = 4096  # a token that carries more would not fit into the header that it is sent in


@dataclass(frozen=True, slots=True)
class ServerBits:
    """What the rules need to know of the server.

    resources maps every accepted spelling of a resource identifier to the identifier that tokens carry.
    grantable says whether the gateway can enforce a clinical scope, of one always the same.
    ungranted are scopes that a registered client may ask for and that are left out of what is granted.
    acr_values are the authentication contexts that a person can reach here.
    pickers are the identifiers of the resources whose records a person can search at the pages.
    """

    issuer: str
    resources: Mapping[str, str]
    grantable: Callable[[str], bool]
    ungranted: frozenset[str] = frozenset()
    acr_values: tuple[str, ...] = ()
    detail_types: Mapping[str, DetailType] = field(default_factory=dict)
    pickers: frozenset[str] = frozenset()


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
    ungranted = left_out(parameters, server.ungranted)
    if context_of(parameters) is None and not server.pickers.isdisjoint(audience(parameters, server)):
        ungranted -= {"launch/encounter"}
    return _checked(asked, client.scope, server, "is not registered for this client", ungranted)


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
    asked = tuple(text for text in asked if text not in server.ungranted or text in granted)
    ungranted = server.ungranted - set(granted)
    return _checked(asked, granted, server, "was not granted before", ungranted)


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
    asked: tuple[str, ...],
    allowed: tuple[str, ...],
    server: ServerBits,
    refusal: str,
    ungranted: frozenset[str] | None = None,
) -> tuple[str, ...]:
    left = server.ungranted if ungranted is None else ungranted
    return _found(asked, allowed, server.grantable, refusal, left)


@lru_cache(1024)  # clients ask for the same again and again; what is refused is not kept
def _found(
    asked: tuple[str, ...],
    allowed: tuple[str, ...],
    grantable: Callable[[str], bool],
    refusal: str,
    ungranted: frozenset[str],
) -> tuple[str, ...]:
    for text in asked:
        is_clinical = parse_scope(text) is not None
        is_enforced = not is_clinical or grantable(text)
        if ("?" not in text and not is_enforced) or not is_known(text):
            raise _no_scope(
                f"the scope {speakable(text)} is not known here: SMART v1 or v2, or one of scopes_supported"
            )
        if not covered(text, allowed):
            raise _no_scope(f"the scope {speakable(text)} {refusal}: leave it out")
        if not is_enforced:
            raise _no_scope(
                f"the scope {speakable(text)} cannot be enforced here: ask for the type without this filter"
            )
    found = tuple(text for text in asked if text not in ungranted)
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

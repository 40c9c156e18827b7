"""Access to the administration of this server: who may have a token for it, what it is good for, and what is asked.

A token for administration is one that a client of gateway.yaml has for itself (client_credentials), sender-constrained
like every other. It carries the scope securus/admin and nothing else, and its only audience is <issuer>/admin: it opens
no record, and no token for records opens the administration. No person grants it and no registration brings it.
"""

from collections.abc import Mapping
from urllib.parse import unquote

from authz.protocol import granting
from authz.protocol.encoding import strict_json
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.granting import ServerBits
from authz.protocol.scopes import ADMINISTRATION_SCOPE

PATH = "/admin"
_MAX_WHY_CHARACTERS = 500


def identifier(issuer: str) -> str:
    """The resource identifier of the administration (RFC 8707), the audience of its tokens."""
    return issuer + PATH


def own_audience(
    parameters: Mapping[str, str], scope: tuple[str, ...], server: ServerBits
) -> tuple[str, ...]:
    """The audience of a token that a client has for itself with this scope.

    Raises OAuthError: INVALID_SCOPE for securus/admin beside other scopes, INVALID_TARGET for another resource.
    """
    if ADMINISTRATION_SCOPE not in scope:
        return granting.audience(parameters, server)
    own = identifier(server.issuer)
    if scope != (ADMINISTRATION_SCOPE,):
        raise OAuthError(
            ErrorCode.INVALID_SCOPE, f"{ADMINISTRATION_SCOPE} stands alone: ask for nothing else"
        )
    for name in ("resource", "aud"):
        if parameters.get(name, own) != own:
            raise OAuthError(ErrorCode.INVALID_TARGET, f"the resource of {ADMINISTRATION_SCOPE} is {own}")
    return (own,)


def read_command(content: bytes, known: Mapping[str, type]) -> Mapping[str, object]:
    """The members of a JSON body, each of a known name and of that type. Raises OAuthError(INVALID_REQUEST).

    An empty body has no member. Unknown members are refused: a misspelt one must not pass for one left out.
    """
    try:
        value = strict_json(content) if content else {}
    except ValueError as error:
        raise _refused("the body must be JSON with one reading") from error
    if not isinstance(value, dict):
        raise _refused("the body must be a JSON object")
    for name, member in value.items():
        if name not in known:
            raise _refused(f"the body may have {', '.join(sorted(known))}, and nothing else")
        if not isinstance(member, known[name]) or isinstance(member, bool) is not (known[name] is bool):
            raise _refused(f"{name} must be {_WORDS[known[name]]}")
    return value


def read_why(value: object) -> str:
    """The reason that every change needs, for those who ask later. Raises OAuthError(INVALID_REQUEST)."""
    why = value.strip() if isinstance(value, str) else ""
    if not why:
        raise _refused("why is required: the reason for this change, as text")
    if len(why) > _MAX_WHY_CHARACTERS or not why.isprintable():
        raise _refused(f"why must be one line of at most {_MAX_WHY_CHARACTERS} characters")
    return why


def split_path(path: str) -> tuple[str, ...]:
    """The decoded segments of a path below /admin/; () for one that has an empty or unreadable segment."""
    segments = path.removeprefix(PATH + "/").split("/")
    try:
        decoded = tuple(unquote(segment, errors="strict") for segment in segments)
    except UnicodeDecodeError:
        return ()
    return decoded if all(segment and segment.isprintable() for segment in decoded) else ()


_WORDS = {str: "text", int: "a whole number", bool: "true or false", dict: "an object", list: "a list"}


def _refused(description: str) -> OAuthError:
    return OAuthError(ErrorCode.INVALID_REQUEST, description)

"""The members of client metadata that choose an algorithm: of what a client signs, and of what is signed for it.

RFC 7591 2, OpenID Connect Registration 2, JARM 3, RFC 9701 6. Readers raise OAuthError, naming the member.
"""

from collections.abc import Sequence

from authz.protocol.client_members import Members, unacceptable

_ID_TOKEN = "id_token_signed_response_alg"
_RESPONSES = (
    _ID_TOKEN,
    "authorization_signed_response_alg",
    "userinfo_signed_response_alg",
    "introspection_signed_response_alg",
)


def signing_algorithm(members: Members, name: str, allowed: frozenset[str]) -> str | None:
    """The algorithm that a client holds itself to; None where it chose none."""
    if not members.has(name):
        return None
    if not allowed:
        raise unacceptable(name, "leave it out: a client that authenticates so signs no assertions")
    return members.word(name, sorted(allowed))


def response_algorithm(members: Members, allowed: Sequence[str], own: Sequence[str]) -> str | None:
    """The algorithm of our own signatures that the client chose: one for all; None where it chose none.

    own are those that it may have for ID tokens alone: they are no choice for anything else.
    """
    names = [name for name in _RESPONSES if members.has(name)]
    if members.raw(_ID_TOKEN) in own:
        names.remove(_ID_TOKEN)
    chosen = {name: members.word(name, allowed) for name in names}
    if len(set(chosen.values())) > 1:
        raise unacceptable(
            names[-1], f"it must be the same as {names[0]}: one algorithm signs all for a client"
        )
    return next(iter(chosen.values()), None)


def id_token_algorithm(members: Members, own: Sequence[str]) -> str | None:
    """The algorithm of ID tokens alone. Without any choice it is the first of own, which is then registered.

    OpenID Connect Registration 2: the default is RS256.
    """
    if members.raw(_ID_TOKEN) in own:
        return members.word(_ID_TOKEN, own)
    if not own or any(members.has(name) for name in _RESPONSES):
        return None
    members.put(_ID_TOKEN, own[0])
    return own[0]

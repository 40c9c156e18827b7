"""Which updates of a client ask for more than somebody vetted, and wait for approval (RFC 7592 2.2)."""

from collections.abc import Mapping

from authz.protocol.scopes import covered

_FREE = frozenset({"contacts", "require_auth_time", "software_version"})
_MAY_SHRINK = ("redirect_uris", "post_logout_redirect_uris", "grant_types", "response_types")
_MAY_TIGHTEN = ("require_signed_request_object", "require_pushed_authorization_requests")


def exceeds(document: Mapping[str, object], vetted: Mapping[str, object]) -> bool:
    """Whether a document has anything that the vetted one had not. Both have passed read_metadata().

    Free are contacts, the version of the software, new keys by value for keys by value (a key that is rotated must not
    wait), and everything that only takes away: URIs, grant types, scope, or that begins to sign or push its requests,
    or to want newer sign-ins. All else was part of what was vetted: where people are sent, what is asked for, how the client
    authenticates and what its tokens are bound to, where its keys come from, and what people are shown of it.
    """
    return any(
        _more(name, document.get(name), vetted.get(name))
        for name in (document.keys() | vetted.keys()) - _FREE
    )


def _more(name: str, new: object, old: object) -> bool:
    if new == old:
        return False
    if name == "jwks":
        return new is None or old is None
    if name in _MAY_SHRINK:
        return not set(_texts(new)) <= set(_texts(old))
    if name == "scope":
        allowed = str(old).split(" ")
        return not all(covered(text, allowed) for text in str(new).split(" "))
    if name == "default_max_age":
        return not isinstance(new, int) or (isinstance(old, int) and new > old)
    if name in _MAY_TIGHTEN:
        return new is not True
    return True


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []

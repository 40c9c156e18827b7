"""URIs of a client: where people are sent back to, and where they are told about it (RFC 6749 3.1.2, RFC 8252 7).

A redirect URI is compared byte for byte later. What stands here keeps out those that a browser or a program reads
otherwise than they look, those that are nobody's, and those that would run instead of lead somewhere.
"""

import re
from collections.abc import Collection, Iterable
from urllib.parse import parse_qsl, unquote, urlsplit

_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?@!$&'()+,;=%\[\]*-]+")
_ON_LOOPBACK = re.compile(
    r"http://(?P<host>127\.0\.0\.1|\[::1\])(?::(?P<port>[0-9]{1,5}))?(?P<rest>(?:[/?].*)?)"
)
_OF_DEVICES = frozenset({"127.0.0.1", "::1", "localhost"})
_MAX_CHARACTERS = 2000
_OUR_PARAMETERS = frozenset({"code", "state", "iss", "error", "error_description", "response"})
"""What the authorization response adds to the query (RFC 6749 4.1.2, RFC 9207 2, JARM 2.3.1): never there before."""


class UriError(Exception):
    """A URI that a client may not have. The text follows the URI in a sentence: 'is http; expected https …'."""


def check_redirect_uri(uri: str, *, native: bool = True) -> None:
    """Check a redirect URI, or one that people are sent to after signing out (RFC 6749 3.1.2, RFC 9700 2.1).

    https; for native apps also http on the loopback address (RFC 8252 7.3) and a private-use scheme with a dot
    (RFC 8252 7.1). No fragment, no user, no '*', no '.' or '..' in the path, and no query parameter that the
    authorization response will add. Raises UriError.
    """
    scheme, host = _parts(uri)
    if scheme == "http" and host not in ("127.0.0.1", "::1"):
        raise UriError("is http; expected https, or http://127.0.0.1 for native apps")
    if scheme not in ("http", "https") and "." not in scheme:
        raise UriError("is neither https nor an app's own scheme such as com.example.app:")
    if scheme != "https" and not native:
        raise UriError("is for native apps only: register application_type native, or an https URI")
    taken = sorted(
        _OUR_PARAMETERS & {name for name, _ in parse_qsl(urlsplit(uri).query, keep_blank_values=True)}
    )
    if taken:
        raise UriError(f"has {taken[0]} in its query, which the authorization response adds")


def is_registered(uri: str, registered: Collection[str]) -> bool:
    """Whether a redirect URI is one of those registered: the same text, character by character (RFC 9700 2.1).

    But for the port of http on the loopback address: a native app takes whichever is free at that moment, so every
    port is that of the registered URI, with or without one (RFC 8252 7.3).
    """
    if uri in registered:
        return True
    asked = _ON_LOOPBACK.fullmatch(uri)
    port = "80" if asked is None else asked["port"] or "80"
    if asked is None or port.startswith("0") or int(port) > 65535:
        return False
    known = (_ON_LOOPBACK.fullmatch(each) for each in registered)
    return any(k is not None and (k["host"], k["rest"]) == (asked["host"], asked["rest"]) for k in known)


def is_of_a_device(uri: str) -> bool:
    """Whether a program of the person's own device answers at a redirect URI, and any other could (RFC 8252 8.6)."""
    parts = urlsplit(uri)
    return parts.scheme != "https" or parts.hostname in _OF_DEVICES


def check_web_uri(uri: str) -> None:
    """Check the URI of a page or document of a client: https, one host, no user, no fragment. Raises UriError."""
    scheme, _ = _parts(uri)
    if scheme != "https":
        raise UriError("is not https")


def hosts_of(uris: Iterable[str]) -> set[str]:
    """The hosts of URIs: more than one and people cannot have one pairwise name (OpenID Connect Core 8.1)."""
    return {urlsplit(uri).hostname or "" for uri in uris}


def _parts(uri: str) -> tuple[str, str | None]:
    """Scheme in lower case, and host. Raises UriError for what is not one absolute URI."""
    if not _URI.fullmatch(uri):
        raise UriError(
            "is not an absolute URI, or holds a fragment, a space or a character that a URI does not have"
        )
    if len(uri) > _MAX_CHARACTERS:
        raise UriError(f"is longer than {_MAX_CHARACTERS} characters")
    try:
        parts = urlsplit(uri)
        host = parts.hostname
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError as error:
        raise UriError("has a host or port that is none") from error
    if parts.scheme in ("http", "https") and not _HOST.fullmatch(parts.netloc):
        raise UriError("must name one host, without a user and without '*'")
    if "*" in uri:
        raise UriError("holds '*': it is compared character by character, and stands for itself alone")
    # `..;` is one step up to servers that cut parameters off a segment (Keycloak's CVE-2026-3872 was of this kind).
    segments = {unquote(segment).partition(";")[0] for segment in parts.path.split("/")}
    if not segments.isdisjoint({".", ".."}) or re.search(r"%(?![0-9A-Fa-f]{2})|%2[fF]|%5[cC]", parts.path):
        raise UriError("holds a path that is read in more than one way: '.', '..' or an escaped separator")
    return parts.scheme, host

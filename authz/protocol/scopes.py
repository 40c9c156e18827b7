"""Scopes: the SMART v1 and v2 grammar, exactly (SMART App Launch 2.2).

A clinical scope is `(patient|user|system)/(Type|*).letters[?parameter=value&…]`. Letters stand in the order
c r u d s; any other order grants nothing and is never repaired. Version 1 words are .read (r and s), .write
(c, u and d) and .* (all). A scope keeps its own level, type, letters and filter: nothing is ever merged.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

_CLINICAL = re.compile(
    r"(?P<context>patient|user|system)/(?P<type>\*|[A-Z][A-Za-z]{1,63})\."
    r"(?P<rights>read|write|\*|c?r?u?d?s?)(?:\?(?P<query>[!-~]+))?"
)
_V1 = {"read": "rs", "write": "cud", "*": "cruds"}
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 3.3

OTHER_SCOPES = frozenset(
    {
        "openid",
        "fhirUser",
        "profile",
        "launch",
        "launch/patient",
        "launch/encounter",
        "offline_access",
        "online_access",
    }
)
"""Scopes that are not clinical."""

ADMINISTRATION_SCOPE = "securus/admin"
"""What opens the administration of this server; for clients of gateway.yaml only."""

LAUNCH_SCOPE = "securus/launch"
"""What lets a record system launch apps; for clients of gateway.yaml only."""

INTROSPECTION_SCOPE = "securus/introspect"
"""What lets a resource server ask about every token by showing one of its own; for clients of gateway.yaml only."""

LAUNCH_SCOPES = frozenset({"launch", "launch/encounter"})
"""What only a launch from a record system can give."""

CLIENT_SCOPES = frozenset(
    {
        "grant_management_query",
        "grant_management_revoke",
        ADMINISTRATION_SCOPE,
        LAUNCH_SCOPE,
        INTROSPECTION_SCOPE,
    }
)
"""Scopes that a client has for itself (client_credentials), as it has system scopes."""


_USUAL_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Scope:
    """One clinical scope. query is what stands behind '?', '' without; letters are in the order cruds."""

    text: str
    context: str  # patient | user | system
    type: str  # a resource type, or '*'
    letters: str
    query: str


def parse_scope(text: str) -> Scope | None:
    """The clinical scope that text is; None when it is not one of the grammar (S-S01, S-S02)."""
    return _known(text) if len(text) <= _USUAL_CHARACTERS else _read(text)


def _read(text: str) -> Scope | None:
    match = _CLINICAL.fullmatch(text)
    if match is None or not match["rights"]:
        return None
    letters = _V1.get(match["rights"], match["rights"])
    query = match["query"] or ""
    if query and (match["rights"] in _V1 or not all(_is_criterion(part) for part in query.split("&"))):
        return None
    return Scope(text, match["context"], match["type"], letters, query)


_known = lru_cache(4096)(_read)  # a request asks for each of its scopes several times


def _is_criterion(part: str) -> bool:
    name, equals, value = part.partition("=")
    return bool(name and equals and value)


def clinical(scope: Iterable[str]) -> tuple[Scope, ...]:
    """The clinical scopes among scope, in order; what is not of the grammar grants nothing."""
    return tuple(found for text in scope if (found := parse_scope(text)) is not None)


def is_known(text: str) -> bool:
    """Whether the text is a scope of ours at all."""
    return text in OTHER_SCOPES or text in CLIENT_SCOPES or parse_scope(text) is not None


def split_scope(scope: str) -> tuple[str, ...]:
    """The scope strings of a scope parameter, each once, in order (RFC 6749 3.3). Raises ValueError."""
    parts = [part for part in scope.split(" ") if part]
    for part in parts:
        if not _SCOPE_TOKEN.fullmatch(part):
            raise ValueError("scope holds characters that RFC 6749 3.3 forbids")
    return tuple(dict.fromkeys(parts))


def covered(requested: str, allowed: Iterable[str]) -> bool:
    """Whether a requested scope asks for no more than one of the allowed scopes gives.

    A filter may be added to an unfiltered scope and letters may be left out, never the reverse; two allowed
    scopes are never combined to cover one that is requested.
    """
    wanted = parse_scope(requested)
    for text in allowed:
        if text == requested:
            return True
        given = parse_scope(text)
        if (
            wanted is not None
            and given is not None
            and given.context == wanted.context
            and given.type in ("*", wanted.type)
            and set(wanted.letters) <= set(given.letters)
            and given.query in ("", wanted.query)
        ):
            return True
    return False

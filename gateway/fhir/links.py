"""URLs inside resources: which elements hold one, whose it is, and how it reads on the other side of the gateway.

Only elements that locate something are touched: Reference.reference, everything of the data type `url`, and the few
`uri` elements of Bundle that are addresses. Canonical URLs, identifier and code systems, profiles and all text stay as
they are, even where they hold the store's own address: they are names or content, not places (FHIR R4 2.24.0.1).
Addresses are compared as parsed URLs, so case, a default port or a trailing dot of the host do not hide one.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from gateway.fhir.definitions import RESOURCE_TYPES, is_resource_type, members

_ADDRESSES = frozenset(  # elements of type uri that are addresses
    {"Bundle.link.url", "Bundle.entry.fullUrl", "Bundle.entry.request.url", "Bundle.entry.response.location"}
)
_RELATIVE = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})(?:/_history/([A-Za-z0-9.-]{1,64}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNREADABLE = re.compile(r"[\x00-\x20\x7f-\x9f\\]")  # what URL parsers drop, trim or turn round

_Change = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class LocalReference:
    """A reference to a resource of the store itself, by type and id."""

    type: str
    id: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class _Member:
    """What a JSON member may hold that locates something. kind: reference | url | element | resource."""

    kind: str
    path: str = ""


def local_reference(text: str, bases: Collection[str]) -> LocalReference | None:
    """The resource of the store that a literal reference names: 'Type/id' or that below one of the bases.

    With or without '/_history/version'. None for everything else: other hosts, fragments, urn:uuid, conditional
    references, types that R4 does not have.
    """
    if ":" in text:
        relative = below(text, bases)
        if relative is None:
            return None
        text = relative
    match = _RELATIVE.fullmatch(text)
    if match is None or match[2] in (".", "..") or not is_resource_type(match[1]):
        return None
    return LocalReference(match[1], match[2], match[3])


def is_readable(url: str) -> bool:
    """Whether every program reads the same characters of a URL: none that parsers drop, trim or turn round."""
    if url.isascii() and url.isprintable() and " " not in url and "\\" not in url:
        return True  # the usual case, told without a search
    return _UNREADABLE.search(url) is None


def below(url: str, bases: Collection[str]) -> str | None:
    """What follows a base in an absolute URL, without the slash between them; None below none of the bases."""
    if not is_readable(url):
        return None
    for base in bases:  # the usual case: written just as in the settings
        if url.startswith(base) and url[len(base) : len(base) + 1] == "/":
            return url[len(base) + 1 :]
    place = _place(url)
    if place is None:
        return None
    origin, path, tail = place
    for base in bases:
        base_origin, base_path = _base(base)
        if origin == base_origin and (path == base_path or path.startswith(base_path + "/")):
            return path[len(base_path) + 1 :] + tail
    return None


def relative_target(url: str, *, upstream: str) -> str | None:
    """Path and query of the store's URL below its base, as a request target; None for a URL that is not below it."""
    return below(url, (upstream,))


def to_public(url: str, *, upstream: str, public: str) -> str | None:
    """The store's URL as the caller may use it: the public base instead of the store's. None when it is not below."""
    relative = below(url, (upstream,))
    if relative is None:
        return None
    return f"{public.rstrip('/')}/{relative}" if relative else public.rstrip("/")


def may_mention(raw: bytes, base: str) -> bool:
    r"""Whether JSON may hold a URL below base. False is certain; it costs one pass in C instead of a walk.

    A host can hide from a comparison of bytes behind a \u escape only: '\/' does not occur in it.
    """
    # One byte is looked for many times faster than two, and most resources have no escape at all.
    return (b"\\" in raw and b"\\u" in raw) or mentions(raw, base) > 0


def mentions(raw: bytes, base: str) -> int:
    """How often the host of base occurs in the bytes, in either case."""
    return raw.lower().count(_host(base))


@cache
def address_pattern(base: str) -> re.Pattern[str]:
    """Finds in JSON without escapes, but short ones, every place where a URL below base may stand, and some others.

    A URL is below it only when its host, in either case, follows the slashes: see below(). It begins before the slashes.
    """
    return re.compile(rf"//\[?(?i:{re.escape(_host(base).decode('ascii'))})")


def rewrite_urls(value: Any, *, upstream: str, public: str) -> bool:
    """Replace the store's base by the public one in every URL-bearing element, in place; whether anything changed.

    value is a resource, an entry of a Bundle or the list of a Bundle's links.
    """
    return _change(value, lambda url: to_public(url, upstream=upstream, public=public), references_only=False)


def relative_references(value: Any, bases: Collection[str]) -> bool:
    """Make every Reference.reference below one of the bases relative, in place; whether anything changed.

    A store takes an absolute reference for a foreign one, and the resource drops out of its patient's compartment.
    """
    own = tuple(bases)
    return _change(value, lambda url: below(url, own) or None, references_only=True)


def change_references(value: Any, change: Callable[[str], str | None]) -> bool:
    """Give every Reference.reference to change and put what it gives in its place, None for the same."""
    return _change(value, change, references_only=True)


def change_urls(value: Any, change: Callable[[str], str | None]) -> bool:
    """As change_references(), with every other element that locates something beside."""
    return _change(value, change, references_only=False)


def _change(value: Any, change: _Change, *, references_only: bool) -> bool:
    if isinstance(value, list):
        return any([_walk(each, "Bundle.link", change, references_only) for each in value])
    return _walk(value, _root(value), change, references_only)


def _root(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    name = value.get("resourceType")
    if name is None:
        return "Bundle.entry"
    return name if isinstance(name, str) and is_resource_type(name) else ""


def _walk(node: Any, path: str, change: _Change, references_only: bool) -> bool:
    if not isinstance(node, dict):
        return False
    plan = _plan(path)
    changed = False
    for key, value in node.items():
        member = plan.get(key)
        if member is None:
            continue
        if member.kind in ("reference", "url"):
            if references_only and member.kind == "url":
                continue
            if isinstance(value, list):
                for index, each in enumerate(value):
                    if isinstance(each, str) and (new := change(each)) is not None:
                        value[index] = new
                        changed = True
            elif isinstance(value, str) and (new := change(value)) is not None:
                node[key] = new
                changed = True
            continue
        for each in value if isinstance(value, list) else (value,):
            inner = _root(each) if member.kind == "resource" else member.path
            changed = _walk(each, inner, change, references_only) or changed
    return changed


@cache
def _plan(path: str) -> Mapping[str, _Member]:
    """The members below a path that hold a URL or lead to one."""
    plan: dict[str, _Member] = {}
    for name, element in members(path).items():
        if path == "Reference" and name == "reference":
            plan[name] = _Member("reference")
        elif element.type == "url" or f"{path}.{name}" in _ADDRESSES:
            plan[name] = _Member("url")
        elif element.type == "Resource" or element.type in RESOURCE_TYPES:
            plan[name] = _Member("resource")
        elif members(element.path):
            plan[name] = _Member("element", element.path)
        if element.type[:1].islower():  # a primitive: its extensions stand beside it, under '_name'
            plan["_" + name] = _Member("element", "Element")
    return plan


@cache
def _host(base: str) -> bytes:
    return _base(base)[0][1].encode("ascii")


@cache
def _base(base: str) -> tuple[tuple[str, str, int | None], str]:
    place = _place(base)
    if place is None or place[2]:
        raise ValueError(f"not a base URL: '{base}'")
    return place[0], place[1].rstrip("/")


def _place(url: str) -> tuple[tuple[str, str, int | None], str, str] | None:
    """Origin, path, and query with fragment of an absolute http URL; None for every other text."""
    if url[:4].lower() != "http":
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").removesuffix(".")
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not host or "@" in parts.netloc:
        return None
    path_end = next((index for index, mark in enumerate(url) if mark in "?#"), len(url))
    return (parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme]), parts.path, url[path_end:]

"""What an entry of a Bundle says beside its resource, and what of it is passed on (FHIR R4 2.36).

Nobody judged these members: an outcome, an extension or a criterion in a URL may tell what the resource hides. So only
what is known is passed on, and the fullUrl as the resource has it.
"""

from collections.abc import Mapping
from typing import Any

from gateway.fhir import links, resource

_OF_SEARCH = frozenset({"mode", "score"})
OF_A_MATCH = {"mode": "match"}
"""What nearly every store says of an entry of a search."""
_KEPT: Mapping[str, Mapping[str, frozenset[str]]] = {
    "searchset": {"search": _OF_SEARCH},
    "history": {
        "request": frozenset({"method", "url"}),
        "response": frozenset({"status", "location", "etag", "lastModified"}),
    },
}
"""By type of Bundle what is passed on beside the resource and the fullUrl."""


def is_known(search: Mapping[str, Any]) -> bool:
    """Whether what an entry says of itself in a search is passed on as it is."""
    return _is_flat(search) and search.keys() <= _OF_SEARCH


def usual_match(raw: bytes, value: Mapping[str, Any], upstream: str, public: str) -> bytes | None:
    """An entry of a search as nearly every store writes it: what is_plain() and the rewriting would make of it.

    None for another form: its name first and by its resource, its search, and no other address of the store.
    """
    search, found = value.get("search"), value["resource"]
    if len(value) != 3 or type(search) is not dict or not (search == OF_A_MATCH or is_known(search)):
        return None
    old, new = resource.full_urls(upstream, public)
    if (
        not raw.startswith(old)
        or value["fullUrl"] != f"{upstream}/{found['resourceType']}/{found.get('id')}"
        or (b"\\" in raw and b"\\u" in raw)
        or links.mentions(raw, upstream) != 1
    ):
        return None
    return new + raw[len(old) :]


def is_plain(value: Mapping[str, Any], kind: str, upstream: str, public: str) -> bool:
    """Whether an entry of a Bundle of this kind says nothing beside its resource that plain() would leave out."""
    kept = _KEPT[kind]
    for name, member in value.items():
        if name == "resource":
            continue
        if name == "fullUrl":
            found = value["resource"]
            place = f"/{found.get('resourceType')}/{found.get('id')}"
            if member not in (upstream + place, public + place):
                return False
        elif (
            not _is_flat(member)
            or not member.keys() <= kept.get(name, frozenset())
            or "?" in str(member.get("url", ""))
        ):
            return False
    return True


def plain(value: dict[str, Any], kind: str, public: str) -> dict[str, Any]:
    """The entry with its resource, its name as the resource says it, and the members that are known."""
    kept = _KEPT[kind]
    found = value["resource"]
    entry: dict[str, Any] = {}
    for name, member in value.items():
        if name == "resource":
            entry[name] = found
        elif name == "fullUrl" and isinstance(found.get("id"), str):
            entry[name] = f"{public}/{found['resourceType']}/{found['id']}"
        elif name in kept and isinstance(member, dict):
            entry[name] = {
                key: inner
                for key, inner in member.items()
                if key in kept[name] and not isinstance(inner, dict | list)
            }
            url = entry[name].get("url")
            if isinstance(url, str):  # not by which criteria somebody wrote: they name what may be hidden
                entry[name]["url"] = url.partition("?")[0]
    return entry


def _is_flat(member: object) -> bool:
    """Whether a member of an entry is an object that holds nothing nested."""
    return isinstance(member, dict) and not any(isinstance(inner, dict | list) for inner in member.values())

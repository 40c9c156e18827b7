"""Resources within a resource: what a Bundle or Parameters holds, and what is contained (FHIR R4 2.36, 2.4.6, 2.28.1).

What holds others says nothing of whose they are. So whoever judges a resource asks here what stands within it: of that
nothing is passed over, an outcome of an entry or a part of a parameter as little as what has no type at all.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

HOLDERS = frozenset({"Bundle", "Parameters"})
"""Types that are there to hold resources of any type."""
_PLACES = frozenset({"resource", "outcome"})  # where a resource stands in these
_GONE = object()


def held_resources(holder: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The resources that a Bundle or Parameters holds, those within these left out; one without a type as well."""
    return list(_within(holder, _PLACES))


def exchanged(
    holder: Mapping[str, Any],
    exchange: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    keeps: Callable[[str, Any], bool] = lambda name, value: True,
) -> dict[str, Any]:
    """The holder with what exchange() makes of each of held_resources(), and no text or number beside them that keeps()
    does not keep; it is told the name of the member. What is left empty by that goes as well."""

    def left(name: str, value: Any) -> Any:
        if isinstance(value, list):
            items = [left(name, item) for item in value]
            return [item for item in items if item is not _GONE] or ([] if not value else _GONE)
        if not isinstance(value, Mapping):
            return value if keeps(name, value) else _GONE
        if name in _PLACES or "resourceType" in value:
            return exchange(value)
        return members(value) or ({} if not value else _GONE)

    def members(node: Mapping[str, Any]) -> dict[str, Any]:
        pairs = ((name, left(name, value)) for name, value in node.items())
        return {name: value for name, value in pairs if value is not _GONE}

    return members(holder)


def contained_resources(resource: Mapping[str, Any]) -> list[Any]:
    """What is contained in a resource, whatever it is: R4 has an array of resources there, a store may have anything."""
    return list(_opened(resource.get("contained")))


def holds_others(resource: Mapping[str, Any]) -> bool:
    """Whether a resource stands within another one. One that is contained must hold none (FHIR R4 dom-2)."""
    return next(_within(resource, _CONTAINED), None) is not None


_CONTAINED = frozenset({"contained"})


def _within(node: Mapping[str, Any], places: frozenset[str]) -> Iterator[Mapping[str, Any]]:
    for name, value in node.items():
        if not isinstance(value, dict | list):
            continue
        for each in _opened(value):
            if not isinstance(each, Mapping):
                continue
            if name in places or "resourceType" in each:
                yield each
            else:
                yield from _within(each, places)


def _opened(value: Any) -> Iterator[Any]:
    """The value, or the items of an array, and of arrays in it, which FHIR does not have: nothing hides in one."""
    if isinstance(value, list):
        for item in value:
            yield from _opened(item)
    elif value is not None:
        yield value

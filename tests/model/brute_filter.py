"""A `_filter` of a search, answered by brute force; it shares no code with the gateway and refuses nothing."""

import re
from collections.abc import Callable

_PART = re.compile(r'\s*(\(|\)|"[^"]*"|[^\s()]+)')


def holds(text: str, meets: Callable[[str, str], bool], has: Callable[[str], bool]) -> bool:
    """Whether a resource meets the filter, by what it says of one parameter and value, and of one parameter alone."""
    parts = _PART.findall(text)
    found, rest = _any(parts, meets, has)
    assert not rest, rest
    return found


def _any(
    parts: list[str], meets: Callable[[str, str], bool], has: Callable[[str], bool]
) -> tuple[bool, list[str]]:
    found, rest = _one(parts, meets, has)
    while rest and rest[0] in ("and", "or"):
        other, after = _one(rest[1:], meets, has)
        found = (found and other) if rest[0] == "and" else (found or other)
        rest = after
    return found, rest


def _one(
    parts: list[str], meets: Callable[[str, str], bool], has: Callable[[str], bool]
) -> tuple[bool, list[str]]:
    if parts[0] == "not":
        found, rest = _one(parts[1:], meets, has)
        return not found, rest
    if parts[0] == "(":
        found, rest = _any(parts[1:], meets, has)
        assert rest[0] == ")"
        return found, rest[1:]
    name, operator, value, *rest = parts
    value = value.strip('"')
    match operator:
        case "eq" | "re":
            return meets(name, value), rest
        case "ne":
            return not meets(name, value), rest
        case "pr":
            return has(name) is (value == "true"), rest
    raise AssertionError(f"the store does not know {operator}")

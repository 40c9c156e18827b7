"""FHIRPath Patch, a Parameters resource, applied by the gateway itself (FHIR R4 3.1.0.9.3).

Paths are names of R4's elements, with an index or with where(name='text'). A patch applies whole or not at all; the
resource given is not changed.
"""

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

from gateway.fhir.definitions import choices, members
from gateway.fhir.json_patch import Resource, check_count, checked, failed, invalid

_STEP = re.compile(
    r"(?P<name>[A-Za-z][A-Za-z0-9]*)(?:\[(?P<index>[0-9]{1,6})\])?"
    r"(?:\.where\((?P<key>[A-Za-z][A-Za-z0-9]*)\s*=\s*'(?P<text>[^'\\]*)'\))?"
)


def fhirpath_patch(resource: Mapping[str, Any], parameters: Mapping[str, Any]) -> Resource:
    """The resource after a FHIRPath Patch. Raises FhirError: INVALID_BODY, or PATCH_FAILED where a path finds nothing."""
    asked = parameters.get("parameter")
    if parameters.get("resourceType") != "Parameters" or not isinstance(asked, list):
        raise invalid("a FHIRPath Patch is a Parameters resource with parameter")
    check_count(asked)
    changed = copy.deepcopy(dict(resource))
    for number, each in enumerate(asked):
        parts = _parts(each, number)
        apply = _FHIR_OPERATIONS.get(str(parts.get("type")))
        if apply is None:
            raise invalid(f"operation {number} has no type: {', '.join(_FHIR_OPERATIONS)}")
        apply(changed, parts, number)
    return checked(resource, changed)


def _parts(each: Any, number: int) -> dict[str, Any]:
    """The parts of one operation by name; of 'value' the one that is given as value[x] or by its own parts."""
    if (
        not isinstance(each, dict)
        or each.get("name") != "operation"
        or not isinstance(each.get("part"), list)
    ):
        raise invalid(f"operation {number} must be a parameter named operation, with parts")
    found: dict[str, Any] = {}
    for part in each["part"]:
        name = part.get("name") if isinstance(part, dict) else None
        if not isinstance(name, str) or name in found:
            raise invalid(f"operation {number} has a part without a name, or one twice")
        values = [key for key in part if key.startswith("value")]
        if "part" in part and not values:
            found[name] = _object(part["part"], number)
        elif len(values) == 1:
            found[name] = part[values[0]]
        else:
            raise invalid(f"operation {number}: the part {name[:20]} must have one value")
    return found


def _object(parts: Any, number: int) -> dict[str, Any]:
    """A value given by the parts of its elements, as BackboneElements are."""
    if not isinstance(parts, list):
        raise invalid(f"operation {number}: the parts of a value must be an array")
    found: dict[str, Any] = {}
    for part in parts:
        named = _parts({"name": "operation", "part": [part]}, number)
        for name, value in named.items():
            if name in found:
                found[name] = [*(found[name] if isinstance(found[name], list) else [found[name]]), value]
            else:
                found[name] = value
    return found


class _Spot:
    """One place that a path selects: its parent, with the member and, in an array, the index."""

    def __init__(self, parent: dict[str, Any], name: str, index: int | None, path: str) -> None:
        self.parent, self.name, self.index, self.path = parent, name, index, path

    @property
    def value(self) -> Any:
        held = self.parent[self.name]
        return held if self.index is None else held[self.index]


def _spots(resource: Resource, path: Any, number: int) -> list[_Spot]:
    """Every place that a path selects in the resource, in order."""
    if not isinstance(path, str) or len(path) > 500:
        raise invalid(f"operation {number} has no path")
    root, *steps = _split(path)
    if root != resource.get("resourceType"):
        raise invalid(f"operation {number}: the path must begin with the type of the resource")
    type_ = str(resource["resourceType"])
    nodes: list[tuple[dict[str, Any], str]] = [(resource, type_)]
    spots: list[_Spot] = []
    for step in steps:
        match = _STEP.fullmatch(step)
        if match is None:
            raise invalid(
                f"operation {number}: of paths only names, [index] and where(name='text') are taken"
            )
        spots = [spot for node, at in nodes for spot in _below(node, at, match, number)]
        nodes = [(spot.value, spot.path) for spot in spots if isinstance(spot.value, dict)]
    return spots


def _split(path: str) -> list[str]:
    """The steps of a path; a where() belongs to the step before it, and a text in it may hold dots."""
    return re.findall(r"[A-Za-z][A-Za-z0-9]*(?:\[[^\]]*\])?(?:\.where\((?:[^'()]|'[^']*')*\))?|[^.]+", path)


def _below(node: dict[str, Any], at: str, match: re.Match[str], number: int) -> list[_Spot]:
    known = choices(at, match["name"])
    if not known:
        raise invalid(f"operation {number}: R4 has no such element in the path")
    found: list[_Spot] = []
    for key, element in known.items():
        if key not in node:
            continue
        held = node[key]
        indexes: list[int | None] = list(range(len(held))) if isinstance(held, list) else [None]
        found += [_Spot(node, key, index, element.path) for index in indexes]
    if match["index"] is not None:
        wanted = int(match["index"])
        found = found[wanted : wanted + 1]
    if match["key"] is not None:
        found = [s for s in found if isinstance(s.value, dict) and s.value.get(match["key"]) == match["text"]]
    return found


def _one(resource: Resource, parts: Mapping[str, Any], number: int) -> _Spot:
    spots = _spots(resource, parts.get("path"), number)
    if len(spots) != 1:
        raise failed(number, f"the path finds {len(spots)} elements, one is expected")
    return spots[0]


def _container(resource: Resource, parts: Mapping[str, Any], number: int) -> tuple[dict[str, Any], str]:
    """The object that a path finds, and where its members are listed; the resource itself by its type alone."""
    path = parts.get("path")
    if path == resource.get("resourceType"):
        return resource, str(path)
    spot = _one(resource, parts, number)
    if not isinstance(spot.value, dict):
        raise failed(number, "the path does not find an object")
    return spot.value, spot.path


def _fhir_add(resource: Resource, parts: Mapping[str, Any], number: int) -> None:
    node, at = _container(resource, parts, number)
    name, value = parts.get("name"), _fhir_value(parts, number)
    key = _member(at, name, number)
    if members(at)[key].repeats:
        node[key] = [*(node[key] if isinstance(node.get(key), list) else []), value]
    elif key in node:
        raise failed(number, "the element is there already: use replace")
    else:
        node[key] = value


def _member(at: str, name: Any, number: int) -> str:
    known = members(at)
    if not isinstance(name, str) or name not in known:
        raise invalid(
            f"operation {number}: name must be a member of R4, a choice with its type, such as valueString"
        )
    return name


def _fhir_insert(resource: Resource, parts: Mapping[str, Any], number: int) -> None:
    held = _list(resource, parts, number)
    held.insert(_index(parts, "index", len(held) + 1, number), _fhir_value(parts, number))


def _fhir_delete(resource: Resource, parts: Mapping[str, Any], number: int) -> None:
    if not _spots(resource, parts.get("path"), number):
        return  # FHIR R4: nothing to delete is no error
    spot = _one(resource, parts, number)
    if spot.index is None:
        del spot.parent[spot.name]
        return
    held = spot.parent[spot.name]
    held.pop(spot.index)
    if not held:
        del spot.parent[spot.name]


def _fhir_replace(resource: Resource, parts: Mapping[str, Any], number: int) -> None:
    spot, value = _one(resource, parts, number), _fhir_value(parts, number)
    if spot.index is None:
        spot.parent[spot.name] = value
    else:
        spot.parent[spot.name][spot.index] = value


def _fhir_move(resource: Resource, parts: Mapping[str, Any], number: int) -> None:
    held = _list(resource, parts, number)
    value = held.pop(_index(parts, "source", len(held), number))
    held.insert(_index(parts, "destination", len(held) + 1, number), value)


def _list(resource: Resource, parts: Mapping[str, Any], number: int) -> list[Any]:
    spots = _spots(resource, parts.get("path"), number)
    lists = {id(spot.parent[spot.name]): spot.parent[spot.name] for spot in spots if spot.index is not None}
    if len(lists) != 1:
        raise failed(number, "the path does not find one array")
    found: list[Any] = next(iter(lists.values()))
    return found


def _index(parts: Mapping[str, Any], name: str, end: int, number: int) -> int:
    value = parts.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < end:
        raise failed(number, f"{name} is outside of the array")
    return value


def _fhir_value(parts: Mapping[str, Any], number: int) -> Any:
    if "value" not in parts:
        raise invalid(f"operation {number} has no value")
    return copy.deepcopy(parts["value"])


_FHIR_OPERATIONS: Mapping[str, Callable[[Resource, Mapping[str, Any], int], None]] = {
    "add": _fhir_add,
    "insert": _fhir_insert,
    "delete": _fhir_delete,
    "replace": _fhir_replace,
    "move": _fhir_move,
}

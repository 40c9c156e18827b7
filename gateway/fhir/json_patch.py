"""JSON Patch (RFC 6902), applied by the gateway itself, so that it judges what the store will hold.

A patch applies whole or not at all; the resource given is not changed. XML Patch is not taken: it would be applied to
a form of the resource that is not judged here.
"""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.fhir.outcome import FhirError, Reason

JSON_PATCH = "application/json-patch+json"
XML_PATCH = "application/xml-patch+xml"
MAX_OPERATIONS = 200
MAX_COPIED = 100_000
_INDEX = re.compile(r"0|[1-9][0-9]{0,5}")
_TILDE = re.compile(r"~(?![01])")
_FIXED = ("resourceType", "id")
Resource = dict[str, Any]


def json_patch(resource: Mapping[str, Any], patch: Any) -> Resource:
    """The resource after an RFC 6902 patch. Raises FhirError: INVALID_BODY, or PATCH_FAILED where a path or test fails."""
    operations = _operations(patch)
    changed: Any = copy.deepcopy(dict(resource))
    copied = 0
    for number, operation in enumerate(operations):
        apply = _JSON_OPERATIONS.get(operation["op"]) if isinstance(operation.get("op"), str) else None
        if apply is None:
            raise invalid(f"operation {number} has no op of RFC 6902: {', '.join(_JSON_OPERATIONS)}")
        if apply is _copy:  # each may double what is there
            copied += _count(_found(changed, _pointer(operation, "from", number), number))
            if copied > MAX_COPIED:
                raise FhirError(Reason.TOO_LARGE, f"a patch copies at most {MAX_COPIED} values")
        changed = apply(changed, operation, number)
        if not isinstance(changed, dict):
            raise failed(number, "the result is not a resource")
    return checked(resource, changed)


def _operations(patch: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(patch, list) or not all(isinstance(each, dict) for each in patch):
        raise invalid("a JSON Patch is an array of objects")
    check_count(patch)
    return patch


def check_count(operations: Sequence[Any]) -> None:
    """Raise FhirError INVALID_BODY for no operation, TOO_LARGE for more than MAX_OPERATIONS."""
    if not operations:
        raise invalid("a patch has no operation")
    if len(operations) > MAX_OPERATIONS:
        raise FhirError(Reason.TOO_LARGE, f"a patch has at most {MAX_OPERATIONS} operations")


def checked(before: Mapping[str, Any], after: Resource) -> Resource:
    """The result, still the same resource (FHIR R4 3.1.0.9). Raises FhirError where its type or id is another."""
    for name in _FIXED:
        if before.get(name) != after.get(name):
            raise invalid(f"a patch cannot change {name}")
    return after


# RFC 6902


def _add(document: Any, operation: Mapping[str, Any], number: int) -> Any:
    return _inserted(document, _pointer(operation, "path", number), _value(operation, number), number)


def _remove(document: Any, operation: Mapping[str, Any], number: int) -> Any:
    _taken(document, _pointer(operation, "path", number), number)
    return document


def _replace(document: Any, operation: Mapping[str, Any], number: int) -> Any:
    path, value = _pointer(operation, "path", number), _value(operation, number)
    if not path:
        return value
    parent, key = _parent(document, path, number)
    if isinstance(parent, list):
        parent[_place(parent, key, number)] = value
    elif key in parent:
        parent[key] = value
    else:
        raise failed(number, "there is nothing at path to replace")
    return document


def _move(document: Any, operation: Mapping[str, Any], number: int) -> Any:
    source, target = _pointer(operation, "from", number), _pointer(operation, "path", number)
    if target[: len(source)] == source and target != source:
        raise failed(number, "a value cannot be moved into itself")  # RFC 6902 4.4
    return _inserted(document, target, _taken(document, source, number), number)


def _copy(document: Any, operation: Mapping[str, Any], number: int) -> Any:
    source = _pointer(operation, "from", number)
    value = copy.deepcopy(_found(document, source, number))
    return _inserted(document, _pointer(operation, "path", number), value, number)


def _test(document: Any, operation: Mapping[str, Any], number: int) -> Any:
    found = _found(document, _pointer(operation, "path", number), number)
    if not same(found, _value(operation, number)):
        raise failed(number, "the test does not hold")
    return document


_JSON_OPERATIONS: Mapping[str, Callable[[Any, Mapping[str, Any], int], Any]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal (RFC 6902 4.6): 1 and true are not, whatever Python says; 1.0 and 1 are."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(_plain(one) == _plain(other))


def _plain(value: Any) -> Any:
    decimal = getattr(value, "decimal", None)
    return value if decimal is None else decimal()


def _count(value: Any) -> int:
    """How many values a JSON value is made of."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_count, inner))


def _pointer(operation: Mapping[str, Any], name: str, number: int) -> list[str]:
    text = operation.get(name)
    if not isinstance(text, str) or (text and not text.startswith("/")) or _TILDE.search(text):
        raise invalid(f"operation {number}: {name} must be a JSON Pointer such as /status")
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]]


def _value(operation: Mapping[str, Any], number: int) -> Any:
    if "value" not in operation:
        raise invalid(f"operation {number} has no value")
    return copy.deepcopy(operation["value"])


def _found(document: Any, path: Sequence[str], number: int) -> Any:
    at = document
    for step in path:
        if isinstance(at, list):
            at = at[_place(at, step, number)]
        elif isinstance(at, dict) and step in at:
            at = at[step]
        else:
            raise failed(number, "the path leads nowhere")
    return at


def _parent(document: Any, path: Sequence[str], number: int) -> tuple[Any, str]:
    parent = _found(document, path[:-1], number)
    if not isinstance(parent, dict | list):
        raise failed(number, "the path leads nowhere")
    return parent, path[-1]


def _place(items: Sequence[Any], step: str, number: int, *, after: bool = False) -> int:
    if after and step == "-":
        return len(items)
    if not _INDEX.fullmatch(step) or int(step) >= len(items) + after:
        raise failed(number, "the index is outside of the array")
    return int(step)


def _inserted(document: Any, path: Sequence[str], value: Any, number: int) -> Any:
    if not path:
        return value
    parent, key = _parent(document, path, number)
    if isinstance(parent, list):
        parent.insert(_place(parent, key, number, after=True), value)
    else:
        parent[key] = value
    return document


def _taken(document: Any, path: Sequence[str], number: int) -> Any:
    if not path:
        raise failed(number, "a resource cannot be removed by a patch")
    parent, key = _parent(document, path, number)
    if isinstance(parent, list):
        return parent.pop(_place(parent, key, number))
    if key not in parent:
        raise failed(number, "there is nothing at the path")
    return parent.pop(key)


def invalid(description: str) -> FhirError:
    """What the body says is not a patch."""
    return FhirError(Reason.INVALID_BODY, description)


def failed(number: int, description: str) -> FhirError:
    """An operation of the patch does not fit the resource."""
    return FhirError(Reason.PATCH_FAILED, f"operation {number}: {description}")

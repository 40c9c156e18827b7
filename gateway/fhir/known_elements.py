"""Whether all that a body says is FHIR R4: a member that the type does not have is one that stores read in their own way.

One store ignores 'Subject', another folds it into 'subject', a third takes '__proto__' for the prototype of its objects.
Of an array where one value belongs one store takes the first, another none. So a name that R4 does not know, and a value
in another form than R4 has it, is refused on writes (FHIR R4 2.6.2: names are case-sensitive, what repeats is an array).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from gateway.fhir.definitions import RESOURCE_TYPES, members
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.search import did_you_mean, shown


def check_elements(resource: Mapping[str, Any]) -> None:
    """Raise FhirError(INVALID_BODY), as 422, for a member that its type does not have in R4, or not in this form."""
    found = unknown_element(resource)
    if found is None:
        return
    path, name, form = found
    if form:
        said = f"{path}.{shown(name)} must be {form}"
    else:
        said = f"{path} has no element '{shown(name)}'{did_you_mean(name, members(path))}"
    raise FhirError(Reason.INVALID_BODY, said, status=422)


def unknown_element(resource: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """The first member that R4 does not know, as the path of where it stands, its name, and the form that R4 has of it.

    The form is '' for a name that is not there. None where all are known.
    """
    return _in_resource(resource)


def _in_resource(resource: Mapping[str, Any]) -> tuple[str, str, str] | None:
    type_ = resource.get("resourceType")
    if not isinstance(type_, str) or type_ not in RESOURCE_TYPES:
        return None
    return _below(resource, type_, is_resource=True)


def _held(resource: Mapping[str, Any], path: str) -> tuple[str, str, str] | None:
    type_ = resource.get("resourceType")
    if not isinstance(type_, str) or type_ not in RESOURCE_TYPES:
        return path, "resourceType", "a type of R4"
    return _in_resource(resource)


def _below(value: Mapping[str, Any], path: str, *, is_resource: bool = False) -> tuple[str, str, str] | None:
    known = _forms(path)
    if not known:
        return None
    for name, inner in value.items():
        form = known.get(name)
        if form is None:
            if is_resource and name == "resourceType":
                continue
            return path, name, ""
        if inner is None:  # it stands for nothing
            continue
        if form.repeats is not (type(inner) is list):
            return path, name, "an array" if form.repeats else "one value, and no array"
        for item in inner if type(inner) is list else (inner,):
            kind = type(item)
            if (kind is dict) is not form.is_object or kind is list:
                if item is None:
                    continue
                return path, name, "an object" if form.is_object else "a text, a number, true or false"
            if kind is dict:
                found = _held(item, f"{path}.{name}") if form.is_held else _below(item, form.within)
                if found is not None:
                    return found
    return None


@dataclass(frozen=True, slots=True)
class _Form:
    """How R4 has a member: the path of where its own members are listed, and whether it is a resource."""

    within: str
    repeats: bool
    is_object: bool
    is_held: bool


@cache
def _forms(path: str) -> Mapping[str, _Form]:
    """The members of a path, and those beside primitives: '_name' holds the id and the extensions of one."""
    found: dict[str, _Form] = {}
    for name, element in members(path).items():
        is_held = element.path == "Resource" or element.path in RESOURCE_TYPES
        is_object = is_held or bool(members(element.path))
        found[f"_{name}"] = _Form("Element", element.repeats, True, False)
        found[name] = _Form(element.path, element.repeats, is_object, is_held)
    return found

"""Whether all that a body says is FHIR R4: a member that the type does not have is one that stores read in their own way.

One store ignores 'Subject', another folds it into 'subject', a third takes '__proto__' for the prototype of its objects.
Of an array where one value belongs one store takes the first, another none. So a name that R4 does not know, and a value
in another form than R4 has it, is refused on writes (FHIR R4 2.6.2: names are case-sensitive, what repeats is an array).
"""

from collections.abc import Mapping
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
    known = members(path)
    if not known:
        return None
    for name, inner in value.items():
        if is_resource and name == "resourceType":
            continue
        # '_name' holds the id and the extensions of a primitive.
        element = known.get(name) or known.get(name.removeprefix("_"))
        if element is None:
            return path, name, ""
        within = "Element" if name not in known else element.path
        is_held = within == "Resource" or within in RESOURCE_TYPES
        form = _other_form(inner, element.repeats, is_object=is_held or bool(members(within)))
        if form:
            return path, name, form
        for item in inner if isinstance(inner, list) else (inner,):
            if not isinstance(item, Mapping):
                continue
            found = _held(item, f"{path}.{name}") if is_held else _below(item, within)
            if found is not None:
                return found
    return None


def _other_form(value: Any, repeats: bool, *, is_object: bool) -> str:
    """The form that a value should have and has not (FHIR R4 2.6.2); '' for the right one. null stands for nothing."""
    if value is None:
        return ""
    if repeats != isinstance(value, list):
        return "an array" if repeats else "one value, and no array"
    for item in value if isinstance(value, list) else (value,):
        if item is None:
            continue
        if isinstance(item, list) or isinstance(item, Mapping) != is_object:
            return "an object" if is_object else "a text, a number, true or false"
    return ""

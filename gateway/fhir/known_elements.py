"""Whether all that a body says is FHIR R4: a member that the type does not have is one that stores read in their own way.

One store ignores 'Subject', another folds it into 'subject', a third takes '__proto__' for the prototype of its objects.
So a name that R4 does not know is refused on writes (FHIR R4 2.6.2: names are case-sensitive, and no others are allowed).
"""

from collections.abc import Mapping
from typing import Any

from gateway.fhir.definitions import RESOURCE_TYPES, members
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.search import did_you_mean, shown


def check_elements(resource: Mapping[str, Any]) -> None:
    """Raise FhirError(INVALID_BODY), as 422, for a member that its type does not have in R4."""
    found = unknown_element(resource)
    if found is not None:
        path, name = found
        hint = did_you_mean(name, members(path))
        raise FhirError(Reason.INVALID_BODY, f"{path} has no element '{shown(name)}'{hint}", status=422)


def unknown_element(resource: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first member that R4 does not know, as the path of where it stands and its name; None where all are known."""
    return _in_resource(resource)


def _in_resource(resource: Mapping[str, Any]) -> tuple[str, str] | None:
    type_ = resource.get("resourceType")
    if not isinstance(type_, str) or type_ not in RESOURCE_TYPES:
        return None
    return _below(resource, type_, is_resource=True)


def _below(value: Mapping[str, Any], path: str, *, is_resource: bool = False) -> tuple[str, str] | None:
    known = members(path)
    if not known:
        return None
    for name, inner in value.items():
        if is_resource and name == "resourceType":
            continue
        # '_name' holds the id and the extensions of a primitive.
        element = known.get(name) or known.get(name.removeprefix("_"))
        if element is None:
            return path, name
        within = "Element" if name not in known else element.path
        for item in inner if isinstance(inner, list) else (inner,):
            if not isinstance(item, Mapping):
                continue
            found = _in_resource(item) if within == "Resource" else _below(item, within)
            if found is not None:
                return found
    return None

"""Whose a reference is: a patient's whom the caller may see, another's, nobody's, or one of whom that cannot be told.

A reference counts when it is literal and of the store. What may be a patient and is none that can be told is unclear,
and for whoever asks that is as good as somebody else.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, auto
from typing import Any

from gateway.fhir.definitions import RESOURCE_TYPES
from gateway.fhir.links import local_reference

_NAMED_TYPE = re.compile(
    r"(?:.*/)?([A-Za-z]+)/[A-Za-z0-9.-]{1,64}(?:/_history/[A-Za-z0-9.-]{1,64})?", re.DOTALL
)


class Whose(Enum):
    """Whose a reference is, for a caller who may see some patients."""

    OWN = auto()
    FOREIGN = auto()  # another patient of the store
    UNCLEAR = auto()  # a patient, or perhaps one, and it cannot be told which
    NOBODY = auto()  # certainly not a patient


def patients_among(references: Iterable[Any], patients: frozenset[str], bases: frozenset[str]) -> set[Whose]:
    """Whose those references are that name a patient for certain; others say nothing."""
    found: set[Whose] = set()
    for each in references:
        text = each.get("reference") if isinstance(each, Mapping) else None
        match = _NAMED_TYPE.fullmatch(text) if isinstance(text, str) else None
        if (_said_type(each) if match is None else match[1]) == "Patient":
            found.add(whose(each, patients, bases, {}))
    return found


def names_another(resource: Mapping[str, Any], patients: frozenset[str], bases: frozenset[str]) -> bool:
    """Whether a reference to another patient of the store stands anywhere in a resource, extensions included.

    Patient.link is passed over: a record that was merged with another is still the person's own.
    """
    if resource.get("resourceType") == "Patient" and "link" in resource:
        resource = {name: value for name, value in resource.items() if name != "link"}
    return Whose.FOREIGN in patients_among(references_in(resource), patients, bases)


def is_logical(reference: Mapping[str, Any]) -> bool:
    """Whether a reference says by an identifier alone what it is to, and not of which type that is (FHIR R4 2.3.0.4)."""
    return "identifier" in reference and not {"reference", "type"} & reference.keys()


def _said_type(reference: Any) -> str | None:
    """The type that Reference.type says: a name, or the URL of its definition (FHIR R4 2.3.0)."""
    said = reference.get("type") if isinstance(reference, Mapping) else None
    return said.rpartition("/")[2] if isinstance(said, str) else None


def references_in(value: Any) -> Iterator[Mapping[str, Any]]:
    """Everything below that has the form of a reference."""
    if isinstance(value, Mapping):
        if "reference" in value or ("identifier" in value and "type" in value):
            yield value
        for inner in value.values():
            yield from references_in(inner)
    elif isinstance(value, list):
        for item in value:
            yield from references_in(item)


def whose(
    reference: Any, patients: frozenset[str], bases: frozenset[str], resource: Mapping[str, Any]
) -> Whose:
    """Whose a reference is; resource is the one in which it stands, or in which that is contained."""
    if not isinstance(reference, dict):
        return Whose.UNCLEAR
    text = reference.get("reference")
    if text is None:
        return Whose.UNCLEAR if _said_type(reference) == "Patient" else Whose.NOBODY
    if not isinstance(text, str):
        return Whose.UNCLEAR
    local = local_reference(text, bases)
    if local is not None:
        if local.type != "Patient":
            return Whose.NOBODY
        return Whose.OWN if local.id in patients else Whose.FOREIGN
    if text.startswith("#"):
        return Whose.UNCLEAR if _contained_type(resource, text[1:]) in (None, "Patient") else Whose.NOBODY
    match = _NAMED_TYPE.fullmatch(text)
    if match is not None and match[1] in RESOURCE_TYPES and match[1] != "Patient":
        return Whose.NOBODY
    return Whose.UNCLEAR


def _contained_type(resource: Mapping[str, Any], id: str) -> str | None:
    contained = resource.get("contained")
    for inner in contained if isinstance(contained, list) else ():
        if isinstance(inner, dict) and inner.get("id") == id:
            type = inner.get("resourceType")
            return type if isinstance(type, str) else None
    return None

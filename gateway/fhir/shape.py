"""The shape of an answer: `_elements` and `_summary` (FHIR R4 3.1.1.5.8-9), cut by the gateway on the way out.

The store is asked for whole resources, since whose a resource is must stand in it when it is judged. What is cut
carries the tag SUBSETTED, so that nobody writes it back as if it were whole.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from gateway.fhir.definitions import (
    choices,
    is_resource_type,
    mandatory_elements,
    members,
    summary_elements,
)
from gateway.fhir.interaction import SearchTerm
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.search import did_you_mean, shown

PARAMETERS = frozenset({"_elements", "_summary"})
_SUMMARIES = ("true", "text", "data", "false")
_SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
# What changes the meaning.
_ALWAYS = frozenset({"resourceType", "id", "meta", "implicitRules", "modifierExtension"})


@dataclass(frozen=True, slots=True)
class Shape:
    """What is left of a resource: the elements by name or as Type.name, or one of the summaries."""

    elements: frozenset[str] = frozenset()
    summary: str = "false"


def shape_of(terms: Iterable[SearchTerm]) -> Shape | None:
    """The shape that a request asks for; None where resources leave whole."""
    for term in terms:
        if term.code == "_elements":
            return Shape(elements=frozenset(term.values))
        if term.code == "_summary" and term.text in ("true", "text", "data"):
            return Shape(summary=term.text)
    return None


def check(terms: Iterable[SearchTerm], type: str | None) -> None:
    """Refuse an `_elements` or `_summary` that means nothing on the type. Raises FhirError."""
    said = [term for term in terms if term.code in PARAMETERS]
    if len(said) > 1:
        raise FhirError(
            Reason.INVALID_PARAMETER, "'_elements' and '_summary' are sent once, and not together"
        )
    for term in said:
        if term.modifier is not None or term.name != term.code:
            raise FhirError(Reason.UNKNOWN_PARAMETER, f"'{term.code}' takes no modifier")
        if term.code == "_summary":
            if term.text not in (*_SUMMARIES, "count"):
                raise FhirError(
                    Reason.INVALID_PARAMETER, "'_summary' must be true, text, data, count or false"
                )
            continue
        for name in term.values:
            _check_element(name, type or "Resource")


def shaped(resource: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """The resource in this shape, with the tag that says so. The given one is not changed."""
    type = str(resource.get("resourceType"))
    if shape.summary == "data":
        left = {name: value for name, value in resource.items() if name not in ("text", "_text")}
    else:
        kept = _kept(type, shape)
        left = {name: value for name, value in resource.items() if name.removeprefix("_") in kept}
    meta = left.get("meta")
    meta = dict(meta) if isinstance(meta, dict) else {}
    tags = meta.get("tag")
    tags = list(tags) if isinstance(tags, list) else []
    return left | {"meta": meta | {"tag": [*(tag for tag in tags if tag != _SUBSETTED), _SUBSETTED]}}


def is_subsetted(resource: Mapping[str, Any]) -> bool:
    """Whether a resource says of itself that it is not whole."""
    meta = resource.get("meta")
    tags = meta.get("tag") if isinstance(meta, dict) else None
    return any(
        isinstance(tag, dict) and tag.get("code") == _SUBSETTED["code"]
        for tag in (tags if isinstance(tags, list) else [tags])
    )


def check_whole(resource: Mapping[str, Any]) -> None:
    """Refuse to store what is not whole (FHIR R4 3.1.1.5.9). Raises FhirError(INVALID_BODY)."""
    if is_subsetted(resource):
        raise FhirError(
            Reason.INVALID_BODY, "a resource tagged SUBSETTED is not whole: patch what you want to change"
        )


@cache
def _kept(type: str, shape: Shape) -> frozenset[str]:
    kept = _ALWAYS | mandatory_elements(type)
    if shape.summary == "text":
        return kept | {"text"}
    if shape.summary == "true":
        return kept | summary_elements(type)
    names = [name.removeprefix(f"{type}.") for name in shape.elements]
    return kept.union(*(choices(type, name) for name in names if "." not in name))


def _check_element(name: str, type: str) -> None:
    head, dot, element = name.partition(".")
    on, element = (head, element) if dot else (type, name)
    if dot and not is_resource_type(on):
        raise FhirError(
            Reason.INVALID_PARAMETER,
            f"'_elements' names '{shown(name)}': an element of the first level, or Type.element, is expected",
        )
    if not choices(on, element):
        raise FhirError(
            Reason.INVALID_PARAMETER,
            f"'_elements' names '{shown(element)}', which {on} does not have{did_you_mean(element, members(on))}",
        )

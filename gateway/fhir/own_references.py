"""References in a search that name our own resources by their public address, as the store has them: 'Patient/A'.

An app knows its user by fhirUser, and resources by fullUrl: both are addresses (FHIR R4 3.1.1.4.12 lets a search say one).
The store knows nothing of ours, so it would find nothing.
"""

from collections.abc import Collection
from dataclasses import replace

from gateway.fhir.definitions import is_resource_type, search_parameter
from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.fhir.joins import is_join, readings
from gateway.fhir.links import local_reference
from gateway.fhir.search_values import split_values, unescape

_SEARCHING = frozenset(
    {Interaction.SEARCH, Interaction.UPDATE, Interaction.PATCH, Interaction.DELETE, Interaction.OPERATION}
)


def with_own_references(asked: FhirRequest, bases: Collection[str]) -> FhirRequest:
    """The request with relative references in place of addresses below one of these bases, in reference parameters."""
    type_ = asked.type
    if type_ is None or asked.interaction not in _SEARCHING:
        return asked
    if not any("://" in term.text for term in asked.terms):
        return asked
    return replace(asked, terms=tuple(_relative(term, type_, bases) for term in asked.terms))


def _relative(term: SearchTerm, type_: str, bases: Collection[str]) -> SearchTerm:
    if "://" not in term.text:
        return term
    end = term
    if is_join(term):
        way = readings(term.name, term.text, type_)[0]
        end, type_ = way.criterion, way.hops[-1].type
    parameter = search_parameter(type_, end.code)
    if parameter is None or parameter.type != "reference" or end.modifier in ("identifier", "missing"):
        return term
    texts = [_own(text, end.modifier, bases) for text in split_values(term.text)]
    return replace(term, text=",".join(texts), values=tuple(unescape(text) for text in texts))


def _own(text: str, modifier: str | None, bases: Collection[str]) -> str:
    found = local_reference(unescape(text), bases) if "://" in text else None
    if found is None:
        return text
    if modifier is not None and is_resource_type(modifier):  # subject:Patient=A
        return found.id if modifier == found.type and found.version is None else text
    version = "" if found.version is None else f"/_history/{found.version}"
    return f"{found.type}/{found.id}{version}"

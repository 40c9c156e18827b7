"""The operations that are decided here, each with where it may be asked and what it may be asked with.

FHIR R4 3.2, US Core 6 ($docref), Bulk Data Access 2 ($export). An operation reads or writes what its own definition
says, so one that is not in this table has no decision, and stays closed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.fhir import search
from gateway.fhir.interaction import FhirRequest, SearchTerm
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.search_values import INSTANT

_DATES = frozenset({"_since", "start", "end"})
_MAX = re.compile(r"[1-9]\d{0,2}")


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation that is decided here.

    places      level (system, type, instance) and type where it may be asked; the type '*' is any
    parameters  names that it takes beside its own search criteria
    """

    name: str
    method: str
    places: frozenset[tuple[str, str]]
    parameters: frozenset[str]

    def is_at(self, level: str, type_: str) -> bool:
        """Whether it may be asked at this level of this type."""
        return (level, type_) in self.places or (level, "*") in self.places

    def is_of(self, type_: str) -> bool:
        """Whether it may be asked somewhere at this type."""
        return any(self.is_at(level, type_) for level in ("type", "instance"))


OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation(
            "everything",
            "GET",
            frozenset({("instance", "Patient")}),
            frozenset({"_type", "_since", "_count", "start", "end"}),
        ),
        Operation("validate", "POST", frozenset({("type", "*"), ("instance", "*")}), frozenset({"mode"})),
        Operation("lastn", "GET", frozenset({("type", "Observation")}), frozenset({"max"})),
        Operation(
            "docref",
            "GET",
            frozenset({("type", "DocumentReference")}),
            frozenset({"patient", "start", "end", "type"}),
        ),
        Operation("consent-decision", "POST", frozenset({("instance", "Patient")}), frozenset()),
        Operation(
            "export",
            "GET",
            frozenset({("system", ""), ("type", "Patient"), ("instance", "Group")}),
            frozenset({"_type", "_typeFilter", "_since", "_outputFormat"}),
        ),
    )
}


def operation_of(asked: FhirRequest) -> Operation | None:
    """The operation that is asked, where it is decided here; None for every other."""
    found = OPERATIONS.get(asked.operation or "")
    level = "instance" if asked.id is not None else "type" if asked.type is not None else "system"
    if found is None or found.method != asked.method or not found.is_at(level, asked.type or ""):
        return None
    return found


def parse_terms(name: str, type_: str | None, pairs: Sequence[tuple[str, str]]) -> tuple[SearchTerm, ...]:
    """The parameters of an operation; those of Observation/$lastn are search criteria and max. Raises FhirError."""
    if (name, type_) != ("lastn", "Observation"):
        return search.parse_operation_terms([_read(name, *pair) for pair in pairs])
    own = [pair for pair in pairs if pair[0] == "max"]
    if len(own) > 1 or not all(_MAX.fullmatch(value) for _, value in own):
        raise FhirError(Reason.INVALID_PARAMETER, "max must be given once, as a number of 1 to 999")
    criteria = search.parse_terms([pair for pair in pairs if pair[0] != "max"], type_)
    return (*criteria, *search.parse_operation_terms(own))


def _read(operation: str, name: str, value: str) -> tuple[str, str]:
    """A parameter, held to its grammar: what a store cannot read it passes over, and answers wider than was asked."""
    if operation not in OPERATIONS or name not in OPERATIONS[operation].parameters:
        return name, value  # refused by whoever decides
    if name in _DATES and not INSTANT.fullmatch(value):
        raise FhirError(Reason.INVALID_PARAMETER, f"'{name}' must be a date such as 2024-05-31T10:00:00Z")
    return (name, search.page_size(value)) if name == "_count" else (name, value)


def typed_query(text: str) -> tuple[str, tuple[SearchTerm, ...]]:
    """The type and criteria of 'Type?name=value&…', as _typeFilter says them. Raises FhirError."""
    type_, mark, query = text.partition("?")
    if not mark or not query:
        raise FhirError(Reason.INVALID_PARAMETER, "_typeFilter must be a type, '?' and search criteria")
    return type_, search.parse_terms(search.query_pairs(query), type_)

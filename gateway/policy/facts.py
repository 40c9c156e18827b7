"""Facts: small look-ups that the gateway makes at the store, such as "the patients of my active care teams".

What is asked and what is taken of the answer is said in the definitions. A store that skips criteria finds too much:
each resource of the answer is held to the criteria here as well.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.fhir.fhirpath import compile_expression
from gateway.fhir.links import local_reference
from gateway.fhir.matching import Criteria, compile_criteria
from gateway.fhir.search import encode_terms


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact as it is defined.

    type       the resource type that is asked for
    query      its criteria, with claims in braces
    take       what is taken of each resource that meets them, as FHIRPath
    keep       so many seconds an answer is good
    max_stale  so old an answer may be, in seconds, while the store cannot be asked; never less than keep
    at_most    values; more than these are no answer
    """

    name: str
    type: str
    query: str
    take: str
    keep: int
    max_stale: int
    at_most: int

    @property
    def gives_patients(self) -> bool:
        """Whether its values may be patients."""
        return self.take in ("", "Patient.id") or "Reference" in compile_expression(self.take).types


@dataclass(frozen=True, slots=True)
class FactQuestion:
    """A fact asked for one caller: its query with the caller's claims in it."""

    fact: Fact
    query: str

    def criteria(self, bases: frozenset[str]) -> Criteria:
        """The criteria as they are judged here. Raises CriteriaError."""
        return compile_criteria(self.fact.type, self.query, bases=bases)

    def target(self, bases: frozenset[str]) -> str:
        """The search below the store's base that asks it. Raises CriteriaError."""
        return f"{self.fact.type}?{encode_terms(self.criteria(bases).terms)}"


@dataclass(frozen=True, slots=True)
class FactValues:
    """The values of a fact. is_whole is whether every value could be read; age is in seconds."""

    values: frozenset[str]
    is_whole: bool = True
    age: int = 0

    @property
    def patients(self) -> frozenset[str]:
        """The ids of the patients among them."""
        return frozenset(
            value.removeprefix("Patient/") for value in self.values if value.startswith("Patient/")
        )

    @property
    def are_patients(self) -> bool:
        """Whether they are patients, all of them, and all are known."""
        return self.is_whole and all(value.startswith("Patient/") for value in self.values)


def taken(
    question: FactQuestion, resources: Iterable[Mapping[str, Any]], bases: frozenset[str]
) -> FactValues:
    """The values in the resources of an answer: references to the store's own resources as 'Type/id', and plain texts.

    The ids of patients are references to them.

    Raises CriteriaError.
    """
    criteria = question.criteria(bases)
    expression = compile_expression(question.fact.take)
    values: set[str] = set()
    is_whole = True
    for resource in resources:
        if not criteria.matches(resource):
            continue
        for value in expression.values(resource):
            text = _text(value, bases)
            if text is not None and question.fact.take == "Patient.id":
                text = f"Patient/{text}"
            if text is None:
                is_whole = False
            else:
                values.add(text)
    return FactValues(frozenset(values), is_whole)


def _text(value: object, bases: frozenset[str]) -> str | None:
    if isinstance(value, Mapping):
        reference = value.get("reference")
        local = local_reference(reference, bases) if isinstance(reference, str) else None
        return None if local is None else f"{local.type}/{local.id}"
    return value if isinstance(value, str) and value else None

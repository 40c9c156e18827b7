"""Statements about resources of one type, in `where`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.fhir.expressions import Statement, Subject


@dataclass(frozen=True, slots=True)
class ResourceStatement:
    """A statement about resources of one type, compiled. Two are equal that are written alike."""

    text: str
    compiled: Statement = field(compare=False, repr=False)

    def holds(self, resource: Mapping[str, object], claims: Mapping[str, object], *, in_doubt: bool) -> bool:
        """Whether it is true; in_doubt where it is neither true nor false. Raises TooManySteps."""
        truth = self.compiled(Subject(resource, claims=claims))
        return in_doubt if truth is None else truth

    def __str__(self) -> str:
        """As it is written in a policy."""
        return self.text

"""What rules say of a write: elements that stay, statements that must hold, elements whose change is denied, criteria.

Two versions are compared as JSON, element by element. FHIR says of few lists that their order means nothing, so any
difference is a change, also one of order or of a number's precision; extensions of a primitive count with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.fhir.expressions import Statement, Subject
from gateway.fhir.interaction import Interaction, SearchTerm
from gateway.fhir.labels import Label, labels_of
from gateway.policy.view import Paths

WRITING = frozenset({Interaction.CREATE, Interaction.UPDATE, Interaction.PATCH, Interaction.DELETE})
Version = Mapping[str, Any] | None  # None: there is none


@dataclass(frozen=True, slots=True)
class Conditional:
    """Criteria by which a resource may be found: search parameters, and the system that values must name."""

    keys: frozenset[str]
    system: str | None = None

    def takes(self, criteria: Sequence[SearchTerm]) -> bool:
        """Whether these criteria are of the kind that the rule lets find a resource."""
        return bool(criteria) and all(
            term.code in self.keys
            and term.modifier is None
            and term.chain is None
            and len(term.values) == 1
            and (self.system is None or term.text.startswith(f"{self.system}|"))
            and not term.text.endswith("|")
            for term in criteria
        )


@dataclass(frozen=True, slots=True)
class WriteRule:
    """`write` of a permit and `changes` of a deny, by resource type."""

    readonly: Mapping[str, Paths] = field(default_factory=dict)
    must_hold: Mapping[str, Statement] = field(default_factory=dict)
    changes: Mapping[str, Paths] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether the rule says nothing of writes."""
        return not self.readonly and not self.must_hold and not self.changes

    def allows(self, type_: str, before: Version, after: Version, claims: Mapping[str, Any]) -> bool:
        """Whether a permit lets this write through: what stays has stayed, and the statement holds.

        A delete leaves nothing to compare; its statement is about the version that goes.
        """
        paths, statement = self.readonly.get(type_), self.must_hold.get(type_)
        if paths is not None and before is not None and after is not None and _changes(before, after, paths):
            return False
        said = after if after is not None else before
        return statement is None or (
            said is not None and statement(Subject(resource=said, before=before, claims=claims)) is True
        )

    def touches(self, type_: str, before: Version, after: Version) -> bool:
        """Whether the write changes what a deny closes."""
        paths = self.changes.get(type_)
        return paths is not None and _changes(before, after, paths)


SAYS_NOTHING = WriteRule()


def _changes(before: Version, after: Version, paths: Paths) -> bool:
    """Whether a write changes something of these elements; of meta.security also what is labelled within the resource.

    Raises ValueError for labels that cannot be read.
    """
    if differs(before, after, paths):
        return True
    meta = paths.at("meta")
    security = None if meta is None else meta.at("security")
    return security is not None and security.whole and _labels(before) != _labels(after)


def _labels(version: Version) -> frozenset[Label]:
    return frozenset() if version is None else labels_of(version)


def differs(before: Version, after: Version, paths: Paths) -> bool:
    """Whether any of these elements is another in after than in before. None has no elements."""
    return bool(_part(before, paths) != _part(after, paths))


def _part(value: Any, paths: Paths) -> Any:
    """What of a JSON value stands at the paths, in a form that compares exactly; None where nothing does."""
    if paths.whole:
        return _exact(value)
    if isinstance(value, list):
        parts = tuple(_part(item, paths) for item in value)
        return parts if any(part is not None for part in parts) else None
    if not isinstance(value, Mapping):
        return None
    found = []
    for name, inner in sorted(paths.below.items()):
        for member in (name, f"_{name}") if inner.whole else (name,):
            part = _part(value.get(member), inner)
            if part is not None:
                found.append((member, part))
    return tuple(found) or None


def _exact(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return ("object", tuple((name, _exact(member)) for name, member in sorted(value.items())))
    if isinstance(value, list):
        return ("array", tuple(_exact(item) for item in value))
    return (type(value).__name__, value)

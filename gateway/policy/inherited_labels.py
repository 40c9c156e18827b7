"""Labels that a resource has from what it belongs to: its encounter, and what that is part of (`inherit_labels`).

What cannot be told of these labels is doubt: it opens nothing, and closes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.fhir.labels import Label, LabelCondition, labels_of
from gateway.fhir.links import local_reference

INHERITED = ("encounter", "partOf")
"""The elements by which labels may be inherited."""
_DEEPEST = 4  # an encounter is part of a stay, which is part of an episode


@dataclass(frozen=True, slots=True)
class Labelled:
    """The labels of a stored resource, and what it belongs to: 'Type/id' by element, None for what cannot be told."""

    labels: frozenset[Label]
    belongs_to: Mapping[str, tuple[str | None, ...]]
    is_known: bool = True


UNKNOWN = Labelled(frozenset(), {}, False)
"""A resource that is not there, or whose labels cannot be read."""


class LabelsKnown(Protocol):
    """Where labels of stored resources are looked up."""

    @property
    def supposes(self) -> bool: ...
    def labels_at(self, place: str) -> Labelled | None: ...


def labelled(resource: Mapping[str, Any], bases: frozenset[str]) -> Labelled:
    """What is inherited from this resource."""
    try:
        labels = labels_of(resource)
    except ValueError:
        return UNKNOWN
    return Labelled(labels, {name: _references(resource, name, bases) for name in INHERITED})


def holds_by_labels(
    condition: LabelCondition,
    resource: Mapping[str, Any],
    known: LabelsKnown,
    bases: frozenset[str],
    *,
    in_doubt: bool,
) -> bool:
    """Whether the labels of the resource, with those that it inherits, are as asked.

    in_doubt is the answer where they cannot be told. Raises ValueError for labels of its own that cannot be read.
    """
    own = labels_of(resource)
    if not condition.inherit:
        return condition.holds_for(own)
    more = inherited_labels(resource, condition.inherit, known, bases)
    if more is None:
        return condition.holds_for(own) if known.supposes else in_doubt
    return condition.holds_for(own | more)


def inherited_labels(
    resource: Mapping[str, Any], elements: tuple[str, ...], known: LabelsKnown, bases: frozenset[str]
) -> frozenset[Label] | None:
    """The labels of everything that the resource belongs to; None where one of it is not known."""
    places = [place for name in elements for place in _references(resource, name, bases)]
    found: frozenset[Label] = frozenset()
    seen: set[str] = set()
    is_whole = True
    for _ in range(_DEEPEST):
        further: list[str | None] = []
        for place in places:
            if place is None:
                is_whole = False
            elif place not in seen:
                seen.add(place)
                each = known.labels_at(place)  # all of them are looked for at once
                is_whole = is_whole and each is not None and each.is_known
                if each is not None:
                    found |= each.labels
                    further += [other for name in elements for other in each.belongs_to.get(name, ())]
        places = further
    return found if is_whole and set(places) <= seen else None


def _references(resource: Mapping[str, Any], name: str, bases: frozenset[str]) -> tuple[str | None, ...]:
    value = resource.get(name)
    found: list[str | None] = []
    for each in value if isinstance(value, list) else [] if value is None else [value]:
        text = each.get("reference") if isinstance(each, Mapping) else None
        local = local_reference(text, bases) if isinstance(text, str) else None
        found.append(None if local is None else f"{local.type}/{local.id}")
    return tuple(found)

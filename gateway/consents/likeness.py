"""What provisions can tell apart in a resource: two resources of one likeness are told the same by each element.

Nothing is decided here. Each element is asked in one way (`elements.met`), of the first resource of a likeness, and what
was said of that one is said of the others. So a likeness must hold all that an element looks at: it may tell apart too
much, and never too little. What an element looks at are the names that it has (labels, codes, references, authors), all
of which are indexed here, and a few words about a resource that are the same for whatever an element names, such as
whether its labels can be told at all. A resource is looked up by what it has itself, which does not grow with consents.
"""

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import chain

from gateway.consents.consent import ConsentReading
from gateway.consents.elements import Element, is_sensitive
from gateway.consents.resource_facts import ResourceFacts
from gateway.fhir.labels import ABOVE_ALL, CONFIDENTIALITY, Label, confidentiality, kinds_of

Name = tuple[str, str]
"""A kind of name that elements have, and the name."""
_OF_CODES = frozenset({"code", "class"})


@dataclass(frozen=True, slots=True)
class Likeness:
    """What a resource has of what consents name.

    common   what differs for whatever is named
    marks    by a name, what the resource has of it
    cells    by the number of a consent with periods of data, where the dates of the resource are among their ends
    """

    common: Hashable
    marks: frozenset[tuple[Name, Hashable]]
    cells: tuple[tuple[int, Hashable], ...]


class Vocabulary:
    """What consents name, each by its number among them."""

    def __init__(self, reading: ConsentReading) -> None:
        self._reading = reading
        self._owners: dict[Name, set[int]] = {}
        self._ends: dict[int, list[int]] = {}
        self._asks: set[str] = set()

    def add(self, number: int, element: Element) -> None:
        """Note what an element of the consent with this number names."""
        self._asks |= _looks_at(element)
        for name in _names(element):
            self._owners.setdefault(name, set()).add(number)
        if element.name == "dataPeriod":
            ends = self._ends.setdefault(number, [])
            for end in chain.from_iterable(element.values):
                insort(ends, end)

    def likeness(self, facts: ResourceFacts) -> Likeness:
        """The likeness of a resource. Raises ValueError for one that is nested too deep."""
        owners = self._owners
        marks = frozenset(mark for mark in self._marks(facts) if mark[0] in owners)
        dates = facts.dates if self._ends and facts.type != "Patient" else None
        cells: tuple[tuple[int, Hashable], ...] = ()
        if dates:
            cells = tuple(
                (number, tuple((bisect_right(ends, first), bisect_left(ends, last)) for first, last in dates))
                for number, ends in self._ends.items()
            )
        return Likeness(self._common(facts), marks, cells)

    def by_consent(self, likeness: Likeness) -> dict[int, Hashable]:
        """Of each consent that names something of the resource, what it can tell apart; of all others, likeness.common."""
        found: dict[int, list[Hashable]] = {}
        for name, mark in likeness.marks:
            for number in self._owners[name]:
                found.setdefault(number, []).append((name, mark))
        for number, cell in likeness.cells:
            found.setdefault(number, []).append(cell)
        return {number: (likeness.common, frozenset(own)) for number, own in found.items()}

    def _marks(self, facts: ResourceFacts) -> Iterator[tuple[Name, Hashable]]:
        if "labels" in self._asks and facts.labels is not None:
            for of_labels, count in Counter(label.system for label in facts.labels).items():
                yield ("system", of_labels), count
            for label in facts.labels:
                yield ("label", label.code), label.system
        if "codes" in self._asks:
            for system, code in facts.codings[0]:
                yield ("code", code), (system, "own")
            for system, code in facts.codings_within:
                yield ("code", code), system
        if "place" in self._asks:
            yield ("place", facts.place), "own"
        if "references" in self._asks:
            for place in facts.references:
                yield ("place", place), ""
        if "authors" in self._asks:
            for place in facts.authors[0]:
                yield ("author", place), ""

    def _common(self, facts: ResourceFacts) -> Hashable:
        is_patient = facts.type == "Patient"
        labels = self._of_labels(facts.labels) if "labels" in self._asks else None
        codes = facts.codings[1] if "codes" in self._asks else None
        references = None
        if "references" in self._asks:
            has_visit = any(each.startswith("Encounter/") for each in facts.references)
            references = (facts.has_unclear_references, has_visit)
        authors = None
        if "authors" in self._asks:
            found, is_whole = facts.authors
            authors = (frozenset(each.partition("/")[0] for each in found), is_whole)
        return (is_patient, facts.place == "", labels, codes, references, authors)

    def _of_labels(self, labels: frozenset[Label] | None) -> Hashable:
        """How confidential it is, and how many sensitivities it carries, whichever they are."""
        if labels is None:
            return "unknown"
        sensitive = sum(is_sensitive(label) for label in labels)
        unlabelled = ABOVE_ALL if sensitive else self._reading.unlabelled
        return confidentiality(labels, unlabelled), sensitive


def _looks_at(element: Element) -> set[str]:
    """What of a resource an element looks at, beside its dates."""
    if element.name == "data":
        asked = {"place"}
        for meaning, _ in element.values:
            if meaning == "authoredby":
                asked.add("authors")
            elif meaning != "instance":
                asked.add("references")
        return asked
    return (
        {"labels"} if element.name == "securityLabel" else {"codes"} if element.name in _OF_CODES else set()
    )


def _names(element: Element) -> Iterator[Name]:
    """What an element names."""
    for value in element.values:
        if element.name == "securityLabel" and value.system != CONFIDENTIALITY:
            yield "system", value.system
            for code in kinds_of(value):
                yield "label", code
        elif element.name in _OF_CODES:
            yield "code", value[1]
        elif element.name == "data":
            yield ("author" if value[0] == "authoredby" else "place"), value[1]

"""The elements of a provision, each read once: what it names, and whether a question is one of those.

An element is met, is not met, cannot be told, or hangs on a resource that is not at hand. What cannot be told is for
whoever asks: it permits nothing, and denies.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from gateway.consents.codes import LOINC, PARTICIPATIONS, RESOURCE_TYPES
from gateway.consents.consent import ACTIONS, ConsentQuestion, ConsentReading, Said, listed, objects
from gateway.consents.resource_facts import Coding, ResourceFacts
from gateway.fhir.dates import Interval, value_interval
from gateway.fhir.labels import ABOVE_ALL, ACT_CODE, CONFIDENTIALITY, ORDER, Label, confidentiality, is_one_of
from gateway.fhir.links import local_reference

_RECIPIENTS = frozenset({(PARTICIPATIONS, "IRCP"), (PARTICIPATIONS, "PRCP"), (None, "IRCP")})
_DOCUMENTS = frozenset({"DocumentReference", "Composition"})
_COLLECTIVE = frozenset({"Organization", "CareTeam", "Group", "PractitionerRole", "HealthcareService"})
_PEOPLE = frozenset({"Practitioner", "Patient", "RelatedPerson", "Device"})
_MEANINGS = frozenset({"instance", "related", "dependents", "authoredby"})
# An encounter may be part of one, which is not said here.
_OF_A_VISIT = frozenset({"EpisodeOfCare", "CarePlan"})


class Met(IntEnum):
    """Whether an element is met; of several the smallest counts."""

    FAILS = 0
    UNCLEAR = 1
    OPEN = 2  # it hangs on the resource, which is not at hand
    HOLDS = 3


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a provision: its values, whether all of them were understood, and as it was written."""

    name: str
    values: frozenset[Any]
    is_whole: bool
    written: object

    def is_within(self, other: "Element") -> bool:
        """Whether this names nothing but what the other one names."""
        if not (self.is_whole and other.is_whole):
            return False
        if self.name == "dataPeriod":
            return all(
                any(of[0] <= mine[0] and mine[1] <= of[1] for of in other.values) for mine in self.values
            )
        return self.values <= other.values


def read_element(name: str, value: object, reading: ConsentReading) -> Element:
    """An element as it stands in a provision. An empty one is not understood."""
    found: set[Any] = set()
    is_whole = True
    items = [value] if name == "dataPeriod" else listed(value)
    for item in items:
        values = _READ[name](item, reading)
        if not values:
            is_whole = False
        found |= values
    return Element(name, frozenset(found), is_whole and bool(found), value)


def met(element: Element, question: ConsentQuestion, type_: Said, reading: ConsentReading) -> Met:
    """Whether a question is one that the element is about; type_ is what its provision says."""
    if not element.values:
        return Met.UNCLEAR
    found = _MET[element.name](element, question, type_, reading)
    return Met.UNCLEAR if found is Met.FAILS and not element.is_whole else found


def is_sensitive(label: Label) -> bool:
    """Whether a label of a resource is a sensitivity, or may be one."""
    return label.system in ("", ACT_CODE) and label.code not in ORDER


def read_interval(period: object) -> Interval | None:
    """The time of a Period; None for what is none."""
    if not isinstance(period, Mapping) or not {"start", "end", "id"} >= set(period):
        return None
    return value_interval(dict(period))


# What is read


def _actors(item: object, reading: ConsentReading) -> set[Any]:
    """The names of one actor, together; nothing where they cannot be read or it is not a recipient."""
    if not isinstance(item, Mapping):
        return set()
    role, reference = item.get("role"), item.get("reference")
    roles = set(_concept(role)) if isinstance(role, Mapping) else set()
    if roles and roles.isdisjoint(_RECIPIENTS):
        return set()
    if not isinstance(reference, Mapping):
        return set()
    names: set[str] = set()
    if isinstance(text := reference.get("reference"), str):
        names.add(local_name(text, reading.bases))
    identifier = reference.get("identifier")
    if isinstance(identifier, Mapping) and isinstance(value := identifier.get("value"), str):
        names |= {value, f"{identifier.get('system')}|{value}"}
    return {frozenset(names)} if names else set()


def local_name(text: str, bases: frozenset[str]) -> str:
    """A reference without what differs from one writing to another; any other text as it is."""
    found = local_reference(text, bases)
    return text if found is None else f"{found.type}/{found.id}"


def _codes(item: object, reading: ConsentReading) -> set[Any]:
    return {code for _, code in _concept(item)}


def _codings(item: object, reading: ConsentReading) -> set[Any]:
    return set(_concept(item))


def _data(item: object, reading: ConsentReading) -> set[Any]:
    if not isinstance(item, Mapping) or item.get("meaning") not in _MEANINGS:
        return set()
    reference = item.get("reference")
    text = reference.get("reference") if isinstance(reference, Mapping) else None
    found = local_reference(text, reading.bases) if isinstance(text, str) else None
    return set() if found is None else {(item["meaning"], f"{found.type}/{found.id}")}


def _period(item: object, reading: ConsentReading) -> set[Any]:
    found = read_interval(item)
    return set() if found is None else {found}


def _label(item: object, reading: ConsentReading) -> set[Any]:
    if not isinstance(item, Mapping):
        return set()
    system, code = item.get("system"), item.get("code")
    if not isinstance(system, str) or not isinstance(code, str):
        return set()
    if system == CONFIDENTIALITY and code not in ORDER:
        return set()
    return {Label(system, code)}


def _concept(item: object) -> Iterable[Coding]:
    """The codings of a concept, or of a coding."""
    for coding in objects(item.get("coding", item)) if isinstance(item, Mapping) else ():
        code, system = coding.get("code"), coding.get("system")
        if isinstance(code, str):
            yield (system if isinstance(system, str) else None), code


# What is met


def _by_actor(element: Element, question: ConsentQuestion, type_: Said, reading: ConsentReading) -> Met:
    asked = question.actors
    if asked is None:
        return Met.UNCLEAR
    if any(not names.isdisjoint(asked) for names in element.values):
        return Met.HOLDS
    known = {name.partition("/")[0] for name in asked}
    for names in element.values:
        types = {name.partition("/")[0] for name in names if "/" in name}
        if types & _COLLECTIVE and not types & known:
            return Met.UNCLEAR  # who belongs to it is not said: the caller may
    return Met.UNCLEAR if question.is_partial else Met.FAILS


def _by_purpose(element: Element, question: ConsentQuestion, type_: Said, reading: ConsentReading) -> Met:
    if not question.purposes:
        # Whoever says no purpose may have any: what a patient forbids for one is forbidden.
        return Met.UNCLEAR
    return Met.FAILS if element.values.isdisjoint(question.purposes) else Met.HOLDS


def _by_action(element: Element, question: ConsentQuestion, type_: Said, reading: ConsentReading) -> Met:
    return Met.FAILS if element.values.isdisjoint(ACTIONS) else Met.HOLDS


def _by_class(element: Element, question: ConsentQuestion, type_: Said, reading: ConsentReading) -> Met:
    found = {_of_class(each, question) for each in element.values}
    return next((each for each in (Met.HOLDS, Met.OPEN, Met.UNCLEAR) if each in found), Met.FAILS)


def _of_class(coding: Coding, question: ConsentQuestion) -> Met:
    system, code = coding
    if system == RESOURCE_TYPES:
        if question.type is None:
            return Met.OPEN
        return Met.HOLDS if question.type == code else Met.FAILS
    if system != LOINC:
        return Met.UNCLEAR
    if question.type is not None and question.type not in _DOCUMENTS:
        return Met.FAILS
    return Met.OPEN if question.resource is None else _coded(frozenset({coding}), question.resource)


def _by_code(element: Element, question: ConsentQuestion, type_: Said, reading: ConsentReading) -> Met:
    facts = question.resource
    if facts is None:
        return Met.OPEN
    return Met.FAILS if facts.type == "Patient" else _coded(element.values, facts)


def _coded(wanted: frozenset[Coding], facts: ResourceFacts) -> Met:
    """Whether a code says what the resource is; unclear where it stands elsewhere in it, or of an unknown system."""
    own, is_whole = facts.codings
    if not own.isdisjoint({each for each in wanted if each[0] is not None}):
        return Met.HOLDS
    codes = {code for _, code in wanted}
    if not is_whole or any(
        code in codes and (system is None or (system, code) in wanted or (None, code) in wanted)
        for system, code in facts.codings_within
    ):
        return Met.UNCLEAR
    return Met.FAILS


def _by_data(element: Element, question: ConsentQuestion, type_: Said, reading: ConsentReading) -> Met:
    facts = question.resource
    if facts is None:
        return Met.OPEN
    found = {_of_data(meaning, place, facts) for meaning, place in element.values}
    return next((each for each in (Met.HOLDS, Met.UNCLEAR) if each in found), Met.FAILS)


def _of_data(meaning: str, place: str, facts: ResourceFacts) -> Met:
    """Whether the resource is one that the data of a provision names (FHIR R4 consent-data-meaning, PCF)."""
    if meaning == "authoredby":
        return _authored(place, facts)
    if facts.place == place:
        return Met.HOLDS
    if meaning == "instance":
        return Met.FAILS if facts.place else Met.UNCLEAR
    if facts.type == "Patient":
        return Met.FAILS
    if place in facts.references:
        return Met.HOLDS
    if facts.has_unclear_references:
        return Met.UNCLEAR
    named = place.partition("/")[0]
    if meaning == "dependents" or named == "Encounter":
        return Met.FAILS
    if named in _OF_A_VISIT:
        has_visit = any(each.startswith("Encounter/") for each in facts.references)
        return Met.UNCLEAR if has_visit else Met.FAILS
    return Met.UNCLEAR  # what the resource that is named refers to is not at hand


def _authored(place: str, facts: ResourceFacts) -> Met:
    authors, is_whole = facts.authors
    if facts.type == "Patient":
        return Met.FAILS
    if place in authors:
        return Met.HOLDS
    named = place.partition("/")[0]
    types = {author.partition("/")[0] for author in authors}
    is_another = types <= (_PEOPLE if named in _PEOPLE else {named})
    return Met.FAILS if authors and is_whole and is_another else Met.UNCLEAR


def _by_period(element: Element, question: ConsentQuestion, type_: Said, reading: ConsentReading) -> Met:
    facts = question.resource
    if facts is None:
        return Met.OPEN
    if facts.type == "Patient":
        return Met.FAILS
    if not facts.dates:
        return Met.UNCLEAR
    (start, end), *_ = element.values
    if all(start <= first and last <= end for first, last in facts.dates):
        return Met.HOLDS
    overlaps = any(first < end and start < last for first, last in facts.dates)
    return Met.UNCLEAR if overlaps else Met.FAILS


def _by_label(element: Element, question: ConsentQuestion, type_: Said, reading: ConsentReading) -> Met:
    facts = question.resource
    if facts is None:
        return Met.OPEN
    if facts.labels is None:
        return Met.UNCLEAR
    places = [ORDER.index(each.code) for each in element.values if each.system == CONFIDENTIALITY]
    wanted = frozenset(each for each in element.values if each.system != CONFIDENTIALITY)
    sensitive = [label for label in facts.labels if is_sensitive(label)]
    found = confidentiality(facts.labels, ABOVE_ALL if sensitive else reading.unlabelled)
    if type_ is Said.DENY:
        is_met = (bool(places) and found >= min(places)) or any(
            is_one_of(label, wanted) for label in facts.labels
        )
        return Met.HOLDS if is_met else Met.FAILS
    if places and found <= max(places):
        return Met.HOLDS
    # Who permits one sensitivity did not permit another that the resource carries as well.
    others = [label for label in facts.labels if label.system in {each.system for each in wanted}]
    carried = {*sensitive, *others}
    is_met = bool(carried) and all(label.system and is_one_of(label, wanted) for label in carried)
    return Met.HOLDS if is_met else Met.FAILS


_READ: Mapping[str, Callable[[object, ConsentReading], set[Any]]] = {
    "actor": _actors,
    "action": _codes,
    "purpose": _codes,
    "class": _codings,
    "code": _codings,
    "data": _data,
    "dataPeriod": _period,
    "securityLabel": _label,
}
_MET: Mapping[str, Callable[[Element, ConsentQuestion, Said, ConsentReading], Met]] = {
    "actor": _by_actor,
    "action": _by_action,
    "purpose": _by_purpose,
    "class": _by_class,
    "code": _by_code,
    "data": _by_data,
    "dataPeriod": _by_period,
    "securityLabel": _by_label,
}
ELEMENTS = tuple(_READ)
"""The elements of a provision that are understood, beside its type, its period and what is within it."""

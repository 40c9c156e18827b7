"""The conditions of a rule on resources, `where`: compartment, search criteria, ids, labels."""

import re

from gateway.fhir.compartment import subject_parameter
from gateway.fhir.definitions import RESOURCE_TYPES, patient_compartment, search_parameter, search_parameters
from gateway.fhir.ids import is_id
from gateway.fhir.interaction import Interaction
from gateway.fhir.matching import CriteriaError, compile_criteria
from gateway.fhir.told_by_search import needs_search, split_criteria
from gateway.policy.reading.attachments import ATTACHMENT_KEYS
from gateway.policy.reading.consent import read_consent
from gateway.policy.reading.definitions import Definitions, named
from gateway.policy.reading.labels import read_labels
from gateway.policy.reading.placeholders import mismatches
from gateway.policy.reading.reader import Reader
from gateway.policy.reading.statements import read_statements
from gateway.policy.rules import (
    FACT,
    CompartmentCondition,
    Effect,
    Value,
    Where,
)
from gateway.yaml_source import Mapping, Node, did_you_mean

WHERE_KEYS = ("compartment", "match", "ids", "labels", "any_of", "consent", "fhirpath")
WHERE_LATER = ("binary", "cda")
_SEARCHED = frozenset({Interaction.READ, Interaction.SEARCH})
_MEMBERSHIPS = ("subject", "spec", "all")
_PLACEHOLDER = re.compile(r"\{token\.([A-Za-z_][A-Za-z0-9_]*)\}")


def where_of(
    reader: Reader,
    body: Mapping,
    resources: frozenset[str] | None,
    may: frozenset[Interaction],
    definitions: Definitions,
    effect: Effect,
) -> Where:
    """The conditions of a rule."""
    where = reader.mapping(body.node("where"), "where")
    if where is None:
        return Where()
    later = set(WHERE_LATER) - set(ATTACHMENT_KEYS)
    reader.keys(where, "where", (*WHERE_KEYS, *ATTACHMENT_KEYS), later)
    return conditions_of(reader, where, resources, may, definitions, effect)


def conditions_of(
    reader: Reader,
    where: Mapping,
    resources: frozenset[str] | None,
    may: frozenset[Interaction],
    definitions: Definitions,
    effect: Effect,
    *,
    ways: bool = True,
    by_search: bool = True,
) -> Where:
    """The conditions on the resource among the keys of a mapping. effect is what comes of it when they hold.

    ways is whether any_of is read too; by_search whether a permit may leave criteria to a search.
    """
    compartment = None
    node = where.node("compartment")
    if node is not None:
        compartment = _compartment(reader, node, definitions)
        _check_membership(reader, node, compartment.membership, resources, may)
        led_to = {"Patient", "Binary"} if "binary" in where else {"Patient"}
        outside = sorted(t for t in resources or () if t not in led_to and not patient_compartment(t))
        if outside:
            said = "give 'match:' or, in a rule of its own, 'shared: true'"
            reader.problem(node, f"{outside[0]} is not in the Patient compartment: {said}")
    ids = None
    ids_node = where.node("ids")
    if ids_node is not None:
        ids = frozenset(_id(reader, item) for item in named(reader, ids_node, "ids"))
    labels = read_labels(reader, where, definitions, effect)
    is_of_encounters = resources is None or (resources - {"Encounter"} and "Encounter" in resources)
    if (
        labels is not None
        and labels.any_of
        and not labels.inherit
        and effect is Effect.DENY
        and is_of_encounters
    ):
        said = "a label of an Encounter does not count for what belongs to it, without 'inherit_labels'"
        reader.problem(where.node("labels") or where, said, warning=True)
    return Where(
        compartment,
        _match(reader, where, resources, may, definitions, effect if ways and by_search else None),
        ids,
        labels,
        _any_of(reader, where, resources, may, definitions, effect) if ways else (),
        read_consent(reader, where, definitions),
        read_statements(reader, where, resources, definitions.claims),
    )


def _any_of(
    reader: Reader,
    where: Mapping,
    resources: frozenset[str] | None,
    may: frozenset[Interaction],
    definitions: Definitions,
    effect: Effect,
) -> tuple[Where, ...]:
    node = where.node("any_of")
    found = []
    for item in named(reader, node, "any_of") if node is not None else ():
        body = reader.mapping(item, "a condition of any_of")
        if body is None:
            continue
        reader.keys(body, "any_of", WHERE_KEYS, WHERE_LATER)
        way = conditions_of(reader, body, resources, may, definitions, effect, by_search=False)
        if way.is_empty:
            reader.problem(item, "a condition of any_of that says nothing would always hold")
        found.append(way)
    return tuple(found)


def _id(reader: Reader, node: Node) -> str:
    text = reader.text(node, "id")
    if text and not is_id(text):
        reader.problem(node, f"'{text}' is not an id: write 'a1', without the type")
    return text


def _check_membership(
    reader: Reader, node: Node, membership: str, resources: frozenset[str] | None, may: frozenset[Interaction]
) -> None:
    """Note what a membership cannot say of these types, and where a search says less than it."""
    if membership == "subject":
        without = sorted(
            t for t in resources or () if patient_compartment(t) and subject_parameter(t) is None
        )
        if without:
            reader.problem(node, f"{without[0]} has no subject: say 'membership: spec' or 'membership: all'")
    elif Interaction.SEARCH in may:
        wider = sorted(
            t for t in resources or () if len(patient_compartment(t)) > 1 and subject_parameter(t) is not None
        )
        if wider:
            said = f"a search finds only what is about the patient, of {', '.join(wider)}"
            reader.problem(node, f"membership '{membership}' is for reading: {said}", warning=True)


def _compartment(reader: Reader, node: Node, definitions: Definitions) -> CompartmentCondition:
    body = reader.mapping(node, "compartment")
    if body is None:
        return CompartmentCondition(Value(), "all")
    reader.keys(body, "compartment", ("patient", "membership"), ("link",))
    membership = "subject"
    if "membership" in body:
        membership = reader.word(body.node("membership"), "membership", _MEMBERSHIPS) or "all"
    patient = body.node("patient")
    if patient is None:
        reader.problem(body, "compartment must say whose: 'patient: \"{token.patient}\"'")
        return CompartmentCondition(Value(), membership)
    if isinstance(patient, Mapping):
        reader.keys(patient, "patient", ("in",))
        within = patient.node("in")
        if within is None:
            reader.problem(patient, "patient must say whose: '{in: [...]}'")
            return CompartmentCondition(Value(), membership)
        items = named(reader, within, "in")
    else:
        items = named(reader, patient, "patient")
    words: list[str] = []
    for item in items:
        text = reader.text(item, "patient")
        match = _PLACEHOLDER.fullmatch(text)
        if match is not None:
            claim = definitions.claims.get(match[1])
            if claim is None:
                reader.problem(
                    item, f"no claim named '{match[1]}'.{did_you_mean(match[1], definitions.claims)}"
                )
            elif claim.type not in ("id", "codes", "reference"):
                reader.problem(item, f"claim '{match[1]}' is {claim.type}: an id or a reference is expected")
            elif len(items) > 1:
                reader.problem(item, "a claim stands alone: it is not mixed with other values")
            return CompartmentCondition(Value(claim=match[1]), membership)
        if text.startswith("$facts."):
            _check_fact(reader, item, text.removeprefix("$facts."), definitions)
            fact = definitions.facts.get(text.removeprefix("$facts."))
            if fact is not None and not fact.gives_patients:
                reader.problem(
                    item, f"'{fact.take}' gives no patients: references, or Patient.id, are expected"
                )
            if len(items) > 1:
                reader.problem(item, "a fact stands alone: it is not mixed with other values")
            return CompartmentCondition(Value(fact=text.removeprefix("$facts.")), membership)
        elif text and not is_id(text.removeprefix("Patient/")):
            reader.problem(item, f"'{text}' is neither an id nor a claim such as '{{token.patient}}'")
        elif text:
            words.append(text.removeprefix("Patient/"))
    return CompartmentCondition(Value(words=tuple(words)), membership)


def _check_fact(reader: Reader, node: Node, name: str, definitions: Definitions) -> None:
    if name not in definitions.facts:
        suggestion = did_you_mean(name, definitions.facts)
        reader.problem(
            node, f"no fact named '{name}': add it under facts in the definitions file.{suggestion}"
        )


def _match(
    reader: Reader,
    where: Mapping,
    resources: frozenset[str] | None,
    may: frozenset[Interaction],
    definitions: Definitions,
    effect: Effect | None,
) -> dict[str, str]:
    body = reader.mapping(where.node("match"), "match")
    found: dict[str, str] = {}
    if body is None:
        return found
    for entry in body:
        if entry.key not in RESOURCE_TYPES:
            reader.problem(
                entry, f"unknown resource type '{entry.key}'.{did_you_mean(entry.key, RESOURCE_TYPES)}"
            )
            continue
        text = reader.text(entry.value, "criteria")
        found[entry.key] = _criteria(reader, entry.key, entry.value, text, definitions, effect)
        if needs_search(found[entry.key]) and may - _SEARCHED:
            said = "criteria that only a search can tell open reads and searches, and nothing else of 'may'"
            reader.problem(entry.value, said, warning=True)
    if resources is not None and found:
        led_to = {"Binary"} if "binary" in where else set()
        for type_ in sorted(resources - found.keys() - led_to):
            reader.problem(
                body,
                f"match says nothing about {type_}: a permit opens nothing of it, any other rule closes all of it",
                warning=True,
            )
    return found


def _criteria(
    reader: Reader, type_: str, node: Node, text: str, definitions: Definitions, effect: Effect | None
) -> str:
    if text in ("any", ""):
        return ""
    query = text.removeprefix(f"{type_}?")
    for part in query.split("&"):
        code = re.split(r"[:.=]", part, maxsplit=1)[0]
        if code != "_has" and search_parameter(type_, code) is None:
            said = f"{type_} has no search parameter '{code}'.{did_you_mean(code, search_parameters(type_))}"
            reader.problem(node, said)
            return query
    for claim in _PLACEHOLDER.findall(query):
        if claim not in definitions.claims:
            reader.problem(node, f"no claim named '{claim}'.{did_you_mean(claim, definitions.claims)}")
            return query
    for name in FACT.findall(query):
        _check_fact(reader, node, name, definitions)
    _check_whole(reader, node, query)
    if found := list(mismatches(type_, query, definitions.claims)):
        for said in found:
            reader.problem(node, said)
        return query
    for part in query.split("&"):
        if re.search(r":(?:in|not-in)$", part.partition("=")[0]):
            said = f"value set not available: '{part}' cannot be told here. List the codes: code=system|a,system|b"
            reader.problem(node, said)
            return query
    try:
        filled = FACT.sub("x", _PLACEHOLDER.sub("x", query))
        if effect is Effect.PERMIT:
            split_criteria(type_, filled)
        else:
            compile_criteria(type_, filled)
    except CriteriaError as error:
        reader.problem(node, f"criteria cannot be evaluated: {error}")
    return query


def _check_whole(reader: Reader, node: Node, query: str) -> None:
    """Note a fact that is only a part of its value, or that stands in a negation: none of its values is no value."""
    for part in query.split("&"):
        name, _, value = part.partition("=")
        for item in value.split(","):
            if "{facts." in item and not FACT.fullmatch(item):
                reader.problem(
                    node, f"'{item}' is not a whole fact: write it as {{facts.name}}, and nothing beside"
                )
            elif "{facts." in item and value != item:
                reader.problem(node, f"'{item}' stands alone: it is not mixed with other values")
            elif "{facts." in item and name.endswith((":not", ":not-in")):
                reader.problem(
                    node, f"'{name}' cannot be asked of a fact: one without values would let all through"
                )

"""Labels that count for what belongs to an encounter: optional, followed to the end, and doubt where they are not known."""

from typing import Any

import pytest

from gateway.policy import language
from gateway.policy.decision import Decision, Environment
from gateway.policy.engine import Engine
from gateway.policy.inherited_labels import UNKNOWN, labelled
from gateway.policy.known import Known
from gateway.policy.selftests import selftest
from tests.support.policies import BASES, NOW, ask, caller, load, policy, resource, shows

OPEN = "rule: open, effect: permit, may: [read], resources: [Observation, Encounter], shared: true"
SHUT = (
    "rule: shut, effect: deny, may: [read], resources: [Observation], "
    "where: {labels: {any_of: ['v3-ActCode|PSY'], inherit_labels: [encounter, partOf]}}"
)
UP_TO_N = (
    "rule: n, effect: permit, may: [read], resources: [Observation], "
    "where: {labels: {at_most: N, unlabelled: N, inherit_labels: [encounter]}}"
)


def encounter(id_: str, *labels: str, part_of: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"resourceType": "Encounter", "id": id_}
    if labels:
        systems = {"PSY": "ActCode", "R": "Confidentiality"}
        place = "http://terminology.hl7.org/CodeSystem/v3-"
        found["meta"] = {"security": [{"system": place + systems[code], "code": code} for code in labels]}
    return found | ({"partOf": {"reference": f"Encounter/{part_of}"}} if part_of else {})


def known(*encounters: dict[str, Any]) -> Known:
    found = Known()
    for each in encounters:
        found.labels[f"Encounter/{each['id']}"] = labelled(each, BASES)
    return found


def seen(rules: tuple[str, ...], told: Known, **members: Any) -> bool:
    decision: Decision = Engine(load(policy(*rules)), bases=BASES).decide(
        ask("GET /Observation/x"), caller(), Environment(NOW, "192.0.2.1", known=told)
    )
    return shows(decision, resource("Observation", **members))


AT = {"encounter": {"reference": "Encounter/e1"}}


def test_296_the_label_of_an_encounter_counts_for_what_belongs_to_it() -> None:
    assert not seen((OPEN, SHUT), known(encounter("e1", "PSY")), **AT)
    assert seen((OPEN, SHUT), known(encounter("e1")), **AT)
    assert seen((OPEN, SHUT), known())
    assert not seen((UP_TO_N,), known(encounter("e1", "R")), **AT)
    assert seen((UP_TO_N,), known(encounter("e1")), **AT)


def test_296_it_is_off_by_default_and_loading_says_so() -> None:
    plain = (
        "rule: shut, effect: deny, may: [read], resources: any, where: {labels: {any_of: ['v3-ActCode|PSY']}}"
    )
    assert seen((OPEN, plain), known(encounter("e1", "PSY")), **AT)
    said = "a label of an Encounter does not count for what belongs to it, without 'inherit_labels'"
    assert any(said in str(warning) for warning in load(policy(OPEN, plain)).warnings)
    assert not any(said in str(warning) for warning in load(policy(OPEN, SHUT)).warnings)


def test_the_label_of_what_an_encounter_is_part_of_counts_too() -> None:
    stay, visit = encounter("e2", "PSY"), encounter("e1", part_of="e2")
    assert not seen((OPEN, SHUT), known(visit, stay), **AT)
    assert not seen((OPEN, SHUT), known(visit), **AT)
    assert seen((OPEN, SHUT), known(visit, encounter("e2")), **AT)
    assert seen((OPEN, SHUT), known(encounter("e1", part_of="e1")), **AT)


def test_what_goes_on_without_end_is_doubt() -> None:
    chain = [encounter(f"e{n}", part_of=f"e{n + 1}") for n in range(1, 9)]
    assert not seen((OPEN, SHUT), known(*chain, encounter("e9")), **AT)
    assert not seen((OPEN, SHUT), known(*chain[:1], encounter("e2", part_of="e3")), **AT)


@pytest.mark.parametrize(
    "place",
    [
        {"reference": "http://elsewhere/fhir/Encounter/e1"},
        {"reference": "#e"},
        {"identifier": {"value": "e1"}},
        {"reference": "Encounter/gone"},
        "Encounter/e1",
    ],
)
def test_what_cannot_be_told_opens_nothing_and_closes(place: Any) -> None:
    told = known(encounter("e1"))
    told.labels["Encounter/gone"] = UNKNOWN
    assert not seen((OPEN, SHUT), told, encounter=place)
    assert not seen((UP_TO_N,), told, encounter=place)


def test_encounters_are_looked_for_one_after_another() -> None:
    told = known()
    assert not seen((OPEN, SHUT), told, **AT)
    assert told.wanted().places == {"Encounter/e1"}
    told.labels["Encounter/e1"] = labelled(encounter("e1", part_of="e2"), BASES)
    assert not seen((OPEN, SHUT), told, **AT)
    assert told.wanted().places == {"Encounter/e2"}


def test_an_element_by_which_nothing_is_inherited_is_refused() -> None:
    wrong = SHUT.replace("[encounter, partOf]", "[encouter]")
    with pytest.raises(language.PolicyErrors, match="unknown element of inherit_labels 'encouter'"):
        load(policy(wrong))


def test_a_test_gives_encounters() -> None:
    given = (
        "given: {Observation/x: {resourceType: Observation, id: x, encounter: {reference: Encounter/e1}}, "
        "Encounter/e1: {resourceType: Encounter, id: e1%s}}"
    )
    label = ", meta: {security: [{system: 'http://terminology.hl7.org/CodeSystem/v3-ActCode', code: PSY}]}"
    asks = "as: {context: user}, request: GET /Observation/x"
    tests = "".join(
        f"  - {{test: t{n}, {asks}, {given % more}, expect: {{decision: {said}}}}}\n"
        for n, (more, said) in enumerate((("", "permit"), (label, "deny")))
    )
    report = selftest.run(load(policy(OPEN, SHUT, tests=tests)))
    assert (report.passed, report.failures) == (2, ())

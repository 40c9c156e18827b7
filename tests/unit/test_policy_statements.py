"""Statements in `where.fhirpath`: three-valued, whole typed claims, bounded, and resolved at load."""

from typing import Any

import pytest

from gateway.fhir.expressions import Subject, compile_statement
from gateway.fhir.fhirpath import TooManySteps
from gateway.policy.language import PolicyErrors
from tests.support.policies import caller, decide, load, policy, resource, shows

ALL = "rule: all, effect: permit, may: [any], resources: [Patient, Observation, Condition], shared: true"
FINAL = resource("Observation", status="final", performer=[{"reference": "Practitioner/dr1"}])
DRAFT = resource("Observation", status="preliminary")
BARE = resource("Observation")


def permit(fhirpath: str, resources: str = "[Observation]") -> str:
    """A permit by a statement."""
    return f"rule: r, effect: permit, may: [read, search], resources: {resources}, where: {{fhirpath: {fhirpath}}}"


def deny(fhirpath: str) -> str:
    """A deny by a statement."""
    return f"rule: d, effect: deny, may: [any], resources: [Observation], where: {{fhirpath: {fhirpath}}}"


def shown(rules: list[str], of: dict[str, Any], **claims: Any) -> bool:
    """Whether a read shows it."""
    return shows(decide(rules, caller(**claims), f"GET /{of['resourceType']}/x"), of)


def problems(*rules: str) -> list[str]:
    """What is wrong with these rules, warnings too."""
    try:
        return [str(warning) for warning in load(policy(*rules)).warnings]
    except PolicyErrors as error:
        return [str(problem) for problem in error.problems]


@pytest.mark.parametrize(
    ("statement", "of", "permits", "denies"),
    [
        ("\"status = 'final'\"", FINAL, True, True),
        ("\"status = 'final'\"", DRAFT, False, False),
        (
            "\"status = 'final'\"",
            BARE,
            False,
            True,
        ),  # it cannot be told: nothing is opened, everything closed
        ("\"status != 'final'\"", BARE, False, True),
        ("\"not(status = 'final')\"", BARE, False, True),
        ('"status.empty()"', BARE, True, True),
        ('"status.exists()"', BARE, False, False),
        ("\"status = 'final' or status.empty()\"", BARE, True, True),
        ("{Observation: \"status = 'final'\"}", FINAL, True, True),
        ("\"Observation.status = 'final'\"", FINAL, True, True),
        ("\"'Practitioner/dr1' in performer.reference\"", FINAL, True, True),
        ("\"performer.reference contains 'Practitioner/dr2'\"", FINAL, False, False),
        ("\"performer.reference contains 'Practitioner/dr2'\"", DRAFT, False, True),
    ],
)
def test_a_statement_that_cannot_be_told_opens_nothing_and_closes(
    statement: str, of: dict[str, Any], permits: bool, denies: bool
) -> None:
    assert shown([permit(statement)], of) is permits
    assert shown([ALL, deny(statement)], of) is not denies
    required = f"rule: q, effect: require, resources: [Observation], where: {{fhirpath: {statement}}}"
    assert shown([ALL, required], of) is permits


@pytest.mark.parametrize(
    ("statement", "claims", "opens"),
    [
        ('"%token.user in performer.reference"', {"fhirUser": "Practitioner/dr1"}, True),
        ('"%token.user in performer.reference"', {"fhirUser": "Practitioner/dr2"}, False),
        ('"%token.user in performer.reference"', {}, False),
        ('"%token.user in performer.reference"', {"fhirUser": ["Practitioner/dr1"]}, False),
        ("\"not('guest' in %token.roles)\"", {"roles": ["nurse"]}, True),
        ("\"not('guest' in %token.roles)\"", {"roles": ["nurse", "guest"]}, False),
        ("\"not('guest' in %token.roles)\"", {}, False),  # of whom nothing is known, nothing is true
        ("\"not('guest' in %token.roles)\"", {"roles": "nurse"}, False),
        ('"status = %token.org"', {"organization": "final"}, True),
        ('"status = %token.org"', {"organization": "final' or '1' = '1"}, False),
    ],
)
def test_a_claim_is_a_whole_value_of_its_type_and_never_text_of_the_statement(
    statement: str, claims: dict[str, Any], opens: bool
) -> None:
    assert shown([permit(statement)], FINAL, **claims) is opens


def test_a_search_is_not_narrowed_by_a_statement_and_its_total_stays_closed() -> None:
    decision = decide([permit("\"status = 'final'\"")], caller(), "GET /Observation?code=x")
    assert decision.request.terms[0].code == "code"  # type: ignore[union-attr]
    assert decision.added == ()  # type: ignore[union-attr]
    assert not decision.exact  # type: ignore[union-attr]


def test_a_statement_is_one_way_of_any_of_and_an_exception() -> None:
    ways = "where: {any_of: [{fhirpath: \"status = 'final'\"}, {ids: [y]}]}"
    rule = f"rule: r, effect: permit, may: [read], resources: [Observation], {ways}"
    assert shown([rule], FINAL)
    assert not shown([rule], BARE)
    but = "rule: d, effect: deny, may: [any], resources: [Observation], unless: {fhirpath: \"status = 'final'\"}"
    assert shown([ALL, but], FINAL)
    assert not shown([ALL, but], BARE)


def test_by_type_a_type_without_a_statement_is_closed_and_named() -> None:
    rule = permit("{Observation: \"status = 'final'\"}", "[Observation, Condition]")
    assert not shown([rule], resource("Condition"))
    (warning,) = problems(rule)
    assert "fhirpath says nothing about Condition: a permit opens nothing of it" in warning


@pytest.mark.parametrize(
    ("fhirpath", "message"),
    [
        ("\"stauts = 'final'\"", "there is no element 'stauts'. Did you mean 'status'?"),
        ("\"status == 'final'\"", "fhirpath of Observation: '=' was not expected"),
        ("\"note.text.matches('(a+)+$') = true\"", "fhirpath of Observation: "),
        ("\"repeat(component).exists()\"", "fhirpath of Observation: "),
        ("\"note.text.trace('x') = 'y'\"", "fhirpath of Observation: "),
        ("\"subject.resolve().active = true\"", "fhirpath of Observation: "),
        ('"status = %token.usr"', "no claim named 'usr' is defined. Did you mean 'user'?"),
        ("\"%before.status = 'final'\"", "'%before.status' is not known: there is one resource, and %token.claim"),
        ("\"%resource.status = 'final'\"", "'%resource.status' is not known"),
        ("\"Patient.active = true\"", "it speaks of Patient: say it of each type, {Patient: "),
        ("{Patient: \"active = true\"}", "the rule is not about Patient"),
        ("{Observatoin: \"status = 'x'\"}", "unknown resource type 'Observatoin'. Did you mean 'Observation'?"),
        ("{}", "fhirpath says nothing"),
        ("[]", "fhirpath must be text, found a list"),
        ('""', "fhirpath must not be empty"),
        ('"' + "(" * 25 + "status.exists()" + ")" * 25 + '"', "nested deeper than 20"),
        ("\"status = '" + "x" * 1000 + "'\"", "a statement has at most 1000 characters"),
    ],
)  # fmt: skip
def test_317_a_statement_that_is_not_right_is_refused_at_its_place(fhirpath: str, message: str) -> None:
    found = [problem for problem in problems(deny(fhirpath)) if message in problem]
    assert found
    assert found[0].startswith("1.yaml:7:")
    assert ": error: " in found[0]


def test_330_a_huge_resource_is_given_up_on_the_safe_side() -> None:
    huge = resource("Observation", component=[{"code": {"coding": [{"code": "x"}] * 500}}] * 500)
    statement = "\"component.code.coding.code contains 'x'\""
    assert not shown([permit(statement)], huge)
    assert not shown([ALL, deny(statement)], huge)
    small = resource("Observation", component=[{"code": {"coding": [{"code": "x"}] * 5}}] * 5)
    assert shown([permit(statement)], small)
    compiled = compile_statement("component.code.coding.code contains 'y'", "Observation", of_a_write=False)
    with pytest.raises(TooManySteps):
        compiled(Subject(huge))
    assert compiled(Subject(small)) is False


def test_330_the_steps_of_all_parts_of_a_statement_are_counted_together() -> None:
    wide = resource("Observation", note=[{"text": "x"}] * 20_000)
    part = "note.text.exists()"
    assert shown([permit(f'"{part}"')], wide)
    assert not shown([permit('"' + " and ".join([part] * 12) + '"')], wide)

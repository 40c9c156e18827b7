"""Checks at load: claims that are never a value of what they stand for, value sets, elements that are hidden badly."""

import pytest

from gateway.policy.language import PolicyErrors
from tests.support.policies import load, policy

READ = "effect: permit, may: [read, search]"


def problems(*rules: str) -> list[str]:
    """What is wrong with these rules, warnings too."""
    try:
        return [str(warning) for warning in load(policy(*rules)).warnings]
    except PolicyErrors as error:
        return [str(problem) for problem in error.problems]


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ("Patient?birthdate={token.patient}", "'birthdate' is a date: the claim 'patient' (id) can never be one"),
        ("Patient?birthdate={token.roles}", "'birthdate' is a date: the claim 'roles' (codes) can never be one"),
        ("Patient?identifier={token.user}", "'identifier' is a token: the claim 'user' is a reference such as Type/id"),
        ("Patient?name={token.user}", "'name' is a string: the claim 'user' is a reference such as Type/id"),
        ("Patient?organization={token.user}",
         "'organization' refers to Organization: the claim 'user' refers to Patient, Practitioner"),
    ],
)  # fmt: skip
def test_a_claim_that_is_never_a_value_of_the_parameter_is_refused(criteria: str, message: str) -> None:
    (found,) = problems(f'rule: r, {READ}, resources: [Patient], where: {{match: {{Patient: "{criteria}"}}}}')
    assert found.startswith("1.yaml:7:")
    assert found.endswith(f"error: {message}")


@pytest.mark.parametrize(
    "criteria",
    [
        "Patient?general-practitioner={token.user}",
        "Patient?organization={token.org}",
        "Patient?organization={token.org_reference}",
        "Patient?identifier={token.org}",
        "Patient?_id={token.patient}",
        "Patient?identifier={token.roles}",
    ],
)
def test_a_claim_that_can_be_a_value_of_the_parameter_is_taken(criteria: str) -> None:
    assert (
        problems(f'rule: r, {READ}, resources: [Patient], where: {{match: {{Patient: "{criteria}"}}}}') == []
    )


@pytest.mark.parametrize(
    "statement",
    [
        "subject.reference = %token.patient",
        "subject.reference != %token.patient",
        "%token.patient = subject.reference",
        "status = 'final' and %token.patient in performer.reference",
        "performer.reference contains %token.patient",
    ],
)
def test_an_id_where_a_reference_is_compared_is_refused(statement: str) -> None:
    found = problems(f'rule: r, {READ}, resources: [Observation], where: {{fhirpath: "{statement}"}}')
    assert [each for each in found if "%token.patient is an id, and a reference is a type with an id" in each]
    right = statement.replace("patient", "user")
    assert problems(f'rule: r, {READ}, resources: [Observation], where: {{fhirpath: "{right}"}}') == []


def test_a_value_set_that_is_not_here_is_refused_by_name() -> None:
    criteria = "Observation?code:in=http://example.org/ValueSet/labs"
    (found,) = problems(
        f'rule: r, effect: deny, may: [any], resources: [Observation], where: {{match: {{Observation: "{criteria}"}}}}'
    )
    assert (
        "error: value set not available: 'code:in=http://example.org/ValueSet/labs' cannot be told here."
        in found
    )


@pytest.mark.parametrize(
    ("view", "required"),
    [
        ("return: {hide: [Observation.status, Observation.note]}", "Observation.status"),
        ("return: {only: [Observation.id, Observation.status]}", "Observation.code"),
        ("return: {only: [Observation.id, Observation.status, Observation.code]}", None),
        ("return: {hide: [Observation.note, Observation.code.text]}", None),
    ],
)
def test_a_required_element_that_is_hidden_is_named(view: str, required: str | None) -> None:
    found = problems(f"rule: r, {READ}, resources: [Observation], shared: true, {view}")
    said = f"rule 'r' hides {required}, which FHIR requires: readers find it marked as masked"
    assert [each.partition("warning: ")[2] for each in found] == ([] if required is None else [said])


def test_a_required_element_that_a_deny_takes_away_is_named() -> None:
    deny = "rule: d, effect: deny, may: [read], resources: [Observation], fields: [status]"
    assert "rule 'd' hides Observation.status, which FHIR requires" in problems(deny)[0]


@pytest.mark.parametrize(
    ("needs", "is_named"),
    [
        ("[name]", True),
        ("[name, birthdate]", True),
        ("[name, identifier]", False),
        ("[identifier]", False),
    ],
)
def test_a_search_that_must_ask_for_what_is_hidden_is_named(needs: str, is_named: bool) -> None:
    view = "return: {hide: [Patient.name], round_dates: {Patient.birthDate: year}}"
    rule = f"rule: r, {READ}, resources: [Patient], shared: true, query: {{needs_one_of: {needs}}}, {view}"
    found = [each for each in problems(rule) if "hides what it looks at: none of them passes" in each]
    assert bool(found) is is_named


@pytest.mark.parametrize("then", ["rate: 5/min", "headers: {X-Ward: w}"])
def test_what_follows_from_a_bundle_as_such_is_refused_since_it_would_not_happen(then: str) -> None:
    (found,) = problems(f"rule: r, effect: permit, may: [batch], resources: [Patient], then: {{{then}}}")
    assert "alone has no effect but 'audit'" in found
    assert not problems("rule: r, effect: permit, may: [batch], resources: [Patient], then: {audit: full}")

"""Criteria that only a search can tell: what a permit says by them, and what it does not open."""

import json

import pytest

from gateway.fhir.outcome import Reason
from gateway.fhir.request_target import upstream_target
from gateway.policy.decision import Deny, Permit
from gateway.policy.inquiries.explanation import explain
from gateway.policy.inquiries.explanation_parts import Outcome, Truth
from gateway.policy.inquiries.explanation_words import as_json
from gateway.policy.language import PolicyErrors
from tests.support.policies import HERE, ask, caller, decide, engine, load, policy, resource

TEAM = "rule: team, effect: permit, may: [read, search], resources: [Observation], where: {match: {Observation: '%s'}}"
CHAINED = TEAM % "status=final&subject:Patient.organization=Organization/h1"
OTHER = "rule: other, effect: permit, may: [read, search], resources: [Observation], where: {ids: [x]}"


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ("subject:Patient.organization=Organization/h1", "subject:Patient.organization=Organization%2Fh1"),
        ("_has:Provenance:target:agent=Practitioner/p", "_has:Provenance:target:agent=Practitioner%2Fp"),
        ("code:below=http://loinc.org|x", "code:below=http%3A%2F%2Floinc.org%7Cx"),
    ],
)
def test_a_search_is_narrowed_and_a_read_goes_as_a_search(said: str, sent: str) -> None:
    found = decide([TEAM % said], caller("system"), "GET /Observation?status=final")
    assert isinstance(found, Permit)
    assert upstream_target(found.request) == f"Observation?status=final&{sent}"
    read = decide([TEAM % said], caller("system"), "GET /Observation/x?_elements=code")
    assert isinstance(read, Permit)
    assert upstream_target(read.request) == f"Observation?_id=x&{sent}"
    assert read.by_search is not None
    assert read.by_search.unwraps
    assert read.by_search.judge(resource("Observation")).shown


def test_whoever_does_not_ask_for_proof_is_shown_nothing() -> None:
    for text in ("GET /Observation/x", "GET /Observation"):
        found = decide([CHAINED], caller("system"), text)
        assert isinstance(found, Permit)
        assert found.judge is not None
        assert not found.judge(resource("Observation", status="final")).shown


def test_what_the_resource_tells_is_judged_behind_the_proof_too() -> None:
    found = decide([CHAINED], caller("system"), "GET /Observation")
    assert isinstance(found, Permit)
    assert found.by_search is not None
    assert not found.by_search.judge(resource("Observation", status="draft")).shown


def test_beside_another_permit_it_opens_nothing() -> None:
    found = decide([CHAINED, OTHER], caller("system"), "GET /Observation/x")
    assert isinstance(found, Permit)
    assert (found.by_search, found.rules) == (None, ("p/other",))
    two = decide([CHAINED, CHAINED.replace("team", "twin")], caller("system"), "GET /Observation/x")
    assert isinstance(two, Deny)
    assert two.reason is Reason.TOLD_BY_SEARCH


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (CHAINED.replace("permit", "deny"), "a chain reads other types"),
        (CHAINED.replace("permit", "require"), "a chain reads other types"),
        (TEAM % "subject.organization=Organization/h1", "name the types"),
        (TEAM % "subject:Patient.organisation=x", "organisation"),
        (TEAM % "_has:Provenance:target:agents=x", "agents"),
        (
            "rule: r, effect: permit, may: [read], resources: [Observation], where: {any_of: "
            "[{match: {Observation: 'subject:Patient.organization=x'}}, {ids: [a]}]}",
            "a chain reads other types",
        ),
    ],
)
def test_what_cannot_be_told_is_refused_at_load(rule: str, message: str) -> None:
    with pytest.raises(PolicyErrors, match=message):
        load(policy(rule))


def test_what_stays_closed_is_said_at_load() -> None:
    found = load(policy(CHAINED.replace("[read, search]", "[read, search, update]"))).warnings
    assert any("only a search can tell" in str(problem) for problem in found)


def test_an_explanation_leaves_open_what_only_a_search_can_tell() -> None:
    held = resource("Observation", status="final")
    found = explain(engine(CHAINED), ask("GET /Observation/x"), caller("system"), HERE, resource=held)
    assert found.verdict is None
    assert found.allowed is not Truth.FALSE
    assert [rule.outcome for rule in found.rules] == [Outcome.OPEN]
    assert "by_search" not in json.dumps(as_json(found))

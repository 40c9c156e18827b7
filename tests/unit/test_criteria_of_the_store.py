"""Criteria that only a search of the store can tell: how they are read, and what a permit with them opens."""

from typing import Any

import pytest

from gateway.fhir.interaction import Interaction
from gateway.fhir.matching import CriteriaError
from gateway.fhir.outcome import Reason
from gateway.fhir.store_criteria import taken_apart
from gateway.policy import language, selftest
from gateway.policy.decision import Decision, Deny, Environment, Permit
from tests.support.policies import DEFINITIONS, HERE, NOW, ask, caller, engine, load, policy, shows

ASKING = Environment(NOW, HERE.peer, by_search=True)
CHAIN = "coverage:Coverage.payor={token.org}"
MATCH = f'{{match: {{ExplanationOfBenefit: "{CHAIN}"}}}}'
PAYERS = (
    "rule: own, effect: permit, who: {context: system}, may: any, resources: [ExplanationOfBenefit], "
    f'shared: true, query: {{include: any-permitted, chain_depth: 2}}, where: {{match: {{ExplanationOfBenefit: "{CHAIN}"}}}}'
)
READ = "GET /ExplanationOfBenefit/e"
SEARCH = "GET /ExplanationOfBenefit?status=active"
BODY: dict[str, Any] = {"resourceType": "ExplanationOfBenefit", "id": "e", "status": "active"}
ACME = caller("system", organization="Organization-acme")


def decided(rules: list[str], text: str, environment: Environment = ASKING) -> Decision:
    return engine(*rules).decide(ask(text), ACME, environment)


def reason(decision: Decision) -> Reason | None:
    return decision.reason if isinstance(decision, Deny) else None


@pytest.mark.parametrize(
    ("type_", "query", "judged", "terms"),
    [
        ("ExplanationOfBenefit", "coverage:Coverage.payor=x", "", ["coverage:Coverage.payor=x"]),
        (
            "ExplanationOfBenefit",
            "status=active&coverage.payor:Organization=x&created=ge2020",
            "status=active&created=ge2020",
            ["coverage:Coverage.payor:Organization=x"],
        ),
        ("Patient", "_has:Observation:patient:code=1", "", ["_has:Observation:patient:code=1"]),
        ("Observation", "code:in=http://vs.example/a", "", ["code:in=http://vs.example/a"]),
        ("Observation", "code=1", "code=1", []),
    ],
)
def test_criteria_come_apart_into_what_a_resource_tells_and_what_the_store_does(
    type_: str, query: str, judged: str, terms: list[str]
) -> None:
    found, asked = taken_apart(type_, query)
    assert (found, [f"{term.name}={term.text}" for term in asked]) == (judged, terms)


@pytest.mark.parametrize(
    ("type_", "query"),
    [
        ("Observation", "subject.name=x"),  # Group, Device, Location and Patient have names
        ("Observation", "subject:Practitioner.name=x"),
        ("Observation", "code.name=x"),
        ("Observation", "_has:Observation:code=1"),
        ("Observation", "_has:Observation:subject:code=1"),
        ("Observation", "code:in=vs"),
        ("Observation", "subject:in=http://vs.example/a"),
        ("Observation", "patient._security=R"),
        ("Observation", "encounter.part-of.part-of.part-of.status=x"),
        ("Observation", "code:in=http://vs.example/a,http://vs.example/b"),
    ],
)
def test_what_has_no_one_meaning_is_not_asked(type_: str, query: str) -> None:
    with pytest.raises(CriteriaError):
        taken_apart(type_, query)


def test_a_read_goes_to_the_store_as_a_search_for_the_id_with_the_criteria() -> None:
    found = decided([PAYERS], READ)
    assert isinstance(found, Permit)
    assert found.by_search is not None
    terms = [f"{term.name}={term.text}" for term in found.by_search.terms]
    assert terms == ["_id=e", "coverage:Coverage.payor=Organization-acme"]
    assert found.asks == tuple(terms)
    assert found.conceal, "nobody learns which half of the condition was not met"


def test_a_search_is_narrowed_by_the_criteria_and_must_prove_it() -> None:
    found = decided([PAYERS], SEARCH)
    assert isinstance(found, Permit)
    assert found.by_search is None
    assert found.asks == ("coverage:Coverage.payor=Organization-acme",)
    assert found.added == found.asks
    assert found.asks[0] in [f"{term.name}={term.text}" for term in found.request.terms]


@pytest.mark.parametrize("environment", [HERE, Environment(NOW, HERE.peer)])
@pytest.mark.parametrize("text", [READ, SEARCH])
def test_where_nobody_asks_the_store_it_opens_nothing(text: str, environment: Environment) -> None:
    assert reason(decided([PAYERS], text, environment)) is Reason.NOT_DECIDABLE


@pytest.mark.parametrize(
    "text",
    [
        "GET /ExplanationOfBenefit/e/_history/1",
        "GET /ExplanationOfBenefit/e/_history",
        "POST /ExplanationOfBenefit",
        "PUT /ExplanationOfBenefit/e",
        "PATCH /ExplanationOfBenefit/e",
        "DELETE /ExplanationOfBenefit/e",
    ],
)
def test_versions_and_writes_are_closed_by_such_a_permit(text: str) -> None:
    assert reason(decided([PAYERS], text)) is Reason.NOT_DECIDABLE


def test_an_include_of_what_only_the_store_can_tell_is_closed() -> None:
    claims = (
        "rule: claims, effect: permit, who: {context: system}, may: [read, search], resources: [Claim], "
        "shared: true, query: {include: any-permitted}"
    )
    found = decided([PAYERS, claims], "GET /Claim?_revinclude=ExplanationOfBenefit:claim")
    assert reason(found) is Reason.JOIN_CLOSED
    assert isinstance(decided([PAYERS, claims], "GET /Claim?status=active"), Permit)


def test_a_chain_through_what_only_the_store_can_tell_is_closed() -> None:
    found = decided(
        [
            PAYERS,
            PAYERS.replace("rule: own", "rule: second")
            .replace("[ExplanationOfBenefit]", "[Claim]")
            .replace("{ExplanationOfBenefit:", "{Claim:")
            .replace("coverage:Coverage.payor", "provider:Organization.name"),
        ],
        "GET /ExplanationOfBenefit?claim.status=active",
    )
    assert reason(found) is Reason.JOIN_CLOSED


def test_of_several_permits_only_those_open_that_a_resource_tells() -> None:
    told = (
        "rule: told, effect: permit, who: {context: system}, may: [read, search], resources: "
        "[ExplanationOfBenefit], where: {match: {ExplanationOfBenefit: status=cancelled}}"
    )
    for text in (READ, SEARCH):
        found = decided([PAYERS, told], text)
        assert isinstance(found, Permit)
        assert (found.asks, found.by_search) == ((), None)
        assert not shows(found, BODY)
        assert shows(found, BODY | {"status": "cancelled"})


def test_of_several_permits_that_only_the_store_can_tell_none_opens() -> None:
    other = PAYERS.replace("rule: own", "rule: other").replace("{token.org}", "Organization/o")
    for text in (READ, SEARCH):
        assert reason(decided([PAYERS, other], text)) is Reason.NOT_DECIDABLE


def test_the_rest_of_the_condition_is_judged_on_what_the_store_found() -> None:
    both = PAYERS.replace(f'"{CHAIN}"', f'"status=active&{CHAIN}"')
    deny = (
        "rule: no, effect: deny, may: [read, search], resources: [ExplanationOfBenefit], "
        "where: {match: {ExplanationOfBenefit: use=predetermination}}"
    ).replace("use=predetermination", "disposition=secret")
    for text in (READ, SEARCH):
        found = decided([both, deny], text)
        assert shows(found, BODY)
        assert not shows(found, BODY | {"status": "draft"})
        assert not shows(found, BODY | {"disposition": "secret"})


def test_a_claim_that_is_missing_opens_nothing() -> None:
    found = engine(PAYERS).decide(ask(READ), caller("system"), ASKING)
    assert isinstance(found, Deny)


def test_a_granular_scope_does_not_make_the_store_decide() -> None:
    who = caller("system", organization="o", scope="system/ExplanationOfBenefit.rs?coverage:Coverage.payor=o")
    rule = PAYERS.replace(f', where: {{match: {{ExplanationOfBenefit: "{CHAIN}"}}}}', "")
    found = engine(rule).decide(ask(READ), who, ASKING)
    assert reason(found) is Reason.SCOPE_INSUFFICIENT


@pytest.mark.parametrize(
    "rule",
    [
        f"rule: r, effect: deny, may: [read], resources: [ExplanationOfBenefit], where: {MATCH}",
        f"rule: r, effect: require, may: [read], resources: [ExplanationOfBenefit], where: {MATCH}",
        "rule: r, effect: permit, may: [read], resources: [ExplanationOfBenefit], where: {any_of: "
        f'[{{match: {{ExplanationOfBenefit: "{CHAIN}"}}}}, {{match: {{ExplanationOfBenefit: status=active}}}}]}}',
        "rule: r, effect: deny, may: [read], resources: [ExplanationOfBenefit], "
        f'unless: {{match: {{ExplanationOfBenefit: "{CHAIN}"}}}}',
    ],
    ids=["deny", "require", "any_of", "unless"],
)  # fmt: skip
def test_only_a_permit_asks_it_and_only_by_itself(rule: str) -> None:
    with pytest.raises(language.PolicyErrors) as refused:
        load(policy(rule))
    assert "'coverage:Coverage.payor' is told by a search of the store alone" in str(refused.value)


def test_a_value_set_is_named_by_the_policy_alone() -> None:
    rule = PAYERS.replace(CHAIN, "status:in=http://vs.example/{token.org}")
    with pytest.raises(language.PolicyErrors) as refused:
        load(policy(rule))
    assert "a value set is named by its URL" in str(refused.value)


def test_that_such_a_permit_opens_no_writes_is_said_at_load() -> None:
    found = load(policy(PAYERS.replace("may: any", "may: [read, search, update]")))
    assert [w.message for w in found.warnings] == [
        "'coverage:Coverage.payor' is told by a search of the store alone: it opens read and search, and not update"
    ]


def test_the_payers_example_loads_and_its_test_holds() -> None:
    text = """\
policy: payer-own-members
version: 2
owner: finance@h1.example
status: shadow
text: A health insurer sees claims and coverage of its own members only.
rules:
  - rule: own-claims
    effect: permit
    who: {context: system, client: [payer-acme, payer-bolt], purpose: [HPAYMT]}
    may: [read, search]
    resources: [Claim, ClaimResponse, Coverage, ExplanationOfBenefit]
    where:
      match:
        Claim: "Claim?insurer={token.org_reference}"
        ClaimResponse: "ClaimResponse?insurer={token.org_reference}"
        Coverage: "Coverage?payor={token.org_reference}"
        ExplanationOfBenefit: "ExplanationOfBenefit?coverage:Coverage.payor={token.org_reference}"
    query: {include: ["Claim:patient"], chain_depth: 0}
    return: {hide: [Claim.supportingInfo, Claim.diagnosis]}
    because: Contract with the insurer.
tests:
  - test: insurer acme is tied to acme
    as: {context: system, client: payer-acme, purpose: [HPAYMT], org_reference: Organization/acme}
    request: GET /Claim?status=active
    expect: {decision: permit, upstream: "GET /Claim?status=active&insurer=Organization/acme"}
  - test: a read of an explanation of benefit is a search
    as: {context: system, client: payer-acme, purpose: [HPAYMT], org_reference: Organization/acme}
    request: GET /ExplanationOfBenefit/e1
    expect:
      decision: permit
      upstream: "GET /ExplanationOfBenefit?_id=e1&coverage:Coverage.payor=Organization/acme"
"""
    own = "definitions: payers\nversion: 1\nclaims:\n"
    own += "  org_reference: {path: org_reference, type: reference, of: [Organization]}\n"
    policies = language.load({"0.yaml": DEFINITIONS, "1.yaml": own, "60.yaml": text})
    report = selftest.run(policies)
    assert (report.passed, report.failures) == (2, ())


def test_no_interaction_but_these_two_is_ever_asked_of_the_store() -> None:
    opened = set()
    for interaction, text in {
        Interaction.READ: READ,
        Interaction.SEARCH: SEARCH,
        Interaction.VREAD: "GET /ExplanationOfBenefit/e/_history/1",
        Interaction.HISTORY_INSTANCE: "GET /ExplanationOfBenefit/e/_history",
        Interaction.UPDATE: "PUT /ExplanationOfBenefit/e",
    }.items():
        if isinstance(decided([PAYERS], text), Permit):
            opened.add(interaction)
    assert opened == {Interaction.READ, Interaction.SEARCH}

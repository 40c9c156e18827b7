"""Resources that rule the store: closed for writing to `any`, and Subscriptions to everybody."""

import pytest

from gateway.fhir.definitions import RESOURCE_TYPES
from gateway.fhir.outcome import Reason
from gateway.policy.decision import Decision, Deny, Environment, Permit
from gateway.policy.engine import Engine
from gateway.policy.infrastructure import INFRASTRUCTURE, SENDING
from gateway.policy.inquiries.explanation import explain
from gateway.policy.inquiries.explanation_words import as_json
from tests.support.policies import BASES, NOW, ask, caller, decide, load, policy, resource

ANY = "rule: all, effect: permit, may: [any], resources: any, shared: true"
WRITES = ("POST /{type}", "PUT /{type}/x", "PATCH /{type}/x", "DELETE /{type}/x")
SYSTEM = caller("system")


def naming(*types: str) -> str:
    return f"rule: named, effect: permit, may: [any], resources: [{', '.join(types)}], shared: true"


def asked_by(rules: list[str], line: str) -> Decision:
    return decide(rules, SYSTEM, line)


def reason(decision: Decision) -> Reason:
    assert isinstance(decision, Deny), decision
    return decision.reason


def warnings(*rules: str, definitions: str = "") -> list[str]:
    texts = [definitions] if definitions else []
    return [str(problem) for problem in load(*texts, policy(*rules)).warnings]


def test_every_type_of_the_table_is_one_of_the_specification() -> None:
    assert set(INFRASTRUCTURE) <= set(RESOURCE_TYPES)


@pytest.mark.parametrize("line", WRITES)
@pytest.mark.parametrize("type_", sorted(set(INFRASTRUCTURE) - SENDING))
def test_345_any_opens_no_write_of_what_rules_the_store_and_a_name_does(type_: str, line: str) -> None:
    asked = line.format(type=type_)
    assert reason(asked_by([ANY], asked)) is Reason.NO_PERMIT
    assert isinstance(asked_by([naming(type_)], asked), Permit)


def test_345_any_opens_reads_of_it_as_of_all_else() -> None:
    policies = [ANY]
    assert isinstance(asked_by(policies, "GET /SearchParameter/x"), Permit)
    assert isinstance(asked_by(policies, "POST /Observation"), Permit)


def test_345_a_set_does_not_open_it_either() -> None:
    definitions = "definitions: d\nversion: 1\nsets: {rulebook: {types: [Library, Observation]}}\n"
    rule = "rule: r, effect: permit, may: [create], resources: [$rulebook], shared: true"
    found = Engine(load(definitions, policy(rule)), bases=BASES)
    here = Environment(NOW, "10.0.0.1")
    assert reason(found.decide(ask("POST /Library"), SYSTEM, here)) is Reason.NO_PERMIT
    assert isinstance(found.decide(ask("POST /Observation"), SYSTEM, here), Permit)
    (said,) = [each for each in warnings(rule, definitions=definitions) if "must be named" in each]
    assert "a set does not open writes of Library, which must be named" in said


def test_345_a_deny_of_any_closes_what_a_name_opens() -> None:
    shut = "rule: shut, effect: deny, may: [create], resources: any"
    policies = [naming("Library"), shut]
    assert reason(asked_by(policies, "POST /Library")) is Reason.POLICY_DENIED


def test_345_what_may_not_be_stored_may_not_be_validated() -> None:
    validate = "rule: v, effect: permit, may: ['operation:$validate'], resources: any, shared: true"
    assert reason(asked_by([ANY, validate], "POST /Library/$validate")) is Reason.NO_PERMIT
    named = [naming("Library"), validate]
    assert isinstance(asked_by(named, "POST /Library/$validate"), Permit)


@pytest.mark.parametrize("line", [line.format(type="Subscription") for line in WRITES])
@pytest.mark.parametrize("rule", [ANY, naming("Subscription")])
def test_340_writes_of_a_subscription_are_closed_to_everybody(rule: str, line: str) -> None:
    assert reason(asked_by([rule], line)) is Reason.INTERACTION_CLOSED


@pytest.mark.parametrize("rule", [ANY, naming("Subscription")])
@pytest.mark.parametrize(
    "line", ["GET /Subscription/x", "GET /Subscription/x/_history/1", "GET /Subscription"]
)
def test_341_what_a_subscription_sends_along_is_shown_to_nobody(rule: str, line: str) -> None:
    channel = {"type": "rest-hook", "endpoint": "https://a.example", "header": ["Authorization: secret"],
               "_header": [{"extension": [{"url": "urn:x", "valueString": "secret"}]}]}  # fmt: skip
    decision = asked_by([rule], line)
    assert isinstance(decision, Permit)
    assert decision.judge is not None
    verdict = decision.judge(
        resource("Subscription", id="x", status="active", criteria="Patient?", channel=channel)
    )
    assert verdict.shown
    assert verdict.seen is not None
    assert verdict.seen["channel"] == {"type": "rest-hook", "endpoint": "https://a.example"}
    assert verdict.rules[-1] == "gateway/secrets-of-Subscription"


def test_348_a_new_patient_is_a_named_right() -> None:
    assert reason(asked_by([ANY], "POST /Patient")) is Reason.NO_PERMIT
    assert isinstance(asked_by([ANY], "PUT /Patient/A"), Permit)
    assert isinstance(asked_by([naming("Patient")], "POST /Patient"), Permit)


def test_loading_warns_where_any_would_have_opened_it() -> None:
    (said,) = [each for each in warnings(ANY) if "must be named" in each]
    assert "'any' does not open writes of what rules the store" in said
    assert "nor creates of Patient" in said
    updates = "rule: r, effect: permit, may: [update], resources: any, shared: true"
    assert "creates of Patient" not in "".join(warnings(updates))
    reads = "rule: r, effect: permit, may: [read], resources: any, shared: true"
    assert not [each for each in warnings(reads) if "must be named" in each]


def test_loading_warns_of_a_permit_that_names_what_stays_closed() -> None:
    assert any(
        "writes of Subscription stay closed to everybody" in each for each in warnings(naming("Subscription"))
    )


def test_an_explanation_says_that_the_type_is_not_named() -> None:
    engine = Engine(load(policy(ANY)), bases=BASES)
    found = explain(engine, ask("POST /Library"), SYSTEM, Environment(NOW, "10.0.0.1"))
    (rule,) = as_json(found)["rules"]  # type: ignore[misc]
    assert rule["outcome"] == "does not match"
    assert [(part["name"], part["holds"]) for part in rule["conditions"]] == [("named", "false")]

"""Authorization details at the gateway: scopes and details must both allow, and what is not understood opens nothing."""

from typing import Any

import pytest

from authz.protocol.authorization_details import DetailType
from gateway.fhir.outcome import Reason
from gateway.policy.decision import Decision, Deny, Environment, Permit
from gateway.policy.details_layer import ACTIONS, FHIR_ACCESS
from gateway.policy.engine import Engine
from tests.support.policies import BASES, NOW, ask, caller, load, policy, resource

HERE, ELSEWHERE = "https://gw.example/fhir/r4", "https://gw.example/fhir/archive"
OPEN = "rule: open, effect: permit, may: [any], resources: [Patient, Observation, Condition], shared: true"
LAB = DetailType("lab-results", frozenset({"read"}), frozenset({"Observation"}), "Results")


def decide(
    text: str, *details: Any, scope: str | None = None, at: str = HERE, claim: Any = ..., **engine: Any
) -> Decision:
    said = list(details) if claim is ... else claim
    who = caller("user", scope=scope, authorization_details=said)
    policies = load(policy(OPEN))
    return Engine(policies, bases=BASES, **engine).decide(ask(text), who, Environment(NOW, "192.0.2.1", at))


def reason(decision: Decision) -> Reason | None:
    return decision.reason if isinstance(decision, Deny) else None


def fhir(**members: Any) -> dict[str, Any]:
    return {"type": "fhir-access", **members}


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("GET /Observation/x", "read"),
        ("GET /Observation/x/_history/1", "vread"),
        ("GET /Observation/x/_history", "history-instance"),
        ("GET /Observation", "search"),
        ("POST /Observation/_search", "search"),
        ("GET /Patient/A/Observation", "search"),
        ("POST /Observation", "create"),
    ],
)
def test_every_interaction_needs_its_own_action(text: str, action: str) -> None:
    assert isinstance(decide(text, fhir(actions=[action], datatypes=["Observation"])), Permit)
    others = [each for each in ACTIONS if each != action]
    refused = decide(text, fhir(actions=others, datatypes=["Observation"]))
    assert reason(refused) is Reason.DETAILS_INSUFFICIENT
    assert reason(decide(text, fhir(datatypes=["Condition"]))) is Reason.DETAILS_INSUFFICIENT


def test_a_token_without_details_is_limited_by_its_scopes_alone() -> None:
    policies = load(policy(OPEN))
    decision = Engine(policies, bases=BASES).decide(
        ask("GET /Observation/x"), caller(), Environment(NOW, "::1")
    )
    assert isinstance(decision, Permit)


def test_details_never_widen_scopes() -> None:
    refused = decide("GET /Observation/x", fhir(), scope="user/Condition.r")
    assert reason(refused) is Reason.SCOPE_INSUFFICIENT
    assert reason(decide("GET /Observation/x", fhir(), scope="openid")) is Reason.SCOPE_INSUFFICIENT


def test_a_member_that_is_not_there_does_not_limit() -> None:
    assert isinstance(decide("GET /Observation/x", fhir()), Permit)


def test_details_are_alternatives_and_do_not_mix() -> None:
    reading, making = (
        fhir(actions=["read"], datatypes=["Condition"]),
        fhir(actions=["create"], datatypes=["Observation"]),
    )
    assert isinstance(decide("GET /Condition/x", reading, making), Permit)
    assert reason(decide("GET /Observation/x", reading, making)) is Reason.DETAILS_INSUFFICIENT


def test_a_detail_for_another_location_opens_nothing_here() -> None:
    elsewhere = fhir(locations=[ELSEWHERE])
    assert reason(decide("GET /Observation/x", elsewhere)) is Reason.DETAILS_INSUFFICIENT
    assert isinstance(decide("GET /Observation/x", elsewhere, at=ELSEWHERE), Permit)
    assert isinstance(decide("GET /Observation/x", fhir(locations=[ELSEWHERE, HERE])), Permit)
    assert reason(decide("GET /Observation/x", fhir(locations=[HERE]), at="")) is Reason.DETAILS_INSUFFICIENT


@pytest.mark.parametrize("name", ["actions", "datatypes", "locations"])
@pytest.mark.parametrize("value", ["*", ["*"], [], None, True, {"*": True}, ["any"], [["read"]], "read"])
def test_no_value_of_a_member_stands_for_everything(name: str, value: Any) -> None:
    assert reason(decide("GET /Observation/x", fhir(**{name: value}))) is Reason.DETAILS_INSUFFICIENT


@pytest.mark.parametrize(
    "claim",
    [
        None,
        [],
        {},
        "fhir-access",
        [7],
        [[]],
        [{}],
        [{"type": "payment"}],
        [{"type": None}],
        [{"type": "fhir-access"}, {"type": "payment"}],
        [{"type": "fhir-access", "privileges": ["admin"]}],
        [{"type": "FHIR-ACCESS"}],
    ],
)
def test_details_that_are_not_understood_open_nothing(claim: Any) -> None:
    assert reason(decide("GET /Observation/x", claim=claim)) is Reason.DETAILS_UNKNOWN


def test_a_list_as_a_type_is_no_type() -> None:
    assert reason(decide("GET /Observation/x", {"type": ["fhir-access"]})) is Reason.DETAILS_UNKNOWN


def test_a_type_of_ones_own_limits_to_what_it_has() -> None:
    lab = {"type": "lab-results"}
    types = (FHIR_ACCESS, LAB)
    assert isinstance(decide("GET /Observation/x", lab, detail_types=types), Permit)
    for text in ("GET /Observation", "GET /Condition/x"):
        assert reason(decide(text, lab, detail_types=types)) is Reason.DETAILS_INSUFFICIENT
    beyond = lab | {"actions": ["read", "search"], "datatypes": ["Observation", "Condition"]}
    assert reason(decide("GET /Condition/x", beyond, detail_types=types)) is Reason.DETAILS_INSUFFICIENT
    assert reason(decide("GET /Observation/x", lab)) is Reason.DETAILS_UNKNOWN
    assert reason(decide("GET /Observation/x", fhir(), detail_types=())) is Reason.DETAILS_UNKNOWN


def test_the_judge_shows_no_resource_of_another_type() -> None:
    decision = decide("GET /Observation", fhir(actions=["search"], datatypes=["Observation"]))
    assert isinstance(decision, Permit)
    assert decision.judge is not None
    assert decision.judge(resource("Observation")).shown
    for other in ("Condition", "Patient", "Bundle"):
        assert not decision.judge(resource(other)).shown

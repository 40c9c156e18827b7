"""The access evaluation API (OpenID AuthZEN Authorization API 1.0) over the policies in force."""

import json
from typing import Any

import pytest

from authz.protocol.request import BytesBody, HttpRequest
from gateway import evaluations
from gateway.policy.engine import Engine
from gateway.policy.inquiries.authzen import Circumstances, EvaluationError, evaluation
from gateway.policy.inquiries.authzen import evaluations as several
from tests.support.policies import BASES, NOW, engine, load, policy

RULES = (
    "rule: own, effect: permit, who: {context: patient}, may: [read, search, create], resources: [Observation], "
    'where: {compartment: {patient: "{token.patient}"}}, conceal: true',
    "rule: staff, effect: permit, who: {context: user, role: [nurse]}, may: [any], resources: [Condition], shared: true",
)
JUDGE = engine(*RULES)
ALICE: dict[str, Any] = {"type": "patient", "id": "alice", "properties": {"patient": "A"}}
NURSE: dict[str, Any] = {"type": "user", "id": "n", "properties": {"realm": {"roles": ["nurse"]}}}
READ = {"name": "read"}
OBSERVATION: dict[str, Any] = {"type": "Observation", "id": "x"}
OF_A = {**OBSERVATION, "properties": {"subject": {"reference": "Patient/A"}}}
OF_B = {**OBSERVATION, "properties": {"subject": {"reference": "Patient/B"}}}


def question(**parts: Any) -> dict[str, Any]:
    return {"subject": ALICE, "action": READ, "resource": OF_A, **parts}


def ask(**parts: Any) -> dict[str, Any]:
    return evaluation(JUDGE, question(**parts), Circumstances(NOW))


def test_6_2_a_decision_is_true_with_the_resource_and_false_for_anothers() -> None:
    assert ask()["decision"] is True
    refused = ask(resource=OF_B)
    assert refused["decision"] is False
    assert refused["context"]["reason"] == "scope-insufficient"
    assert refused["context"]["reason_user"]["en"] == "No scope of the token allows this interaction."
    assert "p/own" in refused["context"]["reason_admin"]["en"]


def test_what_depends_on_a_resource_that_is_not_given_is_false() -> None:
    answer = ask(resource=OBSERVATION)
    assert answer["decision"] is False
    assert answer["context"]["depends_on_resource"] is True


def test_what_no_resource_could_change_is_true_without_one() -> None:
    answer = ask(subject=NURSE, resource={"type": "Condition", "id": "c"})
    assert answer["decision"] is True
    assert answer["context"]["deciding_rules"] == ["p/staff"]


def test_a_search_is_answered_with_what_is_added_to_it() -> None:
    answer = ask(
        action={"name": "search", "properties": {"query": "code=1"}}, resource={"type": "Observation"}
    )
    assert answer["decision"] is True
    assert answer["context"]["upstream"] == "GET /Observation?code=1&subject=Patient%2FA"


def test_the_resource_type_is_the_one_that_is_asked_for() -> None:
    disguised = {"type": "Observation", "id": "x", "properties": {"resourceType": "Patient", "id": "A"}}
    assert ask(resource=disguised)["decision"] is False


def test_a_request_that_is_closed_to_everybody_is_a_decision_not_an_error() -> None:
    answer = ask(resource={"type": "Observatoin", "id": "x"})
    assert answer["decision"] is False
    assert answer["context"]["reason"] == "unknown-type"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"subject": {"type": "nurse", "id": "n"}}, "subject.type"),
        ({"subject": {"type": "user"}}, "subject.id"),
        ({"action": {"name": "can_read"}}, "action.name must be one of read, "),
        ({"resource": {"type": "Observation"}}, "resource.id"),
        ({"resource": {"type": "Observation", "id": "../Patient/A"}}, "resource.id"),
        ({"action": {"name": "search", "properties": {"query": "a#b"}}}, "action.properties.query"),
        ({"context": {"network": "here"}}, "context.network"),
        ({"context": {"time": True}}, "context.time"),
        ({"context": []}, "context must be a JSON object"),
    ],
)
def test_10_1_what_is_not_a_question_is_an_error(parts: dict[str, Any], said: str) -> None:
    with pytest.raises(EvaluationError, match=said.replace(".", r"\.")):
        ask(**parts)


def test_7_several_take_what_they_do_not_say_from_the_standing_parts() -> None:
    body = question(evaluations=[{}, {"resource": OF_B}, {"subject": NURSE}])
    found = several(JUDGE, body, Circumstances(NOW))["evaluations"]
    assert [each["decision"] for each in found] == [True, False, False]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("semantic", "decisions"),
    [
        ("execute_all", [True, False, True]),
        ("deny_on_first_deny", [True, False]),
        ("permit_on_first_permit", [True]),
    ],
)
def test_7_1_2_semantics(semantic: str, decisions: list[bool]) -> None:
    body = question(evaluations=[{}, {"resource": OF_B}, {}], options={"evaluations_semantic": semantic})
    found = several(JUDGE, body, Circumstances(NOW))["evaluations"]
    assert [each["decision"] for each in found] == decisions  # type: ignore[attr-defined]


def test_7_without_evaluations_it_is_one() -> None:
    assert several(JUDGE, question(), Circumstances(NOW))["decision"] is True


async def post(
    path: str, body: bytes, judge: Engine | None = JUDGE, **headers: str
) -> tuple[int, str, dict[str, str]]:
    sent = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    asked = HttpRequest(
        method="POST",
        path=path,
        query="",
        url=f"http://localhost{path}",
        origin="http://localhost",
        headers=sent,
        peer="127.0.0.1",
        body=BytesBody(body),
    )
    answer = await evaluations.answer(asked, judge, now=NOW, lookups={})
    assert isinstance(answer.body, bytes)
    return answer.status, answer.body.decode(), dict(answer.headers)


async def test_10_the_api_over_http_answers_json_and_keeps_the_request_id() -> None:
    status, text, headers = await post(
        "/access/v1/evaluation", json.dumps(question()).encode(), x_request_id="r1"
    )
    assert (status, json.loads(text)["decision"]) == (200, True)
    assert headers["X-Request-ID"] == "r1"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b'{"subject": {}, "subject": {}}', {}, 400),
        (b"{}", {}, 400),
        (b"{}", {"content_type": "text/plain"}, 415),
        (b'"' + b"x" * 1024 * 1024 + b'"', {}, 413),
    ],
)
async def test_10_what_is_not_a_question_is_refused(
    body: bytes, headers: dict[str, str], status: int
) -> None:
    assert (await post("/access/v1/evaluations", body, **headers))[0] == status


async def test_without_policies_nothing_is_decided() -> None:
    assert (await post("/access/v1/evaluation", b"{}", judge=None))[0] == 503


def test_an_engine_of_other_rules_keeps_its_bases() -> None:
    judge = Engine(load(policy(*RULES)), bases=BASES)
    own = {**OBSERVATION, "properties": {"subject": {"reference": "http://upstream:8080/fhir/Patient/A"}}}
    assert evaluation(judge, question(resource=own), Circumstances(NOW))["decision"] is True


# Operations

TAKING = engine(
    "rule: own, effect: permit, who: {context: patient}, may: [read, search, create], resources: [Patient, Observation], "
    'where: {compartment: {patient: "{token.patient}"}}',
    'rule: take, effect: permit, who: {context: patient}, may: ["operation:Patient/$everything", "operation:$validate"], '
    'resources: [Patient, Observation], where: {compartment: {patient: "{token.patient}"}}',
)


def about(resource: dict[str, Any], **properties: Any) -> dict[str, Any]:
    action = {"name": "operation", "properties": properties}
    return evaluation(TAKING, question(action=action, resource=resource), Circumstances(NOW))


@pytest.mark.parametrize("name", ["$everything", "everything"])
def test_an_operation_is_asked_by_its_name_at_an_instance(name: str) -> None:
    own = about({"type": "Patient", "id": "A", "properties": {"active": True}}, name=name)
    assert own["decision"] is True
    assert "p/take" in own["context"]["deciding_rules"]
    other = about({"type": "Patient", "id": "B", "properties": {"active": True}}, name=name)
    assert other["decision"] is False
    unknown = about({"type": "Patient", "id": "A"}, name=name)
    assert (unknown["decision"], unknown["context"]["depends_on_resource"]) == (False, True)


def test_a_validation_is_decided_as_the_create_that_it_asks_about() -> None:
    assert about({k: v for k, v in OF_A.items() if k != "id"}, name="$validate")["decision"] is True
    refused = about({k: v for k, v in OF_B.items() if k != "id"}, name="$validate")
    assert refused["decision"] is False


def test_an_operation_that_nobody_names_is_closed_and_its_rules_say_so() -> None:
    answer = about({"type": "Observation"}, name="$lastn")
    assert (answer["decision"], answer["context"]["reason"]) == (False, "interaction-closed")
    (take,) = answer["context"]["rules"]
    assert take["outcome"] == "does not match"
    assert [each["name"] for each in take["conditions"] if each["holds"] == "false"] == ["operation"]
    assert about({"type": "Patient", "id": "A"}, name="merge")["context"]["reason"] == "interaction-closed"


def test_parameters_of_an_operation_are_its_query() -> None:
    patient = {"type": "Patient", "id": "A", "properties": {"active": True}}
    assert about(patient, name="$everything", query="_type=Observation")["decision"] is True
    refused = about(patient, name="$everything", query="_elements=id")
    assert refused["context"]["reason"] == "unsupported-parameter"


@pytest.mark.parametrize(
    "properties",
    [{}, {"name": 5}, {"name": "$"}, {"name": "a/b"}, {"name": "$a", "query": "x#y"}, {"name": "a?b"}],
)
def test_10_1_an_operation_without_a_name_is_no_question(properties: dict[str, Any]) -> None:
    with pytest.raises(EvaluationError, match=r"action\.properties\."):
        about({"type": "Patient", "id": "A"}, **properties)

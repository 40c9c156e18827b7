"""What a patient's app writes names no other patient, wherever a reference may stand (case 130), and in no type."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.five import JSON, attack
from tests.support.gateway import MOUNT, RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]

POLICIES = """\
policy: diary
version: 1
owner: o
status: enforce
text: A person keeps a diary, and orders what is needed.
rules:
  - rule: diary
    effect: permit
    who: {context: patient}
    may: [read, search, create, update, patch, delete]
    resources: [Observation, QuestionnaireResponse]
    where: {compartment: {patient: "{token.patient}"}}
    because: x
  - rule: tasks
    effect: permit
    who: {context: patient}
    may: [read, create, update]
    resources: [Task]
    shared: true
    because: Whoever orders something sees what becomes of it.
  - rule: staff
    effect: permit
    who: {context: user}
    may: [read, create]
    resources: [Observation]
    shared: true
    because: x
tests:
  - {test: t, as: {context: patient, patient: A}, request: GET /Claim/A, expect: {decision: deny}}
"""
OWN, OTHER = {"reference": "Patient/A"}, {"reference": "Patient/B"}
NOTE: dict[str, Any] = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"text": "x"},
    "subject": OWN,
}
TASK: dict[str, Any] = {"resourceType": "Task", "status": "requested", "intent": "order", "for": OWN}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("diary")
    (folder / "policies").mkdir()
    (folder / "policies" / "diary.yaml").write_text(POLICIES)
    running = await start_gateway(folder, policies=folder / "policies")
    yield running
    await stop_gateway(running)


@pytest.mark.parametrize(
    "body",
    [
        NOTE | {"focus": [OTHER]},
        NOTE | {"focus": [{"reference": "Patient/B/_history/1"}]},
        NOTE | {"focus": [{"reference": "{origin}/Patient/B"}]},
        NOTE | {"note": [{"text": "x", "authorReference": OTHER}]},
        NOTE | {"extension": [{"url": "urn:x", "valueReference": OTHER}]},
        NOTE | {"modifierExtension": [{"url": "urn:x", "extension": [{"url": "y", "valueReference": OTHER}]}]},
        NOTE | {"meta": {"extension": [{"url": "urn:x", "valueReference": OTHER}]}},
        NOTE | {"_status": {"extension": [{"url": "urn:x", "valueReference": OTHER}]}},
        NOTE | {"focus": [OWN, OTHER]},
        NOTE | {"identifier": [{"value": "1", "assigner": OTHER}]},
        NOTE | {"contained": [{"resourceType": "Procedure", "id": "p", "subject": OWN, "note": [
            {"text": "x", "authorReference": OTHER}]}]},
        {"resourceType": "QuestionnaireResponse", "status": "completed", "subject": OWN, "item": [
            {"linkId": "1", "answer": [{"valueReference": OTHER}]}]},
        TASK | {"for": OTHER},
        TASK | {"requester": OTHER},
        TASK | {"input": [{"type": {"text": "x"}, "valueReference": OTHER}]},
    ],
)  # fmt: skip
async def test_130_a_patients_app_names_no_other_patient_anywhere(
    gateway: RunningGateway, body: dict[str, Any]
) -> None:
    content = json.dumps(body).replace("{origin}", gateway.origin + MOUNT).encode()
    place = f"/{body['resourceType']}"
    reply = await attack(gateway, "POST", place, who="pA-rw", headers=[JSON], body=content, sent=[])
    assert (reply.status, reply.reason) == (403, "scope-insufficient")


@pytest.mark.parametrize(
    "body",
    [
        NOTE | {"focus": [OWN], "performer": [OWN], "note": [{"text": "x", "authorReference": OWN}]},
        NOTE | {"performer": [{"reference": "Practitioner/dr1"}], "encounter": {"reference": "Encounter/e"}},
        NOTE | {"performer": [{"identifier": {"value": "npi"}}, {"display": "Dr. One"}]},
        NOTE | {"extension": [{"url": "urn:x", "valueReference": {"reference": "https://else.example/Patient/7"}}]},
        TASK | {"requester": OWN, "owner": {"reference": "Organization/h1"}},
    ],
)  # fmt: skip
async def test_what_names_the_own_person_or_nobody_else_of_the_store_is_written(
    gateway: RunningGateway, body: dict[str, Any]
) -> None:
    place = f"/{body['resourceType']}"
    reply = await attack(gateway, "POST", place, who="pA-rw", headers=[JSON], body=json.dumps(body).encode())
    assert reply.status == 201


async def test_156_a_patch_adds_no_other_patient(gateway: RunningGateway) -> None:
    body = json.dumps([{"op": "add", "path": "/focus", "value": [OTHER]}]).encode()
    headers = [("Content-Type", "application/json-patch+json")]
    reply = await attack(gateway, "PATCH", "/Observation/a1", who="pA-rw", headers=headers, body=body)
    assert (reply.status, reply.reason) == (403, "scope-insufficient")
    assert [each.method for each in gateway.upstream.requests] == ["GET"]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_what_is_about_two_is_neither_changed_nor_removed(gateway: RunningGateway, method: str) -> None:
    gateway.upstream.reset()
    gateway.upstream.resources["Observation/two"] = NOTE | {
        "id": "two",
        "focus": [OTHER],
        "meta": {"versionId": "1"},
    }
    body = json.dumps(NOTE | {"id": "two"}).encode() if method == "PUT" else b""
    headers = [JSON] if body else []
    reply = await attack(gateway, method, "/Observation/two", who="pA-rw", headers=headers, body=body)
    assert (reply.status, reply.reason) == (404, "not-found")
    assert [each.method for each in gateway.upstream.requests] == ["GET"]
    assert (await gateway.fhir("GET", "/Observation/two", who="pA-rw")).status == 200, "it may be seen"


async def test_staff_names_whom_it_must(gateway: RunningGateway) -> None:
    body = json.dumps(NOTE | {"focus": [OTHER]}).encode()
    reply = await attack(gateway, "POST", "/Observation", who="dr1", headers=[JSON], body=body)
    assert reply.status == 201

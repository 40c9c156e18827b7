"""Operations by POST (cases 189, 193, 196, 212): the Parameters of a body are judged as the query of a GET would be."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.five import JSON, attack, shown
from tests.support.gateway import RunningGateway, policies_with, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
POLICY = """
policy: operations
version: 1
owner: tests
status: enforce
text: The own record.
rules:
  - rule: own
    effect: permit
    who: {context: patient}
    may: [read, search, create, "operation:$everything", "operation:$lastn", "operation:$docref", "operation:$validate"]
    resources: [Patient, Observation, DocumentReference]
    where: {compartment: {patient: "{token.patient}"}}
    conceal: true
    because: x
  - rule: registry
    effect: permit
    who: {context: system}
    may: ["operation:Patient/$export"]
    resources: [Patient]
    shared: true
    operation: {types: [Patient, Observation]}
    because: x
tests:
  - {test: t, as: {context: patient, patient: A}, request: GET /Patient/A/$everything, expect: {decision: permit}}
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("by-post")
    running = await start_gateway(folder, policies=policies_with(folder, "90-operations.yaml", POLICY))
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()


def parameters(*pairs: tuple[str, str, Any]) -> bytes:
    found = [{"name": name, member: value} for name, member, value in pairs]
    return json.dumps({"resourceType": "Parameters", "parameter": found}).encode()


async def test_189_everything_by_post_is_the_get_of_the_same_words(gateway: RunningGateway) -> None:
    body = parameters(("_type", "valueCode", "Observation"), ("_count", "valueInteger", 5))
    reply = await attack(gateway, "POST", "/Patient/A/$everything", headers=[JSON], body=body)
    assert shown(reply) == {"Observation/a1", "Observation/a-vitals", "Observation/a-mh"}
    assert str(gateway.upstream.requests[-1]) == "GET /fhir/Patient/A/$everything?_count=5&_type=Observation"
    plain = await attack(gateway, "POST", "/Patient/A/$everything")
    assert "Patient/A" in shown(plain)


async def test_196_a_stranger_in_the_body_is_a_stranger_in_the_query(gateway: RunningGateway) -> None:
    body = parameters(("patient", "valueReference", {"reference": "Patient/B"}))
    reply = await attack(gateway, "POST", "/Observation/$lastn", headers=[JSON], body=body, sent=[])
    assert shown(reply) == set()
    own = parameters(("patient", "valueReference", {"reference": "Patient/A"}), ("max", "valueInteger", 1))
    twin = await attack(gateway, "POST", "/Observation/$lastn", headers=[JSON], body=own)
    assert "Observation/a1" in shown(twin)
    documents = parameters(("patient", "valueId", "B"))
    reply = await attack(
        gateway, "POST", "/DocumentReference/$docref", headers=[JSON], body=documents, sent=[]
    )
    assert shown(reply) == set()


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/Patient/B/$everything", parameters(), "not-found"),
        ("/Patient/A/$everything", parameters(("_patient", "valueString", "B")), "unsupported-parameter"),
        ("/Patient/A/$everything", parameters(("_type", "valueCoding", {"code": "Patient"})), "invalid-parameter"),
        ("/Patient/A/$everything", parameters(("x", "resource", {"resourceType": "Patient"})), "invalid-parameter"),
        ("/Patient/A/$everything", b'{"resourceType":"Patient","id":"B"}', "invalid-body"),
        ("/Patient/A/$everything", b'{"resourceType":"Parameters","parameter":[],"parameter":[]}', "invalid-body"),
        ("/Patient/A/$everything", b'{"resourceType":"Parameters","parameter":{"name":"_type"}}', "invalid-body"),
        ("/Patient/A/$everything?_type=Observation", parameters(), "ambiguous-query"),
        ("/Observation/$lastn", parameters(("_filter", "valueString", "subject eq Patient/B")), "unsupported-parameter"),
        ("/Observation/$lastn", parameters(("subject.name", "valueString", "x")), "unsupported-parameter"),
        ("/Patient/$everything", parameters(), "interaction-closed"),
        ("/Patient/A/$graphql", parameters(("query", "valueString", "{name}")), "interaction-closed"),
    ],
)  # fmt: skip
async def test_what_a_get_would_be_refused_for_reaches_no_store(
    gateway: RunningGateway, path: str, body: bytes, reason: str
) -> None:
    reply = await attack(gateway, "POST", path, headers=[JSON], body=body, sent=[])
    assert reply.reason == reason


async def test_another_media_type_is_415(gateway: RunningGateway) -> None:
    form = [("Content-Type", "application/x-www-form-urlencoded")]
    reply = await attack(
        gateway, "POST", "/Patient/A/$everything", headers=form, body=b"_type=Patient", sent=[]
    )
    assert reply.status == 415


async def test_212_an_export_by_post_is_begun_by_get_with_its_own_types_only(gateway: RunningGateway) -> None:
    token = await gateway.token("lab", organization=None)
    body = parameters(*(("_type", "valueString", each) for each in ("Observation", "Condition", "Patient")))
    headers = [JSON, ("Prefer", "respond-async")]
    sent = ["GET /fhir/Patient/$export?_type=Observation%2CPatient"]
    reply = await attack(
        gateway, "POST", "/Patient/$export", token=token, headers=headers, body=body, sent=sent
    )
    assert reply.status == 202
    wide = parameters(("patient", "valueReference", {"reference": "Patient/B"}))
    reply = await attack(
        gateway, "POST", "/Patient/$export", token=token, headers=headers, body=wide, sent=[]
    )
    assert reply.reason == "unsupported-parameter"


async def test_193_validate_takes_parameters_and_no_profile(gateway: RunningGateway) -> None:
    def wrapped(patient: str, *more: tuple[str, str, Any]) -> bytes:
        note = {
            "resourceType": "Observation",
            "status": "final",
            "code": {},
            "subject": {"reference": patient},
        }
        return parameters(("resource", "resource", note), *more)

    path, said = "/Observation/$validate", {"who": "pA-rw", "headers": [JSON]}
    mode = ("mode", "valueCode", "create")
    own = await attack(gateway, "POST", path, body=wrapped("Patient/A", mode), **said)
    assert own.status == 200
    assert json.loads(gateway.upstream.requests[-1].body)["resourceType"] == "Observation"
    foreign = await attack(gateway, "POST", path, body=wrapped("Patient/B", mode), sent=[], **said)
    assert foreign.status == 403
    for closed, reason in (
        (("profile", "valueUri", "http://evil.example/x"), "unsupported-parameter"),
        (("mode", "valueCode", "delete"), "invalid-parameter"),  # it is for an instance
    ):
        reply = await attack(gateway, "POST", path, body=wrapped("Patient/A", closed), sent=[], **said)
        assert reply.reason == reason

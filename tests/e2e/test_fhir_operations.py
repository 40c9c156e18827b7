"""Operations from end to end in front of the sample store: $everything, and an export from kick-off to its end."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.demo.fhir_server import SampleServer
from gateway.demo.fhir_store import SampleStore, sample_resources
from gateway.demo.world import OTHER_PATIENT, PATIENT, free_port
from tests.support.gateway import MOUNT, RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
POLICY = """
policy: operations
version: 1
owner: tests
text: Operations of the sample.
status: enforce
rules:
  - rule: own-record
    effect: permit
    who: {context: patient}
    may: ["operation:Patient/$everything"]
    resources: [Patient]
    where: {compartment: {patient: "{token.patient}"}}
    conceal: true
    because: A person takes the own record along.
  - rule: export
    effect: permit
    who: {context: system, org: laboratory}
    may: ["operation:Group/$export"]
    resources: [Group]
    where: {ids: [ward]}
    operation:
      types: [Patient, Observation]
      type_filter: {Observation: "Observation?category=laboratory"}
    because: The registry takes its group over.
tests:
  - test: a stranger's record is not found
    as: {context: patient, patient: A}
    request: GET /Patient/B/$everything
    expect: {decision: deny, status: 404, upstream: none}
"""
GROUP = {
    "resourceType": "Group",
    "id": "ward",
    "type": "person",
    "actual": True,
    "member": [{"entity": {"reference": f"Patient/{PATIENT}"}}],
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("sample-operations")
    policies = folder / "policies"
    policies.mkdir()
    for path in (Path(__file__).parents[2] / "policies").glob("*.yaml"):
        (policies / path.name).write_text(path.read_text())
    (policies / "90-operations.yaml").write_text(POLICY)
    port = free_port()
    base = f"http://127.0.0.1:{port}/fhir"
    groups = [GROUP, GROUP | {"id": "other"}]
    server = SampleServer(SampleStore.of([*sample_resources(), *groups]), base)
    runner = web.ServerRunner(web.Server(server.handle, access_log=None), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    running = await start_gateway(folder, policies=policies, base=base)
    yield running
    await stop_gateway(running)
    await runner.cleanup()


async def test_a_patient_takes_the_own_record_along_and_no_other(gateway: RunningGateway) -> None:
    token = await gateway.token("pA-r", patient=PATIENT, fhirUser=f"Patient/{PATIENT}")
    reply = await gateway.fhir("GET", f"/Patient/{PATIENT}/$everything", token=token)
    assert reply.status == 200, reply.raw[:600]
    types = {entry["resource"]["resourceType"] for entry in reply.json["entry"]}
    assert {"Patient", "Observation", "Condition"} <= types
    assert OTHER_PATIENT.encode() not in reply.body
    only = await gateway.fhir("GET", f"/Patient/{PATIENT}/$everything?_type=Condition", token=token)
    assert {entry["resource"]["resourceType"] for entry in only.json["entry"]} == {"Condition"}
    other = await gateway.fhir("GET", f"/Patient/{OTHER_PATIENT}/$everything", token=token)
    assert other.status == 404


async def test_an_export_from_its_kick_off_to_its_end(gateway: RunningGateway) -> None:
    asynchronous = [("Prefer", "respond-async")]
    refused = await gateway.fhir("GET", "/Group/other/$export", who="lab", headers=asynchronous)
    assert refused.status == 403
    reply = await gateway.fhir("GET", "/Group/ward/$export", who="lab", headers=asynchronous)
    assert reply.status == 202, reply.raw[:600]
    job = (reply.header("Content-Location") or "").removeprefix(gateway.origin + MOUNT)
    waiting = await gateway.fhir("GET", job, who="lab")
    assert (waiting.status, waiting.header("X-Progress")) == (202, "in progress, 50%")
    manifest = (await gateway.fhir("GET", job, who="lab")).json
    assert [each["type"] for each in manifest["output"]] == ["Observation", "Patient"]
    for each in manifest["output"]:
        file = await gateway.fhir("GET", each["url"].removeprefix(gateway.origin + MOUNT), who="lab")
        lines = [json.loads(line) for line in file.body.splitlines()]
        assert lines
        assert {line["resourceType"] for line in lines} == {each["type"]}
        assert OTHER_PATIENT.encode() not in file.body
        if each["type"] == "Observation":
            codes = {line["category"][0]["coding"][0]["code"] for line in lines}
            assert codes == {"laboratory"}
    assert (await gateway.fhir("DELETE", job, who="lab")).status == 202
    assert (await gateway.fhir("GET", job, who="lab")).status == 404

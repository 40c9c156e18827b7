"""What operations answer, beside the rows of the table: whole records, pages of them, outcomes and last results."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.attacks.table.play import check_no_marker, send
from tests.attacks.table.rows import ask
from tests.support.gateway import Reply, RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
SHIPPED = Path(__file__).parents[2] / "policies"
POLICY = """
policy: operations
version: 1
owner: tests
text: Operations.
status: enforce
rules:
  - rule: own-record
    effect: permit
    who: {context: patient}
    may: ["operation:Patient/$everything", "operation:Observation/$lastn", "operation:$docref", "operation:$validate"]
    resources: [Patient, Observation, DocumentReference]
    where: {compartment: {patient: "{token.patient}"}}
    conceal: true
    because: A person takes the own record along.
  - rule: own-notes
    effect: permit
    who: {context: patient}
    may: [create]
    resources: [Observation]
    where: {compartment: {patient: "{token.patient}"}}
    because: A person writes the own diary.
tests:
  - test: a stranger's record is not found
    as: {context: patient, patient: A}
    request: GET /Patient/B/$everything
    expect: {decision: deny, status: 404, upstream: none}
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("operations")
    policies = folder / "policies"
    policies.mkdir()
    for path in SHIPPED.glob("*.yaml"):
        (policies / path.name).write_text(path.read_text())
    (policies / "90-operations.yaml").write_text(POLICY)
    running = await start_gateway(folder, policies=policies)
    yield running
    await stop_gateway(running)


async def get(gateway: RunningGateway, place: str, who: str = "pA-r") -> Reply:
    gateway.upstream.reset()
    return await send(gateway, ask(f"GET {place}", who))


FOREIGN = {"resourceType": "Observation", "status": "final", "subject": {"reference": "Patient/B"}}


async def test_K190_everything_shows_the_own_record_and_nothing_of_its_neighbours(
    gateway: RunningGateway,
) -> None:
    reply = await get(gateway, "/Patient/A/$everything")
    shown = sorted(f"{e['resource']['resourceType']}/{e['resource']['id']}" for e in reply.json["entry"])
    assert shown == [
        "Observation/a-mh", "Observation/a-vitals", "Observation/a1", "Organization/h1", "Patient/A",
        "Practitioner/dr1", "Practitioner/dr2",
    ]  # fmt: skip
    assert "total" not in reply.json
    first, second = (str(request) for request in gateway.upstream.requests)
    assert first == "GET /fhir/Patient/A"
    assert second.startswith("GET /fhir/Patient/A/$everything?_type=AllergyIntolerance")
    assert "Coverage" not in second
    check_no_marker(reply)


async def test_K190_a_page_of_everything_is_sealed_and_decided_again(gateway: RunningGateway) -> None:
    gateway.upstream.reset()
    page = "/Patient/A/$everything"
    upstream = gateway.upstream
    original = upstream._bundle

    def paged(kind: str, found: list[Any], self_url: str | None = None) -> Any:
        answer = original(kind, found, self_url)
        value = json.loads(answer.body)
        value["link"] = [{"relation": "next", "url": f"{upstream.base}/Patient/A/$everything?_getpages=1"}]
        answer.body = json.dumps(value).encode()
        return answer

    upstream._bundle = paged  # type: ignore[method-assign]
    try:
        reply = await get(gateway, page)
        (link,) = [link["url"] for link in reply.json["link"] if link["relation"] == "next"]
        target = link.removeprefix(gateway.origin)
        assert "_getpages" not in link
        second = await get(gateway, target)
        assert second.status == 200
        assert [str(r) for r in upstream.requests] == [
            "GET /fhir/Patient/A", "GET /fhir/Patient/A/$everything?_getpages=1",
        ]  # fmt: skip
        check_no_marker(second)
        stranger = await get(gateway, target, "dr1")
        assert (stranger.status, upstream.requests) == (404, [])
    finally:
        del upstream._bundle  # type: ignore[method-assign]


async def test_K189_a_patient_whom_the_store_does_not_have_is_not_found_before_the_operation(
    gateway: RunningGateway,
) -> None:
    gateway.upstream.reset()
    token = await gateway.token("pA-r")
    del gateway.upstream.resources["Patient/A"]
    reply = await gateway.fhir("GET", "/Patient/A/$everything", token=token)
    assert (reply.status, reply.reason) == (404, "not-found")
    assert [str(request) for request in gateway.upstream.requests] == ["GET /fhir/Patient/A"]


async def test_K193_the_outcome_of_a_validation_tells_no_text_of_the_store(gateway: RunningGateway) -> None:
    body = json.dumps(FOREIGN | {"subject": {"reference": "Patient/A"}}).encode()
    gateway.upstream.reset()
    reply = await send(gateway, ask("POST /Observation/$validate", "pA-rw", body))
    assert reply.json == {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "warning", "code": "invariant", "expression": ["Observation.subject"]}],
    }
    check_no_marker(reply)


async def test_K196_lastn_reaches_the_store_narrowed_to_the_own_record(gateway: RunningGateway) -> None:
    reply = await get(gateway, "/Observation/$lastn?code=x&max=2")
    (asked,) = gateway.upstream.requests
    assert str(asked) == "GET /fhir/Observation/$lastn?code=x&subject=Patient%2FA&max=2"
    assert {e["resource"]["id"] for e in reply.json["entry"]} == {"a1", "a-vitals", "a-mh"}
    check_no_marker(reply)

"""X-Provenance (case 40): a second resource in a header is decided as one, or nothing of the write happens."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.attacks.test_bundles import JSON, bundle, observation
from tests.support.gateway import MOUNT, Reply, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.world import SECRET, world

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
POLICY = """
policy: provenance
version: 1
owner: tests
text: Who signs what is written.
status: enforce
rules:
  - rule: own-chart
    effect: permit
    who: {context: patient}
    may: [read, create, update, patch, delete]
    resources: [Observation]
    where: {compartment: {patient: "{token.patient}", membership: subject}}
    because: a patient keeps the own diary
  - rule: staff-writes
    effect: permit
    who: {context: user}
    may: [read, create, update, patch, delete]
    resources: [Observation, Provenance]
    shared: true
    because: and says who did
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("provenance")
    running = await start_gateway(folder, policies=policies_with(folder, "90-provenance.yaml", POLICY))
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()


def provenance(who: Any = "Practitioner/dr1", **more: Any) -> dict[str, Any]:
    agent = {"who": who if isinstance(who, dict) else {"reference": who}}
    return {"resourceType": "Provenance", "recorded": "2026-01-02T03:04:05Z", "agent": [agent]} | more


async def write(
    gateway: RunningGateway,
    method: str,
    path: str,
    body: Any,
    said: Any,
    *,
    who: str = "dr1",
    headers: tuple[tuple[str, str], ...] = (),
    media: tuple[str, str] = JSON,
) -> Reply:
    raw = json.dumps(body).encode()
    text = said if isinstance(said, str) else json.dumps(said)
    return await gateway.fhir(
        method, path, who=who, headers=[media, ("X-Provenance", text), *headers], body=raw
    )


async def test_a_write_and_its_provenance_are_one_transaction(gateway: RunningGateway) -> None:
    reply = await write(gateway, "POST", "/Observation", observation("B"), provenance())
    assert reply.status == 201, reply.raw
    assert reply.header("Location") == f"{gateway.origin}{MOUNT}/Observation/made-0/_history/1"
    assert reply.json["id"] == "made-0"
    (sent,) = gateway.upstream.requests
    assert "x-provenance" not in sent.headers
    first, second = json.loads(sent.body)["entry"]
    assert second["request"] == {"method": "POST", "url": "Provenance"}
    assert second["resource"]["target"] == [{"reference": first["fullUrl"]}]
    assert gateway.upstream.resources["Provenance/made-1"]["target"] == [{"reference": "Observation/made-0"}]


async def test_updates_and_patches_bring_one_too(gateway: RunningGateway) -> None:
    said = provenance(target=[{"reference": "Observation/a1"}])
    reply = await write(gateway, "PUT", "/Observation/a1", observation(id="a1"), said)
    assert (reply.status, reply.header("ETag")) == (200, 'W/"2"'), reply.raw
    patch = [{"op": "replace", "path": "/status", "value": "amended"}]
    media = ("Content-Type", "application/json-patch+json")
    reply = await write(gateway, "PATCH", "/Observation/a1", patch, provenance(), media=media)
    assert reply.status == 200, reply.raw
    assert reply.json["status"] == "amended"
    assert gateway.upstream.resources["Provenance/made-1"]["target"] == [{"reference": "Observation/a1"}]


async def test_the_record_tells_of_both(gateway: RunningGateway) -> None:
    before = len(await gateway.audit())
    await write(gateway, "POST", "/Observation", observation("B"), provenance())
    records = [r for r in (await gateway.audit())[before:] if r["event"] == "access"]
    assert [(r.get("entry"), r["request"]["type"]) for r in records] == [
        (0, "Observation"),
        (1, "Provenance"),
        (None, "Observation"),
    ]


@pytest.mark.parametrize(
    ("who", "method", "path", "body", "said", "status", "reason"),
    [
        ("pA-rw", "POST", "/Observation", observation(), provenance("Patient/A"), 403, "no-permit"),
        ("dr1", "POST", "/Observation", observation(), provenance("Practitioner/dr2"), 403, "policy-denied"),
        ("dr1", "POST", "/Observation", observation(), provenance({"display": "dr1"}), 403, "policy-denied"),
        ("dr1", "POST", "/Observation", observation(),
         provenance({"reference": "Practitioner/dr1", "identifier": {"value": "dr2"}}), 403, "policy-denied"),
        ("dr1", "POST", "/Observation", observation(), {"resourceType": "Provenance"}, 403, "policy-denied"),
        ("dr1", "POST", "/Observation", observation(), provenance(target=[{"reference": "Observation/b1"}]), 403,
         "policy-denied"),
        ("dr1", "PUT", "/Observation/a1", observation(id="a1"), provenance(target=[{"reference": "Observation/b1"}]), 403,
         "policy-denied"),
        ("dr1", "POST", "/Observation", observation(), provenance(id="p1"), 400, "invalid-body"),
        ("dr1", "POST", "/Observation", observation(), observation(), 400, "invalid-body"),
        ("dr1", "POST", "/Observation", observation(), "{", 400, "invalid-body"),
        ("dr1", "POST", "/Observation", observation(), '{"resourceType":"Provenance","a":1,"a":2}', 400, "invalid-body"),
        ("dr1", "DELETE", "/Observation/a1", None, provenance(), 403, "interaction-closed"),
        ("dr1", "PUT", "/Observation?identifier=1", observation(), provenance(), 403, "interaction-closed"),
        ("dr1", "POST", "/", bundle("batch"), provenance(), 403, "interaction-closed"),
        ("pA-rw", "POST", "/Observation", observation("B"), provenance("Patient/A"), 403, "scope-insufficient"),
    ],
)  # fmt: skip
async def test_C40_what_may_not_be_said_is_not_written(
    gateway: RunningGateway, who: str, method: str, path: str, body: Any, said: Any, status: int, reason: str
) -> None:
    before = len(await gateway.audit())
    reply = await write(gateway, method, path, body, said, who=who)
    assert (reply.status, reply.reason) == (status, reason), reply.raw
    assert "expression" not in reply.json["issue"][0]
    assert gateway.upstream.requests == []
    assert gateway.upstream.resources == world()
    assert SECRET.encode() not in reply.raw
    (record,) = (await gateway.audit())[before:]
    assert (record["status"], record["reason"]) == (status, reason)


async def test_a_strangers_record_is_no_more_found_with_it_than_without(gateway: RunningGateway) -> None:
    reply = await write(gateway, "PUT", "/Observation/zz", observation(id="zz"), provenance())
    assert (reply.status, reply.reason) == (404, "not-found")
    assert [str(request) for request in gateway.upstream.requests] == ["GET /fhir/Observation/zz"]


async def test_with_a_read_it_means_nothing(gateway: RunningGateway) -> None:
    headers = [("X-Provenance", json.dumps(provenance("Patient/A")))]
    assert (await gateway.fhir("GET", "/Observation/a1", headers=headers)).status == 200
    (sent,) = gateway.upstream.requests
    assert "x-provenance" not in sent.headers

"""What operations and writes answer shows no more of a resource than a read of it: hidden, kept, rounded, denied elements.

The store answers with everything that it has, whole.
"""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.attacks.table.play import send
from tests.attacks.table.rows import ask
from tests.attacks.table.worlds import wide_world
from tests.support.gateway import RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]

POLICIES = """\
policy: views
version: 1
owner: o
status: enforce
text: The own record, in part.
rules:
  - rule: own-results
    effect: permit
    who: {context: patient}
    may: [read, search, create, update, patch, "operation:$lastn", "operation:$validate"]
    resources: [Observation]
    where: {compartment: {patient: "{token.patient}"}}
    return: {hide: [Observation.value, Observation.note], round_dates: {Observation.effective: year}}
    because: x
  - rule: own-documents
    effect: permit
    who: {context: patient}
    may: [read, search, "operation:$docref"]
    resources: [DocumentReference]
    where: {compartment: {patient: "{token.patient}"}}
    return: {only: [DocumentReference.status, DocumentReference.subject]}
    because: x
  - rule: own-person
    effect: permit
    who: {context: patient}
    may: [read, search, update, "operation:Patient/$everything"]
    resources: [Patient]
    where: {compartment: {patient: "{token.patient}"}}
    because: x
  - rule: no-labels
    effect: deny
    may: [any]
    resources: any
    fields: [meta.security, Patient.telecom]
    because: x
tests:
  - {test: t, as: {context: patient, patient: A}, request: GET /Patient/A, expect: {decision: permit}}
"""
HIDDEN = "hidden-text"
WHOLE: dict[str, Any] = {
    "resourceType": "Observation", "id": "a1", "status": "final", "subject": {"reference": "Patient/A"},
    "effectiveDateTime": "2025-07-14", "valueString": HIDDEN, "note": [{"text": HIDDEN}],
    "meta": {"security": [{"system": "urn:x", "code": HIDDEN}]},
}  # fmt: skip


def whole_world() -> dict[str, dict[str, Any]]:
    found = wide_world()
    found["Observation/a1"] = WHOLE
    found["Patient/A"] = found["Patient/A"] | {"telecom": [{"system": "phone", "value": HIDDEN}]}
    found["DocumentReference/a1"] = found["DocumentReference/a1"] | {"description": HIDDEN}
    return json.loads(json.dumps(found))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("views-of-other-ways")
    (folder / "policies").mkdir()
    (folder / "policies" / "views.yaml").write_text(POLICIES)
    running = await start_gateway(folder, policies=folder / "policies")
    running.upstream.made = whole_world
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()


async def read(gateway: RunningGateway, resource: Mapping[str, Any]) -> Any:
    reply = await send(gateway, ask(f"GET /{resource['resourceType']}/{resource['id']}", "pA-rw"))
    assert reply.status == 200, reply.raw
    assert HIDDEN not in reply.body.decode()
    return reply.json


@pytest.mark.parametrize(
    ("line", "body", "types"),
    [
        ("GET /Patient/A/$everything", None, {"Patient", "Observation", "DocumentReference"}),
        (
            "POST /Patient/A/$everything",
            {"resourceType": "Parameters"},
            {"Patient", "Observation", "DocumentReference"},
        ),
        ("GET /DocumentReference/$docref?patient=A", None, {"DocumentReference"}),
    ],
)
async def test_an_operation_shows_of_each_resource_what_a_read_shows(
    gateway: RunningGateway, line: str, body: Any, types: set[str]
) -> None:
    reply = await send(gateway, ask(line, "pA-rw", body))
    assert reply.status == 200, reply.raw
    assert HIDDEN not in reply.body.decode()
    shown = [entry["resource"] for entry in reply.json["entry"]]
    assert {each["resourceType"] for each in shown} == types
    for each in shown:
        assert each == await read(gateway, each)
    of_a1 = [
        each["effectiveDateTime"]
        for each in shown
        if (each["resourceType"], each["id"]) == ("Observation", "a1")
    ]
    assert of_a1 == ["2025"] * ("Observation" in types)


async def test_which_results_are_the_last_is_not_told_where_dates_are_rounded(
    gateway: RunningGateway,
) -> None:
    for line in (
        "GET /Observation/$lastn?patient=A&max=1",
        "GET /Observation?patient=A&_sort=-date&_count=1",
    ):
        reply = await send(gateway, ask(line, "pA-rw"))
        assert (reply.status, reply.reason) == (403, "unsupported-parameter")
    assert gateway.upstream.requests == []


@pytest.mark.parametrize("line", ["POST /Observation", "PUT /Observation/new"])
async def test_what_was_stored_is_shown_as_a_read_shows_it(gateway: RunningGateway, line: str) -> None:
    sent = WHOLE | {"id": "new"}
    reply = await send(gateway, ask(line, "pA-rw", sent, (("Prefer", "return=representation"),)))
    assert reply.status == 201, reply.raw
    assert HIDDEN.encode() in gateway.upstream.requests[-1].body
    assert HIDDEN not in reply.raw.decode()
    if line.startswith("POST"):  # of a new id this store tells nothing that could be shown
        return
    assert reply.json["effectiveDateTime"] == "2025"
    assert reply.json["meta"]["tag"][0]["code"] == "SUBSETTED"


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("PUT /Observation/a1", WHOLE | {"status": "amended"}),
        ("PATCH /Observation/a1", [{"op": "replace", "path": "/status", "value": "amended"}]),
        ("PATCH /Observation/a1", [{"op": "test", "path": "/valueString", "value": HIDDEN}]),
        ("PUT /Patient/A", {"resourceType": "Patient", "id": "A"}),
        ("POST /Observation/a1/$validate", WHOLE | {"status": "amended"}),
    ],
)
async def test_who_sees_a_part_changes_nothing_and_learns_nothing_by_trying(
    gateway: RunningGateway, line: str, body: Any
) -> None:
    reply = await send(gateway, ask(line, "pA-rw", body))
    assert reply.status == 403, reply.raw
    assert HIDDEN not in reply.raw.decode()
    assert {request.method for request in gateway.upstream.requests} == {"GET"}

"""Searches that name our own resources by address, as fhirUser and fullUrl do: the store is asked for its own names."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, unquote

import pytest
import pytest_asyncio

from tests.attacks.table.worlds import CALLERS, DEFINITIONS, POLICIES, wide_world
from tests.support.five import FORM, JSON
from tests.support.gateway import MOUNT, PRINCIPALS, RunningGateway, start_gateway, stop_gateway
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
BATCH = """\
policy: batch
version: 1
owner: tests
status: enforce
text: Bundles for staff.
rules:
  - rule: bundles
    effect: permit
    who: {context: user}
    may: [batch, transaction]
    resources: any
    shared: true
    because: x
tests:
  - {test: t, as: {context: patient, patient: A}, request: GET /Patient/B, expect: {decision: deny}}
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("own-references")
    (folder / "policies").mkdir()
    for name, text in (("0", DEFINITIONS), ("1", POLICIES["main"]), ("2", BATCH)):
        (folder / "policies" / f"{name}.yaml").write_text(text)
    PRINCIPALS.update(CALLERS)
    running = await start_gateway(folder, policies=folder / "policies")
    running.upstream.made = wide_world
    yield running
    await stop_gateway(running)


async def asked(gateway: RunningGateway, who: str, query: str, **more: Any) -> list[str]:
    """What the store was asked, in plain words; {us} is the address of the mount."""
    gateway.upstream.reset()
    query = query.replace("{us}", gateway.origin + MOUNT)
    reply = await gateway.fhir("GET", f"/{query}", who=who, **more)
    assert reply.status == 200, reply.raw
    if who == "pA-r":
        assert SECRET.encode() not in reply.raw
    return [unquote(str(each)).replace("/fhir/", "/", 1) for each in gateway.upstream.requests]


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ("Observation?subject={us}/Patient/A", "Observation?subject=Patient/A"),
        ("Observation?subject={us}/Patient/A,Patient/B", "Observation?subject=Patient/A,Patient/B"),
        ("Observation?subject:Patient={us}/Patient/A", "Observation?subject:Patient=A"),
        ("Observation?subject:Group={us}/Patient/A", "Observation?subject:Group={us}/Patient/A"),
        ("Observation?performer={us}/Practitioner/dr1", "Observation?performer=Practitioner/dr1"),
        ("Observation?performer={us}/Practitioner/dr1/_history/2", "Observation?performer=Practitioner/dr1/_history/2"),
        ("Observation?performer=https://else.example/Practitioner/1", "Observation?performer=https://else.example/Practitioner/1"),
        ("Observation?performer={us}x/Practitioner/1", "Observation?performer={us}x/Practitioner/1"),
        ("Observation?performer:identifier={us}/Practitioner/1", "Observation?performer:identifier={us}/Practitioner/1"),
        ("Observation?code={us}/Practitioner/1|x", "Observation?code={us}/Practitioner/1|x"),
        ("Observation?value-string={us}/Practitioner/1", "Observation?value-string={us}/Practitioner/1"),
        ("Observation?encounter.participant={us}/Practitioner/dr1",
         "Observation?encounter:Encounter.participant=Practitioner/dr1"),
        ("Patient?_has:Observation:patient:performer={us}/Practitioner/dr1",
         "Patient?_has:Observation:patient:performer=Practitioner/dr1"),
    ],
)  # fmt: skip
async def test_an_address_of_ours_is_asked_for_as_the_store_has_it(
    gateway: RunningGateway, query: str, sent: str
) -> None:
    us = gateway.origin + MOUNT
    assert await asked(gateway, "dr1", query) == [f"GET /{sent.replace('{us}', us)}"]


async def test_of_a_patient_by_address_the_store_hears_what_it_hears_by_id(gateway: RunningGateway) -> None:
    own = await asked(gateway, "pA-r", "Observation?patient={us}/Patient/A")
    assert own == ["GET /Observation?patient=Patient/A&subject=Patient/A"]
    assert await asked(gateway, "pA-r", "Observation?patient={us}/Patient/B") == []


async def test_in_a_form_and_in_an_entry_of_a_bundle_as_well(gateway: RunningGateway) -> None:
    place = f"{gateway.origin}{MOUNT}/Practitioner/dr1"
    body = f"performer={quote(place, safe='')}".encode()
    gateway.upstream.reset()
    await gateway.fhir("POST", "/Observation/_search", who="dr1", headers=[FORM], body=body)
    assert unquote(gateway.upstream.requests[-1].body.decode()) == "performer=Practitioner/dr1"
    entry = {"request": {"method": "GET", "url": f"Observation?performer={place}"}}
    content = json.dumps({"resourceType": "Bundle", "type": "batch", "entry": [entry]}).encode()
    gateway.upstream.reset()
    reply = await gateway.fhir("POST", "/", who="dr1", headers=[JSON], body=content)
    assert reply.status == 200, reply.raw
    assert unquote(str(gateway.upstream.requests[-1])) == "GET /fhir/Observation?performer=Practitioner/dr1"

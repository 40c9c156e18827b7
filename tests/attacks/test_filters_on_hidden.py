"""Attacks that learn hidden values by the filter of a scope, which the app chooses (cases 69, 246, 281).

Two resources that differ in nothing but what is hidden must be answered alike, whatever the filter says.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.five import JSON, attack, shown
from tests.support.gateway import RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]

POLICIES = """\
policy: views
version: 1
owner: o
status: enforce
text: The own record without values, vital signs with them, nothing with labels.
rules:
  - rule: own-record
    effect: permit
    who: {context: patient}
    may: [read, vread, history-instance, search, create]
    resources: [Observation, Patient]
    where: {compartment: {patient: "{token.patient}"}}
    return: {hide: [Observation.status, Observation.value, Patient.birthDate]}
    because: x
  - rule: own-vital-signs
    effect: permit
    who: {context: patient}
    may: [read, search]
    resources: [Observation]
    where: {compartment: {patient: "{token.patient}"}, match: {Observation: "Observation?category=vital-signs"}}
    because: x
  - rule: whole-record
    effect: permit
    who: {context: patient}
    may: ["operation:Patient/$everything"]
    resources: [Patient]
    where: {compartment: {patient: "{token.patient}"}}
    because: x
  - rule: no-notes
    effect: deny
    may: [any]
    resources: any
    fields: [meta.security, Observation.note]
    because: x
tests:
  - {test: t, as: {context: patient, patient: A}, request: GET /Patient/A, expect: {decision: permit}}
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("filters")
    (folder / "policies").mkdir()
    (folder / "policies" / "views.yaml").write_text(POLICIES)
    running = await start_gateway(folder, policies=folder / "policies")
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()


PATHS = (
    "/Observation/a1", "/Observation/a1/_history/1", "/Observation/a1/_history", "/Observation", "/Observation?code=4548-4",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_281_a_scope_filter_on_a_hidden_value_answers_alike_whether_it_matches(
    gateway: RunningGateway, path: str
) -> None:
    told = set()
    for value in ("final", "amended", "final,amended"):
        scope = f"patient/Observation.rs?status={value}"
        reply = await attack(gateway, "GET", path, token=await gateway.token(scope=scope))
        told.add((reply.status, reply.reason, "a1" in str(reply.body)))
    assert told in ({(403, "scope-insufficient", False)}, {(404, "not-found", False)}, {(200, None, False)})
    twin = await attack(
        gateway, "GET", path, token=await gateway.token(scope="patient/Observation.rs?category=laboratory")
    )
    assert twin.status == 200
    assert b"a1" in twin.body


async def test_281_what_is_shown_whole_may_be_filtered_by_what_another_permit_hides(
    gateway: RunningGateway,
) -> None:
    token = await gateway.token(scope="patient/Observation.rs?status=final")
    assert shown(await attack(gateway, "GET", "/Observation", token=token)) == {"Observation/a-vitals"}
    below = await gateway.token(scope="patient/Observation.rs?status=amended")
    assert shown(await attack(gateway, "GET", "/Observation", token=below)) == set()


async def test_281_a_second_scope_opens_what_the_blind_one_does_not(gateway: RunningGateway) -> None:
    scope = "patient/Observation.rs?status=final patient/Observation.rs?category=laboratory"
    reply = await attack(gateway, "GET", "/Observation", token=await gateway.token(scope=scope))
    assert shown(reply) == {"Observation/a1", "Observation/a-vitals"}


@pytest.mark.parametrize("query", ["birthdate=lt1980", "birthdate=ge1980"])
async def test_69_a_filter_that_every_permit_is_blind_to_opens_nothing_and_asks_nobody(
    gateway: RunningGateway, query: str
) -> None:
    token = await gateway.token(scope=f"patient/Patient.rs?{query}")
    for path in ("/Patient/A", "/Patient", "/Patient?_id=A"):
        reply = await attack(gateway, "GET", path, token=token, sent=[])
        assert (reply.status, reply.reason) == (403, "scope-insufficient")
    twin = await gateway.token(scope="patient/Patient.rs?name=Own")
    assert (await attack(gateway, "GET", "/Patient/A", token=twin)).status == 200


async def test_246_everything_shows_no_more_than_reads_do(gateway: RunningGateway) -> None:
    reply = await attack(gateway, "GET", "/Patient/A/$everything")
    assert shown(reply) >= {"Patient/A", "Observation/a1", "Observation/a-mh"}
    assert b"PSY" not in reply.raw
    assert b'"security"' not in reply.raw
    by_id = {entry["resource"]["id"]: entry["resource"] for entry in reply.json["entry"]}
    assert "valueQuantity" not in by_id["a1"]


async def test_246_the_answer_to_a_write_shows_no_more_than_a_read_does(gateway: RunningGateway) -> None:
    body = (
        b'{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/A"},'
        b'"valueString":"hidden","note":[{"text":"taken"}]}'
    )
    stored = body.replace(b'"status"', b'"id":"new","meta":{"security":[{"code":"PSY"}]},"status"')

    async def stores(request: web.BaseRequest) -> web.StreamResponse:
        place = f"{gateway.upstream.base}/Observation/new/_history/1"
        return web.Response(status=201, body=stored, headers={"Content-Type": JSON[1], "Location": place})

    gateway.upstream.answer = stores
    reply = await attack(gateway, "POST", "/Observation", who="pA-rw", headers=[JSON], body=body)
    assert reply.status == 201
    assert reply.json["id"] == "new"
    for hidden in (b"hidden", b"taken", b"PSY", b'"security"'):
        assert hidden not in reply.raw


async def test_336_searches_that_leave_entries_to_the_judge_are_counted(gateway: RunningGateway) -> None:
    counted = gateway.gateway.metrics.criteria_not_pushed_down.labels("fhir")
    before = counted.value
    await attack(gateway, "GET", "/Patient")  # one way in, said whole in the search
    assert counted.value == before
    await attack(gateway, "GET", "/Observation")  # two ways in
    assert counted.value == before + 1

"""A create is judged before the store hears of it, and what comes back tells no more than the caller may read."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.gateway import MOUNT, Reply, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
JSON = ("Content-Type", "application/fhir+json")
POLICY = """
policy: storing
version: 1
owner: tests
text: What may be stored.
status: enforce
rules:
  - rule: own-notes
    effect: permit
    who: {context: patient}
    may: [create]
    resources: [Observation, Patient]
    where: {compartment: {patient: "{token.patient}", membership: subject}}
    because: a patient writes the own diary
  - rule: own-results
    effect: permit
    who: {context: patient}
    may: [read]
    resources: [Observation]
    where: {match: {Observation: "Observation?status=final"}, compartment: {patient: "{token.patient}"}}
    because: a patient reads what is final
  - rule: scans
    effect: permit
    who: {context: system}
    may: [create]
    resources: [Binary]
    shared: true
    because: the scanner files scans
tests:
  - test: a stranger's diary is closed
    as: {context: patient, patient: A}
    request: POST /Observation
    body: {resourceType: Observation, subject: {reference: Patient/B}}
    expect: {decision: deny, status: 403, upstream: none}
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("creates")
    running = await start_gateway(folder, policies=policies_with(folder, "90-storing.yaml", POLICY))
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()


def note(patient: str = "A", **more: Any) -> dict[str, Any]:
    subject = {"reference": f"Patient/{patient}"}
    return {"resourceType": "Observation", "status": "final", "subject": subject} | more


def stores(gateway: RunningGateway, stored: dict[str, Any], location: str | None = None) -> list[Any]:
    """Let the store accept creates; what it got."""
    got: list[Any] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        got.append(({n.lower(): v for n, v in request.headers.items()}, await request.read()))
        headers = {"Content-Type": "application/fhir+json", "ETag": 'W/"1"'}
        headers["Location"] = location or f"{gateway.upstream.base}/{stored['resourceType']}/new/_history/1"
        return web.Response(status=201, body=json.dumps(stored).encode(), headers=headers)

    gateway.upstream.answer = answer
    return got


async def create(
    gateway: RunningGateway,
    body: dict[str, Any] | bytes,
    *,
    who: str = "pA-rw",
    path: str = "/Observation",
    headers: tuple[tuple[str, str], ...] = (),
    content_type: tuple[str, str] = JSON,
) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await gateway.fhir("POST", path, who=who, headers=[content_type, *headers], body=raw)


async def test_what_may_be_stored_is_stored_byte_for_byte(gateway: RunningGateway) -> None:
    body = b'{"resourceType":"Observation", "status":"final","subject":{"reference":"Patient/A"},'
    body += b'"valueQuantity":{"value":1.50}}'
    got = stores(gateway, note() | {"id": "new"})
    reply = await create(gateway, body)
    assert reply.status == 201
    assert got[0][1] == body
    assert reply.header("Location") == f"{gateway.origin}{MOUNT}/Observation/new/_history/1"
    assert reply.header("ETag") == 'W/"1"'
    assert reply.json["id"] == "new"


async def test_a_write_is_on_record_before_the_store_hears_of_it(gateway: RunningGateway) -> None:
    stores(gateway, note() | {"id": "new"})
    await create(gateway, note())
    begun, done = (await gateway.audit())[-2:]
    assert (begun["event"], begun["interaction"], begun["upstream"]) == (
        "write-begins",
        "create",
        ["POST Observation"],
    )
    assert (done["event"], done["status"], done["interaction_id"]) == (
        "access",
        201,
        begun["interaction_id"],
    )


@pytest.mark.parametrize(
    "body",
    [
        note("B"),
        note("A", subject={"reference": "Patient/B"}, performer=[{"reference": "Patient/A"}]),
        note("A", subject={"display": "A"}),
        note("A", subject={"reference": "https://other.example/fhir/Patient/A"}),
        {"resourceType": "Observation", "status": "final"},
    ],
)
async def test_what_is_not_of_the_own_record_is_refused_and_nobody_is_asked(
    gateway: RunningGateway, body: dict[str, Any]
) -> None:
    got = stores(gateway, note() | {"id": "new"})
    reply = await create(gateway, body)
    assert (reply.status, got) == (403, [])


async def test_an_id_that_was_sent_makes_nobody_the_owner(gateway: RunningGateway) -> None:
    got = stores(gateway, {"resourceType": "Patient", "id": "new"})
    reply = await create(gateway, {"resourceType": "Patient", "id": "A"}, path="/Patient")
    assert (reply.status, got) == (403, [])


async def test_an_id_that_was_sent_is_not_passed_on(gateway: RunningGateway) -> None:
    got = stores(gateway, note() | {"id": "new"})
    assert (await create(gateway, note(id="chosen"))).status == 201
    assert "id" not in json.loads(got[0][1])


async def test_a_reference_to_our_own_public_address_is_stored_as_a_relative_one(
    gateway: RunningGateway,
) -> None:
    got = stores(gateway, note() | {"id": "new"})
    body = note(subject={"reference": f"{gateway.origin}{MOUNT}/Patient/A"})
    assert (await create(gateway, body)).status == 201
    assert json.loads(got[0][1])["subject"] == {"reference": "Patient/A"}


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b'{"resourceType":"Observation","resourceType":"Patient"}', 400, "invalid-body"),
        (b'{"resourceType":"Patient"}', 400, "invalid-body"),
        (b"[]", 400, "invalid-body"),
        (b"\xef\xbb\xbf{}", 400, "invalid-body"),
        (b"", 400, "invalid-body"),
    ],
)
async def test_a_body_without_one_reading_is_refused(
    gateway: RunningGateway, body: bytes, status: int, reason: str
) -> None:
    got = stores(gateway, note())
    reply = await create(gateway, body)
    assert (reply.status, reply.reason, got) == (status, reason, [])


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (("If-None-Exist", "identifier=1"), 403),
        (("Content-Encoding", "gzip"), 400),
        (("X-Security-Context", "Patient/B"), 403),
    ],
)
async def test_headers_that_change_what_a_create_means_are_refused(
    gateway: RunningGateway, header: tuple[str, str], status: int
) -> None:
    got = stores(gateway, note())
    assert ((await create(gateway, note(), headers=(header,))).status, got) == (status, [])


async def test_C53_a_compressed_body_is_judged_and_stored_as_what_it_says(gateway: RunningGateway) -> None:
    got = stores(gateway, note())
    coding = ("Content-Encoding", "gzip")
    assert (
        await create(gateway, gzip.compress(json.dumps(note()).encode()), headers=(coding,))
    ).status == 201
    assert len(got) == 1
    assert "content-encoding" not in gateway.upstream.requests[-1].headers
    foreign = gzip.compress(json.dumps(note("B")).encode())
    assert (await create(gateway, foreign, headers=(coding,))).status == 403
    assert len(got) == 1


@pytest.mark.parametrize(
    "media", ["application/fhir+xml", "text/xml", "application/json; charset=utf-16", ""]
)
async def test_a_body_that_cannot_be_judged_is_415(gateway: RunningGateway, media: str) -> None:
    got = stores(gateway, note())
    reply = await create(gateway, note(), content_type=("Content-Type", media))
    assert (reply.status, got) == (415, [])


async def test_what_was_stored_is_shown_by_the_right_to_read_only(gateway: RunningGateway) -> None:
    stores(gateway, note(status="preliminary", note=[{"text": SECRET}]) | {"id": "new"})
    reply = await create(gateway, note(status="preliminary"))
    assert (reply.status, reply.body) == (201, b"")
    assert SECRET.encode() not in reply.raw


async def test_a_foreign_record_in_the_stores_answer_stays_back(gateway: RunningGateway) -> None:
    stores(gateway, note("B", note=[{"text": SECRET}]) | {"id": "new"})
    reply = await create(gateway, note())
    assert (reply.status, reply.body) == (201, b"")


@pytest.mark.parametrize(
    "location",
    [
        "http://other.example/fhir/Observation/1",
        "/Patient/B",
        "Observation/1?x=y",
        "Observation/../Patient/B",
    ],
)
async def test_a_location_that_is_no_new_resource_of_this_type_stays_back(
    gateway: RunningGateway, location: str
) -> None:
    stores(gateway, note() | {"id": "new"}, location)
    reply = await create(gateway, note())
    assert (reply.status, reply.header("Location"), reply.body) == (201, None, b"")


async def test_minimal_is_asked_of_the_store_when_the_caller_wants_it(gateway: RunningGateway) -> None:
    got = stores(gateway, note() | {"id": "new"})
    await create(gateway, note(), headers=(("Prefer", "return=minimal"),))
    assert got[0][0]["prefer"] == "return=minimal, handling=strict"


async def test_the_stores_refusal_becomes_ours_without_its_text(gateway: RunningGateway) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        outcome = {"resourceType": "OperationOutcome", "issue": [{"diagnostics": SECRET}]}
        return web.json_response(outcome, status=422)

    gateway.upstream.answer = answer
    reply = await create(gateway, note())
    assert (reply.status, reply.reason) == (422, "upstream-refused")
    assert SECRET.encode() not in reply.raw


async def test_native_bytes_pass_where_no_condition_looks_at_them(gateway: RunningGateway) -> None:
    content = bytes(range(256)) * 1000
    got = stores(gateway, {"resourceType": "Binary", "id": "new"})
    token = await gateway.token("lab", scope="system/Binary.c")
    reply = await gateway.fhir(
        "POST", "/Binary", token=token, headers=[("Content-Type", "application/pdf")], body=content
    )
    assert (reply.status, reply.body) == (201, b"")
    assert reply.header("Location") == f"{gateway.origin}{MOUNT}/Binary/new/_history/1"
    assert (got[0][0]["content-type"], got[0][1]) == ("application/pdf", content)


async def test_native_bytes_are_refused_where_a_scope_has_a_condition(gateway: RunningGateway) -> None:
    got = stores(gateway, {"resourceType": "Binary", "id": "new"})
    token = await gateway.token("lab", scope="system/Binary.c?_id=x")
    reply = await gateway.fhir(
        "POST", "/Binary", token=token, headers=[("Content-Type", "application/pdf")], body=b"%PDF"
    )
    assert (reply.status, got) == (403, [])


async def test_without_the_letter_c_nothing_is_stored(gateway: RunningGateway) -> None:
    got = stores(gateway, note())
    reply = await create(gateway, note(), who="pA-r")
    assert (reply.status, reply.reason, got) == (403, "scope-insufficient", [])

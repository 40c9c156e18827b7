"""Conditional writes: the gateway finds the one resource that the caller could find, and the store is never asked to."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.gateway import MOUNT, Reply, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.world import SECRET, world

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
POLICY = """
policy: finding
version: 1
owner: tests
text: By what a resource may be found.
status: enforce
rules:
  - rule: own-diary
    effect: permit
    who: {context: patient}
    may: [create, update, patch, delete]
    resources: [Observation]
    where: {compartment: {patient: "{token.patient}", membership: subject}}
    conditional: {keys: [identifier], system: urn:mrn}
    because: a patient keeps the own diary
  - rule: own-chart
    effect: permit
    who: {context: patient}
    may: [read, search]
    resources: [Observation]
    where: {compartment: {patient: "{token.patient}", membership: subject}}
    because: a patient reads the own chart
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("conditional")
    running = await start_gateway(folder, policies=policies_with(folder, "90-finding.yaml", POLICY))
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()
    held = gateway.upstream.resources
    held["Observation/a1"] |= {"identifier": [{"system": "urn:mrn", "value": "one"}]}
    for id_ in ("a-vitals", "a-mh"):
        held[f"Observation/{id_}"] |= {"identifier": [{"system": "urn:mrn", "value": "two"}]}


def observation(patient: str = "A", **more: Any) -> dict[str, Any]:
    subject = {"reference": f"Patient/{patient}"}
    return {"resourceType": "Observation", "status": "amended", "subject": subject} | more


AMEND = [{"op": "replace", "path": "/status", "value": "amended"}]


async def write(
    gateway: RunningGateway,
    method: str,
    criteria: str,
    body: Any = None,
    *,
    scope: str = "patient/*.cruds",
    headers: tuple[tuple[str, str], ...] = (),
) -> Reply:
    raw = b"" if body is None else json.dumps(body).encode()
    media = "application/json-patch+json" if method == "PATCH" else "application/fhir+json"
    sent = [*headers, *([("Content-Type", media)] if raw else [])]
    path = f"/Observation?{criteria}"
    if method == "POST":
        path = "/Observation"
        sent.append(("If-None-Exist", criteria))
    token = await gateway.token("pA-rw", scope=scope)
    return await gateway.fhir(method, path, token=token, headers=sent, body=raw)


def sent(gateway: RunningGateway) -> list[str]:
    return [str(request).partition("&")[0] for request in gateway.upstream.requests]


SEARCH = "GET /fhir/Observation?identifier=urn%3Amrn%7C"


@pytest.mark.parametrize(
    ("method", "body"), [("PUT", observation()), ("PATCH", AMEND), ("DELETE", None)], ids=["PUT", "PATCH", "DELETE"]
)  # fmt: skip
async def test_what_is_found_is_written_to_by_its_id(gateway: RunningGateway, method: str, body: Any) -> None:
    reply = await write(gateway, method, "identifier=urn:mrn|one", body)
    assert reply.status in (200, 204), reply.raw[:300]
    last = "DELETE" if method == "DELETE" else "PUT"
    assert sent(gateway) == [f"{SEARCH}one", "GET /fhir/Observation/a1", f"{last} /fhir/Observation/a1"]
    assert gateway.upstream.requests[-1].headers["if-match"] == 'W/"1"'
    assert "subject=" in gateway.upstream.requests[0].target  # narrowed, as any search
    for request in gateway.upstream.requests[:2]:  # as it is now, not as a minute ago
        assert request.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("links", [7, True, "next", {"relation": "next"}])
async def test_links_of_the_store_that_are_no_list_are_none(gateway: RunningGateway, links: Any) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        found = {"resourceType": "Bundle", "type": "searchset", "link": links, "entry": []}
        return web.json_response(found, content_type="application/fhir+json")

    gateway.upstream.answer = answer
    reply = await write(gateway, "DELETE", "identifier=urn:mrn|one")
    assert (reply.status, reply.reason) == (404, "not-found")


async def test_H142_a_conditional_create_that_finds_one_makes_nothing(gateway: RunningGateway) -> None:
    reply = await write(gateway, "POST", "identifier=urn:mrn|one", observation())
    assert (reply.status, reply.json["id"]) == (200, "a1")
    assert reply.header("Location") == f"{gateway.origin}{MOUNT}/Observation/a1"
    assert sent(gateway) == [f"{SEARCH}one"]


def creates(gateway: RunningGateway) -> list[str]:
    """Let the store make what it is sent; the methods and targets that it saw."""
    seen: list[str] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(f"{request.method} {request.path}")
        assert "If-None-Exist" not in request.headers
        if request.method == "POST":
            stored = json.loads(await request.read()) | {"id": "new", "meta": {"versionId": "1"}}
            location = {"Location": f"{gateway.upstream.base}/Observation/new/_history/1"}
            kind = {"Content-Type": "application/fhir+json"}
            return web.Response(status=201, body=json.dumps(stored).encode(), headers=location | kind)
        entries = [{"resource": r} for key, r in world().items() if key.startswith("Observation/")]
        bundle = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
        return web.json_response(bundle, content_type="application/fhir+json")

    gateway.upstream.answer = answer
    return seen


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("value", ["SECRET-B", "nobody-has-it"])
async def test_H141_a_strangers_match_is_no_match_and_no_oracle(
    gateway: RunningGateway, method: str, value: str
) -> None:
    seen = creates(gateway)
    reply = await write(gateway, method, f"identifier=urn:mrn|{value}", observation())
    assert (reply.status, reply.json["id"]) == (201, "new")
    assert seen == ["GET /fhir/Observation", "POST /fhir/Observation"]
    assert SECRET.encode() not in reply.raw


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_H145_a_strangers_resource_is_not_found(gateway: RunningGateway, method: str) -> None:
    answers = []
    for value in ("SECRET-B", "nobody-has-it"):
        reply = await write(gateway, method, f"identifier=urn:mrn|{value}", AMEND)
        assert (reply.status, reply.reason) == (404, "not-found")
        answers.append(reply.body)
    assert answers[0] == answers[1]
    assert {request.method for request in gateway.upstream.requests} == {"GET"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_many_matches_are_412_and_nothing_is_written(gateway: RunningGateway, method: str) -> None:
    body = AMEND if method == "PATCH" else observation()
    reply = await write(gateway, method, "identifier=urn:mrn|two", body)
    assert (reply.status, reply.reason) == (412, "multiple-matches")
    assert sent(gateway) == [f"{SEARCH}two"]


@pytest.mark.parametrize(
    ("criteria", "status"),
    [
        ("status=final", 403),
        ("identifier=one", 403),
        ("identifier=urn:other|one", 403),
        ("identifier=urn:mrn|one,urn:mrn|SECRET-B", 403),
        ("identifier:not=urn:mrn|one", 403),
        ("identifier=urn:mrn|one&subject=Patient/A,Patient/B", 403),
        ("nonsense=1", 400),
        ("_count=1", 400),
        ("", 400),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_H145_criteria_that_no_rule_names_are_refused_and_nobody_is_asked(
    gateway: RunningGateway, method: str, criteria: str, status: int
) -> None:
    reply = await write(gateway, method, criteria, AMEND if method == "PATCH" else observation())
    assert reply.status == status, reply.raw[:300]
    assert gateway.upstream.requests == []


@pytest.mark.parametrize(
    ("method", "scope"),
    [
        ("PUT", "patient/*.ru"),
        ("PUT", "patient/*.rs"),
        ("DELETE", "patient/*.rd"),
        ("PATCH", "patient/*.ru"),
        ("POST", "patient/*.c"),
    ],
)
async def test_a_conditional_write_needs_the_letters_of_the_write_and_of_the_search(
    gateway: RunningGateway, method: str, scope: str
) -> None:
    reply = await write(gateway, method, "identifier=urn:mrn|one", AMEND, scope=scope)
    assert (reply.status, reply.reason) == (403, "scope-insufficient")
    assert gateway.upstream.requests == []


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (observation(id="b1"), (), "invalid-body"),
        (observation("B"), (), "scope-insufficient"),
        (observation(), (("If-Match", 'W/"7"'),), "version-conflict"),
    ],
)
async def test_H140_the_body_is_judged_as_by_id(
    gateway: RunningGateway, body: Any, headers: tuple[tuple[str, str], ...], reason: str
) -> None:
    reply = await write(gateway, "PUT", "identifier=urn:mrn|one", body, headers=headers)
    assert reply.reason == reason
    assert {request.method for request in gateway.upstream.requests} == {"GET"}


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [(observation(id="b1"), (), "invalid-body"), (observation(), (("If-Match", 'W/"1"'),), "not-found")],
)
async def test_an_update_that_finds_nothing_chooses_no_id_and_no_version(
    gateway: RunningGateway, body: Any, headers: tuple[tuple[str, str], ...], reason: str
) -> None:
    reply = await write(gateway, "PUT", "identifier=urn:mrn|nobody", body, headers=headers)
    assert reply.reason == reason
    assert {request.method for request in gateway.upstream.requests} == {"GET"}


async def test_what_changed_between_finding_and_writing_is_not_written(gateway: RunningGateway) -> None:
    held = gateway.upstream.resources["Observation/a1"]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        gateway.upstream.answer = None
        gateway.upstream.resources["Observation/a1"] = held | {"meta": {"versionId": "2"}, "identifier": []}
        bundle = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": held}]}
        return web.json_response(bundle, content_type="application/fhir+json")

    gateway.upstream.answer = answer
    reply = await write(gateway, "DELETE", "identifier=urn:mrn|one")
    assert (reply.status, reply.reason) == (412, "version-conflict")
    assert "Observation/a1" in gateway.upstream.resources


async def test_a_further_page_may_hold_a_second_match(gateway: RunningGateway) -> None:
    held = gateway.upstream.resources["Observation/a1"]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        link = [{"relation": "next", "url": f"{gateway.upstream.base}?_getpages=x"}]
        bundle = {"resourceType": "Bundle", "type": "searchset", "link": link, "entry": [{"resource": held}]}
        return web.json_response(bundle, content_type="application/fhir+json")

    gateway.upstream.answer = answer
    reply = await write(gateway, "DELETE", "identifier=urn:mrn|one")
    assert (reply.status, reply.reason) == (412, "multiple-matches")


async def test_where_no_rule_says_conditional_it_is_closed(gateway: RunningGateway, tmp_path: Path) -> None:
    running = await start_gateway(tmp_path)
    try:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            reply = await write(running, method, "identifier=urn:mrn|one", observation())
            assert (reply.status, reply.reason) == (403, "no-permit")
            assert running.upstream.requests == []
    finally:
        await stop_gateway(running)

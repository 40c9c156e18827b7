"""Cases 320 to 322, 326 and 329: which policies hold, what of them is told, and no access without a record."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.audit.log import AuditUnavailable
from tests.attacks.table.play import check_no_marker
from tests.attacks.table.worlds import DEFINITIONS, POLICIES
from tests.support.gateway import RunningGateway, policies_with, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
CLOSED = """\
policy: closed
version: 1
owner: tests
status: enforce
text: Nothing is open any more.
rules:
  - {rule: nothing, effect: deny, may: [any], resources: any, conceal: true, because: Closed.}
tests:
  - {test: t, as: {context: patient, patient: A}, request: GET /Patient/A, expect: {decision: deny}}
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("in-force")
    policies = folder / "policies"
    policies.mkdir()
    (policies / "00-definitions.yaml").write_text(DEFINITIONS)
    (policies / "main.yaml").write_text(POLICIES["main"])
    running = await start_gateway(folder, policies=policies)
    yield running
    await stop_gateway(running)


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def fresh(gateway: RunningGateway) -> AsyncIterator[None]:
    gateway.upstream.reset()
    yield
    for path in (gateway.folder / "policies").glob("9*.yaml"):
        path.unlink()
    await gateway.gateway.reload()


async def test_T320_an_answer_goes_on_by_the_policies_that_it_began_with(gateway: RunningGateway) -> None:
    store = gateway.upstream
    hashes = [gateway.gateway.engines.engine]

    async def reload_in_the_middle(request: web.BaseRequest) -> web.StreamResponse:
        (gateway.folder / "policies" / "90-closed.yaml").write_text(CLOSED)
        await gateway.gateway.reload()
        hashes.append(gateway.gateway.engines.engine)
        link = [{"relation": "self", "url": f"{store.base}/Observation?{request.query_string}"}]
        own = {"resource": store.resources["Observation/a1"]}
        bundle = {"resourceType": "Bundle", "type": "searchset", "link": link, "entry": [own]}
        return web.Response(body=json.dumps(bundle), content_type="application/fhir+json")

    store.answer = reload_in_the_middle
    reply = await gateway.fhir("GET", "/Observation?code=x")
    assert [entry["resource"]["id"] for entry in reply.json["entry"]] == ["a1"]
    older, newer = hashes
    assert older is not None
    assert newer is not None
    assert older.policy_hash != newer.policy_hash
    assert (await gateway.audit())[-1]["policies"] == older.policy_hash
    store.answer = None
    assert (await gateway.fhir("GET", "/Observation?code=x")).reason == "not-found"


@pytest.mark.parametrize(
    "broken", ["policy: [", "policy: x\nrules: 7\n", CLOSED.replace("resources: any", "resources: [Patien]")]
)
async def test_T321_one_broken_file_of_many_changes_nothing(gateway: RunningGateway, broken: str) -> None:
    before = gateway.gateway.engines.engine
    for number in range(11):
        (gateway.folder / "policies" / f"9{number:02}-closed.yaml").write_text(
            CLOSED.replace("rule: nothing", f"rule: nothing-{number}").replace(
                "policy: closed", f"policy: closed-{number}"
            )
        )
    (gateway.folder / "policies" / "999-broken.yaml").write_text(broken)
    await gateway.gateway.reload()
    assert gateway.gateway.engines.engine is before
    assert (await gateway.fhir("GET", "/Patient/A")).status == 200
    (gateway.folder / "policies" / "999-broken.yaml").unlink()
    await gateway.gateway.reload()
    assert gateway.gateway.engines.engine is not before
    assert (await gateway.fhir("GET", "/Patient/A")).status == 404


async def test_T322_without_policies_nobody_sees_anything(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    running = await start_gateway(tmp_path, policies=empty)
    try:
        for who in ("pA-r", "dr1", "lab"):
            reply = await running.fhir("GET", "/Patient/A", who=who)
            assert (reply.status, reply.reason) == (503, "policy-unavailable")
        assert running.upstream.requests == []
    finally:
        await stop_gateway(running)


async def test_T322_a_folder_that_became_empty_leaves_nothing_open(tmp_path: Path) -> None:
    policies = policies_with(tmp_path, "main.yaml", POLICIES["main"].replace("$special-care", "[x]"))
    (policies / "00-definitions.yaml").write_text(DEFINITIONS)
    running = await start_gateway(tmp_path, policies=policies)
    try:
        assert (await running.fhir("GET", "/Patient/A")).status == 200
        for path in policies.glob("*.yaml"):
            path.unlink()
        await running.gateway.reload()
        assert (await running.fhir("GET", "/Patient/B")).status in (403, 503)
        assert not any("Patient/B" in str(request) for request in running.upstream.requests)
    finally:
        await stop_gateway(running)


@pytest.mark.parametrize("header", ["X-Explain", "X-Dry-Run", "X-Debug", "Prefer"])
async def test_T326_who_asks_why_learns_a_code_and_no_rule(gateway: RunningGateway, header: str) -> None:
    reply = await gateway.fhir("GET", "/Task/b", headers=[(header, "explain")])
    assert (reply.status, reply.reason) == (403, "no-permit")
    for name in ("own-record", "staff-sees-charts", "main/", "because", "A person sees"):
        assert name.encode() not in reply.raw
    for place in ("/$explain", "/_explain", "/admin", "/policies", "/Patient/A/$explain"):
        other = await gateway.fhir("GET", place)
        assert other.status in (400, 403, 404)
    assert (await gateway.fhir("GET", "/Patient/A?_explain=analyze")).reason == "unknown-parameter"
    assert gateway.upstream.requests == []


async def test_T329_without_a_record_there_is_no_access(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(record: object) -> None:
        raise AuditUnavailable

    monkeypatch.setattr(gateway.gateway.audit, "record", full)
    for method, path in (("GET", "/Patient/A"), ("GET", "/Observation"), ("DELETE", "/Observation/a1")):
        reply = await gateway.fhir(method, path, who="pA-rw")
        assert (reply.status, reply.reason) == (503, "audit-unavailable")
        assert b"Own" not in reply.body
        check_no_marker(reply)
    assert {request.method for request in gateway.upstream.requests} == {"GET"}


async def test_T329_what_the_authorization_server_did_is_not_told_without_a_record(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted() -> float:
        found = gateway.gateway.metrics.registry.get_sample_value(
            "securus_refusals_total", {"reason": "audit-unavailable"}
        )
        return found or 0.0

    async def full() -> None:
        raise AuditUnavailable

    before = counted()
    monkeypatch.setattr(gateway.gateway.audit, "settled", full)
    reply = await gateway.send("POST", "/token")
    assert (reply.status, reply.json["error"]) == (503, "temporarily_unavailable")
    assert counted() == before + 1

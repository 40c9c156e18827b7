"""What follows from permits, against the whole process: rates, messages, headers and answers without a body (case 48)."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from authz.storage.sqlite.store import SqliteStore
from authz.storage.store import StoreUnavailable
from gateway.settings import Receiver
from tests.attacks.test_groups_a_b_c import check_no_leak, check_outcome
from tests.support.gateway import Reply, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
JSON = ("Content-Type", "application/fhir+json")
POLICY = """
policy: effects
version: 1
owner: tests
status: enforce
text: What follows from permits.
rules:
  - rule: find
    effect: permit
    who: {context: user, role: [clerk]}
    may: [search]
    resources: [Organization]
    shared: true
    then: {rate: 3/h}
    because: A clerk looks up departments.
  - rule: read
    effect: permit
    who: {context: user, role: [clerk]}
    may: [read]
    resources: [Organization]
    shared: true
    then:
      notify: [privacy-office, night-shift]
      headers: {Warning-Text: Reading is recorded, Content-Disposition: attachment}
    because: A clerk reads about departments.
  - rule: look
    effect: permit
    who: {context: user, role: [clerk]}
    may: [search]
    resources: [Practitioner, Location]
    query: {include: any-permitted}
    shared: true
    because: A clerk looks up people.
  - rule: visits
    effect: permit
    who: {context: user, role: [visitor]}
    may: [read, search, "operation:Patient/$everything"]
    resources: [Patient]
    shared: true
    because: Who visits sees everything.
  - rule: file
    effect: permit
    who: {context: system}
    may: [create, update, patch, read]
    resources: [Observation]
    shared: true
    then: {answer: minimal}
    because: The laboratory files, and is not answered with what is stored.
  - rule: note
    effect: permit
    who: {context: user, role: [clerk]}
    may: [create, read]
    resources: [Observation]
    shared: true
    because: A clerk notes, and reads what was noted.
  - rule: bundles
    effect: permit
    who: {context: [user, system]}
    may: [batch, transaction]
    resources: any
    because: Requests may come together.
tests:
  - test: a clerk finds
    as: {context: user, role: clerk}
    request: GET /Organization
    expect: {decision: permit}
"""
CLERK = {"roles": ["clerk"]}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("effects")
    running = await start_gateway(
        folder,
        policies=policies_with(folder, "90-effects.yaml", POLICY),
        # An address that is never connected to: what is in the outbox stays there to be looked at.
        notifications=dict.fromkeys(("privacy-office", "night-shift"), Receiver("https://[2001:db8::1]/")),
    )
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()


async def clerk(gateway: RunningGateway, path: str, sub: str, **claims: Any) -> Reply:
    token = await gateway.token("dr1", sub=sub, **(CLERK | claims))
    return await gateway.fhir("GET", path, token=token)


async def test_what_an_include_or_everything_brings_obliges_as_a_read_of_it_does(
    gateway: RunningGateway,
) -> None:
    place = {"resourceType": "Location", "id": "l1", "managingOrganization": {"reference": "Organization/h1"}}
    gateway.upstream.resources["Location/l1"] = place
    both = {"roles": ["clerk", "visitor"]}

    async def told(path: str, sub: str, **claims: Any) -> tuple[int, bool, str | None]:
        reply = await clerk(gateway, path, sub, **claims)
        mine = [said for _, said in await waiting(gateway) if said["subject"] == sub]
        return reply.status, bool(mine), reply.header("Warning-Text")

    assert await told("/Location?name=ward", "looks") == (200, False, None)
    assert await told("/Location?_include=Location:organization", "includes") == (
        200,
        True,
        "Reading is recorded",
    )
    assert await told("/Patient/B", "visits", **both) == (200, False, None)
    assert await told("/Patient/B/$everything", "sees-all", **both) == (200, True, "Reading is recorded")
    assert await told("/Patient/B/$everything?_type=Patient", "sees-some", **both) == (200, False, None)
    for _ in range(2):
        assert (await told("/Patient/B/$everything", "sees-all", **both))[0] == 200
    assert (await told("/Patient/B/$everything", "sees-all", **both))[0] == 429


# Rates


async def test_a_rate_is_of_the_principal_and_the_next_request_is_429_with_the_time_to_wait(
    gateway: RunningGateway,
) -> None:
    for _ in range(3):
        assert (await clerk(gateway, "/Organization?name=x", "often")).status == 200
    gateway.upstream.reset()
    before = len(await gateway.audit())
    reply = await clerk(gateway, "/Organization?name=y", "often")
    assert (reply.status, reply.reason) == (429, "rate-exceeded")
    assert 3590 <= int(reply.header("Retry-After") or 0) <= 3600
    check_no_leak(reply)
    check_outcome(reply, gateway)
    assert gateway.upstream.requests == []
    (record,) = [r for r in (await gateway.audit())[before:] if r["event"] == "access"]
    assert (record["reason"], record["status"], record["rules"]) == ("rate-exceeded", 429, ["effects/find"])
    for other in ({"client_id": "other"}, {"sub": "seldom"}):
        assert (await clerk(gateway, "/Organization?name=x", **({"sub": "often"} | other))).status == 200


async def test_what_is_refused_costs_nothing_of_a_rate_and_what_has_none_asks_no_store(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        assert (await clerk(gateway, "/Organization?name=x", "refused", roles=["guest"])).status == 403
    for _ in range(3):
        assert (await clerk(gateway, "/Organization?name=x", "refused")).status == 200

    async def fails(self: SqliteStore, *arguments: object, **named: object) -> int:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(SqliteStore, "spend", fails)
    assert (await clerk(gateway, "/Practitioner?name=x", "free")).status == 200
    reply = await clerk(gateway, "/Organization?name=x", "free")
    assert (reply.status, reply.reason) == (503, "store-unavailable")


# Messages


async def waiting(gateway: RunningGateway) -> list[tuple[str, dict[str, Any]]]:
    rows = gateway.gateway.store._database.rows("SELECT receiver, content FROM notification ORDER BY id")
    return [(str(receiver), json.loads(bytes(content))) for receiver, content in rows]  # type: ignore[call-overload]


async def test_every_receiver_has_a_message_in_the_store_before_the_answer_goes_out(
    gateway: RunningGateway,
) -> None:
    there: list[tuple[str, dict[str, Any]]] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        there.extend(await waiting(gateway))
        body = json.dumps(gateway.upstream.resources["Organization/h1"]).encode()
        return web.Response(body=body, content_type="application/fhir+json")

    gateway.upstream.answer = answer
    reply = await clerk(gateway, "/Organization/h1", "told")
    assert reply.status == 200
    mine = [(receiver, said) for receiver, said in there if said["subject"] == "told"]
    assert sorted(receiver for receiver, _ in mine) == ["night-shift", "privacy-office"]
    said = mine[0][1]
    assert {k: v for k, v in said.items() if k not in ("id", "at")} == {
        "event": "access",
        "rules": ["effects/read"],
        "issuer": gateway.origin,
        "client": "client-dr1",
        "subject": "told",
        "route": "fhir",
        "interaction": "read",
        "interaction_id": reply.header("x-fapi-interaction-id"),
        "type": "Organization",
        "resource": "h1",
    }


async def test_without_an_outbox_there_is_no_data(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(self: SqliteStore, records: object) -> None:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(SqliteStore, "put_notifications", fails)
    reply = await clerk(gateway, "/Organization/h1", "untold")
    assert (reply.status, reply.reason) == (503, "store-unavailable")
    assert gateway.upstream.requests == []
    monkeypatch.undo()
    assert (await clerk(gateway, "/Organization/h1", "untold")).status == 200


# Headers


async def test_headers_stand_on_answers_and_never_on_refusals(gateway: RunningGateway) -> None:
    reply = await clerk(gateway, "/Organization/h1", "headers")
    assert reply.header("Warning-Text") == "Reading is recorded"
    assert reply.header("Content-Disposition") == "attachment"
    assert reply.header("Content-Type") == "application/fhir+json; charset=utf-8"
    for path, status in (("/Organization/none", 404), ("/Patient/B", 403)):
        refused = await clerk(gateway, path, "headers")
        assert refused.status == status
        assert refused.header("Warning-Text") is None
    other = await clerk(gateway, "/Practitioner?name=x", "headers")
    assert (other.status, other.header("Warning-Text")) == (200, None)


# Answers without a body


async def write(gateway: RunningGateway, method: str, path: str, principal: str, **claims: Any) -> Reply:
    """A write that the store answers with what it has, the marker in it, whatever it was asked for."""
    stored = gateway.upstream.resources["Observation/b1"]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        status = {"POST": 201, "PUT": 200}.get(request.method, 200)
        headers = {"ETag": 'W/"1"', "Location": f"{gateway.upstream.base}/Observation/b1/_history/1"}
        body = json.dumps(stored).encode()
        return web.Response(status=status, headers=headers, body=body, content_type="application/fhir+json")

    gateway.upstream.answer = answer
    sent = {k: v for k, v in stored.items() if k not in ("meta", "id") or method == "PUT"}
    token = await gateway.token(principal, **claims)
    headers = [JSON, ("Prefer", "return=representation")]
    body = json.dumps(sent).encode()
    if method == "PATCH":
        headers[0] = ("Content-Type", "application/json-patch+json")
        body = b'[{"op":"replace","path":"/status","value":"amended"}]'
    return await gateway.fhir(method, path, token=token, headers=headers, body=body)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/Observation", 201), ("PUT", "/Observation/b1", 200), ("PATCH", "/Observation/b1", 200)],
)
async def test_A48_a_write_is_answered_without_a_body_whatever_the_client_and_the_store_say(
    gateway: RunningGateway, method: str, path: str, status: int
) -> None:
    reply = await write(gateway, method, path, "lab", scope="system/*.cruds")
    assert reply.status == status, reply.raw[:500]
    assert reply.body == b""
    assert reply.header("Content-Type") is None
    check_no_leak(reply)
    assert reply.header("ETag") == 'W/"1"'
    last = gateway.upstream.requests[-1]
    assert "return=minimal" in last.headers["prefer"]
    if status == 201:
        assert reply.header("Location") == f"{gateway.origin}/fhir/r4/Observation/b1/_history/1"


async def test_A48_the_twin_without_the_rule_is_answered_with_what_is_stored(gateway: RunningGateway) -> None:
    reply = await write(gateway, "POST", "/Observation", "dr1", **CLERK)
    assert reply.status == 201, reply.raw[:500]
    assert SECRET.encode() in reply.body
    assert "return=representation" in gateway.upstream.requests[-1].headers["prefer"]


async def test_A48_a_read_of_the_same_rule_has_its_body(gateway: RunningGateway) -> None:
    token = await gateway.token("lab", scope="system/*.cruds")
    reply = await gateway.fhir("GET", "/Observation/a1", token=token)
    assert reply.json["id"] == "a1"


# Bundles


async def bundled(gateway: RunningGateway, kind: str, *entries: dict[str, Any], **claims: Any) -> Reply:
    said = {"resourceType": "Bundle", "type": kind, "entry": list(entries)}
    token = await gateway.token(claims.pop("principal", "dr1"), **claims)
    headers = [JSON, ("Prefer", "return=representation")]
    return await gateway.fhir("POST", "", token=token, headers=headers, body=json.dumps(said).encode())


def creation() -> dict[str, Any]:
    note = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": "Patient/A"},
    }
    return {"request": {"method": "POST", "url": "Observation"}, "resource": note}


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_A48_writes_of_a_bundle_are_answered_without_resources_too(
    gateway: RunningGateway, kind: str
) -> None:
    reply = await bundled(gateway, kind, creation(), principal="lab", scope="system/*.cruds")
    assert reply.status == 200, reply.raw[:600]
    (entry,) = reply.json["entry"]
    assert entry["response"]["status"].startswith("201")
    assert "resource" not in entry


async def test_A48_the_twin_of_a_transaction_has_what_is_stored(gateway: RunningGateway) -> None:
    twin = await bundled(gateway, "transaction", creation(), **CLERK)
    assert twin.json["entry"][0]["resource"]["status"] == "final", twin.raw[:600]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_each_read_of_a_bundle_is_told_once_and_counts_once(gateway: RunningGateway, kind: str) -> None:
    read = {"request": {"method": "GET", "url": "Organization/h1"}}
    find = {"request": {"method": "GET", "url": "Organization?name=x"}}
    sub = f"bundled-{kind}"
    reply = await bundled(gateway, kind, read, find, find, find, sub=sub, **CLERK)
    assert reply.status == 200, reply.raw[:600]
    assert [e["response"]["status"][:3] for e in reply.json["entry"]] == ["200"] * 4
    told = [receiver for receiver, said in await waiting(gateway) if said["subject"] == sub]
    assert sorted(told) == ["night-shift", "privacy-office"]
    assert (await clerk(gateway, "/Organization?name=x", sub)).status == 429

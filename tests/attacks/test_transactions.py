"""Transactions: all is decided before anything is sent, one Bundle of judged writes goes out, and one refusal is all's."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.settings import BundleLimits, UpstreamProfile
from tests.attacks.test_bundles import POLICY, bundle, entry, observation, post, said
from tests.support.gateway import MOUNT, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.world import SECRET, world

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
MORE = """
  - rule: staff-registers
    effect: permit
    who: {context: user}
    may: [create, update, delete, search, transaction]
    resources: [Patient, Encounter, Device]
    shared: true
    conditional: {keys: [identifier]}
    because: a newborn and the first findings are one thing
  - rule: staff-files
    effect: permit
    who: {context: user}
    may: [create, update]
    resources: [Observation]
    shared: true
    transaction: {at_most: 3}
    because: findings
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("transactions")
    limits = BundleLimits(entries=20, size=64 * 1024, answer_size=64 * 1024, lookups=6)
    policies = policies_with(folder, "90-bundling.yaml", POLICY + MORE)
    running = await start_gateway(folder, policies=policies, bundle=limits)
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()
    gateway.upstream.resources["Observation/a1"]["identifier"] = [{"system": "urn:lis", "value": "7"}]


def transaction(*entries: Any) -> dict[str, Any]:
    return bundle("transaction", *entries)


def put(id_: str, patient: str = "A", **more: Any) -> dict[str, Any]:
    return entry("PUT", f"Observation/{id_}", observation(patient, id=id_), **more)


def seen(gateway: RunningGateway) -> list[str]:
    return [str(request) for request in gateway.upstream.requests]


def sent(gateway: RunningGateway) -> dict[str, Any]:
    """The one Bundle that the store got."""
    (request,) = [each for each in gateway.upstream.requests if each.method == "POST"]
    value: dict[str, Any] = json.loads(request.body)
    return value


def json_patch(*operations: Any) -> dict[str, Any]:
    data = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data}


async def test_one_bundle_of_judged_writes_goes_to_the_store(gateway: RunningGateway) -> None:
    reply = await post(
        gateway,
        transaction(
            entry("GET", "Observation/a-mh"),
            entry("POST", "Observation", observation(id="mine", note=[{"text": "new"}]), "urn:uuid:1"),
            put("a1"),
            entry("DELETE", "Observation/a-vitals"),
        ),
    )
    assert (reply.status, reply.json["type"]) == (200, "transaction-response"), reply.raw
    assert said(reply) == [("200", None), ("201", None), ("200", None), ("204", None)]
    assert seen(gateway) == [
        "GET /fhir/Observation/a1",
        "GET /fhir/Observation/a-vitals",
        "GET /fhir/Observation/a-mh",
        "POST /fhir",
        "GET /fhir/Observation/a-mh",
    ]
    value = sent(gateway)
    assert (value["type"], set(value)) == ("transaction", {"resourceType", "type", "entry"})
    assert [each["request"] for each in value["entry"]] == [
        {"method": "POST", "url": "Observation"},
        {"method": "PUT", "url": "Observation/a1", "ifMatch": 'W/"1"'},
        {"method": "DELETE", "url": "Observation/a-vitals", "ifMatch": 'W/"1"'},
    ]
    assert "id" not in value["entry"][0]["resource"]
    assert value["entry"][0]["fullUrl"] != "urn:uuid:1"
    made = reply.json["entry"][1]["response"]
    assert made["location"] == f"{gateway.origin}{MOUNT}/Observation/made-0/_history/1"
    assert reply.json["entry"][2]["response"]["etag"] == 'W/"2"'
    assert SECRET.encode() not in reply.raw
    assert "Observation/a-vitals" not in gateway.upstream.resources


async def test_an_outcome_that_is_none_makes_no_refusal_of_what_is_done(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, stranger = gateway.upstream, world()["Observation/b1"]
    answer = store._transaction

    def odd(bundle: dict[str, Any]) -> Any:
        told = json.loads(answer(bundle).body)
        told["entry"][0]["response"]["outcome"] = stranger
        return web.json_response(told, content_type="application/fhir+json")

    monkeypatch.setattr(store, "_transaction", odd)
    prefer = (("Prefer", "return=OperationOutcome"),)
    reply = await post(gateway, transaction(put("a1")), headers=prefer)
    assert reply.status == 200
    assert set(reply.json["entry"][0]["response"]) == {"status", "etag", "lastModified"}
    assert SECRET.encode() not in reply.raw


async def test_all_of_it_is_on_record_before_the_store_hears_of_it(gateway: RunningGateway) -> None:
    before = len(await gateway.audit())
    reply = await post(gateway, transaction(put("a1"), entry("POST", "Observation", observation())))
    records = (await gateway.audit())[before:]
    assert [(r["event"], r.get("entry"), r["interaction"]) for r in records] == [
        ("write-begins", 0, "update"),
        ("write-begins", 1, "create"),
        ("write-begins", None, "transaction"),
        ("access", 0, "update"),
        ("access", 1, "create"),
        ("access", None, "transaction"),
    ]
    assert {r["interaction_id"] for r in records} == {reply.header("x-fapi-interaction-id")}
    assert {r["decision"] for r in records} == {"permit"}
    assert [r["status"] for r in records[3:]] == [200, 201, 200]
    assert records[3]["rules"] == ["bundling/own-chart"]


async def test_representations_go_to_those_who_ask_and_may_read(gateway: RunningGateway) -> None:
    wanted = (("Prefer", "return=representation"),)
    reply = await post(gateway, transaction(put("a1")), headers=wanted)
    assert reply.json["entry"][0]["resource"]["subject"] == {"reference": "Patient/A"}
    gateway.upstream.reset()
    new = entry("POST", "Patient", {"resourceType": "Patient"})
    reply = await post(gateway, transaction(new), who="dr1", headers=wanted)
    assert said(reply) == [("201", None)]
    assert "resource" not in reply.json["entry"][0]


async def test_texts_of_the_store_stay_there(gateway: RunningGateway) -> None:
    reply = await post(gateway, transaction(put("a1")), headers=(("Prefer", "return=OperationOutcome"),))
    outcome = reply.json["entry"][0]["response"]["outcome"]
    assert outcome["issue"] == [{"severity": "information", "code": "processing"}]
    assert SECRET.encode() not in reply.raw


B_OWNED = observation("B")
BORN = entry("POST", "Patient", {"resourceType": "Patient"}, "urn:uuid:child")


@dataclass(frozen=True)
class Refused:
    """A transaction that is refused whole. at: the entry that refuses it. store: what the store is asked, reads only."""

    id: str
    entries: tuple[dict[str, Any], ...]
    status: int
    reason: str
    at: int | None
    store: int = 0
    who: str = "pA-rw"


REFUSED = [
    Refused("J168 a stranger is read", (put("a1"), entry("GET", "Patient/B")), 403, "not-found", 1),
    Refused("J168b a stranger's is read", (put("a1"), entry("GET", "Observation/b1")), 403, "not-found", 1, store=2),
    Refused("nobody's is read", (put("a1"), entry("GET", "Observation/zz")), 403, "not-found", 1, store=2),
    Refused("J170 dot segments", (put("a1"), entry("GET", "Patient/A/../B")), 400, "ambiguous-path", 1),
    Refused("J184 an operation", (put("a1"), entry("POST", "Patient/A/$merge", {"resourceType": "Parameters"})), 403,
            "interaction-closed", 1),
    Refused("J186 one refused create", (put("a1"), entry("POST", "Observation", B_OWNED)), 403, "scope-insufficient", 1),
    Refused("J186b a stranger's replaced", (put("a1"), put("b1")), 403, "not-found", 1, store=2),
    Refused("an own one moved away", (put("a-vitals"), put("a1", "B")), 403, "scope-insufficient", 1),
    Refused("J176 a urn that is a stranger", (
        entry("POST", "Observation", observation(subject={"reference": "urn:uuid:1"})),
        entry("PUT", "Patient/B", {"resourceType": "Patient", "id": "B"}, "urn:uuid:1"),
    ), 403, "scope-insufficient", 0),
    Refused("J176b of nobody's record yet", (
        entry("POST", "Observation", observation(subject={"reference": "urn:uuid:1"})),
        entry("POST", "Observation", observation(), "urn:uuid:1"),
    ), 403, "scope-insufficient", 0),
    Refused("a urn that names no entry", (entry("POST", "Observation", observation(subject={"reference": "urn:uuid:9"})),),
            400, "invalid-body", 0),
    Refused("a urn in capitals", (
        entry("POST", "Observation", observation(subject={"reference": "URN:UUID:1"})),
        entry("PUT", "Patient/A", {"resourceType": "Patient", "id": "A"}, "urn:uuid:1"),
    ), 400, "invalid-body", 0, store=0),
    Refused("a urn of a deletion", (
        entry("POST", "Observation", observation(focus=[{"reference": "urn:uuid:1"}])),
        entry("DELETE", "Observation/a1", None, "urn:uuid:1"),
    ), 400, "invalid-body", 0),
    Refused("a urn in a patch", (
        entry("PATCH", "Observation/a1", json_patch(
            {"op": "add", "path": "/focus", "value": [{"reference": "urn:uuid:1"}]})),
        entry("PUT", "Observation/a-mh", observation(id="a-mh"), "urn:uuid:1"),
    ), 400, "invalid-body", 0, store=1),
    Refused("criteria in a patch", (
        entry("PATCH", "Observation/a1", json_patch(
            {"op": "add", "path": "/focus", "value": [{"reference": "Patient?identifier=urn:mrn|SECRET-B"}]})),
    ), 403, "interaction-closed", 0, store=1),
    Refused("a patch that moves it away", (
        entry("PATCH", "Observation/a1", json_patch({"op": "replace", "path": "/subject/reference", "value": "Patient/B"})),
    ), 403, "scope-insufficient", 0, store=1),
    Refused("J178 one target twice", (put("a1"), put("a1")), 400, "invalid-body", 1),
    Refused("J178b updated and deleted", (put("a1"), entry("DELETE", "Observation/a1")), 400, "invalid-body", 1),
    Refused("J178c found and named", (put("a1"), entry("PUT", "Observation?identifier=urn:lis|7", observation())), 400,
            "invalid-body", None, store=1),
    Refused("one creation twice", (entry("POST", "Observation", observation(), ifNoneExist="identifier=urn:lis|8"),) * 2,
            400, "invalid-body", 1),
    Refused("J180 criteria find a stranger", (
        entry("POST", "Observation", observation(subject={"reference": "Patient?identifier=urn:mrn|SECRET-B"})),
    ), 412, "not-found", 0, store=1),
    Refused("J180b criteria find several", (
        entry("POST", "Observation", observation(focus=[{"reference": "Observation?code=4548-4"}])),
    ), 412, "multiple-matches", 0, store=1),
    Refused("J180c criteria that may not be searched", (
        entry("POST", "Observation", observation(focus=[{"reference": "Device?identifier=1"}])),
    ), 403, "no-permit", 0),
    Refused("J181 another version", (put("a-mh"), put("a1", ifMatch='W/"7"')), 412, "version-conflict", 1, store=2),
    Refused("J182 deleted and read", (entry("DELETE", "Observation/a1"), entry("GET", "Observation/a1")), 422,
            "split-transaction", 1, store=1),
    Refused("J182b deleted and referred to", (
        entry("DELETE", "Observation/a1"),
        entry("POST", "Observation", observation(focus=[{"reference": "Observation/a1"}])),
    ), 422, "split-transaction", 1, store=1),
    Refused("J182c a version of what is deleted", (
        entry("DELETE", "Observation/a1"),
        entry("POST", "Observation", observation(focus=[{"reference": "Observation/a1/_history/1"}])),
    ), 422, "split-transaction", 1, store=1),
    Refused("an id of the caller's choice", (put("new"),), 403, "not-found", 0, store=1),
    Refused("too many lookups", tuple(entry("GET", f"Observation/x{n}") for n in range(7)), 422, "split-transaction", None),
    Refused("more entries than the rule lets", (entry("POST", "Observation", observation()),) * 4, 403, "policy-denied", 0,
            who="dr1"),
    Refused("an interaction that the rule does not name", (entry("DELETE", "Observation/a1"),), 403,
            "interaction-closed", 0, who="dr1"),
    Refused("what no rule opens", (put("a1"), entry("GET", "Encounter/eb")), 403, "interaction-closed", 1),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
async def test_one_refusal_is_the_refusal_of_all(gateway: RunningGateway, case: Refused) -> None:
    before = len(await gateway.audit())
    kept = json.loads(json.dumps(gateway.upstream.resources))
    reply = await post(gateway, transaction(*case.entries), who=case.who)
    assert (reply.status, reply.reason) == (case.status, case.reason), reply.raw
    issue = reply.json["issue"][0]
    if case.at is not None:
        assert issue["expression"] == [f"Bundle.entry[{case.at}]"]
    assert {request.method for request in gateway.upstream.requests} <= {"GET"}
    assert len(gateway.upstream.requests) == case.store
    assert gateway.upstream.resources == kept
    assert SECRET not in json.dumps(reply.json).replace("SECRET-B'", "")
    (record,) = (await gateway.audit())[before:]
    assert (record["interaction"], record["status"], record["reason"]) == (
        "transaction",
        case.status,
        case.reason,
    )
    assert record["caller"]["subject"] == case.who


@pytest.mark.parametrize(
    "entries",
    [
        (put("a1"), entry("GET", "Patient/A")),
        (put("a1"), entry("POST", "Observation", observation(focus=[{"reference": "urn:uuid:1"}])),
         entry("PUT", "Observation/a-mh", observation(id="a-mh"), "urn:uuid:1")),
        (entry("POST", "Observation", observation(focus=[{"reference": "Observation?identifier=urn:lis|7"}])),),
        (entry("PATCH", "Observation/a1", json_patch({"op": "replace", "path": "/status", "value": "amended"})),),
        (put("a1", ifMatch='W/"1"'), entry("DELETE", "Observation/a-mh")),
        (entry("GET", "Observation?code=4548-4"), entry("HEAD", "Observation/a1")),
        (entry("POST", "Observation", observation(), ifNoneExist="identifier=urn:lis|8"),),
    ],
)  # fmt: skip
async def test_the_same_shapes_about_own_resources_pass(
    gateway: RunningGateway, entries: tuple[Any, ...]
) -> None:
    reply = await post(gateway, transaction(*entries))
    assert reply.status == 200, reply.raw
    assert all(each["response"]["status"].startswith("2") for each in reply.json["entry"])
    assert SECRET.encode() not in reply.raw


async def test_a_new_resource_is_referred_to_by_a_urn_that_only_the_gateway_knows(
    gateway: RunningGateway,
) -> None:
    finding = observation(subject={"reference": "urn:uuid:child"}, note=[{"text": "urn:uuid:child"}])
    reply = await post(gateway, transaction(entry("POST", "Observation", finding), BORN), who="dr1")
    assert reply.status == 200, reply.raw
    first, second = sent(gateway)["entry"]
    assert first["resource"]["subject"]["reference"] == second["fullUrl"] != "urn:uuid:child"
    assert first["resource"]["note"] == [{"text": "urn:uuid:child"}]
    assert gateway.upstream.resources["Observation/made-0"]["subject"]["reference"] == "Patient/made-1"


async def test_a_create_that_finds_its_resource_writes_nothing_and_lends_its_id(
    gateway: RunningGateway,
) -> None:
    found = entry("POST", "Observation", observation(), "urn:uuid:7", ifNoneExist="identifier=urn:lis|7")
    other = entry("POST", "Observation", observation(focus=[{"reference": "urn:uuid:7"}]))
    reply = await post(gateway, transaction(found, other))
    assert said(reply) == [("200", None), ("201", None)], reply.raw
    assert reply.json["entry"][0]["response"]["location"] == f"{gateway.origin}{MOUNT}/Observation/a1"
    (only,) = sent(gateway)["entry"]
    assert only["resource"]["focus"] == [{"reference": "Observation/a1"}]


async def test_a_conditional_update_goes_on_by_id_or_becomes_a_create(gateway: RunningGateway) -> None:
    reply = await post(
        gateway,
        transaction(
            entry("PUT", "Observation?identifier=urn:lis|7", observation()),
            entry("PUT", "Observation?identifier=urn:lis|8", observation()),
        ),
    )
    assert said(reply) == [("200", None), ("201", None)], reply.raw
    assert [each["request"] for each in sent(gateway)["entry"]] == [
        {"method": "PUT", "url": "Observation/a1", "ifMatch": 'W/"1"'},
        {"method": "POST", "url": "Observation"},
    ]


async def test_references_by_our_own_address_are_judged_and_stored_as_relative(
    gateway: RunningGateway,
) -> None:
    public = f"{gateway.origin}{MOUNT}"
    stranger = observation(subject={"reference": f"{public}/Patient/B"})
    assert (await post(gateway, transaction(entry("POST", "Observation", stranger)))).status == 403
    own = observation(subject={"reference": f"{public}/Patient/A"})
    assert (await post(gateway, transaction(entry("POST", "Observation", own)))).status == 200
    assert sent(gateway)["entry"][0]["resource"]["subject"] == {"reference": "Patient/A"}


async def test_what_changed_in_between_refuses_all(gateway: RunningGateway) -> None:
    async def raced(request: web.BaseRequest) -> web.StreamResponse:
        gateway.upstream.answer = None
        stored = gateway.upstream.resources["Observation/a1"]
        body = web.json_response(stored, content_type="application/fhir+json")
        gateway.upstream.resources["Observation/a1"] = stored | {"meta": {"versionId": "2"}}
        return body

    gateway.upstream.answer = raced
    reply = await post(gateway, transaction(put("a1"), entry("POST", "Observation", observation())))
    assert (reply.status, reply.reason) == (412, "version-conflict"), reply.raw
    assert "Observation/made-1" not in gateway.upstream.resources
    assert SECRET.encode() not in reply.raw


OK = {"response": {"status": "201 Created", "location": "Observation/n/_history/1"}}


@pytest.mark.parametrize(
    "answer",
    [
        {"resourceType": "Bundle", "type": "transaction-response", "entry": [OK]},
        {"resourceType": "Bundle", "type": "transaction-response", "entry": [OK, OK, OK]},
        {"resourceType": "Bundle", "type": "batch-response", "entry": [OK, OK]},
        {"resourceType": "OperationOutcome", "issue": []},
        {"resourceType": "Bundle", "type": "transaction-response", "entry": [OK, {"response": {"status": "403"}}]},
        {"resourceType": "Bundle", "type": "transaction-response", "entry": [OK, {}]},
        {"resourceType": "Bundle", "type": "transaction-response", "entry": [OK, {"response": {"status": "201"}}]},
        {"resourceType": "Bundle", "type": "transaction-response",
         "entry": [OK, {"response": {"status": "201", "location": "Patient/B/_history/1"}}]},
        {"resourceType": "Bundle", "type": "transaction-response",
         "entry": [OK, {"response": {"status": "201", "location": "https://elsewhere.example/Observation/1"}}]},
    ],
)  # fmt: skip
async def test_J185_an_answer_that_cannot_be_matched_to_what_was_sent_is_no_answer(
    gateway: RunningGateway, answer: Any
) -> None:
    async def odd(_: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(answer, content_type="application/fhir+json")

    gateway.upstream.answer = odd
    reply = await post(gateway, transaction(*[entry("POST", "Observation", observation())] * 2))
    assert (reply.status, reply.reason) == (502, "upstream-invalid")


async def test_a_store_without_transactions_is_sent_none(tmp_path: Path) -> None:
    policies = policies_with(tmp_path, "90-bundling.yaml", POLICY)
    running = await start_gateway(tmp_path, policies=policies, profile=UpstreamProfile(transactions=False))
    try:
        reply = await post(running, transaction(put("a1")))
        assert (reply.status, reply.reason) == (403, "interaction-closed")
        assert running.upstream.requests == []
    finally:
        await stop_gateway(running)


PARTS = [
    put("a1"), put("a-mh"), put("b1"), entry("POST", "Observation", observation()), entry("POST", "Observation", B_OWNED),
    entry("GET", "Patient/A"), entry("GET", "Patient/B"), entry("DELETE", "Observation/a-vitals"),
    entry("DELETE", "Observation/ab"), entry("GET", "Observation?code=4548-4"), entry("GET", "Encounter/eb"),
]  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(st.sampled_from(range(len(PARTS))), min_size=1, max_size=5, unique=True))
async def test_a_transaction_passes_where_each_of_its_entries_would_whatever_their_order(
    gateway: RunningGateway, asked: list[int]
) -> None:
    alone = []
    for number in asked:
        gateway.upstream.reset()
        alone.append((await post(gateway, transaction(PARTS[number]))).status == 200)
    gateway.upstream.reset()
    reply = await post(gateway, transaction(*(PARTS[number] for number in asked)))
    assert (reply.status == 200) is all(alone)
    if not all(alone):
        assert {request.method for request in gateway.upstream.requests} <= {"GET"}
        assert gateway.upstream.resources == world()


BY_CRITERIA = observation(subject={"reference": "Patient?identifier=urn:mrn|SECRET-B"})


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_H132_outside_a_transaction_no_reference_is_left_for_the_store_to_resolve(
    gateway: RunningGateway, method: str
) -> None:
    path = "/Observation" if method == "POST" else "/Observation/b1"
    body = json.dumps(BY_CRITERIA | ({} if method == "POST" else {"id": "b1"})).encode()
    headers = [("Content-Type", "application/fhir+json")]
    reply = await gateway.fhir(method, path, who="dr1", headers=headers, body=body)
    assert (reply.status, reply.reason) == (403, "interaction-closed"), reply.raw
    assert {request.method for request in gateway.upstream.requests} <= {"GET"}
    batch = await post(gateway, bundle("batch", entry("POST", "Observation", BY_CRITERIA)), who="dr1")
    assert said(batch) == [("403", "interaction-closed")]


async def test_a_stored_reference_by_criteria_may_stay(gateway: RunningGateway) -> None:
    kept = {"performer": [{"reference": "Practitioner?identifier=x|1"}]}
    gateway.upstream.resources["Observation/b1"] |= kept
    body = json.dumps(observation(id="b1", **kept)).encode()
    headers = [("Content-Type", "application/fhir+json")]
    assert (await gateway.fhir("PUT", "/Observation/b1", who="dr1", headers=headers, body=body)).status == 200

"""Attacks on what decisions are made of: lists of patients, consents, and the resources behind them.

The five claims of each refusal: status and reason, what the store was asked, one audit record, an outcome that tells
nothing of the store, and the permitted twin.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from authz.clock import system_clock
from gateway.consents.consent import ConsentSource
from gateway.settings import ConsentSettings
from tests.support.gateway import MOUNT, Reply, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.hostile_upstream import HostileUpstream, asked_for
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]

DEFINITIONS = """
definitions: lists
version: 1
claims:
  ward: {path: ward, type: string, source: [Practitioner, PractitionerRole]}
facts:
  my-patients:
    ask: "CareTeam?participant={token.user}&status=active"
    take: CareTeam.subject
    keep: 5s
    max_stale: 10s
    at_most: 3
    if_unavailable: deny
  my-family: {ask: "Group?member={token.user}", take: Group.member.entity, keep: 5s, at_most: 10}
"""
POLICY = """
policy: lists
version: 1
owner: tests
status: enforce
text: Who is in care is seen by those who care, and who agreed by the study.
rules:
  - rule: charts-of-my-patients
    effect: permit
    who: {context: user, role: physician}
    may: [read, search]
    resources: [Patient, Observation]
    where: {compartment: {patient: {in: $facts.my-patients}}}
    because: treatment
  - rule: apps-send-batches
    effect: permit
    who: {context: user}
    may: [batch]
    resources: any
    shared: true
    because: apps send their reads together
  - rule: family
    effect: permit
    who: {context: patient}
    may: [read]
    resources: [Patient]
    where: {compartment: {patient: {in: $facts.my-family}}}
    because: family
  - rule: visits
    effect: permit
    who: {context: user, role: nurse}
    may: [read, search]
    resources: [Procedure]
    shared: true
    because: nurses read what was done
  - rule: visits-of-psychiatry
    effect: deny
    who: {role: nurse}
    may: [read, search]
    resources: [Procedure]
    where: {labels: {any_of: ["v3-ActCode|PSY"], inherit_labels: [encounter, partOf]}}
    because: special care
  - rule: registration
    effect: permit
    who: {context: user, role: registrar}
    may: [create, update]
    resources: [Condition]
    shared: true
    because: the registry
  - rule: registration-by-consent
    effect: require
    who: {role: registrar}
    may: [create, update]
    resources: [Condition]
    where: {consent: {scope: research, decision: permit, for: "urn:study:dm2"}}
    because: only who agreed is registered
  - rule: study
    effect: permit
    who: {context: user, role: researcher}
    may: [read, search]
    resources: [Condition, Patient]
    where: {consent: {scope: research, decision: permit, for: "urn:study:dm2"}}
    because: study
  - rule: everything-goes
    effect: permit
    who: {context: [user, patient]}
    may: [create, update, delete]
    resources: any
    shared: true
    because: a careless rule
  - rule: care-office
    effect: permit
    who: {context: user, role: care-office}
    may: [update]
    resources: [CareTeam, Consent, Practitioner]
    shared: true
    because: the office that keeps them
"""


def policies(folder: Path) -> Path:
    found = policies_with(folder, "90-lists.yaml", POLICY)
    (found / "05-lists.yaml").write_text(DEFINITIONS)
    return found


CONSENTS = ConsentSettings(ConsentSource(frozenset({"Organization/h1"})), keep=0, timeout=2.0)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("facts")
    running = await start_gateway(folder, policies=policies(folder), consents=CONSENTS, answer_timeout=2.0)
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()
    put(gateway, team("t1", "A"), team("t2", "B", status="inactive"), team("t3", "B", who="Practitioner/dr2"))


def put(gateway: RunningGateway, *resources: dict[str, Any]) -> None:
    for each in resources:
        gateway.upstream.resources[f"{each['resourceType']}/{each['id']}"] = each


def team(id_: str, patient: str, *, who: str = "Practitioner/dr1", status: str = "active") -> dict[str, Any]:
    return {
        "resourceType": "CareTeam",
        "id": id_,
        "status": status,
        "subject": {"reference": f"Patient/{patient}"},
        "participant": [{"member": {"reference": who}}],
    }


def consent(id_: str, patient: str = "A", **more: Any) -> dict[str, Any]:
    scope = {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}
    actor = {"role": {"text": "study"}, "reference": {"identifier": {"value": "urn:study:dm2"}}}
    return {
        "resourceType": "Consent",
        "id": id_,
        "status": "active",
        "scope": {"coding": [scope]},
        "patient": {"reference": f"Patient/{patient}"},
        "organization": [{"reference": "Organization/h1"}],
        "verification": [{"verified": True}],
        "provision": {"type": "permit", "actor": [actor]},
    } | more


def condition(id_: str, patient: str) -> dict[str, Any]:
    note = SECRET if patient != "A" else "own"
    return {
        "resourceType": "Condition",
        "id": id_,
        "subject": {"reference": f"Patient/{patient}", "display": note},
    }


async def ask(
    gateway: RunningGateway, method: str, path: str, body: Any = None, *, who: str = "dr1", **claims: Any
) -> Reply:
    raw = b"" if body is None else json.dumps(body).encode()
    sent = [("Content-Type", "application/fhir+json")] if raw else []
    token = await gateway.token(who, **claims)
    return await gateway.fhir(method, path, token=token, headers=sent, body=raw)


def check_refusal(gateway: RunningGateway, reply: Reply, status: int, reason: str) -> None:
    assert (reply.status, reply.reason) == (status, reason), reply.raw[:500]
    assert reply.json["resourceType"] == "OperationOutcome"
    for text in (SECRET, str(gateway.upstream.port), "upstream-product", "CareTeam", "Traceback"):
        assert text.encode() not in reply.raw


def asked(gateway: RunningGateway) -> list[str]:
    return [str(each).partition("?")[0] for each in gateway.upstream.requests]


# Lists of patients


async def test_a_list_is_asked_once_and_stands_in_the_search(gateway: RunningGateway) -> None:
    put(gateway, team("t4", "C"))
    for _ in range(2):
        reply = await ask(gateway, "GET", "/Observation?status=final", sub="twice")
        assert reply.status == 200, reply.raw
        assert {entry["resource"]["id"] for entry in reply.json["entry"]} == {"a1", "a-vitals", "a-mh"}
    assert asked(gateway) == ["GET /fhir/CareTeam", "GET /fhir/Observation", "GET /fhir/Observation"]
    assert asked_for(gateway.upstream.requests[0])[:2] == [
        ("participant", "Practitioner/dr1"),
        ("status", "active"),
    ]
    assert ("subject", "Patient/A,Patient/C") in asked_for(gateway.upstream.requests[1])


async def test_a_list_is_held_to_its_criteria_whatever_the_store_answers(gateway: RunningGateway) -> None:
    reply = await ask(gateway, "GET", "/Patient/B", sub="held")
    check_refusal(gateway, reply, 404, "not-found")
    assert asked(gateway) == ["GET /fhir/CareTeam"]
    assert (await ask(gateway, "GET", "/Patient/A", sub="held")).status == 200


async def test_nobody_in_care_is_no_data_and_no_request(gateway: RunningGateway) -> None:
    gateway.upstream.resources.pop("CareTeam/t1")
    reply = await ask(gateway, "GET", "/Observation", sub="nobody")
    assert (reply.status, reply.json["total"]) == (200, 0)
    assert asked(gateway) == ["GET /fhir/CareTeam"]
    check_refusal(gateway, await ask(gateway, "GET", "/Patient/A", sub="nobody"), 404, "not-found")


async def test_one_callers_list_is_not_anothers(gateway: RunningGateway) -> None:
    assert (await ask(gateway, "GET", "/Patient/A", sub="one")).status == 200
    reply = await ask(gateway, "GET", "/Patient/A", sub="one", fhirUser="Practitioner/dr2")
    check_refusal(gateway, reply, 404, "not-found")
    other_client = await ask(gateway, "GET", "/Patient/A", sub="one", client_id="other")
    assert other_client.status == 200
    assert asked(gateway).count("GET /fhir/CareTeam") == 3


async def test_a_token_without_the_claim_asks_for_no_list(gateway: RunningGateway) -> None:
    reply = await ask(gateway, "GET", "/Patient/A", sub="claimless", fhirUser=...)
    check_refusal(gateway, reply, 403, "no-permit")
    assert asked(gateway) == []


async def test_a_claim_cannot_break_out_of_the_question(gateway: RunningGateway) -> None:
    reply = await ask(gateway, "GET", "/Patient/B", sub="split", fhirUser="Practitioner/dr1,Practitioner/dr2")
    check_refusal(gateway, reply, 403, "no-permit")
    assert asked(gateway) == []


async def test_a_list_that_is_too_long_is_no_list(gateway: RunningGateway) -> None:
    put(gateway, *(team(f"long{n}", f"L{n}") for n in range(4)))
    check_refusal(gateway, await ask(gateway, "GET", "/Patient/A", sub="long"), 403, "facts-too-many")
    assert (await gateway.audit())[-1]["reason"] == "facts-too-many"
    for n in range(2):
        gateway.upstream.resources.pop(f"CareTeam/long{n}")
    assert (await ask(gateway, "GET", "/Patient/A", sub="long")).status == 200


async def test_a_search_for_many_goes_as_a_form(gateway: RunningGateway) -> None:
    codes = ",".join(f"http://loinc.org|{n:05d}-1" for n in range(240))
    reply = await ask(gateway, "GET", f"/Observation?code={codes}", sub="form")
    assert reply.status == 200, reply.raw
    assert asked(gateway)[-1] == "POST /fhir/Observation/_search"
    assert b"subject=Patient%2FA" in gateway.upstream.requests[-1].body


async def test_an_audit_record_names_lists_and_their_age_never_their_values(gateway: RunningGateway) -> None:
    await ask(gateway, "GET", "/Patient/A", sub="record")
    record = (await gateway.audit())[-1]
    assert [fact["name"] for fact in record["facts"]] == ["my-patients"]
    assert set(record["facts"][0]) == {"name", "age"}


# 325: the store fails while a list is asked for


@dataclass(frozen=True)
class Outage:
    id: str
    status: int
    body: bytes = b"{}"


OUTAGES = [
    Outage("error", 500),
    Outage("busy", 429),
    Outage("unauthorized", 401),
    Outage("no-bundle", 200, b'{"resourceType":"Patient","id":"x"}'),
    Outage("no-json", 200, b"<html>"),
    Outage(
        "elsewhere",
        200,
        b'{"resourceType":"Bundle","link":[{"relation":"next","url":"http://x.example/fhir/y"}]}',
    ),
]


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.id)
async def test_325_a_list_that_cannot_be_had_is_503_and_opens_nothing(
    gateway: RunningGateway, outage: Outage
) -> None:
    before = len(await gateway.audit())

    async def failing(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=outage.status, body=outage.body, content_type="application/fhir+json")

    gateway.upstream.answer = failing
    reply = await ask(gateway, "GET", "/Patient/A", sub=f"325-{outage.id}")
    check_refusal(gateway, reply, 503, "facts-unavailable")
    assert reply.header("Retry-After") == "5"
    assert asked(gateway) == ["GET /fhir/CareTeam"]
    assert [record["reason"] for record in (await gateway.audit())[before:]] == ["facts-unavailable"]
    gateway.upstream.answer = None
    assert (await ask(gateway, "GET", "/Patient/A", sub=f"325-{outage.id}")).status == 200


async def test_325_a_store_that_hangs_is_503(gateway: RunningGateway) -> None:
    release = asyncio.Event()

    async def hanging(request: web.BaseRequest) -> web.StreamResponse:
        await release.wait()
        return web.Response(status=500)

    gateway.upstream.answer = hanging
    reply = await ask(gateway, "GET", "/Patient/A", sub="325-hangs")
    release.set()
    check_refusal(gateway, reply, 503, "facts-unavailable")
    gateway.upstream.answer = None
    assert (await ask(gateway, "GET", "/Patient/A", sub="325-hangs")).status == 200


async def test_325_what_would_be_refused_anyway_is_refused_as_ever(gateway: RunningGateway) -> None:
    async def failing(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=500)

    gateway.upstream.answer = failing
    reply = await ask(gateway, "GET", "/Patient/A", sub="325-anyway", scope="user/Observation.rs")
    check_refusal(gateway, reply, 403, "scope-insufficient")
    gateway.upstream.answer = None
    assert (await ask(gateway, "GET", "/Patient/A", sub="325-anyway")).status == 200


async def test_325_a_store_that_goes_on_failing_is_left_alone(tmp_path: Path) -> None:
    offset = [0]
    gateway = await start_gateway(
        tmp_path, policies=policies(tmp_path), clock=lambda: system_clock() + offset[0]
    )

    async def failing(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=500)

    try:
        gateway.upstream.answer = failing
        for n in range(7):
            reply = await ask(gateway, "GET", "/Patient/A", sub=f"s{n}")
            check_refusal(gateway, reply, 503, "facts-unavailable")
        assert len(asked(gateway)) == 5
        offset[0] = 6
        gateway.upstream.reset()
        put(gateway, team("t1", "A"))
        assert (await ask(gateway, "GET", "/Patient/A", sub="s7")).status == 200
    finally:
        await stop_gateway(gateway)


# 324: a list that is not true any more


async def test_324_a_list_is_good_for_its_time_and_no_longer(tmp_path: Path) -> None:
    offset = [0]
    gateway = await start_gateway(
        tmp_path, policies=policies(tmp_path), clock=lambda: system_clock() + offset[0]
    )

    async def failing(request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("CareTeam"):
            return web.Response(status=500)
        return web.json_response(gateway.upstream.resources["Patient/A"])

    try:
        put(gateway, team("t1", "A"))
        assert (await ask(gateway, "GET", "/Patient/A")).status == 200
        gateway.upstream.answer = failing
        offset[0] = 7  # over keep, within max_stale: the store cannot say, and what it said last still holds
        assert (await ask(gateway, "GET", "/Patient/A")).status == 200
        offset[0] = 11
        check_refusal(gateway, await ask(gateway, "GET", "/Patient/A"), 503, "facts-unavailable")
        gateway.upstream.answer = None
        assert (await ask(gateway, "GET", "/Patient/A")).status == 200
        gateway.upstream.resources.pop("CareTeam/t1")
        offset[0] = 18
        check_refusal(gateway, await ask(gateway, "GET", "/Patient/A"), 404, "not-found")
    finally:
        await stop_gateway(gateway)


# 297, 342, 344: who writes what decisions are made of


@dataclass(frozen=True)
class SelfGrant:
    id: str
    who: str
    body: dict[str, Any]


GRANTS = [
    SelfGrant("297-patient", "pA-rw", consent("new")),
    SelfGrant("297-clinician", "dr1", consent("new", "B")),
    SelfGrant("342-care-team", "dr1", team("t9", "B")),
    SelfGrant(
        "342-group",
        "pA-rw",
        {
            "resourceType": "Group",
            "id": "g",
            "type": "person",
            "actual": True,
            "member": [{"entity": {"reference": "Patient/A"}}, {"entity": {"reference": "Patient/B"}}],
        },
    ),
    SelfGrant("344-practitioner", "dr1", {"resourceType": "Practitioner", "id": "dr1", "active": True}),
    SelfGrant(
        "344-role",
        "dr1",
        {
            "resourceType": "PractitionerRole",
            "id": "r1",
            "practitioner": {"reference": "Practitioner/dr1"},
        },
    ),
]


@pytest.mark.parametrize("grant", GRANTS, ids=lambda grant: grant.id)
async def test_nobody_writes_what_decisions_about_them_are_made_of(
    gateway: RunningGateway, grant: SelfGrant
) -> None:
    body, before = grant.body, len(await gateway.audit())
    for method, path in (
        ("PUT", f"/{body['resourceType']}/{body['id']}"),
        ("POST", f"/{body['resourceType']}"),
    ):
        sent = body if method == "PUT" else {k: v for k, v in body.items() if k != "id"}
        reply = await ask(gateway, method, path, sent, who=grant.who)
        check = (reply.status, reply.reason)
        assert check == (403, "no-permit"), reply.raw
    reply = await ask(gateway, "DELETE", f"/{body['resourceType']}/{body['id']}", who=grant.who)
    assert (reply.status, reply.reason) == (403, "no-permit")
    assert asked(gateway) == []
    assert len(await gateway.audit()) == before + 3
    note = {"resourceType": "Observation", "status": "final", "subject": {"reference": "Patient/A"}}
    assert (await ask(gateway, "POST", "/Observation", note, who=grant.who)).status in (200, 201)


async def test_342_the_office_whose_rule_names_them_writes_them(gateway: RunningGateway) -> None:
    put(gateway, consent("c1"))
    for body in (
        team("t1", "A", status="inactive"),
        consent("c1"),
        {"resourceType": "Practitioner", "id": "dr1"},
    ):
        place = f"/{body['resourceType']}/{body['id']}"
        reply = await ask(gateway, "PUT", place, body, roles=["care-office"])
        assert reply.status == 200, reply.raw


# Consents


async def test_a_consent_opens_the_patients_who_gave_it_and_nobody_else(gateway: RunningGateway) -> None:
    put(gateway, consent("c1"), condition("k-a", "A"), condition("k-b", "B"))
    reply = await ask(gateway, "GET", "/Condition", roles=["researcher"])
    assert reply.status == 200, reply.raw
    assert [entry["resource"]["id"] for entry in reply.json["entry"]] == ["k-a"]
    assert "total" not in reply.json
    assert SECRET.encode() not in reply.raw
    assert asked(gateway) == ["GET /fhir/Condition", "GET /fhir/Consent"]
    assert ("patient", "Patient/A,Patient/B") in asked_for(gateway.upstream.requests[1])
    assert (await gateway.audit())[-1]["consents"] == ["c1"]
    assert (await ask(gateway, "GET", "/Patient/A", roles=["researcher"])).status == 200
    check_refusal(gateway, await ask(gateway, "GET", "/Patient/B", roles=["researcher"]), 403, "no-permit")


@pytest.mark.parametrize(
    "wrong",
    [
        consent("c1", status="inactive"),
        consent("c1", organization=[{"reference": "Organization/h2"}]),
        consent("c1", organization=[]),
        consent("c1", verification=[{"verified": False}]),
        consent("c1", verification=[]),
        consent("c1", patient={"reference": "Patient/B"}),
        consent("c1", patient={"reference": "http://elsewhere/fhir/Patient/A"}),
        consent("c1", provision={"type": "permit"}) | {"scope": {"coding": [{"code": "research"}]}},
        consent("c1", provision={"type": "permit", "dataPeriod": {"start": "2020"}}),
        consent("c1", provision={"type": "permit", "provision": [{"type": "deny", "code": [{}]}]}),
        consent("c1", modifierExtension=[{"url": "urn:not", "valueBoolean": True}]),
    ],
    ids=["ended", "of-another", "of-nobody", "refuted", "unverified", "of-a-stranger", "elsewhere", "other-scope",
         "data-period", "unclear-exception", "modified"],
)  # fmt: skip
async def test_297_a_consent_that_is_not_right_opens_nothing(
    gateway: RunningGateway, wrong: dict[str, Any]
) -> None:
    put(gateway, wrong)
    check_refusal(gateway, await ask(gateway, "GET", "/Patient/A", roles=["researcher"]), 403, "no-permit")
    put(gateway, consent("c1"))
    assert (await ask(gateway, "GET", "/Patient/A", roles=["researcher"])).status == 200


async def test_298_consents_that_come_too_late_are_503(gateway: RunningGateway) -> None:
    release = asyncio.Event()

    async def hanging(request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/Consent"):
            await release.wait()
        bundle = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": condition("k", "A")}]}
        found = gateway.upstream.resources["Patient/A"] if "Patient" in request.path else bundle
        return web.json_response(found, content_type="application/fhir+json")

    gateway.upstream.answer = hanging
    before = len(await gateway.audit())
    one, many = await asyncio.gather(
        ask(gateway, "GET", "/Patient/A", roles=["researcher"]),
        ask(gateway, "GET", "/Condition", roles=["researcher"]),
    )
    release.set()
    check_refusal(gateway, one, 503, "consent-unavailable")
    check_refusal(gateway, many, 503, "consent-unavailable")
    assert len(await gateway.audit()) == before + 2
    gateway.upstream.reset()
    put(gateway, consent("c1"))
    assert (await ask(gateway, "GET", "/Patient/A", roles=["researcher"])).status == 200


async def test_298_consents_of_a_mount_without_a_source_are_503(tmp_path: Path) -> None:
    gateway = await start_gateway(tmp_path, policies=policies(tmp_path))
    try:
        put(gateway, consent("c1"), team("t1", "A"))
        reply = await ask(gateway, "GET", "/Patient/A", roles=["researcher"])
        check_refusal(gateway, reply, 503, "consent-unavailable")
        assert asked(gateway) == ["GET /fhir/Patient/A"]
        assert (await ask(gateway, "GET", "/Patient/A")).status == 200
    finally:
        await stop_gateway(gateway)


async def test_298_a_write_needs_the_consent_that_its_rule_asks_for(gateway: RunningGateway) -> None:
    put(gateway, consent("c1"))
    body = {k: v for k, v in condition("k", "A").items() if k != "id"}
    made = await ask(gateway, "POST", "/Condition", body, roles=["registrar"])
    assert made.status in (200, 201), made.raw
    gateway.upstream.requests.clear()
    before = len(await gateway.audit())
    stranger = body | {"subject": {"reference": "Patient/B"}}
    refused = await ask(gateway, "POST", "/Condition", stranger, roles=["registrar"])
    check_refusal(gateway, refused, 403, "policy-denied")
    assert asked(gateway) == ["GET /fhir/Consent"]
    assert len(await gateway.audit()) == before + 1
    put(gateway, condition("k-b", "B"))
    moved = await ask(gateway, "PUT", "/Condition/k-b", condition("k-b", "A"), roles=["registrar"])
    check_refusal(gateway, moved, 403, "policy-denied")
    assert "PUT /fhir/Condition/k-b" not in asked(gateway)


async def test_consents_come_from_the_store_that_keeps_them(tmp_path: Path) -> None:
    other = HostileUpstream()
    await other.start()
    settings = ConsentSettings(ConsentSource(), base=other.base, authorization="Bearer desk", timeout=5.0)
    gateway = await start_gateway(tmp_path, policies=policies(tmp_path), consents=settings)
    try:
        put(gateway, consent("own", "B"))
        other.resources["Consent/c1"] = consent("c1")
        assert (await ask(gateway, "GET", "/Patient/A", roles=["researcher"])).status == 200
        refused = await ask(gateway, "GET", "/Patient/B", roles=["researcher"])
        check_refusal(gateway, refused, 403, "no-permit")
        assert {request.headers["authorization"] for request in other.requests} == {"Bearer desk"}
        assert [request for request in gateway.upstream.requests if "authorization" in request.headers] == []
        assert "GET /fhir/Consent" not in asked(gateway)
    finally:
        await stop_gateway(gateway)
        await other.stop()


async def test_a_list_is_read_to_its_last_page(gateway: RunningGateway) -> None:
    async def paging(request: web.BaseRequest) -> web.StreamResponse:
        if not request.path.endswith("CareTeam"):
            return web.json_response(gateway.upstream.resources["Patient/A"])
        page = int(request.query.get("page", "1"))
        further = {"relation": "next", "url": f"{gateway.upstream.base}/CareTeam?page={page + 1}"}
        entry = [{"resource": team(f"t{page}", {1: "X", 2: "Y", 3: "A"}[page])}]
        links = [further] if page < 3 else []
        return web.json_response(
            {"resourceType": "Bundle", "type": "searchset", "link": links, "entry": entry}
        )

    gateway.upstream.answer = paging
    assert (await ask(gateway, "GET", "/Patient/A", sub="pages")).status == 200
    assert asked(gateway) == ["GET /fhir/CareTeam"] * 3 + ["GET /fhir/Patient/A"]


async def test_entries_of_a_batch_share_what_was_found_out(gateway: RunningGateway) -> None:
    put(gateway, consent("c1"))
    paths = ("Patient/A", "Observation/a1", "Patient/B")
    entries = [{"request": {"method": "GET", "url": path}} for path in paths]
    batch = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    reply = await ask(gateway, "POST", "", batch, sub="batch")
    assert reply.status == 200, reply.raw
    answers = [entry["response"]["status"][:3] for entry in reply.json["entry"]]
    assert answers == ["200", "200", "404"]
    assert SECRET.encode() not in reply.raw
    assert asked(gateway).count("GET /fhir/CareTeam") == 1
    study = await ask(gateway, "POST", "", batch, roles=["researcher"])
    answers = [entry["response"]["status"][:3] for entry in study.json["entry"]]
    assert answers == ["200", "403", "403"]


# 296: labels of the encounter


def procedure(id_: str, encounter: str, note: str) -> dict[str, Any]:
    return {
        "resourceType": "Procedure",
        "id": id_,
        "subject": {"reference": "Patient/A", "display": note},
        "encounter": {"reference": f"Encounter/{encounter}"},
    }


def visit(id_: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Encounter", "id": id_, "subject": {"reference": "Patient/A"}} | more


PSY = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSY"}]}


async def test_296_what_belongs_to_a_labelled_encounter_is_labelled(gateway: RunningGateway) -> None:
    put(gateway, visit("296-psy", meta=PSY), visit("296-part", partOf={"reference": "Encounter/296-psy"}))
    put(gateway, visit("296-plain"))
    put(gateway, procedure("p1", "296-psy", SECRET), procedure("p2", "296-part", SECRET))
    put(gateway, procedure("p3", "296-plain", "own"), procedure("p4", "296-gone", SECRET))
    before = len(await gateway.audit())
    reply = await ask(gateway, "GET", "/Procedure", roles=["nurse"])
    assert [entry["resource"]["id"] for entry in reply.json["entry"]] == ["p3"]
    assert SECRET.encode() not in reply.raw
    assert asked(gateway) == ["GET /fhir/Procedure", "GET /fhir/Encounter"]
    assert len(await gateway.audit()) == before + 1
    for id_ in ("p1", "p2", "p4"):
        refused = await ask(gateway, "GET", f"/Procedure/{id_}", roles=["nurse"])
        check_refusal(gateway, refused, 403, "policy-denied")
    assert (await ask(gateway, "GET", "/Procedure/p3", roles=["nurse"])).status == 200


async def test_296_labels_that_cannot_be_had_are_503(gateway: RunningGateway) -> None:
    async def failing(request: web.BaseRequest) -> web.StreamResponse:
        if "Encounter" in request.path:
            return web.Response(status=500)
        return web.json_response(procedure("p", "296-new", SECRET), content_type="application/fhir+json")

    gateway.upstream.answer = failing
    reply = await ask(gateway, "GET", "/Procedure/p", roles=["nurse"])
    check_refusal(gateway, reply, 503, "labels-unavailable")
    gateway.upstream.reset()
    put(gateway, visit("296-new"), procedure("p", "296-new", "own"))
    assert (await ask(gateway, "GET", "/Procedure/p", roles=["nurse"])).status == 200


async def test_the_operator_sees_how_often_the_store_was_asked(gateway: RunningGateway) -> None:
    await ask(gateway, "GET", "/Patient/A", sub="metrics")
    await ask(gateway, "GET", "/Patient/A", roles=["researcher"])
    text = gateway.gateway.metrics.text().decode()
    assert 'securus_fact_requests_total{fact="my-patients",outcome="asked",route="fhir"}' in text
    assert 'securus_consent_requests_total{outcome="asked",route="fhir"}' in text
    assert MOUNT not in text

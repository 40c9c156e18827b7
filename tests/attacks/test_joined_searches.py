"""Attack group E: chains, `_has` and includes before a store that honours nothing and includes the whole world.

Every row makes the five assertions: no marker of another patient, nothing upstream on a refusal, one audit record, an
OperationOutcome that tells nothing of the store, and permitted twins that succeed.
"""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.gateway import Reply, RunningGateway, start_gateway, stop_gateway
from tests.support.hostile_upstream import asked_for
from tests.support.policies import policy
from tests.support.world import SECRET, world

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]

RULES = (
    "rule: own, effect: permit, who: {context: patient}, may: [read, search], resources: [Patient, Observation, "
    'Encounter, Condition], where: {compartment: {patient: "{token.patient}"}}, conceal: true, '
    "query: {include: any-permitted, chain_depth: 2}",
    "rule: directory, effect: permit, who: {context: patient}, may: [read, search], resources: [Practitioner, "
    "Organization], shared: true, query: {include: any-permitted, chain_depth: 2}",
    "rule: staff, effect: permit, who: {context: user}, may: [read, search], resources: "
    "[Patient, Observation, Encounter, Practitioner], shared: true, "
    "query: {include: [Observation:performer], chain_depth: 1}",
)
DEFINITIONS = "definitions: d\nversion: 1\nclaims:\n  patient: {path: patient, type: id}\n"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("joins")
    policies = folder / "policies"
    policies.mkdir()
    (policies / "0.yaml").write_text(DEFINITIONS)
    tests = "  - {test: t, as: {context: user}, request: GET /Patient/A, expect: {status: 200}}\n"
    (policies / "1.yaml").write_text(policy(*RULES, tests=tests))
    running = await start_gateway(folder, policies=policies)
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def hostile(gateway: RunningGateway) -> None:
    """A store that answers every search with all of the type as matches, and all the rest as includes."""
    gateway.upstream.reset()
    store = gateway.upstream
    store.resources = world()
    store.resources["Observation/a1"]["performer"] = [
        {"reference": "Practitioner/dr1"},
        {"reference": "Patient/B"},
    ]
    store.resources["Observation/b1"]["performer"] = [{"reference": "Practitioner/dr2"}]

    async def everything(request: web.BaseRequest) -> web.StreamResponse:
        type_ = request.path.removeprefix("/fhir/").partition("/")[0]
        query = request.query_string or (await request.text())
        found = sorted(store.resources.values(), key=lambda r: r["resourceType"] != type_)
        return web.json_response(
            {
                "resourceType": "Bundle",
                "type": "searchset",
                "total": len(found),
                "link": [{"relation": "self", "url": f"{store.base}/{type_}?{query}"}],
                "entry": [
                    {"resource": r, "search": {"mode": "match" if r["resourceType"] == type_ else "include"}}
                    for r in found
                ],
            },
            content_type="application/fhir+json",
        )

    store.answer = everything


def check(gateway: RunningGateway, reply: Reply) -> None:
    """Assertions 1 and 4."""
    assert SECRET.encode() not in reply.raw
    assert base64.b64encode(SECRET.encode())[:-4] not in reply.raw
    assert f":{gateway.upstream.port}".encode() not in reply.raw
    assert b"upstream-product" not in reply.raw
    if reply.status >= 400:
        assert reply.json["resourceType"] == "OperationOutcome"


def shown(reply: Reply) -> set[str]:
    assert reply.status == 200, reply.raw[:500]
    return {f"{e['resource']['resourceType']}/{e['resource']['id']}" for e in reply.json.get("entry", [])}


REFUSED = {
    "E82a": ("Observation?_include=*", "unsupported-parameter"),
    "E82b": ("Observation?_include=Observation:*", "unsupported-parameter"),
    "E82c": ("Observation?_revinclude=*", "unsupported-parameter"),
    "E84a": ("Patient?_id=A&_revinclude=Group:member", "join-closed"),
    "E84b": ("Patient?_id=A&_revinclude=Provenance:target", "join-closed"),
    "E84d": ("Patient?_revinclude=List:item&_revinclude=List:subject", "join-closed"),
    "E84c": ("Patient?_id=A&_revinclude=AuditEvent:entity", "join-closed"),
    "E85": ("Practitioner?_has:Observation:performer:patient=B", "join-closed"),
    "E85b": ("Practitioner?_has%3AObservation%3Aperformer%3Apatient=B", "join-closed"),
    "E86": ("Patient?_id=A&_has:Observation:patient:_has:AuditEvent:entity:agent=Practitioner/dr2", "join-closed"),
    "E88a": ("Practitioner?_id=dr1&_has:Patient:general-practitioner:birthdate=lt1980", "join-closed"),
    "E88b": ("Organization?_has:Patient:organization:name=x", "join-closed"),
    "E89": ("Observation?subject:Group.member:Patient.name=x", "join-closed"),
    "E90": ("Observation?patient=A&focus:Patient.name=B", "join-closed"),
    "E90b": ("Observation?performer:Patient.name=x", "join-closed"),
    "E90c": ("Observation?encounter:Encounter.status=finished", "join-closed"),
    "E90d": ("Patient?link:Patient.name=x", "join-closed"),
    "E97a": ("Observation?_graph=x", "unsupported-parameter"),
    "E97b": ("Observation?_contains=x", "unknown-parameter"),
    "E97c": ("Observation?_include=Observation:nonexistent", "unknown-parameter"),
    "F-sort": ("Observation?_sort=subject.name", "unsupported-parameter"),
}  # fmt: skip


@pytest.mark.parametrize("posted", [False, True], ids=["get", "post"])
@pytest.mark.parametrize(("path", "reason"), REFUSED.values(), ids=REFUSED)
async def test_a_join_that_may_tell_of_strangers_is_refused(
    gateway: RunningGateway, path: str, reason: str, posted: bool
) -> None:
    before = len(await gateway.audit())
    type_, _, query = path.partition("?")
    if posted:
        form = [("Content-Type", "application/x-www-form-urlencoded")]
        reply = await gateway.fhir("POST", f"/{type_}/_search", headers=form, body=query.encode())
    else:
        reply = await gateway.fhir("GET", f"/{path}")
    assert reply.reason == reason, reply.raw[:400]
    assert reply.status in (400, 403)
    check(gateway, reply)
    assert gateway.upstream.requests == []
    access = [r for r in (await gateway.audit())[before:] if r.get("event") == "access"]
    assert len(access) == 1


OWN = {"Observation/a1", "Observation/a-vitals", "Observation/a-mh"}
TWINS = {
    "E81": ("Observation?patient=A&_include=Observation:performer", OWN | {"Practitioner/dr1"}),
    "E81b": ("Observation?_include=Observation:performer:Patient", OWN),
    "E84": ("Patient?_id=A&_revinclude=Observation:subject", OWN | {"Patient/A"}),
    "E85c": ("Patient?_has:Observation:subject:code=4548-4", {"Patient/A"}),
    "E89": ("Observation?subject.name=Smith", OWN),
    "E89b": ("Observation?subject:Patient.identifier=x", OWN),
    "E89c": ("Observation?patient.organization.partof=Organization/h1", OWN),
    "E92": ("Observation?_include=Observation:subject:Patient", OWN | {"Patient/A"}),
    "E92b": ("Observation", OWN),
    "E94": ("Observation?_include:iterate=Observation:subject", OWN | {"Patient/A"}),
}


@pytest.mark.parametrize(("path", "expected"), TWINS.values(), ids=TWINS)
async def test_of_what_a_store_includes_the_own_and_asked_for_is_shown(
    gateway: RunningGateway, path: str, expected: set[str]
) -> None:
    before = len(await gateway.audit())
    reply = await gateway.fhir("GET", f"/{path}")
    check(gateway, reply)
    assert shown(reply) == expected
    (seen,) = gateway.upstream.requests
    narrowing = ("_id", "A") if path.startswith("Patient") else ("subject", "Patient/A")
    assert narrowing in asked_for(seen)
    assert len([r for r in (await gateway.audit())[before:] if r.get("event") == "access"]) == 1


async def test_an_include_that_only_a_hidden_match_leads_to_is_dropped(gateway: RunningGateway) -> None:
    reply = await gateway.fhir("GET", "/Observation?_include=Observation:performer")
    assert "Practitioner/dr2" not in shown(reply)  # whom everybody may see, but who treated somebody else
    gateway.upstream.answer = None
    assert (await gateway.fhir("GET", "/Practitioner/dr2")).status == 200


async def test_an_include_that_comes_before_its_match_waits_for_it(gateway: RunningGateway) -> None:
    store = gateway.upstream

    async def reversed_(request: web.BaseRequest) -> web.StreamResponse:
        found = [store.resources[k] for k in ("Practitioner/dr1", "Practitioner/dr2", "Observation/a1")]
        return web.json_response(
            {
                "resourceType": "Bundle",
                "type": "searchset",
                "link": [{"relation": "self", "url": f"{store.base}/Observation?{request.query_string}"}],
                "entry": [
                    {"resource": r, "search": {"mode": "match" if "status" in r else "include"}}
                    for r in found
                ],
            },
            content_type="application/fhir+json",
        )

    store.answer = reversed_
    reply = await gateway.fhir("GET", "/Observation?_include=Observation:performer")
    assert shown(reply) == {"Observation/a1", "Practitioner/dr1"}


@pytest.mark.parametrize("mode", ["outcome", "Match", "other", 7])
async def test_E92_an_entry_of_an_unknown_mode_is_dropped(gateway: RunningGateway, mode: Any) -> None:
    store = gateway.upstream

    async def odd(request: web.BaseRequest) -> web.StreamResponse:
        entry = {"resource": store.resources["Observation/a1"], "search": {"mode": mode}}
        link = [{"relation": "self", "url": f"{store.base}/Observation?{request.query_string}"}]
        bundle = {"resourceType": "Bundle", "type": "searchset", "link": link, "entry": [entry]}
        return web.json_response(bundle, content_type="application/fhir+json")

    store.answer = odd
    assert shown(await gateway.fhir("GET", "/Observation?_include=Observation:subject")) == set()


async def test_the_self_link_must_show_the_narrowing_of_a_joined_search(gateway: RunningGateway) -> None:
    store = gateway.upstream

    async def deaf(request: web.BaseRequest) -> web.StreamResponse:
        link = [{"relation": "self", "url": f"{store.base}/Observation?subject:Patient.name=x"}]
        bundle = {"resourceType": "Bundle", "type": "searchset", "link": link, "entry": []}
        return web.json_response(bundle, content_type="application/fhir+json")

    store.answer = deaf
    before = gateway.gateway.metrics.narrowing_ignored.labels().value
    reply = await gateway.fhir("GET", "/Observation?subject:Patient.name=x")
    assert (reply.status, reply.reason) == (502, "narrowing-ignored")
    assert gateway.gateway.metrics.narrowing_ignored.labels().value == before + 1


async def test_a_page_of_an_included_search_is_judged_like_the_first(gateway: RunningGateway) -> None:
    store = gateway.upstream
    first = store.answer
    assert first is not None

    async def with_next(request: web.BaseRequest) -> web.StreamResponse:
        answer = await first(request)
        assert isinstance(answer, web.Response)
        bundle = json.loads(answer.text or "")
        bundle["link"].append({"relation": "next", "url": f"{store.base}/Observation?_getpages=1"})
        return web.json_response(bundle, content_type="application/fhir+json")

    store.answer = with_next
    reply = await gateway.fhir("GET", "/Observation?_include=Observation:performer")
    following = next(link["url"] for link in reply.json["link"] if link["relation"] == "next")
    page = await gateway.fhir("GET", following.removeprefix(gateway.origin).removeprefix("/fhir/r4"))
    check(gateway, page)
    assert shown(page) == OWN | {"Practitioner/dr1"}


async def test_staff_include_only_what_their_rule_names(gateway: RunningGateway) -> None:
    reply = await gateway.fhir("GET", "/Observation?_include=Observation:performer", who="dr1")
    assert {"Practitioner/dr1", "Practitioner/dr2", "Patient/B"} <= shown(reply)
    other = await gateway.fhir("GET", "/Observation?_include=Observation:subject", who="dr1")
    assert (other.status, other.reason) == (403, "query-closed")
    chained = await gateway.fhir("GET", f"/Observation?{quote('subject:Patient.name')}=x", who="dr1")
    assert chained.status == 200
    deeper = await gateway.fhir("GET", "/Observation?subject:Patient.organization.name=x", who="dr1")
    assert deeper.reason == "query-closed"


SHAPES = {
    "E94": ("Observation?_include=Observation:subject&_elements=id", OWN | {"Patient/A"}),
    "F104a": ("Observation?_summary=text", OWN),
    "F104b": ("Observation?_summary=data", OWN),
    "F104c": ("Observation?_summary=true", OWN),
    "F105": ("Observation?_elements=Patient.name,Observation.code", OWN),
}


@pytest.mark.parametrize(("path", "expected"), SHAPES.values(), ids=SHAPES)
async def test_a_shape_takes_nothing_away_from_the_decision(
    gateway: RunningGateway, path: str, expected: set[str]
) -> None:
    reply = await gateway.fhir("GET", f"/{path}")
    check(gateway, reply)
    assert shown(reply) == expected
    assert {name for name, _ in asked_for(gateway.upstream.requests[-1])} <= {"_include", "subject"}
    for entry in reply.json["entry"]:
        assert [tag["code"] for tag in entry["resource"]["meta"]["tag"]] == ["SUBSETTED"]
        assert "valueQuantity" not in entry["resource"] or "_summary" in path
        assert "subject" not in entry["resource"] or "_summary" in path


async def test_a_read_in_a_shape_is_judged_whole(gateway: RunningGateway) -> None:
    gateway.upstream.answer = None
    own = await gateway.fhir("GET", "/Observation/a1?_elements=code")
    assert own.status == 200
    assert own.json.keys() == {"resourceType", "id", "meta", "status", "code"}
    foreign = await gateway.fhir("GET", "/Observation/b1?_elements=code")
    assert (foreign.status, foreign.reason) == (404, "not-found")
    check(gateway, foreign)
    assert [str(r) for r in gateway.upstream.requests] == [
        "GET /fhir/Observation/a1",
        "GET /fhir/Observation/b1",
    ]


async def test_F98_a_count_counts_the_own_or_is_not_told(gateway: RunningGateway) -> None:
    reply = await gateway.fhir("GET", "/Observation?code=4548-4&_summary=count")
    assert reply.json.get("entry", []) == []
    check(gateway, reply)
    assert ("subject", "Patient/A") in asked_for(gateway.upstream.requests[-1])
    gateway.upstream.answer = None
    gateway.upstream.echoes = False
    reply = await gateway.fhir("GET", "/Observation?code=4548-4&_summary=count")
    assert (reply.status, reply.reason) == (502, "narrowing-ignored")
    assert b'"total"' not in reply.body

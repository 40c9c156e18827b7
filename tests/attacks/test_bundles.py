"""Batches: every entry is decided as if it came alone, and what comes back is filtered entry by entry.

The claims of each refusal: status and reason at the entry's own place, what the store saw, no byte of the stranger's
record, an audit record, and that the same entry about an own resource passes.
"""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.settings import BundleLimits
from tests.support.gateway import MOUNT, Reply, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.world import SECRET, world

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
JSON = ("Content-Type", "application/fhir+json")
POLICY = """
policy: bundling
version: 1
owner: tests
text: What may come in a Bundle.
status: enforce
rules:
  - rule: own-chart
    effect: permit
    who: {context: patient}
    may: [read, search, create, update, patch, delete]
    resources: [Observation, Patient]
    where: {compartment: {patient: "{token.patient}", membership: subject}}
    conditional: {keys: [identifier]}
    because: a patient keeps the own diary
  - rule: patients-send-bundles
    effect: permit
    who: {context: patient}
    may: [batch, transaction]
    resources: [Observation, Patient, Provenance]
    because: apps send what was measured at once
  - rule: staff-reads-in-batches
    effect: permit
    who: {context: user}
    may: [read, search, create, batch]
    resources: [Observation]
    shared: true
    because: one page of the ward list is one batch
  - rule: staff-sees-encounters
    effect: permit
    who: {context: user}
    may: [read]
    resources: [Encounter]
    shared: true
    because: not in a Bundle
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("bundles")
    limits = BundleLimits(entries=20, size=64 * 1024, answer_size=16 * 1024)
    running = await start_gateway(
        folder, policies=policies_with(folder, "90-bundling.yaml", POLICY), bundle=limits
    )
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()


def entry(
    method: str, url: Any, resource: Any = None, full_url: Any = None, **request: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {"request": {"method": method, "url": url, **request}}
    if resource is not None:
        found["resource"] = resource
    if full_url is not None:
        found["fullUrl"] = full_url
    return found


def bundle(kind: Any, *entries: Any, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)} | more


def observation(patient: str = "A", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "pulse"},
        "subject": {"reference": f"Patient/{patient}"},
    } | more


async def post(
    gateway: RunningGateway, value: Any, *, who: str = "pA-rw", headers: tuple[tuple[str, str], ...] = ()
) -> Reply:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return await gateway.fhir("POST", "/", who=who, headers=[JSON, *headers], body=raw)


def said(reply: Reply) -> list[tuple[str, str | None]]:
    """Status and reason of every entry."""
    return [
        (
            each["response"]["status"],
            each["response"].get("outcome", {}).get("issue", [{}])[0]["details"]["coding"][0]["code"]
            if "outcome" in each["response"]
            else None,
        )
        for each in reply.json["entry"]
    ]


OWN = entry("GET", "Patient/A")


async def test_a_batch_answers_every_entry_in_its_place(gateway: RunningGateway) -> None:
    reply = await post(
        gateway, bundle("batch", OWN, entry("GET", "Observation/a1"), entry("GET", "Observation?code=4548-4"))
    )
    assert reply.status == 200
    assert (reply.json["type"], len(reply.json["entry"])) == ("batch-response", 3)
    first, second, third = reply.json["entry"]
    assert first["resource"] == world()["Patient/A"]
    assert (second["resource"]["id"], second["response"]["etag"]) == ("a1", 'W/"1"')
    assert {e["resource"]["id"] for e in third["resource"]["entry"]} == {"a1", "a-vitals", "a-mh"}
    assert [each["response"]["status"] for each in reply.json["entry"]] == ["200"] * 3
    assert SECRET.encode() not in reply.raw


async def test_J186_a_refused_entry_stands_beside_those_that_pass(gateway: RunningGateway) -> None:
    reply = await post(
        gateway,
        bundle(
            "batch", entry("GET", "Encounter/eb"), entry("GET", "Observation/a1"), entry("GET", "Device/d-b")
        ),
        who="dr1",
    )
    assert said(reply) == [("403", "interaction-closed"), ("200", None), ("403", "interaction-closed")]
    assert [str(r) for r in gateway.upstream.requests] == ["GET /fhir/Observation/a1"]
    outcome = reply.json["entry"][2]["response"]["outcome"]["issue"][0]
    assert outcome["expression"] == ["Bundle.entry[2]"]


async def test_what_a_batch_may_not_hold_passes_alone(gateway: RunningGateway) -> None:
    assert (await gateway.fhir("GET", "/Encounter/eb", who="dr1")).status == 200


async def test_every_entry_has_a_record_of_its_own_under_the_id_of_the_bundle(
    gateway: RunningGateway,
) -> None:
    reply = await post(gateway, bundle("batch", OWN, entry("GET", "Patient/B")))
    own, foreign, whole = (await gateway.audit())[-3:]
    assert {r["interaction_id"] for r in (own, foreign, whole)} == {reply.header("x-fapi-interaction-id")}
    assert (own["entry"], own["decision"], own["request"]["id"]) == (0, "permit", "A")
    assert (foreign["entry"], foreign["decision"], foreign["reason"]) == (1, "refused", "not-found")
    assert own["rules"] == ["bundling/own-chart"]
    assert (whole["interaction"], whole["status"], whole["entries"]["shown"]) == ("batch", 200, 1)
    assert own["caller"] == whole["caller"]
    assert "entry" not in whole


async def test_writes_of_a_batch_are_judged_and_answered(gateway: RunningGateway) -> None:
    made = observation(id="new")
    gateway.upstream.resources.pop("Observation/a-mh")
    reply = await post(
        gateway,
        bundle(
            "batch",
            entry("PUT", "Observation/a1", observation(id="a1"), ifMatch='W/"1"'),
            entry("PUT", "Observation/a-vitals", observation(id="a-vitals"), ifMatch='W/"7"'),
            entry("PUT", "Observation/b1", observation(id="b1")),
            entry("POST", "Observation", observation("B")),
            entry("DELETE", "Observation/ab"),
            entry("PUT", "Observation/new", made),
        ),
    )
    assert said(reply) == [
        ("200", None),
        ("412", "version-conflict"),
        ("404", "not-found"),
        ("403", "scope-insufficient"),
        ("404", "not-found"),
        ("201", None),
    ]
    changed = reply.json["entry"][0]
    assert (changed["response"]["etag"], changed["resource"]["code"]) == ('W/"2"', {"text": "pulse"})
    place = reply.json["entry"][5]["response"]["location"]
    assert place == f"{gateway.origin}{MOUNT}/Observation/new/_history/1"
    assert {"GET", "PUT"} == {r.method for r in gateway.upstream.requests}
    assert gateway.upstream.resources["Observation/b1"] == world()["Observation/b1"]
    assert SECRET.encode() not in reply.raw


async def test_J172_a_json_patch_comes_in_a_binary_and_is_judged(gateway: RunningGateway) -> None:
    def patch(value: str, media: str = "application/json-patch+json") -> dict[str, Any]:
        raw = json.dumps([{"op": "replace", "path": "/subject/reference", "value": value}]).encode()
        return {"resourceType": "Binary", "contentType": media, "data": base64.b64encode(raw).decode()}

    away = entry("PATCH", "Observation/a1", patch("Patient/B"))
    reply = await post(gateway, bundle("batch", away, entry("PATCH", "Observation/a1", patch("Patient/A"))))
    assert reply.reason == "invalid-body"  # one resource is written twice
    reply = await post(gateway, bundle("batch", away))
    assert said(reply) == [("403", "scope-insufficient")]
    reply = await post(gateway, bundle("batch", entry("PATCH", "Observation/a1", patch("Patient/A"))))
    assert said(reply) == [("200", None)]
    reply = await post(
        gateway, bundle("batch", entry("PATCH", "Observation/a1", patch("Patient/A", "text/plain")))
    )
    assert said(reply) == [("400", "invalid-body")]


async def test_J181_conditions_of_an_entry_act_as_the_headers_do_after_the_decision(
    gateway: RunningGateway,
) -> None:
    reply = await post(
        gateway,
        bundle(
            "batch",
            entry("GET", "Observation/a1", ifNoneMatch='W/"1"'),
            entry("GET", "Observation/b1", ifNoneMatch='W/"1"'),
            entry("GET", "Observation/b1", ifModifiedSince="2030-01-01T00:00:00Z"),
            entry("GET", "Observation/b1", ifModifiedSince="yesterday"),
            entry("HEAD", "Observation/a1"),
        ),
    )
    assert said(reply) == [
        ("304", None),
        ("404", "not-found"),
        ("404", "not-found"),
        ("400", "invalid-body"),
        ("200", None),
    ]
    assert "resource" not in reply.json["entry"][4]


async def test_J188_no_header_of_the_bundle_changes_how_the_store_takes_it(gateway: RunningGateway) -> None:
    headers = (("x-bundle-processing-logic", "parallel"), ("Prefer", "respond-async"))
    reply = await post(gateway, bundle("batch", OWN), headers=headers)
    assert said(reply) == [("200", None)]
    (sent,) = gateway.upstream.requests
    assert "x-bundle-processing-logic" not in sent.headers
    assert "async" not in sent.headers["prefer"]


@dataclass(frozen=True)
class Refused:
    """An entry that is refused where it stands, and nothing of it reaches the store but reads of its own target."""

    id: str
    entry: dict[str, Any]
    status: str
    reason: str
    store: bool = False


@pytest.mark.parametrize(
    "case",
    [
        Refused("J168 a stranger", entry("GET", "Patient/B"), "404", "not-found"),
        Refused("J168b a stranger's", entry("GET", "Observation/b1"), "404", "not-found", store=True),
        Refused("J170 dot segments", entry("GET", "Patient/A/../B"), "400", "ambiguous-path"),
        Refused("J170b the whole system", entry("GET", "?_type=Patient"), "403", "interaction-closed"),
        Refused("J170c a dot first", entry("GET", "./Patient/B"), "400", "ambiguous-path"),
        Refused("J170d an escaped letter", entry("GET", "%50atient/B"), "404", "not-found"),
        Refused("J170e a double slash", entry("GET", "Patient//B"), "400", "ambiguous-path"),
        Refused("J170f our own base", entry("GET", "{base}/Patient/B"), "404", "not-found"),
        Refused("J172b not known here", entry("DELETE", "Observation"), "400", "invalid-parameter"),
        Refused("J184 an export", entry("GET", "$export"), "403", "interaction-closed"),
        Refused("J184b a merge", entry("POST", "Patient/B/$merge", {"resourceType": "Parameters"}), "403",
                "interaction-closed"),
        Refused("J184c everything", entry("GET", "Patient/B/$everything"), "403", "interaction-closed"),
        Refused("J174 a Bundle is stored", entry("POST", "Bundle", bundle("collection")), "403",
                "interaction-closed"),
        Refused("a Bundle in it", entry("POST", "", bundle("batch", OWN)), "403", "interaction-closed"),
        Refused("a Bundle in it, by the base", entry("POST", "{base}/", bundle("batch", OWN)), "403",
                "interaction-closed"),
        Refused("the capabilities", entry("GET", "metadata"), "403", "interaction-closed"),
        Refused("a job", entry("GET", "_job/abc"), "403", "interaction-closed"),
        Refused("a foreign page", entry("GET", "Observation?_page=abc"), "404", "stale-link"),
        Refused("H132 a conditional reference", entry("POST", "Observation",
                observation(subject={"reference": "Patient?identifier=mrn|B"})), "403", "scope-insufficient"),
        Refused("a create without a resource", entry("POST", "Observation"), "400", "invalid-body"),
        Refused("an unknown type", entry("GET", "Patients/A"), "404", "unknown-type"),
    ],
    ids=lambda case: case.id,
)  # fmt: skip
async def test_an_entry_is_refused_as_it_would_be_alone(gateway: RunningGateway, case: Refused) -> None:
    asked = json.loads(json.dumps(case.entry).replace("{base}", gateway.origin + MOUNT))
    before = len(await gateway.audit())
    reply = await post(gateway, bundle("batch", asked, OWN))
    assert said(reply) == [(case.status, case.reason), ("200", None)], reply.raw
    issue = reply.json["entry"][0]["response"]["outcome"]["issue"][0]
    assert issue["expression"] == ["Bundle.entry[0]"]
    seen = [str(request) for request in gateway.upstream.requests]
    assert len(seen) == (2 if case.store else 1)
    assert "GET /fhir/Patient/A" in seen
    assert SECRET.encode() not in reply.raw
    assert gateway.upstream.resources == world()
    records = (await gateway.audit())[before:]
    assert [(r.get("entry"), r.get("reason")) for r in records] == [(0, case.reason), (1, None), (None, None)]


@pytest.mark.parametrize(
    ("id_", "value", "expression"),
    [
        ("J169 the store's own address", bundle("batch", OWN, entry("GET", "{store}/Patient/B")), "Bundle.entry[1]"),
        ("J169b another host", bundle("batch", OWN, entry("GET", "https://elsewhere.example/Patient/B")), "Bundle.entry[1]"),
        ("J169c no scheme", bundle("batch", OWN, entry("GET", "//elsewhere.example/Patient/B")), "Bundle.entry[1]"),
        ("J170 from the root", bundle("batch", entry("GET", "/Patient/B")), "Bundle.entry[0]"),
        ("J170b a fragment", bundle("batch", entry("GET", "Patient?_id=B#x")), "Bundle.entry[0]"),
        ("J170c a blank", bundle("batch", entry("GET", "Patient/B HTTP/1.1")), "Bundle.entry[0]"),
        ("J170d a line break", bundle("batch", entry("GET", "Patient/A\r\nHost: x")), "Bundle.entry[0]"),
        ("J172 small letters", bundle("batch", entry("get", "Patient/A")), "Bundle.entry[0]"),
        ("J172b another method", bundle("batch", entry("QUERY", "Patient")), "Bundle.entry[0]"),
        ("J172c CONNECT", bundle("batch", entry("CONNECT", "Patient/A")), "Bundle.entry[0]"),
        ("J173 no type", {"resourceType": "Bundle", "entry": [OWN]}, None),
        ("J173b history", bundle("history", OWN), None),
        ("J173c collection", bundle("collection", OWN), None),
        ("J173d document", bundle("document", OWN), None),
        ("J173e message", bundle("message", OWN), None),
        ("J173f searchset", bundle("searchset", OWN), None),
        ("J173g Batch", bundle("Batch", OWN), None),
        ("J173h a list of types", bundle(["batch"], OWN), None),
        ("no Bundle", OWN | {"resourceType": "Patient"}, None),
        ("J177 a fullUrl of another", bundle("batch", entry("PUT", "Observation/b1", observation(id="b1"),
         "{base}/Observation/a1")), "Bundle.entry[0]"),
        ("J177b a foreign fullUrl", bundle("batch", entry("PUT", "Observation/a1", observation(id="a1"),
         "https://elsewhere.example/Observation/a1")), "Bundle.entry[0]"),
        ("J177c a create with an address", bundle("batch", entry("POST", "Observation", observation(),
         "{base}/Observation/a1")), "Bundle.entry[0]"),
        ("J178 one fullUrl twice", bundle("batch", *[entry("POST", "Observation", observation(), "urn:uuid:1")] * 2),
         "Bundle.entry[1]"),
        ("J178b one target twice", bundle("batch", *[entry("PUT", "Observation/a1", observation(id="a1"))] * 2),
         "Bundle.entry[1]"),
        ("a response in it", bundle("batch", OWN | {"response": {"status": "200"}}), "Bundle.entry[0]"),
        ("a search in it", bundle("batch", OWN | {"search": {"mode": "include"}}), "Bundle.entry[0]"),
        ("an extension of the request", bundle("batch", entry("GET", "Patient/A", extension=[])),
         "Bundle.entry[0].request"),
        ("implicit rules", bundle("batch", OWN, implicitRules="urn:x"), "Bundle"),
        ("a resource with a GET", bundle("batch", entry("GET", "Patient/A", {"resourceType": "Patient"})),
         "Bundle.entry[0]"),
        ("no resource", bundle("batch", entry("PUT", "Patient/A")), "Bundle.entry[0]"),
        ("no request", bundle("batch", {"resource": observation()}), "Bundle.entry[0]"),
        ("an entry that is none", bundle("batch", OWN, 7), "Bundle.entry[1]"),
        ("entries that are none", {"resourceType": "Bundle", "type": "batch", "entry": {}}, "Bundle.entry"),
        ("a header in a condition", bundle("batch", entry("GET", "Patient/A", ifNoneMatch="a\r\nx: y")),
         "Bundle.entry[0]"),
    ],
)  # fmt: skip
async def test_a_bundle_that_has_another_reading_is_refused_whole(
    gateway: RunningGateway, id_: str, value: Any, expression: str | None
) -> None:
    text = (
        json.dumps(value).replace("{base}", gateway.origin + MOUNT).replace("{store}", gateway.upstream.base)
    )
    reply = await post(gateway, text.encode())
    assert (reply.status, reply.reason) == (400, "invalid-body"), reply.raw
    assert reply.json["issue"][0].get("expression") == (None if expression is None else [expression])
    assert gateway.upstream.requests == []
    record = (await gateway.audit())[-1]
    assert (record["reason"], record["caller"]["subject"]) == ("invalid-body", "pA-rw")


async def test_a_bundle_of_too_many_entries_or_bytes_is_refused(gateway: RunningGateway) -> None:
    assert (await post(gateway, bundle("batch", *[OWN] * 20))).status == 200
    gateway.upstream.requests.clear()
    assert (await post(gateway, bundle("batch", *[OWN] * 21))).reason == "too-large"
    assert (await post(gateway, bundle("batch", OWN, language="x" * 66_000))).reason == "too-large"
    assert gateway.upstream.requests == []


async def test_answers_that_are_too_long_together_are_left_to_be_asked_for_alone(
    gateway: RunningGateway,
) -> None:
    gateway.upstream.resources["Observation/a1"]["note"] = [{"text": "x" * 9000}]
    reply = await post(gateway, bundle("batch", *[entry("GET", "Observation/a1")] * 2, OWN))
    assert sorted(said(reply)) == [("200", None), ("200", None), ("413", "too-large")]


async def test_an_empty_batch_is_answered_by_an_empty_bundle(gateway: RunningGateway) -> None:
    reply = await post(gateway, {"resourceType": "Bundle", "type": "batch"})
    assert (reply.status, reply.json) == (200, {"resourceType": "Bundle", "type": "batch-response"})


async def test_who_has_no_rule_for_bundles_sends_none(gateway: RunningGateway) -> None:
    reply = await post(gateway, bundle("batch", entry("GET", "Observation/a1")), who="lab")
    assert said(reply) == [("403", "interaction-closed")]
    assert gateway.upstream.requests == []


SINGLES = [
    ("GET", "Patient/A"), ("GET", "Patient/B"), ("GET", "Observation/a1"), ("GET", "Observation/b1"),
    ("GET", "Observation/none"), ("GET", "Observation?code=4548-4"), ("GET", "Observation?subject=Patient/B"),
    ("GET", "Patient?name=x"), ("GET", "Encounter/eb"), ("GET", "Patient/A/Observation"), ("GET", "Observation?nix=1"),
    ("GET", "Observation/a1/_history"), ("GET", "Patient/A/"),
]  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(st.sampled_from(SINGLES), min_size=1, max_size=6))
async def test_P3_a_batch_answers_as_the_single_requests_do_whatever_their_order(
    gateway: RunningGateway, asked: list[tuple[str, str]]
) -> None:
    reply = await post(gateway, bundle("batch", *(entry(*each) for each in asked)))
    for each, (method, path) in zip(reply.json["entry"], asked, strict=True):
        alone = await gateway.fhir(method, f"/{path}", who="pA-rw")
        if path.partition("/")[0] == "Encounter":
            assert (each["response"]["status"], alone.status) == ("403", 403)
            continue
        assert each["response"]["status"] == str(alone.status)
        if alone.status == 200:
            assert each["resource"] == alone.json
        else:
            issue = each["response"]["outcome"]["issue"][0]
            assert issue.pop("expression")
            assert issue == alone.json["issue"][0]

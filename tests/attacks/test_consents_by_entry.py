"""Consents decide each resource by itself, whichever way it goes out: search, read, batch, $everything, export, version.

The patient permits everything to everybody but what is restricted, and her restricted data to nobody.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.consents.consent import SCOPES, ConsentReading, ConsentSource
from gateway.fhir.labels import ACT_CODE, CONFIDENTIALITY, ORDER
from gateway.settings import ConsentSettings
from tests.support.five import JSON, attack, shown
from tests.support.gateway import MOUNT, Reply, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.hostile_upstream import asked_for

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]

DEFINITIONS = """
definitions: agreed
version: 1
consent:
  scope: patient-privacy
  decision: permit
  for: ["{token.user}", "{client}"]
  unless: {context: patient}
  because: Patients decide.
"""
POLICY = """
policy: care
version: 1
owner: tests
status: enforce
text: Care.
rules:
  - rule: clinicians
    effect: permit
    who: {context: user}
    may: [read, vread, history-instance, search, batch, "operation:Patient/$everything"]
    resources: [Patient, Observation]
    shared: true
    because: care
  - rule: registry
    effect: permit
    who: {context: system}
    may: ["operation:Group/$export"]
    resources: [Group]
    shared: true
    operation: {types: [Observation]}
    because: registry
"""
SETTINGS = ConsentSettings(
    ConsentSource(tags=frozenset({("urn:t", "desk")}), verified=False),
    keep=0,
    reading=ConsentReading(unlabelled=ORDER.index("N")),
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("agreed")
    policies = policies_with(folder, "90-care.yaml", POLICY)
    (policies / "05-agreed.yaml").write_text(DEFINITIONS)
    running = await start_gateway(folder, policies=policies, consents=SETTINGS)
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()
    put(gateway, consent())


def put(gateway: RunningGateway, *resources: dict[str, Any]) -> None:
    for each in resources:
        gateway.upstream.resources[f"{each['resourceType']}/{each['id']}"] = each


def label(*codes: str) -> list[dict[str, str]]:
    return [{"system": CONFIDENTIALITY if code in ORDER else ACT_CODE, "code": code} for code in codes]


def consent(*exceptions: dict[str, Any], id_: str = "c1", patient: str = "A", **more: Any) -> dict[str, Any]:
    restricted = {"type": "deny", "securityLabel": label("R")}
    return {
        "resourceType": "Consent",
        "id": id_,
        "meta": {"versionId": "4", "tag": [{"system": "urn:t", "code": "desk"}]},
        "status": "active",
        "scope": {"coding": [{"system": SCOPES, "code": "patient-privacy"}]},
        "patient": {"reference": f"Patient/{patient}"},
        "provision": {"type": "permit", "provision": [restricted, *exceptions]},
    } | more


async def ask(gateway: RunningGateway, method: str, path: str, body: Any = None, **claims: Any) -> Reply:
    raw = b"" if body is None else json.dumps(body).encode()
    token = await gateway.token("dr1", **claims)
    return await attack(gateway, method, path, token=token, headers=[JSON] if raw else [], body=raw)


async def test_a_search_shows_the_entries_that_the_patient_lets_be_shown(gateway: RunningGateway) -> None:
    reply = await ask(gateway, "GET", "/Observation")
    assert shown(reply) == {"Observation/a1", "Observation/a-vitals"}
    assert "total" not in reply.json
    record = (await gateway.audit())[-1]
    assert record["consents"] == ["c1"]
    said = {
        (each["consent"], each["version"], each["provision"], each["decision"])
        for each in record["provisions"]
    }
    assert said == {
        ("c1", "4", "provision", "permit"),
        ("c1", "4", "provision.provision[0]", "deny"),
    }
    sent = next(each for each in gateway.upstream.requests if "/Consent" in str(each))
    assert ("status", "active,inactive,rejected") in asked_for(sent)


async def test_a_read_is_refused_by_the_labels_of_what_is_read(gateway: RunningGateway) -> None:
    refused = await ask(gateway, "GET", "/Observation/a-mh")
    assert (refused.status, refused.reason) == (403, "policy-denied")
    assert (await ask(gateway, "GET", "/Observation/a1")).status == 200
    psychiatrist = {
        "type": "permit",
        "securityLabel": label("R"),
        "actor": [{"reference": {"reference": "Practitioner/dr1"}}],
    }
    put(gateway, consent(psychiatrist))
    assert (await ask(gateway, "GET", "/Observation/a-mh")).status == 200
    other = await ask(gateway, "GET", "/Observation/a-mh", fhirUser="Practitioner/dr2")
    assert other.status == 403


async def test_who_has_no_consent_and_strangers_are_not_shown(gateway: RunningGateway) -> None:
    assert (await ask(gateway, "GET", "/Observation/b1")).status == 403
    assert (await ask(gateway, "GET", "/Patient/B")).status == 403
    assert (await ask(gateway, "GET", "/Patient/A")).status == 200


async def test_entries_of_a_batch_are_decided_one_by_one(gateway: RunningGateway) -> None:
    paths = ("Observation/a1", "Observation/a-mh", "Observation/b1", "Observation")
    entries = [{"request": {"method": "GET", "url": path}} for path in paths]
    token = await gateway.token("dr1")
    body = json.dumps({"resourceType": "Bundle", "type": "batch", "entry": entries}).encode()
    reply = await gateway.fhir("POST", "", token=token, headers=[JSON], body=body)
    answers = [entry["response"]["status"][:3] for entry in reply.json["entry"]]
    assert answers == ["200", "403", "403", "200"]
    found = {entry["resource"]["id"] for entry in reply.json["entry"][3]["resource"]["entry"]}
    assert found == {"a1", "a-vitals"}
    records = [each for each in await gateway.audit() if each.get("entry") is not None][-4:]
    assert [record.get("consents") for record in records] == [["c1"], ["c1"], None, ["c1"]]


async def test_everything_is_less_what_the_patient_holds_back(gateway: RunningGateway) -> None:
    reply = await ask(gateway, "GET", "/Patient/A/$everything")
    assert shown(reply) == {"Patient/A", "Observation/a1", "Observation/a-vitals"}


async def test_an_export_holds_the_lines_that_patients_let_be_held(gateway: RunningGateway) -> None:
    token = await gateway.token("lab")
    begun = await attack(
        gateway, "GET", "/Group/g/$export", token=token, headers=[("Prefer", "respond-async")]
    )
    assert begun.status == 202, begun.raw
    place = (begun.header("Content-Location") or "").removeprefix(gateway.origin + MOUNT)
    told = await attack(gateway, "GET", place, token=token)
    (file,) = told.json["output"]
    fetched = await gateway.fhir("GET", file["url"].removeprefix(gateway.origin + MOUNT), token=token)
    assert {json.loads(line)["id"] for line in fetched.body.splitlines()} == {"a1", "a-vitals"}


async def test_an_older_version_is_read_where_it_and_the_current_one_may_be_seen(
    gateway: RunningGateway,
) -> None:
    now = gateway.upstream.resources["Observation/a1"]
    versions: dict[str, Any] = {
        "1": now | {"meta": {"versionId": "1", "security": label("R", "PSY")}},
        "2": now | {"meta": {"versionId": "2", "security": label("N")}},
    }

    async def versioned(request: web.BaseRequest) -> web.StreamResponse:
        if "/Consent" in request.path:
            found: Any = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": consent()}]}
        elif request.path.endswith("/_history"):
            entries = [{"resource": each} for each in versions.values()]
            found = {"resourceType": "Bundle", "type": "history", "entry": entries}
        else:
            found = versions[
                request.path.rpartition("/_history/")[2] if "/_history/" in request.path else "2"
            ]
        return web.json_response(found, content_type="application/fhir+json")

    gateway.upstream.answer = versioned
    assert (await ask(gateway, "GET", "/Observation/a1/_history/2")).status == 200
    assert (await ask(gateway, "GET", "/Observation/a1/_history/1")).status == 403
    history = await ask(gateway, "GET", "/Observation/a1/_history")
    assert [entry["resource"]["meta"]["versionId"] for entry in history.json["entry"]] == ["2"]
    versions["2"] = versions["2"] | {"meta": {"versionId": "2", "security": label("R")}}
    versions["1"] = versions["1"] | {"meta": {"versionId": "1", "security": label("N")}}
    assert (await ask(gateway, "GET", "/Observation/a1/_history/1")).status == 403


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"status": "inactive"}, 403),
        ({"status": "rejected"}, 403),
        ({"status": "entered-in-error"}, 403),
        ({"provision": {"type": "deny"}}, 403),
        ({"provision": {"type": "permit", "period": {"end": "2020"}}}, 403),
        ({}, 200),
    ],
)
async def test_a_withdrawal_acts_at_once(
    gateway: RunningGateway, change: dict[str, Any], status: int
) -> None:
    token = await gateway.token("dr1")
    assert (await attack(gateway, "GET", "/Observation/a1", token=token)).status == 200
    put(gateway, consent(**change))
    assert (await attack(gateway, "GET", "/Observation/a1", token=token)).status == status


async def test_a_dissent_leaves_the_record_to_those_whose_purpose_it_excepts(gateway: RunningGateway) -> None:
    """As PCF's dissent with break-glass: nobody for treatment, one in an emergency; who says no purpose sees nothing."""
    emergency = {"type": "permit", "purpose": [{"code": "BTG"}]}
    dissent = {"type": "deny", "purpose": [{"code": "TREAT"}], "provision": [emergency]}
    put(gateway, consent(provision=dissent))
    for purpose, status in (("BTG", 200), ("TREAT", 403), ("HRESCH", 403), (None, 403)):
        claims = {} if purpose is None else {"purpose_of_use": [purpose]}
        assert (await ask(gateway, "GET", "/Patient/A", **claims)).status == status


async def test_the_data_of_a_visit_and_of_a_year_are_held_back_as_the_patient_says(
    gateway: RunningGateway,
) -> None:
    put(
        gateway,
        consent(
            {"type": "deny", "data": [{"meaning": "related", "reference": {"reference": "Encounter/e1"}}]},
            {"type": "deny", "dataPeriod": {"start": "2020", "end": "2021"}},
        ),
    )
    plain = gateway.upstream.resources["Observation/a1"]
    dated = {"effectiveDateTime": "2024-02-03"}
    put(
        gateway,
        plain
        | dated
        | {"id": "in-visit", "encounter": {"reference": f"{gateway.upstream.base}/Encounter/e1"}},
        plain | dated | {"id": "of-another", "encounter": {"reference": "Encounter/e2"}},
        plain | {"id": "of-the-year", "effectiveDateTime": "2020-12-31T23:59:59Z"},
    )
    found = shown(await ask(gateway, "GET", "/Observation"))
    # Those of the world say no date, so it cannot be told of them.
    assert found == {"Observation/of-another"}

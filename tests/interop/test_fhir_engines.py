"""Two FHIR engines that we did not write stand behind the gateway, and its promises hold in front of each of them."""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from gateway.config.profiles import shipped
from gateway.fhir.matching import compile_criteria
from gateway.fhir.resource import parse_json
from gateway.fhir.xml_reading import parse_resource_xml
from gateway.policies_folder import load_policies, policy_files
from gateway.policy.reading.criteria_used import criteria_used
from gateway.proxy.probe import probe
from tests.support.engines import (
    ANNA,
    BERT,
    SECRET,
    Engine,
    owner,
    resources,
    running_engine,
)
from tests.support.gateway import MOUNT, ROOT, Reply, RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.process]

ENGINES = [pytest.param(name, marks=pytest.mark.xdist_group(name), id=name) for name in ("medplum", "hapi")]
KNOWN: dict[str, list[str]] = {
    "medplum": [
        "a parameter that does not exist is skipped although strict handling was asked for",
    ],
    "hapi": [],
}
FORM = [("Content-Type", "application/x-www-form-urlencoded")]
CHART = (
    "Observation",
    "Condition",
    "Encounter",
    "Immunization",
    "DiagnosticReport",
    "Procedure",
    "MedicationRequest",
)
CLAIMS: dict[str, Any] = {"patient": ANNA, "fhirUser": f"Patient/{ANNA}"}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running_engine(request.param, tmp_path_factory.mktemp("engine") / "log") as running:
        yield running


@dataclass
class Setting:
    """A gateway before an engine, and what the engine holds."""

    engine: Engine
    gateway: RunningGateway
    held: list[dict[str, Any]]

    def ids(self, patient: str, type_: str) -> set[str]:
        """The ids of what a patient has of a type now."""
        current = {f"{r['resourceType']}/{r['id']}": r for r in self.held}
        return {r["id"] for r in current.values() if r["resourceType"] == type_ and owner(r) == patient}

    async def direct(self, path: str) -> Any:
        """What the engine itself says, past the gateway."""
        return await asyncio.to_thread(self._direct, path)

    def _direct(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.engine.port, timeout=30)
        try:
            connection.request("GET", "/fhir" + path, headers={"Accept": "application/fhir+json"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    async def anna(self, path: str, *, form: str | None = None) -> Reply:
        """A request with Anna's token; nothing in the answer is the store's address or product."""
        token = await self.gateway.token("pA-r", **CLAIMS)
        return await self._ask(path, token, form)

    async def physician(self, path: str, *, form: str | None = None) -> Reply:
        """A request with a physician's token."""
        return await self._ask(path, await self.gateway.token("dr1"), form)

    async def _ask(self, path: str, token: str, form: str | None) -> Reply:
        if form is None:
            reply = await self.gateway.fhir("GET", path, token=token)
        else:
            reply = await self.gateway.fhir("POST", path, token=token, headers=FORM, body=form.encode())
        for word in (f"127.0.0.1:{self.engine.port}", f":{self.engine.port}", "HAPI", "Jetty", "edplum"):
            assert word.encode() not in reply.raw, word
        for name in ("Location", "Set-Cookie", "X-Powered-By"):
            assert reply.header(name) is None
        place = reply.header("Content-Location")
        assert place is None or place.startswith(self.gateway.origin + MOUNT + "/")
        return reply

    async def pages(self, reply: Reply, ask: Any) -> list[dict[str, Any]]:
        """All pages from this one on, by their next links."""
        found = [reply.json]
        while (target := link(found[-1], "next")) is not None:
            assert target.startswith(self.gateway.origin + MOUNT + "/")
            assert "?_page=" in target
            page = await ask(target.removeprefix(self.gateway.origin + MOUNT))
            assert page.status == 200, page.raw[:500]
            found.append(page.json)
            assert len(found) < 60
        return found


def link(bundle: dict[str, Any], relation: str) -> str | None:
    return next((str(each["url"]) for each in bundle.get("link", []) if each["relation"] == relation), None)


def entries(*bundles: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for bundle in bundles for entry in bundle.get("entry", [])]


def ids(*bundles: dict[str, Any]) -> list[str]:
    return [entry["resource"]["id"] for entry in entries(*bundles)]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def setting(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Setting]:
    running = await start_gateway(
        tmp_path_factory.mktemp("gateway"), base=engine.base, profile=shipped(engine.name)
    )
    yield Setting(engine, running, resources(engine.base))
    await stop_gateway(running)


def assert_nothing_of_bert(setting: Setting, reply: Reply, *, asked: str = "") -> None:
    """No id, name or text of Bert's; what the caller wrote into the request may come back in the self link."""
    seen = reply.raw
    for each in setting.held:
        if owner(each) == BERT and each["id"] not in ("moved", BERT):
            assert each["id"] in asked or each["id"].encode() not in seen
    if BERT not in asked:
        assert BERT.encode() not in seen
    bert = next(each for each in setting.held if each["id"] == BERT)
    assert str(bert["name"][0]["family"]).encode() not in seen
    assert SECRET.encode() not in seen


async def test_the_engine_is_as_its_profile_says(setting: Setting) -> None:
    """The probe finds no error, and each warning is one that is known of this engine."""
    mount = setting.gateway.gateway._mounts[0]
    result = await probe(mount.client, criteria_used(load_policies(policy_files(ROOT / "policies"))))
    assert result.is_right, result.as_json()
    assert result.fhir_version == "4.0.1"
    assert setting.engine.name in result.software.lower()
    assert [finding.message for finding in result.findings] == KNOWN[setting.engine.name]


async def test_the_capability_statement_is_the_gateways(setting: Setting) -> None:
    reply = await setting.gateway.send("GET", f"{MOUNT}/metadata")
    assert reply.status == 200
    assert f":{setting.engine.port}".encode() not in reply.raw
    said = reply.json
    assert said["fhirVersion"] == "4.0.1"
    assert said["implementation"]["url"] == setting.gateway.origin + MOUNT
    rest = said["rest"][0]
    assert rest["security"]["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    offered = {each["type"]: {i["code"] for i in each["interaction"]} for each in rest["resource"]}
    assert {"read", "search-type"} <= offered["Patient"]
    assert {"read", "search-type"} <= offered["Observation"]
    # What some rule that is shipped opens, and no more: the laboratory files results and changes none.
    assert "create" in offered["Observation"]
    assert not {"update", "patch", "delete", "history-type"} & offered["Observation"]


async def test_the_own_record_is_read_as_the_engine_holds_it(setting: Setting) -> None:
    for type_ in ("Patient", *CHART):
        for id_ in sorted(setting.ids(ANNA, type_) - {"addresses"})[:3]:
            reply = await setting.anna(f"/{type_}/{id_}")
            assert reply.status == 200, (type_, id_, reply.raw[:300])
            assert reply.json == await setting.direct(f"/{type_}/{id_}")
            assert_nothing_of_bert(setting, reply)


async def test_the_own_record_in_xml_is_what_it_is_in_json(setting: Setting) -> None:
    for type_ in ("Patient", *CHART):
        for id_ in sorted(setting.ids(ANNA, type_) - {"addresses"})[:3]:
            reply = await setting.anna(f"/{type_}/{id_}?_format=xml")
            assert reply.status == 200, (type_, id_, reply.raw[:500])
            in_json = await setting.anna(f"/{type_}/{id_}")
            assert parse_resource_xml(reply.body) == parse_json(in_json.body)
            assert_nothing_of_bert(setting, reply)
        found = await setting.anna(f"/{type_}?_count=20&_format=xml")
        shown = set(ids(parse_resource_xml(found.body)))
        assert shown <= setting.ids(ANNA, type_)
        assert bool(shown) is bool(setting.ids(ANNA, type_))
        assert_nothing_of_bert(setting, found)


async def test_every_version_that_is_read_is_judged_by_itself(setting: Setting) -> None:
    history = await setting.direct("/Observation/moved/_history")
    versions = {owner(e["resource"]): e["resource"]["meta"]["versionId"] for e in history["entry"]}
    own = await setting.anna(f"/Observation/moved/_history/{versions[ANNA]}")
    assert (own.status, own.json["code"]) == (200, {"text": "moved to Anna"})
    foreign = await setting.anna(f"/Observation/moved/_history/{versions[BERT]}")
    assert foreign.status == 404
    assert_nothing_of_bert(setting, foreign)


async def test_the_history_of_an_instance_shows_the_own_versions_only(setting: Setting) -> None:
    reply = await setting.anna("/Observation/moved/_history")
    assert reply.status == 200
    shown = entries(reply.json)
    assert [owner(entry["resource"]) for entry in shown] == [ANNA]
    assert "total" not in reply.json
    assert_nothing_of_bert(setting, reply)
    all_versions = await setting.physician("/Observation/moved/_history")
    assert {owner(e["resource"]) for e in entries(all_versions.json)} == {ANNA, BERT}


async def test_pages_of_a_history_are_sealed_and_judged(setting: Setting) -> None:
    first = await setting.anna("/Observation/moved/_history?_count=1")
    bundles = await setting.pages(first, setting.anna)
    assert [owner(entry["resource"]) for entry in entries(*bundles)] == [ANNA]


@pytest.mark.parametrize("post", [False, True], ids=["GET", "POST"])
async def test_all_pages_together_are_the_whole_own_record(setting: Setting, post: bool) -> None:
    for type_, count in (("Observation", 4), ("Immunization", 5), ("Encounter", 50)):
        if post:
            first = await setting.anna(f"/{type_}/_search", form=f"_count={count}")
        else:
            first = await setting.anna(f"/{type_}?_count={count}")
        assert first.status == 200, first.raw[:500]
        assert_nothing_of_bert(setting, first)
        bundles = await setting.pages(first, setting.anna)
        expected = setting.ids(ANNA, type_)
        assert {bundle.get("total", len(expected)) for bundle in bundles} == {len(expected)}
        assert len(bundles) == -(-len(expected) // count)
        found = ids(*bundles)
        assert set(found) == expected
        assert len(found) == len(expected)


async def test_a_page_is_for_whom_it_was_made(setting: Setting) -> None:
    mine = link((await setting.anna("/Observation?_count=2")).json, "next")
    theirs = link((await setting.physician("/Observation?_count=2")).json, "next")
    assert mine is not None
    assert theirs is not None
    base = setting.gateway.origin + MOUNT
    for reply in (
        await setting.anna(theirs.removeprefix(base)),
        await setting.physician(mine.removeprefix(base)),
    ):
        assert (reply.status, reply.reason) == (404, "stale-link")
        assert b'"entry"' not in reply.body
        assert_nothing_of_bert(setting, reply)


@pytest.mark.parametrize("form", ["/{}", "/{}/_history", "/{}/_history/1"])
async def test_a_foreign_id_is_not_found_just_as_one_that_does_not_exist(setting: Setting, form: str) -> None:
    for type_ in ("Patient", *CHART):
        unknown = await setting.anna(form.format(f"{type_}/0b5e4f4e-0000-4000-8000-000000000000"))
        for id_ in sorted(setting.ids(BERT, type_))[:2]:
            path = form.format(f"{type_}/{id_}")
            foreign = await setting.anna(path)
            if "_history" in form and foreign.status == 200:
                assert entries(foreign.json) == []  # a history without a version of hers
            else:
                assert foreign.status == 404
                assert (foreign.status, foreign.body) == (unknown.status, unknown.body)
            assert_nothing_of_bert(setting, foreign, asked=path)


@pytest.mark.parametrize(
    "query",
    [
        f"subject=Patient/{BERT}",
        f"patient={BERT}",
        f"subject:Patient={BERT}",
        f"subject=Patient/{ANNA},Patient/{BERT}",
        f"subject=Patient/{ANNA}&subject=Patient/{BERT}",
        f"performer=Patient/{ANNA}",
        "_id=about-bert",
        "_id=about-bert,moved",
        "status=final",
        "code=http://loinc.org|8302-2",
        "_count=200",
        "_sort=-date",
        "subject:missing=false",
    ],
)
async def test_no_search_finds_what_is_anothers(setting: Setting, query: str) -> None:
    for reply in (
        await setting.anna(f"/Observation?{query}"),
        await setting.anna("/Observation/_search", form=query),
    ):
        assert reply.status in (200, 400, 403), reply.raw[:300]
        assert_nothing_of_bert(setting, reply, asked=query)
        if reply.status == 200:
            assert {owner(entry["resource"]) for entry in entries(reply.json)} <= {ANNA}
    elsewhere = await setting.anna(f"/Patient/{BERT}/Observation?{query}")
    assert elsewhere.status == 404
    assert_nothing_of_bert(setting, elsewhere, asked=query + BERT)


@pytest.mark.parametrize(
    ("type_", "query"),
    [
        ("Observation", "category=laboratory"),
        ("Observation", "code=http://loinc.org|8302-2"),
        ("Observation", "code=http://loinc.org|8302-2,http://loinc.org|29463-7&date=ge2021-01-01"),
        ("Observation", "date=ge2020-11-01&date=lt2021-03-01"),
        ("Observation", f"subject=Patient/{ANNA}&status=final"),
        ("Immunization", f"patient=Patient/{ANNA}&status=completed"),
        ("Encounter", "class=AMB"),
        ("Procedure", "status=completed"),
    ],
)
async def test_a_search_finds_all_that_matches_of_the_own(setting: Setting, type_: str, query: str) -> None:
    matches = compile_criteria(type_, quote(query, safe="=&/:,")).matches
    current = {r["id"]: r for r in setting.held if r["resourceType"] == type_}
    expected = {id_ for id_, r in current.items() if owner(r) == ANNA and matches(r)}
    assert expected
    encoded = quote(query, safe="=&/:,")
    got = await setting.pages(await setting.anna(f"/{type_}?{encoded}"), setting.anna)
    posted = await setting.pages(await setting.anna(f"/{type_}/_search", form=encoded), setting.anna)
    assert set(ids(*got)) == set(ids(*posted)) == expected


async def test_includes_bring_the_care_givers_of_the_own_record_and_nobody_else(setting: Setting) -> None:
    query = "_id=addresses&_include=Observation:performer"
    for reply in (
        await setting.anna(f"/Observation?{query}"),
        await setting.anna("/Observation/_search", form=query),
    ):
        assert reply.status == 200, reply.raw[:300]
        assert_nothing_of_bert(setting, reply)
        found = entries(reply.json)
        assert [e["resource"]["id"] for e in found if e["search"]["mode"] == "match"] == ["addresses"]
        beside = [e["resource"] for e in found if e["search"]["mode"] == "include"]
        assert {r["resourceType"] for r in beside} <= {"Practitioner"}
    everything = await setting.anna("/Observation?_include=Observation:encounter&_count=20")
    assert everything.status == 200
    bundles = await setting.pages(everything, setting.anna)
    beside = [e["resource"] for e in entries(*bundles) if e.get("search", {}).get("mode") == "include"]
    theirs = await setting.direct(
        f"/Observation?_include=Observation:encounter&_count=20&subject=Patient/{ANNA}"
    )
    assert len(entries(theirs)) == len(entries(everything.json))  # an engine may know no includes
    assert {r["resourceType"] for r in beside} <= {"Encounter"}
    assert {owner(r) for r in beside} <= {ANNA}
    for bundle in bundles:
        assert BERT not in json.dumps(bundle)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/Practitioner?_has:Observation:performer:code=x", "query-closed"),
        ("/Observation?performer:Patient.name=x", "join-closed"),
        ("/Observation?encounter:Encounter.status=finished", "join-closed"),
        ("/Observation?_include=Observation:subject", "query-closed"),
        ("/Observation?_include=*", "unsupported-parameter"),
        ("/Patient?_revinclude=Observation:subject", "query-closed"),
    ],
)
async def test_joins_beyond_the_own_record_are_refused(setting: Setting, path: str, reason: str) -> None:
    reply = await setting.anna(path)
    assert (reply.status, reply.json["issue"][0]["details"]["coding"][0]["code"]) == (403, reason)


async def test_a_chain_answers_about_the_own_record_alone(setting: Setting) -> None:
    people = {
        each["id"]: each["name"][0]["family"] for each in setting.held if each["resourceType"] == "Patient"
    }
    own = await setting.anna(f"/Observation?subject:Patient.family={quote(people[ANNA])}&_count=20")
    foreign = await setting.anna(f"/Observation?subject:Patient.family={quote(people[BERT])}&_count=20")
    theirs = await setting.direct(f"/Observation?subject:Patient.family={quote(people[BERT])}&_count=1")
    knows_chains = bool(entries(theirs))  # an engine may find nothing by a chain, whatever it holds
    for reply, expected in ((own, setting.ids(ANNA, "Observation")), (foreign, set())):
        assert reply.status == 200, reply.raw[:300]
        assert BERT.encode() not in reply.raw
        assert set(ids(*await setting.pages(reply, setting.anna))) == (expected if knows_chains else set())
    chained = await setting.physician(f"/Observation?subject:Patient.family={quote(people[BERT])}&_count=20")
    assert chained.status == 200, chained.raw[:300]
    bundles = await setting.pages(chained, setting.physician)
    assert set(ids(*bundles)) == (setting.ids(BERT, "Observation") if knows_chains else set())


async def test_a_search_in_a_shape_finds_the_same_and_shows_less(setting: Setting) -> None:
    whole = await setting.anna("/Observation?_count=20")
    cut = await setting.anna("/Observation?_count=20&_elements=code")
    assert ids(cut.json) == ids(whole.json)
    for entry in entries(cut.json):
        assert entry["resource"].keys() <= {"resourceType", "id", "meta", "status", "code", "implicitRules"}
        assert entry["resource"]["meta"]["tag"][-1]["code"] == "SUBSETTED"


async def test_the_own_compartment_is_searched(setting: Setting) -> None:
    first = await setting.anna(f"/Patient/{ANNA}/Immunization?_count=5")
    assert first.status == 200, first.raw[:300]
    bundles = await setting.pages(first, setting.anna)
    assert set(ids(*bundles)) == setting.ids(ANNA, "Immunization")


async def test_a_physician_reads_and_searches_the_charts_of_both(setting: Setting) -> None:
    for patient in (ANNA, BERT):
        reply = await setting.physician(f"/Patient/{patient}")
        assert (reply.status, reply.json["id"]) == (200, patient)
        found = await setting.physician(f"/Observation?subject=Patient/{patient}&_count=20")
        assert found.status == 200, found.raw[:300]
        bundles = await setting.pages(found, setting.physician)
        assert set(ids(*bundles)) == setting.ids(patient, "Observation")
    everything = await setting.physician("/Observation?_count=50")
    bundles = await setting.pages(everything, setting.physician)
    assert set(ids(*bundles)) == setting.ids(ANNA, "Observation") | setting.ids(BERT, "Observation")


async def test_addresses_of_the_store_leave_as_addresses_of_the_gateway(setting: Setting) -> None:
    public = setting.gateway.origin + MOUNT
    found = await setting.anna("/Observation?_id=addresses")
    (entry,) = entries(found.json)
    assert entry["fullUrl"] == f"{public}/Observation/addresses"
    reference = entry["resource"]["performer"][0]["reference"]
    assert reference.removeprefix(f"{public}/").startswith("Practitioner/")
    read = await setting.anna("/Observation/addresses")
    assert read.json["performer"][0]["reference"] == reference
    care_giver = await setting.anna("/" + reference.removeprefix(f"{public}/"))
    assert care_giver.status == 200
    report = await setting.anna("/DiagnosticReport/addresses")
    assert report.json["presentedForm"][0]["url"] == f"{public}/Binary/1"


async def test_what_the_engine_says_of_an_error_stays_behind(setting: Setting) -> None:
    theirs = await setting.direct("/Observation/not-there")
    assert theirs["resourceType"] == "OperationOutcome"
    for path in (
        "/Observation/not-there",
        "/Observation/moved/_history/77",
        "/Observation/not-there/_history",
    ):
        reply = await setting.physician(path)
        assert reply.status == 404
        assert reply.json["issue"][0]["details"]["coding"][0]["code"] == "not-found"
        assert theirs["issue"][0].get("diagnostics", "not-there").encode() not in reply.raw
        assert b"not-there" not in reply.body
        assert b"known" not in reply.body


async def test_the_versions_of_the_engine_are_named_by_its_etag(setting: Setting) -> None:
    reply = await setting.anna(f"/Patient/{ANNA}")
    assert reply.header("ETag") == f'W/"{reply.json["meta"]["versionId"]}"'
    assert reply.header("Last-Modified") is not None


@pytest.mark.parametrize("engine", ENGINES[:1], indirect=True)
@pytest.mark.parametrize("form", ["_count=200", "status=final", "code=http://loinc.org|8302-2"])
async def test_a_store_that_does_not_read_the_form_of_a_search_gives_nothing_away(
    setting: Setting, tmp_path: Path, form: str
) -> None:
    bare = await start_gateway(tmp_path, base=f"{setting.engine.origin}/bare")
    try:
        token = await bare.token("pA-r", **CLAIMS)
        reply = await bare.fhir("POST", "/Observation/_search", token=token, headers=FORM, body=form.encode())
    finally:
        await stop_gateway(bare)
    assert reply.status == 200
    assert_nothing_of_bert(setting, reply)
    assert set(ids(reply.json)) == setting.ids(ANNA, "Observation")
    assert "total" not in reply.json  # the engine counted both patients: how much Bert has is Bert's


WRITING = """
policy: writing
version: 1
owner: tests
status: enforce
text: A patient keeps the own diary.
rules:
  - rule: own-diary
    effect: permit
    who: {context: patient}
    may: [read, search, create, update, patch, delete]
    resources: [Observation]
    where: {compartment: {patient: "{token.patient}", membership: subject}}
    conditional: {keys: [identifier], system: urn:diary}
    because: a patient keeps the own diary
"""


async def test_what_is_written_is_the_next_version_of_the_one_that_was_judged(
    setting: Setting, tmp_path: Path
) -> None:
    shipped = Path(__file__).parents[2] / "policies" / "00-definitions.yaml"
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / shipped.name).write_text(shipped.read_text())
    (tmp_path / "policies" / "90-writing.yaml").write_text(WRITING)
    gateway = await start_gateway(tmp_path, policies=tmp_path / "policies", base=setting.engine.base)
    token = await gateway.token("pA-rw", **CLAIMS)
    diary = {
        "resourceType": "Observation",
        "status": "preliminary",
        "code": {"text": "diary"},
        "identifier": [{"system": "urn:diary", "value": "one"}],
        "subject": {"reference": f"Patient/{ANNA}"},
    }

    async def send(method: str, path: str, body: Any = None, **headers: str) -> Reply:
        media = "application/json-patch+json" if method == "PATCH" else "application/fhir+json"
        said = [(name.replace("_", "-"), value) for name, value in headers.items()]
        content = [] if body is None else [("Content-Type", media)]
        raw = b"" if body is None else json.dumps(body).encode()
        reply = await gateway.fhir(method, path, token=token, headers=[*content, *said], body=raw)
        assert f":{setting.engine.port}".encode() not in reply.raw
        return reply

    try:
        made = await send("POST", "/Observation", diary, If_None_Exist="identifier=urn:diary|one")
        assert made.status == 201, made.raw[:500]
        id_ = made.json["id"]
        place, first = f"/Observation/{id_}", made.header("ETag") or ""
        found = await send("POST", "/Observation", diary, If_None_Exist="identifier=urn:diary|one")
        assert (found.status, found.json["id"]) == (200, id_), found.raw[:500]
        replies = await asyncio.gather(
            *(send("PUT", place, diary | {"id": id_, "status": "final"}, If_Match=first) for _ in range(3))
        )
        assert sorted(reply.status for reply in replies) == [200, 412, 412]
        amend = [
            {"op": "test", "path": "/status", "value": "final"},
            {"op": "replace", "path": "/status", "value": "amended"},
        ]
        patched = await send("PATCH", place, amend)
        assert (patched.status, patched.json["status"]) == (200, "amended"), patched.raw[:500]
        assert (await setting.direct(place))["status"] == "amended"
        moved = await send("PUT", place, diary | {"id": id_, "subject": {"reference": f"Patient/{BERT}"}})
        assert moved.status == 403
        foreign = await setting.direct("/Observation/about-bert")
        for method, body in (("PUT", diary | {"id": "about-bert"}), ("PATCH", amend), ("DELETE", None)):
            refused = await send(method, "/Observation/about-bert", body)
            assert (refused.status, refused.reason) == (404, "not-found")
        assert await setting.direct("/Observation/about-bert") == foreign
        gone = await send("DELETE", "/Observation?identifier=urn:diary|one")
        assert gone.status == 204, gone.raw[:500]
        assert (await send("GET", place)).status == 404
        again = await send("DELETE", place)
        assert (again.status, again.reason) == (404, "not-found")
    finally:
        await stop_gateway(gateway)

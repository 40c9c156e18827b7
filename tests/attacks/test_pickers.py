"""The picker in front of a store that honours no criterion: what a person may not see is not found, named or chosen."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from authz.login.finding import Asker, FinderUnavailable, asker_of
from authz.protocol.clients import BindingKind
from authz.protocol.tokens import Binding, Grant
from gateway.pickers.finder import MountFinder
from gateway.settings import PickerSettings
from tests.support.authorization_server import http_request
from tests.support.gateway import MOUNT, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.world import SECRET

POLICY = """\
policy: wards
version: 1
owner: ward
status: enforce
text: Staff of the ward see its patients, and not when they were born.
rules:
  - rule: see-the-ward
    effect: permit
    who: {context: user, role: [physician], bound: [dpop, mtls]}
    may: [read, search]
    resources: [Patient, Encounter]
    where:
      compartment: {patient: [A], membership: spec}
    return: {hide: [Patient.birthDate]}
    because: Treatment.
tests: []
"""
WARDS = """\
definitions: wards
version: 1
claims:
  person: {path: person, type: string}
facts:
  my-wards:
    ask: "RelatedPerson?identifier={token.person}&active=true"
    take: RelatedPerson.patient
    keep: 1s
    at_most: 10
    if_unavailable: deny
"""
GUARDIANS = """\
policy: guardians
version: 1
owner: privacy-office
status: enforce
text: Who is said by a RelatedPerson to care for a patient sees that patient.
rules:
  - rule: see-my-wards
    effect: permit
    who: {context: user, role: guardian}
    may: [read, search]
    resources: [Patient]
    where: {compartment: {patient: {in: $facts.my-wards}}}
    because: Parental care.
tests: []
"""
_BOUND = Binding(BindingKind.DPOP, "k" * 43)
PHYSICIAN: dict[str, Any] = {"fhirUser": "Practitioner/dr1", "roles": ["physician"]}


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    policies = policies_with(tmp_path, "50-wards.yaml", POLICY)
    started = await start_gateway(tmp_path, policies=policies, picker=PickerSettings(page=2))
    own = started.upstream.resources
    own["Patient/A"] |= {"birthDate": "1980-05-01"}
    own["Encounter/ea"] = {
        "resourceType": "Encounter",
        "id": "ea",
        "status": "finished",
        "class": {"code": "AMB", "display": "ambulatory"},
        "subject": {"reference": "Patient/A"},
        "period": {"start": "2026-03-05"},
    }
    yield started
    await stop_gateway(started)


def finder_of(running: RunningGateway) -> MountFinder:
    (found,) = running.gateway._finders.values()
    assert isinstance(found, MountFinder)
    return found


def asker(
    running: RunningGateway,
    *,
    scope: str = "user/Patient.rs user/Encounter.rs",
    claims: dict[str, Any] = PHYSICIAN,
    binding: Binding = _BOUND,
    context: dict[str, object] | None = None,
) -> Asker:
    origin = running.origin
    grant = Grant("picker", "portal", "s1", (), (origin + MOUNT,), claims=claims, authenticated_at=1)
    page = http_request(
        "POST",
        "/patient",
        headers=[
            ("cookie", "__Host-securus=secret"),
            ("x-forwarded-for", "6.6.6.6"),
            ("break-glass", "1"),
            ("content-type", "application/x-www-form-urlencoded"),
        ],
        body=b"query=anna",
        origin=origin,
    )
    return asker_of(
        grant,
        page,
        issuer=origin,
        subject="s1",
        binding=binding,
        scope=tuple(scope.split()),
        context=context or {},
        now=running.gateway.clock(),
    )


async def test_only_patients_that_policies_open_are_found_and_what_views_hide_is_not_shown(
    running: RunningGateway,
):
    found = await finder_of(running).find_patients(asker(running), "own")
    assert [(c.id, c.words) for c in found.choices] == [("A", "Own")]
    assert SECRET not in str(found)
    (sent,) = running.upstream.requests
    assert (sent.method, sent.target) == ("POST", "/fhir/Patient/_search")  # no name in an address
    assert b"name=own" in sent.body
    assert b"_id=A" in sent.body  # narrowed by the policy
    assert "cookie" not in sent.headers
    assert sent.headers["x-forwarded-for"] == "192.0.2.7"


async def test_a_search_by_what_a_view_hides_is_refused(running: RunningGateway):
    found = await finder_of(running).find_patients(asker(running), "1980-05-01")
    assert found.is_refused
    assert found.choices == ()


@pytest.mark.parametrize("id_", ["B", "C", "nobody", "../Patient/B", "A?_include=x", ""])
async def test_a_forged_id_is_nobody(running: RunningGateway, id_: str):
    assert await finder_of(running).patient(asker(running), id_) is None


async def test_the_id_of_a_patient_whom_the_person_may_see_is_that_patient(running: RunningGateway):
    found = await finder_of(running).patient(asker(running), "A")
    assert found is not None
    assert found.words == "Own"


@pytest.mark.parametrize(
    "changes",
    [
        {"claims": {}},
        {"claims": PHYSICIAN | {"roles": ["nurse"]}},
        {"scope": "user/Observation.rs"},
        {"scope": "patient/Patient.rs", "context": {"patient": "A"}},
        {"binding": Binding(BindingKind.NONE, "")},
    ],
)
async def test_whom_no_policy_lets_see_patients_finds_none(running: RunningGateway, changes: dict[str, Any]):
    finder, who = finder_of(running), asker(running, **changes)
    assert (await finder.find_patients(who, "own")).choices == ()
    assert await finder.patient(who, "A") is None
    assert (await finder.find_encounters(who, "A")).choices == ()
    assert await finder.encounter(who, "ea", "A") is None


async def test_visits_are_those_of_the_patient_that_the_person_may_see(running: RunningGateway):
    finder, who = finder_of(running), asker(running)
    found = await finder.find_encounters(who, "A")
    assert [c.words for c in found.choices] == ["ambulatory, 5 March 2026"]
    assert await finder.encounter(who, "ea", "A") is not None
    assert await finder.encounter(who, "eb", "A") is None
    assert await finder.encounter(who, "eb", "B") is None
    assert await finder.encounter(who, "ea", "B") is None
    assert (await finder.find_encounters(who, "B")).choices == ()


async def test_every_question_is_in_the_audit_log_as_the_persons(running: RunningGateway):
    await finder_of(running).find_patients(asker(running), "own")
    await finder_of(running).patient(asker(running), "B")
    records = [r for r in await running.audit() if r.get("event") == "access"][-2:]
    assert [r["decision"] for r in records] == ["permit", "refused"]
    for record in records:
        assert record["caller"]["subject"] == "s1"
        assert record["caller"]["client"] == "portal"
        assert record["caller"]["token"] == "picker"
        assert record["peer"] == "192.0.2.7"


async def test_more_than_a_page_is_not_the_whole(running: RunningGateway):
    async def many(request: web.BaseRequest) -> web.StreamResponse:
        entry = [{"resource": {"resourceType": "Patient", "id": "A"}, "search": {"mode": "match"}}]
        link = [{"relation": "next", "url": f"{running.upstream.base}/Patient?_page=2"}]
        value = {"resourceType": "Bundle", "type": "searchset", "entry": entry, "link": link}
        return web.Response(text=json.dumps(value), content_type="application/fhir+json")

    running.upstream.answer = many
    found = await finder_of(running).find_patients(asker(running), "own")
    assert len(found.choices) == 1
    assert not found.is_whole


@pytest.mark.parametrize(("status", "answered"), [(500, 502), (503, 502), (429, 503)])
async def test_a_store_that_fails_decides_nothing(
    running: RunningGateway, status: int, answered: int, caplog: pytest.LogCaptureFixture
):
    async def failing(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status)

    running.upstream.answer = failing
    with pytest.raises(FinderUnavailable):
        await finder_of(running).find_patients(asker(running), "own")
    with pytest.raises(FinderUnavailable):
        await finder_of(running).patient(asker(running), "A")
    lines = [record for record in caplog.records if record.name == "securus.pickers"]
    said = {(vars(line)["route"], vars(line)["cause"]) for line in lines}
    assert (len(lines), said) == (2, {("fhir", f"the request was answered with {answered}")})


async def test_without_policies_nobody_is_found(running: RunningGateway):
    running.gateway.engines.engine = None
    with pytest.raises(FinderUnavailable):
        await finder_of(running).find_patients(asker(running), "own")


def related(id_: str, person: str, patient: str, *, active: bool = True) -> dict[str, Any]:
    return {
        "resourceType": "RelatedPerson",
        "id": id_,
        "active": active,
        "identifier": [{"value": person}],
        "patient": {"reference": f"Patient/{patient}"},
    }


async def test_a_guardian_finds_those_whom_the_policies_say_and_nobody_when_they_cannot_be_asked(
    tmp_path: Path,
):
    policies = policies_with(tmp_path, "50-guardians.yaml", GUARDIANS)
    (policies / "05-wards.yaml").write_text(WARDS)
    running = await start_gateway(tmp_path, policies=policies, picker=PickerSettings(lists_at_once=True))
    try:
        own = running.upstream.resources
        own["RelatedPerson/m"] = related("m", "m0m", "A")
        own["RelatedPerson/former"] = related("former", "m0m", "C", active=False)
        own["RelatedPerson/other"] = related("other", "dad", "B")
        finder = finder_of(running)
        claims = {"fhirUser": "RelatedPerson/m", "roles": ["guardian"], "person": "m0m"}
        mother = asker(running, claims=claims)
        assert [c.id for c in (await finder.find_patients(mother, "")).choices] == ["A"]
        assert await finder.patient(mother, "A") is not None
        assert await finder.patient(mother, "B") is None
        assert await finder.patient(mother, "C") is None
        nobody = asker(running, claims={**claims, "person": "stranger"})
        assert (await finder.find_patients(nobody, "")).choices == ()

        async def failing(request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(status=500)

        running.upstream.answer = failing
        with pytest.raises(FinderUnavailable):
            await finder.find_patients(asker(running, claims={**claims, "person": "dad"}), "")
    finally:
        await stop_gateway(running)

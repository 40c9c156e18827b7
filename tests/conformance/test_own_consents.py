"""The pages of consents: made, amended, withdrawn by the patient, kept as FHIR, and nothing of anybody else's."""

import json
import re
from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import pytest

from authz.account.consent_form import CLASSES, PURPOSES
from authz.account.own_records import Author
from authz.events import ConsentChanged, GrantRevoked
from authz.login.language import ENGLISH
from authz.protocol.tokens import Grant
from authz.storage.consents import ConsentVersion
from authz.storage.store import Store
from gateway.account.consent_document import SENSITIVE
from gateway.consent_service.grants import settled
from gateway.consent_service.room import MOST_CONSENTS
from tests.conformance.test_own_grants import DOCTOR, allowed
from tests.support.authorization_server import (
    ANNA,
    FHIR,
    ISSUER,
    NOW,
    PASSWORD,
    Person,
    Reply,
    World,
    open_world,
)
from tests.support.own_records import ConsentsInMemory, IndexInMemory, access, own_records
from tests.support.smart import SmartApp, smart_world

PAGE = "/account/consents"
EDIT = "/account/consents/edit"
BERT = replace(ANNA, username="bert", subject="be47", name="Bert Other", patient="B")
FORM = "application/x-www-form-urlencoded"
SAID = {"decision": "permit", "whom": "everybody", "what": "everything"}


@dataclass
class Site:
    """A world whose house keeps consents and accesses."""

    world: World
    consents: ConsentsInMemory
    index: IndexInMemory

    def resource(self, number: int = -1) -> dict[str, Any]:
        """The Consent of a version that was written."""
        found = json.loads(self.consents.versions[number].resource)
        assert isinstance(found, dict)
        return found

    @property
    def changes(self) -> list[ConsentChanged]:
        return [event for event in self.world.events if isinstance(event, ConsentChanged)]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    consents, index = ConsentsInMemory(), IndexInMemory()
    async with open_world(tmp_path) as opened:
        accounts = {a.username: a for a in (ANNA, BERT, DOCTOR)}
        own = own_records(consents, index, opened.store, opened.clock)
        yield Site(await smart_world(opened, accounts=accounts, own=own), consents, index)


async def at(person: Person, path: str) -> Reply:
    """A page, signed in to."""
    page = await person.visit(path)
    if 'id="login"' in page.text:
        page = await person.submit(page, username=person.account.username, password=PASSWORD)
    return page


async def send(person: Person, page: Reply, fields: list[tuple[str, str]], path: str = EDIT) -> Reply:
    """The form of a page with these fields, some more than once."""
    form = page.text.partition(f'action="{path}"')[2]
    hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form.partition("</form>")[0])
    known = {name for name, _ in fields}
    pairs = [(name, unescape(value)) for name, value in hidden if name not in known] + fields
    return await person.world.post(path, urlencode(pairs).encode(), headers=person._headers())


async def given(person: Person, **fields: str) -> Reply:
    """The answer to a consent that a person makes."""
    return await send(person, await at(person, EDIT), list((SAID | fields).items()))


async def test_a_consent_for_everybody_is_a_Consent_of_the_shape_of_PCF(site: Site) -> None:
    page = await given(Person(site.world))
    assert page.status == 200
    said = "I permit everybody who is involved to use my whole record, for every purpose. This holds until I withdraw it."
    assert said in page.text
    consent = site.resource()
    assert b64decode(consent.pop("sourceAttachment")["data"]).decode() == said
    assert consent == {
        "resourceType": "Consent",
        "id": site.consents.versions[0].id,
        "meta": {"versionId": "1", "lastUpdated": "2027-01-15T08:00:00Z"},
        "status": "active",
        "scope": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}
            ]
        },
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/A"},
        "dateTime": "2027-01-15T08:00:00Z",
        "performer": [{"reference": "Patient/A"}],
        "organization": [{"reference": "Organization/h1"}],
        "policy": [{"uri": "https://hospital.example/privacy"}],
        "provision": {"type": "permit", "period": {"start": "2027-01-15T08:00:00Z"}},
    }
    assert site.consents.versions[0].recorded_by == ANNA.subject
    assert site.changes == [ConsentChanged("given", ANNA.subject, FHIR, "A", consent["id"], 1)]


@pytest.mark.parametrize(
    ("fields", "reference", "words"),
    [
        ({"whom": "app", "app": "portal"},
         {"identifier": {"system": ISSUER, "value": "portal"}, "display": "Patient portal"}, "the app Patient portal"),
        ({"whom": "organization", "organization": "Organization/lab"},
         {"reference": "Organization/lab", "display": "Laboratory North"}, "the organisation Laboratory North"),
        ({"whom": "practitioner", "practitioner": "Practitioner/D"},
         {"reference": "Practitioner/D", "display": "Doctor House"}, "Doctor House"),
    ],
)  # fmt: skip
async def test_it_can_be_for_an_app_an_organisation_or_a_care_giver(
    site: Site, fields: dict[str, str], reference: dict[str, object], words: str
) -> None:
    page = await given(Person(site.world), decision="deny", **fields)
    assert f"I do not permit {words} to use my whole record" in page.text
    provision = site.resource()["provision"]
    assert provision["type"] == "deny"
    role = {
        "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}]
    }
    assert provision["actor"] == [{"role": role, "reference": reference}]


async def test_it_can_be_of_certain_parts_for_certain_purposes_until_a_day(site: Site) -> None:
    person = Person(site.world)
    fields = [*(SAID | {"what": "classes", "until": "2027-03-01"}).items(), ("class", "Observation"),
              ("class", "Condition"), ("purpose", "TREAT"), ("purpose", "HRESCH")]  # fmt: skip
    page = await send(person, await at(person, EDIT), fields)
    said = "to use results and measurements and diagnoses and health problems, for treatment and research."
    assert said in page.text
    assert "This holds until the end of 1 March 2027." in page.text
    provision = site.resource()["provision"]
    assert provision["period"] == {"start": "2027-01-15T08:00:00Z", "end": "2027-03-01"}
    assert [each["code"] for each in provision["class"]] == ["Observation", "Condition"]
    assert [each["code"] for each in provision["purpose"]] == ["TREAT", "HRESCH"]


async def test_without_what_is_sensitive_makes_an_exception_for_each_label(site: Site) -> None:
    page = await given(Person(site.world), what="normal")
    assert "my record without what is marked as restricted or sensitive" in page.text
    exceptions = site.resource()["provision"]["provision"]
    assert [each["type"] for each in exceptions] == ["deny"] * len(SENSITIVE)
    assert [(c["system"], c["code"]) for each in exceptions for c in each["securityLabel"]] == list(SENSITIVE)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"decision": ""}, "Say whether you permit it or not."),
        ({"decision": "perhaps"}, "Say whether you permit it or not."),
        ({"whom": ""}, "Say to whom."),
        ({"whom": "app"}, "Choose the app, organisation or care giver from the list."),
        ({"whom": "app", "app": "nobody"}, "Choose the app, organisation or care giver from the list."),
        ({"whom": "practitioner", "practitioner": "Practitioner/x"}, "Choose the app, organisation or care giver"),
        ({"what": ""}, "Say what it is about."),
        ({"what": "classes"}, "Choose at least one part."),
        ({"decision": "deny", "what": "normal"}, "That can only be permitted."),
        ({"what": "classes", "class": "Basic"}, "Choose at least one part."),
        ({"purpose": "HMARKT"}, "Choose purposes from the list."),
        ({"until": "soon"}, "Give the days as year-month-day"),
        ({"until": "2027-01-14"}, "The day must not be in the past."),
        ({"until": "9999-12-31"}, "The day must not be in the past."),
    ],
)  # fmt: skip
async def test_what_is_missing_or_wrong_is_told_at_its_field_and_nothing_is_written(
    site: Site, fields: dict[str, str], problem: str
) -> None:
    page = await given(Person(site.world), **fields)
    assert page.status == 400
    assert page.text.count(problem) == 2  # in the list above and at the field
    assert page.text.count('aria-describedby="problem-') + page.text.count(" problem-until") == 1
    assert site.consents.versions == []


async def test_what_was_filled_in_stays_when_something_is_missing(site: Site) -> None:
    person = Person(site.world)
    fields = [("decision", "deny"), ("whom", "app"), ("app", "portal"), ("what", "classes"), ("class", "Condition"),
              ("purpose", "TREAT"), ("until", "x")]  # fmt: skip
    page = await send(person, await at(person, EDIT), fields)
    for id in ("decision-deny", "whom-app", "what-classes", "class-Condition", "purpose-TREAT"):
        assert re.search(rf'id="{id}"[^>]* checked', page.text), id
    assert '<option value="portal" selected>' in page.text


async def test_nothing_is_decided_for_the_person_beforehand(site: Site) -> None:
    page = await at(Person(site.world), EDIT)
    assert " checked" not in page.text
    assert " selected" not in page.text


async def test_amending_writes_the_next_version_and_the_first_stays(site: Site) -> None:
    person = Person(site.world)
    await given(person, whom="app", app="portal", what="normal", until="2027-03-01")
    id_ = site.consents.versions[0].id
    form = await at(person, f"{EDIT}?id={id_}")
    for id in ("decision-permit", "whom-app", "what-normal"):
        assert re.search(rf'id="{id}"[^>]* checked', form.text), id
    assert 'value="2027-03-01"' in form.text
    site.world.clock.now += 60
    page = await send(person, form, list({**SAID, "decision": "deny"}.items()))
    assert page.status == 200
    assert [(each.id, each.version, each.status) for each in site.consents.versions] == [
        (id_, 1, "active"),
        (id_, 2, "active"),
    ]
    assert site.resource(0)["provision"]["type"] == "permit"
    assert [event.outcome for event in site.changes] == ["given", "amended"]
    history = await at(person, f"{PAGE}/history?id={id_}")
    assert history.text.count('<p class="moment">') == 2
    assert history.text.index("I do not permit") < history.text.index("I permit the app Patient portal")


async def test_a_person_with_as_many_consents_as_there_can_be_is_told_to_withdraw_some(site: Site) -> None:
    person = Person(site.world)
    await given(person)
    (mine,) = site.consents.versions
    for number in range(MOST_CONSENTS - 2):
        await site.consents.add_consent(replace(mine, id=f"c{number}"))
    assert (await given(person)).status == 200  # the last one
    refused = await given(person)
    assert refused.status == 409
    assert "as many consents about this record as there can be" in refused.text
    assert len(site.consents.versions) == MOST_CONSENTS
    form = await at(person, f"{EDIT}?id={mine.id}")
    amended = await send(person, form, list({**SAID, "decision": "deny"}.items()))
    assert amended.status == 200  # one that is there is amended all the same


async def test_of_two_amendments_of_one_version_the_second_is_told_to_look_again(site: Site) -> None:
    person = Person(site.world)
    await given(person)
    form = await at(person, f"{EDIT}?id={site.consents.versions[0].id}")
    assert (await send(person, form, list(SAID.items()))).status == 200
    late = await send(person, form, list({**SAID, "decision": "deny"}.items()))
    assert late.status == 409
    assert "changed this consent meanwhile" in late.text
    assert len(site.consents.versions) == 2


async def test_one_click_withdraws_and_the_history_keeps_it(site: Site) -> None:
    person = Person(site.world)
    page = await given(person)
    withdrawn = await person.submit(page, action="withdraw")
    assert "The consent is withdrawn." in withdrawn.text
    assert "withdraw-1" not in withdrawn.text
    assert "withdrawn or ended" in withdrawn.text
    assert [each.status for each in site.consents.versions] == ["active", "inactive"]
    assert site.resource()["provision"] == site.resource(0)["provision"]
    again = await person.submit(page, action="withdraw")
    assert (again.status, len(site.consents.versions)) == (200, 2)
    assert [event.outcome for event in site.changes] == ["given", "withdrawn"]
    assert (await at(person, f"{EDIT}?id={site.consents.versions[0].id}")).status == 400


async def test_withdrawing_the_consent_of_an_app_ends_its_access_at_once(site: Site) -> None:
    person, app = Person(site.world), SmartApp(site.world, "smart-secret")
    tokens = await allowed(site.world, person, app)
    (grant,) = await site.world.store.grants(subject=ANNA.subject, client_id=None, now=NOW)
    site.consents.versions.append(of_a_grant(grant))
    page = await at(person, PAGE)
    assert "amend-1" not in page.text
    assert await app.read(tokens["access_token"])
    withdrawn = await person.submit(page, action="withdraw")
    assert "The consent is withdrawn." in withdrawn.text
    assert (await app.refresh(tokens["refresh_token"])).refusal == (400, "invalid_grant")
    assert [e.grant_id for e in site.world.events if isinstance(e, GrantRevoked)] == [grant.grant_id]
    assert site.consents.versions[-1].grant_id == grant.grant_id


async def test_who_reads_the_consent_between_the_two_ends_does_not_hinder_a_withdrawal(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, app = Person(site.world), SmartApp(site.world, "smart-secret")
    await allowed(site.world, person, app)
    (grant,) = await site.world.store.grants(subject=ANNA.subject, client_id=None, now=NOW)
    version = of_a_grant(grant)
    site.consents.versions.append(version)
    page = await at(person, PAGE)
    add, other = site.consents.add_consent, Both(site)

    async def after_another(written: ConsentVersion, **held: Any) -> bool:
        await settled(cast(Store, other), [version], NOW)
        return await add(written)

    monkeypatch.setattr(site.consents, "add_consent", after_another)
    withdrawn = await person.submit(page, action="withdraw")
    assert (withdrawn.status, "The consent is withdrawn." in withdrawn.text) == (200, True)
    assert [each.status for each in site.consents.versions] == ["active", "inactive"]
    assert [event.outcome for event in site.changes] == ["withdrawn"]


class Both:
    """The consents and grants of a site, as another request sees them."""

    def __init__(self, site: Site) -> None:
        self.consent, self.add_consent = site.consents.consent, site.consents.add_consent
        self.live_grants = site.world.store.live_grants


@pytest.mark.parametrize("status", ["draft", "proposed"])
async def test_what_waits_to_be_in_force_is_withdrawn_as_well(site: Site, status: str) -> None:
    whose = {"patient": {"reference": "Patient/A"}}
    resource = {"resourceType": "Consent", "status": status, **whose, "provision": {"type": "permit"}}
    site.consents.versions.append(
        ConsentVersion(FHIR, "w-1", 1, "A", status, json.dumps(resource).encode(), NOW, "desk")
    )
    person = Person(site.world)
    page = await given(person)  # which has the form of another one to withdraw
    await person.submit(page, action="withdraw", id="w-1")
    assert [each.status for each in site.consents.versions if each.id == "w-1"] == [status, "inactive"]


def of_a_grant(grant: Grant) -> ConsentVersion:
    """The consent that was recorded with a grant."""
    provision = {
        "type": "permit",
        "actor": [{"reference": {"identifier": {"system": ISSUER, "value": grant.client_id}}}],
    }
    resource = {
        "resourceType": "Consent",
        "status": "active",
        "patient": {"reference": "Patient/A"},
        "provision": provision,
    }
    return ConsentVersion(
        FHIR, "g-1", 1, "A", "active", json.dumps(resource).encode(), NOW, grant.subject, grant.grant_id
    )


async def test_a_consent_whose_access_has_ended_is_not_shown_as_in_force(site: Site) -> None:
    person, app = Person(site.world), SmartApp(site.world, "smart-secret")
    await allowed(site.world, person, app)
    (grant,) = await site.world.store.grants(subject=ANNA.subject, client_id=None, now=NOW)
    site.consents.versions.append(of_a_grant(grant))
    await site.world.store.revoke_grant(grant.grant_id, now=NOW, keep_until=NOW + 900)
    page = await at(person, PAGE)
    assert "<dd>in force</dd>" not in page.text
    assert "withdraw-1" not in page.text


async def test_a_consent_that_was_recorded_otherwise_is_shown_and_can_be_withdrawn(site: Site) -> None:
    resource = {
        "resourceType": "Consent",
        "meta": {"tag": [{"system": "urn:of", "code": "the-registry"}]},
        "status": "active",
        "patient": {"reference": "Patient/A"},
        "provision": {"type": "permit", "dataPeriod": {"start": "2020"}},
    }
    version = ConsentVersion(FHIR, "i-1", 1, "A", "active", json.dumps(resource).encode(), NOW, "import")
    site.consents.versions.append(version)
    person = Person(site.world)
    page = await at(person, PAGE)
    assert "A consent that was recorded in another way." in page.text
    assert "amend-1" not in page.text
    assert (await at(person, f"{EDIT}?id=i-1")).status == 400
    await person.submit(page, action="withdraw")
    assert site.resource()["status"] == "inactive"
    # By its tags it still counts as one of its source: it was withdrawn, and not never given.
    assert site.resource()["meta"]["tag"] == [{"system": "urn:of", "code": "the-registry"}]


async def test_the_pages_write_by_the_rules_of_every_consent(site: Site) -> None:
    await given(Person(site.world))
    kept = own_records(site.consents, site.index, site.world.store, site.world.clock).consents
    assert kept is not None
    (own,) = (await kept.page("A", before="", limit=9)).consents
    author = Author("a11a", "Anna")
    assert own.wish is not None
    assert await kept.withdraw("B", own, author=author, now=NOW) is None
    ended = await kept.withdraw("A", own, author=author, now=NOW)
    assert ended is not None
    assert await kept.withdraw("A", own, author=author, now=NOW) is None  # another version is there
    again = await kept.write("A", own.wish, author=author, words="w", after=ended, now=NOW)
    assert again is None  # what has ended is never unmade
    assert [version.status for version in site.consents.versions] == ["active", "inactive"]
    assert json.loads(site.consents.versions[1].resource)["meta"]["versionId"] == "2"


async def test_a_receipt_says_what_was_agreed_to_and_comes_as_FHIR(site: Site) -> None:
    person = Person(site.world)
    await given(person)
    id_ = site.consents.versions[0].id
    page = await at(person, f"{PAGE}/receipt?id={id_}&version=1")
    assert "I permit everybody who is involved" in page.text
    assert f"{id_}, version 1" in page.text
    document = await person.visit(f"{PAGE}/receipt?id={id_}&version=1&format=json")
    assert document.header("content-type") == "application/fhir+json"
    assert document.header("content-disposition") == f'attachment; filename="consent-{id_}-1.json"'
    assert json.loads(document.text) == site.resource(0)
    signed = await person.visit(f"{PAGE}/receipt?id={id_}&version=1&format=jwt")
    assert signed.header("content-type") == "application/jwt"
    claims = json.loads(signed.text.removeprefix("signed "))
    assert claims["consent_record"]["record_id"] == f"{FHIR}/Consent/{id_}/_history/1"
    assert (await person.visit(f"{PAGE}/receipt?id={id_}&version=2")).status == 404


async def test_nobody_sees_changes_or_withdraws_a_consent_of_another_patient(site: Site) -> None:
    await given(Person(site.world))
    id_ = site.consents.versions[0].id
    bert = Person(site.world, BERT)
    page = await at(bert, PAGE)
    assert "I permit" not in page.text
    for path in (f"{PAGE}/history?id={id_}", f"{PAGE}/receipt?id={id_}&version=1", f"{EDIT}?id={id_}"):
        assert (await bert.visit(path)).status == 404
    form = await at(bert, EDIT)
    assert (await send(bert, form, [*SAID.items(), ("id", id_), ("version", "1")])).status == 404
    token = form.text.partition('name="form_token" value="')[2].partition('"')[0]
    asked = {"form_token": token, "for": "B", "id": id_, "action": "withdraw"}
    assert (await site.world.post(PAGE, asked, headers=bert._headers())).status == 404
    assert (await site.world.post(PAGE, asked | {"for": "A"}, headers=bert._headers())).status == 403
    assert len(site.consents.versions) == 1
    doctor = Person(site.world, DOCTOR)
    assert (await at(doctor, PAGE)).status == 403


@pytest.mark.parametrize("forged", [{"form_token": "x"}, {"form_token": ""}])
async def test_a_forged_form_writes_nothing(site: Site, forged: dict[str, str]) -> None:
    assert (await given(Person(site.world), **forged)).status == 403
    assert site.consents.versions == []


async def test_a_change_needs_a_sign_in_of_the_last_ten_minutes(site: Site) -> None:
    person = Person(site.world)
    page = await given(person)
    form = await at(person, EDIT)
    site.world.clock.now += 301
    asked = await person.visit(EDIT)  # too little time would be left to fill it in
    assert 'id="login"' in asked.text
    site.world.clock.now += 300
    refused = await send(person, form, list(SAID.items()))
    assert refused.status == 403
    assert "once more" in refused.text
    kept = await person.submit(page, action="withdraw")
    assert 'id="login"' in kept.text
    assert len(site.consents.versions) == 1
    page = await person.submit(kept, username="anna", password=PASSWORD)
    assert "<h1>Consents</h1>" in page.text
    assert "The consent is withdrawn." in (await person.submit(page, action="withdraw")).text


async def test_looking_needs_no_new_sign_in(site: Site) -> None:
    person = Person(site.world)
    await given(person)
    site.world.clock.now += 1800
    assert "I permit everybody" in (await person.visit(PAGE)).text


async def test_a_consent_whose_day_has_passed_is_not_shown_as_in_force(site: Site) -> None:
    person = Person(site.world)
    await given(person, until="2027-01-15")
    assert "<dd>in force</dd>" in (await at(person, PAGE)).text
    site.world.clock.now += 86_400
    assert "<dd>ended by its date</dd>" in (await at(person, PAGE)).text


async def test_every_choice_has_its_words() -> None:
    assert {f"type.{each}" for each in CLASSES} <= set(ENGLISH.texts)
    assert {f"purpose.{each}" for each in PURPOSES} <= set(ENGLISH.texts)


# All of it to take along


async def test_everything_is_there_to_take_along_and_that_is_recorded(site: Site) -> None:
    person = Person(site.world)
    await allowed(site.world, person, SmartApp(site.world, "smart-secret"))
    await given(person)
    await person.submit(await at(person, PAGE), action="withdraw")
    site.index.entries += [access(1, rule="=cmd()"), access(2, patient="B", rule="of-bert")]
    page = await at(person, "/account/download")
    files = {}
    for href in re.findall(r'href="(/account/download\?format=[a-z]+)"', page.text):
        found = await person.visit(unescape(href))
        assert found.status == 200
        assert (found.header("content-disposition") or "").startswith("attachment;")
        assert found.header("cache-control") == "no-store"
        assert "of-bert" not in found.text
        files[href.rpartition("=")[2]] = found
    assert set(files) == {"page", "json", "ndjson", "consents", "csv", "accesses"}
    whole = json.loads(files["json"].text)
    assert (whole["about"]["patient"], whole["is_whole"]) == ("A", True)
    assert [len(whole[name]) for name in ("apps", "consents", "accesses")] == [1, 2, 1]
    lines = [json.loads(line) for line in files["ndjson"].text.splitlines()]
    assert [line["part"] for line in lines] == ["about", "app", "consent", "consent", "access"]
    bundle = json.loads(files["consents"].text)
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "collection")
    assert [entry["resource"]["status"] for entry in bundle["entry"]] == ["inactive", "active"]
    assert json.loads(files["accesses"].text)[0]["person"] == "Doctor House"
    rows = files["csv"].text.lstrip("\ufeff").splitlines()
    assert rows[0] == "time,what,types,outcome,person,organization,app,purpose,rule"
    assert (
        rows[1] == "2027-01-15T08:01:00Z,read,Observation,permit,Doctor House,,Patient portal,TREAT,'=cmd()"
    )
    assert "I permit everybody who is involved" in files["page"].text
    assert "<script" not in files["page"].text
    assert len([e for e in site.world.events if getattr(e, "what", "") == "download"]) == 6


async def test_there_is_no_file_of_another_name(site: Site) -> None:
    assert (await at(Person(site.world), "/account/download?format=xml")).status == 400

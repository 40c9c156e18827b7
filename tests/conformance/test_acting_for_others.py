"""Acting for somebody: a parent for a child, a guardian, as far and as long as the account says, and told as such."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from authz.events import ConsentChanged, ConsentGiven, GrantRevoked, OwnRecordShown
from authz.login.finding import FinderUnavailable
from authz.protocol.errors import OAuthError
from authz.protocol.request import HttpRequest
from authz.settings import Account, Representation
from tests.conformance.test_own_consents import EDIT, PAGE, SAID, Site, at, send
from tests.support.authorization_server import (
    ANNA,
    FHIR,
    NOW,
    PASSWORD,
    Person,
    answer_of,
    claims_of,
    open_world,
)
from tests.support.own_records import ConsentsInMemory, IndexInMemory, access, own_records
from tests.support.smart import SmartApp, smart_world

SCOPE = "launch/patient patient/*.rs offline_access"
CHILD = Representation("K", "Kim Own", "MTH", ends_at=NOW + 86_400)
MOTHER = replace(ANNA, represents=(CHILD,))
KIM = replace(ANNA, username="kim", subject="k1", name="Kim Own", patient="K", claims={})
GUARDIAN = replace(ANNA, username="guard", subject="g1", name="Greta Guard", patient=None, claims={},
                   represents=(replace(CHILD, relationship="GUARD"),))  # fmt: skip
FOR = "?for=K"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    consents, index = ConsentsInMemory(), IndexInMemory()
    async with open_world(tmp_path) as opened:
        accounts = {a.username: a for a in (MOTHER, KIM, GUARDIAN)}
        own = own_records(consents, index, opened.store, opened.clock)
        yield Site(await smart_world(opened, accounts=accounts, own=own), consents, index)


async def limited(site: Site, *may: str) -> Person:
    """A mother who may do only this for her child."""
    mother = replace(MOTHER, represents=(replace(CHILD, may=frozenset(may)),))
    own = own_records(site.consents, site.index, site.world.store, site.world.clock)
    site.world = await site.world.reopen(accounts={a.username: a for a in (mother, KIM)}, own=own)
    return Person(site.world, mother)


async def tokens_for_child(site: Site, person: Person, app: SmartApp) -> dict[str, str]:
    """The tokens of an app to which the person opened the child's record."""
    page = await app.ask(person, scope=SCOPE)
    if 'name="password"' in page.text:
        page = await person.submit(page, username=person.account.username, password=PASSWORD)
    if 'name="patient"' in page.text:
        page = await person.submit(page, patient="K", action="select")
    assert "Record of <strong>Kim Own</strong>" in page.text
    reply = await app.redeem(answer_of(await person.consent(page))["code"])
    assert reply.status == 200, reply.text
    return reply.json


async def test_each_page_says_for_whom_it_is_and_leads_to_the_other(site: Site) -> None:
    person = Person(site.world, MOTHER)
    for path in ("/account", "/account/grants", PAGE, EDIT, "/account/accesses", "/account/download"):
        own = await at(person, path)
        assert own.status == 200
        assert "This is about your own record: <strong>Anna Own</strong>" in own.text, path
        assert f'href="{path}?for=K"' in own.text, path
        other = await at(person, path + FOR)
        assert (
            "This is about the record of <strong>Kim Own</strong>. You act as: <strong>mother</strong>"
            in other.text
        )
        assert f'href="{path}?for=A"' in other.text, path


async def test_what_is_shown_is_of_the_one_whom_the_page_is_about(site: Site) -> None:
    site.index.entries += [access(1, rule="of-anna"), access(2, patient="K", rule="of-kim")]
    person = Person(site.world, MOTHER)
    own, other = await at(person, "/account/accesses"), await at(person, "/account/accesses" + FOR)
    assert ("of-anna" in own.text, "of-kim" in own.text) == (True, False)
    assert ("of-anna" in other.text, "of-kim" in other.text) == (False, True)


async def test_who_has_no_record_acts_for_the_one_they_represent(site: Site) -> None:
    page = await at(Person(site.world, GUARDIAN), PAGE)
    assert "You act as: <strong>guardian</strong>" in page.text


async def test_a_consent_says_who_agreed_in_which_relationship(site: Site) -> None:
    person = Person(site.world, MOTHER)
    page = await send(person, await at(person, EDIT + FOR), list(SAID.items()))
    assert "<dd>Anna Own (mother)</dd>" in page.text
    consent = site.resource()
    assert consent["patient"] == {"reference": "Patient/K"}
    assert consent["performer"] == [{"reference": "#performer", "display": "Anna Own"}]
    (related,) = consent["contained"]
    assert related["resourceType"] == "RelatedPerson"
    assert related["patient"] == {"reference": "Patient/K"}
    assert related["relationship"][0]["coding"][0]["code"] == "MTH"
    assert site.changes == [ConsentChanged("given", ANNA.subject, FHIR, "K", consent["id"], 1, "MTH")]
    assert "<dd>Anna Own (mother)</dd>" in (await at(Person(site.world, KIM), PAGE)).text


async def test_every_look_in_somebodys_stead_is_recorded_and_shown_to_them(site: Site) -> None:
    await at(Person(site.world, MOTHER), "/account/accesses" + FOR)
    shown = [event for event in site.world.events if isinstance(event, OwnRecordShown)]
    assert shown == [OwnRecordShown("accesses", ANNA.subject, FHIR, "K", "MTH")]
    look = access(
        1, patient="K", kind="own-record", user=ANNA.subject, client="", outcome="ok", types="", rule=""
    )
    site.index.entries.append(look)
    page = await at(Person(site.world, KIM), "/account/accesses")
    assert "<strong>Looked at these pages</strong>" in page.text
    assert "<dd>Anna Own</dd>" in page.text


@pytest.mark.parametrize("path", ["/account/grants", PAGE, EDIT, "/account/accesses", "/account/download"])
async def test_it_ends_by_itself_at_its_time(site: Site, path: str) -> None:
    person = Person(site.world, MOTHER)
    assert (await at(person, path + FOR)).status == 200
    site.world.clock.now = NOW + 86_400
    person = Person(site.world, MOTHER)
    page = await at(person, path + FOR)
    assert page.status == 403
    assert "You may not do this for that person, or not any more." in page.text


async def test_a_form_that_was_open_when_it_ended_writes_nothing(site: Site) -> None:
    site.world.clock.now = NOW + 86_400 - 30
    person = Person(site.world, MOTHER)
    form = await at(person, EDIT + FOR)
    site.world.clock.now += 60
    assert (await send(person, form, list(SAID.items()))).status == 403
    assert site.consents.versions == []


async def test_who_may_only_see_neither_consents_nor_takes_back(site: Site) -> None:
    mother = Person(site.world, MOTHER)
    await send(mother, await at(mother, EDIT + FOR), list(SAID.items()))
    full = await at(mother, PAGE + FOR)
    person = await limited(site, "see")
    page = await at(person, PAGE + FOR)
    assert "I permit everybody" in page.text
    assert 'id="new"' not in page.text
    assert "withdraw-1" not in page.text
    assert (await at(person, EDIT + FOR)).status == 403
    fields = {"for": "K", "id": site.consents.versions[0].id, "action": "withdraw"}
    token = page.text.partition('name="form_token" value="')[2].partition('"')[0]
    assert "withdraw-1" in full.text
    assert (
        await site.world.post(PAGE, fields | {"form_token": token}, headers=person._headers())
    ).status == 403
    assert len(site.consents.versions) == 1


async def test_who_may_only_take_back_gives_nothing(site: Site) -> None:
    mother = Person(site.world, MOTHER)
    await send(mother, await at(mother, EDIT + FOR), list(SAID.items()))
    person = await limited(site, "see", "revoke")
    page = await at(person, PAGE + FOR)
    assert 'id="new"' not in page.text
    await person.submit(page, action="withdraw")
    assert site.resource()["status"] == "inactive"
    assert (await SmartApp(site.world, "smart-secret").ask(person, scope=SCOPE)).text.count("Kim Own") == 0


async def test_nobody_acts_for_somebody_whom_the_account_does_not_name(site: Site) -> None:
    for account in (KIM, GUARDIAN):
        assert (await at(Person(site.world, account), f"{PAGE}?for=A")).status == 403


# Apps


async def test_a_parent_opens_the_childs_record_to_an_app_and_the_token_says_so(site: Site) -> None:
    person, app = Person(site.world, MOTHER), SmartApp(site.world, "smart-secret")
    page = await app.ask(person, scope=SCOPE)
    page = await person.submit(page, username="anna", password=PASSWORD)
    assert "Kim Own, you act as mother" in page.text
    tokens = await tokens_for_child(site, person, app)
    assert tokens["patient"] == "K"
    claims = claims_of(tokens["access_token"])
    assert (claims["patient"], claims["acting_as"]) == ("K", "MTH")
    (event,) = [e for e in site.world.events if isinstance(e, ConsentGiven)]
    assert (event.outcome, event.subject, event.patient, event.relationship) == (
        "allowed",
        ANNA.subject,
        "K",
        "MTH",
    )
    refreshed = await app.refresh(tokens["refresh_token"])
    assert claims_of(refreshed.json["access_token"])["acting_as"] == "MTH"


async def test_the_own_record_is_opened_as_oneself(site: Site) -> None:
    person, app = Person(site.world, MOTHER), SmartApp(site.world, "smart-secret")
    page = await app.ask(person, scope=SCOPE)
    page = await person.submit(page, username="anna", password=PASSWORD)
    page = await person.submit(page, patient="A", action="select")
    assert "You act for this person" not in page.text
    reply = await app.redeem(answer_of(await person.consent(page))["code"])
    assert "acting_as" not in claims_of(reply.json["access_token"])


async def test_an_app_gets_no_token_any_more_when_it_has_ended(site: Site) -> None:
    person, app = Person(site.world, MOTHER), SmartApp(site.world, "smart-secret")
    tokens = await tokens_for_child(site, person, app)
    site.world.clock.now = NOW + 86_400
    assert (await app.refresh(tokens["refresh_token"])).refusal == (400, "invalid_grant")


async def test_whoever_acts_for_patients_opens_no_other_record(site: Site) -> None:
    person, app = Person(site.world, GUARDIAN), SmartApp(site.world, "smart-secret")
    site.world.clock.now = NOW + 86_400
    page = await app.ask(person, scope=SCOPE)
    reply = await person.submit(page, username="guard", password=PASSWORD)
    assert "error=access_denied" in (reply.header("location") or "")


async def test_the_patient_sees_what_was_allowed_in_their_stead_and_ends_it(site: Site) -> None:
    mother, app = Person(site.world, MOTHER), SmartApp(site.world, "smart-secret")
    tokens = await tokens_for_child(site, mother, app)
    own = await at(mother, "/account/grants")
    assert 'id="no-apps"' in own.text
    kim = Person(site.world, KIM)
    page = await at(kim, "/account/grants")
    assert "<dt>Allowed by</dt><dd>Anna Own</dd>" in page.text
    assert "Growth chart has no access any more." in (await kim.submit(page, action="revoke")).text
    with pytest.raises(OAuthError, match="revoked"):
        await app.read(tokens["access_token"])


async def test_ending_an_app_for_the_child_leaves_the_own_access(site: Site) -> None:
    mother, app = Person(site.world, MOTHER), SmartApp(site.world, "smart-secret")
    tokens = await tokens_for_child(site, mother, app)
    page = await app.ask(mother, scope=SCOPE)
    page = await mother.submit(page, patient="A", action="select")
    own = (await app.redeem(answer_of(await mother.consent(page))["code"])).json
    page = await at(mother, "/account/grants" + FOR)
    ended = await mother.submit(page, action="revoke")
    assert "Growth chart has no access any more." in ended.text
    assert (await app.refresh(tokens["refresh_token"])).refusal == (400, "invalid_grant")
    assert (await app.refresh(own["refresh_token"])).status == 200
    (event,) = [e for e in site.world.events if isinstance(e, GrantRevoked)]
    assert event.who == "person 3c9ae2f0 as MTH"


async def test_what_was_downloaded_for_somebody_says_so(site: Site) -> None:
    person = Person(site.world, MOTHER)
    found = json.loads((await at(person, "/account/download?for=K&format=json")).text)
    assert (found["about"]["patient"], found["about"]["relationship"]) == ("K", "MTH")
    shown = [event for event in site.world.events if isinstance(event, OwnRecordShown)]
    assert shown == [OwnRecordShown("download", ANNA.subject, FHIR, "K", "MTH")]


# By the records


class RelationsInMemory:
    """authz.login.relations.Relations: the mother of Kim by a RelatedPerson."""

    def __init__(self) -> None:
        self.is_down = False
        self.found: tuple[Representation, ...] = (CHILD,)

    async def with_related(self, account: Account, request: HttpRequest) -> Account:
        if self.is_down:
            raise FinderUnavailable
        return replace(account, represents=self.found) if account.related_person else account


async def by_the_records(site: Site) -> tuple[Person, RelationsInMemory]:
    """A mother whom no account names as one, and what the records say."""
    mother, relations = replace(ANNA, related_person="anna-7"), RelationsInMemory()
    own = own_records(site.consents, site.index, site.world.store, site.world.clock)
    accounts = {a.username: a for a in (mother, KIM)}
    site.world = await smart_world(site.world, accounts=accounts, own=replace(own, relations=relations))
    return Person(site.world, mother), relations


async def test_a_relationship_of_the_records_opens_pages_and_apps_alike(site: Site) -> None:
    person, relations = await by_the_records(site)
    page = await at(person, PAGE + FOR)
    assert "You act as: <strong>mother</strong>" in page.text
    app = SmartApp(site.world, "smart-secret")
    tokens = await tokens_for_child(site, person, app)
    assert claims_of(tokens["access_token"])["acting_as"] == "MTH"
    relations.found = ()
    assert (await at(person, PAGE + FOR)).status == 403
    assert (await app.refresh(tokens["refresh_token"])).refusal == (400, "invalid_grant")


async def test_while_the_records_are_away_nobody_acts_and_no_app_loses_its_grant(site: Site) -> None:
    person, relations = await by_the_records(site)
    app = SmartApp(site.world, "smart-secret")
    tokens = await tokens_for_child(site, person, app)
    relations.is_down = True
    assert (await at(person, PAGE + FOR)).status == 403
    assert (await at(person, PAGE)).status == 200
    refused = await app.refresh(tokens["refresh_token"])
    assert refused.refusal[1] == "temporarily_unavailable"
    relations.is_down = False
    assert (await app.refresh(tokens["refresh_token"])).status == 200

"""A person's page of own grants: who sees it, what stands in it, and that what is ended there has ended at once."""

from collections.abc import AsyncIterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from authz.events import GrantRevoked, SignIn
from authz.protocol.errors import OAuthError
from tests.support.authorization_server import ANNA, PASSWORD, Person, Reply, World, http_request, open_world
from tests.support.smart import SmartApp, smart_world

PAGE = "/account/grants"
STAYS = "launch/patient patient/*.rs offline_access"
DOCTOR = replace(
    ANNA,
    username="doctor",
    subject="d0c7",
    name="Doctor House",
    patient=None,
    claims={"fhirUser": "Practitioner/D", "roles": ["physician"]},
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield await smart_world(opened, accounts={a.username: a for a in (ANNA, DOCTOR)})


async def page_of(world: World, person: Person) -> Reply:
    """The page, signed in to."""
    form = await person.visit(PAGE)
    assert 'id="login"' in form.text
    return await person.submit(form, username=person.account.username, password=PASSWORD)


async def allowed(world: World, person: Person, app: SmartApp, scope: str = STAYS) -> dict[str, str]:
    """The tokens of an app that the person allowed."""
    reply = await app.redeem(await app.launch(person, scope=scope))
    assert reply.status == 200, reply.text
    return reply.json


async def test_a_person_sees_which_apps_have_what_access_since_when_and_until_when(world: World):
    await allowed(world, Person(world), SmartApp(world, "smart-secret"))
    world.clock.now += 3600
    page = await page_of(world, Person(world))
    assert page.status == 200
    assert page.header("cache-control") == "no-store"
    assert "form-action 'self'" in (page.header("content-security-policy") or "")
    text = unescape(page.text)
    for words in (
        "Anna Own",
        "Growth chart",
        "See the whole health record of the chosen patient",
        "Stay connected when you are not there, until you end it",
        "<dt>Record</dt><dd>Anna Own</dd>",
        "<dt>Since</dt><dd>15 January 2027, 08:00 UTC</dd>",
        "<dt>Last used</dt><dd>15 January 2027, 08:00 UTC</dd>",
        "<dt>Until</dt><dd>15 April 2027, 08:00 UTC</dd>",
    ):
        assert words in text


async def test_last_used_follows_the_refreshes(world: World):
    app = SmartApp(world, "smart-secret")
    tokens = await allowed(world, Person(world), app)
    world.clock.now += 7200
    assert (await app.refresh(tokens["refresh_token"])).status == 200
    page = await page_of(world, Person(world))
    assert "<dt>Since</dt><dd>15 January 2027, 08:00 UTC</dd>" in page.text
    assert "<dt>Last used</dt><dd>15 January 2027, 10:00 UTC</dd>" in page.text
    assert "<dt>Until</dt><dd>15 April 2027, 08:00 UTC</dd>" in page.text


async def test_online_access_is_said_to_end_with_the_sign_in(world: World):
    person = Person(world)
    await allowed(world, person, SmartApp(world, "smart-secret"), "patient/*.rs online_access")
    assert "<dt>Until</dt><dd>You sign out</dd>" in (await person.visit(PAGE)).text
    elsewhere = Person(world)
    await page_of(world, elsewhere)
    out = await person.visit("/logout")
    assert 'id="signed-out"' in (await person.submit(out)).text
    page = await elsewhere.visit(PAGE)
    assert "<dt>Until</dt><dd>It ends within minutes</dd>" in page.text


async def test_what_is_ended_has_ended_at_once_with_every_token(world: World):
    person, app = Person(world), SmartApp(world, "smart-secret")
    tokens = await allowed(world, person, app)
    assert await app.read(tokens["access_token"])
    page = await person.visit(PAGE)
    ended = await person.submit(page, action="revoke")
    assert ended.status == 200
    assert "Growth chart has no access any more." in ended.text
    assert 'id="no-apps"' in ended.text
    with pytest.raises(OAuthError, match="revoked"):
        await app.read(tokens["access_token"])
    assert (await app.refresh(tokens["refresh_token"])).refusal == (400, "invalid_grant")
    (event,) = [e for e in world.events if isinstance(e, GrantRevoked)]
    assert (event.client_id, event.reason, event.who) == ("smart-secret", "person", "person 3c9ae2f0")


async def test_every_grant_of_the_app_ends_and_none_of_another(world: World):
    person, app, other = Person(world), SmartApp(world, "smart-secret"), SmartApp(world)
    tokens = [await allowed(world, person, app) for _ in range(2)]
    kept = await allowed(world, person, other, "patient/*.rs")
    page = await person.visit(PAGE)
    assert page.text.count("<h2") == 2
    assert page.text.count("<dt>Since</dt>") == 3
    await person.submit(page, action="revoke", client="smart-secret")
    for found in tokens:
        with pytest.raises(OAuthError):
            await app.read(found["access_token"])
    assert await other.read(kept["access_token"])


async def test_nobody_sees_or_ends_what_another_person_allowed(world: World):
    app = SmartApp(world, "smart-secret")
    tokens = await allowed(world, Person(world), app)
    doctor = Person(world, DOCTOR)
    page = await page_of(world, doctor)
    assert "Growth chart" not in page.text
    assert "Doctor House" in page.text
    await allowed(world, doctor, SmartApp(world), "user/Observation.rs")
    page = await doctor.visit(PAGE)
    ended = await doctor.submit(page, action="revoke", client="smart-secret")
    assert ended.status == 200
    assert await app.read(tokens["access_token"])


async def test_what_was_ended_is_asked_for_again(world: World):
    person, app = Person(world), SmartApp(world, "smart-secret")
    await allowed(world, person, app)
    await person.submit(await person.visit(PAGE), action="revoke")
    reply = await app.ask(person, scope=STAYS, prompt="none")
    assert "error=consent_required" in (reply.header("location") or "")


@pytest.mark.parametrize(
    ("changes", "headers"),
    [
        ({"form_token": "x"}, []),
        ({"form_token": ""}, []),
        ({}, [("origin", "https://evil.example")]),
        ({}, [("origin", "null")]),
    ],
)
async def test_a_forged_form_ends_nothing(
    world: World, changes: dict[str, str], headers: list[tuple[str, str]]
):
    person, app = Person(world), SmartApp(world, "smart-secret")
    tokens = await allowed(world, person, app)
    page = await person.visit(PAGE)
    token = page.text.partition('name="form_token" value="')[2].partition('"')[0]
    form = {"form_token": token, "client": "smart-secret", "action": "revoke"} | changes
    refused = await world.post(PAGE, form, headers=[*person._headers(), *headers])
    assert refused.status == 403
    assert await app.read(tokens["access_token"])
    assert (await world.post(PAGE, form)).status == 403  # without the cookie


async def test_the_token_of_another_page_is_not_good_here(world: World):
    person, app = Person(world), SmartApp(world, "smart-secret")
    tokens = await allowed(world, person, app)
    consent = await app.ask(person, scope=STAYS)
    refused = await world.post(
        PAGE,
        {
            "form_token": consent.text.partition('name="form_token" value="')[2].partition('"')[0],
            "client": "smart-secret",
            "action": "revoke",
        },
        headers=person._headers(),
    )
    assert refused.status == 403
    assert await app.read(tokens["access_token"])


async def test_signing_in_gives_a_new_session_and_wrong_passwords_are_told_alike(world: World):
    person = Person(world)
    form = await person.visit(PAGE)
    before = person.cookie
    said = [await person.submit(form, username=name, password="wrong") for name in ("anna", "nobody-at-all")]
    assert [reply.status for reply in said] == [403, 403]
    assert all("User name or password is not right." in reply.text for reply in said)
    await person.submit(form, username="anna", password=PASSWORD)
    assert person.cookie != before
    assert [e.outcome for e in world.events if isinstance(e, SignIn)] == ["refused", "refused", "accepted"]


async def test_guessing_here_is_slowed_as_at_the_sign_in_of_apps(world: World):
    person = Person(await world.reopen(sign_in_attempts_per_minute=2))
    form = await person.visit(PAGE)
    replies = [await person.submit(form, username="anna", password="wrong") for _ in range(3)]
    assert [reply.status for reply in replies[:2]] == [403, 403]
    assert replies[-1].status == 429
    assert replies[-1].header("retry-after") == "60"


async def test_a_sign_in_that_ended_is_asked_for_again_and_ends_nothing(world: World):
    person, app = Person(world), SmartApp(world, "smart-secret")
    tokens = await allowed(world, person, app)
    page = await person.visit(PAGE)
    later = await world.reopen(accounts={"doctor": DOCTOR})
    token = page.text.partition('name="form_token" value="')[2].partition('"')[0]
    form = {"form_token": token, "client": "smart-secret", "action": "revoke"}
    reply = await later.post(PAGE, form, headers=person._headers())
    assert reply.status == 403
    assert 'id="login"' in reply.text
    assert await app.read(tokens["access_token"])


async def test_no_program_that_looks_at_links_begins_a_session(world: World):
    looked = await world.send(http_request("HEAD", PAGE))
    assert looked.status == 405
    assert not looked.headers("set-cookie")


async def test_S_D11_the_page_is_the_management_endpoint(world: World):
    found = (await world.get("/.well-known/smart-configuration")).json
    assert found["management_endpoint"] == "https://as.example/account/grants"
    assert found["response_types_supported"] == ["code"]


async def test_an_address_that_brings_no_session_is_given_so_many_a_minute(world: World):
    person = Person(world)
    assert (await person.visit(PAGE)).status == 200
    new = [await world.send(http_request("GET", PAGE)) for _ in range(120)]
    assert {reply.status for reply in new[:119]} == {200}
    assert new[119].status == 429
    assert new[119].header("set-cookie") is None
    assert (await person.visit(PAGE)).status == 200  # a browser that is known needs no row
    world.clock.now += 60
    assert (await world.send(http_request("GET", PAGE))).status == 200

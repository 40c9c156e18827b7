"""The pages of apps in the language of the person: ui_locales, Accept-Language, the switch; form ids stay (contract)."""

from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import pytest

from tests.support.authorization_server import PASSWORD, Person, World, answer_of, open_world
from tests.support.finding import FinderInMemory, with_picker
from tests.support.smart import SmartApp, smart_world
from tests.unit.test_login import ACCOUNTS, DOCTOR

SCOPE = "launch/patient patient/Observation.rs offline_access"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield await smart_world(opened, accounts=ACCOUNTS)


async def test_an_app_that_asks_for_german_gets_every_page_in_german_with_the_same_ids(world: World) -> None:
    person, app = Person(world), SmartApp(world, "smart-secret")
    page = await app.ask(person, scope=SCOPE, ui_locales="fr de-AT en")
    assert '<html lang="de">' in page.text
    assert "<h1>Anmelden</h1>" in page.text
    for id in ('id="login"', 'id="cancel"', 'name="username"', 'name="password"'):
        assert id in page.text
    wrong = await person.submit(page, username="anna", password="wrong")
    assert "Benutzername oder Passwort ist nicht richtig." in wrong.text
    page = await person.submit(page, username="anna", password=PASSWORD)
    text = unescape(page.text)
    assert '<html lang="de">' in text
    for words in (
        "Zugriff erlauben?",
        "Befunde und Messwerte der gewählten Person ansehen",
        "Bis Sie es beenden, höchstens 90 Tage",
    ):
        assert words in text, words
    for id in ('id="allow"', 'id="deny"', 'name="scope"'):
        assert id in text
    assert answer_of(await person.consent(page))["code"]


async def test_a_picker_and_its_problems_speak_german(world: World) -> None:
    finder = FinderInMemory(sees={DOCTOR.subject: {"A", "B"}})
    world = await smart_world(world, accounts=ACCOUNTS, **with_picker(finder))
    person, app = Person(world, DOCTOR), SmartApp(world)
    page = await app.ask(person, scope="launch/patient patient/*.rs", ui_locales="de")
    page = await person.submit(page, username="doctor", password=PASSWORD)
    assert "Wessen Akte?" in page.text
    assert "Nach einer anderen Person suchen" in page.text


async def test_without_the_apps_wish_the_browser_says_it(world: World) -> None:
    headers = [("accept-language", "de-CH, en;q=0.5")]
    page = await world.get("/authorize", query="request_uri=x&client_id=y", headers=headers)
    assert '<html lang="de">' in page.text
    assert 'id="error"' in page.text
    assert "request_uri wurde nicht von diesem Server ausgegeben." in page.text


async def test_forms_and_logouts_that_cannot_be_read_are_told_in_german(
    world: World,
) -> None:
    headers = [("accept-language", "de")]
    page = await world.post("/sign-in", b"x", headers=headers)
    assert '<html lang="de">' in page.text
    refused = await world.get("/logout", query="client_id=x&post_logout_redirect_uri=y", headers=headers)
    assert "Die App wollte zu einer Adresse zurück" in unescape(refused.text)


async def test_the_switch_leads_back_to_the_very_page_and_wins(world: World) -> None:
    person, app = Person(world), SmartApp(world)
    page = await app.ask(person, scope=SCOPE, ui_locales="de")
    href = unescape(page.text.partition('id="language-en" href="')[2].partition('"')[0])
    path, _, query = href.partition("?")
    switched = await world.get(path, query=query)
    assert switched.status == 303
    back = switched.header("location") or ""
    assert back.startswith("/sign-in?interaction=")
    cookie = (switched.header("set-cookie") or "").partition(";")[0]
    path, _, query = back.partition("?")
    page = await world.get(path, query=query, headers=[("cookie", f"{person.cookie}; {cookie}")])
    assert '<html lang="en">' in page.text
    assert "<h1>Sign in</h1>" in page.text


async def test_the_languages_stand_in_the_metadata(world: World) -> None:
    for path in ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"):
        assert (await world.get(path)).json["ui_locales_supported"] == ["en", "de"]

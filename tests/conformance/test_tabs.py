"""Several visits in one browser: two apps that are opened side by side, and who is at them (OpenID Connect Core 3.1.2.1)."""

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from authz.settings import Account
from tests.support.authorization_server import (
    ANNA,
    PASSWORD,
    Person,
    Reply,
    World,
    answer_of,
    http_request,
    open_world,
)

BOB = Account("bob", "b0b", ANNA.password_hash, "Bob Other", {"fhirUser": "Patient/C"}, "C")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield await opened.reopen(accounts={"anna": ANNA, "bob": BOB})


async def open_tab(person: Person, client_id: str = "portal", **changes: Any) -> Reply:
    """The page that an app leads to."""
    pushed = await person.world.app(client_id).push(**changes)
    assert pushed.status == 201, pushed.text
    return await person.visit(f"/authorize?client_id={client_id}&request_uri={pushed.json['request_uri']}")


async def sign_in(person: Person, page: Reply, account: Account = ANNA) -> Reply:
    return await person.submit(page, username=account.username, password=PASSWORD)


def address_of(page: Reply) -> str:
    """Where a page stands, as a reload asks for it."""
    found = re.search(r'name="interaction" value="([^"]+)"', page.text)
    assert found
    return f"/sign-in?interaction={unescape(found[1])}"


def asks_for_consent_of(page: Reply, account: Account) -> bool:
    return 'action="/consent"' in page.text and account.name in page.text


@pytest.mark.parametrize("way", ["the form", "a reload"])
async def test_who_signed_in_at_one_app_goes_straight_on_at_another_that_waits(
    world: World, way: str
) -> None:
    person = Person(world)
    one, other = await open_tab(person), await open_tab(person, "portal-2")
    first = await sign_in(person, one)
    second = await (sign_in(person, other) if way == "the form" else person.visit(address_of(other)))
    assert asks_for_consent_of(second, ANNA), second.text
    assert "code" in answer_of(await person.consent(second))
    assert "code" in answer_of(await person.consent(first))


async def test_a_form_of_before_signs_nobody_else_in(world: World) -> None:
    person = Person(world)
    one, other = await open_tab(person), await open_tab(person, "portal-2")
    await sign_in(person, one)
    cookie = person.cookie
    page = await sign_in(person, other, BOB)
    assert asks_for_consent_of(page, ANNA)
    assert person.cookie == cookie


async def test_an_app_that_wants_a_new_sign_in_gets_one(world: World) -> None:
    person = Person(world)
    one, other = await open_tab(person), await open_tab(person, "portal-2", prompt="login")
    await sign_in(person, one)
    again = await sign_in(person, other)
    assert 'name="password"' in again.text
    assert asks_for_consent_of(await sign_in(person, again), ANNA)


async def test_an_app_that_means_somebody_else_asks_for_that_one(world: World) -> None:
    person = Person(world)
    claims = '{"id_token": {"sub": {"value": "b0b"}}}'
    one, other = (
        await open_tab(person),
        await open_tab(person, "portal-2", scope="openid patient/*.rs", claims=claims),
    )
    await sign_in(person, one)
    assert 'name="password"' in (await person.visit(address_of(other))).text


@pytest.mark.parametrize("end", ["other", "sign-out", "account"])
async def test_a_visit_of_one_person_is_never_that_of_the_next(world: World, end: str) -> None:
    person = Person(world)
    one, other = await open_tab(person), await open_tab(person, "portal-2")
    first, second = await sign_in(person, one), await sign_in(person, other)
    if end == "other":
        next_page = await person.consent(second, "other")
        await sign_in(person, next_page, BOB)
    else:
        headers = [("cookie", person.cookie or "")]
        found = await world.get("/logout", headers=headers)
        signed_out = await person.submit(found)
        assert signed_out.status == 200
        person.cookie = None
        await sign_in(person, await open_tab(person), BOB)
    stale = await person.consent(first)
    assert (stale.status, stale.header("location")) == (400, None)
    assert asks_for_consent_of(first, ANNA)


async def test_the_visit_of_another_browser_stays_there(world: World) -> None:
    """Its address alone is no way in, whoever has it, and whether or not somebody signed in meanwhile."""
    victim, attacker = Person(world), Person(world)
    waiting = await open_tab(attacker, "portal-2")
    await sign_in(victim, await open_tab(victim))
    for person in (victim, Person(world)):
        assert (await person.visit(address_of(waiting))).status == 400
    await sign_in(attacker, await open_tab(attacker), BOB)
    assert (await victim.visit(address_of(waiting))).status == 400
    assert asks_for_consent_of(await attacker.visit(address_of(waiting)), BOB)


async def test_the_session_of_before_opens_nothing_any_more(world: World) -> None:
    person = Person(world)
    one, other = await open_tab(person), await open_tab(person, "portal-2")
    before = person.cookie or ""
    await sign_in(person, one)
    path, _, query = address_of(other).partition("?")
    old = await world.send(http_request("GET", path, query=query, headers=[("cookie", before)]))
    assert old.status == 400


async def test_a_sign_in_at_the_pages_of_the_account_is_one_too(world: World) -> None:
    person = Person(world)
    waiting = await open_tab(person)
    page = await person.visit("/account/grants")
    await person.submit(page, username="anna", password=PASSWORD)
    assert asks_for_consent_of(await sign_in(person, waiting), ANNA)


async def test_a_client_that_is_gone_leads_nowhere(world: World) -> None:
    person = Person(world)
    one, other = await open_tab(person), await open_tab(person, "portal-2")
    await sign_in(person, one)
    clients = {name: client for name, client in world.clients.items() if name != "portal-2"}
    again = Person(await world.reopen(clients=clients))
    again.cookie = person.cookie
    page = await again.visit(address_of(other))
    assert (page.status, page.header("location")) == (400, None)

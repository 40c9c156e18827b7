"""What a client says once of all its requests: default_max_age and require_auth_time (OpenID Connect Registration 2)."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.authorization_server import App, Person, Reply, World, answer_of, claims_of, open_world
from tests.support.registration import AUTOMATIC, newcomer
from tests.support.smart import SmartApp, clients, smart_world

SCOPE = "openid patient/*.rs"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, registration=AUTOMATIC) as opened:
        yield opened


async def visit(app: App, person: Person, **changes: Any) -> Reply:
    """What the person sees first."""
    pushed = await app.push(**{"scope": SCOPE} | changes)
    assert pushed.status == 201, pushed.text
    return await person.visit(
        f"/authorize?client_id={app.client_id}&request_uri={pushed.json['request_uri']}"
    )


def asks_for_password(page: Reply) -> bool:
    return 'name="password"' in page.text


async def signed_in(app: App) -> Person:
    """A person who has a session here, and has granted this app what it asks for."""
    person = Person(app.world)
    page = await person.sign_in(await app.push(scope=SCOPE), app.client_id)
    answer_of(await person.consent(page))
    return person


@pytest.mark.parametrize("said", [{}, {"max_age": ""}, {"prompt": "consent"}, {"prompt": "select_account"}])
@pytest.mark.parametrize(("seconds", "again"), [(99, True), (100, False), (101, False), (0, True)])
async def test_OIDC_registration_2_a_sign_in_older_than_default_max_age_is_asked_for_again(
    world: World, seconds: int, again: bool, said: dict[str, str]
) -> None:
    app = (await newcomer(world, default_max_age=seconds)).app()
    person = await signed_in(app)
    world.clock.now += 100
    assert asks_for_password(await visit(app, person, **said)) is (again or "select_account" in said.values())


async def test_OIDC_registration_2_max_age_of_the_request_is_preferred(world: World) -> None:
    app = (await newcomer(world, default_max_age=50)).app()
    person = await signed_in(app)
    world.clock.now += 100
    assert not asks_for_password(await visit(app, person, max_age="1000"))
    assert asks_for_password(await visit(app, person, max_age="10"))


async def test_OIDC_registration_2_without_pages_an_old_sign_in_is_login_required(world: World) -> None:
    app = (await newcomer(world, default_max_age=50)).app()
    person = await signed_in(app)
    assert "code" in answer_of(await visit(app, person, prompt="none"))
    world.clock.now += 51
    assert answer_of(await visit(app, person, prompt="none"))["error"] == "login_required"


async def test_OIDC_registration_2_a_signed_request_without_max_age_has_the_default(world: World) -> None:
    app = (await newcomer(world, default_max_age=50, require_signed_request_object=True)).app()
    person = await signed_in_by_object(app)
    world.clock.now += 51
    assert asks_for_password(await by_object(app, person))
    assert not asks_for_password(await by_object(app, person, max_age=60))


async def by_object(app: App, person: Person, **claims: Any) -> Reply:
    pushed = await app.push_signed(scope=SCOPE, **claims)
    assert pushed.status == 201, pushed.text
    return await person.visit(
        f"/authorize?client_id={app.client_id}&request_uri={pushed.json['request_uri']}"
    )


async def signed_in_by_object(app: App) -> Person:
    person = Person(app.world)
    page = await person.sign_in(await app.push_signed(scope=SCOPE), app.client_id)
    answer_of(await person.consent(page))
    return person


async def test_OIDC_registration_2_it_grows_too_old_at_the_consent_page_too(world: World) -> None:
    app = (await newcomer(world, default_max_age=120)).app()
    person = Person(world)
    page = await person.sign_in(await app.push(scope=SCOPE), app.client_id)
    world.clock.now += 121
    assert asks_for_password(await person.consent(page))


async def test_OIDC_registration_2_a_request_that_is_not_pushed_has_the_default_of_its_client(
    world: World,
) -> None:
    app = replace(clients()["smart-app"], default_max_age_seconds=50)
    again = await smart_world(world, more={"smart-app": app})
    person = Person(again)
    await SmartApp(again).launch(person)
    assert not asks_for_password(await SmartApp(again).ask(person))
    again.clock.now += 51
    assert asks_for_password(await SmartApp(again).ask(person))


@pytest.mark.parametrize("required", [True, False])
async def test_OIDC_registration_2_auth_time_is_in_every_ID_token_and_require_auth_time_is_kept(
    world: World, required: bool
) -> None:
    found = await newcomer(world, require_auth_time=required)
    assert (await found.read()).json["require_auth_time"] is required
    app, person = found.app(), Person(world)
    page = await person.sign_in(await app.push(scope=SCOPE + " offline_access"), app.client_id)
    at = world.clock.now
    tokens = (await app.redeem(answer_of(await person.consent(page))["code"])).json
    assert claims_of(tokens["id_token"])["auth_time"] == at
    world.clock.now += 30
    refreshed = (await app.refresh(tokens["refresh_token"])).json
    assert claims_of(refreshed["id_token"])["auth_time"] == at


async def test_OIDC_registration_2_what_was_registered_is_told_and_can_be_changed(world: World) -> None:
    found = await newcomer(world, default_max_age=50)
    told = (await found.read()).json
    assert told["default_max_age"] == 50
    document = {
        name: value
        for name, value in told.items()
        if not name.startswith("registration_") and name != "client_id_issued_at"
    }
    changed = await found.update(document | {"default_max_age": 7})
    assert (changed.status, changed.json["default_max_age"]) == (200, 7)
    without = await found.update({n: v for n, v in document.items() if n != "default_max_age"})
    assert "default_max_age" not in without.json

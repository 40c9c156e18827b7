"""Requests by which an app would get what the person before the browser was not asked for (OpenID Connect Core 3.1.2.1)."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.authorization_server import (
    ANNA,
    Person,
    Reply,
    World,
    answer_of,
    claims_of,
    http_request,
    open_world,
)

SCOPE = "openid patient/*.rs"
NAME = {"name": None}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def asked(world: World, person: Person, **changes: Any) -> Reply:
    """The end of the way that begins with this request in this person's browser."""
    pushed = await world.app().push(**{"scope": SCOPE} | changes)
    assert pushed.status == 201, pushed.text
    query = urlencode({"client_id": "portal", "request_uri": pushed.json["request_uri"]})
    return await person.visit(f"/authorize?{query}")


async def allowed(world: World, **changes: Any) -> tuple[Person, Reply]:
    """A person who signed in and allowed this request, with the consent page that was shown."""
    person = Person(world)
    page = await person.sign_in(await world.app().push(**{"scope": SCOPE} | changes))
    assert "code" in answer_of(await person.consent(page))
    return person, page


@pytest.mark.parametrize("place", ["id_token", "userinfo"])
async def test_SEC_44_prompt_none_tells_no_claim_that_nobody_was_asked_for(world: World, place: str) -> None:
    person, _ = await allowed(world)
    more = await asked(world, person, prompt="none", claims=json.dumps({place: NAME}))
    assert answer_of(more)["error"] == "consent_required"
    none = {"id_token": {"acr": None, "nickname": None}, "userinfo": {}}
    assert "code" in answer_of(await asked(world, person, prompt="none", claims=json.dumps(none)))


async def test_SEC_44_prompt_none_tells_again_what_was_asked_for(world: World) -> None:
    person, page = await allowed(world, claims=json.dumps({"userinfo": NAME}))
    assert '<ul id="claims">' in page.text
    again = await asked(world, person, prompt="none", claims=json.dumps({"id_token": NAME}))
    assert "code" in answer_of(again)


async def test_SEC_44_the_consent_page_says_which_claims_are_told_beside_the_scopes(world: World) -> None:
    person = Person(world)
    claims = json.dumps({"userinfo": NAME | {"fhirUser": None}})
    page = await person.sign_in(await world.app().push(scope="openid fhirUser patient/*.rs", claims=claims))
    told = page.text.partition('<ul id="claims">')[2].partition("</ul>")[0]
    assert told.count("<li>") == 1  # fhirUser stands among the scopes already
    assert '<ul id="claims">' not in (await person.sign_in(await world.app().push(scope=SCOPE))).text


@pytest.mark.parametrize("path", ["/authorize", "/sign-in", "/patient", "/consent", "/logout"])
async def test_HEAD_opens_no_page_that_does_something(world: World, path: str) -> None:
    reply = await world.send(http_request("HEAD", path))
    assert reply.status == 405
    assert "HEAD" not in (reply.header("allow") or "")
    assert "GET" in (reply.header("allow") or "")


async def test_HEAD_of_an_authorization_request_uses_nothing_up(world: World) -> None:
    person, _ = await allowed(world)
    pushed = await world.app().push(scope=SCOPE, prompt="none")
    query = urlencode({"client_id": "portal", "request_uri": pushed.json["request_uri"]})
    cookie = [("cookie", person.cookie or "")]
    assert (await world.send(http_request("HEAD", "/authorize", query=query, headers=cookie))).status == 405
    assert "code" in answer_of(await world.get("/authorize", query=query, headers=cookie))


# How old a sign-in may be when the code is made


async def test_SEC_45_a_sign_in_that_grew_too_old_at_the_consent_page_is_asked_for_again(
    world: World,
) -> None:
    person = Person(world)
    page = await person.sign_in(await world.app().push(scope=SCOPE, max_age="120"))
    world.clock.now += 121
    again = await person.consent(page)
    assert 'name="password"' in again.text
    page = await person.submit(again, username=ANNA.username, password="correct horse battery staple")
    code = answer_of(await person.consent(page))["code"]
    assert (await world.app().redeem(code)).status == 200
    [grant] = await world.store.grants(subject=ANNA.subject, client_id="portal", now=world.clock.now)
    assert grant.authenticated_at == world.clock.now


@pytest.mark.parametrize("max_age", ["0", "1", "60"])
async def test_SEC_45_a_minute_is_there_to_read_the_consent_page(world: World, max_age: str) -> None:
    person = Person(world)
    page = await person.sign_in(await world.app().push(scope=SCOPE, max_age=max_age))
    world.clock.now += 60
    assert "code" in answer_of(await person.consent(page))


# A claim that a scope stands for is told with that scope, or not at all


async def allowing(world: World, *scopes: str, **changes: Any) -> tuple[Person, Reply]:
    """A person who left these boxes ticked and no other."""
    person = Person(world)
    page = await person.sign_in(await world.app().push(**changes))
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
    form = [*hidden.items(), *(("scope", text) for text in scopes), ("action", "allow")]
    headers = [("content-type", "application/x-www-form-urlencoded"), ("cookie", person.cookie or "")]
    body = urlencode(form).encode()
    return person, await world.send(http_request("POST", "/consent", headers=headers, body=body))


@pytest.mark.parametrize("place", ["id_token", "userinfo"])
async def test_SEC_44_a_claim_whose_scope_the_person_took_away_is_told_nowhere(
    world: World, place: str
) -> None:
    asked_for = {"scope": "openid fhirUser patient/*.rs", "claims": json.dumps({place: {"fhirUser": None}})}
    person, reply = await allowing(world, "openid", "patient/*.rs", **asked_for)
    app = world.app()
    tokens = (await app.redeem(answer_of(reply)["code"])).json
    assert tokens["scope"] == "openid patient/*.rs"
    assert "fhirUser" not in claims_of(tokens["id_token"])
    told = await world.send(app.reading(tokens["access_token"], "/userinfo"))
    assert told.json == {"sub": ANNA.subject}
    again = await asked(world, person, prompt="none", **asked_for | {"scope": "openid patient/*.rs"})
    assert answer_of(again)["error"] == "consent_required"


async def test_SEC_44_a_claim_whose_scope_stays_is_told(world: World) -> None:
    claims = json.dumps({"userinfo": {"fhirUser": None}})
    _, reply = await allowing(
        world, "openid", "fhirUser", "patient/*.rs", scope="openid fhirUser patient/*.rs", claims=claims
    )
    app = world.app()
    tokens = (await app.redeem(answer_of(reply)["code"])).json
    assert claims_of(tokens["id_token"])["fhirUser"] == "Patient/A"
    told = await world.send(app.reading(tokens["access_token"], "/userinfo"))
    assert told.json == {"sub": ANNA.subject, "fhirUser": "Patient/A"}


async def test_SEC_44_introspection_tells_an_app_who_the_person_is_only_with_the_scope(world: World) -> None:
    """A resource server learns it, since its rules are about people."""
    for scope, told in (("openid patient/*.rs", False), ("openid fhirUser patient/*.rs", True)):
        _, reply = await allowing(world, *scope.split(), scope="openid fhirUser patient/*.rs")
        app, other = world.app(), world.app("resource-server")
        token = {"token": (await app.redeem(answer_of(reply)["code"])).json["access_token"]}
        assert ("fhirUser" in (await app.post("/introspect", token)).json) is told
        assert (await other.post("/introspect", token)).json["fhirUser"] == "Patient/A"

"""Authorization response: rows P7 to P10 and A1, A2, A5 of the FAPI 2.0 checklist, through the real pages."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from authz.protocol.authorization_answers import RedirectTarget, answer_url, failure, locate, success
from authz.protocol.errors import ErrorCode, OAuthError
from tests.support.authorization_server import (
    ISSUER,
    REDIRECT_URI,
    Person,
    Reply,
    World,
    answer_of,
    open_world,
)
from tests.support.jose import ABSENT


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def authorize(world: World, pushed: Reply, **more: str) -> Reply:
    query = {"client_id": "portal", "request_uri": pushed.json["request_uri"]} | more
    return await Person(world).visit(f"/authorize?{urlencode(query)}")


def is_error_page(reply: Reply) -> bool:
    return reply.status == 400 and 'id="error"' in reply.text and 'id="error-description"' in reply.text


async def test_A1_success_has_code_state_and_iss_and_nothing_else(world: World) -> None:
    person = Person(world)
    reply = await person.consent(await person.sign_in(await world.app().push()))
    answer = answer_of(reply)
    assert set(answer) == {"code", "state", "iss"}
    assert (answer["state"], answer["iss"]) == ("s-1", ISSUER)
    location = reply.header("location") or ""
    assert location.startswith(f"{REDIRECT_URI}?")
    assert urlsplit(location).fragment == ""


async def test_A1_A5_refusal_is_access_denied_with_iss(world: World) -> None:
    person = Person(world)
    answer = answer_of(await person.consent(await person.sign_in(await world.app().push()), "deny"))
    assert set(answer) == {"error", "error_description", "state", "iss"}
    assert (answer["error"], answer["state"], answer["iss"]) == ("access_denied", "s-1", ISSUER)


async def test_A1_a_registered_query_is_kept_in_success_and_in_refusal(world: World) -> None:
    uri = f"{REDIRECT_URI}?tenant=a%20b"
    for action in ("allow", "deny"):
        person = Person(world)
        reply = await person.consent(await person.sign_in(await world.app().push(redirect_uri=uri)), action)
        assert (reply.header("location") or "").startswith(f"{uri}&")
        assert answer_of(reply)["tenant"] == "a b"


async def test_A2_the_code_has_256_random_bits_and_gets_a_token_once(world: World) -> None:
    app, person = world.app(), Person(world)
    answer = answer_of(await person.consent(await person.sign_in(await app.push())))
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", answer["code"])
    reply = await app.redeem(answer["code"])
    assert reply.status == 200, reply.text
    assert reply.json["patient"] == "A"


async def test_P7_another_client_cannot_use_the_request_uri(world: World) -> None:
    assert is_error_page(await authorize(world, await world.app("portal-2").push()))


async def test_P8_it_may_be_visited_again_before_it_is_completed_and_never_after(world: World) -> None:
    pushed = await world.app().push()
    person = Person(world)
    await person.sign_in(pushed)
    consent = await person.sign_in(pushed)
    assert answer_of(await person.consent(consent))["code"]
    assert is_error_page(await authorize(world, pushed))


async def test_P8_of_two_open_pages_of_one_request_one_gets_a_code(world: World) -> None:
    pushed = await world.app().push()
    person = Person(world)
    first, second = await person.sign_in(pushed), await person.sign_in(pushed)
    assert answer_of(await person.consent(first))["code"]
    assert is_error_page(await person.consent(second))


async def test_P8_a_refused_request_is_used_up(world: World) -> None:
    pushed = await world.app().push()
    person = Person(world)
    await person.consent(await person.sign_in(pushed), "deny")
    assert is_error_page(await authorize(world, pushed))


@pytest.mark.parametrize(("later", "is_known"), [(59, True), (60, False), (61, False)])
async def test_P8_expired_means_expired_even_when_somebody_is_at_the_pages(
    world: World, later: int, is_known: bool
) -> None:
    pushed = await world.app().push()
    assert not is_error_page(await authorize(world, pushed))
    world.clock.now += later
    assert is_error_page(await authorize(world, pushed)) is not is_known


async def test_P9_pushed_parameters_in_the_address_are_ignored(world: World) -> None:
    person = Person(world)
    pushed = await world.app().push()
    query = [
        ("state", "other"), ("scope", "patient/*.cruds"), ("redirect_uri", "https://evil.example"), ("state", "third"),
        ("request_uri", pushed.json["request_uri"]), ("client_id", "portal"), ("nonce", "n"),
    ]  # fmt: skip
    await person.visit(f"/authorize?{urlencode(query)}")
    answer = answer_of(await person.consent(await person.sign_in(pushed)))
    assert answer["state"] == "s-1"


async def test_P10_a_request_that_was_not_pushed_is_refused_with_a_page(world: World) -> None:
    reply = await Person(world).visit(f"/authorize?{urlencode(world.app().asking())}")
    assert is_error_page(reply)


@pytest.mark.parametrize(
    "request_uri", ["urn:other:x", "https://evil.example/r", "urn:ietf:params:oauth:request_uri:x"]
)
async def test_P10_a_request_uri_that_is_not_ours_is_refused_with_a_page(
    world: World, request_uri: str
) -> None:
    query = urlencode({"client_id": "portal", "request_uri": request_uri})
    assert is_error_page(await Person(world).visit(f"/authorize?{query}"))


async def test_P13_state_comes_back_intact_or_not_at_all(world: World) -> None:
    state = "ä~&=+% /?#'<>" * 40
    person = Person(world)
    answer = answer_of(await person.consent(await person.sign_in(await world.app().push(state=state))))
    assert answer["state"] == state
    answer = answer_of(await person.consent(await person.sign_in(await world.app().push(state=ABSENT))))
    assert set(answer) == {"code", "iss"}


def test_A1_only_a_registered_address_is_a_target(world: World) -> None:
    client = world.clients["portal"]
    target = RedirectTarget(REDIRECT_URI, "x", client.client_id, signed=False)
    assert locate({"redirect_uri": REDIRECT_URI, "state": "x"}, client) == target
    for parameters in ({}, {"redirect_uri": "https://evil.example"}):
        with pytest.raises(OAuthError):
            locate(parameters, client)


def test_A1_the_urls_of_success_and_error() -> None:
    target = RedirectTarget("https://app.example/cb?x=1", None, "app", signed=False)
    assert (
        answer_url(target, success(target, "c", issuer="https://i"))
        == "https://app.example/cb?x=1&code=c&iss=https%3A%2F%2Fi"
    )
    error = OAuthError(ErrorCode.ACCESS_DENIED, "no & never")
    assert answer_url(target, failure(target, error, issuer="https://i")) == (
        "https://app.example/cb?x=1&error=access_denied&error_description=no+%26+never&iss=https%3A%2F%2Fi"
    )

"""Applications that try to become more by registering than somebody approved (RFC 7591 5, RFC 7592 5, I3)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from authz import descriptions
from authz.storage.registrations import RegistrationStatus
from tests.support.authorization_server import World, open_world
from tests.support.jose import ec_key
from tests.support.registration import (
    ENABLED,
    WHO,
    Newcomer,
    approved,
    initial_access_token,
    metadata,
    registry_of,
    send,
    statement,
)

_ELSEWHERE = "https://elsewhere.example/callback"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, registration=ENABLED) as opened:
        yield opened


async def proposed(world: World) -> Newcomer:
    """An approved application that then shows a statement by which it would be sent people elsewhere, for more."""
    own = await approved(world, scope="openid patient/Observation.rs")
    signed = statement(scope="openid patient/*.rs", redirect_uris=[_ELSEWHERE])
    told = await own.update(metadata(own.key, software_statement=signed))
    assert told.status == 200, told.text
    assert told.json["registration_update"]["redirect_uris"] == [_ELSEWHERE]
    return own


async def test_a_statement_of_an_update_is_not_in_force_before_approval(world: World) -> None:
    own = await proposed(world)
    client = world.server.clients[own.client_id]
    assert _ELSEWHERE not in client.redirect_uris
    assert client.scope == ("openid", "patient/Observation.rs")
    assert "software_statement" not in (await own.read()).json


async def test_a_statement_of_an_update_that_was_rejected_leaves_nothing_behind(world: World) -> None:
    own = await proposed(world)
    await registry_of(world).reject(own.client_id, **WHO)
    told = (await own.read()).json
    assert "software_statement" not in told
    again = await own.update(metadata(own.key, scope="openid patient/Observation.rs"))
    assert again.status == 200, again.text
    assert "registration_update" not in again.json
    assert _ELSEWHERE not in world.server.clients[own.client_id].redirect_uris


async def test_a_statement_of_an_update_comes_into_force_with_its_approval(world: World) -> None:
    own = await proposed(world)
    await registry_of(world).approve(own.client_id, **WHO)
    assert world.server.clients[own.client_id].redirect_uris == (_ELSEWHERE,)
    assert "software_statement" in (await own.read()).json
    back = await own.update(metadata(own.key))  # what was stated stays laid over what is asked for
    assert back.json["redirect_uris"] == [_ELSEWHERE]


async def test_a_later_update_within_what_was_vetted_drops_the_statement_that_waits(world: World) -> None:
    own = await proposed(world)
    told = await own.update(metadata(own.key, scope="openid patient/Observation.r"))
    assert told.status == 200, told.text
    assert "registration_update" not in told.json
    assert world.server.clients[own.client_id].redirect_uris != (_ELSEWHERE,)
    assert "software_statement" not in told.json


async def test_an_application_cannot_fill_its_own_history(world: World) -> None:
    own = await approved(world)
    for number in range(30):
        assert (await own.update(metadata(own.key, software_version=str(number)))).status == 200
    told = await own.update(metadata(own.key, software_version="one more"))
    assert told.refusal == (429, "temporarily_unavailable")
    assert told.header("retry-after") == "600"
    assert (await own.read()).json["software_version"] == "29"
    assert len(await registry_of(world).history(own.client_id)) == 32
    world.clock.now += 3600
    assert (await own.update(metadata(own.key, software_version="one more"))).status == 200


async def test_an_update_that_changes_nothing_leaves_no_row(world: World) -> None:
    own = await approved(world)
    before = await registry_of(world).history(own.client_id)
    for _ in range(40):
        assert (await own.update(metadata(own.key))).status == 200
    assert await registry_of(world).history(own.client_id) == before


async def test_one_software_statement_registers_so_many_applications_a_day(world: World) -> None:
    document = metadata(ec_key(), software_statement=statement())
    for _ in range(100):
        assert (await send(world, "POST", "/register", document)).status == 201
    told = await send(world, "POST", "/register", document)
    assert told.refusal == (429, "temporarily_unavailable")
    other = metadata(ec_key(), software_statement=statement(software_id="s-2"))
    assert (await send(world, "POST", "/register", other)).status == 201
    assert len(await registry_of(world).list_clients(RegistrationStatus.PENDING)) == 101


async def test_the_history_names_an_initial_access_token_as_operators_see_it(world: World) -> None:
    """A leaked token is found by what it let in."""
    token = await initial_access_token(world, uses=2)
    told = await send(world, "POST", "/register", metadata(ec_key()), token=token)
    [left] = await registry_of(world).initial_access_tokens()
    [registered] = await registry_of(world).history(told.json["client_id"])
    assert f"initial access token {descriptions.of_token(left)['id']:.8} of alice" == registered.who

"""Applications that try to become more by registering than somebody approved (RFC 7591 5, RFC 7592 5, I3)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.authorization_server import World, open_world
from tests.support.registration import (
    ENABLED,
    WHO,
    Newcomer,
    approved,
    metadata,
    registry_of,
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

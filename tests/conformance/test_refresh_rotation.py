"""Refresh tokens: K3 of the FAPI 2.0 checklist, RFC 9700 4.14.2. No rotation by default; with it a bounded grace."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from authz.events import GrantRevoked
from tests.support.authorization_server import App, World, open_world

INACTIVE = {"active": False}


@pytest.fixture
async def still(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def rotating(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, rotate_refresh_tokens=True) as opened:
        yield opened


async def begun(world: World) -> tuple[App, dict[str, Any]]:
    app = world.app()
    return app, (await app.redeem(await app.code())).json


async def test_K3_without_rotation_the_same_token_stays_good(still: World) -> None:
    app, tokens = await begun(still)
    for _ in range(3):
        reply = await app.refresh(tokens["refresh_token"])
        assert (reply.status, "refresh_token" in reply.json) == (200, False)
        still.clock.now += 100


async def test_K3_with_rotation_each_use_gives_a_successor(rotating: World) -> None:
    app, tokens = await begun(rotating)
    seen = {tokens["refresh_token"]}
    for _ in range(3):
        reply = await app.refresh(tokens["refresh_token"])
        tokens = reply.json
        assert reply.status == 200
        assert tokens["refresh_token"] not in seen
        seen.add(tokens["refresh_token"])
        rotating.clock.now += 100
        app.nonce = None


async def test_K3_the_old_token_still_works_30_s_later(rotating: World) -> None:
    app, tokens = await begun(rotating)
    first = (await app.refresh(tokens["refresh_token"])).json
    rotating.clock.now += 30
    again = await app.refresh(tokens["refresh_token"])
    assert again.status == 200
    assert again.json["refresh_token"] != first["refresh_token"]
    for token in (first, again.json):
        assert (await app.refresh(token["refresh_token"])).status == 200


async def test_K3_a_late_use_of_the_old_token_ends_the_grant(rotating: World) -> None:
    app, tokens = await begun(rotating)
    successor = (await app.refresh(tokens["refresh_token"])).json
    rotating.clock.now += 60
    assert (await app.refresh(tokens["refresh_token"])).refusal == (400, "invalid_grant")
    assert (await app.refresh(successor["refresh_token"])).refusal == (400, "invalid_grant")
    asking = rotating.app("resource-server")
    assert (await asking.post("/introspect", {"token": successor["access_token"]})).json == INACTIVE
    revoked = [event for event in rotating.events if isinstance(event, GrantRevoked)]
    assert [event.reason for event in revoked] == ["refresh-token-replayed"]


async def test_K3_the_old_token_is_inactive_after_its_grace(rotating: World) -> None:
    app, tokens = await begun(rotating)
    await app.refresh(tokens["refresh_token"])
    asking = rotating.app("resource-server")
    form = {"token": tokens["refresh_token"]}
    assert (await asking.post("/introspect", form)).json["active"] is True
    rotating.clock.now += 60
    assert (await asking.post("/introspect", form)).json == INACTIVE


async def test_K3_a_refusal_replaces_nothing(rotating: World) -> None:
    app, tokens = await begun(rotating)
    refused = await app.refresh(tokens["refresh_token"], scope="user/Observation.rs")
    assert refused.refusal == (400, "invalid_scope")
    rotating.clock.now += 61
    app.nonce = None
    assert (await app.refresh(tokens["refresh_token"])).status == 200


async def test_K3_a_successor_lives_no_longer_than_the_first(rotating: World) -> None:
    app, tokens = await begun(rotating)
    rotating.clock.now += 80 * 86400
    app.nonce = None
    successor = (await app.refresh(tokens["refresh_token"])).json
    rotating.clock.now += 11 * 86400
    app.nonce = None
    assert (await app.refresh(successor["refresh_token"])).refusal == (400, "invalid_grant")

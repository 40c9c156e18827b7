"""Introspection for those who show a token of their own (SMART App Launch 2.2 @282), and for nobody else."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from authz.protocol import jose
from authz.protocol.clients import BindingKind, Client
from tests.support.authorization_server import App, Person, Reply, World, claims_of, open_world
from tests.support.smart import SmartApp, clients, smart_world

SCOPE = "securus/introspect"
PATH = "/introspect"
INACTIVE = {"active": False}


def servers(world: World) -> dict[str, Client]:
    """A resource server of FAPI, and one whose tokens are plain bearer tokens."""
    fapi = world.clients["resource-server"]
    backend = clients()["smart-backend"]
    return {
        "resource-server": replace(fapi, scope=(*fapi.scope, SCOPE)),
        "smart-backend": replace(backend, scope=(*backend.scope, SCOPE), may_introspect=True),
    }


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield await smart_world(opened, more=servers(opened))


async def own_token(world: World, client_id: str = "smart-backend", scope: str = SCOPE) -> str:
    """A token that the client has for itself."""
    form = {"grant_type": "client_credentials", "scope": scope}
    if client_id == "smart-backend":
        reply = await SmartApp(world, client_id).post("/token", form)
    else:
        reply = await world.app(client_id).own_token(scope=scope)
    assert reply.status == 200, reply.text
    return str(reply.json["access_token"])


async def issued(world: World, client_id: str = "smart-app") -> str:
    """An access token of an app."""
    app = SmartApp(world, client_id)
    return str((await app.redeem(await app.launch(Person(world)))).json["access_token"])


async def by_bearer(world: World, bearer: str, token: str, **more: str) -> Reply:
    """The answer to somebody who shows a bearer token."""
    return await world.post(PATH, {"token": token, **more}, headers=[("authorization", f"Bearer {bearer}")])


def by_dpop(app: App, shown: str, **changes: Any) -> Any:
    """The headers with a token that is bound to the app's key."""
    reading = app.reading(shown, PATH)
    nonce = claims_of(reading.headers["dpop"])["nonce"]
    proof = app.proof(PATH, nonce=nonce, access_token=shown, **changes)
    return [("authorization", f"DPoP {shown}"), ("dpop", proof)]


async def test_SMART_282_a_resource_server_asks_with_a_token_of_its_own(world: World) -> None:
    shown = await own_token(world)
    for client_id in ("smart-app", "smart-secret"):
        told = await by_bearer(world, shown, await issued(world, client_id))
        assert told.status == 200
        assert told.json["active"] is True
        assert (told.json["client_id"], told.json["patient"]) == (client_id, "A")
        assert told.header("cache-control") == "no-store"
    assert (await by_bearer(world, shown, "unknown")).json == INACTIVE


async def test_SMART_282_a_token_that_is_bound_to_a_key_is_shown_with_its_proof(world: World) -> None:
    app, token = world.app("resource-server"), await issued(world)
    answer = await app.own_token(scope=SCOPE)
    shown = str(answer.json["access_token"])
    told = await world.post(PATH, {"token": token}, headers=by_dpop(app, shown))
    assert told.json["client_id"] == "smart-app", told.text
    without = await by_bearer(world, shown, token)
    assert without.refusal == (401, "invalid_token")
    again = by_dpop(app, shown)
    assert (await world.post(PATH, {"token": token}, headers=again)).status == 200
    replayed = await world.post(PATH, {"token": token}, headers=again)
    assert replayed.refusal == (401, "invalid_dpop_proof")
    unbound = await world.post(PATH, {"token": token}, headers=[("authorization", f"DPoP {shown}")])
    assert unbound.status == 401
    assert (unbound.header("www-authenticate") or "").startswith("DPoP ")
    assert len(unbound.headers("dpop-nonce")) == 1


async def test_I1_a_client_that_shows_its_own_token_learns_of_its_own_alone(world: World) -> None:
    own = await issued(world, "smart-secret")
    assert (await by_bearer(world, own, own)).json["active"] is True
    assert (await by_bearer(world, own, await issued(world, "smart-app"))).json == INACTIVE
    assert (await by_bearer(world, own, await issued(world, "smart-keys"))).json == INACTIVE


async def test_I1_a_public_app_learns_nothing_by_its_token_either(world: World) -> None:
    own = await issued(world)
    refused = await by_bearer(world, own, own)
    assert refused.refusal == (403, "insufficient_scope")
    assert "active" not in refused.json


async def test_SMART_282_the_token_must_be_scoped_for_it(world: World) -> None:
    shown = await own_token(world, scope="system/Patient.rs")
    refused = await by_bearer(world, shown, await issued(world))
    assert refused.refusal == (403, "insufficient_scope")
    assert 'scope="securus/introspect"' in (refused.header("www-authenticate") or "")


@pytest.mark.parametrize("shown", ["", "x", "a.b.c", "a b"])
async def test_a_token_that_is_none_of_ours_is_refused_and_told_how(world: World, shown: str) -> None:
    refused = await by_bearer(world, shown, await issued(world))
    assert refused.status in (400, 401)
    assert refused.status == 400 or (refused.header("www-authenticate") or "").startswith("Bearer ")
    assert "active" not in refused.json


async def test_one_way_to_say_who_asks_and_not_two(world: World) -> None:
    shown = await own_token(world)
    said, _ = SmartApp(world, "smart-backend").credentials()
    refused = await by_bearer(world, shown, "x", **said)
    assert refused.refusal == (400, "invalid_request")
    missing = await world.post(PATH, {}, headers=[("authorization", f"Bearer {shown}")])
    assert missing.refusal == (400, "invalid_request")


async def test_what_was_taken_away_ends_at_once(world: World) -> None:
    shown, token = await own_token(world), await issued(world)
    less = replace(servers(world)["smart-backend"], may_introspect=False)
    later = await smart_world(world, more={**servers(world), "smart-backend": less})
    assert (await by_bearer(later, shown, token)).refusal == (403, "insufficient_scope")
    bound = replace(servers(world)["smart-backend"], binding=BindingKind.DPOP)
    strict = await smart_world(world, more={**servers(world), "smart-backend": bound})
    assert (await by_bearer(strict, shown, token)).refusal == (401, "invalid_token")
    whole = await smart_world(world, more=servers(world))
    assert (await by_bearer(whole, shown, token)).status == 200
    await whole.server.registry.suspend("smart-backend", who="alice", why="ticket")
    assert (await by_bearer(whole, shown, token)).refusal == (401, "invalid_token")
    await whole.server.registry.reactivate("smart-backend", who="alice", why="ticket")
    gone = await smart_world(world, more={"resource-server": servers(world)["resource-server"]})
    gone.clients.pop("smart-backend", None)
    assert (await by_bearer(gone, shown, token)).status == 401


async def test_client_authentication_goes_on_and_metadata_tell_of_both(world: World) -> None:
    token = await issued(world)
    assert (await world.app("resource-server").post(PATH, {"token": token})).json["active"] is True
    found = (await world.get("/.well-known/oauth-authorization-server")).json
    methods = found["introspection_endpoint_auth_methods_supported"]
    assert {"private_key_jwt", "Bearer", "DPoP"} <= set(methods)
    assert SCOPE not in found["scopes_supported"]


async def test_a_signed_answer_is_for_the_client_of_the_token(world: World) -> None:
    shown, token = await own_token(world), await issued(world)
    headers = [("authorization", f"Bearer {shown}"), ("accept", "application/token-introspection+jwt")]
    reply = await world.post(PATH, {"token": token}, headers=headers)
    claims = jose.json_object(jose.parse_compact(reply.text).payload, "payload")
    assert claims["aud"] == "smart-backend"


async def test_a_token_of_its_own_is_no_way_around_the_rate_of_a_client(world: World) -> None:
    waits: dict[str, int] = {}

    async def admit(client_id: str) -> int:
        return waits.get(client_id, 0)

    limited = await smart_world(world, more=servers(world), admit=admit)
    shown, token = await own_token(limited), await issued(limited)
    waits["smart-backend"] = 17
    refused = await by_bearer(limited, shown, token)
    assert refused.refusal == (429, "temporarily_unavailable")
    assert ("Retry-After", "17") in refused.answer.headers

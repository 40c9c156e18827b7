"""Introspection and revocation, for every variant: rows S4, I1 and I2 of the FAPI 2.0 checklist."""

from typing import Any

import jwt
import pytest

from tests.support.authorization_server import (
    Reply,
    World,
    claims_of,
)
from tests.support.variants import (
    VariantApp,
    over,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID_GRANT = (400, "invalid_grant")
INACTIVE = {"active": False}
SIGNED = "application/token-introspection+jwt"


async def introspected(app: VariantApp, token: str, **more: Any) -> Reply:
    return await app.post("/introspect", {"token": token}, **more)


@over()
async def test_I1_a_client_learns_of_its_own_tokens_and_only_of_these(app: VariantApp) -> None:
    tokens = await app.tokens()
    said = (await introspected(app, tokens["access_token"])).json
    claims = claims_of(tokens["access_token"])
    assert said["active"] is True
    assert said["cnf"] == claims["cnf"]
    assert {name: said[name] for name in ("iss", "client_id", "sub", "jti", "exp")} == {
        name: claims[name] for name in ("iss", "client_id", "sub", "jti", "exp")
    }
    assert (await introspected(app, tokens["refresh_token"])).json["active"] is True
    for token in (tokens["access_token"], tokens["refresh_token"]):
        assert (await introspected(app.neighbour(), token)).json == INACTIVE
    for token in ("unknown", "a.b.c", tokens["access_token"] + "x", tokens.get("id_token", "x")):
        assert (await introspected(app, token)).json == INACTIVE


@over()
async def test_I1_a_token_is_inactive_from_the_second_it_expires(matrix: World, app: VariantApp) -> None:
    token = (await app.tokens())["access_token"]
    matrix.clock.now += 299
    app.nonce = None
    assert (await introspected(app, token)).json["active"] is True
    matrix.clock.now += 1
    assert (await introspected(app, token)).json == INACTIVE


@over()
async def test_I1_nobody_learns_anything_without_authentication(matrix: World, app: VariantApp) -> None:
    token = (await app.tokens())["access_token"]
    reply = await matrix.post("/introspect", {"token": token, "client_id": app.client_id}, origin=app.origin)
    assert reply.refusal == (400, "invalid_client")


@over()
async def test_S4_a_signed_introspection_is_for_the_one_who_asked(app: VariantApp) -> None:
    tokens = await app.tokens()
    headers = [("accept", SIGNED)]
    if app.is_dpop:
        headers.append(("dpop", app.proof("/introspect")))
    for token in (tokens["access_token"], "unknown"):
        reply = await app.world.post(
            "/introspect",
            app.credentials() | {"token": token},
            headers=headers if token != "unknown" else headers[:1],
            origin=app.origin,
            certificate=app.certificate,
        )
        assert (reply.status, reply.header("content-type")) == (200, SIGNED)
        assert jwt.get_unverified_header(reply.text)["typ"] == "token-introspection+jwt"
        claims = app.claims(reply.text)
        assert claims["aud"] == app.client_id
        assert claims["token_introspection"]["active"] is (token != "unknown")
        assert token != "unknown" or claims["token_introspection"] == INACTIVE


@over()
async def test_I2_revoking_a_refresh_token_ends_the_grant_everywhere(app: VariantApp) -> None:
    tokens = await app.tokens()
    again = (await app.refresh(tokens["refresh_token"])).json["access_token"]
    elsewhere = await app.world.reopen()
    reply = await app.post("/revoke", {"token": tokens["refresh_token"], "token_type_hint": "access_token"})
    assert reply.status == 200
    for token in (tokens["access_token"], again):
        assert await app.is_refused_at_the_gateway(token)
        assert (await introspected(app, token)).json == INACTIVE
    assert (await app.refresh(tokens["refresh_token"])).refusal == INVALID_GRANT
    await elsewhere.server.refresh()
    app.world = elsewhere
    assert await app.is_refused_at_the_gateway(again)


@over()
async def test_I2_others_revoke_nothing_and_learn_nothing(matrix: World, app: VariantApp) -> None:
    tokens = await app.tokens()
    other = app.neighbour()
    for token in (tokens["refresh_token"], tokens["access_token"], "unknown"):
        assert (await other.post("/revoke", {"token": token})).status == 200
        nobody = await matrix.post("/revoke", {"token": token, "client_id": app.client_id}, origin=app.origin)
        assert nobody.refusal == (400, "invalid_client")
    await app.read(tokens["access_token"])
    assert (await app.refresh(tokens["refresh_token"])).status == 200

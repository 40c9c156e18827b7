"""DPoP at the endpoints and at the gateway: rows D1 to D10 of the FAPI 2.0 checklist, RFC 9449 5, 7 to 10.

The checks of a proof are tested apart; here is the order in which things are said and spent.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from authz.events import ProofChecked
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.request import RequestError
from authz.storage.store import StoreUnavailable
from tests.support.authorization_server import (
    FHIR,
    ISSUER,
    MTLS_ORIGIN,
    App,
    Reply,
    World,
    http_request,
    open_world,
)
from tests.support.jose import ec_key, self_signed_certificate

FORM = ("content-type", "application/x-www-form-urlencoded")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def signed_in(world: World, name: str = "portal") -> tuple[App, str]:
    app = world.app(name)
    reply = await app.redeem(await app.code())
    return app, str(reply.json["access_token"])


async def refusal(app: App, *args: object, **overrides: object) -> OAuthError:
    with pytest.raises(OAuthError) as caught:
        await app.read(*args, **overrides)  # type: ignore[arg-type]
    return caught.value


class Unread:
    """A body that must not be read."""

    async def read(self, limit_bytes: int) -> bytes:
        raise AssertionError("the body was read")


# At the authorization server


async def test_D6_exactly_400_use_dpop_nonce_with_one_nonce_before_the_body_is_read(world: World) -> None:
    app = world.app()
    request = http_request("POST", "/token", headers=[FORM, ("dpop", app.proof(nonce=None))])
    reply = await world.send(replace(request, body=Unread()))  # type: ignore[arg-type]
    assert reply.refusal == (400, "use_dpop_nonce")
    assert re.fullmatch(r"[A-Za-z0-9_-]{20,}", reply.header("dpop-nonce") or "")


async def test_D6_PAR_asks_for_a_nonce_too_when_a_proof_comes(world: World) -> None:
    app = world.app()
    assert (await app.push(proof=app.proof("/par", nonce=None))).refusal == (400, "use_dpop_nonce")
    assert (await app.push()).status == 201, "no proof, no nonce"


async def test_D6_the_same_assertion_and_code_may_be_sent_again_with_the_nonce(world: World) -> None:
    app = world.app()
    code = await app.code()
    form = app.credentials() | {"grant_type": "authorization_code", "code": code, "code_verifier": "v" * 43}
    first = await world.post("/token", form, headers=[("dpop", app.proof(nonce=None))])
    assert first.refusal == (400, "use_dpop_nonce")
    app.nonce = first.header("dpop-nonce")
    assert (await world.post("/token", form, headers=[("dpop", app.proof())])).status == 200


async def test_D6_a_nonce_is_good_for_minutes_and_then_asked_for_anew(world: World) -> None:
    app = world.app()
    reply = await app.redeem(await app.code())
    token = reply.json["refresh_token"]
    world.clock.now += 240
    assert (await app.refresh(token)).status == 200
    world.clock.now += 120
    again = await app.refresh(token)
    assert again.refusal == (400, "use_dpop_nonce")
    app.nonce = again.header("dpop-nonce")
    assert (await app.refresh(token)).status == 200


async def test_D6_every_answer_to_a_proof_carries_a_fresh_nonce(world: World) -> None:
    app = world.app()
    await app.learn_nonce()
    success = await app.redeem(await app.code())
    failure = await app.redeem("never-made")
    for reply in (success, failure):
        assert reply.header("dpop-nonce") == app.nonce
    assert (await app.push()).header("dpop-nonce") is None


async def test_D6_a_nonce_of_the_gateway_is_none_of_the_authorization_server(world: World) -> None:
    app, _ = await signed_in(world)
    challenged = world.server.resource_server.challenge(None, http_request("GET", "/fhir/r4/Patient/A"))
    app.nonce = dict(challenged)["DPoP-Nonce"]
    assert (await app.redeem("x")).refusal == (400, "use_dpop_nonce")


@pytest.mark.parametrize("path", ["/userinfo", "/grants/of-nobody"])
async def test_D6_a_door_that_takes_tokens_gives_one_nonce_and_it_is_good_there(
    world: World, path: str
) -> None:
    """RFC 9449 8.2, 9: a second DPoP-Nonce, of the token endpoint, would be sent back here and refused again."""
    app, token = await signed_in(world)

    async def call(nonce: str | None) -> Reply:
        proof = app.proof(path, method="GET", nonce=nonce, access_token=token)
        return await world.get(path, headers=[("authorization", f"DPoP {token}"), ("dpop", proof)])

    asked = await call(None)
    assert (asked.status, asked.json["error"]) == (401, "use_dpop_nonce")
    (nonce,) = asked.headers("dpop-nonce")
    answered = await call(nonce)
    assert "use_dpop_nonce" not in answered.text
    assert answered.headers("dpop-nonce") in ([], [nonce])


async def test_D6_every_node_takes_the_nonce_of_another(world: World) -> None:
    app = world.app()
    await app.learn_nonce()
    app.world = await world.reopen()
    assert (await app.redeem("never-made")).refusal == (400, "invalid_grant")


async def test_D6_where_nonces_are_only_offered_a_fresh_iat_is_enough(tmp_path: Path) -> None:
    async with open_world(tmp_path, dpop_nonce_required=False) as world:
        app = world.app()
        reply = await app.redeem(await app.code(), proof=app.proof(nonce=None))
        assert reply.status == 200
        assert reply.header("dpop-nonce")
        stale = app.proof(nonce=None, now=world.clock.now - 61)
        assert (await app.redeem("x", proof=stale)).refusal == (400, "invalid_dpop_proof")


async def test_D5_a_jti_counts_once_at_every_endpoint_of_every_node(world: World) -> None:
    app = world.app()
    await app.learn_nonce()
    proof = app.proof()
    reply = await app.redeem(await app.code(), proof=proof)
    assert reply.status == 200
    token = reply.json["refresh_token"]
    assert (await app.refresh(token, proof=proof)).refusal == (400, "invalid_dpop_proof")
    app.world = await world.reopen()
    world.clock.now += 200
    assert (await app.refresh(token, proof=proof)).refusal == (400, "invalid_dpop_proof")


async def test_D9_an_assertion_that_was_used_costs_no_proof_and_a_proof_that_was_used_costs_the_assertion(
    world: World,
) -> None:
    app = world.app()
    await app.learn_nonce()
    token = (await app.redeem(await app.code())).json["refresh_token"]

    async def refresh(credentials: dict[str, str], proof: str) -> tuple[int, str]:
        form = credentials | {"grant_type": "refresh_token", "refresh_token": token}
        reply = await world.post("/token", form, headers=[("dpop", proof)])
        return reply.status, reply.json.get("error", "")

    assertion, proof = app.credentials(), app.proof()
    assert await refresh(assertion, proof) == (200, "")
    kept = app.proof()
    assert await refresh(assertion, kept) == (400, "invalid_client")
    assert await refresh(app.credentials(), kept) == (200, "")
    burnt = app.credentials()
    assert await refresh(burnt, proof) == (400, "invalid_dpop_proof")
    assert await refresh(burnt, app.proof()) == (400, "invalid_client")
    outcomes = [event.outcome for event in world.events if isinstance(event, ProofChecked)]
    assert outcomes[-3:] == ["accepted", "accepted", "replayed"]


async def test_D5_the_same_jti_of_another_key_is_another(world: World) -> None:
    for _ in range(2):
        app = world.app()
        await app.learn_nonce()
        assert (await app.redeem(await app.code(), proof=app.proof(jti="1"))).status == 200


async def test_D8_the_developer_is_told_how_far_off_the_clock_is(world: World) -> None:
    app = world.app()
    reply = await app.redeem("x", proof=app.proof(nonce=None, now=world.clock.now - 3600))
    assert reply.refusal == (400, "invalid_dpop_proof"), "at once, before a nonce is asked for"
    assert "3600 s in the past" in reply.json["error_description"]


@pytest.mark.parametrize("iat", [-295, 295])
async def test_D4_with_a_nonce_a_clock_may_be_minutes_off(world: World, iat: int) -> None:
    app = world.app()
    await app.learn_nonce()
    reply = await app.redeem(await app.code(), proof=app.proof(now=world.clock.now + iat))
    assert reply.status == 200


async def test_D9_a_refused_request_spends_neither_the_proof_nor_the_assertion(world: World) -> None:
    app = world.app()
    first = await app.redeem(await app.code())
    proof, credentials = app.proof(), app.credentials()
    form = {"grant_type": "refresh_token", "refresh_token": first.json["refresh_token"]} | credentials
    headers = [("dpop", proof)]
    refused = await world.post("/token", form | {"scope": "patient/*.cruds"}, headers=headers)
    assert refused.refusal == (400, "invalid_scope")
    refused = await world.post("/token", form | {"refresh_token": "never-made"}, headers=headers)
    assert refused.refusal == (400, "invalid_grant")
    assert (await world.post("/token", form, headers=headers)).status == 200
    assert (await world.post("/token", form, headers=headers)).refusal == (400, "invalid_client")


async def test_D3_the_alias_wants_a_proof_for_the_alias(world: World) -> None:
    app = world.app()
    await app.learn_nonce()
    certificate = self_signed_certificate(ec_key())
    code = await app.code()
    for origin, status in ((ISSUER, 400), (MTLS_ORIGIN, 200)):
        proof = app.proof(origin=origin)
        reply = await app.redeem(code, proof=proof, origin=MTLS_ORIGIN, certificate=certificate)
        assert reply.status == status


# At the gateway


async def test_D6_the_gateway_asks_with_401_and_a_challenge(world: World) -> None:
    app, token = await signed_in(world)
    error = await refusal(app, token, nonce=None)
    assert (error.code, error.status) == (ErrorCode.USE_DPOP_NONCE, 401)
    challenge = dict(world.server.resource_server.challenge(error, app.reading(token)))
    assert challenge["WWW-Authenticate"].startswith("DPoP algs=")
    assert 'error="use_dpop_nonce"' in challenge["WWW-Authenticate"]
    found = await app.read(token, nonce=challenge["DPoP-Nonce"])
    assert found.headers == ()


async def test_D6_a_nonce_that_ages_is_followed_by_a_fresh_one(world: World) -> None:
    app, token = await signed_in(world)
    old = dict(world.server.resource_server.challenge(None, app.reading(token)))["DPoP-Nonce"]
    world.clock.now += 150
    ((name, fresh),) = (await app.read(token, nonce=old)).headers
    assert name == "DPoP-Nonce"
    assert fresh != old
    assert (await app.read(token, nonce=fresh)).headers == ()


async def test_D5_a_replay_is_401_on_every_node_over_the_whole_window(world: World) -> None:
    app, token = await signed_in(world)
    node = await world.reopen()
    request = app.reading(token)
    await world.authenticate(request)
    for later in (0, 60, 200):
        world.clock.now += later
        for where in (world, node):
            with pytest.raises(OAuthError) as caught:
                await where.authenticate(request)
            assert caught.value.status == 401
    outcomes = [e.outcome for e in world.events if isinstance(e, ProofChecked) and e.client_id == "portal"]
    assert outcomes == ["accepted", *["replayed"] * 6]


@pytest.mark.parametrize(
    "overrides",
    [
        {"key": ec_key()},
        {"method": "POST"},
        {"htu": f"{FHIR}/Patient/B"},
        {"htu": f"{FHIR}/patient/A"},
        {"access_token": "another"},
        {"header": {"typ": "jwt"}},
    ],
)
async def test_D7_a_proof_of_something_else_is_401(world: World, overrides: dict[str, object]) -> None:
    app, token = await signed_in(world)
    overrides = dict(overrides)
    method = overrides.pop("method", None)
    error = await refusal(app, token, **overrides, **({"htm": method} if method else {}))
    assert (error.code, error.status) == (ErrorCode.INVALID_DPOP_PROOF, 401)


async def test_D7_a_bound_token_without_proof_or_as_Bearer_is_401(world: World) -> None:
    app, token = await signed_in(world)
    assert (await refusal(app, token, scheme="Bearer")).status == 401
    with pytest.raises(OAuthError) as caught:
        await world.authenticate(
            http_request("GET", "/fhir/r4", headers=[("authorization", f"DPoP {token}")])
        )
    assert (caught.value.code, caught.value.status) == (ErrorCode.INVALID_DPOP_PROOF, 401)


@pytest.mark.parametrize("scheme", ["DPoP", "dpop", "DPOP", "dPoP"])
async def test_D7_scheme_names_have_no_case(world: World, scheme: str) -> None:
    app, token = await signed_in(world)
    assert (await app.read(token, scheme=scheme)).caller.client_id == "portal"
    by_certificate, token = await signed_in(world, "portal-mtls")
    scheme = {"DPoP": "Bearer", "dpop": "bearer", "DPOP": "BEARER"}.get(scheme, "bEARER")
    assert (await by_certificate.read(token, scheme=scheme)).caller.client_id == "portal-mtls"


async def test_D1_two_proofs_are_refused_before_anything_else(world: World) -> None:
    app, _ = await signed_in(world)
    with pytest.raises(RequestError) as caught:
        http_request("GET", "/fhir/r4", headers=[("DPoP", app.proof()), ("dpop", app.proof())])
    assert caught.value.status == 400


async def test_D9_the_claim_comes_last_and_without_it_there_is_no_answer(world: World) -> None:
    app, token = await signed_in(world)
    request = app.reading(token)
    claim = world.store.claim

    async def broken(*_: object, **__: object) -> bool:
        raise StoreUnavailable("gone")

    world.store.claim = broken  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        await world.authenticate(request)
    world.store.claim = claim  # type: ignore[method-assign]
    await world.authenticate(request)


async def test_D10_the_certificate_is_compared_on_every_request(world: World) -> None:
    app, token = await signed_in(world, "portal-mtls")
    await app.read(token)
    for certificate in (world.certificates["exchange"], None):
        assert (await refusal(app, token, certificate=certificate)).status == 401
    assert (await refusal(app, token, scheme="DPoP")).status == 401
    await app.read(token)

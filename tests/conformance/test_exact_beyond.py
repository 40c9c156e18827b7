"""Sentences of the 'Exact answers' that stand beside the rows of certifiers: what is refused beyond what suites try."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed448

from tests.support.authorization_server import ISSUER, World, open_world
from tests.support.gateway import RunningGateway, start_gateway, stop_gateway
from tests.support.jose import b64, ec_key, make_assertion, make_jws, make_proof, public_jwk
from tests.support.registration import AUTOMATIC, initial_access_token, metadata, send


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, registration=AUTOMATIC) as opened:
        yield opened


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    running = await start_gateway(tmp_path)
    try:
        yield running
    finally:
        await stop_gateway(running)


async def test_E1_a_request_object_and_the_assertion_are_enough_for_PAR(world: World) -> None:
    app = world.app("portal-signed")
    form = {"request": app.request_object()} | app.credentials()
    assert form.keys() == {"request", "client_assertion", "client_assertion_type"}
    assert (await world.post("/par", form)).status == 201


KEY = ed448.Ed448PrivateKey.generate()
JWK = {"kty": "OKP", "crv": "Ed448", "x": b64(KEY.public_key().public_bytes_raw())}


@pytest.mark.parametrize("name", ["EdDSA", "Ed448"])
async def test_E14_Ed448_signs_neither_proofs_nor_assertions_nor_requests(world: World, name: str) -> None:
    clients = dict(world.clients)
    for client_id in ("portal", "portal-signed"):
        own = public_jwk(world.private[client_id], kid="own")
        clients[client_id] = replace(clients[client_id], jwks=(own, JWK | {"kid": "large"}))
    again = await world.reopen(clients=clients)
    app, signed, now = again.app(), again.app("portal-signed"), again.clock.now
    proof = make_proof(KEY, "POST", f"{ISSUER}/par", now, header={"alg": name, "jwk": JWK})  # type: ignore[arg-type]
    assert (await app.push(proof=proof)).refusal == (400, "invalid_dpop_proof")
    assertion = make_assertion(KEY, "portal", ISSUER, now, header={"alg": name, "kid": "large"})  # type: ignore[arg-type]
    form = app.asking() | app.credentials() | {"client_assertion": assertion}
    assert (await again.post("/par", form)).refusal == (400, "invalid_client")
    asked = make_jws(  # type: ignore[arg-type]
        KEY,
        {"alg": name, "kid": "large"},
        signed.asking() | {"iss": "portal-signed", "aud": ISSUER, "nbf": now, "exp": now + 300},
    )
    assert (await signed.push_form({"request": asked})).refusal == (400, "invalid_request_object")
    assert (await app.push()).status == 201


async def test_E14_a_client_of_Ed448_alone_is_not_registered(world: World) -> None:
    document = metadata(ec_key(), jwks={"keys": [JWK | {"kid": "large"}]})
    reply = await send(world, "POST", "/register", document, token=await initial_access_token(world))
    assert (reply.status, reply.json["error"]) == (400, "invalid_client_metadata")


async def test_E14_insufficient_scope_is_403_with_its_challenge_at_the_gateway(
    gateway: RunningGateway,
) -> None:
    token = await gateway.token("pA-r", scope="patient/Condition.r")
    refused = await gateway.fhir("GET", "/Observation/a1", token=token)
    assert (refused.status, refused.reason) == (403, "scope-insufficient")
    challenge = refused.header("www-authenticate") or ""
    assert challenge.startswith("DPoP ")
    assert 'error="insufficient_scope"' in challenge

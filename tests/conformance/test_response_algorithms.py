"""The algorithm that a client chose for what is signed for it (OpenID Connect Registration 2, JARM 3, RFC 9701 6; K5)."""

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256, sha512
from pathlib import Path
from typing import Any

import jwt
import pytest

from authz.keys import by_hand
from tests.support.authorization_server import (
    ISSUER,
    Person,
    World,
    answer_of,
    http_request,
    open_world,
)

ALGORITHMS = ("ES256", "PS256", "EdDSA")
SCOPE = "openid fhirUser launch/patient patient/*.rs"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, signing_algorithms=ALGORITHMS) as opened:
        yield opened


def choose(world: World, client_id: str, algorithm: str | None) -> None:
    world.clients[client_id] = replace(world.clients[client_id], signed_response_algorithm=algorithm)


def verified(world: World, token: str, algorithm: str, audience: str | None) -> dict[str, Any]:
    """The claims, checked by a library of somebody else that takes no other algorithm."""
    header = jwt.get_unverified_header(token)
    jwk = next(key for key in world.keys.jwks()["keys"] if key["kid"] == header["kid"])
    assert jwk["alg"] == algorithm
    options = {"verify_exp": False, "verify_iat": False, "verify_aud": audience is not None}
    found: dict[str, Any] = jwt.decode(
        token, jwt.PyJWK(jwk).key, [algorithm], options, audience=audience, issuer=ISSUER
    )
    return found


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_K5_ID_token_and_userinfo_are_signed_as_the_client_chose(world: World, algorithm: str) -> None:
    choose(world, "portal", algorithm)
    app, person = world.app(), Person(world)
    page = await person.sign_in(await app.push(scope=SCOPE))
    tokens = (await app.redeem(answer_of(await person.consent(page))["code"])).json
    claims = verified(world, tokens["id_token"], algorithm, "portal")
    # OpenID Connect Core 3.1.3.6: the hash of the algorithm that signs; Ed25519 hashes with SHA-512.
    digest = (sha512 if algorithm == "EdDSA" else sha256)(tokens["access_token"].encode()).digest()
    half = digest[: len(digest) // 2]
    assert claims["at_hash"] == base64.urlsafe_b64encode(half).rstrip(b"=").decode()
    assert jwt.get_unverified_header(tokens["access_token"])["alg"] == "ES256"  # the default
    reading = app.reading(tokens["access_token"], "/userinfo")
    headers = [*reading.headers.items(), ("accept", "application/jwt")]
    reply = await world.send(http_request("GET", "/userinfo", headers=headers))
    assert verified(world, reply.text, algorithm, "portal")["sub"] == claims["sub"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_S3_an_authorization_response_is_signed_as_the_client_chose(
    world: World, algorithm: str
) -> None:
    choose(world, "portal-signed", algorithm)
    person = Person(world)
    page = await person.sign_in(await world.app("portal-signed").push_signed(), "portal-signed")
    answer = answer_of(await person.consent(page))
    assert verified(world, answer["response"], algorithm, "portal-signed")["code"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_an_introspection_answer_is_signed_as_the_client_chose(world: World, algorithm: str) -> None:
    choose(world, "resource-server", algorithm)
    app = world.app("resource-server")
    await app.learn_nonce()
    reply = await world.post(
        "/introspect",
        app.credentials() | {"token": "unknown"},
        headers=[("accept", "application/token-introspection+jwt"), ("dpop", app.proof("/introspect"))],
    )
    assert reply.status == 200
    assert verified(world, reply.text, algorithm, "resource-server")["token_introspection"] == {
        "active": False
    }


async def test_a_client_without_a_choice_gets_the_default(world: World) -> None:
    app, person = world.app(), Person(world)
    page = await person.sign_in(await app.push(scope=SCOPE))
    tokens = (await app.redeem(answer_of(await person.consent(page))["code"])).json
    assert jwt.get_unverified_header(tokens["id_token"])["alg"] == "ES256"


async def test_an_algorithm_without_a_key_gives_503_and_never_another_algorithm(tmp_path: Path) -> None:
    """EdDSA was added a moment ago: its key is announced and does not sign yet."""
    async with open_world(tmp_path) as before:
        before.clock.now += 10  # no longer the first start
        world = await before.reopen(signing_algorithms=("ES256", "EdDSA"))
        choose(world, "portal", "EdDSA")
        app = world.app()
        code = await app.code(scope=SCOPE)
        reply = await app.redeem(code)
        assert reply.refusal == (503, "temporarily_unavailable")
        world.clock.now += 10
        await world.keys.change(lambda steps: by_hand.rotate_now(steps, "EdDSA"))
        assert list(world.keys.algorithms) == ["ES256", "EdDSA"]


@pytest.mark.parametrize("accept", [None, "application/json", "*/*", "application/jwt"])
async def test_userinfo_of_a_client_that_registered_an_algorithm_for_it_is_always_signed(
    world: World, accept: str | None
) -> None:
    """OpenID Connect Registration 2, Core 5.3.2."""
    world.clients["portal"] = replace(world.clients["portal"], signed_userinfo_required=True)
    app, person = world.app(), Person(world)
    page = await person.sign_in(await app.push(scope=SCOPE))
    tokens = (await app.redeem(answer_of(await person.consent(page))["code"])).json
    reading = app.reading(tokens["access_token"], "/userinfo")
    headers = [*reading.headers.items(), *([] if accept is None else [("accept", accept)])]
    reply = await world.send(http_request("GET", "/userinfo", headers=headers))
    assert (reply.status, reply.header("content-type")) == (200, "application/jwt")
    assert verified(world, reply.text, "ES256", "portal")["fhirUser"] == "Patient/A"

"""ID tokens by RS256 for clients of SMART's profiles (SMART App Launch 2.2 @210), and for nobody else."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwcrypto.jwk
import jwcrypto.jws
import pytest
from joserfc import jwk as joserfc_jwk
from joserfc import jwt as joserfc_jwt
from joserfc.jws import JWSRegistry

from authz.keys import KeyRing, by_hand
from authz.protocol import jose
from authz.protocol.errors import OAuthError
from authz.settings import RegistrationSettings
from authz.storage.store import StoreUnavailable
from tests.support.authorization_server import (
    ISSUER,
    Person,
    World,
    answer_of,
    claims_of,
    http_request,
    open_world,
)
from tests.support.jose import ABSENT, ec_key
from tests.support.registration import WHO, initial_access_token, metadata, send
from tests.support.smart import EVERY, SmartApp, clients, smart_world

SCOPE = "openid fhirUser launch/patient patient/*.rs"
SMART = "/.well-known/smart-configuration"
OPENID = "/.well-known/openid-configuration"


@pytest.fixture
async def fapi(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def world(fapi: World) -> World:
    more = {name: replace(each, id_token_algorithm="RS256") for name, each in clients().items()}
    return await smart_world(fapi, id_token_algorithms=("RS256",), more=more)


def header_of(token: str) -> Any:
    """The JOSE header."""
    return jose.parse_header(token.partition(".")[0])


async def signed_in(world: World, client_id: str = "smart-app") -> dict[str, Any]:
    """The token response of a sign-in."""
    app = SmartApp(world, client_id)
    answer = await app.redeem(await app.launch(Person(world), scope=SCOPE))
    assert answer.status == 200, answer.text
    found: dict[str, Any] = answer.json
    return found


@pytest.mark.parametrize("client_id", ["smart-app", "smart-secret", "smart-keys"])
async def test_SMART_210_ID_tokens_are_verified_by_libraries_with_RS256_and_the_published_keys_alone(
    world: World, client_id: str
) -> None:
    token = (await signed_in(world, client_id))["id_token"]
    published = (await world.get("/jwks")).json
    keys = joserfc_jwk.KeySet.import_key_set(published)
    claims = joserfc_jwt.decode(token, keys, registry=JWSRegistry(algorithms=["RS256"])).claims
    assert (claims["iss"], claims["aud"], claims["fhirUser"]) == (ISSUER, client_id, "Patient/A")
    jws = jwcrypto.jws.JWS()
    jws.allowed_algs = ["RS256"]
    kid = header_of(token)["kid"]
    (jwk,) = [key for key in published["keys"] if key["kid"] == kid]
    assert (jwk["kty"], jwk["use"], jwk["alg"]) == ("RSA", "sig", "RS256")
    jws.deserialize(token, jwcrypto.jwk.JWK(**jwk))
    assert jws.is_valid


async def test_sso_openid_connect_is_announced_with_what_it_needs_where_RS256_signs(world: World) -> None:
    found = (await world.get(SMART)).json
    assert "sso-openid-connect" in found["capabilities"]
    assert found["issuer"] == ISSUER
    assert found["jwks_uri"] == f"{ISSUER}/jwks"
    described = (await world.get(OPENID)).json
    assert "RS256" in described["id_token_signing_alg_values_supported"]
    others = [
        n for n in described if n.endswith("_supported") and n != "id_token_signing_alg_values_supported"
    ]
    assert not any("RS256" in described[name] for name in others if isinstance(described[name], list))


async def test_sso_openid_connect_is_not_announced_where_nothing_signs_RS256_or_nobody_may_have_it(
    fapi: World,
) -> None:
    without = await smart_world(fapi)
    assert "sso-openid-connect" not in (await without.get(SMART)).json["capabilities"]
    assert "RS256" not in (await without.get(OPENID)).json["id_token_signing_alg_values_supported"]
    strict = await fapi.reopen(id_token_algorithms=("RS256",))
    assert "sso-openid-connect" not in (await strict.get(SMART)).json["capabilities"]
    for one in (without, strict):  # SMART App Launch 2.2, conformance: otherwise omitted
        assert "issuer" not in (await one.get(SMART)).json
        assert (await one.get(OPENID)).json["issuer"] == ISSUER


async def test_K2_access_tokens_and_all_other_signatures_never_are_RS256(world: World) -> None:
    answer = await signed_in(world)
    assert header_of(answer["access_token"])["alg"] == "ES256"
    for typ in ("at+jwt", "JWT", "token-introspection+jwt"):
        with pytest.raises(StoreUnavailable):
            await world.keys.sign({}, typ=typ, algorithm="RS256")
    assert "RS256" not in world.keys.algorithms
    assert world.keys.signer().algorithm == "ES256"


async def test_an_access_token_that_our_own_RS256_key_signed_is_401(world: World) -> None:
    said = claims_of((await signed_in(world))["access_token"])
    forged = await world.keys.sign_id_token(lambda algorithm: said, "RS256")
    assert header_of(forged)["alg"] == "RS256"
    with pytest.raises(OAuthError, match="not one of this server"):
        await SmartApp(world).read(forged)


async def test_FAPI_5_4_1_a_FAPI_client_gets_none_beside_those_who_do(world: World) -> None:
    app, person = world.app(), Person(world)
    page = await person.sign_in(await app.push(scope=SCOPE))
    answer = await app.redeem(answer_of(await person.consent(page))["code"])
    assert header_of(answer.json["id_token"])["alg"] == "ES256"


async def test_an_ID_token_by_RS256_is_a_hint_that_is_known(world: World) -> None:
    token = (await signed_in(world))["id_token"]
    person = Person(world)
    await SmartApp(world).launch(person)
    out = await world.send(http_request("GET", "/logout", query=f"id_token_hint={token}"))
    assert out.status != 400
    broken = await world.send(http_request("GET", "/logout", query=f"id_token_hint={token[:-8]}AAAAAAAA"))
    assert broken.status == 400


# The registry


async def _registered(world: World, **changes: Any) -> Any:
    public = {
        "token_endpoint_auth_method": "none",
        "jwks": ABSENT,
        "dpop_bound_access_tokens": ABSENT,
    }
    document = metadata(ec_key(), **(public | changes))
    return await send(world, "POST", "/register", document, token=await initial_access_token(world))


async def test_RFC7591_2_a_registered_app_of_SMART_has_RS256_unless_it_chooses(world: World) -> None:
    open_ = RegistrationSettings(enabled=True, profiles=EVERY, require_dpop=False)
    opened = await world.reopen(registration=open_, profiles=EVERY, id_token_algorithms=("RS256",))
    for chosen, algorithm in ((ABSENT, "RS256"), ("RS256", "RS256"), ("ES256", "ES256")):
        told = await _registered(opened, id_token_signed_response_alg=chosen)
        assert told.json["id_token_signed_response_alg"] == algorithm, told.text
        await opened.server.registry.approve(told.json["client_id"], **WHO)
        answer = await signed_in(opened, told.json["client_id"])
        assert header_of(answer["id_token"])["alg"] == algorithm
    fapi = await _registered(
        opened,
        token_endpoint_auth_method="private_key_jwt",
        jwks=metadata(ec_key())["jwks"],
        dpop_bound_access_tokens=True,
        id_token_signed_response_alg="RS256",
    )
    assert fapi.refusal == (400, "invalid_client_metadata")
    jarm = await _registered(opened, authorization_signed_response_alg="RS256")
    assert jarm.refusal == (400, "invalid_client_metadata")


# The life of its key


async def test_the_first_key_of_RS256_signs_when_all_nodes_publish_it(fapi: World) -> None:
    fapi.clock.now += 3600
    await smart_world(fapi, id_token_algorithms=("RS256",))
    later = await smart_world(fapi, id_token_algorithms=("RS256",))
    assert "sso-openid-connect" not in (await later.get(SMART)).json["capabilities"]
    assert "RS256" in [key["alg"] for key in (await later.get("/jwks")).json["keys"]]
    later.clock.now += 10
    await later.keys.tick()
    assert "sso-openid-connect" in (await later.get(SMART)).json["capabilities"]


async def test_a_key_of_RS256_rotates_and_stands_in_for_no_other(world: World) -> None:
    store, now = world.store, [world.clock.now]

    async def node(*more: str) -> KeyRing:
        return await KeyRing.open(
            store,
            encryption_key=b"k" * 32,
            id_token_algorithms=more,
            announced_seconds=1000,
            clock=lambda: now[0],
            emit=world.events.append,
        )

    ring = await node("RS256")
    assert list(ring.algorithms) == ["ES256"]
    assert list(ring.id_token_algorithms) == ["ES256", "RS256"]
    first = header_of(await ring.sign_id_token(lambda a: {}, "RS256"))["kid"]
    await ring.change(lambda steps: by_hand.rotate(steps, "RS256"))
    now[0] += 1000
    await ring.tick()
    assert header_of(await ring.sign_id_token(lambda a: {}, "RS256"))["kid"] != first
    for key in [key for key in await store.keys() if key.algorithm == "ES256"]:
        await store.move_key(key.kid, from_state=key.state, to_state="removed", now=now[0])
    await ring.tick()
    assert header_of(await ring.sign({}, typ="at+jwt"))["alg"] == "ES256"
    without = await node()
    with pytest.raises(StoreUnavailable):
        await without.sign_id_token(lambda a: {}, "RS256")


async def test_a_client_that_chose_RS256_gets_none_while_its_key_is_only_announced(world: World) -> None:
    without = await smart_world(
        world, more={"smart-app": replace(clients()["smart-app"], id_token_algorithm="RS256")}
    )
    app = SmartApp(without)
    answer = await app.redeem(await app.launch(Person(without), scope=SCOPE))
    assert answer.status == 503
    assert "id_token" not in answer.json

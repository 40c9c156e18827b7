"""The 'Exact answers' of the FAPI 2.0 checklist: the strictest reading of implementers and certifiers."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from authz.http import ListenerFace, read
from authz.protocol.errors import OAuthError
from authz.protocol.request import RequestError
from tests.support.authorization_server import (
    FHIR,
    ISSUER,
    MTLS_ORIGIN,
    REDIRECT_URI,
    VERIFIER,
    Person,
    World,
    answer_of,
    claims_of,
    http_request,
    open_world,
)
from tests.support.jose import ABSENT, ec_key, thumbprint

FORTY_THREE = re.compile(r"[A-Za-z0-9_-]{43}")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


# Identifying the client


async def test_E1_neither_PAR_nor_token_request_need_carry_client_id_beside_an_assertion(
    world: World,
) -> None:
    app = world.app()
    pushed = await app.push(client_id=ABSENT)
    assert pushed.status == 201
    assert "client_id" not in app.credentials()
    assert (await app.redeem(await app.code(pushed=pushed))).status == 200


async def test_E1_with_mutual_TLS_client_id_is_a_form_parameter(world: World) -> None:
    app = world.app("portal-mtls")
    assert (await app.push()).status == 201
    form = app.asking(client_id=ABSENT)
    reply = await world.post("/par", form, origin=MTLS_ORIGIN, certificate=app.certificate)
    assert reply.refusal == (400, "invalid_client")


async def test_E1_an_assertion_has_no_typ_and_may_have_JWT(world: World) -> None:
    app = world.app()
    for header in ({}, {"typ": "JWT"}, {"typ": "jwt"}):
        credentials = app.credentials() | {"client_assertion": app.assertion(header=header)}
        assert (await world.post("/par", app.asking() | credentials)).status == 201


# Randomness


async def test_E3_every_secret_is_32_random_bytes_in_base64url(world: World) -> None:
    app, person = world.app(), Person(world)
    pushed = await app.push()
    code = answer_of(await person.consent(await person.sign_in(pushed)))["code"]
    tokens = (await app.redeem(code)).json
    secrets = [
        pushed.json["request_uri"].rpartition(":")[2],
        code,
        tokens["refresh_token"],
        claims_of(tokens["access_token"])["jti"],
    ]
    assert all(FORTY_THREE.fullmatch(secret) for secret in secrets)
    assert len(set(secrets)) == 4


# Status and code


async def test_E4_PAR_success_is_exactly_201_in_JSON(world: World) -> None:
    reply = await world.app().push()
    assert (reply.status, reply.header("content-type")) == (201, "application/json")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"code_challenge": ABSENT}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"redirect_uri": ABSENT}, "invalid_request"),
        ({"redirect_uri": "https://evil.example/cb"}, "invalid_request"),
        ({"dpop_jkt": "short"}, "invalid_request"),
        ({"request_uri": "urn:x"}, "invalid_request"),
    ],
)
async def test_E4_what_PAR_refuses_is_400(world: World, changes: dict[str, Any], code: str) -> None:
    assert (await world.app().push(**changes)).refusal == (400, code)


@pytest.mark.parametrize(
    ("changes", "later"),
    [
        ({"code_verifier": "w" * 43}, 0),
        ({"code_verifier": ABSENT}, 0),
        ({"code": "never-made"}, 0),
        ({}, 62),
    ],
)
async def test_E4_a_code_that_does_not_fit_is_400_invalid_grant(
    world: World, changes: dict[str, Any], later: int
) -> None:
    app = world.app()
    form = {"code": await app.code()} | changes
    world.clock.now += later
    assert (await app.redeem(form.pop("code"), **form)).refusal == (400, "invalid_grant")


@pytest.mark.parametrize("grant_type", ["authorization_code", "refresh_token", "client_credentials"])
async def test_E4_no_proof_at_the_token_endpoint_is_invalid_dpop_proof_never_use_dpop_nonce(
    world: World, grant_type: str
) -> None:
    app = world.app("lab" if grant_type == "client_credentials" else "portal")
    form = {"grant_type": grant_type, "code": "x", "code_verifier": VERIFIER, "refresh_token": "x"}
    reply = await app.post("/token", form, proof=None)
    assert reply.refusal == (400, "invalid_dpop_proof")
    assert reply.header("dpop-nonce") is None


async def test_E4_a_mismatch_of_dpop_jkt_and_the_token_proof_is_400(world: World) -> None:
    app = world.app()
    code = await app.code(dpop_jkt=thumbprint(ec_key()))
    status, error = (await app.redeem(code)).refusal
    assert (status, error) in {(400, "invalid_grant"), (400, "invalid_dpop_proof")}


async def test_E4_only_invalid_client_may_be_401(world: World) -> None:
    app = world.app()
    scheme = [("authorization", "Bearer x")]
    for form in ({}, {"grant_type": "x"}, app.credentials(), app.credentials() | {"grant_type": "password"}):
        reply = await world.post("/token", form, headers=scheme)
        assert reply.refusal in {(401, "invalid_client"), (400, reply.json["error"])}
    for form in (app.credentials(), app.credentials() | {"grant_type": "password"}):
        assert (await world.post("/token", form)).status == 400


# Expired means expired


@pytest.mark.parametrize(("later", "status"), [(59, 200), (60, 400)])
async def test_E5_a_request_uri_is_refused_at_its_expires_in_second(
    world: World, later: int, status: int
) -> None:
    pushed = await world.app().push()
    world.clock.now += later
    assert (await Person(world).sign_in(pushed)).status == status


# Refresh


async def test_E6_the_old_refresh_token_still_works_30_seconds_later(world: World) -> None:
    app = world.app()
    token = (await app.redeem(await app.code())).json["refresh_token"]
    assert (await app.refresh(token)).status == 200
    world.clock.now += 30
    reply = await app.refresh(token)
    assert (reply.status, reply.header("cache-control")) == (200, "no-store")


# DPoP nonce


async def test_E7_the_same_refresh_token_and_assertion_may_be_sent_again_after_a_challenge(
    world: World,
) -> None:
    app = world.app()
    token = (await app.redeem(await app.code())).json["refresh_token"]
    form = app.credentials() | {"grant_type": "refresh_token", "refresh_token": token}
    refused = await world.post("/token", form, headers=[("dpop", app.proof(nonce=None))])
    assert refused.refusal == (400, "use_dpop_nonce")
    assert len(refused.headers("dpop-nonce")) == 1
    assert (await world.post("/token", form, headers=[("dpop", app.proof())])).status == 200


async def test_E7_a_nonce_may_be_used_many_times(world: World) -> None:
    app = world.app("lab")
    await app.learn_nonce()
    nonce = app.nonce
    for _ in range(3):
        assert (await app.own_token()).status == 200
    assert app.nonce == nonce


# private_key_jwt with certificate-bound tokens


async def test_E8_PAR_at_the_ordinary_endpoint_and_the_token_request_at_the_alias(world: World) -> None:
    app = world.app("key-and-certificate")
    reply = await app.redeem(await app.code(pushed=await app.push()))
    assert (reply.status, reply.json["token_type"]) == (200, "Bearer")
    assert set(claims_of(reply.json["access_token"])["cnf"]) == {"x5t#S256"}
    assert (await app.read(reply.json["access_token"])).caller.client_id == "key-and-certificate"


# Gateway


async def test_E9_every_refusal_of_a_token_or_proof_is_400_or_401(world: World) -> None:
    app = world.app()
    token = (await app.redeem(await app.code())).json["access_token"]
    proof = [("dpop", app.proof("/fhir/r4", method="GET"))]
    head, payload, signature = token.split(".")

    async def as_sent(value: str) -> None:
        raw = [(b"authorization", value.encode()), *((n.encode(), v.encode()) for n, v in proof)]
        face = ListenerFace(ISSUER)
        await world.authenticate(read("GET", "/fhir/r4", raw, peer_address="192.0.2.7", face=face))

    for value in (
        "", "DPoP", "DPoP ", "Bearer", f"Basic {token}", f"DPoP {token},x", f"DPoP {token} x", "DPoP a.b.c",
        f"DPoP {head}.{payload}.{signature[:-4]}AAAA", f"DPoP {head}.{payload}.", f"Bearer {token}", "DPoP é",
    ):  # fmt: skip
        with pytest.raises((OAuthError, RequestError)) as caught:
            await as_sent(value)
        assert caught.value.status in (400, 401), value


@pytest.mark.parametrize("query", ["access_token={}", "x=1&access_token={}", "access_token"])
async def test_E9_an_access_token_in_the_query_is_refused_even_beside_a_good_one(
    world: World, query: str
) -> None:
    app = world.app()
    token = (await app.redeem(await app.code())).json["access_token"]
    headers = list(app.reading(token).headers.items())
    request = http_request("GET", "/fhir/r4/Patient/A", query=query.format(token), headers=headers)
    with pytest.raises(OAuthError) as caught:
        await world.authenticate(request)
    assert caught.value.status in (400, 401)


@pytest.mark.parametrize(
    "header",
    [
        ("accept", "application/json;charset=UTF-8"),
        ("accept-charset", "utf-8"),
        ("x-fapi-auth-date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("x-fapi-customer-ip-address", "2001:db8::1893:25c8:1946"),
        ("x-fapi-interaction-id", "c770aef3-6784-41f7-8e0e-ff5f97bddb3a"),
    ],
)
async def test_E9_headers_of_the_profile_do_no_harm(world: World, header: tuple[str, str]) -> None:
    app = world.app()
    token = (await app.redeem(await app.code())).json["access_token"]
    headers = [*app.reading(token).headers.items(), header]
    found = await world.authenticate(http_request("GET", "/fhir/r4/Patient/A", headers=headers))
    assert found.caller.client_id == "portal"


# Authorization response


async def test_E10_nothing_but_code_state_and_iss_and_nothing_in_a_fragment(world: World) -> None:
    person = Person(world)
    reply = await person.consent(await person.sign_in(await world.app().push()))
    location = reply.header("location") or ""
    assert [name for name, _ in parse_qsl(urlsplit(location).query)] == ["code", "state", "iss"]
    assert "#" not in location
    assert location.startswith(REDIRECT_URI)


# Token response, errors


async def test_E11_without_openid_in_scope_there_is_no_id_token(world: World) -> None:
    app = world.app()
    for scope in ("patient/*.rs", "openid patient/*.rs"):
        reply = (await app.redeem(await app.code(scope=scope))).json
        assert ("id_token" in reply) is ("openid" in scope)
        assert reply["scope"] == scope


@pytest.mark.parametrize("scope", ['a"b', "a\\b", "ä", "a\nb", "\x7f"])
async def test_E12_error_descriptions_quote_only_what_RFC_6749_allows(world: World, scope: str) -> None:
    status, _ = (await world.app().push(scope=scope)).refusal
    assert status == 400


async def test_E11_the_token_is_for_the_resource_that_was_named(world: World) -> None:
    app = world.app()
    reply = await app.redeem(await app.code(resource=FHIR))
    assert claims_of(reply.json["access_token"])["aud"] == FHIR

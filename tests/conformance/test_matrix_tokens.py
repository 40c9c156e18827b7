"""Codes, tokens and refresh, for every variant: rows A1 to A6 and K1 to K6."""

import re
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
import pytest_asyncio

from authz.protocol.errors import OAuthError
from tests.support.authorization_server import (
    ANNA,
    FHIR,
    ISSUER,
    MTLS_ORIGIN,
    REDIRECT_URI,
    World,
    http_request,
)
from tests.support.jose import ABSENT, ec_key
from tests.support.variants import (
    BY_KEY,
    DPOP,
    MTLS,
    REDIRECT_URI_WITH_QUERY,
    VariantApp,
    at_hash,
    over,
    signed_in,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID_GRANT = (400, "invalid_grant")
INACTIVE = {"active": False}
SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rotating(matrix: World) -> AsyncIterator[World]:
    """The same server where the site wants refresh tokens replaced."""
    yield await matrix.reopen(rotate_refresh_tokens=True)


# The answer


@over()
async def test_A1_E10_code_state_and_iss_and_nothing_else(app: VariantApp) -> None:
    answer = await app.authorize(await app.request(state="s-1"))
    assert answer.keys() == {"code", "state", "iss"}
    assert (answer["state"], answer["iss"]) == ("s-1", ISSUER)


@over()
async def test_A1_A5_a_refusal_is_access_denied_with_iss(app: VariantApp) -> None:
    answer = await app.authorize(await app.request(state="s-1"), "deny")
    assert answer.keys() == {"error", "error_description", "state", "iss"}
    assert (answer["error"], answer["iss"]) == ("access_denied", ISSUER)


@over()
async def test_A1_an_error_of_the_server_comes_in_the_same_way(matrix: World, app: VariantApp) -> None:
    pushed = await app.request(prompt="none")
    visited = await matrix.get(
        "/authorize", query=f"client_id={app.client_id}&request_uri={pushed.json['request_uri']}"
    )
    assert app.answer(visited) == {
        "error": "login_required",
        "error_description": "the person is not signed in here: ask again without prompt none",
        "state": "s-1",
        "iss": ISSUER,
    }


@over(jarm=True)
async def test_A6_one_signed_response_that_another_library_verifies(app: VariantApp) -> None:
    for mode in ("jwt", "query.jwt", ABSENT):
        person = await signed_in(app.world)
        page = await person.sign_in(await app.request(response_mode=mode), app.client_id)
        reply = await person.consent(page)
        token = (reply.header("location") or "").removeprefix(f"{REDIRECT_URI}?response=")
        header = jwt.get_unverified_header(token)
        assert header["alg"] == "ES256"
        assert header["kid"]
        assert app.answer(reply).keys() == {"code", "state", "iss"}
    assert (await app.push(response_mode="query")).refusal == (400, "invalid_request")


@over(jarm=False)
async def test_A6_a_client_of_plain_answers_may_ask_for_a_signed_one(app: VariantApp) -> None:
    person = await signed_in(app.world)
    page = await person.sign_in(await app.request(response_mode="jwt"), app.client_id)
    answer = app.answer(await person.consent(page))
    assert answer.keys() == {"response"}
    assert app.claims(answer["response"])["aud"] == app.client_id


# The code


@over()
async def test_A2_the_code_is_bound_to_all_that_was_asked(app: VariantApp) -> None:
    code = await app.code()
    assert SECRET.fullmatch(code)
    assert code != await app.code()
    assert (await app.redeem(code, redirect_uri=ABSENT)).status == 200


@over()
async def test_A2_E5_a_code_lives_60_seconds_and_no_longer(matrix: World, app: VariantApp) -> None:
    early, late, later = await app.code(), await app.code(), await app.code()
    matrix.clock.now += 59
    assert (await app.redeem(early)).status == 200
    matrix.clock.now += 1
    assert (await app.redeem(late)).refusal == INVALID_GRANT
    matrix.clock.now += 2
    assert (await app.redeem(later)).refusal == INVALID_GRANT


@over()
async def test_A3_a_second_use_revokes_the_tokens_of_the_first(app: VariantApp) -> None:
    code = await app.code()
    tokens = (await app.redeem(code)).json
    await app.read(tokens["access_token"])
    assert (await app.redeem(code)).refusal == INVALID_GRANT
    assert await app.is_refused_at_the_gateway(tokens["access_token"])
    assert (await app.refresh(tokens["refresh_token"])).refusal == INVALID_GRANT
    for token in (tokens["access_token"], tokens["refresh_token"]):
        assert (await app.post("/introspect", {"token": token})).json == INACTIVE


@over()
async def test_A4_E4_what_does_not_belong_to_the_code_is_invalid_grant(app: VariantApp) -> None:
    for changes in (
        {"code_verifier": "w" * 43},
        {"code_verifier": ABSENT},
        {"code_verifier": "v" * 42},
        {"redirect_uri": REDIRECT_URI_WITH_QUERY},
    ):
        code = await app.code()
        assert (await app.redeem(code, **changes)).refusal == INVALID_GRANT, changes
        assert (await app.redeem(code)).refusal == INVALID_GRANT, "who guesses has one try"
    assert (await app.neighbour().redeem(await app.code())).refusal == INVALID_GRANT
    assert (await app.redeem("c" * 43)).refusal == INVALID_GRANT


# Tokens


@over()
async def test_K1_without_a_key_there_is_no_token(app: VariantApp) -> None:
    tokens = await app.tokens()
    code = await app.code()
    if app.is_dpop:
        without: dict[str, Any] = {"proof": None}
        expected = {"invalid_dpop_proof"}
    else:
        without = {"certificate": None}
        expected = {"invalid_request"} if app.variant.authentication is BY_KEY else {"invalid_client"}
    for reply in (
        await app.redeem(code, **without),
        await app.refresh(tokens["refresh_token"], **without),
        await app.own_token(**without),
    ):
        assert reply.refusal[0] == 400
        assert reply.refusal[1] in expected
        assert "access_token" not in reply.json
    assert (await app.redeem(code)).status == 200, "nothing was spent"


@over()
async def test_K2_E3_the_token_response(app: VariantApp) -> None:
    reply = await app.redeem(await app.code())
    assert (reply.status, reply.header("cache-control")) == (200, "no-store")
    tokens = reply.json
    assert (tokens["token_type"], tokens["expires_in"]) == ("DPoP" if app.is_dpop else "Bearer", 300)
    claims = app.claims(tokens["access_token"])
    assert claims["exp"] - claims["iat"] == 300
    assert (claims["client_id"], claims["sub"], claims["aud"]) == (app.client_id, ANNA.subject, FHIR)
    assert claims["cnf"].keys() == ({"jkt"} if app.is_dpop else {"x5t#S256"})
    assert all(SECRET.fullmatch(secret) for secret in (tokens["refresh_token"], claims["jti"]))
    assert set(tokens["scope"].split()) == set(app.asking()["scope"].split())
    assert (await app.read(tokens["access_token"])).caller.subject == ANNA.subject


@over()
async def test_E11_an_ID_token_with_openid_and_none_without(app: VariantApp) -> None:
    tokens = await app.tokens()
    assert ("id_token" in tokens) == app.variant.openid
    assert "authorization_details" not in tokens


@over()
async def test_K3_E6_the_refresh_token_stays_and_takes_a_new_key(app: VariantApp) -> None:
    tokens = await app.tokens()
    for renewed in (app, app.renewed(), app.renewed()):
        reply = await renewed.refresh(tokens["refresh_token"], scope=tokens["scope"])
        assert (reply.status, reply.header("cache-control")) == (200, "no-store")
        assert "refresh_token" not in reply.json
        token = reply.json["access_token"]
        await renewed.read(token)
        if renewed is not app:
            before = {} if app.is_dpop else {"certificate": app.certificate}
            assert await app.is_refused_at_the_gateway(token, **before)


@over()
async def test_K3_E4_another_clients_refresh_token_is_invalid_grant(app: VariantApp) -> None:
    tokens = await app.tokens()
    assert (await app.neighbour().refresh(tokens["refresh_token"])).refusal == INVALID_GRANT
    assert (await app.refresh(tokens["refresh_token"])).status == 200, "and does the owner no harm"


@over()
async def test_K3_E6_where_it_is_replaced_the_old_one_works_30_s_later_and_not_for_ever(
    rotating: World, app: VariantApp
) -> None:
    app.world = rotating
    first = (await app.tokens())["refresh_token"]
    second = (await app.refresh(first)).json["refresh_token"]
    assert SECRET.fullmatch(second)
    rotating.clock.now += 30
    third = (await app.refresh(first)).json["refresh_token"]
    assert len({first, second, third}) == 3
    assert (await app.refresh(second)).status == 200
    rotating.clock.now += 31
    assert (await app.refresh(first)).refusal == INVALID_GRANT
    assert (await app.refresh(third)).refusal == INVALID_GRANT, "a late use ends the grant"


@over()
async def test_K4_refresh_without_client_authentication_is_refused(matrix: World, app: VariantApp) -> None:
    tokens = await app.tokens()
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    headers = [("dpop", app.proof())] if app.is_dpop else []
    for body in (form, form | {"client_id": app.client_id}):
        reply = await matrix.post("/token", body, headers=headers, origin=app.origin)
        assert reply.refusal == (400, "invalid_client")
    assert (await app.refresh(tokens["refresh_token"])).status == 200


@over(openid=True)
async def test_K5_the_ID_token(app: VariantApp) -> None:
    wanted = '{"id_token": {"name": null, "acr": {"essential": true}}}'
    tokens = await app.tokens(nonce="n-5", claims=wanted)
    header, claims = jwt.get_unverified_header(tokens["id_token"]), app.claims(tokens["id_token"])
    assert header["alg"] == "ES256"
    assert header["kid"]
    assert claims["nonce"] == "n-5"
    assert (claims["aud"], claims["sub"], claims["name"]) == (app.client_id, ANNA.subject, ANNA.name)
    assert (claims["acr"], claims["amr"]) == ("urn:securus:acr:password", ["pwd"])
    assert claims["auth_time"] == app.world.clock.now
    assert claims["at_hash"] == at_hash(tokens["access_token"])
    assert len(claims["sub"]) <= 255


@over(openid=True)
async def test_E11_no_personal_claim_that_nobody_asked_for(app: VariantApp) -> None:
    tokens = await app.tokens()
    protocol = {"iss", "sub", "aud", "iat", "exp", "auth_time", "acr", "amr", "nonce", "at_hash"}
    assert app.claims(tokens["id_token"]).keys() == protocol | {"fhirUser"}


@over()
async def test_K6_client_credentials_give_no_refresh_token_and_no_ID_token(app: VariantApp) -> None:
    reply = await app.own_token(scope="system/Observation.rs")
    assert reply.status == 200
    assert reply.json.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert (await app.read(reply.json["access_token"])).caller.subject == app.client_id
    assert (await app.own_token(scope="openid system/Observation.rs")).refusal == (400, "invalid_scope")


# The gateway's side of a token


@over(binding=DPOP)
async def test_E9_D7_every_refusal_of_a_token_or_proof_is_400_or_401(app: VariantApp) -> None:
    token = (await app.tokens())["access_token"]
    for overrides in (
        {"scheme": "Bearer"},
        {"scheme": "Basic"},
        {"key": ec_key()},
        {"access_token": token + "x"},
        {"nonce": "n" * 28},
        {"ath": ABSENT},
        {"htm": "POST"},
        {"htu": f"{ISSUER}/fhir/r4/Patient/B"},
        {"header": {"typ": "JWT"}},
        {"header": {"jwk": ABSENT}},
    ):
        assert await app.is_refused_at_the_gateway(token, **overrides), overrides
    for name in ("DPoP", "dpop", "DPOP"):
        await app.read(token, scheme=name)


@over(binding=MTLS)
async def test_D10_the_certificate_of_the_connection_on_every_request(app: VariantApp) -> None:
    token = (await app.tokens())["access_token"]
    await app.read(token)
    for overrides in (
        {"certificate": None},
        {"certificate": app.renewed().certificate},
        {"certificate": app.world.certificates["exchange"]},
        {"scheme": "DPoP"},
        {"scheme": "Basic"},
    ):
        assert await app.is_refused_at_the_gateway(token, **overrides)
    await app.read(token, scheme="bearer")


@over(authentication=BY_KEY, binding=MTLS)
async def test_E8_PAR_without_a_certificate_and_the_token_request_with_one(app: VariantApp) -> None:
    assert (app.pushing_origin, app.origin) == (ISSUER, MTLS_ORIGIN)
    pushed = await app.request()
    code = await app.code(pushed=pushed)
    assert (await app.redeem(code, certificate=None, origin=ISSUER)).refusal == (400, "invalid_request")
    assert (await app.redeem(code)).status == 200
    aliases = (await app.world.get("/.well-known/oauth-authorization-server")).json["mtls_endpoint_aliases"]
    assert "authorization_endpoint" not in aliases


@over()
async def test_E9_a_token_in_the_query_or_of_another_kind_opens_nothing(app: VariantApp) -> None:
    tokens = await app.tokens()
    for token in (tokens["refresh_token"], tokens.get("id_token", "a.b.c"), tokens["access_token"][:-1]):
        assert await app.is_refused_at_the_gateway(token)
    request = http_request("GET", "/fhir/r4/Patient/A", query=f"access_token={tokens['access_token']}")
    with pytest.raises(OAuthError) as refused:
        await app.world.authenticate(request)
    assert refused.value.status == 400


@over()
async def test_E12_descriptions_hold_only_what_RFC_6749_allows(app: VariantApp) -> None:
    hostile = 'a"\\\r\né\U0001f600'
    replies = [await app.push(**{name: hostile}) for name in ("scope", "response_type", "resource", "prompt")]
    replies += [
        await app.post("/token", {"grant_type": hostile}),
        await app.redeem(hostile),
        await app.redeem(await app.code(), resource=hostile),
    ]
    assert {reply.refusal[0] for reply in replies} == {400}

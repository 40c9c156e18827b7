"""FAPI 2.0 Message Signing: rows S1 to S4, A6 and I1 of the checklist (RFC 9101, JARM, RFC 7662, RFC 9701)."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.jwk import import_jwks
from authz.protocol.request_objects import check_request_object
from tests.support.authorization_server import (
    ISSUER,
    MTLS_ORIGIN,
    NOW,
    REDIRECT_URI,
    App,
    Person,
    Reply,
    World,
    answer_of,
    http_request,
    open_world,
)
from tests.support.jose import ABSENT, ec_key, ed_key, make_jws, public_jwk, rsa_key

INACTIVE = {"active": False}
SIGNED = "application/token-introspection+jwt"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


def verified(world: World, token: str, **options: Any) -> dict[str, Any]:
    """The claims of a JWT that one of the published keys signed, by a library of somebody else."""
    header = jwt.get_unverified_header(token)
    jwk = next(key for key in world.keys.jwks()["keys"] if key["kid"] == header["kid"])
    checks = {"verify_exp": False, "verify_iat": False} | options.pop("options", {})
    claims: dict[str, Any] = jwt.decode(
        token, jwt.PyJWK(jwk).key, algorithms=[header["alg"]], issuer=ISSUER, options=checks, **options
    )
    return claims


# S1: request objects


@pytest.mark.parametrize("value", [{"a": [1]}, [], 5, 1.5, True, None, "text", {"request_uri": "x"}])
async def test_RFC9101_6_3_what_is_not_known_is_ignored_of_whatever_type_it_is(
    world: World, value: object
) -> None:
    pushed = await world.app("portal-signed").push_signed(vtr=value, registration=value, consent_id=value)
    assert pushed.status == 201, pushed.text


@pytest.mark.parametrize(
    "name", ["state", "nonce", "scope", "redirect_uri", "grant_id", "prompt", "dpop_jkt"]
)
async def test_S1_what_is_known_has_its_type(world: World, name: str) -> None:
    app = world.app("portal-signed")
    for value in ({"a": 1}, ["x"], 5, True, None):
        refused = await app.push_signed(**{name: value})
        assert refused.refusal == (400, "invalid_request_object"), value
    assert (await app.push_signed(grant_id="g")).refusal == (400, "invalid_request")


@pytest.mark.parametrize(
    "name", ["scope", "dpop_jkt", "max_age", "resource", "claims", "response_mode", "nonce"]
)
async def test_S1_a_parameter_without_a_value_counts_as_not_sent_as_in_a_form(
    world: World, name: str
) -> None:
    assert (await world.app("portal").push(**{name: ""})).status == 201
    assert (await world.app("portal-signed").push_signed(**{name: ""})).status == 201
    assert (await world.app("portal-signed").push_signed(redirect_uri="")).refusal == (400, "invalid_request")


async def test_S1_a_signed_request_is_taken(world: World) -> None:
    assert (await world.app("portal-signed").push_signed()).status == 201


@pytest.mark.parametrize("key", [rsa_key(), ed_key()], ids=["PS256", "EdDSA"])
async def test_S1_every_algorithm_of_FAPI_is_taken(world: World, key: Any) -> None:
    clients = world.clients | {"portal": replace(world.clients["portal"], jwks=(public_jwk(key),))}
    world.private = {**world.private, "portal": key}
    again = await world.reopen(clients=clients)
    assert (await again.app("portal").push_signed()).status == 201


@pytest.mark.parametrize(
    "overrides",
    [
        {"header": {"typ": ABSENT}},
        {"header": {"typ": "JWT"}},
        {"header": {"typ": "OAuth-Authz-Req+JWT"}},
        {"aud": [ISSUER]},
        {"aud": ["https://other.example", ISSUER]},
        {"nbf": NOW + 8},
        {"nbf": NOW - 3600, "exp": NOW},
        {"iat": NOW + 8},
        {"client_id": ABSENT},
        {"max_age": 300},
    ],
)
async def test_S1_what_the_profile_allows_is_taken(world: World, overrides: dict[str, Any]) -> None:
    if overrides.get("exp") == NOW:
        overrides = {"nbf": NOW - 3599, "exp": NOW + 1}
    assert (await world.app("portal-signed").push_signed(**overrides)).status == 201


@pytest.mark.parametrize(
    "overrides",
    [
        {"header": {"alg": "RS256"}},
        {"header": {"alg": "none"}},
        {"header": {"alg": "HS256"}},
        {"header": {"typ": "dpop+jwt"}},
        {"header": {"typ": "client-authentication+jwt"}},
        {"header": {"crit": ["exp"]}},
        {"key": ec_key()},
        {"iss": ABSENT},
        {"iss": "portal"},
        {"aud": ABSENT},
        {"aud": []},
        {"aud": "https://other.example"},
        {"aud": f"{ISSUER}/par"},
        {"sub": "portal-signed"},
        {"client_id": "portal"},
        {"nbf": ABSENT},
        {"exp": ABSENT},
        {"nbf": NOW - 3601},
        {"nbf": NOW + 61, "exp": NOW + 300},
        {"exp": NOW},
        {"nbf": NOW - 1, "exp": NOW + 3600},
        {"exp": "soon"},
        {"nbf": True},
        {"iat": NOW + 61},
        {"request_uri": "urn:ietf:params:oauth:request_uri:x"},
        {"request": "a.b.c"},
        {"state": 7},
        {"scope": ["patient/*.rs"]},
        {"redirect_uri": None},
        {"max_age": True},
    ],
)
async def test_S1_any_defect_is_invalid_request_object(world: World, overrides: dict[str, Any]) -> None:
    reply = await world.app("portal-signed").push_signed(**overrides)
    assert reply.refusal == (400, "invalid_request_object")


async def test_S1_the_key_of_another_client_signs_nothing_here(world: World) -> None:
    overrides = {"key": world.private["portal-2"]}
    reply = await world.app("portal-signed").push_signed(**overrides)
    assert reply.refusal == (400, "invalid_request_object")


@pytest.mark.parametrize("text", ["", "a.b.c", "a.b", "e30.e30.e30", "." * 5, "x" * 40_000])
async def test_S1_what_is_no_request_object_is_refused(world: World, text: str) -> None:
    app = world.app("portal-signed")
    reply = await world.post("/par", {"request": text or "."} | app.credentials())
    assert reply.refusal == (400, "invalid_request_object")


@given(
    member=st.sampled_from(["iss", "aud", "nbf", "exp", "iat", "typ", "scope", "claims", "max_age", "sub"]),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=5,
    ),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_hostile_members_raise_nothing_but_OAuthError(world: World, member: str, value: object) -> None:
    key = world.private["portal"]
    claims = {"iss": "portal", "aud": ISSUER, "nbf": NOW, "exp": NOW + 60, "scope": "x"}
    client = world.clients["portal"]
    try:
        found = check_request_object(
            make_jws(key, {"alg": "ES256"}, claims | {member: value}),
            client=client,
            keys=import_jwks(client.jwks),
            issuer=ISSUER,
            now=NOW,
        )
    except OAuthError as error:
        refused = error.code
    else:
        refused = None
        assert all(isinstance(text, str) for text in found.parameters.values())
    assert refused in (None, ErrorCode.INVALID_REQUEST_OBJECT)


async def test_S1_a_rule_of_the_request_itself_answers_as_ever(world: World) -> None:
    app = world.app("portal-signed")
    for overrides in (
        {"code_challenge": ABSENT},
        {"code_challenge_method": "plain"},
        {"redirect_uri": "https://evil.example/cb"},
    ):
        assert (await app.push_signed(**overrides)).refusal == (400, "invalid_request")


# S2, S3


async def test_S2_only_what_is_inside_the_object_counts(world: World) -> None:
    app = world.app("portal-signed")
    outside = {"state": "forged", "scope": "user/Observation.rs", "redirect_uri": "https://evil.example"}
    form = {"request": app.request_object(state="signed"), **outside} | app.credentials()
    pushed = await world.post("/par", form)
    answer = await answered(world, app, pushed)
    assert verified(world, answer["response"], audience="portal-signed")["state"] == "signed"


async def test_S2_PKCE_outside_the_object_is_no_PKCE(world: World) -> None:
    app = world.app("portal-signed")
    unproven = app.request_object(code_challenge=ABSENT, code_challenge_method=ABSENT)
    reply = await world.post("/par", app.asking() | {"request": unproven} | app.credentials())
    assert reply.refusal == (400, "invalid_request")


async def test_S3_a_client_that_must_sign_is_refused_without_an_object(world: World) -> None:
    assert (await world.app("portal-signed").push()).refusal == (400, "invalid_request")


async def test_S3_a_client_that_may_sign_is_taken_with_and_without(world: World) -> None:
    app = world.app("portal")
    assert (await app.push()).status == 201
    assert (await app.push_signed()).status == 201


async def test_P3_request_uri_beside_an_object_is_refused(world: World) -> None:
    app = world.app("portal-signed")
    form = {"request": app.request_object(), "request_uri": "urn:x"} | app.credentials()
    assert (await world.post("/par", form)).refusal == (400, "invalid_request")


async def test_D6_the_same_object_may_be_sent_again_after_a_nonce_challenge(world: World) -> None:
    app = world.app("portal-signed")
    form = {"request": app.request_object()} | app.credentials()
    asked = await world.post("/par", form, headers=[("dpop", app.proof("/par", nonce=None))])
    assert asked.refusal == (400, "use_dpop_nonce")
    app.nonce = asked.header("dpop-nonce")
    again = await world.post("/par", form, headers=[("dpop", app.proof("/par"))])
    assert again.status == 201


# A6: JARM


async def answered(world: World, app: App, pushed: Reply, action: str = "allow") -> dict[str, str]:
    assert pushed.status == 201, pushed.text
    person = Person(world)
    page = await person.sign_in(pushed, app.client_id)
    return answer_of(await person.consent(page, action))


async def test_A6_a_signed_answer_holds_all_and_stands_alone(world: World) -> None:
    app = world.app("portal-signed")
    answer = await answered(world, app, await app.push_signed(response_mode="jwt"))
    assert set(answer) == {"response"}
    claims = verified(world, answer["response"], audience="portal-signed")
    assert set(claims) == {"iss", "aud", "exp", "code", "state"}
    assert 10 <= claims["exp"] - NOW <= 600
    assert (await app.redeem(claims["code"])).status == 200


@pytest.mark.parametrize("mode", ["jwt", "query.jwt", ABSENT])
async def test_A6_a_client_that_must_use_JARM_never_gets_a_plain_answer(world: World, mode: str) -> None:
    app = world.app("portal-signed")
    assert set(await answered(world, app, await app.push_signed(response_mode=mode))) == {"response"}
    assert (await app.push_signed(response_mode="query")).refusal == (400, "invalid_request")


async def test_A6_errors_are_signed_too(world: World) -> None:
    app = world.app("portal-signed")
    answer = await answered(world, app, await app.push_signed(response_mode="jwt"), "deny")
    assert set(answer) == {"response"}
    claims = verified(world, answer["response"], audience="portal-signed")
    assert (claims["error"], claims["iss"], claims["state"]) == ("access_denied", ISSUER, "s-1")
    assert "code" not in claims


async def test_A6_any_client_may_ask_for_a_signed_answer(world: World) -> None:
    app = world.app("portal")
    assert set(await answered(world, app, await app.push(response_mode="jwt"))) == {"response"}
    assert set(await answered(world, app, await app.push(response_mode="query"))) == {"code", "state", "iss"}


async def test_A6_the_query_of_the_redirect_uri_is_kept(world: World) -> None:
    app = world.app("portal")
    pushed = await app.push(response_mode="jwt", redirect_uri=f"{REDIRECT_URI}?tenant=a%20b")
    assert set(await answered(world, app, pushed)) == {"tenant", "response"}


# I1, S4: introspection


async def issued(world: World, client_id: str = "portal") -> tuple[App, dict[str, Any]]:
    app = world.app(client_id)
    reply = await app.redeem(await app.code())
    assert reply.status == 200, reply.text
    return app, reply.json


async def test_I1_a_resource_server_learns_what_a_token_says(world: World) -> None:
    app, tokens = await issued(world)
    reply = await world.app("resource-server").post("/introspect", {"token": tokens["access_token"]})
    said = reply.json
    assert (said["active"], said["client_id"], said["token_type"]) == (True, "portal", "DPoP")
    assert said["cnf"] == {"jkt": app.jkt}
    assert (said["iss"], said["exp"] - said["iat"], said["patient"]) == (ISSUER, 300, "A")
    assert said["scope"] == tokens["scope"]
    assert reply.header("cache-control") == "no-store"


async def test_I1_the_certificate_of_a_bound_token_is_told(world: World) -> None:
    _, tokens = await issued(world, "portal-mtls")
    said = (await world.app("resource-server").post("/introspect", {"token": tokens["access_token"]})).json
    assert (said["token_type"], list(said["cnf"])) == ("Bearer", ["x5t#S256"])


async def test_I1_a_refresh_token_is_told_apart(world: World) -> None:
    _, tokens = await issued(world)
    said = (await world.app("resource-server").post("/introspect", {"token": tokens["refresh_token"]})).json
    assert (said["active"], said["client_id"]) == (True, "portal")
    assert "token_type" not in said


async def test_I1_what_is_unknown_expired_or_revoked_is_inactive_and_nothing_else(world: World) -> None:
    app, tokens = await issued(world)
    asking = world.app("resource-server")

    async def said(token: str) -> dict[str, Any]:
        return (await asking.post("/introspect", {"token": token})).json

    head, _, signature = tokens["access_token"].rpartition(".")
    for token in ("unknown", "a.b.c", f"{head}.{signature[::-1]}"):
        assert await said(token) == INACTIVE
    await app.post("/revoke", {"token": tokens["refresh_token"]})
    assert await said(tokens["access_token"]) == INACTIVE
    assert await said(tokens["refresh_token"]) == INACTIVE
    _, fresh = await issued(world)
    world.clock.now += 301
    asking.nonce = None
    assert await said(fresh["access_token"]) == INACTIVE


async def test_I1_other_clients_learn_of_their_own_tokens_only(world: World) -> None:
    app, tokens = await issued(world)
    for token in (tokens["access_token"], tokens["refresh_token"]):
        assert (await app.post("/introspect", {"token": token})).json["active"] is True
        assert (await world.app("portal-2").post("/introspect", {"token": token})).json == INACTIVE


async def test_I1_nobody_learns_anything_without_authentication(world: World) -> None:
    _, tokens = await issued(world)
    form = {"token": tokens["access_token"]}
    assert (await world.post("/introspect", form)).refusal == (400, "invalid_client")
    assert (await world.post("/introspect", form | {"client_id": "resource-server"})).status == 400


async def test_T5_introspection_takes_POST_of_a_form_only(world: World) -> None:
    assert (await world.get("/introspect")).status == 405
    json_body = [("content-type", "application/json")]
    reply = await world.send(http_request("POST", "/introspect", headers=json_body, body=b"{}"))
    assert reply.refusal == (400, "invalid_request")
    assert (await world.app("resource-server").post("/introspect", {})).refusal == (400, "invalid_request")


async def test_S4_a_signed_answer_is_for_the_one_who_asked(world: World) -> None:
    app, tokens = await issued(world)
    asking = world.app("resource-server")
    await asking.learn_nonce()
    form = {"token": tokens["access_token"]} | asking.credentials()
    headers = [("dpop", asking.proof("/introspect")), ("accept", SIGNED)]
    reply = await world.post("/introspect", form, headers=headers)
    assert (reply.status, reply.header("content-type")) == (200, SIGNED)
    assert jwt.get_unverified_header(reply.text)["typ"] == "token-introspection+jwt"
    claims = verified(world, reply.text, audience="resource-server")
    assert set(claims) == {"iss", "aud", "iat", "token_introspection"}
    assert claims["token_introspection"]["cnf"] == {"jkt": app.jkt}


async def test_S4_a_signed_answer_says_inactive_as_well(world: World) -> None:
    asking = world.app("resource-server")
    form = {"token": "unknown"} | asking.credentials()
    reply = await world.post("/introspect", form, headers=[("accept", SIGNED)])
    assert verified(world, reply.text, audience="resource-server")["token_introspection"] == INACTIVE


async def test_introspection_answers_at_the_mutual_TLS_alias(world: World) -> None:
    app, tokens = await issued(world, "portal-mtls")
    reply = await app.post("/introspect", {"token": tokens["access_token"]}, origin=MTLS_ORIGIN)
    assert reply.json["active"] is True


async def test_a_second_visit_of_a_signed_request_shows_the_same(world: World) -> None:
    app = world.app("portal-signed")
    pushed = await app.push_signed()
    query = urlencode({"client_id": app.client_id, "request_uri": pushed.json["request_uri"]})
    for _ in range(2):
        assert 'id="login"' in (await Person(world).visit(f"/authorize?{query}")).text


async def test_A6_the_key_and_algorithm_of_a_signed_answer_are_published(world: World) -> None:
    answer = await answered(world, world.app("portal"), await world.app("portal").push(response_mode="jwt"))
    header = jwt.get_unverified_header(answer["response"])
    metadata = (await world.get("/.well-known/oauth-authorization-server")).json
    assert header["alg"] in metadata["authorization_signing_alg_values_supported"]
    assert header["kid"] in {key["kid"] for key in world.keys.jwks()["keys"]}


@pytest.mark.parametrize("typ", ["OAUTH-AUTHZ-REQ+JWT", "JWT", ABSENT])
async def test_S1_typ_is_compared_without_case_and_may_be_absent(world: World, typ: object) -> None:
    assert (await world.app("portal-signed").push_signed(header={"typ": typ}, jti=ABSENT)).status == 201

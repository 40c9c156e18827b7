"""Signed requests, for every variant that makes them: rows S1 to S3 of the FAPI 2.0 checklist."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support.authorization_server import ISSUER, MTLS_ORIGIN, REDIRECT_URI
from tests.support.jose import ABSENT, b64, ec_key, rsa_key
from tests.support.variants import BY_KEY, VariantApp, hmac_signature, over, signing_keys

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID_OBJECT = (400, "invalid_request_object")
INVALID_REQUEST = (400, "invalid_request")


async def is_taken(app: VariantApp, **overrides: Any) -> bool:
    return (await app.push_form({"request": app.request_object(**overrides)})).status == 201


async def is_refused(app: VariantApp, **overrides: Any) -> bool:
    reply = await app.push_form({"request": app.request_object(**overrides)})
    return reply.refusal == INVALID_OBJECT


@over(signed=True)
async def test_S1_what_the_profile_allows_is_taken(app: VariantApp) -> None:
    now = app.world.clock.now
    for key in signing_keys(app.variant).values():
        assert await is_taken(app, key=key)
    for overrides in (
        {"header": {"typ": ABSENT}}, {"header": {"typ": "JWT"}}, {"header": {"typ": "OAuth-Authz-Req+JWT"}},
        {"header": {"kid": "ES256"}}, {"aud": [ISSUER]}, {"aud": ["https://x.example", ISSUER]}, {"nbf": now + 8},
        {"iat": now + 8}, {"jti": "j"}, {"nbf": now - 3599, "exp": now + 1}, {"exp": now + 3600}, {"client_id": ABSENT},
    ):  # fmt: skip
        assert await is_taken(app, **overrides), overrides


@over(signed=True)
async def test_S1_E4_any_defect_is_invalid_request_object(app: VariantApp) -> None:
    now = app.world.clock.now
    for overrides in (
        {"iss": ABSENT}, {"iss": "portal"}, {"aud": ABSENT}, {"aud": "https://x.example"}, {"aud": [f"{ISSUER}/par"]},
        {"aud": MTLS_ORIGIN}, {"nbf": ABSENT}, {"exp": ABSENT}, {"nbf": now - 3601}, {"nbf": now + 61}, {"exp": now},
        {"exp": now + 3601}, {"exp": str(now + 60)}, {"nbf": True}, {"iat": now + 61}, {"sub": app.client_id},
        {"client_id": "portal"}, {"request_uri": "urn:x"}, {"request": "a.b.c"}, {"scope": ["patient/*.rs"]},
        {"key": ec_key()}, {"header": {"alg": "RS256"}}, {"header": {"alg": "none"}}, {"header": {"alg": "ES384"}},
        {"header": {"typ": "dpop+jwt"}}, {"header": {"crit": ["b64"], "b64": False}}, {"header": {"kid": "unknown"}},
        {"header": {"kid": "PS256"}},
    ):  # fmt: skip
        assert await is_refused(app, **overrides), overrides


@over(signed=True)
async def test_S1_no_signature_but_the_clients_own(app: VariantApp) -> None:
    good = app.request_object()
    header, payload, signature = good.split(".")
    key = rsa_key()
    assert isinstance(key, rsa.RSAPrivateKey)

    def signed(alg: str, sign: Any) -> str:
        data = f"{b64(json.dumps({'alg': alg}).encode())}.{payload}"
        return f"{data}.{b64(sign(data.encode()))}"

    for token in (
        signed("RS256", lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA256())),
        signed("none", lambda data: b""),
        signed("HS256", lambda data: hmac_signature(b"secret", data)),
        signed("ES256", lambda data: bytes(64)),
        f"{header}.{payload}.",
        f"{header}.{payload}.{signature[:-2]}",
        f"{header}.{payload}.{signature}.",
        f"{header}.{payload}",
        good + "=",
        "{}",
        VariantApp(app.world, app.variant).world.app("portal").request_object(iss=app.client_id),
    ):
        assert (await app.push_form({"request": token})).refusal == INVALID_OBJECT
    assert (await app.push_form({"request": good})).status == 201


@over(signed=True)
async def test_S2_only_what_is_inside_counts(app: VariantApp) -> None:
    outside = {
        "redirect_uri": "https://evil.example/callback",
        "scope": "patient/*.cruds",
        "state": "outside",
        "nonce": "outside",
        "response_type": "token",
        "dpop_jkt": "x",
    }
    pushed = await app.push_form(app.form(state="inside") | outside)
    assert pushed.status == 201
    assert (await app.authorize(pushed))["state"] == "inside"
    # What is missing inside is missing: nothing outside stands in for it.
    for name, value in (("code_challenge", app.asking()["code_challenge"]), ("redirect_uri", REDIRECT_URI)):
        reply = await app.push_form(app.form(**{name: ABSENT}) | {name: value})
        assert reply.refusal == INVALID_REQUEST, name


@over(signed=True)
async def test_S3_a_client_that_must_sign_is_refused_without_an_object(app: VariantApp) -> None:
    assert (await app.push_form(app.asking())).refusal == INVALID_REQUEST


@over(signed=False)
async def test_S3_a_client_that_may_sign_is_taken_with_an_object_too(app: VariantApp) -> None:
    pushed = await app.push_form({"request": app.request_object()})
    assert pushed.status == 201
    assert "code" in await app.authorize(pushed)


@over(authentication=BY_KEY, signed=True)
async def test_S1_an_assertion_is_no_request_object_and_the_other_way_round(app: VariantApp) -> None:
    assert (await app.push_form({"request": app.assertion()})).refusal == INVALID_OBJECT
    form = app.form() | {
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": app.request_object(),
    }
    assert (await app.world.post("/par", form)).refusal == (400, "invalid_client")

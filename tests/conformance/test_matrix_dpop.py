"""DPoP at the authorization server, for every variant that binds by it: rows D1 to D9 of the FAPI 2.0 checklist."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from authz.protocol.request import RequestError
from tests.support.authorization_server import ISSUER, MTLS_ORIGIN, Reply, World, http_request
from tests.support.jose import ABSENT, ec_key, ed_key, private_jwk, public_jwk, rsa_key
from tests.support.variants import DPOP, VariantApp, over

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID_PROOF = (400, "invalid_dpop_proof")
ACCEPTED = (400, "invalid_grant")
"""Of a code that was never made: the proof had been found right."""
USE_NONCE = (400, "use_dpop_nonce")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lenient(matrix: World) -> AsyncIterator[World]:
    """The same server where nonces are offered and not required."""
    yield await matrix.reopen(dpop_nonce_required=False)


async def tried(app: VariantApp, **overrides: Any) -> tuple[int, str]:
    """What a token request with such a proof is answered, with the one code that nobody has."""
    if app.nonce is None:
        await app.learn_nonce()
    return (await app.redeem("never-made", proof=app.proof(**overrides))).refusal


@over(binding=DPOP)
async def test_D1_one_compact_JWS_of_the_right_type_key_and_signature(app: VariantApp) -> None:
    for key in (ec_key(), ed_key(), rsa_key()):
        assert await tried(app, key=key) == ACCEPTED
    for header in (
        {"typ": ABSENT}, {"typ": "jwt"}, {"typ": "at+jwt"}, {"alg": ABSENT}, {"alg": "none"}, {"alg": "RS256"},
        {"alg": "HS256"}, {"alg": "EdDSA"}, {"alg": "ES384"}, {"jwk": ABSENT}, {"jwk": private_jwk(app.dpop_key)},
        {"jwk": public_jwk(ec_key())}, {"jwk": {"kty": "oct", "k": "c2VjcmV0"}}, {"jwk": "x"}, {"crit": ["exp"]},
    ):  # fmt: skip
        assert await tried(app, header=header) == INVALID_PROOF, header
    for header in ({"typ": "DPoP+JWT"}, {"kid": "x", "x5u": "https://x.example"}):
        assert await tried(app, header=header) == ACCEPTED, header
    proof = app.proof()
    for wrong in (
        proof[:-1],
        proof[:-2] + ("AA" if proof[-2:] != "AA" else "BB"),
        "a.b.c",
        proof + ".x",
        "x",
    ):
        assert (await app.redeem("never-made", proof=wrong)).refusal == INVALID_PROOF


@over(binding=DPOP)
async def test_D1_two_headers_are_refused_before_anything_else(app: VariantApp) -> None:
    headers = [("dpop", app.proof()), ("DPoP", app.proof())]
    with pytest.raises(RequestError, match="more than once") as refused:
        http_request("POST", "/token", headers=headers)
    assert refused.value.status == 400
    await app.learn_nonce()
    both = f"{app.proof()}, {app.proof()}"
    assert (await app.redeem("never-made", proof=both)).refusal == INVALID_PROOF


@over(binding=DPOP)
async def test_D2_htm_htu_iat_and_jti_are_required_and_unknown_members_ignored(app: VariantApp) -> None:
    now = app.world.clock.now
    for name in ("htm", "htu", "iat", "jti"):
        for value in (ABSENT, None, "", [], {}):
            assert await tried(app, **{name: value}) == INVALID_PROOF, (name, value)
    for claims in ({"htm": "GET"}, {"htm": "post"}, {"iat": str(now)}, {"jti": "j" * 129}, {"jti": 7},
                   {"exp": now}, {"nbf": now + 61}, {"exp": "x"}):  # fmt: skip
        assert await tried(app, **claims) == INVALID_PROOF, claims
    for claims in ({"x": {"y": [1]}}, {"exp": now + 1}, {"nbf": now}, {"iat": now + 0.5}, {"ath": "x"}):
        assert await tried(app, **claims) == ACCEPTED, claims


@over(binding=DPOP)
async def test_E8_D3_htu_is_the_url_that_was_called(app: VariantApp) -> None:
    url = f"{app.origin}/token"
    other = MTLS_ORIGIN if app.origin == ISSUER else ISSUER
    host = url.partition("//")[2].partition("/")[0]
    for htu in (
        url,
        url + "?a=b",
        url + "#c",
        url + "?a#b",
        url.replace("https", "HTTPS"),
        url.replace(host, host.upper()),
    ):
        assert await tried(app, htu=htu) == ACCEPTED, htu
    if app.origin == ISSUER:
        assert await tried(app, htu=url.replace(host, f"{host}:443")) == ACCEPTED
    for htu in (f"{other}/token", f"{app.origin}/TOKEN", url + "/", f"{app.origin}/par", url.replace("https", "http"),
                f"{app.origin}/x/../token", f"{app.origin}/%74oken", f"{app.origin}//token", "/token", "token",
                url.replace("//", "//user@"), url.replace(host, f"{host.partition(':')[0]}:8443"), "é"):  # fmt: skip
        assert await tried(app, htu=htu) == INVALID_PROOF, htu


@over(binding=DPOP)
async def test_D4_with_a_nonce_iat_may_be_5_minutes_off_and_never_an_hour(app: VariantApp) -> None:
    now = app.world.clock.now
    for off in (-299, -61, -60, 0, 10, 61, 299):
        assert await tried(app, iat=now + off) == ACCEPTED, off
    for off in (-3600, -301, 301, 3600):
        assert await tried(app, iat=now + off) == INVALID_PROOF, off
        # At once, before a nonce is asked for.
        assert await tried(app, iat=now + off, nonce=None) == INVALID_PROOF, off


@over(binding=DPOP)
async def test_D4_without_a_nonce_iat_is_60_s_old_at_most_and_10_s_ahead(
    lenient: World, app: VariantApp
) -> None:
    app.world, app.nonce = lenient, "a nonce that is not one"
    now = lenient.clock.now
    for nonce in (None, app.nonce):
        for off in (-60, -1, 0, 10):
            assert await tried(app, iat=now + off, nonce=nonce) == ACCEPTED, off
        for off in (-61, 61, -3600, 3600):
            assert await tried(app, iat=now + off, nonce=nonce) == INVALID_PROOF, off


@over(binding=DPOP)
async def test_D5_a_jti_counts_once_by_any_worker_at_any_endpoint(app: VariantApp) -> None:
    await app.learn_nonce()
    tokens = await app.tokens()
    proof = app.proof()
    assert (await app.redeem("never-made", proof=proof)).refusal == ACCEPTED
    assert (await app.refresh(tokens["refresh_token"], proof=proof)).refusal == INVALID_PROOF
    app.world = await app.world.reopen()
    app.world.clock.now += 200
    assert (await app.refresh(tokens["refresh_token"], proof=proof)).refusal == INVALID_PROOF
    assert (await app.refresh(tokens["refresh_token"], proof=app.proof())).status == 200


@over(binding=DPOP)
async def test_D6_E7_exactly_400_use_dpop_nonce_with_one_nonce_and_nothing_is_spent(app: VariantApp) -> None:
    code = await app.code()
    form = app.credentials() | {"grant_type": "authorization_code", "code": code, "code_verifier": "v" * 43}

    async def redeem(nonce: str | None) -> Reply:
        headers = [("dpop", app.proof(nonce=nonce))]
        return await app.world.post(
            "/token", form, headers=headers, origin=app.origin, certificate=app.certificate
        )

    for nonce in (None, "n" * 28, "x"):
        challenged = await redeem(nonce)
        assert challenged.refusal == USE_NONCE
    said = challenged.header("dpop-nonce")
    reply = await redeem(said)
    assert (reply.status, len(reply.headers("dpop-nonce"))) == (200, 1)
    # The same assertion and refresh token after the next challenge too; the nonce is good for minutes.
    refresh = {"grant_type": "refresh_token", "refresh_token": reply.json["refresh_token"]}
    form = app.credentials() | refresh
    assert (await redeem(None)).refusal == USE_NONCE
    app.world.clock.now += 30
    assert (await redeem(said)).status == 200


@over(binding=DPOP)
async def test_E7_the_same_pushed_request_may_be_sent_again_after_a_challenge(app: VariantApp) -> None:
    form = app.form() | app.credentials()

    async def push(nonce: str | None) -> Reply:
        headers = [("dpop", app.proof("/par", origin=app.pushing_origin, nonce=nonce))]
        return await app.world.post(
            "/par", form, headers=headers, origin=app.pushing_origin, certificate=app.certificate
        )

    challenged = await push(None)
    assert challenged.refusal == USE_NONCE
    assert (await push(challenged.header("dpop-nonce"))).status == 201


@over(binding=DPOP)
async def test_E4_no_proof_is_invalid_dpop_proof_and_never_use_dpop_nonce(app: VariantApp) -> None:
    tokens = await app.tokens()
    for reply in (
        await app.redeem(await app.code(), proof=None),
        await app.refresh(tokens["refresh_token"], proof=None),
    ):
        assert reply.refusal == INVALID_PROOF
        assert reply.header("dpop-nonce") is None


@over(binding=DPOP)
async def test_D7_tokens_are_bound_to_the_key_of_the_request(app: VariantApp) -> None:
    bound_to = ec_key()
    app.dpop_key = bound_to
    token = (await app.tokens())["access_token"]
    await app.read(token)
    with pytest.raises(Exception, match="key of the proof"):
        await app.read(token, key=ec_key())


@over(binding=DPOP)
async def test_D8_the_developer_is_told_what_was_wrong(app: VariantApp) -> None:
    await app.learn_nonce()
    now = app.world.clock.now
    for overrides, expected in (
        ({"iat": now - 400}, "iat is 400 s in the past"),
        ({"iat": now + 400}, "iat is 400 s in the future"),
        ({"htu": "https://other.example/token"}, f"expected {app.origin}/token"),
        ({"htm": "GET"}, "htm is GET, expected POST"),
        ({"header": {"typ": "JWT"}}, "typ of the proof must be dpop+jwt"),
    ):
        reply = await app.redeem("never-made", proof=app.proof(**overrides))
        assert reply.refusal == INVALID_PROOF
        assert expected in reply.json["error_description"]


@over(binding=DPOP)
async def test_D9_what_is_refused_for_something_else_spends_no_proof(app: VariantApp) -> None:
    await app.learn_nonce()
    tokens = await app.tokens()
    proof = app.proof()
    for form in (
        {},
        {"grant_type": "password"},
        {"grant_type": "authorization_code"},
        {"grant_type": "refresh_token", "refresh_token": "unknown"},
        {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "scope": "patient/*.cruds"},
    ):
        assert (await app.post("/token", form, proof=proof)).refusal[0] == 400
    refused = await app.world.post(
        "/token", urlencode({"client_id": "nobody"}).encode(), headers=[("dpop", proof)], origin=app.origin
    )
    assert refused.refusal == (400, "invalid_client")
    assert (await app.refresh(tokens["refresh_token"], proof=proof)).status == 200

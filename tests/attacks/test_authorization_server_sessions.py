"""What went wrong in other authorization servers, tried here: SEC 22 to 51, proofs, tokens, sessions and pages."""

import hmac
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from authz.protocol.clients import BindingKind
from authz.protocol.errors import OAuthError
from authz.protocol.tokens import TokenError, caller_of
from authz.storage.claims import Namespace
from tests.support.authorization_server import (
    CDA,
    FHIR,
    ISSUER,
    NOW,
    Person,
    World,
    answer_of,
    challenge,
    http_request,
    open_world,
)
from tests.support.jose import ABSENT, self_signed_certificate
from tests.support.variants import signed_in

CLAIMS: dict[str, Any] = {
    "iss": ISSUER, "sub": "person", "aud": FHIR, "client_id": "portal", "jti": "j", "iat": NOW, "exp": NOW + 300,
    "scope": "patient/*.rs", "cnf": {"jkt": "t" * 43},
}  # fmt: skip


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(
    "issuer",
    [ISSUER[:-1], ISSUER + "/", ISSUER + ".evil.example", ISSUER.upper(), [ISSUER], {ISSUER: 1}, "", None, 7],
)
def test_SEC_22_an_issuer_is_compared_whole_and_as_text(issuer: object) -> None:
    """GHSA-75c5-xw7c-p5pm: a prefix, or a part of a list, was enough."""
    assert caller_of(CLAIMS, issuer=ISSUER).subject == "person"
    with pytest.raises(TokenError, match="iss"):
        caller_of(CLAIMS | {"iss": issuer}, issuer=ISSUER)


async def test_SEC_25_secrets_are_compared_in_constant_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a stranger could learn byte by byte goes through hmac.compare_digest.

    A nonce is found by its hash, whose key is of the process: a guess that is right in part finds nothing sooner.
    """
    compared: list[str] = []
    right = hmac.compare_digest

    def watched(one: Any, other: Any) -> bool:
        compared.extend(each if isinstance(each, str) else each.decode() for each in (one, other))
        return right(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    app, person = world.app(), await signed_in(world)
    page = await person.sign_in(await app.push())
    answer = answer_of(await person.consent(page))
    token = (await app.redeem(answer["code"])).json["access_token"]
    await app.read(token)
    form_token = re.search(r'name="form_token" value="([^"]+)"', page.text)
    assert form_token is not None
    assert form_token[1] in compared
    assert app.jkt in compared
    assert challenge() in compared


async def test_SEC_32_no_flood_pushes_a_proof_out_of_memory(world: World) -> None:
    """Two products kept the last thousand ids: a thousand and one requests later the first proof was fresh again."""
    app = world.app()
    token = (await app.redeem(await app.code())).json["access_token"]
    request = app.reading(token)
    await world.authenticate(request)
    for number in range(3000):
        key = number.to_bytes(16, "big")
        assert await world.store.claim(Namespace.DPOP_PROOF, key, until=NOW + 400, now=NOW)
    await world.server.housekeeping()
    with pytest.raises(OAuthError, match="jti was used before"):
        await world.authenticate(request)


async def test_SEC_32_a_replay_is_known_as_long_as_the_proof_could_be_accepted(world: World) -> None:
    """#43505: the memory of a proof was shorter than its acceptance."""
    app = world.app()
    tokens = (await app.redeem(await app.code())).json
    proof = app.proof()
    assert (await app.refresh(tokens["refresh_token"], proof=proof)).status == 200
    for _ in range(0, 700, 5):
        assert (await app.refresh(tokens["refresh_token"], proof=proof)).status == 400
        world.clock.now += 5
        await world.server.housekeeping()


@pytest.mark.parametrize(
    "confirmation",
    [
        None, {}, [], "x", {"jwk": {}}, {"kid": "x"}, {"jkt": "t" * 43, "x5t#S256": "t" * 43}, {"jkt": "t" * 43, "new": 1},
        {"jkt": "t" * 42}, {"jkt": ["t" * 43]}, {"JKT": "t" * 43}, {"x5t": "t" * 43},
    ],
)  # fmt: skip
def test_SEC_37_a_binding_that_nobody_understands_is_no_permission(confirmation: object) -> None:
    with pytest.raises(TokenError, match="cnf"):
        caller_of(CLAIMS | {"cnf": confirmation}, issuer=ISSUER)


async def test_SEC_37_a_bound_token_is_never_a_bearer_token(world: World) -> None:
    by_key, by_certificate = world.app(), world.app("portal-mtls")
    token = (await by_key.redeem(await by_key.code())).json["access_token"]
    bound = (await by_certificate.redeem(await by_certificate.code())).json["access_token"]
    proof = ("dpop", by_key.proof("/fhir/r4/Patient/A", method="GET", access_token=token))
    for headers, certificate in (
        ([("authorization", f"Bearer {token}")], None),
        ([("authorization", f"Bearer {token}"), proof], None),
        ([("authorization", f"Bearer {token}"), proof], by_certificate.certificate),
        ([("authorization", f"DPoP {bound}"), proof], by_certificate.certificate),
        ([("authorization", f"Bearer {bound}"), proof], None),
    ):
        request = http_request("GET", "/fhir/r4/Patient/A", headers=headers, certificate=certificate)
        with pytest.raises(OAuthError) as refused:
            await world.authenticate(request)
        assert refused.value.status == 401


async def test_SEC_38_the_token_says_how_it_is_bound_and_no_setting_changes_that(world: World) -> None:
    """A gateway whose check hung on a route's option let bound tokens pass unbound."""
    app = world.app("key-and-certificate")
    token = (await app.redeem(await app.code())).json["access_token"]
    await app.read(token)
    changed = replace(world.clients["key-and-certificate"], binding=BindingKind.DPOP)
    world = await world.reopen(
        clients=world.clients | {changed.client_id: changed}, dpop_nonce_required=False
    )
    now_dpop = world.app("key-and-certificate")
    for request in (
        now_dpop.reading(token, certificate=None),
        now_dpop.reading(token, scheme="Bearer", certificate=None),
        now_dpop.reading(token, certificate=self_signed_certificate(now_dpop.dpop_key)),
    ):
        with pytest.raises(OAuthError) as refused:
            await world.authenticate(request)
        assert refused.value.status == 401


async def test_SEC_42_no_token_passes_for_one_of_another_kind(world: World) -> None:
    """ID tokens, signed answers and logout tokens were taken for access tokens elsewhere: one key signs them all."""
    app, person = world.app(), await signed_in(world)
    scope = "openid fhirUser offline_access patient/*.rs launch/patient"
    page = await person.sign_in(await app.push(scope=scope, response_mode="jwt", resource=FHIR))
    response = answer_of(await person.consent(page))["response"]
    tokens = (await app.redeem(await app.code(scope=scope))).json
    headers = [("accept", "application/token-introspection+jwt"), ("dpop", app.proof("/introspect"))]
    form = app.credentials() | {"token": tokens["access_token"]}
    introspection = (await world.post("/introspect", form, headers=headers)).text
    others = {
        "ID token": tokens["id_token"],
        "signed answer": response,
        "introspection": introspection,
        "assertion": app.assertion(),
        "request object": app.request_object(),
    }
    for name, token in others.items():
        with pytest.raises(OAuthError) as refused:
            await app.read(token)
        assert refused.value.status == 401, name
        said = await app.post("/introspect", {"token": token})
        assert said.json == {"active": False}, name
    for name, token in (others | {"access token": tokens["access_token"]}).items():
        if name != "assertion":
            credentials = app.credentials() | {"client_assertion": token}
            refused_client = await world.post("/par", app.asking() | credentials)
            assert refused_client.refusal == (400, "invalid_client"), name
        if name != "request object":
            pushed = await world.post("/par", {"request": token} | app.credentials())
            assert pushed.refusal == (400, "invalid_request_object"), name
        if name != "ID token":
            assert (await app.push(id_token_hint=token)).refusal == (400, "invalid_request"), name


async def test_SEC_33_userinfo_answers_with_nonces_of_its_own_and_no_other(world: World) -> None:
    """A nonce of the authorization server's would be refused there: a client that took it would never get through."""
    app = world.app()
    token = (await app.redeem(await app.code(scope="openid"))).json["access_token"]

    async def ask(nonce: str | None) -> Any:
        proof = app.proof("/userinfo", method="GET", access_token=token, nonce=nonce)
        return await world.get("/userinfo", headers=[("authorization", f"DPoP {token}"), ("dpop", proof)])

    challenged = await ask(None)
    assert challenged.status == 401
    nonce = challenged.header("dpop-nonce")
    reply = await ask(nonce)
    assert reply.status == 200
    assert reply.headers("dpop-nonce") in ([], [nonce])


async def test_SEC_44_prompt_none_gives_no_more_than_was_granted(world: World) -> None:
    """Without a page there is no consent: neither to another resource nor to more of it."""
    app, person = world.app(), await signed_in(world)
    page = await person.sign_in(await app.push(aud=FHIR))
    tokens = (await app.redeem(answer_of(await person.consent(page))["code"])).json
    assert tokens["access_token"]

    async def silently(**changes: Any) -> dict[str, str]:
        pushed = await app.push(prompt="none", **changes)
        query = f"client_id=portal&request_uri={pushed.json['request_uri']}"
        return answer_of(
            await world.get("/authorize", query=query, headers=[("cookie", person.cookie or "")])
        )

    assert "code" in await silently(aud=FHIR)
    for audience in (CDA, ABSENT):
        assert (await silently(aud=audience)).get("error") == "consent_required", audience


async def test_SEC_51_no_page_talks_to_other_windows(world: World) -> None:
    """CVE-2024-1249: session management by iframe and postMessage."""
    document = (await world.get("/.well-known/openid-configuration")).json
    assert not [name for name in document if "iframe" in name or "frontchannel" in name]
    person = Person(world)
    pages = [
        await person.sign_in(await world.app().push()),
        await world.get("/logout"),
        await world.get("/authorize"),
    ]
    for page in pages:
        assert not re.search(r"<script|<iframe|postMessage|\son\w+=", page.text, re.IGNORECASE)
        assert page.header("content-security-policy")
        assert page.header("cross-origin-opener-policy") == "same-origin"

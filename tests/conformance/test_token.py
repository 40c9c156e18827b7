"""Token and revocation endpoints: rows A2 to A4, K1 to K6 and I2 of the FAPI 2.0 checklist, RFC 6749, RFC 9068."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from authz.events import GrantRevoked, TokenIssued
from authz.protocol import pkce
from authz.protocol.errors import OAuthError
from tests.support.authorization_server import (
    ANNA,
    CDA,
    FHIR,
    ISSUER,
    MTLS_ORIGIN,
    REDIRECT_URI,
    Reply,
    World,
    claims_of,
    open_world,
)
from tests.support.jose import ABSENT, b64, ec_key, issue_certificate, thumbprint

INVALID_GRANT = (400, "invalid_grant")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


def token_of(reply: Reply) -> str:
    assert reply.status == 200, reply.text
    return str(reply.json["access_token"])


# The code


async def test_A2_a_code_gives_a_token_that_opens_the_record(world: World) -> None:
    app = world.app()
    reply = await app.redeem(await app.code())
    found = await app.read(token_of(reply))
    assert found.caller.subject == ANNA.subject
    assert found.caller.client_id == "portal"
    assert found.caller.claims["patient"] == "A"


@pytest.mark.parametrize(("later", "status"), [(59, 200), (60, 400), (62, 400)])
async def test_A2_a_code_lives_sixty_seconds_and_no_longer(world: World, later: int, status: int) -> None:
    app = world.app()
    code = await app.code()
    world.clock.now += later
    reply = await app.redeem(code)
    assert reply.status == status
    assert status == 200 or reply.refusal == INVALID_GRANT


async def test_A3_a_second_use_revokes_what_the_first_gave_at_the_gateway_too(world: World) -> None:
    app = world.app()
    code = await app.code()
    first = await app.redeem(code)
    await app.read(token_of(first))
    assert (await app.redeem(code)).refusal == INVALID_GRANT
    with pytest.raises(OAuthError, match="revoked"):
        await app.read(token_of(first))
    assert (await app.refresh(first.json["refresh_token"])).refusal == INVALID_GRANT
    assert any(isinstance(event, GrantRevoked) and event.reason == "code-replayed" for event in world.events)


async def test_A3_a_second_use_is_known_long_after_the_code_expired(world: World) -> None:
    app = world.app()
    code = await app.code()
    first = await app.redeem(code)
    world.clock.now += 290
    await world.server.housekeeping()
    app.nonce = None
    assert (await app.redeem(code)).refusal == INVALID_GRANT
    with pytest.raises(OAuthError, match="revoked"):
        await app.read(token_of(first))


async def test_A3_of_many_uses_at_once_one_at_most_gives_a_token_that_works(world: World) -> None:
    app = world.app()
    code = await app.code()
    await app.learn_nonce()
    replies = await asyncio.gather(*(app.redeem(code) for _ in range(5)))
    assert sum(reply.status == 200 for reply in replies) <= 1
    for reply in replies:
        if reply.status == 200:
            with pytest.raises(OAuthError, match="revoked"):
                await app.read(token_of(reply))


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "w" * 43},
        {"code_verifier": ABSENT},
        {"code_verifier": "v" * 42},
        {"code_verifier": "v" * 129},
        {"redirect_uri": "https://portal.example/callback?tenant=a%20b"},
        {"redirect_uri": "https://evil.example"},
    ],
)
async def test_A4_what_does_not_belong_to_the_code_is_invalid_grant_and_burns_it(
    world: World, changes: dict[str, Any]
) -> None:
    app = world.app()
    code = await app.code()
    assert (await app.redeem(code, **changes)).refusal == INVALID_GRANT
    assert (await app.redeem(code)).refusal == INVALID_GRANT


async def test_A4_a_code_that_went_to_an_address_which_is_registered_no_more_is_invalid_grant(
    world: World,
) -> None:
    """Whoever took the address out had a reason: what arrived there is worth nothing (P5, RFC 9700 4.1)."""
    code, other = (
        await world.app().code(),
        await world.app().code(redirect_uri=f"{REDIRECT_URI}?tenant=a%20b"),
    )
    portal = replace(world.clients["portal"], redirect_uris=(f"{REDIRECT_URI}?tenant=a%20b",))
    again = await world.reopen(clients=world.clients | {"portal": portal})
    assert (await again.app().redeem(code)).refusal == (400, "invalid_grant")
    assert (await again.app().redeem(other, redirect_uri=ABSENT)).status == 200


async def test_A4_a_mistake_of_ours_burns_the_code_too(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a secret")

    app = world.app()
    code = await app.code()
    with monkeypatch.context() as patched:
        patched.setattr(pkce, "verify", broken)
        reply = await app.redeem(code)
    assert reply.refusal == (500, "server_error")
    assert caplog.records
    assert (await app.redeem(code)).refusal == INVALID_GRANT


async def test_A4_another_clients_code_and_an_unknown_one_are_invalid_grant(world: World) -> None:
    code = await world.app().code()
    assert (await world.app("portal-2").redeem(code)).refusal == INVALID_GRANT
    assert (await world.app().redeem("never-made")).refusal == INVALID_GRANT


async def test_A4_no_code_is_invalid_request(world: World) -> None:
    app = world.app()
    assert (await app.redeem(ABSENT)).refusal == (400, "invalid_request")


async def test_P11_a_code_that_PAR_bound_to_a_key_wants_that_key(world: World) -> None:
    app, thief = world.app(), world.app()
    code = await app.code(dpop_jkt=app.jkt)
    assert (await thief.redeem(code)).refusal == INVALID_GRANT
    code = await app.code(dpop_jkt=app.jkt)
    assert (await app.redeem(code)).status == 200


# The access token


async def test_K1_without_proof_or_certificate_there_is_no_token(world: World) -> None:
    app = world.app()
    assert (await app.redeem(await app.code(), proof=None)).refusal == (400, "invalid_dpop_proof")
    app = world.app("key-and-certificate")
    code = await app.code()
    assert (await app.redeem(code, certificate=None)).refusal == (400, "invalid_request")
    assert (await app.redeem(code)).status == 200, "nothing was spent before the certificate was there"


async def test_K1_a_DPoP_client_is_not_served_for_a_certificate(world: World) -> None:
    app = world.app()
    reply = await app.redeem(
        await app.code(), proof=None, origin=MTLS_ORIGIN, certificate=issue_certificate(world.authority)
    )
    assert reply.refusal == (400, "invalid_dpop_proof")


async def test_K2_the_answer_and_the_token_are_as_RFC_9068_wants_them(world: World) -> None:
    app = world.app()
    reply = await app.redeem(await app.code(scope="patient/*.rs fhirUser offline_access"))
    assert reply.json | {"access_token": "", "refresh_token": ""} == {
        "access_token": "",
        "refresh_token": "",
        "token_type": "DPoP",
        "expires_in": 300,
        "scope": "patient/*.rs fhirUser offline_access",
        "patient": "A",
    }
    claims = claims_of(token_of(reply))
    assert claims["cnf"] == {"jkt": app.jkt}
    assert (claims["iss"], claims["aud"], claims["sub"]) == (ISSUER, FHIR, ANNA.subject)
    assert claims["exp"] - claims["iat"] == 300
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", claims["jti"])
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", reply.json["refresh_token"])
    assert (claims["fhirUser"], claims["roles"], claims["amr"]) == ("Patient/A", ["patient"], ["pwd"])
    issued = next(event for event in world.events if isinstance(event, TokenIssued))
    assert (issued.token_id, issued.binding) == (claims["jti"], "dpop")


@pytest.mark.parametrize("name", ["portal-mtls", "portal-self-signed", "key-and-certificate"])
async def test_K2_a_certificate_bound_token_is_a_Bearer_token(world: World, name: str) -> None:
    app = world.app(name)
    reply = await app.redeem(await app.code())
    assert reply.json["token_type"] == "Bearer"
    assert claims_of(token_of(reply))["cnf"] == {"x5t#S256": b64_thumbprint(app.certificate)}
    assert (await app.read(token_of(reply))).caller.binding.kind == "mtls"


def b64_thumbprint(certificate: bytes | None) -> str:
    return b64(sha256(certificate or b"").digest())


async def test_K2_without_resource_the_token_is_for_every_mount_and_can_be_narrowed_later(
    world: World,
) -> None:
    app = world.app()
    reply = await app.redeem(await app.code(aud=ABSENT))
    assert claims_of(token_of(reply))["aud"] == [FHIR, CDA]
    narrow = await app.refresh(reply.json["refresh_token"], resource=CDA)
    assert claims_of(token_of(narrow))["aud"] == CDA
    with pytest.raises(OAuthError, match="another resource"):
        await app.read(token_of(narrow))


async def test_K2_a_resource_that_was_not_granted_is_invalid_target(world: World) -> None:
    app = world.app()
    reply = await app.redeem(await app.code())
    refused = await app.refresh(reply.json["refresh_token"], resource=CDA)
    assert refused.refusal == (400, "invalid_target")


async def test_K2_claims_of_an_account_never_stand_for_what_a_grant_gives(world: World) -> None:
    anna = replace(ANNA, claims={"roles": ["patient"], "encounter": "B", "nbf": 1, "scope": "system/*.cruds"})
    world = await world.reopen(accounts={"anna": anna})
    app = world.app()
    first = await app.redeem(await app.code())
    claims = claims_of(token_of(await app.refresh(first.json["refresh_token"])))
    assert not {"encounter", "nbf"} & set(claims)
    assert "system" not in claims["scope"]


# Refresh


async def refreshable(world: World, **changes: Any) -> tuple[Any, str]:
    app = world.app()
    reply = await app.redeem(await app.code(**changes))
    return app, str(reply.json["refresh_token"])


async def test_K3_the_refresh_token_stays_good_and_no_new_one_is_given(world: World) -> None:
    app, token = await refreshable(world)
    for _ in range(3):
        world.clock.now += 30
        reply = await app.refresh(token)
        assert reply.header("cache-control") == "no-store"
        assert "refresh_token" not in reply.json
        assert reply.json["patient"] == "A"
        await app.read(token_of(reply))


async def test_K3_a_new_key_is_welcome_and_the_new_token_is_bound_to_it(world: World) -> None:
    app, token = await refreshable(world, dpop_jkt=ABSENT)
    app.dpop_key = ec_key()
    reply = await app.refresh(token)
    assert claims_of(token_of(reply))["cnf"] == {"jkt": thumbprint(app.dpop_key)}
    await app.read(token_of(reply))


async def test_K3_another_clients_refresh_token_is_invalid_grant(world: World) -> None:
    _, token = await refreshable(world)
    assert (await world.app("portal-2").refresh(token)).refusal == INVALID_GRANT
    assert (await world.app().refresh("never-made")).refusal == INVALID_GRANT


async def test_K3_the_scope_may_be_repeated_as_it_was_asked_for(world: World) -> None:
    asked = "openid fhirUser offline_access launch/patient patient/*.rs"
    app, token = await refreshable(world, scope=asked)
    reply = await app.refresh(token, scope=asked)
    assert reply.json["scope"] == asked


async def test_K3_the_scope_may_be_narrowed_and_is_whole_again_next_time(world: World) -> None:
    app, token = await refreshable(world)
    reply = await app.refresh(token, scope="patient/Observation.r")
    assert reply.json["scope"] == "patient/Observation.r"
    assert (await app.read(token_of(reply))).caller.scope == ("patient/Observation.r",)
    assert "patient/*.rs" in (await app.refresh(token)).json["scope"]


@pytest.mark.parametrize(
    "scope",
    ["user/Observation.rs", "patient/*.cruds", "made-up", "patient/Observation.rs?nonsense=1", "openid"],
)
async def test_K3_the_scope_cannot_grow(world: World, scope: str) -> None:
    app, token = await refreshable(world)
    assert (await app.refresh(token, scope=scope)).refusal == (400, "invalid_scope")


async def test_K3_a_refresh_token_ends_with_its_lifetime(world: World) -> None:
    app, token = await refreshable(world)
    world.clock.now += 90 * 86400 - 1
    app.nonce = None
    assert (await app.refresh(token)).status == 200
    world.clock.now += 1
    assert (await app.refresh(token)).refusal == INVALID_GRANT


async def test_K3_without_offline_access_there_is_no_refresh_token(world: World) -> None:
    app = world.app()
    reply = await app.redeem(await app.code(scope="patient/*.rs"))
    assert "refresh_token" not in reply.json


async def test_K3_what_was_taken_from_the_account_ends_with_the_access_token(world: World) -> None:
    app, token = await refreshable(world)
    nurse = replace(ANNA, claims={"roles": ["none"]})
    app.world = await world.reopen(accounts={"anna": nurse})
    assert claims_of(token_of(await app.refresh(token)))["roles"] == ["none"]
    app.world = await world.reopen(accounts={"anna": replace(ANNA, patient="C")})
    assert (await app.refresh(token)).refusal == INVALID_GRANT
    app.world = await world.reopen(accounts={})
    assert (await app.refresh(token)).refusal == INVALID_GRANT


async def test_K3_what_was_taken_from_the_client_ends_with_the_access_token(world: World) -> None:
    app, token = await refreshable(world)
    less = replace(world.clients["portal"], scope=("fhirUser", "patient/Observation.r"))
    app.world = await world.reopen(clients={"portal": less})
    assert (await app.refresh(token)).json["scope"] == "fhirUser"
    nothing = replace(world.clients["portal"], scope=("user/Observation.rs",))
    app.world = await world.reopen(clients={"portal": nothing})
    assert (await app.refresh(token)).refusal == INVALID_GRANT


async def test_K4_refresh_without_client_authentication_is_refused(world: World) -> None:
    app, token = await refreshable(world)
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": "portal"}
    reply = await world.post("/token", form, headers=[("dpop", app.proof())])
    assert reply.refusal == (400, "invalid_client")


# Client credentials


async def test_K6_client_credentials_give_a_token_of_the_client_and_no_refresh_token(world: World) -> None:
    app = world.app("lab")
    reply = await app.own_token(scope="system/Observation.rs")
    assert set(reply.json) == {"access_token", "token_type", "expires_in", "scope"}
    claims = claims_of(token_of(reply))
    assert (claims["sub"], claims["client_id"], claims["organisation"]) == ("lab", "lab", "lab-1")
    assert not {"auth_time", "acr", "amr", "patient"} & set(claims)
    assert (await app.read(token_of(reply))).caller.scope == ("system/Observation.rs",)


async def test_K6_without_scope_all_system_scopes_are_meant(world: World) -> None:
    reply = await world.app("lab").own_token()
    assert reply.json["scope"] == "system/Observation.rs system/Patient.r"


@pytest.mark.parametrize("scope", ["fhirUser", "system/Patient.rs", "system/*.rs", "patient/*.rs", "x"])
async def test_K6_only_system_scopes_that_are_registered(world: World, scope: str) -> None:
    assert (await world.app("lab").own_token(scope=scope)).refusal == (400, "invalid_scope")


async def test_K6_a_backend_with_a_certificate(world: World) -> None:
    app = world.app("exchange")
    reply = await app.own_token()
    assert reply.json["token_type"] == "Bearer"
    assert (await app.read(token_of(reply))).caller.subject == "exchange"


@pytest.mark.parametrize(
    ("grant_type", "code"),
    [
        ("authorization_code", "unauthorized_client"),
        ("refresh_token", "unauthorized_client"),
        ("password", "unsupported_grant_type"),
        ("urn:ietf:params:oauth:grant-type:token-exchange", "unsupported_grant_type"),
        ("", "invalid_request"),
    ],
)
async def test_K6_grants_that_do_not_exist_or_are_not_registered(
    world: World, grant_type: str, code: str
) -> None:
    assert (await world.app("lab").post("/token", {"grant_type": grant_type})).refusal == (400, code)


async def test_a_portal_cannot_have_a_token_of_its_own(world: World) -> None:
    assert (await world.app().own_token()).refusal == (400, "unauthorized_client")


# Revocation


async def test_I2_revoking_a_refresh_token_ends_the_grant_and_its_access_tokens_at_once(world: World) -> None:
    app, token = await refreshable(world)
    access = token_of(await app.refresh(token))
    await app.read(access)
    assert (await app.post("/revoke", {"token": token}, proof=None)).status == 200
    with pytest.raises(OAuthError, match="revoked"):
        await app.read(access)
    assert (await app.refresh(token)).refusal == INVALID_GRANT


async def test_I2_other_nodes_know_after_their_next_refresh(world: World) -> None:
    app, token = await refreshable(world)
    access = token_of(await app.refresh(token))
    app.world = node = await world.reopen()
    await app.read(access)
    app.world = world
    await app.post("/revoke", {"token": token}, proof=None)
    app.world = node
    await node.server.refresh()
    with pytest.raises(OAuthError, match="revoked"):
        await app.read(access)


async def test_I2_a_node_that_was_not_refreshed_for_long_looks_before_it_answers(world: World) -> None:
    app, token = await refreshable(world)
    access = token_of(await app.refresh(token))
    node = await world.reopen()
    await app.post("/revoke", {"token": token}, proof=None)
    app.world = node
    world.clock.now += 6
    with pytest.raises(OAuthError, match="revoked"):
        await app.read(access)


async def test_I2_a_revocation_outlives_a_restart(world: World) -> None:
    app, token = await refreshable(world)
    access = token_of(await app.refresh(token))
    await app.post("/revoke", {"token": token}, proof=None)
    app.world = await world.reopen()
    with pytest.raises(OAuthError, match="revoked"):
        await app.read(access)


async def test_I2_revoking_an_access_token_ends_it_alone(world: World) -> None:
    app, token = await refreshable(world)
    first, second = token_of(await app.refresh(token)), token_of(await app.refresh(token))
    assert (
        await app.post("/revoke", {"token": first, "token_type_hint": "access_token"}, proof=None)
    ).status == 200
    with pytest.raises(OAuthError, match="revoked"):
        await app.read(first)
    await app.read(second)


async def test_I2_another_client_revokes_nothing_and_learns_nothing(world: World) -> None:
    app, token = await refreshable(world)
    access = token_of(await app.refresh(token))
    for said in (token, access, "never-made", "a.b.c"):
        reply = await world.app("portal-2").post("/revoke", {"token": said}, proof=None)
        assert (reply.status, reply.json) == (200, {})
    await app.read(access)
    assert (await app.refresh(token)).status == 200


async def test_I2_revocation_wants_an_authenticated_client_and_a_token(world: World) -> None:
    app, token = await refreshable(world)
    assert (await world.post("/revoke", {"token": token, "client_id": "portal"})).refusal == (
        400,
        "invalid_client",
    )
    assert (await app.post("/revoke", {}, proof=None)).refusal == (400, "invalid_request")


async def test_a_client_that_asks_too_often_is_told_how_long_to_wait_and_keeps_its_code(
    tmp_path: Path,
) -> None:
    waits: dict[str, int] = {}

    async def admit(client_id: str) -> int:
        return waits.get(client_id, 0)

    async with open_world(tmp_path, admit=admit) as world:
        app = world.app()
        code = await app.code()
        waits["portal"] = 17
        refused = await app.redeem(code)
        assert refused.refusal == (429, "temporarily_unavailable")
        assert ("Retry-After", "17") in refused.answer.headers
        del waits["portal"]
        assert (await app.redeem(code)).status == 200


async def test_who_only_says_to_be_a_client_is_not_counted_as_that_one(tmp_path: Path) -> None:
    counted: list[str] = []

    async def admit(client_id: str) -> int:
        counted.append(client_id)
        return 0

    async with open_world(tmp_path, admit=admit) as world:
        app = world.app()
        code = await app.code()
        counted.clear()
        form = {"grant_type": "authorization_code", "code": code, "client_id": "portal"}
        assert (await world.post("/token", form)).status == 400
        assert counted == []

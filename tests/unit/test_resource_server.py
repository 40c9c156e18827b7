"""authz.resource_server and authz.revocations: what is remembered, what is looked at again, what is said."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from authz import resource_server
from authz.keys import by_hand
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.tokens import Caller
from authz.revocations import Revocations
from authz.storage.claims import Namespace
from authz.storage.store import StoreUnavailable
from tests.support.authorization_server import (
    CDA,
    FHIR,
    ISSUER,
    App,
    World,
    claims_of,
    http_request,
    open_world,
)
from tests.support.jose import ABSENT, ec_key, make_jws, public_jwk


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def own_token(app: App) -> str:
    return str((await app.own_token()).json["access_token"])


async def signed(app: App, *, typ: str = "at+jwt", **changes: Any) -> str:
    """A token that our key signed, with claims changed; ABSENT leaves one out."""
    claims = claims_of(await own_token(app)) | changes
    return await app.world.keys.sign({n: v for n, v in claims.items() if v is not ABSENT}, typ=typ)


async def refusal(app: App, token: str, **overrides: Any) -> OAuthError:
    with pytest.raises(OAuthError) as caught:
        await app.read(token, **overrides)
    return caught.value


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One item for every token whose signature was checked."""
    seen: list[int] = []
    caller_of = resource_server.caller_of

    def counted(*args: Any, **more: Any) -> Any:
        seen.append(1)
        return caller_of(*args, **more)

    monkeypatch.setattr(resource_server, "caller_of", counted)
    return seen


# The token


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.example"},
        {"exp": ABSENT},
        {"exp": "soon"},
        {"sub": ABSENT},
        {"sub": ""},
        {"client_id": 7},
        {"jti": ABSENT},
        {"aud": ABSENT},
        {"aud": []},
        {"aud": [7]},
        {"scope": ["system/Observation.rs"]},
        {"cnf": ABSENT},
        {"cnf": {}},
        {"cnf": {"jkt": "short"}},
        {"cnf": {"jkt": "x" * 43, "x5t#S256": "x" * 43}},
        {"grant_id": 7},
        {"typ": "jwt"},
        {"typ": "dpop+jwt"},
        {"nbf": 1_800_000_900},
        {"nbf": "later"},
        {"iat": 1_800_000_061},
        {"exp": 1_800_000_000},
    ],
)
async def test_a_token_that_our_key_signed_and_that_is_none_of_ours_is_401(
    world: World, changes: dict[str, Any]
) -> None:
    app = world.app("lab")
    error = await refusal(app, await signed(app, **changes))
    assert (error.code, error.status) == (ErrorCode.INVALID_TOKEN, 401)


async def test_a_token_of_another_key_or_algorithm_is_401(world: World) -> None:
    app = world.app("lab")
    claims = claims_of(await own_token(app))
    kid = world.keys.jwks()["keys"][0]["kid"]  # type: ignore[index]
    stranger = ec_key()
    for header in (
        {"alg": "ES256", "kid": kid, "typ": "at+jwt"},
        {"alg": "ES256", "kid": "another", "typ": "at+jwt"},
        {"alg": "ES256", "typ": "at+jwt"},
        {"alg": "ES256", "typ": "at+jwt", "jwk": public_jwk(stranger), "kid": kid},
        {"alg": "none", "kid": kid, "typ": "at+jwt"},
        {"alg": "HS256", "kid": kid, "typ": "at+jwt"},
        {"alg": "PS256", "kid": kid, "typ": "at+jwt"},
        {"alg": "ES256", "kid": kid, "typ": "at+jwt", "crit": ["x"]},
    ):
        assert (await refusal(app, make_jws(stranger, header, claims))).code is ErrorCode.INVALID_TOKEN


async def test_a_token_for_another_mount_is_401(world: World) -> None:
    app = world.app("lab")
    token = str((await app.own_token(resource=CDA)).json["access_token"])
    assert "another resource" in (await refusal(app, token)).description


async def test_what_is_said_of_a_bad_token_tells_a_forger_nothing(world: World) -> None:
    app = world.app("lab")
    said = {(await refusal(app, token)).description for token in ("a.b.c", "x", await signed(app, typ="jwt"))}
    assert said == {"the access token is not one of this server: ask for one at its token endpoint"}


async def test_a_token_that_is_too_long_is_refused_unread(world: World, verified: list[int]) -> None:
    app = world.app("lab")
    token = await signed(app, filler="x" * 9_000)
    verified.clear()
    assert (await refusal(app, token)).code is ErrorCode.INVALID_TOKEN
    assert verified == []


# What is remembered


async def test_a_signature_is_checked_once_and_the_times_every_time(
    world: World, verified: list[int]
) -> None:
    app = world.app("lab")
    token = await own_token(app)
    for _ in range(3):
        await app.read(token)
    assert len(verified) == 1
    world.clock.now += 299
    await app.read(token)
    world.clock.now += 1
    assert "expired 0 s ago" in (await refusal(app, token)).description


async def test_of_one_request_the_times_of_a_token_are_looked_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At one moment: of a token that ends in between nobody is told two things."""
    app, looked = world.app("lab"), 0
    token = await own_token(app)
    plainly = resource_server._check_times

    def counted(caller: Caller, now: int) -> None:
        nonlocal looked
        looked += 1
        plainly(caller, now)

    monkeypatch.setattr(resource_server, "_check_times", counted)
    for count in (1, 2, 3):
        await app.read(token)
        assert looked == count


@pytest.mark.parametrize("is_remembered", [True, False])
async def test_a_token_that_expired_says_so_whatever_else_is_wrong_with_it(
    world: World, is_remembered: bool
) -> None:
    """Before the audience, the revocation and the key: what would be right is another token."""
    app = world.app("lab")
    token = str((await app.own_token(resource=CDA)).json["access_token"])
    await app.post("/revoke", {"token": token})
    if is_remembered:
        assert "another resource" in (await refusal(app, token)).description
    world.clock.now += 300
    assert (await refusal(app, token)).description == "the access token expired 0 s ago: refresh it"


async def test_revocation_is_looked_at_on_every_request(world: World) -> None:
    app = world.app("lab")
    token = await own_token(app)
    await app.read(token)
    await app.post("/revoke", {"token": token})
    assert "revoked" in (await refusal(app, token)).description


async def test_a_token_that_differs_in_one_character_is_another(world: World, verified: list[int]) -> None:
    app = world.app("lab")
    token = await own_token(app)
    await app.read(token)
    head, payload, signature = token.split(".")
    changed = f"{head}.{payload}.{signature[:-6]}{'B' if signature[-6] == 'A' else 'A'}{signature[-5:]}"
    assert (await refusal(app, changed, access_token=changed)).code is ErrorCode.INVALID_TOKEN


async def test_nothing_is_remembered_across_a_change_of_keys(world: World, verified: list[int]) -> None:
    app = world.app("lab")
    token = await own_token(app)
    await app.read(token)
    await world.keys.change(by_hand.rotate)
    await app.read(token)
    assert len(verified) == 2


async def test_what_is_remembered_is_bounded_and_the_expired_goes_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource_server, "_MAX_REMEMBERED", 3)
    remembered = world.server.resource_server._remembered
    app = world.app("lab")
    for _ in range(5):
        await app.read(await own_token(app))
    assert len(remembered) == 3
    world.clock.now += 301
    app.nonce = None
    await app.read(await own_token(app))
    assert len(remembered) == 1


async def test_a_refused_token_is_not_remembered(world: World) -> None:
    app = world.app("lab")
    token = await signed(app, exp=world.clock.now)
    await refusal(app, token)
    assert not world.server.resource_server._remembered


# What is said


async def test_the_challenge_of_a_request_without_token_names_no_error(world: World) -> None:
    request = http_request("GET", "/fhir/r4")
    with pytest.raises(OAuthError) as caught:
        await world.authenticate(request)
    assert caught.value.status == 401
    headers = dict(world.server.resource_server.challenge(None, request))
    assert headers["WWW-Authenticate"] == 'DPoP algs="ES256 Ed25519 EdDSA PS256"'
    assert headers["DPoP-Nonce"]


async def test_the_challenge_answers_in_the_scheme_that_was_used(world: World) -> None:
    error = OAuthError(ErrorCode.INVALID_TOKEN, "the access token expired 9 s ago", fields={"scope": "x"})
    bearer = http_request("GET", "/", headers=[("authorization", "bearer x")])
    assert world.server.resource_server.challenge(error, bearer) == (
        (
            "WWW-Authenticate",
            'Bearer error="invalid_token", error_description="the access token expired 9 s ago", scope="x"',
        ),
    )
    dpop = http_request("GET", "/", headers=[("authorization", "dpop x")])
    said = dict(world.server.resource_server.challenge(error, dpop))
    assert said["WWW-Authenticate"].startswith('DPoP algs="')
    assert 'error="invalid_token"' in said["WWW-Authenticate"]
    assert "DPoP-Nonce" in said


@pytest.mark.parametrize("value", ["DPoP", "DPoP  ", "DPoP a b", "DPoP a,b", 'DPoP "a"', "DPoP a=b"])
async def test_an_authorization_header_of_another_shape_is_400(world: World, value: str) -> None:
    with pytest.raises(OAuthError) as caught:
        await world.authenticate(http_request("GET", "/fhir/r4", headers=[("authorization", value)]))
    assert (caught.value.code, caught.value.status) == (ErrorCode.INVALID_REQUEST, 400)


async def test_read_tells_whom_a_token_names_and_authenticates_nobody(world: World) -> None:
    app = world.app("lab")
    token = await own_token(app)
    caller = world.server.resource_server.read(token)
    assert caller is not None
    assert (caller.client_id, caller.audience, caller.issuer) == ("lab", (FHIR, CDA), ISSUER)
    assert world.server.resource_server.read("a.b.c") is None
    assert not world.server.resource_server._remembered


# Revocations


async def test_a_node_that_cannot_learn_of_revocations_does_not_answer(world: World) -> None:
    app = world.app("portal-mtls")
    token = str((await app.redeem(await app.code())).json["access_token"])
    await app.read(token)

    async def broken(sequence: int) -> tuple[int, list[str]]:
        raise StoreUnavailable("gone")

    world.store.revocations_since = broken  # type: ignore[method-assign]
    await app.read(token)
    world.clock.now += 1
    with pytest.raises(StoreUnavailable):
        await app.read(token)


async def test_I2_what_another_node_revoked_a_second_ago_is_refused_though_nobody_refreshed(
    world: World,
) -> None:
    """As on a node that was cut off while it was revoked: its first answer afterwards must know it."""
    app = world.app("portal-mtls")
    token = str((await app.redeem(await app.code())).json["access_token"])
    caller = (await app.read(token)).caller
    now = world.clock.now
    await world.store.revoke_token(caller.token_id, now=now, keep_until=now + 400)
    world.clock.now += 1
    with pytest.raises(OAuthError, match="revoked"):
        await app.read(token)


async def test_of_many_who_find_the_knowledge_old_one_reads_anew(world: World) -> None:
    app = world.app("portal-mtls")
    token = str((await app.redeem(await app.code())).json["access_token"])
    asked = []
    revocations_since = world.store.revocations_since

    async def counted(sequence: int) -> tuple[int, Sequence[str]]:
        asked.append(sequence)
        await asyncio.sleep(0)
        return await revocations_since(sequence)

    world.store.revocations_since = counted  # type: ignore[method-assign]
    world.clock.now += 1
    await asyncio.gather(*(app.read(token) for _ in range(20)))
    assert len(asked) == 1


async def test_revoked_ids_leave_memory_after_the_store_dropped_them(world: World) -> None:
    store, now = world.store, world.clock.now
    revocations = Revocations(store)
    await store.revoke_token("old", now=now, keep_until=now + 100)
    await revocations.refresh(now=now)
    assert revocations.is_revoked("old", None)
    revocations.add("mine")
    await store.remove_expired(now=now + 3600, at_most=1000)
    await revocations.refresh(now=now + 3599)
    assert revocations.is_revoked("old", None)
    await revocations.refresh(now=now + 3600)
    assert not revocations.is_revoked("old", None)
    assert revocations.is_revoked("x", "mine"), "until the next whole reading, whatever the store answered"
    await revocations.refresh(now=now + 7200)
    assert not revocations.is_revoked("x", "mine")


async def test_housekeeping_removes_all_that_expired_in_small_batches(world: World) -> None:
    seen = []
    remove = world.store.remove_expired

    async def counted(*, now: int, at_most: int) -> int:
        seen.append(at_most)
        return await remove(now=now, at_most=at_most)

    for number in range(1200):
        key = number.to_bytes(16)
        await world.store.claim(Namespace.DPOP_PROOF, key, until=world.clock.now + 1, now=world.clock.now)
    world.clock.now += 2
    world.store.remove_expired = counted  # type: ignore[method-assign]
    await world.server.housekeeping()
    assert seen == [500, 500, 500]
    assert await remove(now=world.clock.now, at_most=10) == 0

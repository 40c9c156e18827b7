"""Clients of the registry that are of a profile of SMART: who may have one, who waits, and what becomes of secrets."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from authz.protocol.clients import BindingKind, ProfileName
from authz.protocol.errors import OAuthError
from authz.registry_writing import RegistryError
from authz.settings import RegistrationSettings
from authz.storage.records import decode
from authz.storage.registrations import Registration, RegistrationStatus
from authz.storage.store import StoreUnavailable
from tests.support.authorization_server import Person, Reply, World, claims_of, open_world
from tests.support.jose import ABSENT, ec_key
from tests.support.registration import WHO, Newcomer, initial_access_token, metadata, send
from tests.support.smart import EVERY, P384, SmartApp, assertion_384, basic, jwk_384

OPEN = RegistrationSettings(enabled=True, automatic=True, profiles=EVERY, require_dpop=False)
UNBOUND: dict[str, Any] = {"dpop_bound_access_tokens": ABSENT}
PUBLIC = UNBOUND | {"token_endpoint_auth_method": "none", "jwks": ABSENT}
SECRET = UNBOUND | {"token_endpoint_auth_method": "client_secret_basic", "jwks": ABSENT}
KEYS = UNBOUND | {"jwks": {"keys": [jwk_384(P384, "p384")]}, "token_endpoint_auth_signing_alg": "ES384"}
_OF = {
    ProfileName.SMART_PUBLIC: PUBLIC,
    ProfileName.SMART_SYMMETRIC: SECRET,
    ProfileName.SMART_ASYMMETRIC: KEYS,
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, registration=OPEN, profiles=EVERY) as opened:
        yield opened


async def asked(world: World, **changes: Any) -> Reply:
    """The answer to a registration."""
    token = await initial_access_token(world)
    return await send(world, "POST", "/register", metadata(ec_key(), **changes), token=token)


class Registered(SmartApp):
    """The app that an answer to a registration made."""

    def __init__(self, world: World, told: dict[str, Any]) -> None:
        super().__init__(world, str(told["client_id"]))
        self.secret = told.get("client_secret")
        self.method = told["token_endpoint_auth_method"]

    def credentials(self) -> tuple[dict[str, str], list[tuple[str, str]]]:
        if self.secret is not None:
            return {}, [("authorization", basic(self.client_id, self.secret))]
        if self.method == "private_key_jwt":
            said = assertion_384(P384, self.client_id, kid="p384", now=self.world.clock.now)
            kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            return {"client_assertion_type": kind, "client_assertion": said}, []
        return {"client_id": self.client_id}, []


# What an application asks for by itself


@pytest.mark.parametrize("profile", _OF)
async def test_an_app_of_each_profile_registers_waits_and_launches_once_approved(
    world: World, profile: ProfileName
) -> None:
    told = await asked(world, **_OF[profile])
    assert told.status == 201, told.text
    assert told.json["registration_profile"] == profile
    assert told.json["registration_status"] == "pending"  # approval: automatic is not for these
    assert told.json["require_pushed_authorization_requests"] is False
    app = Registered(world, told.json)
    refused = await app.ask(Person(world))
    assert refused.status == 400
    await world.server.registry.approve(app.client_id, **WHO)
    answer = (await app.redeem(await app.launch(Person(world)))).json
    assert answer["token_type"] == "Bearer"
    assert (await app.read(answer["access_token"])).caller.client_id == app.client_id


@pytest.mark.parametrize("profile", _OF)
async def test_RFC9126_6_an_app_that_wants_to_push_only_is_held_to_it(
    world: World, profile: ProfileName
) -> None:
    told = await asked(world, **_OF[profile], require_pushed_authorization_requests=True)
    assert told.json["require_pushed_authorization_requests"] is True
    app = Registered(world, told.json)
    await world.server.registry.approve(app.client_id, **WHO)
    for reply in (await app.ask(Person(world)), await world.post("/authorize", app.asking())):
        assert reply.status == 400
        assert reply.header("location") is None
        assert 'id="error"' in reply.text
    pushed = await app.post("/par", app.asking())
    assert pushed.status == 201, pushed.text
    assert 'id="allow"' in (await Person(world).sign_in(pushed, app.client_id)).text


async def test_RFC9126_6_a_client_of_fapi2_pushes_whatever_it_says(world: World) -> None:
    told = await asked(world, require_pushed_authorization_requests=False)
    assert told.json["require_pushed_authorization_requests"] is True


async def test_a_client_of_fapi2_goes_on_registering_at_once_where_that_is_wanted(world: World) -> None:
    told = await asked(world)
    assert told.json["registration_profile"] == "fapi2"
    assert told.json["registration_status"] == "approved"
    assert told.json["require_pushed_authorization_requests"] is True


@pytest.mark.parametrize("profile", _OF)
async def test_a_profile_that_is_not_open_for_registration_is_not_given(
    world: World, profile: ProfileName
) -> None:
    for settings in (
        {"registration": replace(OPEN, profiles=frozenset({ProfileName.FAPI2})), "profiles": EVERY},
        {"registration": OPEN, "profiles": frozenset({ProfileName.FAPI2})},
    ):
        closed = await world.reopen(**settings)
        assert (await asked(closed, **_OF[profile])).refusal == (400, "invalid_client_metadata")
        assert await closed.server.registry.list_clients(RegistrationStatus.PENDING) == []


async def test_where_fapi2_is_not_open_either_the_answer_says_what_is(world: World) -> None:
    only = await world.reopen(
        registration=replace(OPEN, profiles=frozenset({ProfileName.SMART_PUBLIC})), profiles=EVERY
    )
    refused = await asked(only)
    assert refused.refusal == (400, "invalid_client_metadata")
    assert "open are: smart-public" in refused.json["error_description"]
    assert (await asked(only, **PUBLIC)).status == 201


@pytest.mark.parametrize("profile", _OF)
async def test_require_dpop_holds_every_registered_client_to_bound_tokens(
    world: World, profile: ProfileName
) -> None:
    strict = await world.reopen(registration=replace(OPEN, require_dpop=True), profiles=EVERY)
    assert (await asked(strict, **_OF[profile])).refusal == (400, "invalid_client_metadata")
    told = await asked(strict, **_OF[profile] | {"dpop_bound_access_tokens": True})
    assert told.status == 201, told.text
    app = Registered(strict, told.json)
    await strict.server.registry.approve(app.client_id, **WHO)
    assert strict.server.clients[app.client_id].binding is BindingKind.DPOP
    assert (await app.redeem(await app.launch(Person(strict)))).refusal == (400, "invalid_dpop_proof")
    answer = await app.redeem(await app.launch(Person(strict)), proof=True)
    assert answer.json["token_type"] == "DPoP"
    assert claims_of(answer.json["access_token"])["cnf"]


async def test_require_dpop_that_comes_later_ends_what_was_registered_without(world: World) -> None:
    app = Registered(world, (await asked(world, **PUBLIC)).json)
    await world.server.registry.approve(app.client_id, **WHO)
    token = (await app.redeem(await app.launch(Person(world)))).json["access_token"]
    strict = await world.reopen(registration=replace(OPEN, require_dpop=True), profiles=EVERY)
    with pytest.raises(OAuthError, match="any more"):
        await Registered(strict, {"client_id": app.client_id, "token_endpoint_auth_method": "none"}).read(
            token
        )
    assert app.client_id not in strict.server.clients
    assert "dpop_bound_access_tokens" in (await strict.server.registry.show(app.client_id)).problem


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (SECRET | {"grant_types": ["client_credentials"], "redirect_uris": ABSENT, "scope": "system/*.rs"}, "grant_types"),
        (PUBLIC | {"grant_types": ["client_credentials"], "redirect_uris": ABSENT, "scope": "system/*.rs"}, "grant_types"),
        (PUBLIC | {"token_endpoint_auth_signing_alg": "ES256"}, "leave it out"),
        (SECRET | {"token_endpoint_auth_method": "client_secret_post"}, "expected private_key_jwt"),
        (KEYS | {"token_endpoint_auth_signing_alg": "RS384"}, "no key is for signing with RS384"),
        (KEYS | {"token_endpoint_auth_signing_alg": "RS256"}, "expected ES256 or"),
        (PUBLIC | {"require_signed_request_object": True}, "keys of the client are needed"),
    ],
)  # fmt: skip
async def test_the_rules_of_its_profile_hold_for_every_member(
    world: World, changes: dict[str, Any], said: str
) -> None:
    refused = await asked(world, **changes)
    assert refused.refusal == (400, "invalid_client_metadata")
    assert said in refused.json["error_description"]


# Updates


async def test_an_update_never_changes_the_profile_and_waits_where_it_is_wider(world: World) -> None:
    told = (await asked(world, **PUBLIC)).json
    own = Newcomer(world, ec_key(), told)
    await world.server.registry.approve(own.client_id, **WHO)
    stronger = await own.update(metadata(own.key))
    assert stronger.refusal == (400, "invalid_client_metadata")
    wider = await own.update(metadata(own.key, **PUBLIC, redirect_uris=["https://new.example/cb"]))
    assert wider.json["registration_update"]["redirect_uris"] == ["https://new.example/cb"]
    assert wider.json["redirect_uris"] == told["redirect_uris"]
    fapi = Newcomer(world, ec_key(), (await asked(world)).json)
    assert (await fapi.update(metadata(fapi.key, **PUBLIC))).refusal == (400, "invalid_client_metadata")
    assert world.server.clients[fapi.client_id].profile is ProfileName.FAPI2


# Secrets


async def test_RFC7591_3_2_1_a_secret_is_made_here_told_once_and_kept_as_a_digest(world: World) -> None:
    told = await asked(world, **SECRET, client_secret="of-my-own-choice-" + "x" * 30)
    secret = told.json["client_secret"]
    assert len(secret) == 43
    assert told.json["client_secret_expires_at"] == 0
    own = Newcomer(world, ec_key(), told.json)
    assert "client_secret" not in (await own.read()).json
    kept = await world.store.registration(own.client_id, now=world.clock.now)
    assert secret not in repr(kept)
    assert "client_secret" not in (await asked(world, **PUBLIC)).json


async def test_RFC7592_2_2_a_secret_may_be_sent_back_and_never_be_chosen(world: World) -> None:
    told = (await asked(world, **SECRET)).json
    own = Newcomer(world, ec_key(), told)
    assert (await own.update(metadata(own.key, **SECRET, client_secret=told["client_secret"]))).status == 200
    for wrong in ("x" * 43, "", 5, None):
        document = metadata(own.key, **SECRET) | {"client_secret": wrong}
        assert (await own.update(document)).refusal == (400, "invalid_client_metadata")


async def test_a_new_secret_ends_the_old_one_and_no_grant(world: World) -> None:
    app = Registered(world, (await asked(world, **SECRET)).json)
    await world.server.registry.approve(app.client_id, **WHO)
    scope = "launch/patient patient/*.rs offline_access"
    refresh = (await app.redeem(await app.launch(Person(world), scope=scope))).json["refresh_token"]
    made = await world.server.registry.renew_secret(app.client_id, **WHO)
    assert (await app.refresh(refresh)).refusal == (401, "invalid_client")
    app.secret = made.client_secret
    assert (await app.refresh(refresh)).status == 200


async def test_an_old_secret_is_good_beside_the_new_one_for_as_long_as_was_said(world: World) -> None:
    app = Registered(world, (await asked(world, **SECRET)).json)
    registry = world.server.registry
    await registry.approve(app.client_id, **WHO)
    scope = "launch/patient patient/*.rs offline_access"
    refresh = (await app.redeem(await app.launch(Person(world), scope=scope))).json["refresh_token"]
    made = await registry.renew_secret(app.client_id, **WHO, old_for_seconds=600)
    first, second = app.secret, made.client_secret
    for secret in (first, second):
        app.secret = secret
        assert (await app.refresh(refresh)).status == 200
    world.clock.now += 599
    app.secret = first
    assert (await app.refresh(refresh)).status == 200
    world.clock.now += 1
    assert (await app.refresh(refresh)).refusal == (401, "invalid_client")
    app.secret = second
    assert (await app.refresh(refresh)).status == 200
    third = (await registry.renew_secret(app.client_id, **WHO, old_for_seconds=600)).client_secret
    for secret, status in ((first, 401), (second, 200), (third, 200)):
        app.secret = secret
        assert (await app.refresh(refresh)).status == status
    await registry.renew_secret(app.client_id, **WHO)
    for secret in (second, third):
        app.secret = secret
        assert (await app.refresh(refresh)).status == 401
    with pytest.raises(RegistryError, match="expected 0 to 2592000"):
        await registry.renew_secret(app.client_id, **WHO, old_for_seconds=2592001)


async def test_only_a_client_with_a_secret_gets_a_new_one(world: World) -> None:
    public = (await asked(world, **PUBLIC)).json["client_id"]
    with pytest.raises(RegistryError, match="no secret"):
        await world.server.registry.renew_secret(public, **WHO)
    gone = (await asked(world, **SECRET)).json["client_id"]
    await world.server.registry.delete(gone, **WHO)
    with pytest.raises(RegistryError, match="deleted"):
        await world.server.registry.renew_secret(gone, **WHO)


def test_a_client_that_was_registered_before_there_were_profiles_is_of_fapi2() -> None:
    old = b'{"client_id":"a","status":"approved","version":1,"metadata":{},"created_at":1,"changed_at":1}'
    read = decode(old, Registration)
    assert (read.profile, read.secret_digest) == (ProfileName.FAPI2, None)
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        decode(old.replace(b"{}", b'{},"profile":"fapi1"'), Registration)


# What an administrator decides


@pytest.mark.parametrize("profile", _OF)
async def test_an_administrator_names_any_profile_that_is_on(world: World, profile: ProfileName) -> None:
    closed = await world.reopen(
        registration=replace(OPEN, enabled=False, profiles=frozenset()), profiles=EVERY
    )
    document = metadata(ec_key(), **_OF[profile])
    made = await closed.server.registry.add(document, **WHO, approved=True, profile=profile)
    assert closed.server.clients[made.registration.client_id].profile is profile
    assert (made.client_secret is not None) is (profile is ProfileName.SMART_SYMMETRIC)
    with pytest.raises(OAuthError):
        await closed.server.registry.add(document, **WHO, approved=True)
    off = await world.reopen(profiles=frozenset({ProfileName.FAPI2}))
    with pytest.raises(OAuthError, match="not switched on"):
        await off.server.registry.add(document, **WHO, approved=True, profile=profile)
    assert "not switched on" in (await off.server.registry.show(made.registration.client_id)).problem
    assert made.registration.client_id not in off.server.clients


async def test_a_client_is_held_to_another_profile_whose_rules_it_keeps_and_its_grants_end(
    world: World,
) -> None:
    registry = world.server.registry
    made = await registry.add(
        metadata(ec_key(), **KEYS), **WHO, approved=True, profile=ProfileName.SMART_ASYMMETRIC
    )
    client_id = made.registration.client_id
    with pytest.raises(RegistryError, match="cannot be of fapi2"):
        await registry.change_profile(client_id, profile=ProfileName.FAPI2, **WHO)
    with pytest.raises(RegistryError, match="cannot be of smart-public"):
        await registry.change_profile(client_id, profile=ProfileName.SMART_PUBLIC, **WHO)
    strong = (await registry.add(metadata(ec_key()), **WHO, approved=True)).registration
    with pytest.raises(RegistryError, match="already"):
        await registry.change_profile(strong.client_id, profile=ProfileName.FAPI2, **WHO)
    with pytest.raises(RegistryError, match="look at it again"):
        await registry.change_profile(
            strong.client_id, profile=ProfileName.SMART_ASYMMETRIC, version=9, **WHO
        )
    await registry.change_profile(strong.client_id, profile=ProfileName.SMART_ASYMMETRIC, version=1, **WHO)
    assert world.server.clients[strong.client_id].profile is ProfileName.SMART_ASYMMETRIC
    assert [c.what for c in await registry.history(strong.client_id)] == ["registered", "profile-changed"]

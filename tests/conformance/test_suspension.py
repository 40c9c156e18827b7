"""A client that was suspended, rejected or deleted stops at once: at every door here, at the gateway, on every node."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from authz.protocol.errors import OAuthError
from authz.registry_writing import RegistryError
from authz.storage.registrations import RegistrationStatus
from tests.support.authorization_server import App, Person, World, open_world
from tests.support.registration import (
    AUTOMATIC,
    ENABLED,
    WHO,
    Newcomer,
    approved,
    initial_access_token,
    metadata,
    newcomer,
    registry_of,
    send,
)

INVALID_CLIENT = (400, "invalid_client")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, registration=ENABLED) as opened:
        yield opened


async def tokens(app: App) -> tuple[str, str]:
    """An access token and a refresh token."""
    issued = await app.redeem(await app.code())
    assert issued.status == 200, issued.text
    return issued.json["access_token"], issued.json["refresh_token"]


async def app_of(world: World, kind: str) -> App:
    """The software of a client of gateway.yaml, or of one that registered."""
    return world.app("portal") if kind == "configured" else (await approved(world)).app()


@pytest.mark.parametrize("kind", ["configured", "registered"])
async def test_I2_a_suspended_client_stops_at_every_door_at_once(world: World, kind: str) -> None:
    app = await app_of(world, kind)
    access, refresh = await tokens(app)
    code, pushed = await app.code(), await app.push()
    await app.read(access)
    await registry_of(world).suspend(app.client_id, **WHO)
    assert app.client_id not in world.server.clients
    assert (await app.push()).refusal == INVALID_CLIENT
    assert (await app.redeem(code)).refusal == INVALID_CLIENT
    assert (await app.refresh(refresh)).refusal == INVALID_CLIENT
    page = await Person(world).sign_in(pushed, app.client_id)
    assert page.status == 400
    assert 'id="error-description"' in page.text
    with pytest.raises(OAuthError, match="the client is suspended") as caught:
        await app.read(access)
    assert (caught.value.status, caught.value.code) == (401, "invalid_token")
    assert not await world.store.grants(subject=None, client_id=app.client_id, now=world.clock.now)
    other = world.app("portal-2")
    await other.read((await tokens(other))[0])  # nobody else is touched


async def test_a_person_at_the_consent_page_cannot_give_a_suspended_client_anything(world: World) -> None:
    person, app = Person(world), world.app("portal")
    page = await person.sign_in(await app.push())
    assert 'id="allow"' in page.text
    await registry_of(world).suspend("portal", **WHO)
    answer = await person.consent(page)
    assert answer.status == 400
    assert "not registered here any more" in answer.text
    assert not await world.store.grants(subject=None, client_id="portal", now=world.clock.now)


async def test_introspection_calls_the_tokens_of_a_suspended_client_inactive(world: World) -> None:
    access, refresh = await tokens(world.app("portal"))
    server = world.app("resource-server")
    assert (await server.post("/introspect", {"token": access})).json["active"]
    await registry_of(world).suspend("portal", **WHO)
    for token in (access, refresh):
        assert (await server.post("/introspect", {"token": token})).json == {"active": False}


async def test_another_node_knows_after_its_next_refresh(world: World) -> None:
    app = await app_of(world, "registered")
    access, _ = await tokens(app)
    second = await world.reopen(registration=ENABLED)
    await second.authenticate(app.reading(access))
    await registry_of(world).suspend(app.client_id, **WHO)
    await second.server.refresh()
    assert app.client_id not in second.server.clients
    with pytest.raises(OAuthError, match="the client is suspended"):
        await second.authenticate(app.reading(access))


async def test_a_node_that_has_not_refreshed_for_long_asks_the_store_first(world: World) -> None:
    app = world.app("portal")
    access, _ = await tokens(app)
    second = await world.reopen(registration=ENABLED)
    await registry_of(world).suspend("portal", **WHO)
    world.clock.now += 6
    with pytest.raises(OAuthError, match="the client is suspended"):
        await second.authenticate(app.reading(access))


async def test_no_door_of_a_node_that_has_not_refreshed_for_long_serves_a_suspended_client(
    world: World,
) -> None:
    second = await world.reopen(registration=ENABLED)
    await registry_of(world).suspend("portal", **WHO)
    assert "portal" in second.server.clients  # not told yet
    world.clock.now += 6
    refusal = (await second.app("portal").push()).refusal
    assert refusal[1] == "invalid_client"


async def test_a_restart_does_not_forget(world: World) -> None:
    await registry_of(world).suspend("portal", **WHO)
    own = await approved(world)
    again = await world.reopen(registration=ENABLED)
    assert "portal" not in again.server.clients
    assert again.server.clients[own.client_id] == world.server.clients[own.client_id]


@pytest.mark.parametrize("kind", ["configured", "registered"])
async def test_reactivation_does_not_revive_old_tokens(world: World, kind: str) -> None:
    app = await app_of(world, kind)
    access, refresh = await tokens(app)
    code = await app.code()
    await registry_of(world).suspend(app.client_id, **WHO)
    await registry_of(world).reactivate(app.client_id, **WHO)
    with pytest.raises(OAuthError, match="revoked"):
        await app.read(access)
    assert (await app.refresh(refresh)).refusal == (400, "invalid_grant")
    assert (await app.redeem(code)).refusal == (400, "invalid_grant")
    await app.read((await tokens(app))[0])


async def test_what_a_node_issued_before_it_knew_ends_at_reactivation(world: World) -> None:
    app = world.app("portal")
    second = await world.reopen(registration=ENABLED)
    slow = App(second, "portal")
    await registry_of(world).suspend("portal", **WHO)
    access, refresh = await tokens(slow)  # the other node has not learnt of it yet
    with pytest.raises(OAuthError, match="the client is suspended"):
        await app.read(access)
    await registry_of(world).reactivate("portal", **WHO)
    await world.server.refresh()
    with pytest.raises(OAuthError, match="revoked"):
        await world.authenticate(slow.reading(access))
    assert (await app.refresh(refresh)).refusal == (400, "invalid_grant")


async def test_SEC26_a_suspended_client_cannot_come_back_by_its_registration_token(tmp_path: Path) -> None:
    async with open_world(tmp_path, registration=AUTOMATIC) as world:
        own = await newcomer(world)
        await registry_of(world).suspend(own.client_id, **WHO)
        assert (await own.update(metadata(own.key))).refusal == (403, "access_denied")
        assert (await own.delete()).refusal == (403, "access_denied")
        assert (await own.read()).json["registration_status"] == "suspended"
        assert own.client_id not in world.server.clients


async def test_an_update_read_before_a_suspension_is_not_written_after_it(world: World) -> None:
    own, registry = await approved(world), registry_of(world)
    seen = await registry.authenticate(own.client_id, own.token)
    await registry.suspend(own.client_id, **WHO)
    with pytest.raises(OAuthError, match="changed meanwhile"):
        await registry.update(seen, metadata(own.key, client_name="Another name"))
    assert (await registry.show(own.client_id)).status is RegistrationStatus.SUSPENDED


async def test_a_deleted_client_is_refused_like_a_suspended_one(world: World) -> None:
    own = await approved(world)
    app = own.app()
    access, _ = await tokens(app)
    await registry_of(world).delete(own.client_id, **WHO)
    with pytest.raises(OAuthError, match="the client is suspended"):
        await app.read(access)
    assert (await app.push()).refusal == INVALID_CLIENT


async def test_a_token_of_a_client_that_nobody_knows_is_not_refused_for_that(world: World) -> None:
    app = world.app("portal")
    access, _ = await tokens(app)
    again = await world.reopen(clients={}, registration=ENABLED)
    assert (await again.authenticate(app.reading(access))).caller.client_id == "portal"


async def test_tombstones_go_and_leave_memory(world: World) -> None:
    own = await approved(world)
    await registry_of(world).delete(own.client_id, **WHO)
    world.clock.now += 31 * 86400
    await world.store.remove_expired(now=world.clock.now, at_most=1000)
    await world.server.refresh()
    assert not world.server.clients.is_suspended(own.client_id)
    assert own.client_id not in world.server.clients
    assert len(await registry_of(world).history(own.client_id)) == 3


# What the registry refuses


async def test_operations_out_of_place_are_refused_and_say_why(world: World) -> None:
    registry = registry_of(world)
    waiting, own = await newcomer(world), await approved(world)
    with pytest.raises(RegistryError, match="which is pending: only an approved client can be suspended"):
        await registry.suspend(waiting.client_id, **WHO)
    with pytest.raises(RegistryError, match="which is approved: nothing waits for approval"):
        await registry.approve(own.client_id, **WHO)
    with pytest.raises(RegistryError, match="nothing waits for approval"):
        await registry.reject(own.client_id, **WHO)
    with pytest.raises(RegistryError, match="only a suspended client"):
        await registry.reactivate(own.client_id, **WHO)
    with pytest.raises(RegistryError, match=r"of gateway\.yaml, which is in force as it is"):
        await registry.approve("portal", **WHO)
    await registry.suspend("portal", **WHO)
    with pytest.raises(RegistryError, match="suspend it, or take it out of the file"):
        await registry.delete("portal", **WHO)
    with pytest.raises(RegistryError, match="manages no registration of its own"):
        await registry.renew_registration_token("portal", **WHO)
    await registry.delete(own.client_id, **WHO)
    for late in (registry.approve, registry.suspend, registry.reactivate, registry.delete):
        with pytest.raises(RegistryError, match="which is deleted"):
            await late(own.client_id, **WHO)
    for operation in (registry.show, registry.history):
        with pytest.raises(RegistryError, match="there is no client 'nobody'"):
            await operation("nobody")


async def test_what_is_not_acceptable_any_more_cannot_be_approved_nor_be_in_force(world: World) -> None:
    waiting = await newcomer(
        world, dpop_bound_access_tokens=False, tls_client_certificate_bound_access_tokens=True
    )
    own = await approved(
        world, dpop_bound_access_tokens=False, tls_client_certificate_bound_access_tokens=True
    )
    again = await world.reopen(registration=ENABLED, mtls_origin=None)
    with pytest.raises(RegistryError, match="this server sees no client certificates"):
        await registry_of(again).approve(waiting.client_id, **WHO)
    assert own.client_id not in again.server.clients
    assert "sees no client certificates" in (await registry_of(again).show(own.client_id)).problem


async def test_operators_see_every_client_with_its_status(world: World) -> None:
    registry = registry_of(world)
    waiting = await newcomer(world)
    await registry.suspend("lab", **WHO)
    listed = {client.client_id: client for client in await registry.list_clients()}
    assert set(listed) == {*world.clients, waiting.client_id}
    assert listed[waiting.client_id].status is RegistrationStatus.PENDING
    assert (listed["lab"].status, listed["lab"].configured) == (RegistrationStatus.SUSPENDED, True)
    assert (listed["portal"].status, listed["portal"].version) == (RegistrationStatus.APPROVED, 0)
    pending = await registry.list_clients(RegistrationStatus.PENDING)
    assert [client.client_id for client in pending] == [waiting.client_id]
    assert (await registry.show("lab")).client == world.clients["lab"]
    assert [row.what for row in await registry.history("lab")] == ["suspended"]


async def test_an_operator_registers_for_somebody_and_sets_the_most(world: World) -> None:
    own = await approved(world)
    document = metadata(own.key, grant_types=["client_credentials"], redirect_uris=None, scope="system/*.rs")
    made = await registry_of(world).add(document, **WHO, approved=True)
    assert world.server.clients[made.registration.client_id].scope == ("system/*.rs",)
    app = Newcomer(world, own.key, {"client_id": made.registration.client_id,
                                    "registration_access_token": made.access_token})  # fmt: skip
    assert (await app.update(document | {"scope": "system/*.cruds"})).refusal == (
        400,
        "invalid_client_metadata",
    )


async def test_a_renewed_registration_token_ends_the_old_one(world: World) -> None:
    own = await newcomer(world)
    renewed = await registry_of(world).renew_registration_token(own.client_id, **WHO)
    assert (await own.read()).status == 401
    own.token = renewed.access_token
    assert (await own.read()).status == 200


async def test_a_withdrawn_initial_access_token_lets_nobody_in(world: World) -> None:
    registry = registry_of(world)
    token = await initial_access_token(world)
    (record,) = await registry.initial_access_tokens()
    await registry.withdraw_initial_access_token(record.id, **WHO)
    assert (await send(world, "POST", "/register", metadata(world.app().dpop_key), token=token)).status == 401
    with pytest.raises(RegistryError, match="there is no initial access token"):
        await registry.withdraw_initial_access_token(record.id, **WHO)


@pytest.mark.parametrize(
    "wrong",
    [
        {"uses": 0},
        {"uses": 1001},
        {"lifetime_seconds": 0},
        {"scope": "nonsense"},
        {"scope": ""},
        {"scope": "ü"},
    ],
)
async def test_an_initial_access_token_has_bounds(world: World, wrong: dict[str, object]) -> None:
    with pytest.raises(RegistryError):
        await initial_access_token(world, **wrong)

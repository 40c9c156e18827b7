"""Dynamic registration by clause: RFC 7591, RFC 7592, I3, M5."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from authz.events import ClientChanged
from authz.storage.registrations import RegistrationStatus
from tests.support.authorization_server import ANNA, ISSUER, NOW, World, open_world
from tests.support.jose import ABSENT, ec_key, make_jws, public_jwk, rsa_key
from tests.support.registration import (
    AUTOMATIC,
    ENABLED,
    STATEMENT_KEY,
    STATEMENTS,
    WHO,
    Newcomer,
    approved,
    initial_access_token,
    metadata,
    newcomer,
    registry_of,
    send,
    statement,
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, registration=ENABLED) as opened:
        yield opened


@pytest.fixture
async def automatic(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, registration=AUTOMATIC) as opened:
        yield opened


# M5: there is a door when it is opened, and none else


async def test_M5_registration_endpoint_is_told_when_registration_is_enabled(world: World) -> None:
    for path in ("oauth-authorization-server", "openid-configuration", "smart-configuration"):
        told = await world.get(f"/.well-known/{path}")
        assert told.json["registration_endpoint"] == f"{ISSUER}/register"


async def test_M5_without_it_nothing_is_told_and_there_is_no_door(tmp_path: Path) -> None:
    async with open_world(tmp_path) as closed:
        assert "registration_endpoint" not in (await closed.get("/.well-known/openid-configuration")).json
        assert not closed.server.serves("/register")
        assert not closed.server.serves("/register/abc")


async def test_T5_other_methods_are_405(world: World) -> None:
    assert (await send(world, "GET", "/register")).status == 405
    assert (await send(world, "POST", "/register/abc")).status == 405


# RFC 7591 3: registration


async def test_RFC7591_3_2_1_an_answer_has_all_that_was_registered(world: World) -> None:
    key = ec_key()
    given = metadata(key, contacts=["ops@portal.example"], unknown=1, introspection="all")
    told = await send(world, "POST", "/register", given, token=await initial_access_token(world))
    assert told.status == 201
    assert told.header("cache-control") == "no-store"
    value = told.json
    del given["unknown"], given["introspection"]
    assert {name: value[name] for name in given} == given
    assert value["client_id_issued_at"] == NOW
    assert value["registration_status"] == "pending"
    assert value["registration_client_uri"] == f"{ISSUER}/register/{value['client_id']}"
    assert len(value["registration_access_token"]) == 43
    assert "client_secret" not in value
    assert "unknown" not in value
    assert "introspection" not in value


async def test_I3_registration_needs_an_initial_access_token_or_a_software_statement(world: World) -> None:
    for token in (None, "wrong", "x" * 43):
        reply = await send(world, "POST", "/register", metadata(ec_key()), token=token)
        assert reply.refusal == (401, "invalid_token")
        # RFC 6750 3.1: who showed nothing is told how to, and no error.
        assert reply.header("www-authenticate") == (
            "Bearer" if token is None else 'Bearer error="invalid_token"'
        )
    assert await registry_of(world).list_clients(RegistrationStatus.PENDING) == []


async def test_I3_an_initial_access_token_is_good_for_so_many_uses_and_so_long(world: World) -> None:
    token = await initial_access_token(world, uses=2, lifetime_seconds=600)
    for _ in range(2):
        assert (await send(world, "POST", "/register", metadata(ec_key()), token=token)).status == 201
    reply = await send(world, "POST", "/register", metadata(ec_key()), token=token)
    assert reply.refusal == (401, "invalid_token")
    late = await initial_access_token(world, lifetime_seconds=600)
    world.clock.now += 600
    assert (await send(world, "POST", "/register", metadata(ec_key()), token=late)).status == 401


async def test_I3_a_refused_document_does_not_cost_a_use(world: World) -> None:
    token = await initial_access_token(world)
    wrong = metadata(ec_key(), scope="nonsense")
    assert (await send(world, "POST", "/register", wrong, token=token)).refusal == (
        400,
        "invalid_client_metadata",
    )
    assert (await send(world, "POST", "/register", metadata(ec_key()), token=token)).status == 201


async def test_I3_the_scope_of_an_initial_access_token_is_the_most(world: World) -> None:
    token = await initial_access_token(world, scope="openid patient/Observation.rs", uses=5)
    for scope, status in (("openid patient/*.rs", 400), ("openid patient/Observation.r", 201)):
        reply = await send(world, "POST", "/register", metadata(ec_key(), scope=scope), token=token)
        assert reply.status == status
    own = Newcomer(world, ec_key(), reply.json)
    wider = await own.update(metadata(ec_key(), scope="openid patient/*.rs"))
    assert wider.refusal == (400, "invalid_client_metadata")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"redirect_uris": ["http://portal.example/"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://portal.example/#a"]}, "invalid_redirect_uri"),
        ({"token_endpoint_auth_method": "client_secret_basic"}, "invalid_client_metadata"),
        ({"logo_uri": "javascript:alert(1)"}, "invalid_client_metadata"),
        ({"software_statement": 5}, "invalid_software_statement"),
        ({"software_statement": "a.b.c"}, "invalid_software_statement"),
    ],
)
async def test_RFC7591_3_2_2_errors_are_400_with_their_code(
    world: World, changes: dict[str, Any], code: str
) -> None:
    token = await initial_access_token(world)
    reply = await send(world, "POST", "/register", metadata(ec_key(), **changes), token=token)
    assert reply.refusal == (400, code)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"a"', b'{"a":1,"a":2}', b"\xff", b"[" * 100])
async def test_a_body_that_is_no_document_is_refused(world: World, body: bytes) -> None:
    token = await initial_access_token(world)
    reply = await send(world, "POST", "/register", body, token=token)
    assert reply.refusal == (400, "invalid_client_metadata")


async def test_a_form_is_no_document_and_a_long_one_is_413(world: World) -> None:
    token = await initial_access_token(world)
    form = await send(
        world, "POST", "/register", b"a=b", token=token, content_type="application/x-www-form-urlencoded"
    )
    assert form.refusal == (400, "invalid_client_metadata")
    assert (await send(world, "POST", "/register", b" " * 70_000, token=token)).status == 413


# RFC 7591 2.3, 3.1.1: software statements


async def test_RFC7591_3_1_1_a_statement_lets_in_and_overrides(world: World) -> None:
    said = statement(client_name="Vetted name", scope="openid patient/Observation.rs")
    told = await send(
        world, "POST", "/register", metadata(ec_key(), client_name="Mine", software_statement=said)
    )
    assert told.status == 201
    assert told.json["client_name"] == "Vetted name"
    assert told.json["scope"] == "openid patient/Observation.rs"
    assert told.json["software_id"] == "s-1"
    assert told.json["software_statement"] == said
    own = Newcomer(world, ec_key(), told.json)
    updated = await own.update(metadata(ec_key(), client_name="Mine"))
    assert updated.json["client_name"] == "Vetted name"  # a later update does not shake it off


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (statement(iss="https://other.example"), "unapproved_software_statement"),
        (statement(iss=ABSENT), "unapproved_software_statement"),
        (statement(iss=STATEMENTS + "/"), "unapproved_software_statement"),
        (statement(ec_key()), "invalid_software_statement"),
        (statement(exp=NOW), "invalid_software_statement"),
        (statement(exp="soon"), "invalid_software_statement"),
        (statement(nbf=NOW + 61), "invalid_software_statement"),
        (statement(iat=NOW + 61), "invalid_software_statement"),
        (statement(aud="https://other.example"), "invalid_software_statement"),
        (statement(header={"alg": "none"}), "invalid_software_statement"),
        (statement(rsa_key(), header={"alg": "RS256", "kid": "d1"}), "invalid_software_statement"),
        (statement(header={"alg": "ES256", "kid": "d1", "typ": "at+jwt"}), "invalid_software_statement"),
        (
            statement(ec_key(), header={"alg": "ES256", "jku": "https://x.example"}),
            "invalid_software_statement",
        ),
        (statement() + "A", "invalid_software_statement"),
        (make_jws(STATEMENT_KEY, {"alg": "ES256"}, b"[]"), "invalid_software_statement"),
        (statement(redirect_uris=["http://x.example/"]), "invalid_redirect_uri"),
    ],
)
async def test_RFC7591_3_2_2_a_statement_that_is_not_acceptable(world: World, made: str, code: str) -> None:
    token = await initial_access_token(world)
    for shown in (None, token):
        document = metadata(ec_key(), software_statement=made)
        assert (await send(world, "POST", "/register", document, token=shown)).refusal == (400, code)


async def test_RFC7591_2_3_a_statement_for_this_server_without_end_is_accepted(world: World) -> None:
    for said in (
        statement(aud=[ISSUER, "x"]),
        statement(exp=ABSENT),
        statement(header={"alg": "ES256", "typ": "JWT"}),
    ):
        told = await send(world, "POST", "/register", metadata(ec_key(), software_statement=said))
        assert told.status == 201


async def test_system_scopes_need_somebody_who_allows_them(world: World) -> None:
    backend = metadata(
        ec_key(), grant_types=["client_credentials"], redirect_uris=ABSENT, scope="system/Observation.rs"
    )
    plain = await send(world, "POST", "/register", backend, token=await initial_access_token(world))
    assert plain.refusal == (400, "invalid_client_metadata")
    allowed = await initial_access_token(world, scope="system/Observation.rs")
    assert (await send(world, "POST", "/register", backend, token=allowed)).status == 201
    said = {**backend, "software_statement": statement(scope="system/Observation.rs")}
    assert (await send(world, "POST", "/register", said)).status == 201


# The vetting queue


async def test_a_pending_client_can_do_nothing_else(world: World) -> None:
    waiting = await newcomer(world)
    with pytest.raises(KeyError):
        waiting.app()
    assert waiting.client_id not in world.server.clients
    assert (await waiting.read()).json["registration_status"] == "pending"


async def test_an_approved_client_goes_the_whole_way(world: World) -> None:
    app = (await approved(world)).app()
    issued = await app.redeem(await app.code(subject=ANNA.subject))
    assert issued.status == 200, issued.text
    assert (await app.read(issued.json["access_token"])).caller.client_id == app.client_id
    assert (await app.refresh(issued.json["refresh_token"])).status == 200


async def test_a_client_that_registered_an_algorithm_is_held_to_it(world: World) -> None:
    key = rsa_key()
    document = {"jwks": {"keys": [public_jwk(key, kid="r"), public_jwk(ec_key(), kid="e")]},
                "token_endpoint_auth_signing_alg": "ES256"}  # fmt: skip
    app = (await approved(world, **document)).app()
    app.world.private = {**app.world.private, app.client_id: key}
    assert (await app.push()).refusal == (400, "invalid_client")


async def test_with_automatic_approval_a_client_is_in_force_at_once(automatic: World) -> None:
    own = await newcomer(automatic)
    assert (await own.read()).json["registration_status"] == "approved"
    assert (await own.app().push()).status == 201


async def test_a_rejected_client_reads_what_became_of_it_and_changes_nothing(world: World) -> None:
    own = await newcomer(world)
    await registry_of(world).reject(own.client_id, **WHO)
    assert (await own.read()).json["registration_status"] == "rejected"
    assert (await own.update(metadata(own.key))).refusal == (403, "access_denied")
    assert (await own.delete()).refusal == (403, "access_denied")
    assert own.client_id not in world.server.clients


# RFC 7592: managing a registration


async def test_RFC7592_2_1_reading_tells_what_is_registered(world: World) -> None:
    own = await newcomer(world)
    reply = await own.read()
    assert reply.status == 200
    assert reply.header("cache-control") == "no-store"
    assert reply.json["client_id"] == own.client_id


async def test_RFC7592_3_every_answer_has_the_address_and_the_token_to_come_back_with(world: World) -> None:
    own = await newcomer(world)
    told = (await own.read()).json
    assert (told["registration_client_uri"], told["registration_access_token"]) == (
        ISSUER + own.path,
        own.token,
    )
    again = await own.update(
        metadata(own.key) | {"client_id": own.client_id, "contacts": ["a@portal.example"]}
    )
    assert (again.status, again.json["contacts"]) == (200, ["a@portal.example"])
    assert again.json["registration_client_uri"] == ISSUER + own.path
    assert again.json["registration_access_token"] == own.token
    assert (await own.read()).json == again.json


async def test_I3_a_wrong_registration_token_is_401(world: World) -> None:
    own, other = await newcomer(world), await newcomer(world)
    for token in (None, "wrong", other.token, await initial_access_token(world)):
        for method, document in (("GET", None), ("PUT", metadata(own.key)), ("DELETE", None)):
            reply = await send(world, method, own.path, document, token=token)
            assert reply.refusal == (401, "invalid_token")
    for path in ("/register/portal", "/register/unknown", "/register/"):
        assert (await send(world, "GET", path, token=own.token)).refusal == (401, "invalid_token")
    assert (await own.read()).status == 200


async def test_RFC7592_2_3_deleting_is_204_and_then_401(world: World) -> None:
    own = await approved(world)
    app = own.app()
    issued = await app.redeem(await app.code())
    assert (await own.delete()).status == 204
    assert (await own.read()).refusal == (401, "invalid_token")
    assert (await own.delete()).refusal == (401, "invalid_token")
    assert (await app.refresh(issued.json["refresh_token"])).refusal == (400, "invalid_client")
    history = await registry_of(world).history(own.client_id)
    assert [(row.what, row.who) for row in history][-1] == ("deleted", "client")


async def test_RFC7592_2_2_the_document_names_its_client_and_nothing_of_ours(world: World) -> None:
    own = await newcomer(world)
    for changes in (
        {"client_id": "portal"},
        {"client_id": None},
        {"registration_access_token": own.token},
        {"registration_client_uri": own.path},
        {"client_id_issued_at": NOW},
        {"client_secret_expires_at": 0},
        {"client_secret": "s"},
    ):
        assert (await own.update(metadata(own.key) | changes)).refusal == (400, "invalid_client_metadata")


async def test_I3_the_whole_resulting_document_is_judged_at_an_update(world: World) -> None:
    own = await approved(world)
    partial = {"client_name": "New portal"}
    assert (await own.update(partial)).refusal == (400, "invalid_client_metadata")
    wrong = metadata(own.key, redirect_uris=["https://x.example/", "http://y.example/"])
    assert (await own.update(wrong)).refusal == (400, "invalid_redirect_uri")
    assert (await own.read()).json["redirect_uris"] == metadata(own.key)["redirect_uris"]


async def test_RFC7592_2_2_what_is_left_out_is_gone(world: World) -> None:
    own = await newcomer(world, contacts=["a@x.example"], tos_uri="https://x.example/tos")
    assert (await own.update(metadata(own.key, tos_uri=None))).status == 200
    told = (await own.read()).json
    assert "contacts" not in told
    assert "tos_uri" not in told


async def test_an_update_that_asks_for_more_waits_while_the_vetted_one_stays_in_force(world: World) -> None:
    own = await approved(world)
    more = metadata(own.key, redirect_uris=["https://new.example/callback"])
    reply = await own.update(more)
    assert reply.status == 200
    assert reply.json["registration_status"] == "approved"
    assert reply.json["redirect_uris"] == metadata(own.key)["redirect_uris"]
    assert reply.json["registration_update"]["redirect_uris"] == more["redirect_uris"]
    assert (await own.app().push()).status == 201
    assert (await own.app().push(redirect_uri="https://new.example/callback")).refusal == (
        400,
        "invalid_request",
    )
    await registry_of(world).approve(own.client_id, **WHO)
    assert (await own.app().push(redirect_uri="https://new.example/callback")).status == 201
    assert "registration_update" not in (await own.read()).json


async def test_a_rejected_update_is_dropped_and_the_client_goes_on(world: World) -> None:
    own = await approved(world)
    await own.update(metadata(own.key, client_name="Example Hospital"))
    await registry_of(world).reject(own.client_id, **WHO)
    told = (await own.read()).json
    assert (told["registration_status"], told["client_name"]) == ("approved", "New portal")
    assert "registration_update" not in told


async def test_new_keys_by_value_are_in_force_at_once(world: World) -> None:
    own = await approved(world)
    old, own.key = own.app(), ec_key()
    assert (await old.push()).status == 201
    assert "registration_update" not in (await own.update(metadata(own.key))).json
    assert (await own.app().push()).status == 201
    own.key = world.private["portal"]
    assert (await own.app().push()).refusal == (400, "invalid_client")


async def test_an_approval_is_of_the_version_that_was_looked_at(world: World) -> None:
    own = await newcomer(world)
    registry = registry_of(world)
    seen = (await registry.show(own.client_id)).version
    await own.update(metadata(own.key, client_name="Something else"))
    with pytest.raises(Exception, match="has version 2 now, not 1: look at it again"):
        await registry.approve(own.client_id, **WHO, version=seen)
    assert own.client_id not in world.server.clients


async def test_what_happens_to_clients_is_told_with_who_and_why(world: World) -> None:
    own = await approved(world)
    changed = [event for event in world.events if isinstance(event, ClientChanged)]
    assert [event.what for event in changed] == ["token-made", "registered", "approved"]
    assert changed[1].who.startswith("initial access token ")
    assert changed[1].who.endswith(" of alice")
    assert changed[2] == ClientChanged(own.client_id, "approved", "alice", WHO["why"], "approved", 0)
    history = await registry_of(world).history(own.client_id)
    assert [(row.what, row.version) for row in history] == [("registered", 1), ("approved", 2)]
    assert own.token not in repr(world.events)


async def test_secrets_rest_as_digests(world: World, tmp_path: Path) -> None:
    token = await initial_access_token(world)
    own = await newcomer(world)
    await world.store.close()
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert own.client_id.encode() in content
    assert own.token.encode() not in content
    assert token.encode() not in content

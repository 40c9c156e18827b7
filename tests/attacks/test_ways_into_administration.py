"""Ways into the administration that must not be there."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from authz.events import Refused
from authz.protocol.errors import OAuthError
from tests.support.administration import ADMIN, SCOPE, Administrator, administered_world, metadata
from tests.support.authorization_server import ANNA, REDIRECT_URI, World, http_request
from tests.support.jose import ec_key


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with administered_world(tmp_path) as world:
        yield world


async def test_without_a_token_nothing_is_told(world: World) -> None:
    for method, path in (
        ("GET", "/admin/clients"),
        ("DELETE", "/admin/grants"),
        ("POST", "/admin/clients/x/approve"),
    ):
        reply = await world.send(http_request(method, path))
        assert reply.status == 401
        assert (reply.header("www-authenticate") or "").startswith("DPoP ")


async def test_a_token_without_its_proof_is_401(world: World) -> None:
    admin = await Administrator.of(world)
    for scheme in ("DPoP", "Bearer"):
        headers = [("authorization", f"{scheme} {admin.token}")]
        assert (await world.send(http_request("GET", "/admin/clients", headers=headers))).status == 401


async def test_a_proof_is_good_once_and_for_one_door(world: World) -> None:
    admin = await Administrator.of(world)
    proof = admin.proof("GET", "/admin/clients")
    assert (await admin.call("GET", "/clients", proof=proof)).status == 200
    assert (await admin.call("GET", "/clients", proof=proof)).status == 401
    other = admin.proof("GET", "/admin/clients")
    assert (await admin.call("POST", "/clients/portal/suspend", {"why": "x"}, proof=other)).status == 401
    stolen = admin.proof("GET", "/admin/clients", key=ec_key())
    assert (await admin.call("GET", "/clients", proof=stolen)).status == 401


async def test_a_token_of_a_patient_opens_nothing(world: World) -> None:
    portal = world.app("portal")
    token = (await portal.redeem(await portal.code())).json["access_token"]
    reply = await Administrator(portal, token).call("GET", "/grants", query={"subject": ANNA.subject})
    assert (reply.status, reply.json["error"]) == (401, "invalid_token")


async def test_a_token_for_records_opens_nothing_though_its_client_may_administer(world: World) -> None:
    mixed = await Administrator.of(world, "mixed", scope="system/Patient.r")
    reply = await mixed.call("GET", "/clients")
    assert (reply.status, reply.json["error"]) == (401, "invalid_token")


async def test_a_token_for_administration_opens_no_record_no_grant_and_no_person(world: World) -> None:
    admin = await Administrator.of(world)
    for path in ("/userinfo", "/grants/some"):
        reply = await world.send(admin.app.reading(admin.token, path))
        assert (reply.status, reply.json["error"]) == (401, "invalid_token")
    with pytest.raises(OAuthError, match="another resource"):
        await admin.app.read(admin.token)


async def test_a_client_that_is_not_registered_for_it_gets_no_token(world: World) -> None:
    for resource in ({}, {"resource": ADMIN}):
        reply = await world.app("lab").own_token(scope=SCOPE, **resource)
        assert reply.refusal == (400, "invalid_scope")


async def test_no_person_can_grant_it(world: World) -> None:
    for scope in (SCOPE, f"openid {SCOPE}"):
        portal = replace(world.clients["portal"], scope=(*world.clients["portal"].scope, SCOPE))
        changed = await world.reopen(clients=world.clients | {"portal": portal})
        reply = await changed.app("portal").push(scope=scope, redirect_uri=REDIRECT_URI)
        assert reply.refusal == (400, "invalid_scope")


async def test_no_registration_brings_it(world: World) -> None:
    admin = await Administrator.of(world)
    own = metadata(scope=SCOPE, grant_types=["client_credentials"], redirect_uris=[])
    del own["redirect_uris"]
    for approved in (False, True):
        reply = await admin.call("POST", "/clients", {"metadata": own, "why": "x", "approved": approved})
        assert reply.refusal == (400, "invalid_client_metadata")
        assert "no registration brings it" in reply.json["error_description"]
    listed = await admin.call("GET", "/clients", query={"status": "pending"})
    assert listed.json["clients"] == []


async def test_what_is_taken_from_the_registration_ends_with_the_next_call(world: World) -> None:
    admin = await Administrator.of(world)
    operations = replace(world.clients["operations"], scope=("system/Patient.r",))
    for clients in (world.clients | {"operations": operations}, dict(world.clients)):
        if clients["operations"] is not operations:
            del clients["operations"]
        admin.app.world = await world.reopen(clients=clients)
        reply = await admin.call("GET", "/clients")
        assert (reply.status, reply.json["error"], reply.json["scope"]) == (403, "insufficient_scope", SCOPE)
        assert 'error="insufficient_scope"' in (reply.header("www-authenticate") or "")
    assert [e.code for e in world.events if isinstance(e, Refused)][-1] == "insufficient_scope"


async def test_a_suspended_administrator_is_out_at_once(world: World) -> None:
    admin, other = await Administrator.of(world), await Administrator.of(world, "mixed")
    assert (await other.call("POST", "/clients/operations/suspend", {"why": "left"})).status == 200
    assert (await admin.call("GET", "/clients")).status == 401


async def test_the_administration_is_not_for_pages_of_other_origins(world: World) -> None:
    assert (await world.send(http_request("OPTIONS", "/admin/clients"))).status == 405

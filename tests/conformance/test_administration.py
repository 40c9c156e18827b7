"""The administration over HTTP: clients, their histories, initial access tokens, grants."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from authz.events import ClientChanged, GrantRevoked
from authz.protocol.clients import ProfileName
from authz.protocol.errors import OAuthError
from authz.protocol.request import HttpRequest
from tests.support.administration import ADMIN, SCOPE, Administrator, administered_world, metadata
from tests.support.authorization_server import ANNA, World, claims_of, http_request

WHY = "asked for by ticket 12"


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with administered_world(tmp_path) as world:
        yield world


@pytest_asyncio.fixture
async def admin(world: World) -> Administrator:
    return await Administrator.of(world)


async def registered(admin: Administrator, *, approved: bool = False, **changes: object) -> dict[str, object]:
    body = {"metadata": metadata(**changes), "why": WHY, "approved": approved}
    reply = await admin.call("POST", "/clients", body)
    assert reply.status == 201, reply.text
    return reply.json


async def test_a_token_for_administration_is_for_nothing_else(admin: Administrator) -> None:
    claims = claims_of(admin.token)
    assert (claims["aud"], claims["scope"], claims["sub"]) == (ADMIN, SCOPE, "operations")


async def test_RFC8707_the_administration_may_be_named_and_no_other_resource(world: World) -> None:
    app = world.app("operations")
    assert (await app.own_token(scope=SCOPE, resource=ADMIN)).status == 200
    assert (await app.own_token(resource=ADMIN)).status == 200
    other = await app.own_token(scope=SCOPE, resource="https://as.example/fhir/r4")
    assert other.refusal == (400, "invalid_target")
    mixed = world.app("mixed")
    assert (await mixed.own_token(scope=f"{SCOPE} system/Patient.r")).refusal == (400, "invalid_scope")
    assert (await mixed.own_token(scope="system/Patient.r", resource=ADMIN)).refusal == (
        400,
        "invalid_target",
    )
    clinical = await mixed.own_token(scope="system/Patient.r")
    assert ADMIN not in claims_of(clinical.json["access_token"])["aud"]


async def test_clients_are_listed_by_status_and_shown(admin: Administrator) -> None:
    made = await registered(admin)
    everybody = (await admin.call("GET", "/clients")).json["clients"]
    assert {"portal", "operations", made["client_id"]} <= {client["client_id"] for client in everybody}
    (waiting,) = (await admin.call("GET", "/clients", query={"status": "pending"})).json["clients"]
    assert waiting == {
        "client_id": made["client_id"], "name": "New app", "status": "pending", "version": 1, "configured": False,
        "waiting": "registration", "profile": "fapi2", "authentication": "private_key_jwt", "binding": "dpop",
        "grants": ["authorization_code"], "scope": "patient/*.rs",
    }  # fmt: skip
    shown = (await admin.call("GET", f"/clients/{made['client_id']}")).json
    assert shown["metadata"]["redirect_uris"] == ["https://new.example/callback"]
    assert str(made["registration_access_token"]) not in str(shown)
    assert "'access_token'" not in str(shown)  # not even its digest
    assert (await admin.call("GET", "/clients/portal")).json["configured"] is True
    assert (await admin.call("GET", "/clients/nobody")).status == 404
    assert (await admin.call("GET", "/clients/nobody/history")).status == 404
    assert (await admin.call("GET", "/clients", query={"status": "new"})).refusal == (400, "invalid_request")


async def test_a_client_goes_through_its_statuses_with_who_and_why(
    world: World, admin: Administrator
) -> None:
    client_id = str((await registered(admin))["client_id"])
    assert client_id not in world.server.clients
    steps = [("approve", "approved"), ("suspend", "suspended"), ("reactivate", "approved")]
    version = 1
    for verb, status in steps:
        body: dict[str, object] = {"why": f"because {verb}"}
        if verb == "approve":
            body["version"] = version
        reply = await admin.call("POST", f"/clients/{client_id}/{verb}", body)
        assert (reply.status, reply.json["status"]) == (200, status)
        assert (client_id in world.server.clients) is (status == "approved")
    gone = await admin.call("DELETE", f"/clients/{client_id}", query={"why": "closed"})
    assert (gone.status, gone.json["status"]) == (200, "deleted")
    history = (await admin.call("GET", f"/clients/{client_id}/history")).json["history"]
    assert [(row["what"], row["who"], row["why"]) for row in history] == [
        ("registered", "client operations", WHY),
        ("approved", "client operations", "because approve"),
        ("suspended", "client operations", "because suspend"),
        ("reactivated", "client operations", "because reactivate"),
        ("deleted", "client operations", "closed"),
    ]
    told = [event for event in world.events if isinstance(event, ClientChanged)]
    assert [(event.what, event.who) for event in told] == [(row["what"], row["who"]) for row in history]


async def test_only_the_version_that_was_looked_at_is_approved_or_rejected(admin: Administrator) -> None:
    path = f"/clients/{(await registered(admin))['client_id']}"
    for verb in ("approve", "reject"):
        without = await admin.call("POST", f"{path}/{verb}", {"why": WHY})
        assert without.refusal == (400, "invalid_request")
        other = await admin.call("POST", f"{path}/{verb}", {"why": WHY, "version": 2})
        assert (other.status, other.json["error"]) == (409, "conflict")
    assert (await admin.call("POST", f"{path}/reject", {"why": WHY, "version": 1})).json[
        "status"
    ] == "rejected"
    again = await admin.call("POST", f"{path}/approve", {"why": WHY, "version": 2})
    assert (again.status, again.json["error"]) == (409, "conflict")
    assert (await admin.call("POST", "/clients/nobody/suspend", {"why": WHY})).status == 404
    assert (await admin.call("DELETE", "/clients/nobody", query={"why": WHY})).status == 404
    assert (await admin.call("DELETE", "/clients/portal", query={"why": WHY})).status == 409


async def test_an_administrator_chooses_the_profile_and_renews_the_secret(
    world: World, admin: Administrator
) -> None:
    wanted = {"token_endpoint_auth_method": "client_secret_basic"}
    body = {"metadata": metadata(**wanted), "why": WHY, "profile": "smart-symmetric"}
    off = await admin.call("POST", "/clients", body)
    assert off.refusal == (400, "invalid_client_metadata")
    admin.app.world = await world.reopen(profiles=frozenset(ProfileName))
    for unknown in ("smart", ""):
        assert (await admin.call("POST", "/clients", body | {"profile": unknown})).status == 400
    made = (await admin.call("POST", "/clients", body)).json
    assert made["profile"] == "smart-symmetric"
    path = f"/clients/{made['client_id']}"
    renewed = (await admin.call("POST", f"{path}/secret", {"why": WHY})).json
    assert len(renewed["client_secret"]) == 43
    assert renewed["client_secret"] != made["client_secret"]
    assert (await admin.call("POST", f"{path}/profile", {"why": WHY, "profile": "fapi2"})).status == 400
    change = {"why": WHY, "profile": "fapi2", "version": 2}
    assert (await admin.call("POST", f"{path}/profile", change)).refusal == (409, "conflict")
    strong = (await admin.call("POST", "/clients", {"metadata": metadata(), "why": WHY})).json
    path = f"/clients/{strong['client_id']}"
    assert (await admin.call("POST", f"{path}/secret", {"why": WHY})).status == 409
    changed = await admin.call(
        "POST", f"{path}/profile", change | {"profile": "smart-asymmetric", "version": 1}
    )
    assert changed.json["profile"] == "smart-asymmetric"


async def test_a_client_of_the_configuration_can_be_suspended_and_its_grants_end(
    world: World, admin: Administrator
) -> None:
    app = world.app("portal")
    token = (await app.redeem(await app.code())).json["access_token"]
    await app.read(token)
    assert (await admin.call("POST", "/clients/portal/suspend", {"why": WHY})).status == 200
    with pytest.raises(OAuthError, match="suspended"):
        await app.read(token)
    assert (await app.push()).refusal == (400, "invalid_client")
    assert (await admin.call("POST", "/clients/portal/reactivate", {"why": WHY})).status == 200
    assert (await app.push()).status == 201


async def test_what_the_registry_refuses_is_said(admin: Administrator) -> None:
    bad = await admin.call(
        "POST", "/clients", {"metadata": metadata(redirect_uris=["http://x.example"]), "why": WHY}
    )
    assert bad.refusal == (400, "invalid_redirect_uri")
    none = await admin.call("POST", "/clients", {"why": WHY})
    assert none.refusal == (400, "invalid_request")


async def test_a_registration_access_token_is_renewed(admin: Administrator) -> None:
    made = await registered(admin, approved=True)
    path = f"/clients/{made['client_id']}/registration-access-token"
    renewed = await admin.call("POST", path, {"why": WHY})
    assert renewed.status == 200
    assert renewed.json["registration_access_token"] != made["registration_access_token"]
    assert (await admin.call("POST", "/clients/portal/registration-access-token", {"why": WHY})).status == 409


async def test_initial_access_tokens_are_made_listed_and_withdrawn(
    world: World, admin: Administrator
) -> None:
    asked = {"why": WHY, "uses": 3, "lifetime_seconds": 3600, "scope": "system/*.rs"}
    made = await admin.call("POST", "/initial-access-tokens", asked)
    assert made.status == 201
    secret = made.json.pop("initial_access_token")
    assert (made.json["uses_left"], made.json["expires_at"]) == (3, world.clock.now + 3600)
    listed = await admin.call("GET", "/initial-access-tokens")
    assert [row["who"] for row in listed.json["initial_access_tokens"]] == ["client operations"]
    assert secret not in listed.text
    path = f"/initial-access-tokens/{made.json['id']}"
    assert (await admin.call("DELETE", path)).refusal == (400, "invalid_request")
    assert (await admin.call("DELETE", path, query={"why": WHY})).status == 204
    assert (await admin.call("DELETE", path, query={"why": WHY})).status == 404
    for wrong in ({"uses": 0}, {"lifetime_seconds": 1}, {"scope": "nonsense"}):
        assert (await admin.call("POST", "/initial-access-tokens", asked | wrong)).refusal == (
            400,
            "invalid_request",
        )


async def test_I2_grants_are_seen_and_ended_by_person_and_by_client(
    world: World, admin: Administrator
) -> None:
    portal, other = world.app("portal"), world.app("portal-2")
    tokens = {app: (await app.redeem(await app.code())).json for app in (portal, other)}
    seen = (await admin.call("GET", "/grants", query={"subject": ANNA.subject})).json["grants"]
    assert {grant["client_id"] for grant in seen} == {"portal", "portal-2"}
    assert set(seen[0]) == {"grant_id", "client_id", "subject", "scope", "resources", "patient", "created_at"}
    whose = {"client_id": "portal", "why": WHY}
    ended = (await admin.call("DELETE", "/grants", query=whose)).json["ended"]
    assert [grant["client_id"] for grant in ended] == ["portal"]
    with pytest.raises(OAuthError, match="revoked"):
        await portal.read(tokens[portal]["access_token"])
    assert (await portal.refresh(tokens[portal]["refresh_token"])).refusal == (400, "invalid_grant")
    await other.read(tokens[other]["access_token"])
    both = {"subject": ANNA.subject, "client_id": "portal-2", "why": WHY}
    assert len((await admin.call("DELETE", "/grants", query=both)).json["ended"]) == 1
    assert (await admin.call("DELETE", "/grants", query=both)).json["ended"] == []
    revoked = [event for event in world.events if isinstance(event, GrantRevoked)]
    assert [(e.client_id, e.reason, e.who, e.why) for e in revoked] == [
        ("portal", "administrator", "client operations", WHY),
        ("portal-2", "administrator", "client operations", WHY),
    ]


async def test_nobody_ends_the_grants_of_all_by_leaving_the_name_out(admin: Administrator) -> None:
    for method in ("GET", "DELETE"):
        for query in ({"why": WHY}, {"subject": "", "why": WHY}):
            named = query if method == "DELETE" else {n: v for n, v in query.items() if n != "why"}
            assert (await admin.call(method, "/grants", query=named)).refusal == (400, "invalid_request")


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'{"why":"a","why":"b"}', "application/json"),
        (b'{"why":"a","because":"b"}', "application/json"),
        (b'{"why":1}', "application/json"),
        (b'{"why":""}', "application/json"),
        (b'{"why":"  "}', "application/json"),
        (b'{"why":"two\\nlines"}', "application/json"),
        (b'{"why":"' + b"x" * 501 + b'"}', "application/json"),
        (b"{}", "application/json"),
        (b"why=a", "application/x-www-form-urlencoded"),
        (b'{"why":"a"}', "text/plain"),
    ],
)
async def test_bodies_are_read_strictly(admin: Administrator, raw: bytes, content_type: str) -> None:
    reply = await admin.call("POST", "/clients/portal/suspend", raw=raw, content_type=content_type)
    assert reply.refusal == (400, "invalid_request")
    assert (await admin.call("GET", "/clients/portal")).json["status"] == "approved"


async def test_a_number_is_no_truth_and_a_truth_no_number(admin: Administrator) -> None:
    for members in ({"uses": True}, {"uses": "1"}, {"lifetime_seconds": 60.5}):
        reply = await admin.call("POST", "/initial-access-tokens", {"why": WHY} | members)
        assert reply.refusal == (400, "invalid_request")
    body = {"metadata": metadata(), "why": WHY, "approved": 1}
    assert (await admin.call("POST", "/clients", body)).refusal == (400, "invalid_request")


@pytest.mark.parametrize("path", ["/admin/clients", "/userinfo", "/grants/some"])
async def test_RFC9449_9_a_door_that_takes_tokens_gives_one_nonce_and_it_is_the_right_one(
    world: World, admin: Administrator, path: str
) -> None:
    def asked(nonce: str | None) -> HttpRequest:
        proof = admin.proof("GET", path, nonce=nonce)
        return http_request("GET", path, headers=[("authorization", f"DPoP {admin.token}"), ("dpop", proof)])

    if path != "/admin/clients":  # its token is for the administration only
        mixed = await Administrator.of(world, "mixed", scope="system/Patient.r")
        admin.app, admin.token = mixed.app, mixed.token
    challenged = await world.send(asked(None))
    assert (challenged.status, challenged.json["error"]) == (401, "use_dpop_nonce")
    reply = await world.send(asked(challenged.header("dpop-nonce")))
    assert "use_dpop_nonce" not in reply.text
    assert reply.header("dpop-nonce") is None or reply.status != 200


async def test_other_methods_and_paths_are_not_there(world: World, admin: Administrator) -> None:
    assert (await admin.call("PUT", "/clients")).status == 405
    for path in ("/admin", "/admin/", "/admin/nothing", "/admin/clients//history", "/admin/clients/%FF"):
        assert not world.server.serves(path)


async def test_a_client_id_may_hold_what_a_path_must_escape(admin: Administrator) -> None:
    assert (await admin.call("GET", "/clients/port%61l")).json["client_id"] == "portal"
    assert (await admin.call("GET", "/clients/a%2Fb")).status == 404

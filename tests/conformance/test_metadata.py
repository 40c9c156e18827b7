"""Metadata documents: rows M1 to M5 of the FAPI 2.0 checklist, RFC 8414, RFC 9728, SMART discovery."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from authz.keys import by_hand
from authz.protocol.clients import ProfileName
from gateway.config.network import OWN_PATHS
from tests.support.authorization_server import (
    CDA,
    FHIR,
    FHIR_MTLS,
    ISSUER,
    MTLS_ORIGIN,
    Person,
    World,
    answer_of,
    claims_of,
    http_request,
    open_world,
)

OAUTH = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"
SMART = "/.well-known/smart-configuration"
RESOURCE = "/.well-known/oauth-protected-resource"
# The IANA registry "OAuth Authorization Server Metadata", as far as this server could use it.
REGISTERED = {
    "issuer", "authorization_endpoint", "token_endpoint", "jwks_uri", "registration_endpoint", "scopes_supported",
    "ui_locales_supported",
    "response_types_supported", "response_modes_supported", "grant_types_supported",
    "token_endpoint_auth_methods_supported", "token_endpoint_auth_signing_alg_values_supported", "op_policy_uri",
    "op_tos_uri", "revocation_endpoint", "revocation_endpoint_auth_methods_supported",
    "revocation_endpoint_auth_signing_alg_values_supported", "introspection_endpoint",
    "introspection_endpoint_auth_methods_supported", "introspection_endpoint_auth_signing_alg_values_supported",
    "introspection_signing_alg_values_supported", "authorization_signing_alg_values_supported",
    "userinfo_endpoint", "end_session_endpoint", "subject_types_supported", "id_token_signing_alg_values_supported",
    "userinfo_signing_alg_values_supported", "claims_parameter_supported", "claims_supported", "acr_values_supported",
    "prompt_values_supported", "authorization_details_types_supported",
    "request_parameter_supported", "request_uri_parameter_supported", "request_object_signing_alg_values_supported",
    "code_challenge_methods_supported", "mtls_endpoint_aliases", "tls_client_certificate_bound_access_tokens",
    "require_pushed_authorization_requests", "pushed_authorization_request_endpoint",
    "authorization_response_iss_parameter_supported", "dpop_signing_alg_values_supported", "protected_resources",
}  # fmt: skip


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def document(world: World, path: str, **more: Any) -> dict[str, Any]:
    reply = await world.get(path, **more)
    assert reply.status == 200
    return reply.json


async def test_M1_issuer_is_the_same_in_every_document(world: World) -> None:
    signs = await world.reopen(profiles=frozenset(ProfileName), id_token_algorithms=("RS256",))
    paths = (OAUTH, OPENID, SMART, f"/fhir/r4{SMART}")
    assert {(await document(signs, path))["issuer"] for path in paths} == {ISSUER}
    # SMART App Launch 2.2 leaves it out where it does not announce sso-openid-connect.
    assert {(await document(world, path)).get("issuer") for path in paths} == {ISSUER, None}


async def test_M1_the_mutual_tls_listener_names_the_same_issuer(world: World) -> None:
    assert await document(world, OAUTH, origin=MTLS_ORIGIN) == await document(world, OAUTH)


async def test_M1_host_and_forwarded_headers_do_not_change_the_issuer(world: World) -> None:
    said = [
        ("host", "evil.example"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "host=evil.example"),
    ]
    assert "evil" not in json.dumps(await document(world, OAUTH, headers=said))


async def test_M2_no_member_that_no_registry_lists(world: World) -> None:
    assert set(await document(world, OAUTH)) <= REGISTERED


async def test_M3_what_FAPI_wants_is_announced(world: World) -> None:
    found = await document(world, OAUTH)
    assert found["require_pushed_authorization_requests"] is True
    assert found["authorization_response_iss_parameter_supported"] is True
    assert found["tls_client_certificate_bound_access_tokens"] is True
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert found["response_types_supported"] == ["code"]
    assert set(found["response_modes_supported"]) == {"query", "jwt", "query.jwt"}
    assert (found["request_parameter_supported"], found["request_uri_parameter_supported"]) == (True, False)
    assert found["authorization_signing_alg_values_supported"] == ["ES256"]
    assert set(found["grant_types_supported"]) == {
        "authorization_code",
        "refresh_token",
        "client_credentials",
    }
    methods = {"private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"}
    assert set(found["token_endpoint_auth_methods_supported"]) == methods
    assert set(found["revocation_endpoint_auth_methods_supported"]) == methods
    for name in (
        "dpop_signing_alg_values_supported",
        "token_endpoint_auth_signing_alg_values_supported",
        "revocation_endpoint_auth_signing_alg_values_supported",
        "introspection_endpoint_auth_signing_alg_values_supported",
        "request_object_signing_alg_values_supported",
    ):
        assert set(found[name]) == {"PS256", "ES256", "EdDSA", "Ed25519"}


async def test_M3_aliases_are_at_the_mutual_tls_origin_and_never_the_authorization_endpoint(
    world: World,
) -> None:
    found = await document(world, OAUTH)
    aliases = found["mtls_endpoint_aliases"]
    assert "authorization_endpoint" not in aliases
    assert set(aliases) == {
        "token_endpoint",
        "pushed_authorization_request_endpoint",
        "revocation_endpoint",
        "introspection_endpoint",
        "userinfo_endpoint",
    }
    for name, url in aliases.items():
        assert url == MTLS_ORIGIN + urlsplit(found[name]).path


async def test_M3_every_endpoint_that_is_announced_answers_and_no_other_is_announced(world: World) -> None:
    found = await document(world, OAUTH)
    for name, url in found.items():
        if name.endswith("_endpoint") or name == "jwks_uri":
            parts = urlsplit(url)
            assert f"{parts.scheme}://{parts.netloc}" == ISSUER
            assert parts.path in world.server.doors.routes, name


async def test_no_store_can_be_mounted_over_a_door_of_the_server(world: World) -> None:
    mounts = tuple(f"{urlsplit(base).path}/" for base in (FHIR, CDA))
    doors = [
        path
        for path in (*world.server.doors.routes, *world.server.doors.below)
        if not path.startswith(mounts)
    ]
    switched = {
        "admin",
        "register",
        "brands.json",
        "officer",
        "consents",
        "cds-services",
    }  # by a configuration
    assert {path.split("/")[1] for path in doors} | switched == OWN_PATHS


async def test_M3_without_a_mutual_TLS_listener_nothing_is_said_of_certificates(tmp_path: Path) -> None:
    async with open_world(tmp_path, mtls_origin=None) as world:
        found = await document(world, OAUTH)
        assert "mtls_endpoint_aliases" not in found
        assert found["tls_client_certificate_bound_access_tokens"] is False
        assert found["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]


async def test_M4_every_key_has_kid_use_and_alg_and_no_private_member(world: World) -> None:
    keys = (await document(world, "/jwks"))["keys"]
    assert keys
    for jwk in keys:
        assert set(jwk) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
        assert (jwk["crv"], jwk["use"], jwk["alg"]) == ("P-256", "sig", "ES256")


async def test_M4_a_successor_is_published_before_it_signs(world: World) -> None:
    kid = (await world.keys.change(by_hand.rotate)).kid
    published = {jwk["kid"] for jwk in (await document(world, "/jwks"))["keys"]}
    assert kid in published
    assert len(published) == 2


async def test_M4_the_jwks_is_cached_no_longer_than_half_of_the_announced_period(tmp_path: Path) -> None:
    """Then nobody who caches it meets a token of a key that he does not know."""
    for announced, kept in ((86400, 300), (120, 60), (60, 30)):
        async with open_world(tmp_path / str(announced), key_announced_seconds=announced) as world:
            reply = await world.get("/jwks")
            assert reply.headers("cache-control") == [f"max-age={kept}"]


async def test_M4_the_jwks_has_an_entity_tag_that_changes_with_the_keys(world: World) -> None:
    first = await world.get("/jwks")
    tag = first.header("etag")
    assert tag is not None
    for known in (tag, f'"other", W/{tag}', "*"):
        same = await world.get("/jwks", headers=[("if-none-match", known)])
        assert (same.status, same.text, same.header("etag")) == (304, "", tag)
        assert same.header("cache-control") == "max-age=300"
    await world.keys.change(by_hand.rotate)
    changed = await world.get("/jwks", headers=[("if-none-match", tag)])
    assert changed.status == 200
    assert len(changed.json["keys"]) == 2
    assert changed.header("etag") != tag


async def test_M4_the_algorithms_that_are_announced_are_those_that_sign(tmp_path: Path) -> None:
    names = ("id_token", "userinfo", "authorization", "introspection")
    async with open_world(tmp_path, signing_algorithms=("ES256",)) as world:
        world.clock.now += 10  # no longer the first start
        both = await world.reopen(signing_algorithms=("EdDSA", "ES256"))
        for opened, expected in ((world, ["ES256"]), (both, ["ES256"])):
            found = await document(opened, OPENID)
            assert [found[f"{name}_signing_alg_values_supported"] for name in names] == [expected] * 4
        world.clock.now += 86400
        await both.keys.tick()
        found = await document(both, OPENID)
        assert [found[f"{name}_signing_alg_values_supported"] for name in names] == [["EdDSA", "ES256"]] * 4


async def test_M5_the_scopes_of_the_clients_are_announced(world: World) -> None:
    scopes = (await document(world, OAUTH))["scopes_supported"]
    assert {"openid", "fhirUser", "offline_access", "patient/*.rs"} <= set(scopes)


async def test_M5_what_OpenID_Connect_wants_is_announced(world: World) -> None:
    found = await document(world, OPENID)
    assert found["subject_types_supported"] == ["public", "pairwise"]
    assert found["id_token_signing_alg_values_supported"] == ["ES256"]
    assert found["claims_parameter_supported"] is True
    assert {"sub", "name", "fhirUser", "acr", "auth_time"} <= set(found["claims_supported"])
    assert found["acr_values_supported"] == ["urn:securus:acr:password"]
    assert found["prompt_values_supported"] == ["none", "login", "consent", "select_account"]


async def test_M5_nothing_is_announced_that_does_not_exist(world: World) -> None:
    absent = {"registration_endpoint", "authorization_details_types_supported"}
    assert not absent & set(await document(world, OAUTH))


async def test_the_smart_configuration_says_what_the_server_metadata_say(world: World) -> None:
    smart, oauth = await document(world, SMART), await document(world, OAUTH)
    for name, value in smart.items():
        assert name in ("capabilities", "management_endpoint") or oauth[name] == value
    assert {"permission-v2", "permission-patient", "launch-standalone"} <= set(smart["capabilities"])
    assert "client-confidential-asymmetric" not in smart["capabilities"]


async def test_the_smart_configuration_is_under_the_FHIR_base_and_under_no_other_mount(world: World) -> None:
    assert await document(world, f"/fhir/r4{SMART}") == await document(world, SMART)
    assert f"/cda{SMART}" not in world.server.doors.routes


@pytest.mark.parametrize(
    ("path", "origin", "resource"),
    [
        (RESOURCE, ISSUER, FHIR),
        (f"{RESOURCE}/fhir/r4", ISSUER, FHIR),
        (f"{RESOURCE}/fhir/r4", MTLS_ORIGIN, FHIR_MTLS),
        (f"{RESOURCE}/cda", ISSUER, CDA),
    ],
)
async def test_RFC_9728_3_3_resource_is_the_identifier_that_the_address_was_made_of(
    world: World, path: str, origin: str, resource: str
) -> None:
    found = await document(world, path, origin=origin)
    assert found["resource"] == resource
    assert found["authorization_servers"] == [ISSUER]
    assert found["bearer_methods_supported"] == ["header"]


async def test_documents_may_be_read_by_apps_in_browsers_and_asked_for_by_HEAD(world: World) -> None:
    reply = await world.get(OAUTH)
    assert reply.header("access-control-allow-origin") == "*"
    assert (await world.send(http_request("HEAD", OAUTH))).status == 200


async def test_M1_every_iss_is_the_issuer(world: World) -> None:
    app, person = world.app(), Person(world)
    pushed = await app.push(scope="openid launch/patient patient/*.rs")
    answer = answer_of(await person.consent(await person.sign_in(pushed)))
    tokens = (await app.redeem(answer["code"])).json
    told = (await app.post("/introspect", {"token": tokens["access_token"]})).json
    said = [answer["iss"], told["iss"], *(claims_of(tokens[n])["iss"] for n in ("access_token", "id_token"))]
    for name in ("oauth-authorization-server", "openid-configuration"):
        said.append((await world.get(f"/.well-known/{name}")).json["issuer"])
    assert set(said) == {ISSUER}

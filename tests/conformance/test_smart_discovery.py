"""SMART discovery: what it says, that it is true, and that apps in browsers can read it (SMART App Launch 2.2)."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from authz.protocol.clients import ProfileName
from authz.protocol.scopes import is_known
from tests.support.authorization_server import FHIR, Person, World, open_world
from tests.support.smart import EVERY, SmartApp, smart_world

SMART = "/.well-known/smart-configuration"
DOCS = Path(__file__).parents[2] / "docs"
SETS = {
    "patient, standalone": {"launch-standalone", "context-standalone-patient", "permission-patient"},
    "clinician, standalone": {"launch-standalone", "permission-user", "permission-patient"},
    "patient, EHR": {"launch-ehr", "context-ehr-patient", "permission-patient"},
    "clinician, EHR": {
        "launch-ehr", "context-ehr-patient", "context-ehr-encounter", "permission-user", "permission-patient",
    },
}  # fmt: skip
CLIENTS = {"client-public", "client-confidential-symmetric"}
DEFINED = {
    "launch-ehr", "launch-standalone", "authorize-post", "client-public", "client-confidential-symmetric",
    "client-confidential-asymmetric", "sso-openid-connect", "context-banner", "context-style", "context-ehr-patient",
    "context-ehr-encounter", "context-standalone-patient", "context-standalone-encounter", "permission-offline",
    "permission-online", "permission-patient", "permission-user", "permission-v1", "permission-v2", "smart-app-state",
}  # fmt: skip


@pytest.fixture
async def fapi(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def world(fapi: World) -> World:
    return await smart_world(fapi)


@pytest.mark.parametrize(
    "accept", ["text/html", "application/fhir+xml", "application/fhir+json", "*/*", None]
)
async def test_the_configuration_is_JSON_whatever_is_accepted(world: World, accept: str | None):
    headers = [] if accept is None else [("accept", accept)]
    for path in (SMART, f"/fhir/r4{SMART}"):
        reply = await world.get(path, headers=headers)
        assert reply.status == 200
        assert reply.header("content-type") == "application/json"
        assert isinstance(reply.json["capabilities"], list)


async def test_every_address_in_the_configuration_is_absolute(world: World):
    found = (await world.get(SMART)).json
    addresses = {
        name: found[name] for name in found if name.endswith(("_endpoint", "_uri")) or name == "issuer"
    }
    assert {"token_endpoint", "authorization_endpoint", "introspection_endpoint", "jwks_uri"} <= set(
        addresses
    )
    assert all(url.startswith("https://") for url in addresses.values())


@pytest.mark.parametrize(
    ("profile", "capability", "method"),
    [
        (ProfileName.SMART_PUBLIC, "client-public", "none"),
        (ProfileName.SMART_SYMMETRIC, "client-confidential-symmetric", "client_secret_basic"),
        (ProfileName.SMART_ASYMMETRIC, "client-confidential-asymmetric", "private_key_jwt"),
    ],
)
async def test_the_capabilities_are_those_that_exist(
    fapi: World, profile: ProfileName, capability: str, method: str
):
    off = (await fapi.get(SMART)).json
    assert not {c for c in off["capabilities"] if c.startswith("client-") or c == "authorize-post"}
    one = await smart_world(fapi, profiles=frozenset({ProfileName.FAPI2, profile}))
    found = (await one.get(SMART)).json
    assert {c for c in found["capabilities"] if c.startswith("client-")} == {capability}
    assert "authorize-post" in found["capabilities"]
    assert method in found["token_endpoint_auth_methods_supported"]
    assert found["require_pushed_authorization_requests"] is False
    assert {"permission-v1", "permission-v2"} <= set(found["capabilities"])
    assert set(found["capabilities"]) <= DEFINED
    assert "plain" not in found["code_challenge_methods_supported"]


async def test_a_client_of_SMART_asymmetric_keys_finds_all_that_it_needs(world: World):
    found = (await world.get(SMART)).json
    assert "client-confidential-asymmetric" in found["capabilities"]
    assert found["token_endpoint"] == "https://as.example/token"
    assert "private_key_jwt" in found["token_endpoint_auth_methods_supported"]
    assert {"RS384", "ES384"} <= set(found["token_endpoint_auth_signing_alg_values_supported"])
    assert found["scopes_supported"]
    assert "client_credentials" in found["grant_types_supported"]
    assert not {"RS384", "ES384"} & set(found["dpop_signing_alg_values_supported"])


async def test_introspection_is_announced_for_clients_that_authenticate(world: World):
    found = (await world.get("/.well-known/oauth-authorization-server")).json
    assert "none" in found["token_endpoint_auth_methods_supported"]
    assert "none" not in found["introspection_endpoint_auth_methods_supported"]


async def test_each_capability_set_that_is_announced_is_whole(world: World):
    found = set((await world.get(SMART)).json["capabilities"])
    assert found & CLIENTS
    for name in ("patient, standalone", "clinician, standalone"):
        assert SETS[name] <= found
    for name in ("patient, EHR", "clinician, EHR"):
        assert SETS[name] <= found or "launch-ehr" not in found


async def test_every_scope_that_is_announced_can_be_asked_for(world: World):
    found = (await world.get(SMART)).json["scopes_supported"]
    assert found
    for scope in found:
        assert is_known(scope)
        asked = await world.get(
            "/authorize", query=urlencode(SmartApp(world, "smart-app").asking(scope=scope))
        )
        said = asked.header("location") or ""
        registered = scope in world.clients["smart-app"].scope
        assert registered == said.startswith("/sign-in"), scope


async def test_standalone_context_that_cannot_be_had_is_left_out(world: World):
    app = SmartApp(world)
    answer = (await app.redeem(await app.launch(Person(world), scope="launch/encounter patient/*.rs"))).json
    assert answer["scope"] == "patient/*.rs"
    assert "encounter" not in answer


def test_the_page_of_SMART_says_what_links_between_patients_do():
    assert "`Patient.link` opens nothing" in (DOCS / "smart.md").read_text(encoding="utf-8")


async def test_the_FHIR_base_of_the_configuration_is_the_aud_that_is_taken(world: World):
    assert (await world.get(f"/fhir/r4{SMART}")).status == 200
    reply = await world.get("/authorize", query=urlencode(SmartApp(world).asking(aud=FHIR)))
    assert (reply.header("location") or "").startswith("/sign-in")
    assert frozenset(ProfileName) == EVERY

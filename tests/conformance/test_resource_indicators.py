"""Resource indicators (RFC 8707): asked for at PAR, narrowed at the token endpoint, enforced at each mount."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from authz.protocol.errors import OAuthError
from tests.support.authorization_server import (
    CDA,
    FHIR,
    FHIR_MTLS,
    MTLS_ORIGIN,
    App,
    Person,
    Reply,
    World,
    answer_of,
    claims_of,
    open_world,
)
from tests.support.gateway import MOUNT, RunningGateway, start_gateway, stop_gateway
from tests.support.jose import ABSENT

BOTH = [FHIR, CDA]
ARCHIVE = "/fhir/archive"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def push(app: App, resources: list[str], **changes: Any) -> Reply:
    """Push a request with `resource` once for each of these."""
    form = app.asking(**{"aud": ABSENT} | changes) | app.credentials()
    pairs = [*form.items(), *(("resource", resource) for resource in resources)]
    return await app.world.post("/par", urlencode(pairs).encode())


async def tokens(app: App, pushed: Reply, **redeemed: Any) -> Reply:
    """What the code of a pushed request gives, through the pages."""
    assert pushed.status == 201, pushed.text
    person = Person(app.world)
    page = await person.sign_in(pushed, app.client_id)
    return await app.redeem(answer_of(await person.consent(page))["code"], **redeemed)


async def ask_again(app: App, form: Mapping[str, str], resources: list[str]) -> Reply:
    """A token request with `resource` once for each of these."""
    if app.nonce is None:
        await app.learn_nonce()
    pairs = [*(app.credentials() | dict(form)).items(), *(("resource", r) for r in resources)]
    return await app.world.post("/token", urlencode(pairs).encode(), headers=[("dpop", app.proof())])


def audience_of(reply: Reply) -> object:
    assert reply.status == 200, reply.text
    return claims_of(reply.json["access_token"])["aud"]


# Section 2: the parameter


async def test_2_several_resources_are_the_audience_of_the_token(world: World) -> None:
    app = world.app()
    assert audience_of(await tokens(app, await push(app, BOTH))) == BOTH


async def test_2_one_resource_is_the_only_audience(world: World) -> None:
    app = world.app()
    assert audience_of(await tokens(app, await push(app, [CDA]))) == CDA


async def test_2_a_resource_that_is_named_twice_or_by_two_addresses_counts_once(world: World) -> None:
    app = world.app()
    assert audience_of(await tokens(app, await push(app, [FHIR, FHIR_MTLS, f"{FHIR}/"]))) == FHIR


@pytest.mark.parametrize(
    "resources",
    [
        [FHIR, "https://other.example/fhir"],
        ["https://other.example/fhir", FHIR],
        [f"{FHIR}#x"],
        [f"{FHIR}?x=y"],
        ["/fhir/r4"],
        [f"{FHIR} {CDA}"],
        [f"{FHIR}\t{CDA}"],
        [FHIR.upper()],
    ],
)
async def test_2_a_resource_that_is_unknown_or_malformed_is_invalid_target(
    world: World, resources: list[str]
) -> None:
    assert (await push(world.app(), resources)).refusal == (400, "invalid_target")


async def test_2_an_empty_resource_counts_as_not_sent(world: World) -> None:
    app = world.app()
    assert audience_of(await tokens(app, await push(app, ["", CDA, ""]))) == CDA


async def test_2_SMART_aud_must_be_one_of_the_resources(world: World) -> None:
    app = world.app()
    assert audience_of(await tokens(app, await push(app, BOTH, aud=FHIR))) == BOTH
    assert (await push(app, [CDA], aud=FHIR)).refusal == (400, "invalid_target")


@pytest.mark.parametrize("name", ["scope", "aud", "redirect_uri", "authorization_details", "code_challenge"])
async def test_2_resource_alone_may_repeat(world: World, name: str) -> None:
    app = world.app()
    form = app.asking(authorization_details="[]") | app.credentials()
    body = urlencode([*form.items(), (name, form[name])]).encode()
    assert (await world.post("/par", body)).refusal == (400, "invalid_request")


@pytest.mark.parametrize("path", ["/introspect", "/revoke"])
async def test_2_where_resource_means_nothing_it_may_not_repeat(world: World, path: str) -> None:
    app = world.app()
    await app.learn_nonce()
    pairs = [*app.credentials().items(), ("token", "x"), ("resource", FHIR), ("resource", CDA)]
    reply = await world.post(path, urlencode(pairs).encode(), headers=[("dpop", app.proof(path))])
    assert reply.refusal == (400, "invalid_request")


# In a request object (RFC 9101 4)


@pytest.mark.parametrize(("said", "audience"), [(BOTH, BOTH), ([CDA], CDA), (FHIR, FHIR)])
async def test_2_in_a_request_object_resource_is_a_string_or_an_array(
    world: World, said: object, audience: object
) -> None:
    app = world.app()
    assert audience_of(await tokens(app, await app.push_signed(resource=said))) == audience


@pytest.mark.parametrize("said", [[], [7], {}, f"{FHIR} {CDA}", [f"{FHIR} {CDA}"], [FHIR, ""], [[FHIR]]])
async def test_2_in_a_request_object_anything_else_is_refused(world: World, said: object) -> None:
    assert (await world.app().push_signed(resource=said)).refusal == (400, "invalid_request_object")


async def test_2_an_unknown_resource_in_a_request_object_is_invalid_target(world: World) -> None:
    reply = await world.app().push_signed(resource=[FHIR, "https://other.example"])
    assert reply.refusal == (400, "invalid_target")


async def test_2_a_resource_beside_a_request_object_does_not_count(world: World) -> None:
    app = world.app()
    form = {"request": app.request_object(resource=[CDA])} | app.credentials()
    pairs = [*form.items(), ("resource", FHIR), ("resource", CDA)]
    assert audience_of(await tokens(app, await world.post("/par", urlencode(pairs).encode()))) == CDA


# Section 2.2: the token request


async def test_2_2_a_resource_narrows_the_token_and_not_the_grant(world: World) -> None:
    app = world.app()
    first = await tokens(app, await push(app, BOTH), resource=CDA)
    assert audience_of(first) == CDA
    refreshing = {"grant_type": "refresh_token", "refresh_token": first.json["refresh_token"]}
    assert audience_of(await ask_again(app, refreshing, [FHIR])) == FHIR
    assert audience_of(await ask_again(app, refreshing, [CDA, FHIR])) == [CDA, FHIR]
    assert audience_of(await ask_again(app, refreshing, [])) == BOTH


async def test_2_2_a_resource_that_was_not_granted_is_invalid_target(world: World) -> None:
    app = world.app()
    assert (await tokens(app, await push(app, [CDA]), resource=FHIR)).refusal == (400, "invalid_target")
    first = await tokens(app, await push(app, [CDA]))
    refreshing = {"grant_type": "refresh_token", "refresh_token": first.json["refresh_token"]}
    for resources in ([FHIR], [CDA, FHIR], ["https://other.example"], [f"{CDA} {FHIR}"]):
        assert (await ask_again(app, refreshing, resources)).refusal == (400, "invalid_target")


async def test_2_2_client_credentials_are_for_the_resources_that_they_name(world: World) -> None:
    lab = world.app("lab")
    own = {"grant_type": "client_credentials"}
    assert audience_of(await ask_again(lab, own, [FHIR])) == FHIR
    assert audience_of(await ask_again(lab, own, BOTH)) == BOTH
    refused = await ask_again(lab, own, [FHIR, "https://other.example"])
    assert refused.refusal == (400, "invalid_target")


async def test_3_introspection_tells_the_audience(world: World) -> None:
    app = world.app()
    reply = await tokens(app, await push(app, BOTH), resource=CDA)
    said = await world.app("resource-server").post("/introspect", {"token": reply.json["access_token"]})
    assert said.json["aud"] == CDA


async def test_3_a_token_for_one_resource_is_refused_by_another(world: World) -> None:
    app = world.app()
    reply = await tokens(app, await push(app, [CDA]))
    with pytest.raises(OAuthError, match="another resource"):
        await app.read(reply.json["access_token"])


# prompt=none: what the person was asked for before, and no more


async def silent(app: App, person: Person, resources: list[str]) -> dict[str, str]:
    pushed = await push(app, resources, prompt="none")
    return answer_of(await person.sign_in(pushed, app.client_id))


async def test_prompt_none_is_for_resources_that_were_granted_before(world: World) -> None:
    app, person = world.app(), Person(world)
    page = await person.sign_in(await push(app, [FHIR]), app.client_id)
    await person.consent(page)
    assert "code" in await silent(app, person, [FHIR])
    assert (await silent(app, person, [CDA]))["error"] == "consent_required"
    assert (await silent(app, person, BOTH))["error"] == "consent_required"
    assert (await silent(app, person, []))["error"] == "consent_required"  # all of them are meant


# Two upstreams in one gateway


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    running = await start_gateway(tmp_path, second_mount=ARCHIVE)
    yield running
    await stop_gateway(running)


@pytest.mark.parametrize(("meant", "other"), [(MOUNT, ARCHIVE), (ARCHIVE, MOUNT)])
async def test_a_token_for_one_upstream_is_401_at_the_other(
    gateway: RunningGateway, meant: str, other: str
) -> None:
    token = await gateway.token("pA-r", aud=gateway.origin + meant)
    assert (await gateway.fhir("GET", "/Patient/A", token=token, mount=meant)).status == 200
    refused = await gateway.fhir("GET", "/Patient/A", token=token, mount=other)
    assert (refused.status, refused.reason) == (401, "token-invalid")
    assert 'error="invalid_token"' in (refused.header("www-authenticate") or "")
    assert f'/.well-known/oauth-protected-resource{other}"' in (refused.header("www-authenticate") or "")


async def test_a_token_for_both_upstreams_is_good_at_both(gateway: RunningGateway) -> None:
    token = await gateway.token("pA-r", aud=[gateway.origin + MOUNT, gateway.origin + ARCHIVE])
    for mount in (MOUNT, ARCHIVE):
        assert (await gateway.fhir("GET", "/Patient/A", token=token, mount=mount)).status == 200


@pytest.mark.parametrize("audience", ["", "/fhir", "/fhir/r4x", "/fhir/r4/Patient"])
async def test_an_audience_that_only_looks_like_the_upstream_is_401(
    gateway: RunningGateway, audience: str
) -> None:
    token = await gateway.token("pA-r", aud=gateway.origin + audience)
    assert (await gateway.fhir("GET", "/Patient/A", token=token)).status == 401
    assert gateway.upstream.requests == []


async def test_the_alias_is_the_same_resource(world: World) -> None:
    app = world.app("portal-mtls")
    pushed = await app.push(aud=ABSENT, resource=FHIR_MTLS)
    assert app.origin == MTLS_ORIGIN
    assert audience_of(await tokens(app, pushed)) == FHIR

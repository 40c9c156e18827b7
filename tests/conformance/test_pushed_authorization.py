"""Pushed authorization requests: rows P1 to P15 of the FAPI 2.0 checklist, RFC 9126, RFC 7636, RFC 8707."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlencode

import pytest

from authz.events import Refused
from authz.storage.interactions import PushedRequest
from tests.support.authorization_server import (
    CDA,
    FHIR,
    FHIR_MTLS,
    ISSUER,
    REDIRECT_URI,
    Reply,
    World,
    challenge,
    open_world,
)
from tests.support.jose import ABSENT, b64, ec_key, thumbprint


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def stored(world: World, pushed: Reply) -> PushedRequest:
    assert pushed.status == 201, pushed.text
    handle = pushed.json["request_uri"].rpartition(":")[2]
    record = await world.store.pushed_request(b64(sha256(handle.encode()).digest()), now=world.clock.now)
    assert record is not None
    return record


async def test_P1_a_client_that_does_not_authenticate_is_refused(world: World) -> None:
    reply = await world.post("/par", world.app().asking())
    assert reply.refusal == (400, "invalid_client")


@pytest.mark.parametrize("name", ["portal", "portal-mtls", "portal-self-signed", "key-and-certificate"])
async def test_P1_every_method_of_the_token_endpoint_works_here(world: World, name: str) -> None:
    assert (await world.app(name).push()).status == 201


async def test_P2_exactly_201_with_256_random_bits_and_a_short_life(world: World) -> None:
    first, second = await world.app().push(), await world.app().push()
    assert (first.status, first.header("cache-control")) == (201, "no-store")
    assert set(first.json) == {"request_uri", "expires_in"}
    assert re.fullmatch(r"urn:ietf:params:oauth:request_uri:[A-Za-z0-9_-]{43}", first.json["request_uri"])
    assert first.json["request_uri"] != second.json["request_uri"]
    assert 0 < first.json["expires_in"] < 600


async def test_P2_the_store_sees_neither_the_request_uri_nor_the_assertion(world: World) -> None:
    record = await stored(world, await world.app().push(unknown="x"))
    assert not {"client_assertion", "client_assertion_type", "unknown"} & set(record.parameters)


async def test_P3_a_request_uri_is_refused(world: World) -> None:
    assert (await world.app().push(request_uri="urn:x")).refusal == (400, "invalid_request")


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": ABSENT},
        {"code_challenge": ABSENT, "code_challenge_method": ABSENT},
        {"code_challenge_method": ABSENT},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": "s256"},
        {"code_challenge": challenge()[:-1]},
        {"code_challenge": challenge() + "="},
        {"code_challenge": "+" * 43},
    ],
)
async def test_P4_proof_keys_are_required_with_S256_alone(world: World, changes: dict[str, str]) -> None:
    assert (await world.app().push(**changes)).refusal == (400, "invalid_request")


@pytest.mark.parametrize(
    "uri",
    [
        ABSENT,
        "https://evil.example/callback",
        REDIRECT_URI + "/",
        REDIRECT_URI.replace("portal", "PORTAL"),
        REDIRECT_URI + "?x=1",
        REDIRECT_URI + "#x",
        REDIRECT_URI.replace("https", "http"),
        "https://portal.example/x/../callback",
        f"{REDIRECT_URI}?tenant=a+b",
    ],
)
async def test_P5_only_a_registered_redirect_uri_byte_for_byte(world: World, uri: str) -> None:
    assert (await world.app().push(redirect_uri=uri)).refusal == (400, "invalid_request")


async def test_P5_a_registered_query_belongs_to_the_redirect_uri(world: World) -> None:
    assert (await world.app().push(redirect_uri=f"{REDIRECT_URI}?tenant=a%20b")).status == 201


@pytest.mark.parametrize("wanted", ["token", "code id_token", "none", "CODE", ABSENT])
async def test_P6_no_other_response_type_than_code(world: World, wanted: str) -> None:
    status, code = (await world.app().push(response_type=wanted)).refusal
    assert (status, code) in {(400, "unsupported_response_type"), (400, "invalid_request")}


@pytest.mark.parametrize("mode", ["fragment", "form_post", "fragment.jwt", "form_post.jwt", "QUERY"])
async def test_P6_no_response_mode_that_is_not_announced(world: World, mode: str) -> None:
    assert (await world.app().push(response_mode=mode)).refusal == (400, "invalid_request")


@pytest.mark.parametrize("mode", ["query", "jwt", "query.jwt"])
async def test_P6_every_response_mode_that_is_announced(world: World, mode: str) -> None:
    assert (await world.app().push(response_mode=mode)).status == 201


async def test_P7_the_record_is_bound_to_the_client(world: World) -> None:
    assert (await stored(world, await world.app("portal-2").push())).client_id == "portal-2"


async def test_P11_dpop_jkt_binds_the_code(world: World) -> None:
    app = world.app()
    assert (await stored(world, await app.push(dpop_jkt=app.jkt))).dpop_jkt == app.jkt


async def test_P11_a_proof_binds_the_code(world: World) -> None:
    app = world.app()
    await app.learn_nonce()
    record = await stored(world, await app.push(proof=app.proof("/par", origin=ISSUER)))
    assert record.dpop_jkt == app.jkt


async def test_P11_a_proof_and_the_same_dpop_jkt_go_together(world: World) -> None:
    app = world.app()
    await app.learn_nonce()
    assert (await app.push(proof=app.proof("/par"), dpop_jkt=app.jkt)).status == 201


async def test_P11_a_proof_and_another_dpop_jkt_are_refused_here(world: World) -> None:
    app = world.app()
    await app.learn_nonce()
    reply = await app.push(proof=app.proof("/par"), dpop_jkt=thumbprint(ec_key()))
    assert reply.refusal == (400, "invalid_dpop_proof")


@pytest.mark.parametrize("jkt", ["short", "=" * 43, "a" * 44])
async def test_P11_a_dpop_jkt_that_is_no_thumbprint_is_refused(world: World, jkt: str) -> None:
    assert (await world.app().push(dpop_jkt=jkt)).refusal == (400, "invalid_request")


async def test_P11_a_client_whose_tokens_are_bound_to_a_certificate_names_no_DPoP_key(world: World) -> None:
    reply = await world.app("portal-mtls").push(dpop_jkt=thumbprint(ec_key()))
    assert reply.refusal == (400, "invalid_request")


async def test_P11_the_proof_is_for_this_endpoint(world: World) -> None:
    app = world.app()
    await app.learn_nonce()
    assert (await app.push(proof=app.proof("/token"))).refusal == (400, "invalid_dpop_proof")


async def test_P12_the_order_of_scopes_does_not_matter(world: World) -> None:
    for scope in ("patient/*.rs launch/patient", "launch/patient patient/*.rs"):
        assert (await world.app().push(scope=scope)).status == 201


@pytest.mark.parametrize("length", [512, 4096])
async def test_P13_long_state_and_nonce_are_kept_as_they_are(world: World, length: int) -> None:
    text = ("ä~&=+% " * length)[:length]
    record = await stored(world, await world.app().push(state=text, nonce=text))
    assert (record.parameters["state"], record.parameters["nonce"]) == (text, text)


@pytest.mark.parametrize("name", ["state", "nonce"])
async def test_P13_absent_stays_absent_and_too_much_is_refused(world: World, name: str) -> None:
    assert name not in (await stored(world, await world.app().push(**{name: ABSENT}))).parameters
    assert name not in (await stored(world, await world.app().push(**{name: ""}))).parameters
    assert (await world.app().push(**{name: "x" * 4097})).refusal == (400, "invalid_request")


@pytest.mark.parametrize("name", ["scope", "redirect_uri", "client_id", "state", "aud"])
async def test_P14_a_parameter_that_is_sent_twice_is_refused(world: World, name: str) -> None:
    app = world.app()
    form = app.asking() | app.credentials()
    body = urlencode([*form.items(), (name, form[name])]).encode()
    assert (await world.post("/par", body)).refusal == (400, "invalid_request")


@pytest.mark.parametrize(
    ("scope", "named"),
    [
        ("patient/*.rs made-up", "made-up"),
        ("patient/*.rs patient/*.cruds", "patient/*.cruds"),
        ("user/Patient.rs", "user/Patient.rs"),
        ("patient/Observation.sr", "patient/Observation.sr"),
        ("patient/observation.rs", "patient/observation.rs"),
        ("patient/Observation.rs?nonsense=1", "cannot be enforced"),
        ("system/Observation.rs", "client_credentials"),
        ('patient/*.rs "', "forbids"),
        ("launch", "launch"),
        ("patient/*.rs " + "x" * 4096, "4096"),
    ],
)
async def test_P15_a_scope_that_cannot_be_granted_is_refused_here_by_its_name(
    world: World, scope: str, named: str
) -> None:
    reply = await world.app().push(scope=scope)
    assert reply.refusal == (400, "invalid_scope")
    assert named in reply.json["error_description"]


@pytest.mark.parametrize(
    "scope",
    [
        "patient/Observation.r",
        "patient/Observation.rs?category=laboratory",
        "openid patient/*.rs",
        "user/Observation.s",
    ],
)
async def test_P15_less_than_what_is_registered_may_be_asked_for(world: World, scope: str) -> None:
    assert (await world.app().push(scope=scope)).status == 201


async def test_P15_a_scope_that_is_registered_and_yet_unknown_grants_nothing(world: World) -> None:
    world = await world.reopen(
        clients={
            **world.clients,
            "portal": replace(world.clients["portal"], scope=("patient/Observation.sr",)),
        }
    )
    assert (await world.app().push(scope="patient/Observation.sr")).refusal == (400, "invalid_scope")
    assert (await world.app().push(scope=ABSENT)).refusal == (400, "invalid_scope")


@pytest.mark.parametrize("resource", [FHIR, FHIR_MTLS, f"{FHIR}/", CDA])
async def test_P15_resource_names_a_mount_on_either_listener(world: World, resource: str) -> None:
    assert (await world.app().push(aud=ABSENT, resource=resource)).status == 201
    assert (await world.app().push(aud=resource)).status == 201


@pytest.mark.parametrize(
    "changes",
    [
        {"resource": "https://other.example/fhir"},
        {"aud": f"{FHIR}/Patient"},
        {"aud": f"{FHIR}//"},
        {"aud": ISSUER},
        {"aud": FHIR, "resource": CDA},
    ],
)
async def test_P15_another_resource_is_refused(world: World, changes: dict[str, str]) -> None:
    assert (await world.app().push(**changes)).refusal == (400, "invalid_target")


async def test_P15_what_would_not_be_done_is_not_silently_ignored(world: World) -> None:
    assert (await world.app().push(request="a.b.c")).refusal == (400, "invalid_request_object")
    details = (await world.app().push(authorization_details="[]")).refusal
    assert details == (400, "invalid_authorization_details")
    for prompt in ("create", "none login", "NONE"):
        assert (await world.app().push(prompt=prompt)).refusal == (400, "invalid_request")
    for max_age in ("-1", "soon", "1.5", "9999999999"):
        assert (await world.app().push(max_age=max_age)).refusal == (400, "invalid_request")


async def test_P15_a_client_without_the_code_grant_is_refused(world: World) -> None:
    reply = await world.app("lab").push()
    assert reply.refusal == (400, "unauthorized_client")


async def test_P15_the_refusal_is_recorded_with_the_client_that_made_it(world: World) -> None:
    await world.app("portal-2").push(scope="made-up")
    refused = world.events[-1]
    assert isinstance(refused, Refused)
    assert (refused.endpoint, refused.code, refused.client_id) == ("/par", "invalid_scope", "portal-2")

"""Client authentication at the endpoints: rows C1 to C12 of the FAPI 2.0 checklist, RFC 7523, RFC 8705.

The rules themselves are tested apart; here is what a client sees, and that nothing single-use is spent too early.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from authz.protocol.clients import CertificateSubject, ProfileName
from tests.support.authorization_server import ISSUER, MTLS_ORIGIN, NOW, App, Reply, World, open_world
from tests.support.jose import (
    ABSENT,
    certificate_authority,
    ec_key,
    ed_key,
    issue_certificate,
    public_jwk,
    rsa_key,
    self_signed_certificate,
)

TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
REFUSED = (400, "invalid_client")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def push(app: App, assertion: str, **changes: Any) -> Reply:
    form = app.asking(**changes) | {"client_assertion_type": TYPE, "client_assertion": assertion}
    return await app.world.post("/par", form)


@pytest.mark.parametrize(
    "overrides",
    [
        {"header": {"alg": "RS256"}},
        {"header": {"alg": "none"}},
        {"header": {"alg": "HS256"}},
        {"key": ec_key()},
        {"aud": [ISSUER]},
        {"aud": f"{ISSUER}/token"},
        {"aud": f"{ISSUER}/par"},
        {"aud": f"{ISSUER}/"},
        {"aud": ABSENT},
        {"sub": ABSENT},
        {"iss": ABSENT},
        {"iss": "portal-2"},
        {"sub": "portal-2"},
        {"exp": ABSENT},
        {"exp": NOW},
        {"exp": NOW + 3600},
        {"iat": NOW + 90},
        {"nbf": NOW + 90},
        {"jti": ABSENT},
        {"jti": ""},
    ],
)
async def test_C1_C2_C3_C4_C5_a_wrong_assertion_is_invalid_client(
    world: World, overrides: dict[str, Any]
) -> None:
    app = world.app()
    assert (await push(app, app.assertion(**overrides))).refusal == REFUSED


@pytest.mark.parametrize("overrides", [{"iat": NOW + 8}, {"nbf": NOW + 8}, {"iat": ABSENT}, {"kid": "p1"}])
async def test_C5_clocks_that_differ_a_little_are_accepted(world: World, overrides: dict[str, Any]) -> None:
    app = world.app()
    assert (await push(app, app.assertion(**overrides))).status == 201


@pytest.mark.parametrize("key", [ed_key(), rsa_key()], ids=["EdDSA", "PS256"])
async def test_C1_every_algorithm_that_is_announced_works(world: World, key: Any) -> None:
    encryption = public_jwk(ec_key()) | {"use": "enc"}
    client = replace(world.clients["portal"], jwks=(encryption, public_jwk(key)))
    world = await world.reopen(clients={"portal": client})
    app = world.app()
    assert (await push(app, app.assertion(key=key))).status == 201


async def test_C1_the_keys_of_a_changed_registration_count_at_once(world: World) -> None:
    app = world.app()
    assert (await push(app, app.assertion())).status == 201
    new = ec_key()
    world.clients["portal"] = replace(world.clients["portal"], jwks=(public_jwk(new),))
    assert (await push(app, app.assertion())).refusal == REFUSED
    assert (await push(app, app.assertion(key=new))).status == 201


async def test_C6_a_jti_counts_once_at_every_endpoint_of_every_node(world: World) -> None:
    app, node = world.app(), await world.reopen()
    assertion = app.assertion()
    assert (await push(app, assertion)).status == 201
    assert (await push(app, assertion)).refusal == REFUSED
    assert (await push(node.app(), assertion)).refusal == REFUSED
    form = {"client_assertion_type": TYPE, "client_assertion": assertion, "token": "x"}
    assert (await node.post("/revoke", form)).refusal == REFUSED


async def test_C6_the_same_jti_of_another_client_is_another(world: World) -> None:
    for name in ("portal", "portal-2"):
        app = world.app(name)
        assert (await push(app, app.assertion(jti="1"))).status == 201


async def test_C6_a_request_that_is_refused_for_something_else_does_not_spend_the_assertion(
    world: World,
) -> None:
    app = world.app()
    assertion = app.assertion()
    assert (await push(app, assertion, scope="made-up")).refusal == (400, "invalid_scope")
    assert (await push(app, assertion)).status == 201


async def test_C7_a_scheme_that_is_not_offered_is_401_with_that_scheme(world: World) -> None:
    app = world.app()
    headers = [("authorization", "Basic cG9ydGFsOnNlY3JldA==")]
    reply = await world.post("/par", app.asking(), headers=headers)
    assert reply.refusal == (401, "invalid_client")
    # RFC 7617 2: a realm is required.
    assert reply.header("www-authenticate") == 'Basic realm="clients", error="invalid_client"'


async def test_C7_without_a_scheme_there_is_no_challenge(world: World) -> None:
    reply = await world.post("/par", world.app().asking())
    assert reply.refusal == REFUSED
    assert reply.header("www-authenticate") is None


async def test_C7_an_unknown_client_is_refused_like_any(world: World) -> None:
    app = world.app()
    app.client_id = "nobody"
    world.private = {"nobody": ec_key()}
    assert (await push(app, app.assertion())).refusal == REFUSED


async def test_C8_a_client_id_that_is_not_the_authenticated_client_is_refused(world: World) -> None:
    app = world.app()
    assert (await push(app, app.assertion(), client_id="portal-2")).refusal == REFUSED


async def test_C8_no_client_id_is_needed_beside_an_assertion(world: World) -> None:
    app = world.app()
    assert (await push(app, app.assertion(), client_id=ABSENT)).status == 201


@pytest.mark.parametrize(
    "more",
    [{"client_secret": "x"}, {"client_assertion_type": "urn:other"}, {"client_assertion_type": ""}],
)
async def test_C9_exactly_one_method_in_a_request(world: World, more: dict[str, str]) -> None:
    app = world.app()
    reply = await world.post("/par", app.asking() | app.credentials() | more)
    assert reply.refusal == REFUSED


async def test_C9_only_the_registered_method(world: World) -> None:
    portal, by_certificate = world.app(), world.app("portal-mtls")
    world.private = {**world.private, "portal-mtls": world.private["portal"]}
    assert (await push(by_certificate, by_certificate.assertion())).refusal == REFUSED
    reply = await world.post(
        "/par",
        portal.asking(),
        origin=MTLS_ORIGIN,
        certificate=self_signed_certificate(world.private["portal"]),
    )
    assert reply.refusal == REFUSED


async def test_C9_a_client_of_a_profile_that_is_off_does_not_exist(world: World) -> None:
    client = replace(world.clients["portal"], profile=ProfileName.SMART_ASYMMETRIC)
    world = await world.reopen(clients={"portal": client})
    assert (await world.app().push()).refusal == REFUSED


async def with_certificate(world: World, name: str, certificate: bytes | None, *chain: bytes) -> Reply:
    app = world.app(name)
    return await world.post("/par", app.asking(), origin=MTLS_ORIGIN, certificate=certificate, chain=chain)


async def test_C10_the_registered_subject_by_an_authority_that_is_trusted(world: World) -> None:
    assert (await with_certificate(world, "portal-mtls", world.certificates["portal-mtls"])).status == 201
    below = certificate_authority("below", parent=world.authority)
    leaf = issue_certificate(below, names=[x509.DNSName("portal.example")])
    assert (await with_certificate(world, "portal-mtls", leaf, below.der)).status == 201
    assert (await with_certificate(world, "portal-mtls", leaf)).refusal == REFUSED


async def test_C10_another_subject_another_authority_another_time_and_none_are_refused(world: World) -> None:
    stranger = certificate_authority("stranger")
    named = [x509.DNSName("portal.example")]
    for certificate in (
        world.certificates["exchange"],
        issue_certificate(stranger, names=named),
        issue_certificate(world.authority, names=[x509.DNSName("*.example")]),
        issue_certificate(world.authority, names=named, not_after=NOW - 1),
        None,
    ):
        assert (await with_certificate(world, "portal-mtls", certificate)).refusal == REFUSED


async def test_C10_a_client_without_a_registered_subject_is_refused(world: World) -> None:
    client = replace(world.clients["portal-mtls"], certificate_subject=None)
    again = await world.reopen(clients={"portal-mtls": client})
    assert (
        await with_certificate(again, "portal-mtls", world.certificates["portal-mtls"])
    ).refusal == REFUSED


async def test_C10_the_subject_may_be_a_distinguished_name(world: World) -> None:
    client = replace(
        world.clients["portal-mtls"], certificate_subject=CertificateSubject("subject_dn", "CN=client,C=US")
    )
    again = await world.reopen(clients={"portal-mtls": client})
    assert (await with_certificate(again, "portal-mtls", issue_certificate(world.authority))).status == 201


async def test_C11_a_self_signed_certificate_of_the_registered_key(world: World) -> None:
    own = world.certificates["portal-self-signed"]
    assert (await with_certificate(world, "portal-self-signed", own)).status == 201
    for certificate in (self_signed_certificate(ec_key()), world.certificates["portal-mtls"], None):
        assert (await with_certificate(world, "portal-self-signed", certificate)).refusal == REFUSED

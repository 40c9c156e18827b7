"""What went wrong in other authorization servers, tried here: SEC 1 to 51, requests and clients.

A number is a published weakness or a family of them. The later numbers are in test_authorization_server_sessions.py; of
those that need no test of their own, test_history_ledger.py says where they are shown.
"""

import re
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import BasicConstraints

from authz.protocol.certificates import subject_matches, verify_chain
from authz.protocol.clients import AuthenticationMethod, CertificateSubject
from authz.protocol.errors import OAuthError
from tests.support.authorization_server import (
    MTLS_ORIGIN,
    NOW,
    World,
    answer_of,
    open_world,
)
from tests.support.jose import (
    Authority,
    distinguished_name,
    ec_key,
    issue_certificate,
    make_certificate,
    public_jwk,
)
from tests.support.variants import signed_in


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


# Redirects, codes, mix-up


@pytest.mark.parametrize(
    "redirect_uri",
    [
        "JavaScript:alert(1)//portal.example/callback",
        "data:text/html,x",
        "https://portal.example/callback/..;/x",
        "https://portal.example/callback%2f",
        "https://portalXexample/callback",
        "https://portal.example@evil.example/callback",
        "https://portal.example\\@evil.example/callback",
        "//portal.example/callback",
        "https://localhost/callback",
    ],
)
async def test_SEC_01_SEC_02_no_address_is_taken_that_only_resembles_one(
    world: World, redirect_uri: str
) -> None:
    """CVE-2026-3872, CVE-2024-8883, CVE-2024-52289, CVE-2026-9086: paths, wildcards, patterns, schemes."""
    for app, reply in (
        ("portal", await world.app().push(redirect_uri=redirect_uri)),
        ("portal-signed", await world.app("portal-signed").push_signed(redirect_uri=redirect_uri)),
    ):
        assert reply.refusal == (400, "invalid_request"), app


@pytest.mark.parametrize("field", ["action", "form_token", "interaction"])
@pytest.mark.parametrize("last", [False, True])
async def test_SEC_03_a_field_that_comes_twice_is_read_by_no_page(
    world: World, field: str, last: bool
) -> None:
    """CVE-2026-9689: what is checked once and used twice."""
    person = await signed_in(world)
    page = await person.sign_in(await world.app().push())
    request = person.consent_request(page)
    pairs = parse_qsl((await request.body.read(10_000)).decode())
    double = (field, {"action": "deny"}.get(field, "x"))
    body = urlencode([*pairs, double] if last else [double, *pairs]).encode()
    headers = [("cookie", request.headers["cookie"])]
    refused = await world.post("/consent", body, headers=headers)
    assert refused.status == 400
    assert "names a field twice" in refused.text
    assert "code" in answer_of(await person.consent(page)), "nothing was used up"


async def test_SEC_08_nothing_that_was_asked_for_is_in_the_hands_of_the_browser(world: World) -> None:
    """CVE-2026-7571: a changed copy of the request in a form or an address changed what was asked for."""
    app, person = world.app(), await signed_in(world)
    page = await person.sign_in(await app.push(state="pushed"))
    kept = set(re.findall(r'<input type="hidden" name="([^"]+)"', page.text))
    assert kept == {"interaction", "form_token", "shown"}
    request = person.consent_request(page)
    changed = {
        "response_type": "token",
        "redirect_uri": "https://evil.example/callback",
        "client_id": "portal-2",
        "state": "changed",
        "code_challenge": "c" * 43,
        "prompt": "none",
        "patient": "B",
    }
    body = (
        (await request.body.read(10_000))
        + b"&"
        + urlencode([*changed.items(), ("scope", "user/*.cruds")]).encode()
    )
    reply = await world.post("/consent", body, headers=[("cookie", request.headers["cookie"])])
    answer = answer_of(reply)
    assert (reply.header("location") or "").startswith("https://portal.example/callback?")
    assert answer.keys() == {"code", "state", "iss"}
    assert answer["state"] == "pushed"
    tokens = (await app.redeem(answer["code"])).json
    assert (tokens["patient"], "user/*.cruds" in tokens["scope"]) == ("A", False)


async def test_SEC_10_cookies_and_addresses_hold_handles_and_nothing_else(world: World) -> None:
    """CVE-2024-4540: pushed parameters came back in a cookie that the browser could read."""
    app = world.app()
    pushed = await app.push(state="the-state", login_hint="the-hint")
    url = urlencode({"client_id": "portal", "request_uri": pushed.json["request_uri"]})
    reply = await world.get("/authorize", query=url)
    (cookie,) = reply.headers("set-cookie")
    assert re.fullmatch(r"__Host-securus=[A-Za-z0-9_-]{43}; Path=/; Secure; HttpOnly; SameSite=Lax", cookie)
    location = urlsplit(reply.header("location") or "")
    assert re.fullmatch(r"interaction=[A-Za-z0-9_-]{43}", location.query)


# Pushed requests


async def test_SEC_12_no_address_that_a_client_names_is_ever_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CVE-2026-4366: request_uri, sector_identifier_uri, jku and x5u led the server to its own network."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the server went out")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    app, elsewhere = world.app(), "https://169.254.169.254/latest"
    assert (await app.push(request_uri=elsewhere)).refusal == (400, "invalid_request")
    page = await world.get("/authorize", query=urlencode({"client_id": "portal", "request_uri": elsewhere}))
    assert page.status == 400
    header = {"jku": elsewhere, "x5u": elsewhere}
    by_thief = app.assertion(key=ec_key(), header=header)
    credentials = app.credentials() | {"client_assertion": by_thief}
    assert (await world.post("/par", app.asking() | credentials)).refusal == (400, "invalid_client")
    assert (await app.push_signed(header=header)).status == 201


@pytest.mark.parametrize("length", [4097, 20_000, 60_000])
@pytest.mark.parametrize(
    "name",
    ["login_hint", "acr_values", "ui_locales", "display", "prompt", "claims", "authorization_details", "launch",
     "id_token_hint", "state", "nonce", "scope", "resource", "redirect_uri", "response_mode", "dpop_jkt", "max_age",
     "code_challenge", "grant_management_action"],
)  # fmt: skip
async def test_SEC_14_what_is_too_long_is_400_and_nothing_of_it_is_kept(
    world: World, name: str, length: int
) -> None:
    reply = await world.app().push(**{name: "x" * length})
    assert reply.status == 400
    assert len(reply.text) < 1000
    if length < 20_000:
        signed = await world.app("portal-signed").push_signed(**{name: "x" * length})
        assert signed.status == 400


@pytest.mark.parametrize(
    "name", ["client_id", "code", "refresh_token", "token", "grant_type", "client_assertion"]
)
async def test_SEC_14_endless_values_elsewhere_are_refused_as_well(world: World, name: str) -> None:
    app = world.app()
    for path in ("/token", "/par", "/introspect", "/revoke"):
        form = app.credentials() | {"grant_type": "refresh_token", name: "y" * 60_000}
        reply = await world.post(path, form)
        assert reply.status in (400, 401) or (path, name) in {
            ("/introspect", "token"),
            ("/revoke", "token"),
        }
    assert (await world.post("/token", {"code": "z" * 70_000})).status == 413


# Client authentication


async def test_SEC_18_nobody_spends_the_jti_of_somebody_else(world: World) -> None:
    """CVE-2026-4325: a single-use id that anybody may burn, or that two kinds of things share."""
    app, other = world.app(), world.app("portal-2")
    jti = "the-one"
    for forged in (
        app.assertion(jti=jti, key=ec_key()),
        app.assertion(jti=jti, aud="https://other.example"),
        app.assertion(jti=jti, exp=NOW),
    ):
        form = app.asking() | app.credentials() | {"client_assertion": forged}
        assert (await world.post("/par", form)).refusal == (400, "invalid_client")
    own = other.asking() | other.credentials() | {"client_assertion": other.assertion(jti=jti)}
    assert (await world.post("/par", own)).status == 201
    # A proof and a request object with the same jti are of other kinds.
    await app.learn_nonce()
    form = {"request": app.request_object(jti=jti)} | app.credentials()
    headers = [("dpop", app.proof("/par", jti=jti))]
    assert (await world.post("/par", form, headers=headers)).status == 201
    right = app.asking() | app.credentials() | {"client_assertion": app.assertion(jti=jti)}
    assert (await world.post("/par", right)).status == 201
    again = app.asking() | app.credentials() | {"client_assertion": app.assertion(jti=jti)}
    assert (await world.post("/par", again)).refusal == (400, "invalid_client")


# Mutual TLS


@pytest.mark.parametrize(
    "name",
    [
        "portal.example\0.evil.example",
        "portal.example.evil.example",
        "evil.example\0portal.example",
        "*.example",
    ],
)
def test_SEC_28_a_name_is_read_to_its_end(name: str) -> None:
    """CVE-2025-66220: an embedded NUL ended the name for the one who compared it."""
    ca_key = ec_key()
    subject = distinguished_name(("common_name", "CA"))
    der = make_certificate(
        ec_key(),
        distinguished_name(("common_name", "client")),
        subject,
        ca_key,
        extensions=[(x509.SubjectAlternativeName([x509.DNSName(name)]), False)],
    ).public_bytes(Encoding.DER)
    assert not subject_matches(der, CertificateSubject("san_dns", "portal.example"))


def test_SEC_28_a_name_of_another_kind_or_in_several_parts_is_another_name() -> None:
    ca = _authority_of(ec_key())
    der = issue_certificate(
        ca,
        subject=distinguished_name(("common_name", "portal.example")),
        names=[x509.UniformResourceIdentifier("portal.example"), x509.RFC822Name("portal.example@x.example")],
    )
    assert not subject_matches(der, CertificateSubject("san_dns", "portal.example"))
    assert not subject_matches(der, CertificateSubject("subject_dn", "CN=portal.example,C=US"))
    assert subject_matches(der, CertificateSubject("subject_dn", "CN=portal.example"))


def _authority_of(key: Any) -> Authority:
    subject = distinguished_name(("common_name", "self-signed client"))
    certificate = make_certificate(
        key, subject, subject, key, extensions=[(BasicConstraints(ca=True, path_length=None), True)]
    )
    return Authority(key, certificate)


async def test_SEC_29_a_registered_self_signed_certificate_vouches_for_nobody(world: World) -> None:
    """TLS takes every certificate of its store for an anchor: one that such a client issued passes the handshake."""
    key = ec_key()
    authority = _authority_of(key)
    client = replace(
        world.clients["portal-self-signed"],
        jwks=(public_jwk(key), public_jwk(world.private["portal-self-signed"])),
    )
    changed = await world.reopen(clients=world.clients | {client.client_id: client})
    issued = issue_certificate(authority, names=[x509.DNSName("portal.example")])
    for client_id in ("portal-self-signed", "portal-mtls", "exchange"):
        app = changed.app(client_id)
        for chain in ((), (authority.der,)):
            reply = await changed.post(
                "/par",
                app.asking() | app.credentials(),
                origin=MTLS_ORIGIN,
                certificate=issued,
                chain=chain,
            )
            assert reply.refusal == (400, "invalid_client"), client_id
    with pytest.raises(OAuthError):
        verify_chain(issued, (authority.der,), (world.authority.der,), NOW)
    assert client.authentication_method is AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH


async def test_SEC_30_a_certificate_speaks_for_its_own_request_only(world: World) -> None:
    app = world.app("portal-mtls")
    assert (await app.push()).status == 201
    form = app.asking() | app.credentials()
    for certificate in (None, world.certificates["exchange"]):
        refused = await world.post("/par", form, origin=MTLS_ORIGIN, certificate=certificate)
        assert refused.refusal == (400, "invalid_client")
    token = (await app.redeem(await app.code())).json["access_token"]
    await app.read(token)
    with pytest.raises(OAuthError, match="none was presented"):
        await app.read(token, certificate=None)


async def test_SEC_31_a_renewed_certificate_goes_on_with_the_refresh_token(world: World) -> None:
    app = world.app("portal-mtls")
    tokens = (await app.redeem(await app.code())).json
    old, app.certificate = (
        app.certificate,
        issue_certificate(world.authority, names=[x509.DNSName("portal.example")]),
    )
    token = (await app.refresh(tokens["refresh_token"])).json["access_token"]
    await app.read(token)
    with pytest.raises(OAuthError, match="not the one"):
        await app.read(token, certificate=old)

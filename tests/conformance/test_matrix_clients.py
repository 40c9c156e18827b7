"""Client authentication, for every variant: rows C1 to C12 of the FAPI 2.0 checklist."""

import base64
import ipaddress
import json
from dataclasses import replace
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from authz.http import ListenerFace, read
from authz.protocol.certificate_headers import HEADER_FORMS
from authz.protocol.clients import CertificateSubject
from authz.protocol.request import BytesBody
from tests.support.authorization_server import ISSUER, MTLS_ORIGIN, Reply, World, http_request
from tests.support.jose import (
    ABSENT,
    b64,
    certificate_authority,
    distinguished_name,
    ec_key,
    issue_certificate,
    make_assertion,
    pem,
    rsa_key,
    self_signed_certificate,
)
from tests.support.variants import (
    BY_AUTHORITY,
    BY_KEY,
    BY_SELF_SIGNED,
    MTLS,
    VariantApp,
    hmac_signature,
    over,
    signing_keys,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID_CLIENT = (400, "invalid_client")
BY_CERTIFICATE = (BY_AUTHORITY, BY_SELF_SIGNED)
PROXY = "192.0.2.7"


def said_by(assertion: str) -> dict[str, str]:
    return {
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion,
    }


async def at_both(app: VariantApp, credentials: dict[str, str], **more: Any) -> list[Reply]:
    """The replies of the PAR and of the token endpoint to these credentials."""
    more = {"origin": app.origin, "certificate": app.certificate} | more
    headers = more.pop("headers", [])
    pushing = app.form() | credentials
    asking = {"grant_type": "authorization_code", "code": "never-made"} | credentials
    proofs = [("dpop", app.proof(origin=more["origin"]))] if app.is_dpop else []
    return [
        await app.world.post("/par", pushing, headers=headers, **more),
        await app.world.post("/token", asking, headers=[*headers, *proofs], **more),
    ]


async def is_refused_at_both(app: VariantApp, assertion: str) -> bool:
    await app.learn_nonce()
    replies = await at_both(app, said_by(assertion))
    return [reply.refusal for reply in replies] == [INVALID_CLIENT, INVALID_CLIENT]


async def is_accepted(app: VariantApp, assertion: str) -> bool:
    return (await app.world.post("/par", app.form() | said_by(assertion))).status == 201


def signed(app: VariantApp, algorithm: str, signature: Any, **claims: Any) -> str:
    """An assertion that is right but for its algorithm."""
    now = app.world.clock.now
    body = {
        "iss": app.client_id,
        "sub": app.client_id,
        "aud": ISSUER,
        "jti": "j",
        "iat": now,
        "exp": now + 60,
    }
    parts = [b64(json.dumps(each).encode()) for each in ({"alg": algorithm}, body | claims)]
    signing_input = ".".join(parts)
    return f"{signing_input}.{b64(signature(signing_input.encode()))}"


@over(authentication=BY_KEY)
async def test_C1_three_algorithms_and_no_other(app: VariantApp) -> None:
    for key in signing_keys(app.variant).values():
        assert await is_accepted(app, app.assertion(key=key))

    def rs256(data: bytes) -> bytes:
        key = rsa_key()
        assert isinstance(key, rsa.RSAPrivateKey)
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())

    public = pem(self_signed_certificate(rsa_key())).encode()
    for assertion in (
        signed(app, "RS256", rs256),
        signed(app, "none", lambda data: b""),
        signed(app, "None", lambda data: b""),
        signed(app, "HS256", lambda data: hmac_signature(public, data)),
        signed(app, "ES256", lambda data: bytes(64)),
        app.assertion(key=ec_key()),
    ):
        assert await is_refused_at_both(app, assertion)


@over(authentication=BY_KEY)
async def test_C2_aud_is_the_issuer_as_a_string(app: VariantApp) -> None:
    for audience in (
        [ISSUER], [ISSUER, f"{ISSUER}/token"], f"{ISSUER}/par", f"{ISSUER}/token", f"{MTLS_ORIGIN}/token", MTLS_ORIGIN,
        ISSUER + "/", ISSUER.upper(), ISSUER[:-1], f"{ISSUER}.evil.example", 7, None, {}, ABSENT,
    ):  # fmt: skip
        assert await is_refused_at_both(app, app.assertion(aud=audience)), audience
    assert await is_accepted(app, app.assertion(aud=ISSUER))


@over(authentication=BY_KEY)
async def test_C3_iss_and_sub_are_the_client(app: VariantApp) -> None:
    for claims in ({"sub": ABSENT}, {"iss": ABSENT}, {"sub": "portal"}, {"iss": "portal"}, {"iss": ISSUER},
                   {"iss": "portal", "sub": "portal"}, {"sub": [app.client_id]}, {"sub": "", "iss": ""}):  # fmt: skip
        assert await is_refused_at_both(app, app.assertion(**claims)), claims


@over(authentication=BY_KEY)
async def test_C4_exp_is_required_and_at_most_5_minutes_ahead(app: VariantApp) -> None:
    now = app.world.clock.now
    for exp in (ABSENT, now, now - 1, now + 311, now + 3600, now * 1000, "soon", str(now + 60), True, None):
        assert await is_refused_at_both(app, app.assertion(exp=exp)), exp
    for exp in (now + 1, now + 300):
        assert await is_accepted(app, app.assertion(exp=exp))


@over(authentication=BY_KEY)
async def test_C5_clocks_may_differ_by_10_seconds_and_not_by_60(app: VariantApp) -> None:
    now = app.world.clock.now
    for name in ("iat", "nbf"):
        assert await is_accepted(app, app.assertion(**{name: now + 10}))
        assert await is_refused_at_both(app, app.assertion(**{name: now + 61}))
        assert await is_refused_at_both(app, app.assertion(**{name: "now"}))


@over(authentication=BY_KEY)
async def test_C6_a_jti_counts_once_at_all_endpoints_of_all_nodes(app: VariantApp) -> None:
    assertion = app.assertion(jti="once", exp=app.world.clock.now + 300)
    assert await is_accepted(app, assertion)
    assert await is_refused_at_both(app, assertion)
    app.world.clock.now += 299
    app.world = await app.world.reopen()
    app.nonce = None
    assert await is_refused_at_both(app, assertion)
    assert await is_refused_at_both(app, app.assertion(jti=ABSENT))


@over()
async def test_C7_a_scheme_is_answered_by_401_with_a_challenge_and_the_rest_by_400(app: VariantApp) -> None:
    await app.learn_nonce()
    basic = base64.b64encode(f"{app.client_id}:secret".encode()).decode()
    for reply in await at_both(app, app.credentials(), headers=[("authorization", f"Basic {basic}")]):
        assert reply.refusal == (401, "invalid_client")
        assert (reply.header("www-authenticate") or "").startswith("Basic ")
    for reply in await at_both(app, {"client_id": app.client_id}, certificate=None):
        assert reply.refusal == INVALID_CLIENT
        assert reply.header("www-authenticate") is None


@over()
async def test_C8_a_client_id_of_somebody_else_is_refused(matrix: World, app: VariantApp) -> None:
    await app.learn_nonce()
    for other in ("portal", "portal-mtls", "nobody"):
        for reply in await at_both(app, app.credentials() | {"client_id": other}):
            assert reply.refusal == INVALID_CLIENT, other


@over()
async def test_C9_one_method_and_only_the_registered_one(matrix: World, app: VariantApp) -> None:
    await app.learn_nonce()
    own = {"client_id": app.client_id}
    by_secret = app.credentials() | {"client_secret": "s"}
    attempts: list[tuple[dict[str, str], bytes | None]] = [(by_secret, app.certificate)]
    if app.variant.authentication is BY_KEY:
        # A certificate that is good for others, alone, and half an assertion.
        attempts.append((own, matrix.certificates["portal-mtls"]))
        attempts.append((own | {"client_assertion": app.assertion()}, app.certificate))
        attempts.append((own | {"client_assertion_type": "urn:x"}, app.certificate))
    else:
        attempts.append((own | said_by(app.assertion()), app.certificate))
        attempts.append((own | said_by(app.assertion()), None))
    for credentials, certificate in attempts:
        for reply in await at_both(app, credentials, certificate=certificate, origin=MTLS_ORIGIN):
            assert reply.refusal == INVALID_CLIENT, credentials.keys()


@over(authentication=BY_AUTHORITY)
async def test_C10_one_registered_subject_of_a_trusted_authority(matrix: World, app: VariantApp) -> None:
    now = matrix.clock.now
    ca, name = matrix.authority, x509.DNSName(f"portal-{app.variant.number}.example")
    for certificate in (
        None,
        issue_certificate(certificate_authority(), names=[name]),
        issue_certificate(ca, names=[x509.DNSName("other.example")]),
        issue_certificate(ca, names=[x509.DNSName("*.example")]),
        issue_certificate(ca, names=[x509.UniformResourceIdentifier(name.value)]),
        issue_certificate(ca, subject=distinguished_name(("common_name", name.value))),
        issue_certificate(ca, names=[name], not_after=now - 1),
        issue_certificate(ca, names=[name], not_before=now + 60),
        self_signed_certificate(ec_key(), subject=distinguished_name(("common_name", name.value))),
    ):
        reply = await matrix.post(
            "/par", app.form() | app.credentials(), origin=MTLS_ORIGIN, certificate=certificate
        )
        assert reply.refusal == INVALID_CLIENT
    assert (await app.push()).status == 201


@over(authentication=BY_AUTHORITY)
async def test_C10_each_kind_of_subject(matrix: World, app: VariantApp) -> None:
    subject = distinguished_name(
        ("country_name", "US"), ("organization_name", "Lab, Inc."), ("common_name", "x")
    )
    names: dict[str, tuple[str, x509.GeneralName]] = {
        "san_dns": ("lab.example", x509.DNSName("LAB.example")),
        "san_uri": ("https://lab.example/a", x509.UniformResourceIdentifier("https://lab.example/a")),
        "san_ip": ("2001:db8::1", x509.IPAddress(ipaddress.ip_address("2001:db8:0::1"))),
        "san_email": ("it@lab.example", x509.RFC822Name("it@LAB.example")),
        "subject_dn": ("CN=x,O=Lab\\, Inc.,C=US", x509.DNSName("no.example")),
    }
    certificate = issue_certificate(
        matrix.authority, subject=subject, names=[name for _, name in names.values()]
    )
    for kind, (value, _) in names.items():
        for registered, status in ((value, 201), (value + "x", 400)):
            if kind == "san_ip" and status == 400:
                registered = "2001:db8::2"
            changed = replace(
                matrix.clients[app.client_id], certificate_subject=CertificateSubject(kind, registered)
            )
            app.world = await matrix.reopen(clients=matrix.clients | {app.client_id: changed})
            app.certificate = certificate
            assert (await app.push()).status == status, (kind, registered)


@over(authentication=BY_SELF_SIGNED)
async def test_C11_the_certificate_of_a_registered_key_and_no_other(matrix: World, app: VariantApp) -> None:
    name = x509.DNSName("portal.example")
    for certificate in (
        None,
        self_signed_certificate(ec_key()),
        issue_certificate(matrix.authority, names=[name]),
        matrix.certificates["portal-self-signed"],
    ):
        reply = await matrix.post(
            "/par", app.form() | app.credentials(), origin=MTLS_ORIGIN, certificate=certificate
        )
        assert reply.refusal == INVALID_CLIENT
    assert (await app.push()).status == 201
    assert (await app.renewed().push()).status == 201, "another certificate of the same key"


def through(form: str, der: bytes) -> tuple[str, str]:
    """The header in which a proxy of this kind hands a certificate on."""
    raw, text = base64.b64encode(der).decode(), pem(der)
    return {
        "apache": ("x-ssl-cert", text.replace("\n", " ")),
        "aws-alb": ("x-amzn-mtls-clientcert", quote(text, safe="+=/")),
        "envoy": ("x-forwarded-client-cert", f'Hash={sha256(der).hexdigest()};Cert="{quote(text, safe="")}"'),
        "haproxy": ("x-ssl-client-der", raw),
        "nginx": ("x-ssl-client-cert", quote(text, safe="")),
        "rfc9440": ("client-cert", f":{raw}:"),
        "traefik": ("x-forwarded-tls-client-cert", quote(raw, safe="")),
    }[form]


@over(authentication=BY_CERTIFICATE)
async def test_C12_a_certificate_through_a_listed_proxy_and_through_no_other(app: VariantApp) -> None:
    assert app.certificate is not None
    body = urlencode(app.form() | app.credentials()).encode()
    for form in HEADER_FORMS:
        name, value = through(form, app.certificate)
        for peer, status in ((PROXY, 201), ("198.51.100.9", 400)):
            face = ListenerFace(
                MTLS_ORIGIN,
                trusted=(ipaddress.ip_network(PROXY),),
                certificate_header=name,
                certificate_form=form,
            )
            headers = [("content-type", "application/x-www-form-urlencoded"), (name, value)]
            request = read(
                "POST",
                "/par",
                [(n.encode(), v.encode()) for n, v in headers],
                peer_address=peer,
                face=face,
                body=BytesBody(body),
            )
            assert (await app.world.send(request)).status == status, (form, peer)


@over(binding=MTLS)
async def test_C12_a_listener_that_trusts_no_proxy_reads_no_such_header(
    matrix: World, app: VariantApp
) -> None:
    assert app.certificate is not None
    code = await app.code()
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": "v" * 43} | app.credentials()
    headers = [("content-type", "application/x-www-form-urlencoded")]
    headers += [through(form_name, app.certificate) for form_name in HEADER_FORMS]
    request = http_request(
        "POST", "/token", headers=headers, body=urlencode(form).encode(), origin=MTLS_ORIGIN
    )
    refused = await matrix.send(request)
    assert refused.status == 400
    assert refused.json["error"] in ("invalid_client", "invalid_request")


@over(authentication=BY_KEY)
async def test_E1_an_assertion_needs_no_typ_and_its_case_does_not_matter(app: VariantApp) -> None:
    for header in ({}, {"typ": "JWT"}, {"typ": "jwt"}, {"typ": "client-authentication+JWT"}):
        assert await is_accepted(app, app.assertion(header=header))
    for typ in ("dpop+jwt", "oauth-authz-req+jwt", "at+jwt", 7):
        assert await is_refused_at_both(app, app.assertion(header={"typ": typ}))


@over(authentication=BY_KEY)
async def test_E14_keys_are_chosen_by_kid_and_never_taken_from_the_token(app: VariantApp) -> None:
    thief = ec_key()
    for header in (
        {"jku": "https://evil.example/jwks"},
        {"x5u": "https://evil.example/cert"},
        {"jwk": {"kty": "EC"}},
        {"kid": "ES256"},
    ):
        assert await is_accepted(app, app.assertion(header=header))
        stolen = make_assertion(thief, app.client_id, ISSUER, app.world.clock.now, header=header)
        assert await is_refused_at_both(app, stolen)
    assert await is_refused_at_both(app, app.assertion(header={"kid": "PS256"}))
    assert await is_refused_at_both(app, app.assertion(header={"kid": "nobody's"}))

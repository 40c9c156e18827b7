"""FAPI 2.0 HTTP Signatures 5.3.2 at the gateway (S5): what is signed, where it stands, and who is asked to sign."""

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from authz.protocol.jwk import JoseError, import_public_jwk
from gateway.settings import ResponseSignatures
from tests.support.gateway import MOUNT, Reply, RunningGateway, start_gateway, stop_gateway
from tests.support.http_signatures import Exchange, NotSigned, Verified, only, verify
from tests.support.long_bundle import long_bundle

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("signatures")]
RESULT = {
    "resourceType": "Observation",
    "status": "final",
    "category": [
        {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}
            ]
        }
    ],
    "code": {"text": "x"},
    "subject": {"reference": "Patient/A"},
}


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["ES256", "EdDSA", "PS256"])
async def signing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    gateway = await start_gateway(
        tmp_path_factory.mktemp("signing"),
        signing_algorithm=request.param,
        response_signatures=ResponseSignatures.ON,
    )
    yield gateway
    await stop_gateway(gateway)


@pytest.fixture
def gateway(signing: RunningGateway) -> RunningGateway:
    signing.upstream.reset()
    return signing


def exchange(
    gateway: RunningGateway, method: str, path: str, reply: Reply, sent: Mapping[str, str] | None = None
) -> Exchange:
    return Exchange(
        method,
        gateway.origin + MOUNT + path,
        reply.status,
        reply.headers,
        reply.body,
        reply.trailers,
        dict(sent or {}),
    )


async def published(gateway: RunningGateway) -> Any:
    """The keys where RFC 9728 says that they are."""
    metadata = (await gateway.send("GET", "/.well-known/oauth-protected-resource" + MOUNT)).json
    assert metadata["jwks_uri"].startswith(gateway.origin)
    jwks = (await gateway.send("GET", metadata["jwks_uri"].removeprefix(gateway.origin))).json
    (key,) = jwks["keys"]
    assert metadata["resource_signing_alg_values_supported"] == [key["alg"]]
    return jwks


async def checked(
    gateway: RunningGateway, method: str, path: str, reply: Reply, sent: Mapping[str, str] | None = None
) -> Verified:
    return verify(exchange(gateway, method, path, reply, sent), await published(gateway))


async def test_S5_a_resource_is_signed_with_all_that_is_said_about_it(gateway: RunningGateway) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        headers = {
            "ETag": 'W/"7"',
            "Last-Modified": "Sat, 28 Nov 2026 00:00:00 GMT",
            "Content-Location": f"{gateway.upstream.base}/Patient/A/_history/7",
        }
        patient = {"resourceType": "Patient", "id": "A"}
        return web.json_response(patient, content_type="application/fhir+json", headers=headers)

    gateway.upstream.answer = answer
    reply = await gateway.fhir("GET", "/Patient/A")
    assert reply.status == 200
    found = await checked(gateway, "GET", "/Patient/A", reply)
    assert found.components == [
        '"@status"',
        '"content-type"',
        '"content-digest"',
        '"x-fapi-interaction-id"',
        '"etag"',
        '"last-modified"',
        '"content-location"',
        '"@method";req',
        '"@target-uri";req',
    ]
    assert found.label == "fapi"
    assert abs(int(found.parameters["created"]) - gateway.gateway.clock()) <= 5


async def test_S5_the_query_is_part_of_the_target_uri(gateway: RunningGateway) -> None:
    path = "/Observation?code=http%3A%2F%2Floinc.org%7C1234-5&status=final"
    reply = await gateway.fhir("GET", path)
    assert reply.status == 200
    await checked(gateway, "GET", path, reply)
    with pytest.raises(NotSigned):
        await checked(gateway, "GET", path + "&_count=1", reply)


async def test_S5_refusals_are_signed_and_bound_to_their_request_too(gateway: RunningGateway) -> None:
    asked = [
        (401, await gateway.send("GET", MOUNT + "/Patient/A")),
        (404, await gateway.fhir("GET", "/Patient/nobody")),
        (405, await gateway.fhir("DELETE", "/metadata")),
    ]
    for (status, reply), (method, path) in zip(
        asked, [("GET", "/Patient/A"), ("GET", "/Patient/nobody"), ("DELETE", "/metadata")], strict=True
    ):
        assert (reply.status, reply.json["resourceType"]) == (status, "OperationOutcome")
        assert '"content-digest"' in (await checked(gateway, method, path, reply)).components


async def test_S5_a_creation_is_signed_with_its_location(gateway: RunningGateway) -> None:
    async def take(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.Response(status=201, headers={"Location": f"{gateway.upstream.base}/Observation/new"})

    gateway.upstream.answer = take
    body = json.dumps(RESULT).encode()
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    sent = {"content-digest": f"sha-256=:{digest}:"}
    headers = [("Content-Type", "application/fhir+json"), ("Content-Digest", sent["content-digest"])]
    token = await gateway.token("lab", scope="system/*.cruds")
    reply = await gateway.fhir("POST", "/Observation", token=token, headers=headers, body=body)
    assert reply.status == 201, reply.body
    found = await checked(gateway, "POST", "/Observation", reply, sent)
    assert {'"location"', '"content-digest";req'} <= set(found.components)


async def test_S5_a_body_that_its_digest_does_not_fit_is_400_and_never_reaches_the_store(
    gateway: RunningGateway,
) -> None:
    body = json.dumps(RESULT).encode()
    for value in ("sha-256=:AAAA:", "sha-256", "sha-256=:AAA:"):
        headers = [("Content-Type", "application/fhir+json"), ("Content-Digest", value)]
        token = await gateway.token("lab", scope="system/*.cruds")
        reply = await gateway.fhir("POST", "/Observation", token=token, headers=headers, body=body)
        assert (reply.status, reply.reason) == (400, "invalid-body")
        found = await checked(gateway, "POST", "/Observation", reply)
        assert '"content-digest";req' not in found.components
    assert gateway.upstream.requests == []


async def test_rfc9530_b_2_the_digest_in_an_answer_to_head_is_that_of_no_content(
    gateway: RunningGateway,
) -> None:
    reply = await gateway.fhir("HEAD", "/Patient/A")
    assert (reply.status, reply.body) == (200, b"")
    await checked(gateway, "HEAD", "/Patient/A", reply)
    empty = base64.b64encode(hashlib.sha256().digest()).decode()
    assert only(reply.headers, "content-digest") == f"sha-256=:{empty}:"


async def test_S5_a_long_bundle_has_digest_and_signature_in_its_trailer_section(
    gateway: RunningGateway,
) -> None:
    gateway.upstream.answer = long_bundle(gateway, 12)
    reply = await gateway.fhir("GET", "/Observation?code=x")
    assert len(reply.json["entry"]) == 12
    assert only(reply.headers, "trailer") == "Content-Digest, Signature-Input, Signature"
    assert [name for name, _ in reply.trailers] == ["Content-Digest", "Signature-Input", "Signature"]
    assert not [
        name for name, _ in reply.headers if name in ("Content-Digest", "Signature-Input", "Signature")
    ]
    found = await checked(gateway, "GET", "/Observation?code=x", reply)
    assert '"content-digest";tr' in found.components
    assert '"content-digest"' not in found.components


async def test_S5_the_connection_goes_on_behind_a_trailer_section(gateway: RunningGateway) -> None:
    gateway.upstream.answer = long_bundle(gateway, 6)
    token = await gateway.token()
    path = MOUNT + "/Observation?code=x"
    requests = b"".join(
        (
            f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: DPoP {token}\r\n"
            f"DPoP: {gateway.proof('GET', gateway.origin + MOUNT + '/Observation', token)}\r\n{more}\r\n"
        ).encode()
        for more in ("", "Connection: close\r\n")
    )
    raw = (await gateway.raw(requests)).raw
    assert raw.count(b"HTTP/1.1 200 OK\r\n") == 2
    first, second = raw.split(b"\r\n\r\nHTTP/1.1 200 OK\r\n")
    for text in (first, second):
        assert text.count(b"\r\n0\r\nContent-Digest: ") == 1


async def test_S5_a_caller_that_speaks_http_1_0_gets_a_long_bundle_without_trailer_section(
    gateway: RunningGateway,
) -> None:
    gateway.upstream.answer = long_bundle(gateway, 6)
    token = await gateway.token()
    proof = gateway.proof("GET", f"{gateway.origin}{MOUNT}/Observation", token)
    request = (
        f"GET {MOUNT}/Observation?code=x HTTP/1.0\r\nAuthorization: DPoP {token}\r\nDPoP: {proof}\r\n\r\n"
    )
    reply = await gateway.raw(request.encode())
    assert len(reply.json["entry"]) == 6
    assert reply.header("Trailer") is None


async def test_S5_what_breaks_off_is_not_signed(gateway: RunningGateway) -> None:
    gateway.upstream.answer = long_bundle(gateway, 12, breaks_off=True)
    reply = await gateway.fhir("GET", "/Observation?code=x")
    assert reply.status == 200
    assert reply.body.startswith(b'{"resourceType":"Bundle"')
    assert reply.trailers == []
    assert b"Signature:" not in reply.raw
    assert not reply.has_last_chunk


async def test_S5_the_signature_of_a_signed_request_is_covered(gateway: RunningGateway) -> None:
    sent = {
        "signature-input": 'sig1=("@method" "@target-uri");created=1;keyid="app";tag="fapi-2-request"',
        "signature": "sig1=:AAAA:",
    }
    reply = await gateway.fhir("GET", "/Patient/A", headers=list(sent.items()))
    found = await checked(gateway, "GET", "/Patient/A", reply, sent)
    assert {'"signature";req', '"signature-input";req'} <= set(found.components)
    with pytest.raises(NotSigned):
        await checked(gateway, "GET", "/Patient/A", reply, {**sent, "signature": "sig1=:BBBB:"})


async def test_S5_neither_token_nor_proof_is_covered(gateway: RunningGateway) -> None:
    reply = await gateway.fhir("GET", "/Patient/A")
    text = only(reply.headers, "signature-input")
    assert "authorization" not in text
    assert "dpop" not in text


async def test_S5_what_the_documentation_tells_clients_to_do_verifies(gateway: RunningGateway) -> None:
    page = (Path(__file__).parents[2] / "docs" / "response-signatures.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.S)
    told: dict[str, Any] = {}
    exec(block, told)  # the page's own code
    (key,) = (await published(gateway))["keys"]
    gateway.upstream.answer = long_bundle(gateway, 6)
    for path in ("/Patient/nobody", "/Observation?code=x"):
        reply = await gateway.fhir("GET", path)
        headers, trailers = ({n.lower(): v for n, v in fields} for fields in (reply.headers, reply.trailers))
        url = gateway.origin + MOUNT + path
        base, signature = told["signature_base"](reply.status, headers, trailers, "GET", url, {})
        import_public_jwk(key).verify(signature, base, key["alg"])
        with pytest.raises(JoseError):
            import_public_jwk(key).verify(signature, base + b" ", key["alg"])
        assert told["body_is_right"](reply.body, headers, trailers)
        assert not told["body_is_right"](reply.body + b" ", headers, trailers)


# Accept-Signature

WISH = 'mine=("@status" "content-digest" "@method";req);created;tag="fapi-2-response"'


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def asked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    gateway = await start_gateway(
        tmp_path_factory.mktemp("asked"), response_signatures=ResponseSignatures.ASKED
    )
    yield gateway
    await stop_gateway(gateway)


async def test_rfc9421_5_who_does_not_ask_gets_no_signature(asked: RunningGateway) -> None:
    reply = await asked.fhir("GET", "/Patient/A")
    assert reply.status == 200
    assert (reply.header("Signature"), reply.header("Content-Digest")) == (None, None)


async def test_rfc9421_5_2_a_wish_is_fulfilled_under_its_label_with_its_nonce(asked: RunningGateway) -> None:
    wish = WISH + ';nonce="n-0S6_WzA2Mj"'
    reply = await asked.fhir("GET", "/Patient/A", headers=[("Accept-Signature", wish)])
    found = await checked(asked, "GET", "/Patient/A", reply)
    assert (found.label, found.parameters["nonce"]) == ("mine", "n-0S6_WzA2Mj")
    assert {'"@status"', '"content-digest"', '"@method";req', '"@target-uri";req'} <= set(found.components)


async def test_rfc9421_5_2_components_beyond_our_own_are_covered_too(asked: RunningGateway) -> None:
    wish = 'mine=("@status" "cache-control" "x-fapi-auth-date";req)'
    sent = {"x-fapi-auth-date": "Tue, 11 Sep 2012 19:43:31 GMT"}
    headers = [("Accept-Signature", wish), *sent.items()]
    reply = await asked.fhir("GET", "/Patient/A", headers=headers)
    found = await checked(asked, "GET", "/Patient/A", reply, sent)
    assert found.components[-2:] == ['"cache-control"', '"x-fapi-auth-date";req']


async def test_rfc9421_5_2_the_digest_that_was_asked_for_may_come_in_the_trailer_section(
    asked: RunningGateway,
) -> None:
    asked.upstream.answer = long_bundle(asked, 6)
    reply = await asked.fhir("GET", "/Observation?code=x", headers=[("Accept-Signature", WISH)])
    asked.upstream.reset()
    found = await checked(asked, "GET", "/Observation?code=x", reply)
    assert found.label == "mine"
    assert '"content-digest";tr' in found.components


@pytest.mark.parametrize(
    "wish",
    [
        WISH.replace("fapi-2-response", "other"),
        WISH + ';keyid="nobody"',
        WISH + ';alg="rsa-pss-sha512"',
        WISH + ";expires",
        WISH + ";nonce=1",
        WISH + ';nonce="' + "n" * 257 + '"',
        WISH.replace(";created", ";created=17"),
        'mine=("x-missing")',
        'mine=("@request-target";req)',
        'mine=("content-type";sf)',
        'mine=("date")',
        "mine=?1",
        "mine",
        'mine=("@status"',
        "mine=(" + " ".join(f'"x{n}"' for n in range(33)) + ")",
    ],
)
async def test_rfc9421_5_2_a_wish_that_cannot_be_fulfilled_is_passed_over(
    asked: RunningGateway, wish: str
) -> None:
    reply = await asked.fhir("GET", "/Patient/A", headers=[("Accept-Signature", wish)])
    assert reply.status == 200
    assert (reply.header("Signature"), reply.header("Signature-Input")) == (None, None)


async def test_rfc9421_5_2_the_first_wish_that_can_be_fulfilled_is(asked: RunningGateway) -> None:
    headers = [("Accept-Signature", 'a=("@status");tag="other"'), ("Accept-Signature", WISH)]
    reply = await asked.fhir("GET", "/Patient/A", headers=headers)
    assert (await checked(asked, "GET", "/Patient/A", reply)).label == "mine"


async def test_S5_where_all_is_signed_a_wish_that_cannot_be_fulfilled_changes_nothing(
    gateway: RunningGateway,
) -> None:
    for wish in ('mine=("x-missing")', 'mine=("@status");tag="other"', "("):
        reply = await gateway.fhir("GET", "/Patient/A", headers=[("Accept-Signature", wish)])
        assert (await checked(gateway, "GET", "/Patient/A", reply)).label == "fapi"


async def test_S5_signing_is_off_unless_it_is_switched_on(tmp_path: Path) -> None:
    gateway = await start_gateway(tmp_path)
    try:
        reply = await gateway.fhir("GET", "/Patient/A", headers=[("Accept-Signature", WISH)])
        assert reply.status == 200
        assert (reply.header("Signature"), reply.header("Content-Digest")) == (None, None)
        gateway.upstream.answer = long_bundle(gateway, 6)
        reply = await gateway.fhir("GET", "/Observation?code=x")
        assert (reply.header("Trailer"), reply.trailers) == (None, [])
        metadata = (await gateway.send("GET", "/.well-known/oauth-protected-resource" + MOUNT)).json
        assert not {"jwks_uri", "resource_signing_alg_values_supported"} & metadata.keys()
    finally:
        await stop_gateway(gateway)

"""Transport: rows T2 to T5 of the FAPI 2.0 checklist, as far as the authorization server decides them."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from authz.storage.store import StoreUnavailable
from gateway.demo.authority import Authority
from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy.upstream import UpstreamClient
from gateway.settings import Upstream
from tests.support.authorization_server import ISSUER, Person, World, http_request, open_world

FORM = "application/x-www-form-urlencoded"
DOORS = ("/par", "/token", "/revoke")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def test_T2_every_redirect_is_303(world: World) -> None:
    seen = []
    handle = world.server.handle

    async def watched(request):  # type: ignore[no-untyped-def]
        answer = await handle(request)
        seen.append(answer.status)
        return answer

    world.server.handle = watched  # type: ignore[method-assign]
    person = Person(world)
    await person.consent(await person.sign_in(await world.app().push()))
    redirects = [status for status in seen if 300 <= status < 400]
    assert redirects
    assert set(redirects) == {303}


async def test_T3_answers_with_tokens_and_codes_are_kept_nowhere(world: World) -> None:
    app, person = world.app(), Person(world)
    pushed = await app.push()
    redirect = await person.consent(await person.sign_in(pushed))
    tokens = await app.redeem(await app.code())
    refreshed = await app.refresh(tokens.json["refresh_token"])
    for reply in (pushed, redirect, tokens, refreshed):
        assert reply.status in (200, 201, 303)
        assert reply.header("cache-control") == "no-store"


async def test_T3_what_tells_of_tokens_is_kept_nowhere_either(world: World) -> None:
    app = world.app()
    code = await app.code(scope="openid offline_access launch/patient patient/*.rs")
    tokens = (await app.redeem(code)).json
    told = await app.post("/introspect", {"token": tokens["access_token"]})
    request = app.reading(tokens["access_token"], path="/userinfo")
    person = await world.send(request)
    revoked = await app.post("/revoke", {"token": tokens["refresh_token"]})
    for reply in (told, person, revoked):
        assert (reply.status, reply.header("cache-control")) == (200, "no-store")


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_T5_other_methods_are_405_with_allow(world: World, path: str, method: str) -> None:
    reply = await world.send(http_request(method, path))
    assert (reply.status, reply.header("allow")) == (405, "POST")
    assert reply.json["error"] == "invalid_request"


async def test_T5_well_known_documents_are_for_GET_and_HEAD(world: World) -> None:
    reply = await world.send(http_request("POST", "/jwks"))
    assert (reply.status, reply.header("allow")) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize(
    "media_type", ["application/json", "multipart/form-data; boundary=x", "text/plain", None]
)
async def test_T5_forms_only(world: World, path: str, media_type: str | None) -> None:
    headers = [] if media_type is None else [("content-type", media_type)]
    reply = await world.send(http_request("POST", path, headers=headers, body=b"{}"))
    assert reply.refusal == (400, "invalid_request")


async def test_T5_a_charset_beside_the_media_type_is_no_matter(world: World) -> None:
    app = world.app()
    request = http_request("POST", "/par", headers=[("content-type", f"{FORM}; charset=UTF-8")], body=b"a=b")
    assert (await world.send(request)).refusal == (400, "invalid_client")
    assert (await app.push()).status == 201


async def test_T5_the_authorization_endpoint_knows_no_CORS(world: World) -> None:
    reply = await world.get("/authorize", headers=[("origin", "https://evil.example")])
    assert not [name for name, _ in reply.answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("path", DOORS)
async def test_a_body_that_is_too_long_is_413(world: World, path: str) -> None:
    reply = await world.post(path, b"a=" + b"x" * 70_000)
    assert (reply.status, reply.json["error"]) == (413, "invalid_request")


@pytest.mark.parametrize(
    "body", [b"a=%", b"a=%zz", b"a=%ff", b"a=b&&c=d", b"=b", b"a=b;c=d", b"\xff", b"a=%00"]
)
async def test_a_form_with_two_readings_is_refused(world: World, body: bytes) -> None:
    assert (await world.post("/token", body)).refusal == (400, "invalid_request")


async def test_a_store_that_does_not_answer_is_503_and_nothing_more_is_said(world: World) -> None:
    async def broken(*_: object, **__: object) -> bool:
        raise StoreUnavailable("disk I/O error on /secret/place")

    world.store.claim_in_order = broken  # type: ignore[method-assign]
    reply = await world.app().push()
    assert reply.refusal == (503, "temporarily_unavailable")
    assert reply.header("retry-after") == "2"
    assert "secret" not in reply.text


async def test_a_mistake_of_ours_is_500_without_detail(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object, **__: object) -> bool:
        raise KeyError("a secret")

    world.store.claim_in_order = broken  # type: ignore[method-assign]
    reply = await world.app().push()
    assert reply.refusal == (500, "server_error")
    assert "secret" not in reply.text
    assert caplog.records


async def test_a_path_that_is_not_ours_has_no_answer(world: World) -> None:
    for path in ("/par/", "/PAR", "/token%2f", "//token", "/fhir/r4/Patient/A"):
        assert await world.server.handle(http_request("POST", path, origin=ISSUER)) is None


async def test_beyond_every_page_tells_browsers_to_come_by_https_alone(world: World) -> None:
    person = Person(world)
    page = await person.sign_in(await world.app().push())
    refused = await world.get("/authorize")
    for reply in (page, refused):
        assert (reply.header("content-type") or "").startswith("text/html")
        policy = reply.header("strict-transport-security") or ""
        seconds = int(policy.partition(";")[0].removeprefix("max-age="))
        assert seconds >= 31536000


async def test_beyond_a_store_without_a_trusted_certificate_is_not_talked_to(tmp_path: Path) -> None:
    Authority.new("Nobody's CA").issue(tmp_path / "s.pem", tmp_path / "s.key", "localhost", server=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "s.pem", tmp_path / "s.key")
    heard: list[bytes] = []

    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1))
        writer.close()

    server = await asyncio.start_server(store, "127.0.0.1", 0, ssl=context)
    base = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    client = UpstreamClient(
        Upstream("fhir", "fhir-r4", "/fhir", base, base, frozenset()), lambda seconds: None
    )
    await client.open()
    try:
        with pytest.raises(FhirError) as error:
            await client.send("GET", "Patient/A", {})
        assert error.value.reason is Reason.UPSTREAM_UNAVAILABLE
        assert heard == []
    finally:
        await client.close()
        server.close()

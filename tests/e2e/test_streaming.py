"""Streams stay streams: a gigabyte each way with flat memory, back-pressure and cancellation from end to end."""

import asyncio
import base64
import json
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from yarl import URL

from gateway.demo.client import Session
from tests.support.http_signatures import Exchange, verify
from tests.support.processes import GatewayProcess, start_process

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("streaming"),
]
GIGABYTE = 1024**3
MEGABYTE = 1024**2
SLACK = 50 * MEGABYTE
IN_FLIGHT = (
    24 * MEGABYTE
)  # what sockets and buffers of three processes may hold of a stream that nobody takes
SCANS = """
policy: scans
version: 1
owner: tests
status: enforce
text: The laboratory files scans.
rules:
  - rule: file-scans
    effect: permit
    who: {context: system, org: laboratory}
    may: [create]
    resources: [Binary]
    shared: true
    because: a scan belongs to a result
tests:
  - test: scans are filed
    as: {context: system, org: laboratory}
    request: POST /Binary
    expect: {decision: permit, rule: file-scans}
"""
EXPORTS = """
policy: exports
version: 1
owner: tests
status: enforce
text: The laboratory takes its results back.
rules:
  - rule: results
    effect: permit
    who: {context: system, org: laboratory}
    may: ["operation:Patient/$export"]
    resources: [Patient]
    shared: true
    operation: {types: [Observation], type_filter: {Observation: "Observation?category=laboratory"}}
    because: They are its own
tests:
  - test: results are exported
    as: {context: system, org: laboratory}
    request: GET /Patient/$export
    expect: {decision: permit, rule: results}
"""
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass
class Store:
    """A store on loopback that streams. answer is what it does next."""

    answer: Handler | None = None
    sent: int = 0
    received: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert self.answer is not None
        try:
            return await self.answer(request)
        except (asyncio.CancelledError, ConnectionError, aiohttp.ClientError):
            self.gone.set()
            raise


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    def change(document: dict[str, Any]) -> None:
        lab = next(client for client in document["clients"] if client["client_id"] == "lab-backend")
        lab["scope"] = "system/Observation.rs system/Binary.c"
        document["upstreams"]["fhir"]["response_signatures"] = "asked"

    gateway = await start_process(
        tmp_path_factory.mktemp("streaming"),
        change=change,
        policies={"90-scans.yaml": SCANS, "91-exports.yaml": EXPORTS},
    )
    yield gateway
    await gateway.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def store(running: GatewayProcess) -> AsyncIterator[Store]:
    store = Store()
    runner = web.ServerRunner(
        web.Server(store.handle, access_log=None, handler_cancellation=True), shutdown_timeout=1
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", running.ports.upstream).start()
    yield store
    await runner.cleanup()


@pytest_asyncio.fixture(loop_scope="module")
async def lab(running: GatewayProcess) -> AsyncIterator[tuple[Session, str]]:
    async with running.session("lab-backend") as app:
        yield app, await running.own_token(app, "system/Observation.rs system/Binary.c")


def entry(number: int, filling: str, category: str = "laboratory") -> bytes:
    resource = {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "category": [{"coding": [{"code": category}]}],
        "code": {"text": "scan"},
        "subject": {"reference": "Patient/A"},
        "valueString": filling,
    }
    return json.dumps({"resource": resource, "search": {"mode": "match"}}).encode()


def bundle(store: Store, size: int, filling: int) -> Handler:
    """A searchset of about that many bytes, every tenth entry one that the laboratory may not see."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/fhir+json"})
        await response.prepare(request)
        link = json.dumps([{"relation": "self", "url": str(request.url)}]).encode()
        await response.write(b'{"resourceType":"Bundle","type":"searchset","link":%b,"entry":[' % link)
        text = "x" * filling
        shown, hidden = entry(0, text), entry(1, text, "vital-signs")
        sent = number = 0  # its own: the gateway's probe of the store may ask meanwhile
        while sent < size:
            piece = (hidden if number % 10 == 9 else shown) + b","
            await response.write(piece)
            sent += len(piece)
            store.sent = sent
            number += 1
        await response.write(shown + b"]}")
        await response.write_eof()
        return response

    return answer


async def headers_for(app: Session, token: str, method: str, url: str) -> dict[str, str]:
    """Authorization and a proof with the gateway's nonce."""
    if "gateway" not in app.nonces:
        reply = await app.send("GET", url, {"Authorization": "DPoP x"})
        app.nonces["gateway"] = reply.headers["dpop-nonce"]
    return {"Authorization": f"DPoP {token}", "DPoP": app.proof(method, url, token)}


async def test_a_gigabyte_comes_down_filtered_within_50_MB(
    running: GatewayProcess, store: Store, lab: tuple[Session, str]
) -> None:
    app, token = lab
    url = f"{running.facts['fhir_base']}/Observation"
    store.answer = bundle(store, MEGABYTE, 20_000)  # a first one, so that what grows later is growth
    async with app.http.get(url, headers=await headers_for(app, token, "GET", url)) as response:
        small = json.loads(await response.read())
    assert {e["resource"]["category"][0]["coding"][0]["code"] for e in small["entry"]} == {"laboratory"}
    before = running.resident_bytes()
    running.forget_peak()
    store.answer = bundle(store, GIGABYTE, 200_000)
    got, first, head = 0, 0.0, b""
    started = time.monotonic()
    async with app.http.get(url, headers=await headers_for(app, token, "GET", url)) as response:
        assert response.status == 200
        async for chunk in response.content.iter_any():
            if not got:
                first, head = time.monotonic() - started, chunk
            got += len(chunk)
            tail = chunk
    whole = time.monotonic() - started
    assert 0.89 * GIGABYTE < got < 0.92 * GIGABYTE  # nine of ten entries
    assert head.startswith(b'{"resourceType":"Bundle"')
    assert tail.endswith(b"}")
    assert first < whole / 4  # the first entries are out long before the last are in
    assert running.peak_bytes() - before < SLACK


async def test_a_gigabyte_comes_down_as_xml_in_gzip_within_50_MB(
    running: GatewayProcess, store: Store, lab: tuple[Session, str]
) -> None:
    app, token = lab
    url = f"{running.facts['fhir_base']}/Observation"
    for size, filling in ((MEGABYTE, 20_000), (GIGABYTE, 200_000)):
        before = running.resident_bytes()
        running.forget_peak()
        store.answer = bundle(store, size, filling)
        asked = {**await headers_for(app, token, "GET", url), "Accept": "application/fhir+xml"}
        got, rest, decoder = 0, b"", zlib.decompressobj(wbits=31)
        async with app.http.get(url, headers={**asked, "Accept-Encoding": "gzip"}) as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "application/fhir+xml; charset=utf-8"
            assert response.headers["Content-Encoding"] == "gzip"
            async for chunk in response.content.iter_any():
                text = decoder.decompress(chunk)
                got += len(text)
                rest = rest[-1000:] + text
                assert b"vital-signs" not in rest
        assert decoder.eof
        assert rest.endswith(b"</entry></Bundle>")
        assert 0.88 * size < got < 0.95 * size  # nine of ten entries
    assert running.peak_bytes() - before < SLACK


def export(running: GatewayProcess, store: Store, size: int, filling: int) -> Handler:
    """A job that is done at once, with one file of about that many bytes, in chunks that cut lines anywhere."""
    base = f"http://127.0.0.1:{running.ports.upstream}/fhir"

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("$export"):
            return web.Response(status=202, headers={"Content-Location": f"{base}/jobs/1"})
        if request.path.endswith("/jobs/1"):
            output = [{"type": "Observation", "url": f"{base}/jobs/1/file"}]
            return web.json_response({"transactionTime": "2026-01-01T00:00:00Z", "output": output})
        response = web.StreamResponse(headers={"Content-Type": "application/fhir+ndjson"})
        await response.prepare(request)
        text = "x" * filling
        shown, hidden = (
            json.dumps(json.loads(entry(number, text, category))["resource"]).encode() + b"\n"
            for number, category in enumerate(("laboratory", "vital-signs"))
        )
        sent = number = 0
        while sent < size:
            piece = hidden if number % 10 == 9 else shown
            cut = number % len(piece)
            await response.write(piece[:cut])
            await response.write(piece[cut:])
            sent += len(piece)
            store.sent = sent
            number += 1
        await response.write_eof()
        return response

    return answer


async def test_a_file_of_a_gigabyte_is_exported_filtered_within_50_MB(
    running: GatewayProcess, store: Store, lab: tuple[Session, str]
) -> None:
    app, token = lab
    base = running.facts["fhir_base"]
    store.answer = export(running, store, MEGABYTE, 20_000)
    sent = {**await headers_for(app, token, "GET", f"{base}/Patient/$export"), "Prefer": "respond-async"}
    async with app.http.get(f"{base}/Patient/$export", headers=sent) as response:
        assert response.status == 202, await response.read()
        job = response.headers["Content-Location"]
    async with app.http.get(job, headers=await headers_for(app, token, "GET", job)) as response:
        (file,) = (await response.json())["output"]
    url = file["url"]
    async with app.http.get(url, headers=await headers_for(app, token, "GET", url)) as response:
        small = [json.loads(line) for line in (await response.read()).splitlines()]
    assert {line["category"][0]["coding"][0]["code"] for line in small} == {"laboratory"}
    before = running.resident_bytes()
    running.forget_peak()
    store.answer = export(running, store, GIGABYTE, 200_000)
    got = 0
    async with app.http.get(url, headers=await headers_for(app, token, "GET", url)) as response:
        assert response.status == 200
        async for chunk in response.content.iter_any():
            got += len(chunk)
            tail = chunk
    assert 0.89 * GIGABYTE < got < 0.92 * GIGABYTE  # nine of ten lines
    assert tail.endswith(b"}\n")
    assert running.peak_bytes() - before < SLACK


@dataclass
class Download:
    """A chunked answer, read from the socket without being held."""

    status: int
    headers: list[tuple[str, str]]
    size: int
    digest: bytes
    trailers: list[tuple[str, str]]


async def download(running: GatewayProcess, url: str, headers: dict[str, str]) -> Download:
    """An answer with its trailer section, of which aiohttp's client tells nothing."""
    parts = urlsplit(url)
    context = ssl.create_default_context(cafile=running.facts["ca_certificate"])
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context, limit=MEGABYTE)
    lines = [f"GET {parts.path} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    status = int((await reader.readline()).split()[1])
    found = Download(status, await field_lines(reader), 0, b"", [])
    digest = sha256()
    while length := int(await reader.readline(), 16):
        digest.update(await reader.readexactly(length))
        found.size += length
        assert await reader.readexactly(2) == b"\r\n"
    found.trailers, found.digest = await field_lines(reader), digest.digest()
    writer.close()
    return found


async def field_lines(reader: asyncio.StreamReader) -> list[tuple[str, str]]:
    found = []
    while (line := (await reader.readline()).decode().rstrip("\r\n")) != "":
        name, _, value = line.partition(":")
        found.append((name, value.strip()))
    return found


async def test_a_gigabyte_comes_down_signed_within_50_MB(
    running: GatewayProcess, store: Store, lab: tuple[Session, str]
) -> None:
    app, token = lab
    url = f"{running.facts['fhir_base']}/Observation"
    async with app.http.get(f"{running.facts['issuer']}/jwks") as response:
        jwks = await response.json()
    for size, filling in ((MEGABYTE, 20_000), (GIGABYTE, 200_000)):
        before = running.resident_bytes()
        running.forget_peak()
        store.answer = bundle(store, size, filling)
        asked = {
            **await headers_for(app, token, "GET", url),
            "Accept-Signature": 'sig=("@status" "content-digest")',
        }
        found = await download(running, url, asked)
        assert found.status == 200
        assert found.size > 0.88 * size
        said = base64.b64encode(found.digest).decode()
        assert ("Content-Digest", f"sha-256=:{said}:") in found.trailers
        exchange = Exchange("GET", url, found.status, found.headers, b"", found.trailers)
        verified = verify(exchange, jwks, digest=found.digest)
        assert '"content-digest";tr' in verified.components
    assert running.peak_bytes() - before < SLACK


async def test_a_gigabyte_goes_up_within_50_MB(
    running: GatewayProcess, store: Store, lab: tuple[Session, str]
) -> None:
    app, token = lab
    url = f"{running.facts['fhir_base']}/Binary"
    seen: dict[str, Any] = {}

    async def take(request: web.BaseRequest) -> web.StreamResponse:
        store.received = 0
        async for chunk in request.content.iter_any():
            store.received += len(chunk)
        seen.update({name.lower(): value for name, value in request.headers.items()})
        location = f"http://127.0.0.1:{running.ports.upstream}/fhir/Binary/b1"
        return web.Response(status=201, headers={"Location": location})

    store.answer = take

    async def content(size: int) -> AsyncIterator[bytes]:
        piece = bytes(MEGABYTE)
        for _ in range(size // MEGABYTE):
            yield piece

    for size in (4 * MEGABYTE, GIGABYTE):
        before = running.resident_bytes()
        running.forget_peak()
        sent = {
            **await headers_for(app, token, "POST", url),
            "Content-Type": "application/dicom",
            "Content-Length": str(size),
        }
        async with app.http.post(url, headers=sent, data=content(size)) as response:
            assert response.status == 201, await response.read()
            assert response.headers["Location"] == f"{url}/b1"
        assert store.received == size
    assert (seen["content-length"], seen["content-type"]) == (str(GIGABYTE), "application/dicom")
    assert running.peak_bytes() - before < SLACK


async def settled(read: Callable[[], int]) -> int:
    """The value once it has stopped to grow for a second."""
    seen = -1
    while seen != (now := read()):
        seen = now
        await asyncio.sleep(1)
    return seen


async def test_a_caller_that_does_not_read_slows_the_store_and_leaving_ends_it(
    running: GatewayProcess, store: Store, lab: tuple[Session, str]
) -> None:
    app, token = lab
    url = f"{running.facts['fhir_base']}/Observation"
    store.answer = bundle(store, GIGABYTE, 200_000)
    sent = await headers_for(app, token, "GET", url)
    response = await app.http.get(url, headers=sent)
    await response.content.readany()
    assert await settled(lambda: store.sent) < IN_FLIGHT
    response.close()
    await asyncio.wait_for(store.gone.wait(), 10)
    assert store.sent < IN_FLIGHT


async def test_a_store_that_does_not_read_slows_the_caller_and_its_end_is_told(
    running: GatewayProcess, store: Store, lab: tuple[Session, str]
) -> None:
    app, token = lab
    url = f"{running.facts['fhir_base']}/Binary"
    release = asyncio.Event()

    async def stall(request: web.BaseRequest) -> web.StreamResponse:
        await release.wait()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    store.answer = stall
    given = 0

    async def content() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(1024):
            given += MEGABYTE
            yield bytes(MEGABYTE)

    sent = {**await headers_for(app, token, "POST", url), "Content-Type": "application/dicom"}
    posting = asyncio.create_task(app.http.post(url, headers=sent, data=content()))
    assert await settled(lambda: given) < IN_FLIGHT
    release.set()
    try:
        answer = await asyncio.wait_for(posting, 20)
    except aiohttp.ClientError:
        return  # the connection ended with the rest of the body unsent, which tells as much
    assert answer.status == 502
    answer.close()


async def test_a_caller_that_leaves_in_the_middle_of_a_body_is_told_to_the_store(
    running: GatewayProcess, store: Store, lab: tuple[Session, str]
) -> None:
    app, token = lab
    url = f"{running.facts['fhir_base']}/Binary"

    async def take(request: web.BaseRequest) -> web.StreamResponse:
        try:
            async for chunk in request.content.iter_any():
                store.received += len(chunk)
        except Exception:
            store.gone.set()
            raise
        return web.Response(status=201)

    store.answer = take
    reached = asyncio.Event()

    async def content() -> AsyncIterator[bytes]:
        yield bytes(MEGABYTE)
        reached.set()
        await asyncio.sleep(60)

    sent = {**await headers_for(app, token, "POST", url), "Content-Type": "application/dicom"}
    posting = asyncio.create_task(app.http.post(URL(url), headers=sent, data=content()))
    await asyncio.wait_for(reached.wait(), 10)
    await asyncio.sleep(0.3)
    posting.cancel()
    await asyncio.wait_for(store.gone.wait(), 10)
    assert store.received <= MEGABYTE


async def test_an_answer_that_breaks_off_breaks_off_and_is_on_record(
    running: GatewayProcess, store: Store, lab: tuple[Session, str]
) -> None:
    app, token = lab
    url = f"{running.facts['fhir_base']}/Observation"

    async def half(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/fhir+json"})
        await response.prepare(request)
        link = json.dumps([{"relation": "self", "url": str(request.url)}]).encode()
        await response.write(b'{"resourceType":"Bundle","type":"searchset","link":%b,"entry":[' % link)
        for number in range(8):
            await response.write(entry(number, "x" * 100_000) + b",")
        assert request.transport is not None
        await asyncio.sleep(0.2)
        request.transport.abort()
        return response

    store.answer = half
    with pytest.raises(aiohttp.ClientPayloadError):
        async with app.http.get(url, headers=await headers_for(app, token, "GET", url)) as response:
            await response.read()
    for _ in range(50):
        delivered = [line for line in running.audit() if line["event"] == "delivered"]
        if delivered and delivered[-1]["ended"] == "broken-off":
            break
        await asyncio.sleep(0.1)
    assert delivered[-1]["ended"] == "broken-off"

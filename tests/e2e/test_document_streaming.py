"""Content of Binaries streams: 200 MB each way with flat memory, looked at on its way, as fast as it is taken."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.demo.client import Session
from tests.e2e.test_streaming import IN_FLIGHT, MEGABYTE, SLACK, Store, headers_for, settled
from tests.support.document_store import MRN, reference
from tests.support.documents import OID, document
from tests.support.processes import GatewayProcess, start_process

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("document-streaming"),
]
SIZE = 200 * MEGABYTE
DOCUMENTS = """
policy: documents
version: 1
owner: tests
status: enforce
text: The laboratory reads documents and stores them.
rules:
  - rule: read-documents
    effect: permit
    who: {context: system, org: laboratory}
    may: [read, create]
    resources: [Binary, "cda:ClinicalDocument"]
    where:
      match: {DocumentReference: "DocumentReference?status=current"}
      binary: {through: [DocumentReference]}
      cda: {patient_from: recordTarget, confidentiality_at_most: N}
    because: It made them.
  - rule: read-references
    effect: permit
    who: {context: system, org: laboratory}
    may: [read]
    resources: [DocumentReference]
    shared: true
    because: They lead to documents.
tests:
  - test: references are read
    as: {context: system, org: laboratory}
    request: GET /DocumentReference/d
    expect: {decision: permit, rule: read-references}
"""
HEAD, _, TAIL = document(body="<nonXMLBody><text>CUT</text></nonXMLBody>").partition(b"CUT")
PIECE = b"QUJD" * (MEGABYTE // 4)


class Documents(Store):
    """One document of SIZE bytes. Its resource has all of the content in it too, whatever is asked of it."""

    async def play(self, request: web.BaseRequest) -> web.StreamResponse:
        """What the store says."""
        if request.method == "POST":
            async for chunk in request.content.iter_any():
                self.received += len(chunk)
            return web.Response(status=201, headers={"Location": "Binary/new"})
        if request.path == "/fhir/Patient/A":
            return answer(
                {"resourceType": "Patient", "id": "A", "identifier": [{"system": MRN, "value": "mrn-A"}]}
            )
        way = reference("d", "A", "Binary/big")
        if request.path == "/fhir/DocumentReference/d":
            return answer(way)
        if request.path == "/fhir/DocumentReference":
            found = {"resource": way}
            return answer({"resourceType": "Bundle", "type": "searchset", "entry": [found]})
        response = web.StreamResponse(headers={"ETag": 'W/"1"'})
        if "fhir" in request.headers["Accept"]:
            response.content_type = "application/fhir+json"
            await response.prepare(request)
            await response.write(b'{"resourceType":"Binary","id":"big","contentType":"text/xml","data":"')
            await self.pour(response)
            await response.write(b'","meta":{"versionId":"1"}}')
            return response
        response.content_type = "text/xml"
        await response.prepare(request)
        await response.write(HEAD)
        self.sent = 0
        await self.pour(response)
        await response.write(TAIL)
        return response

    async def pour(self, response: web.StreamResponse) -> None:
        """Two hundred megabytes."""
        for _ in range(SIZE // len(PIECE)):
            await response.write(PIECE)
            self.sent += len(PIECE)


def answer(value: Any) -> web.Response:
    return web.Response(body=json.dumps(value).encode(), content_type="application/fhir+json")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    def change(document: dict[str, Any]) -> None:
        lab = next(client for client in document["clients"] if client["client_id"] == "lab-backend")
        lab["scope"] = "system/*.crs"
        document["upstreams"]["fhir"]["identifier_systems"] = {f"urn:oid:{OID}": MRN}

    folder = tmp_path_factory.mktemp("document-streaming")
    gateway = await start_process(folder, change=change, policies={"90-documents.yaml": DOCUMENTS})
    yield gateway
    await gateway.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def store(running: GatewayProcess) -> AsyncIterator[Documents]:
    store = Documents()
    store.answer = store.play
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
        yield app, await running.own_token(app, "system/*.crs")


async def test_200_MB_of_a_document_come_down_judged_within_50_MB(
    running: GatewayProcess, store: Documents, lab: tuple[Session, str]
) -> None:
    app, token = lab
    url = f"{running.facts['fhir_base']}/Binary/big"
    before = running.resident_bytes()
    running.forget_peak()
    got, head, tail = 0, b"", b""
    async with app.http.get(url, headers=await headers_for(app, token, "GET", url)) as response:
        assert response.status == 200, await response.read()
        async for chunk in response.content.iter_any():
            head = head or chunk
            got += len(chunk)
            tail = (tail + chunk)[-100:]
    assert head.startswith(HEAD[:60])
    assert tail.endswith(TAIL)
    assert got == len(HEAD) + SIZE + len(TAIL)
    assert running.peak_bytes() - before < SLACK


async def test_a_caller_that_does_not_read_slows_the_store_and_leaving_ends_it(
    running: GatewayProcess, store: Documents, lab: tuple[Session, str]
) -> None:
    app, token = lab
    url = f"{running.facts['fhir_base']}/Binary/big"
    store.gone.clear()
    response = await app.http.get(url, headers=await headers_for(app, token, "GET", url))
    await response.content.readany()
    assert await settled(lambda: store.sent) < IN_FLIGHT
    response.close()
    await asyncio.wait_for(store.gone.wait(), 10)
    assert store.sent < IN_FLIGHT


async def test_200_MB_of_a_document_go_up_judged_within_50_MB(
    running: GatewayProcess, store: Documents, lab: tuple[Session, str]
) -> None:
    app, token = lab
    url = f"{running.facts['fhir_base']}/Binary"
    before = running.resident_bytes()
    running.forget_peak()

    async def content() -> AsyncIterator[bytes]:
        yield HEAD
        for _ in range(SIZE // len(PIECE)):
            yield PIECE
        yield TAIL

    sent = {
        **await headers_for(app, token, "POST", url),
        "Content-Type": "application/hl7-cda+xml",
        "X-Security-Context": "DocumentReference/d",
    }
    async with app.http.post(url, headers=sent, data=content()) as response:
        assert response.status == 201, await response.read()
    assert store.received == len(HEAD) + SIZE + len(TAIL)
    assert running.peak_bytes() - before < SLACK

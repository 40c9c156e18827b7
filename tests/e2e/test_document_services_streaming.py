"""Long documents of a plain store stream, whole, in parts and as pages, and hostile ones are refused: in flat memory."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.demo.client import Session
from tests.e2e.test_streaming import IN_FLIGHT, MEGABYTE, SLACK, headers_for
from tests.support.document_store import MRN
from tests.support.documents import OID, document
from tests.support.processes import GatewayProcess, start_process

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("document-services-streaming"),
]
SIZE = 200 * MEGABYTE
SECRET = b"SECRET-OF-THE-SECTION"
CODED = b"U0VDUkVULU9GLVRIRS1TRUNUSU9O"  # the same in base64
POLICIES = """
policy: documents
version: 1
owner: tests
status: enforce
text: The laboratory reads documents, some whole and some in parts.
rules:
  - rule: whole
    effect: permit
    who: {context: system, org: laboratory}
    may: [read]
    resources: ["cda:ClinicalDocument"]
    where:
      binary: {through: [DocumentReference]}
      cda: {patient_from: recordTarget, types: ["http://loinc.org|34133-9"]}
    because: It made them.
  - rule: in-parts
    effect: permit
    who: {context: system, org: laboratory}
    may: [read]
    resources: ["cda:ClinicalDocument"]
    where:
      binary: {through: [DocumentReference]}
      cda: {patient_from: recordTarget, types: ["http://loinc.org|18842-5"]}
    return: {sections: {at_most: N, unlabelled: N}}
    because: Others made them.
  - rule: what-leads-there
    effect: permit
    who: {context: system, org: laboratory}
    may: [read, search]
    resources: [DocumentReference]
    shared: true
    because: They lead to documents.
tests:
  - test: references are read
    as: {context: system, org: laboratory}
    request: GET /DocumentReference/d
    expect: {decision: permit, rule: what-leads-there}
"""
PDF = ' mediaType="application/pdf" representation="B64"'
FILLER = b"QUJD" * (16 * 1024)
Pieces = Iterator[bytes]


def long_pdf() -> Pieces:
    """A document whose body is a PDF."""
    begin, _, end = document(body=f"<nonXMLBody><text{PDF}>@</text></nonXMLBody>").partition(b"@")
    yield begin
    for _ in range(SIZE // len(FILLER)):
        yield FILLER
    yield end


def component(size: int, label: str, mark: bytes) -> Pieces:
    """A section with a picture of that size, its words and its picture marked."""
    said = f'<confidentialityCode code="{label}" codeSystem="2.16.840.1.113883.5.25"/>'.encode()
    yield b"<component><section><title>" + mark + b"</title><text>" + mark + b"</text>" + said
    yield b'<entry><observationMedia ID="m"><value' + PDF.encode() + b">" + mark
    for _ in range(size // len(FILLER)):
        yield FILLER
    yield mark + b"</value></observationMedia></entry></section></component>"


def in_parts() -> Pieces:
    """A document of many sections, of which every second is restricted and one is larger than any may be."""
    begin, _, end = document(body="<structuredBody>@</structuredBody>").partition(b"@")
    yield begin.replace(b"34133-9", b"18842-5")
    for _ in range(12):
        yield from component(8 * MEGABYTE, "N", b"shown")
        yield from component(6 * MEGABYTE, "R", SECRET + CODED)
    yield from component(40 * MEGABYTE, "N", SECRET)
    yield end


class Store:
    """The store of documents and of their patients. pieces makes those of the document, anew each time."""

    def __init__(self) -> None:
        self.pieces: Callable[[], Pieces] = long_pdf
        self.sent = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """What it says."""
        if request.path.startswith("/fhir/Patient"):
            known = [{"system": MRN, "value": "mrn-A"}]
            patient = {"resourceType": "Patient", "id": "A", "identifier": known}
            found = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": patient}]}
            said = patient if request.path == "/fhir/Patient/A" else found
            return web.Response(body=json.dumps(said).encode(), content_type="application/fhir+json")
        response = web.StreamResponse(headers={"ETag": '"1"', "Content-Type": "text/xml"})
        await response.prepare(request)
        if request.method == "GET":
            for piece in self.pieces():
                await response.write(piece)
                self.sent += len(piece)
        return response


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    def change(settings: dict[str, Any]) -> None:
        lab = next(client for client in settings["clients"] if client["client_id"] == "lab-backend")
        lab["scope"] = "system/*.rs"
        store = settings["upstreams"]["fhir"]
        settings["upstreams"]["cda"] = {
            "kind": "cda-rest",
            "base": store["base"].replace("/fhir", "/store"),
            "at": "/cda",
            "identifier_systems": {f"urn:oid:{OID}": MRN},
            "documents": {"patients": "fhir", "path": "/documents/{id}"},
        }

    folder = tmp_path_factory.mktemp("document-services")
    gateway = await start_process(folder, change=change, policies={"90-documents.yaml": POLICIES})
    yield gateway
    await gateway.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def store(running: GatewayProcess) -> AsyncIterator[Store]:
    found = Store()
    runner = web.ServerRunner(
        web.Server(found.answer, access_log=None, handler_cancellation=True), shutdown_timeout=1
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", running.ports.upstream).start()
    yield found
    await runner.cleanup()


@pytest_asyncio.fixture(loop_scope="module")
async def lab(running: GatewayProcess) -> AsyncIterator[tuple[Session, str]]:
    async with running.session("lab-backend") as app:
        await app.discover()
        form = {"grant_type": "client_credentials", "scope": "system/*.rs", "resource": base(running)}
        reply = await app.post(app.endpoint("token_endpoint"), form)
        assert reply.status == 200, reply.body
        yield app, str(reply.json["access_token"])


def base(running: GatewayProcess) -> str:
    return f"{running.facts['issuer']}/cda"


async def read(
    running: GatewayProcess, lab: tuple[Session, str], *never: bytes, accept: str = "*/*"
) -> tuple[int, int, bytes, bytes]:
    """Status, size, beginning and end of the document; none of these words came, not even across pieces."""
    app, token = lab
    url = f"{base(running)}/documents/d"
    sent = {**await headers_for(app, token, "GET", url), "Accept": accept}
    size, head, tail = 0, b"", b""
    async with app.http.get(url, headers=sent) as response:
        async for chunk in response.content.iter_any():
            head = (head + chunk)[:4000] if len(head) < 4000 else head
            seen = tail + chunk
            for word in never:
                assert word not in seen
            tail = seen[-200:]
            size += len(chunk)
        return response.status, size, head, tail


async def test_200_MB_come_down_whole_within_50_MB(
    running: GatewayProcess, store: Store, lab: tuple[Session, str]
) -> None:
    store.pieces = long_pdf
    before = running.resident_bytes()
    running.forget_peak()
    status, size, head, tail = await read(running, lab)
    assert (status, size) == (200, sum(map(len, long_pdf()))), head
    assert tail.endswith(b"</text></nonXMLBody></component></ClinicalDocument>")
    assert running.peak_bytes() - before < SLACK


async def test_200_MB_come_down_in_parts_within_50_MB(
    running: GatewayProcess, store: Store, lab: tuple[Session, str]
) -> None:
    store.pieces = in_parts
    before = running.resident_bytes()
    running.forget_peak()
    status, size, head, tail = await read(running, lab, SECRET, CODED)
    assert status == 200, head
    assert 12 * 8 * MEGABYTE < size < 12 * 9 * MEGABYTE
    assert tail.endswith(b"</structuredBody></component></ClinicalDocument>")
    assert running.peak_bytes() - before < SLACK


async def test_200_MB_are_a_short_page_within_50_MB(
    running: GatewayProcess, store: Store, lab: tuple[Session, str]
) -> None:
    for store.pieces in (long_pdf, in_parts):
        before = running.resident_bytes()
        running.forget_peak()
        status, size, head, tail = await read(running, lab, SECRET, CODED, accept="text/html")
        assert status == 200, head
        assert size < 20_000
        assert tail.endswith(b"</html>")
        assert running.peak_bytes() - before < SLACK


# Hostile ones


def around(before: bytes, filler: bytes, times: int, after: bytes = b"", *, in_body: bool = False) -> Pieces:
    """A document that is about to hold that filler so often, in its header or in its body."""
    at = {"body": "<structuredBody>@</structuredBody>"} if in_body else {"before": "@"}
    begin, _, end = document(**at).partition(b"@")
    yield begin + before
    at_once = max(1, len(FILLER) // len(filler))
    for _ in range(times // at_once):
        yield filler * at_once
    yield filler * (times % at_once) + after + end


def numbered(pattern: str, times: int) -> Pieces:
    """An element with so many attributes, each of a name of its own."""
    begin, _, end = document(before="<title @/>").partition(b"@")
    yield begin
    for start in range(0, times, 1000):
        yield "".join(f" {pattern.format(n)}" for n in range(start, min(times, start + 1000))).encode()
    yield end


def laughs(levels: int) -> Pieces:
    """Entities that would be 10 to the power of levels."""
    said = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(levels))
    prolog = f'<!DOCTYPE x [<!ENTITY e0 "ha">{said}]>' if levels else ""
    yield document(prolog=prolog, before=f"<title>{f'&e{levels};' if levels else 'ha'}</title>")


MILLION = 1_000_000
MANY = 100 * MEGABYTE
AUTHOR = (
    b"<author><assignedAuthor><representedOrganization>",
    b"</representedOrganization></assignedAuthor></author>",
)
# Each twice: as it is sent with so many of something, and with as many as may be.
HOSTILE: dict[str, tuple[Callable[[int], Pieces], int, int]] = {
    "attributes": (lambda n: numbered("a{}='x'", n), MILLION, 60),
    "namespaces": (lambda n: numbered("xmlns:a{0}='urn:{0}'", n), MILLION, 60),
    "a long attribute": (lambda n: around(b"<title x='", b"y", n, b"'/>"), MANY, 50_000),
    "a long comment": (lambda n: around(b"<!--", b"y", n, b"-->"), MANY, 50_000),
    "a long name": (lambda n: around(b"<", b"y", n, b"/>"), MANY, 50_000),
    "a long text": (lambda n: around(b"<title>", b"y", n, b"</title>"), MANY, 100_000),
    "CDATA": (lambda n: around(b"<title><![CDATA[", b"y", n, b"]]></title>"), MANY, 100_000),
    "depth": (lambda n: around(b"", b"<a>", n, b"</a>" * n), MILLION, 100),
    "a header without an end": (lambda n: around(b"", b"<title/>", n), MILLION, 10_000),
    "identifiers": (lambda n: around(AUTHOR[0], b"<id root='1.2'/>", n, AUTHOR[1]), MILLION, 60),
    "a billion laughs": (laughs, 9, 0),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_document_is_refused_early_and_within_50_MB(
    running: GatewayProcess, store: Store, lab: tuple[Session, str], name: str
) -> None:
    made, most, few = HOSTILE[name]
    store.pieces, store.sent = (lambda: made(most)), 0
    before = running.resident_bytes()
    running.forget_peak()
    status, _, head, _ = await read(running, lab)
    assert status == 404, head
    assert store.sent < IN_FLIGHT
    assert running.peak_bytes() - before < SLACK
    store.pieces = lambda: made(few)
    status, size, head, _ = await read(running, lab)
    assert (status, size) == (200, sum(map(len, made(few)))), head


@pytest.mark.parametrize("filler", [b"<a>", b"<!--" + b"x" * 70_000 + b"-->", b"<?x y?>"])
async def test_a_hostile_body_breaks_its_document_off_within_50_MB(
    running: GatewayProcess, store: Store, lab: tuple[Session, str], filler: bytes
) -> None:
    begin = b"<a/>" * 50_000
    store.pieces, store.sent = (lambda: around(begin, filler, MANY // len(filler), in_body=True)), 0
    before = running.resident_bytes()
    running.forget_peak()
    with pytest.raises(aiohttp.ClientPayloadError):
        await read(running, lab)
    assert store.sent < IN_FLIGHT
    assert running.peak_bytes() - before < SLACK
    store.pieces = lambda: around(begin, b"<a/>", MEGABYTE, in_body=True)
    assert (await read(running, lab))[0] == 200

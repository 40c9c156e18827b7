"""Documents of a plain REST store behind the gateway: whose they are is told by their own headers alone."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.cda.header_reader import header_of
from gateway.cda.patients import as_fhir
from gateway.document_settings import DocumentSettings, PatientLookup
from tests.support.document_store import MRN
from tests.support.documents import OID, document
from tests.support.gateway import Reply, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.plain_documents import PatientIndex, PlainDocuments
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("document-services")]

SAMPLES = sorted((Path(__file__).parents[1] / "data" / "cda").glob("*.xml.gz"))
POLICIES = """\
policy: documents
version: 1
owner: exchange@h1.example
status: enforce
text: Documents that no FHIR store keeps.
rules:
  - rule: own-documents
    effect: permit
    who: {context: patient}
    may: [read, create]
    resources: ["cda:ClinicalDocument"]
    where:
      compartment: {patient: "{token.patient}"}
      binary: {through: [DocumentReference]}
      cda: {patient_from: recordTarget, confidentiality_at_most: N}
    because: A person reads the own documents.
  - rule: what-leads-there
    effect: permit
    who: {context: patient}
    may: [read, search]
    resources: [Patient, DocumentReference]
    where: {compartment: {patient: "{token.patient}"}}
    because: A document is found by what it says of itself.
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def store() -> AsyncIterator[PlainDocuments]:
    found = PlainDocuments()
    await found.start()
    yield found
    await found.stop()


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=list(PatientLookup))
async def gateway(
    tmp_path_factory: pytest.TempPathFactory, store: PlainDocuments, request: pytest.FixtureRequest
) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("documents")
    running = await start_gateway(
        folder,
        policies=policies_with(folder, "50-documents.yaml", POLICIES),
        authorization="Bearer of-the-fhir-store",
        documents={
            "base": store.base,
            "authorization": "Bearer of-the-documents",
            "identifier_systems": {f"urn:oid:{OID}": MRN},
            "documents": DocumentSettings("fhir", "documents/{id}", request.param),
        },
    )
    yield running
    await stop_gateway(running)


@pytest.fixture
def index(gateway: RunningGateway) -> PatientIndex:
    found = PatientIndex(MRN)
    gateway.upstream.reset()
    gateway.upstream.answer = found.answer
    return found


@pytest.fixture(autouse=True)
def fresh(store: PlainDocuments, index: PatientIndex) -> None:
    store.reset()


async def ask(gateway: RunningGateway, path: str, method: str = "GET", **more: Any) -> Reply:
    token = await gateway.token("pA-r", aud=f"{gateway.origin}/cda", scope=more.pop("scope", "patient/*.crs"))
    return await gateway.fhir(method, path, token=token, mount="/cda", **more)


def of(patient: str, **more: Any) -> bytes:
    return document(ids=f'<id root="{OID}" extension="mrn-{patient}"/>', **more)


async def test_an_own_document_goes_out_as_it_is_at_the_address_that_it_always_had(
    gateway: RunningGateway, store: PlainDocuments
) -> None:
    store.contents["d1"] = of("A")
    for path in ("/documents/d1", "/Binary/d1"):
        reply = await ask(gateway, path)
        assert (reply.status, reply.body) == (200, store.contents["d1"]), reply.raw
        assert reply.header("Content-Disposition") == "attachment"
    record = next(each for each in reversed(await gateway.audit()) if each["event"] == "access")
    assert record["document"]["kind"] == "ClinicalDocument"
    assert (record["request"]["type"], record["request"]["id"]) == ("Binary", "d1")
    assert store.authorizations == {"Bearer of-the-documents"}
    assert {r.headers.get("authorization") for r in gateway.upstream.requests} == {"Bearer of-the-fhir-store"}


@pytest.mark.parametrize(
    "name", ["b", "nobody", "two", "other-root", "restricted", "no-document", "broken", "gone"]
)
async def test_what_is_not_an_own_document_for_certain_is_nobodys(
    gateway: RunningGateway, store: PlainDocuments, name: str
) -> None:
    marked = (
        f"<structuredBody><component><section><text>{SECRET}</text></section></component></structuredBody>"
    )
    contents = {
        "b": of("B", body=marked),
        "nobody": of("X", body=marked),
        "two": document(
            ids=f'<id root="{OID}" extension="mrn-A"/><id root="{OID}" extension="mrn-B"/>', body=marked
        ),
        "other-root": document(ids='<id root="1.2.3" extension="mrn-A"/>', body=marked),
        "restricted": of(
            "A",
            body=marked,
            confidentiality='<confidentialityCode code="R" codeSystem="2.16.840.1.113883.5.25"/>',
        ),
        "no-document": f"%PDF-1.7 {SECRET}".encode(),
        "broken": of("A", body=marked).replace(b"<recordTarget>", b"<recordTarget><x>", 1),
    }
    store.contents = contents
    for headers in ([], [("Accept", "application/fhir+json")]):
        reply = await ask(gateway, f"/documents/{name}", headers=headers)
        assert reply.status == 404, (name, reply.raw)
        assert SECRET.encode() not in reply.raw
        assert reply.body == (await ask(gateway, "/documents/nobody-has-this", headers=headers)).body


async def test_two_patients_with_one_identifier_are_nobody(
    gateway: RunningGateway, store: PlainDocuments, index: PatientIndex
) -> None:
    store.contents["d1"] = of("A")
    index.identifiers["B"].append((MRN, "mrn-A"))
    assert (await ask(gateway, "/documents/d1")).status == 404


async def test_nothing_but_documents_is_asked_of_their_store(
    gateway: RunningGateway, store: PlainDocuments
) -> None:
    store.contents["d1"] = of("A")
    for path in (
        "/documents",
        "/documents/",
        "/documents/d1/x",
        "/documents/..%2fx",
        "/other/d1",
        "/DocumentReference?patient=A",
    ):
        reply = await ask(gateway, path)
        assert reply.status in (400, 403, 404, 405), (path, reply.status)
    assert store.asked == []
    statement = await gateway.send("GET", "/cda/metadata")
    assert {each["type"] for each in statement.json["rest"][0]["resource"]} == {"Binary", "DocumentReference"}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
async def test_the_sample_documents_pass_to_whom_they_are_about(
    gateway: RunningGateway, store: PlainDocuments, index: PatientIndex, path: Path
) -> None:
    content = gzip.decompress(path.read_bytes())
    store.contents["d1"] = content
    assert (await ask(gateway, "/documents/d1")).status == 404
    header = header_of(content)
    assert header is not None
    index.identifiers["A"] = [as_fhir(each, {f"urn:oid:{OID}": MRN}) for each in header.record_targets[0]]
    reply = await ask(gateway, "/documents/d1")
    assert reply.status == 200, reply.raw[:500]


async def test_the_decision_falls_before_64_KiB_of_a_long_document_were_read(
    gateway: RunningGateway, store: PlainDocuments
) -> None:
    whole = of("B", body="<nonXMLBody><text>@</text></nonXMLBody>")
    begin, end = whole.split(b"@")
    store.contents["d1"] = whole
    store.filler = (begin, 3200, end)  # 200 MiB
    assert (await ask(gateway, "/documents/d1")).status == 404
    assert store.sent < 12 * 1024 * 1024  # what sockets and buffers between take, of 200 MiB


@pytest.mark.parametrize(("patient", "decision"), [("A", "permit"), ("B", "deny")])
async def test_the_decision_falls_while_the_store_has_not_sent_more_than_8_KiB(
    gateway: RunningGateway,
    store: PlainDocuments,
    monkeypatch: pytest.MonkeyPatch,
    patient: str,
    decision: str,
) -> None:
    """A store that sends the beginning and then nothing: who wanted 64 KiB would never decide."""
    whole = of(patient, body=f"<nonXMLBody><text>{'QUJD' * 2000}</text></nonXMLBody>")
    store.contents["d1"] = whole
    over = asyncio.Event()
    original = PlainDocuments._answer

    async def stalling(self: PlainDocuments, request: Any) -> Any:
        if request.method != "GET":
            return await original(self, request)
        answer = web.StreamResponse(headers={"Content-Type": "text/xml", "ETag": f'"{hash(whole)}"'})
        await answer.prepare(request)
        await answer.write(whole[:8192])
        await over.wait()
        await answer.write(whole[8192:])
        return answer

    monkeypatch.setattr(PlainDocuments, "_answer", stalling)
    before = len(await gateway.audit())
    asking = asyncio.create_task(ask(gateway, "/documents/d1"))
    try:
        async with asyncio.timeout(20):
            while len(records := await gateway.audit()) == before:
                await asyncio.sleep(0.01)
        assert (records[before]["event"], records[before]["decision"]) == ("access", decision)
        assert (await asking).status == 404 if patient == "B" else not asking.done()
    finally:
        over.set()
    assert (await asking).body == whole if patient == "A" else (await asking).status == 404


def changing_at(
    monkeypatch: pytest.MonkeyPatch, changes: Callable[[int], bytes | None], method: str = "GET"
) -> None:
    """Let the document d1 become another before the answer to the first, second, … request of the method."""
    original, asked = PlainDocuments._answer, 0

    async def changing(self: PlainDocuments, request: Any) -> Any:
        nonlocal asked
        if request.method == method:
            asked += 1
            content = changes(asked)
            self.contents["d1"] = self.contents["d1"] if content is None else content
        return await original(self, request)

    monkeypatch.setattr(PlainDocuments, "_answer", changing)


@pytest.mark.parametrize("tells_tag", [True, False])
@pytest.mark.parametrize("at", [1, 2])  # as its header is read, and as it goes out
async def test_a_document_of_another_that_takes_its_place_on_the_way_does_not_go_out(
    gateway: RunningGateway, store: PlainDocuments, at: int, tells_tag: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.tells_tag = tells_tag
    store.contents["d1"] = of("A")
    theirs = of("B", body=f"<nonXMLBody><text>{SECRET}</text></nonXMLBody>")
    changing_at(monkeypatch, lambda number: theirs if number == at else None)
    reply = await ask(gateway, "/documents/d1")
    assert reply.status == 404, reply.raw
    assert SECRET.encode() not in reply.raw


@pytest.mark.parametrize("at", [1, 2])
async def test_a_document_that_was_changed_on_the_way_is_judged_anew_and_goes_out_as_it_is_now(
    gateway: RunningGateway, store: PlainDocuments, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.contents["d1"] = of("A")
    new = of("A", body="<nonXMLBody><text>new</text></nonXMLBody>")
    changing_at(monkeypatch, lambda number: new if number == at else None)
    reply = await ask(gateway, "/documents/d1")
    assert (reply.status, reply.body) == (200, new), reply.raw
    assert store.asked.count("HEAD /store/documents/d1") == 2


async def test_a_document_that_is_another_each_time_is_not_waited_for(
    gateway: RunningGateway, store: PlainDocuments, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.contents["d1"] = of("A")
    changing_at(monkeypatch, lambda number: of("A", body=f"<nonXMLBody><text>{number}</text></nonXMLBody>"))
    reply = await ask(gateway, "/documents/d1")
    assert (reply.status, reply.reason) == (502, "upstream-invalid")
    assert store.asked.count("HEAD /store/documents/d1") == 2


async def test_a_document_is_filed_under_whom_it_is_about(
    gateway: RunningGateway, store: PlainDocuments
) -> None:
    headers = [("Content-Type", "application/hl7-cda+xml"), ("X-Security-Context", "Patient/A")]
    reply = await ask(gateway, "/documents", "POST", headers=headers, body=of("A"))
    assert reply.status == 201, reply.raw
    assert reply.header("Location") == f"{gateway.origin}/cda/Binary/new1"
    assert store.received == [("new1", "application/hl7-cda+xml", of("A"))]
    assert (await ask(gateway, "/documents/new1")).body == of("A")
    for content, reason in (
        (of("B"), "document-of-another-patient"),
        (of("A").replace(b"</ClinicalDocument>", b""), "invalid-body"),
    ):
        reply = await ask(gateway, "/documents", "POST", headers=headers, body=content)
        assert reply.reason == reason
    foreign = [headers[0], ("X-Security-Context", "Patient/B")]
    assert (await ask(gateway, "/documents", "POST", headers=foreign, body=of("B"))).status in (403, 404)
    assert len(store.received) == 1

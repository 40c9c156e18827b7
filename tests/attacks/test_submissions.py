"""Documents that are filed at a plain store: what they claim is held against who files them, and to their end."""

import base64
import gzip
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.cda.harmful import Harm
from gateway.cda.header_reader import header_of
from gateway.cda.patients import as_fhir
from gateway.document_settings import PatientLookup, SubmissionSettings
from tests.attacks.test_groups_a_b_c import check_no_leak, check_outcome
from tests.support.document_store import MRN
from tests.support.documents import OID
from tests.support.gateway import RunningGateway, stop_gateway
from tests.support.plain_documents import PatientIndex, PlainDocuments
from tests.support.submissions import of, send, start

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("submissions")]

LAB = {"org": "lab-north"}
SAMPLES = sorted((Path(__file__).parents[1] / "data" / "cda").glob("*.xml.gz"))


def level(code: str) -> str:
    return f'<confidentialityCode code="{code}" codeSystem="2.16.840.1.113883.5.25"/>'


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
    limits = SubmissionSettings(largest=280 * 1024)
    running = await start(
        tmp_path_factory.mktemp("submissions"), store, lookup=request.param, submission=limits
    )
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh(gateway: RunningGateway, store: PlainDocuments) -> None:
    gateway.upstream.reset()
    gateway.upstream.answer = PatientIndex(MRN).answer
    store.reset()


async def test_a_document_is_filed_under_whom_its_header_names(
    gateway: RunningGateway, store: PlainDocuments
) -> None:
    for content, who in ((of("A"), {}), (of("A"), LAB), (of("B"), LAB)):
        reply = await send(gateway, content, **who)
        assert reply.status == 201, reply.raw
        assert store.received[-1][2] == content
        assert reply.header("Location") == f"{gateway.origin}/cda/Binary/{store.received[-1][0]}"
    record = next(each for each in reversed(await gateway.audit()) if each["event"] == "access")
    assert record["through"] == ["Patient/B"]
    assert record["document"]["kind"] == "ClinicalDocument"


@pytest.mark.parametrize("patient", ["B", "X"])
async def test_a_document_of_another_patient_is_refused_and_so_is_one_of_nobody_by_the_same_answer(
    gateway: RunningGateway, store: PlainDocuments, patient: str
) -> None:
    reply = await send(gateway, of(patient))
    assert (reply.status, reply.reason) == (403, "document-of-another-patient")
    other = await send(gateway, of("nobody-at-all"))
    assert reply.body == other.body
    check_outcome(reply, gateway)
    assert store.received == []


async def test_two_patients_of_one_document_are_nobody(
    gateway: RunningGateway, store: PlainDocuments
) -> None:
    second = '</patientRole></recordTarget><recordTarget><patientRole><id root="2.16.840.1.113883.19.5" extension="mrn-B"/>'
    content = of("A").replace(
        b"</patientRole></recordTarget>", second.encode() + b"</patientRole></recordTarget>"
    )
    for who in ({}, LAB):
        reply = await send(gateway, content, **who)
        assert reply.reason == "document-of-another-patient"
    assert store.received == []


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'<id root="1.5"/>', b'<id root="1.7"/>', "document-of-another-organization"),
        (b'<id root="1.5"/>', b"", "document-of-another-organization"),
        (b'<id root="1.6"/>', b'<id root="1.7"/>', "document-of-another-organization"),
        (level("N").encode(), level("L").encode(), "document-label-too-low"),
        (level("N").encode(), level("Q").encode(), None),
        (level("N").encode(), level("V").encode(), None),
        (level("N").encode(), b'<confidentialityCode nullFlavor="NI"/>', None),
    ],
    ids=range(7),
)
async def test_what_a_document_claims_beyond_who_files_it_is_refused_by_its_own_reason(
    gateway: RunningGateway, store: PlainDocuments, old: bytes, new: bytes, reason: str | None
) -> None:
    content = of("A").replace(old, new, 1)
    assert content != of("A")
    reply = await send(gateway, content, **LAB)
    assert reply.status == 403, reply.raw
    assert reply.reason == (reason or "no-permit")
    check_outcome(reply, gateway)
    assert store.received == []
    for label in ("N", "R"):
        assert (await send(gateway, of("A", confidentiality=level(label)), **LAB)).status == 201


async def test_the_security_context_of_the_caller_is_held_against_the_header_as_before(
    gateway: RunningGateway, store: PlainDocuments
) -> None:
    content_only = {"org": "content-only"}
    under_a = ("X-Security-Context", "Patient/A")
    pdf = b"%PDF-1.7 " + b"1" * 3000
    assert (await send(gateway, pdf, under_a, kind="application/pdf", **content_only)).status == 201
    reply = await send(gateway, pdf, kind="application/pdf", **content_only)
    assert reply.reason == "invalid-body"  # whose it is, nobody says
    assert len(store.received) == 1


async def test_who_may_not_create_what_leads_to_it_files_nothing(
    gateway: RunningGateway, store: PlainDocuments
) -> None:
    for scope in (
        "system/Binary.c",
        "system/DocumentReference.c",
        "system/Binary.rs system/DocumentReference.rs",
    ):
        reply = await send(gateway, of("A"), org="lab-north", scope=scope)
        assert reply.status == 403, (scope, reply.raw)
    assert (await send(gateway, of("A"), org="another")).status == 403
    assert store.received == []
    narrow = "system/Binary.c system/DocumentReference.c"
    assert (await send(gateway, of("A"), org="lab-north", scope=narrow)).status == 201


@pytest.mark.parametrize("size", [10, 70_000, 200_000])
async def test_the_store_never_has_the_whole_of_a_document_that_breaks_at_its_end(
    gateway: RunningGateway, store: PlainDocuments, size: int
) -> None:
    text = "<nonXMLBody><text>" + "A" * size + "</text></nonXMLBody>"
    whole = of("A", body=text)
    for broken in (
        whole.removesuffix(b"</ClinicalDocument>"),
        whole.replace(b"</text>", b"</txt>"),
        whole + b"<x/>",
        whole.replace(b"</component>", b"</component><recordTarget/>"),
        whole.replace(b"A</text>", b"\xff</text>"),
    ):
        reply = await send(gateway, broken)
        assert (reply.status, reply.reason) == (400, "invalid-body"), reply.raw
    assert store.received == []
    assert (await send(gateway, whole)).status == 201
    assert store.received[0][2] == whole


async def test_a_document_without_its_structure_is_refused(
    gateway: RunningGateway, store: PlainDocuments
) -> None:
    reply = await send(gateway, of("A").replace(b'<id root="1.2.3.4"/>', b""))
    assert (reply.status, reply.reason) == (400, "invalid-body")
    assert b"no id" in reply.body
    assert store.received == []


@pytest.mark.parametrize("before", [0, 150_000])
async def test_content_that_runs_is_refused_inside_a_document_however_far_in_it_stands(
    gateway: RunningGateway, store: PlainDocuments, before: int
) -> None:
    def carrying(content: bytes) -> bytes:
        text = base64.b64encode(content).decode()
        value = f'<value mediaType="image/png" representation="B64">{text}</value>'
        entry = f"<entry><observationMedia>{value}</observationMedia></entry>"
        filler = f"<text>{'x' * before}</text>"
        section = f"<component><section>{filler}{entry}</section></component>"
        return of("A", body=f"<structuredBody>{section}</structuredBody>")

    reply = await send(gateway, carrying(b"MZ" + b"\x00" * 300))
    assert (reply.status, reply.reason) == (422, "content-refused"), reply.raw
    check_outcome(reply, gateway)
    assert store.received == []
    assert (await send(gateway, carrying(b"\x89PNG\r\n\x1a\n" + b"\x00" * 300))).status == 201


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"MZ" + b"\x00" * 20, "application/pdf"),
        (b"MZ" + b"\x00" * 3000, "application/octet-stream"),
        (b"PK\x03\x04" + b"\x00" * 3000, "application/pdf"),
        (b"<html><p>x</p></html>", "text/plain"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "text/xml"),
        (b"plain", "text/html"),
        (b"plain", "image/svg+xml"),
        (b"plain", "application/zip"),
        (b"%PDF-1.7 " + b"1" * 9000 + b"/Launch", "application/pdf"),
    ],
    ids=range(9),
)
async def test_content_that_runs_is_no_document_either(
    gateway: RunningGateway, store: PlainDocuments, content: bytes, kind: str
) -> None:
    under_a = ("X-Security-Context", "Patient/A")
    reply = await send(gateway, content, under_a, org="content-only", kind=kind)
    assert reply.reason in ("content-refused", "unsupported-media-type"), reply.raw
    assert reply.status in (415, 422)
    assert store.received == []


async def test_a_document_longer_than_is_taken_is_refused(
    gateway: RunningGateway, store: PlainDocuments
) -> None:
    body = "<nonXMLBody><text>" + "A" * 400_000 + "</text></nonXMLBody>"
    reply = await send(gateway, of("A", body=body))
    assert (reply.status, reply.reason) == (413, "too-large")
    assert store.received == []


async def test_a_resource_is_no_document(gateway: RunningGateway, store: PlainDocuments) -> None:
    data = base64.b64encode(of("A")).decode()
    body = f'{{"resourceType":"Binary","contentType":"text/xml","data":"{data}"}}'.encode()
    reply = await send(gateway, body, kind="application/fhir+json")
    assert (reply.status, reply.reason) == (415, "unsupported-media-type")
    assert store.received == []


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_stored_document_is_not_replaced(
    gateway: RunningGateway, store: PlainDocuments, method: str
) -> None:
    store.contents["d1"] = of("A")
    token = await gateway.token("pA-rw", aud=f"{gateway.origin}/cda")
    headers = [("Content-Type", "text/xml")]
    reply = await gateway.fhir(
        method, "/documents/d1", token=token, mount="/cda", headers=headers, body=of("A")
    )
    assert (reply.status, reply.reason) == (405, "method-not-allowed"), reply.raw
    assert reply.header("Allow") == "GET, HEAD"
    assert store.asked == []


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
async def test_the_samples_of_hl7_are_filed_under_whom_they_are_about(
    gateway: RunningGateway, store: PlainDocuments, path: Path
) -> None:
    content = re.sub(rb"<\?xml-stylesheet.*?\?>", b"", gzip.decompress(path.read_bytes()))
    header = header_of(content)
    assert header is not None
    assert (await send(gateway, content)).reason == "document-of-another-patient"
    index = PatientIndex(MRN)
    index.identifiers["A"] = [as_fhir(each, {f"urn:oid:{OID}": MRN}) for each in header.record_targets[0]]
    gateway.upstream.answer = index.answer
    reply = await send(gateway, content)
    assert reply.status == 201, reply.raw
    assert store.received[0][2] == content


async def test_what_is_looked_at_can_be_switched_off(
    tmp_path: Path, store: PlainDocuments, gateway: RunningGateway
) -> None:
    loose = SubmissionSettings(structure=False, refused=frozenset(Harm) - {Harm.ARCHIVE})
    running = await start(tmp_path, store, submission=loose)
    running.upstream.answer = PatientIndex(MRN).answer
    try:
        content = of("A").replace(b'<id root="1.2.3.4"/>', b"")
        assert (await send(running, content)).status == 201
        under_a = ("X-Security-Context", "Patient/A")
        for content, status in ((b"PK\x03\x04" + b"\x00" * 30, 201), (b"MZ" + b"\x00" * 30, 422)):
            reply = await send(running, content, under_a, org="content-only", kind="application/zip")
            assert reply.status == status
            check_no_leak(reply)
    finally:
        await stop_gateway(running)

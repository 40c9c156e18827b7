"""IHE MHD behind the gateway: documents at any place of the service, each to whom it is about, patients elsewhere."""

import base64
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.cda.header_reader import header_of
from gateway.cda.patients import as_fhir
from gateway.document_settings import DocumentSettings
from tests.support.document_store import MRN
from tests.support.documents import OID, document
from tests.support.gateway import Reply, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.mhd_service import MhdService
from tests.support.plain_documents import PatientIndex
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("mhd")]

SAMPLES = sorted((Path(__file__).parents[1] / "data" / "cda").glob("*.xml.gz"))
POLICIES = """\
policy: documents
version: 1
owner: exchange@h1.example
status: enforce
text: Documents of an MHD service.
rules:
  - rule: own-documents
    effect: permit
    who: {context: patient}
    may: [read, create, batch, transaction]
    resources: ["cda:ClinicalDocument"]
    where:
      compartment: {patient: "{token.patient}"}
      binary: {through: [DocumentReference]}
      cda: {patient_from: recordTarget, confidentiality_at_most: N}
    because: A person reads the own documents.
  - rule: what-leads-there
    effect: permit
    who: {context: patient}
    may: [read, search, create, update, batch, transaction]
    resources: [Patient, DocumentReference, List]
    where: {compartment: {patient: "{token.patient}"}}
    because: A document is found by what is said of it.
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service() -> AsyncIterator[MhdService]:
    found = MhdService()
    await found.start()
    yield found
    await found.stop()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(
    tmp_path_factory: pytest.TempPathFactory, service: MhdService
) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("mhd")
    running = await start_gateway(
        folder,
        policies=policies_with(folder, "50-documents.yaml", POLICIES),
        documents={
            "kind": "mhd",
            "base": service.base,
            "identifier_systems": {f"urn:oid:{OID}": MRN},
            "documents": DocumentSettings("fhir"),
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
def fresh(service: MhdService, index: PatientIndex, gateway: RunningGateway) -> None:
    service.reset()
    service.patients = f"{gateway.upstream.base}/"


async def ask(gateway: RunningGateway, path: str, method: str = "GET", **more: Any) -> Reply:
    token = await gateway.token("pA-r", aud=f"{gateway.origin}/cda", scope="patient/*.cruds")
    return await gateway.fhir(method, path, token=token, mount="/cda", **more)


def of(patient: str, **more: Any) -> bytes:
    return document(ids=f'<id root="{OID}" extension="mrn-{patient}"/>', **more)


def a_file(service: MhdService, id_: str, patient: str, content: bytes) -> None:
    service.files[f"files/{id_}.xml"] = content
    service.add(id_, patient, f"{service.base}/files/{id_}.xml")


@pytest.mark.parametrize("knows_head", [True, False])
async def test_iti_67_and_68_lead_back_here_and_to_the_document_as_it_is(
    gateway: RunningGateway, service: MhdService, knows_head: bool
) -> None:
    service.knows_head = knows_head
    a_file(service, "d1", "A", of("A"))
    a_file(service, "d2", "B", of("B"))
    reply = await ask(gateway, "/DocumentReference?patient=A&status=current")
    assert reply.status == 200, reply.raw
    (entry,) = reply.json["entry"]
    assert entry["resource"]["subject"]["reference"] == "Patient/A"
    place = entry["resource"]["content"][0]["attachment"]["url"].removeprefix(f"{gateway.origin}/cda/")
    assert place == "Binary/at-0-d1"
    assert service.base.encode() not in reply.raw
    for headers in ([], [("Accept", "application/fhir+json")]):
        found = await ask(gateway, f"/{place}", headers=headers)
        assert found.status == 200, found.raw
        assert (found.body == of("A")) is (not headers)
    assert any("patient=http" in each for each in service.asked)


async def test_iti_66_finds_the_submissions_of_the_own_record(
    gateway: RunningGateway, service: MhdService
) -> None:
    a_file(service, "d1", "A", of("A"))
    a_file(service, "d2", "B", of("B"))
    reply = await ask(gateway, "/List?patient=A")
    assert [each["resource"]["id"] for each in reply.json["entry"]] == ["set-d1"], reply.raw


async def test_an_address_that_leaked_opens_nothing_to_anybody_else(
    gateway: RunningGateway, service: MhdService
) -> None:
    marked = f"<nonXMLBody><text>{SECRET}</text></nonXMLBody>"
    a_file(service, "d2", "B", of("B", body=marked))
    a_file(service, "d3", "A", of("B", body=marked))  # filed under A, and about B
    nobody = (await ask(gateway, "/Binary/at-0-nobody")).body
    for id_ in ("at-0-d2", "at-0-d3", "at-1-d2", "at-00-d2", "at-0-", "at-0-d2/_history/1"):
        reply = await ask(gateway, f"/Binary/{id_}")
        assert reply.status in (400, 403, 404), (id_, reply.raw)
        assert SECRET.encode() not in reply.raw
        if reply.status == 404:
            assert reply.body == nobody


@pytest.mark.parametrize(
    "url",
    [
        "Patient/B", "/Patient/B", "@/Patient/B", "@/patient/B", "@/%50atient/B", "@/Observation?patient=B",
        "@/files/../Patient/B", "@/files/%2e%2e/Patient/B", "@/files//x", "@/_history", "@/$export", "@/metadata",
        "@/Patient;x=1/B", "@/Binary/at-0-d2", "Binary/at-0-d2", "@",
    ],
)  # fmt: skip
async def test_an_attachment_opens_no_resource_of_the_service(
    gateway: RunningGateway, service: MhdService, url: str
) -> None:
    service.add("d1", "A", url.replace("@", service.base))
    service.files["Patient/B"] = service.files["files//x"] = of("A")
    reply = await ask(gateway, "/Binary/at-0-d1")
    assert reply.status == 404, reply.raw
    assert [each for each in service.asked if "DocumentReference" not in each] == []


async def test_a_patient_of_another_base_with_the_same_id_is_somebody_else(
    gateway: RunningGateway, service: MhdService
) -> None:
    for patients in ("", f"{service.base}/", "https://elsewhere.example/fhir/"):
        service.reset()
        service.patients = patients
        a_file(service, "d1", "A", of("A"))
        assert (await ask(gateway, "/DocumentReference/d1")).status == 404
        assert (await ask(gateway, "/Binary/at-0-d1")).status == 404


async def test_iti_65_files_a_document_under_whom_it_is_about(
    gateway: RunningGateway, service: MhdService
) -> None:

    def bundle(patient: str, content: bytes) -> dict[str, Any]:
        subject = {"reference": f"Patient/{patient}"}
        data = base64.b64encode(content).decode()
        resources = {
            "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0": {
                "resourceType": "List",
                "status": "current",
                "mode": "working",
                "subject": subject,
                "entry": [{"item": {"reference": "urn:uuid:8e2d3d2d-0000-4d64-b04d-cd9187a4c6e1"}}],
            },
            "urn:uuid:8e2d3d2d-0000-4d64-b04d-cd9187a4c6e1": {
                "resourceType": "DocumentReference",
                "status": "current",
                "subject": subject,
                "content": [
                    {
                        "attachment": {
                            "contentType": "application/hl7-cda+xml",
                            "url": "urn:uuid:9e2d3d2d-0000-4d64-b04d-cd9187a4c6e2",
                        }
                    }
                ],
            },
            "urn:uuid:9e2d3d2d-0000-4d64-b04d-cd9187a4c6e2": {
                "resourceType": "Binary",
                "contentType": "application/hl7-cda+xml",
                "data": data,
            },
        }
        entry = [
            {
                "fullUrl": name,
                "resource": value,
                "request": {"method": "POST", "url": value["resourceType"]},
            }
            for name, value in resources.items()
        ]
        return {"resourceType": "Bundle", "type": "transaction", "entry": entry}

    headers = [("Content-Type", "application/fhir+json")]
    reply = await ask(gateway, "", "POST", headers=headers, body=json.dumps(bundle("A", of("A"))).encode())
    assert reply.status == 200, reply.raw
    (received,) = service.received
    by_type = {each["resource"]["resourceType"]: each["resource"] for each in received["entry"]}
    patient = f"{gateway.upstream.base}/Patient/A"
    assert by_type["List"]["subject"]["reference"] == patient
    assert by_type["DocumentReference"]["subject"]["reference"] == patient
    assert by_type["Binary"]["securityContext"]["reference"] == patient
    for wrong in (bundle("A", of("B")), bundle("B", of("B")), bundle("B", of("A"))):
        assert (
            await ask(gateway, "", "POST", headers=headers, body=json.dumps(wrong).encode())
        ).status == 403
    assert len(service.received) == 1


async def test_what_is_read_can_be_written_back_and_opens_no_other_place(
    gateway: RunningGateway, service: MhdService
) -> None:
    a_file(service, "d1", "A", of("A"))
    a_file(service, "d2", "B", of("B"))
    read = (await ask(gateway, "/DocumentReference/d1")).json
    headers = [("Content-Type", "application/fhir+json"), ("If-Match", 'W/"1"')]
    changed = read | {"description": "mine"}
    reply = await ask(
        gateway, "/DocumentReference/d1", "PUT", headers=headers, body=json.dumps(changed).encode()
    )
    assert reply.status == 200, reply.raw
    assert service.received[0]["content"][0]["attachment"]["url"] == f"{service.base}/files/d1.xml"
    headers[1] = ("If-Match", 'W/"2"')
    for url in (f"{service.base}/files/d2.xml", f"{gateway.origin}/cda/files/d2.xml", "files/d2.xml"):
        changed["content"] = [{"attachment": {"url": url}}]
        reply = await ask(
            gateway, "/DocumentReference/d1", "PUT", headers=headers, body=json.dumps(changed).encode()
        )
        assert reply.status == 400, (url, reply.raw)
    changed["content"] = [{"attachment": {"url": "Binary/at-0-d2"}}]
    reply = await ask(
        gateway, "/DocumentReference/d1", "PUT", headers=headers, body=json.dumps(changed).encode()
    )
    assert reply.status == 403, reply.raw
    assert len(service.received) == 1


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
async def test_the_sample_documents_pass_to_whom_they_are_about(
    gateway: RunningGateway, service: MhdService, index: PatientIndex, path: Path
) -> None:
    content = gzip.decompress(path.read_bytes())
    a_file(service, "d1", "A", content)
    assert (await ask(gateway, "/Binary/at-0-d1")).status == 404
    header = header_of(content)
    assert header is not None
    index.identifiers["A"] = [as_fhir(each, {f"urn:oid:{OID}": MRN}) for each in header.record_targets[0]]
    reply = await ask(gateway, "/Binary/at-0-d1")
    assert reply.status == 200, reply.raw[:500]

"""Attack group N, clinical documents: whose they are and how confidential, judged before their first byte goes out."""

import base64
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.cda.header_reader import header_of
from tests.attacks.test_binaries import FHIR, refused
from tests.attacks.test_facts_and_consents import CONSENTS
from tests.support.document_policies import POLICIES
from tests.support.document_store import MRN, DocumentStore, reference
from tests.support.documents import OID, document
from tests.support.gateway import RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("documents")]

SAMPLES = sorted((Path(__file__).parents[1] / "data" / "cda").glob("*.xml.gz"))
OTHER = "2.16.840.1.113883.4.1"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("documents")
    policies = policies_with(folder, "50-documents.yaml", POLICIES)
    running = await start_gateway(folder, policies=policies, identifier_systems={f"urn:oid:{OID}": MRN})
    yield running
    await stop_gateway(running)


@pytest.fixture
def store(gateway: RunningGateway) -> DocumentStore:
    return DocumentStore(gateway.upstream)


async def partner(gateway: RunningGateway) -> str:
    """A token of the partner who fetches documents."""
    return await gateway.token("lab", client_id="partner-h2", scope="system/*.crs", organization="H2")


def level(code: str, system: str = "2.16.840.1.113883.5.25") -> str:
    return f'<confidentialityCode code="{code}" codeSystem="{system}"/>'


async def test_a_document_of_the_patient_goes_out_as_it_is(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    store.document("d", "A")
    before = len(await gateway.audit())
    reply = await gateway.fhir("GET", "/Binary/d", token=await partner(gateway))
    assert (reply.status, reply.body) == (200, store.contents["d"])
    assert reply.header("Content-Type") == "text/xml"
    assert "GET /fhir/Patient/A" in [str(r) for r in gateway.upstream.requests]
    access = (await gateway.audit())[before]
    assert access["document"] == {
        "kind": "ClinicalDocument",
        "type": "34133-9",
        "confidentiality": "N",
        "custodian": ["1.6^"],
    }
    assert b"mrn-A" not in str(access).encode()
    whole = await gateway.fhir("GET", "/Binary/d", token=await partner(gateway), headers=FHIR)
    assert base64.b64decode(whole.json["data"]) == store.contents["d"]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
async def test_the_sample_documents_pass_to_whom_they_are_about(
    gateway: RunningGateway, store: DocumentStore, path: Path
) -> None:
    content = gzip.decompress(path.read_bytes())
    store.document("d", "A", content)
    await refused(gateway, "/Binary/d", token=await partner(gateway))
    header = header_of(content)
    assert header is not None
    own = [
        {"system": f"urn:oid:{each.root}", "value": each.extension}
        for target in header.record_targets
        for each in target
    ]
    store.upstream.resources["Patient/A"]["identifier"] = own
    reply = await gateway.fhir("GET", "/Binary/d", token=await partner(gateway))
    assert reply.status == 200
    start = content.find(b"<?xml-stylesheet")
    end = content.find(b"?>", start) + 2
    assert reply.body == (content if start < 0 else content[:start] + content[end:])


@pytest.mark.parametrize(
    "content",
    [
        document(confidentiality=level("R"), before=f"<title>{SECRET}</title>"),
        document(confidentiality=level("V")),
        document(confidentiality=level("N", "1.2.3")),
        document(confidentiality=level("n")),
        document(confidentiality=""),
        document(confidentiality='<confidentialityCode nullFlavor="UNK"/>'),
        document(confidentiality=level("N") + level("R")),
        document(confidentiality=level("R"), before='<x:confidentialityCode xmlns:x="urn:x" code="N"/>'),
    ],
)
async def test_a_restricted_document_stays_here(
    gateway: RunningGateway, store: DocumentStore, content: bytes
) -> None:
    store.document("d", "A", content)
    for headers in ([], FHIR, [("Range", "bytes=0-10")], [("If-None-Match", 'W/"1"')]):
        await refused(gateway, "/Binary/d", token=await partner(gateway), headers=headers)


@pytest.mark.parametrize(
    "content",
    [
        document(ids=f'<id root="{OID}" extension="mrn-B"/>', before=f"<title>{SECRET}</title>"),
        document(ids=f'<id root="{OID}" extension="mrn-A"/><id root="{OID}" extension="mrn-B"/>'),
        document(
            before=f'<recordTarget><patientRole><id root="{OID}" extension="mrn-B"/></patientRole></recordTarget>'
        ),
        document(before="<recordTarget><patientRole/></recordTarget>"),
        document(ids=f'<id root="{OTHER}" extension="mrn-A"/>'),
        document(ids='<id nullFlavor="UNK"/>'),
        document(ids=f'<id xmlns="urn:evil" root="{OID}" extension="mrn-A"/>'),
        document(
            after_role=f'<patientRole><id root="{OID}" extension="mrn-B"/></patientRole>'
        ),
        document(after=f'<recordTarget><patientRole><id root="{OID}" extension="mrn-B"/></patientRole></recordTarget>'),
    ],
)  # fmt: skip
async def test_236_every_record_target_is_the_patient_of_what_leads_to_it(
    gateway: RunningGateway, store: DocumentStore, content: bytes
) -> None:
    store.document("d", "A", content)
    await refused(gateway, "/Binary/d", token=await partner(gateway))
    store.document("d", "A")
    assert (await gateway.fhir("GET", "/Binary/d", token=await partner(gateway))).status == 200


async def test_236_a_reference_of_the_own_patient_to_anothers_document_opens_nothing(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    store.document(
        "d", "B", document(ids=f'<id root="{OID}" extension="mrn-B"/>', before=f"<title>{SECRET}</title>")
    )
    store.upstream.resources["DocumentReference/d-d"] = reference("d-d", "A", "Binary/d")
    before = len(await gateway.audit())
    await refused(gateway, "/Binary/d", token=await partner(gateway))
    assert "document-of-another-patient" in (await gateway.audit())[before]["explanation"]


BILLION = (
    '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'
)


@pytest.mark.parametrize(
    "content",
    [
        document(prolog='<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>', before="<title>&e;</title>"),
        document(prolog='<!DOCTYPE x SYSTEM "http://169.254.169.254/latest">'),
        document(prolog=BILLION, before="<title>&c;</title>"),
        document(prolog="<?xml-model href='http://169.254.169.254/'?>"),
        document(before='<i:include xmlns:i="http://www.w3.org/2001/XInclude" href="http://169.254.169.254/"/>'),
        document(declaration='<?xml version="1.0" encoding="UTF-7"?>'),
        document(declaration="").decode().encode("utf-16"),
        document(declaration="").decode().encode("utf-32"),
        document(before="<!--" + "x" * 100_000 + "-->"),
        document(before="<title>" + "x" * 300_000 + "</title>"),
        document()[:300],
        b"",
        b"<",
        b" " * 5000,
    ],
)  # fmt: skip
async def test_237_what_cannot_be_read_for_certain_stays_here(
    gateway: RunningGateway, store: DocumentStore, content: bytes
) -> None:
    store.document("d", "A", content)
    await refused(gateway, "/Binary/d", token=await partner(gateway))


@pytest.mark.parametrize(
    "content",
    [
        b"%PDF-1.7", b"<html><body>x</body></html>", b"\xff\xd8\xff", b"x" * 3000,
        # Packages are not taken apart: of two documents in one, the wrong one could be looked at.
        b"MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=x\r\n\r\n--x\r\n\r\n<ClinicalDocument/>",
        b'<Envelope xmlns="http://www.w3.org/2003/05/soap-envelope"><ClinicalDocument xmlns="urn:hl7-org:v3"/></Envelope>',
        b'<x:Include xmlns:x="http://www.w3.org/2004/08/xop/include" href="http://169.254.169.254/"/>',
    ],
)  # fmt: skip
async def test_what_is_no_clinical_document_is_not_opened_by_a_rule_about_those(
    gateway: RunningGateway, store: DocumentStore, content: bytes
) -> None:
    store.document("d", "A", content)
    await refused(gateway, "/Binary/d", token=await partner(gateway))
    assert (
        await gateway.fhir("GET", "/Binary/d")
    ).status == 200  # the person's own rule asks for no document


async def test_what_a_rule_says_of_the_document_reference_holds(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    store.document("d", "A")
    store.upstream.resources["DocumentReference/d-d"]["status"] = "superseded"
    await refused(gateway, "/Binary/d", token=await partner(gateway))


async def test_238_a_document_is_never_rendered_and_brings_no_stylesheet(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    prolog = (
        "\n<?xml-stylesheet type='text/xsl' href='https://evil.example/x.xsl'?>\n<?xml-stylesheet href='y'?>"
    )
    body = "<nonXMLBody><text><reference value='javascript:alert(1)'/></text></nonXMLBody>"
    store.document("d", "A", document(prolog=prolog, body=body), "text/html")
    reply = await gateway.fhir("GET", "/Binary/d", token=await partner(gateway))
    assert reply.body == document(prolog="\n\n", body=body)
    assert reply.header("Content-Type") == "application/octet-stream"
    assert reply.header("Content-Disposition") == "attachment"
    assert str(reply.header("Content-Security-Policy")).startswith("sandbox")


async def test_a_document_that_takes_its_header_back_breaks_off(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    filler = "<text>" + "<br/>x" * 200_000 + "</text>"
    store.document("d", "A", document(body=filler, after=f"<recordTarget/><title>{SECRET}</title>"))
    reply = await gateway.fhir("GET", "/Binary/d", token=await partner(gateway))
    assert len(reply.body) < len(store.contents["d"])
    assert not reply.has_last_chunk
    assert SECRET.encode() not in reply.raw
    assert (await gateway.audit())[-1]["ended"] == "broken-off"


async def test_nothing_goes_out_before_the_header_is_judged(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    """A store that stalls in the middle of the header: the caller has nothing, not even a status."""
    content = document(confidentiality=level("R"), before=f"<title>{SECRET}</title>")
    store.document("d", "A", content)
    inner = store.answer

    async def by_bytes(request: web.BaseRequest) -> web.StreamResponse:
        if request.path != "/fhir/Binary/d" or "fhir" in request.headers["Accept"]:
            return await inner(request)
        response = web.StreamResponse(headers={"Content-Type": "text/xml", "ETag": 'W/"1"'})
        await response.prepare(request)
        for at in range(0, len(content), 16):
            await response.write(content[at : at + 16])
        return response

    gateway.upstream.answer = by_bytes
    await refused(gateway, "/Binary/d", token=await partner(gateway))


@pytest.mark.parametrize(
    ("consents", "status"),
    [
        (["permit"], 200),
        (["deny"], 404),
        ([], 404),
        (["permit of somebody else"], 404),
        (None, 503),
    ],
)
async def test_the_consent_of_the_patient_of_what_leads_to_it_decides(
    tmp_path: Path, consents: list[str] | None, status: int
) -> None:
    said = "cda: {patient_from: recordTarget, confidentiality_at_most: N}\n    because: Regional"
    consent = 'consent: {scope: patient-privacy, decision: permit, for: "{token.org}", if_unavailable: deny}'
    text = POLICIES.replace(said, said.replace("\n", f"\n      {consent}\n"), 1)
    assert consent in text
    policies = policies_with(tmp_path, "50.yaml", text)
    systems = {f"urn:oid:{OID}": MRN}
    running = await start_gateway(tmp_path, policies=policies, identifier_systems=systems, consents=CONSENTS)
    try:
        store = DocumentStore(running.upstream)
        store.document("d", "A", type_="application/hl7-cda+xml")
        for number, word in enumerate(consents or []):
            store.add(_consent(f"c{number}", "B" if "else" in word else "A", word.split(" ")[0]))
        if consents is None:
            inner = store.answer

            async def down(request: web.BaseRequest) -> web.StreamResponse:
                is_consent = request.path.startswith("/fhir/Consent")
                return web.Response(status=500) if is_consent else await inner(request)

            running.upstream.answer = down
        reply = await running.fhir("GET", "/Binary/d", token=await partner(running))
        assert reply.status == status, reply.raw
        assert (reply.body == store.contents["d"]) is (status == 200)
    finally:
        await stop_gateway(running)


def _consent(id_: str, patient: str, word: str) -> dict[str, Any]:
    """An active consent about the exchange with H2."""
    actor = {"role": {"coding": [{"code": "IRCP"}]}, "reference": {"identifier": {"value": "H2"}}}
    return {
        "resourceType": "Consent",
        "id": id_,
        "status": "active",
        "scope": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}
            ]
        },
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{patient}"},
        "dateTime": "2026-01-01T00:00:00Z",
        "organization": [{"reference": "Organization/h1"}],
        "verification": [{"verified": True}],
        "provision": {"type": word, "actor": [actor]},
    }

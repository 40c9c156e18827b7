"""IHE XDS.b behind the gateway: registry and repository hear who asks, documents go to whom they are about alone."""

import gzip
import re
import ssl
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from lxml import etree

from gateway.demo.authority import Authority
from gateway.document_settings import DocumentSettings, PatientLookup
from gateway.xds_settings import AssertionSettings, CodedValue, ProvideSettings, SoapTls, XdsSettings
from tests.support.document_store import MRN
from tests.support.documents import OID, document
from tests.support.gateway import Reply, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.plain_documents import PatientIndex
from tests.support.world import SECRET
from tests.support.xds_domain import AUDIENCE, AUTHORITY, ISSUER, REPOSITORY, UNIQUE_ID, XdsDomain

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("xds")]

SAMPLES = sorted((Path(__file__).parents[1] / "data" / "cda").glob("*.xml.gz"))
DOMAIN = "https://domain.example/id"
V3 = {"v": "urn:hl7-org:v3"}
POLICIES = """\
policy: documents
version: 1
owner: exchange@h1.example
status: enforce
text: Documents of an affinity domain.
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
    because: A document is found by what is said of it.
"""
CODE = CodedValue("x", "1.2.3.4", "x")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificates of the domain: its authority, its server, the gateway, and the key of assertions."""
    folder = tmp_path_factory.mktemp("xds-keys")
    authority = Authority.new("Affinity Domain CA")
    (folder / "ca.pem").write_bytes(authority.pem)
    authority.issue(folder / "server.pem", folder / "server.key", "localhost", server=True)
    for name in ("gateway", "saml"):
        authority.issue(folder / f"{name}.pem", folder / f"{name}.key", f"{name}.example", server=False)
    return folder


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def domain(keys: Path) -> AsyncIterator[XdsDomain]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "server.pem", keys / "server.key")
    context.load_verify_locations(cafile=keys / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    found = XdsDomain((keys / "saml.pem").read_text(), context)
    await found.start()
    yield found
    await found.stop()


def settings(domain: XdsDomain, keys: Path) -> XdsSettings:
    return XdsSettings(
        assigning_authority=AUTHORITY,
        repositories={REPOSITORY: domain.url("retrieve")},
        assertion=AssertionSettings(
            ISSUER,
            AUDIENCE,
            keys / "saml.key",
            keys / "saml.pem",
            organization="Hospital <One> & Co",
            organization_id="urn:oid:1.2.3",
            purpose="TREAT",
        ),
        provide=ProvideSettings(
            domain.url("provide"),
            "1.3.6.1.4.1.21367.2010.1",
            {name: replace(CODE, code=name) for name in ("class", "format", "facility", "practice")},
        ),
        tls=SoapTls(keys / "gateway.pem", keys / "gateway.key", keys / "ca.pem"),
    )


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(
    tmp_path_factory: pytest.TempPathFactory, domain: XdsDomain, keys: Path
) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("xds")
    running = await start_gateway(
        folder,
        policies=policies_with(folder, "50-documents.yaml", POLICIES),
        documents={
            "kind": "xds",
            "base": domain.url("registry"),
            "identifier_systems": {f"urn:oid:{OID}": MRN, f"urn:oid:{AUTHORITY}": DOMAIN},
            "documents": DocumentSettings("fhir", lookup=PatientLookup.SEARCH, xds=settings(domain, keys)),
        },
    )
    yield running
    await stop_gateway(running)


@pytest.fixture
def index(gateway: RunningGateway) -> PatientIndex:
    found = PatientIndex(MRN)
    for name, known in found.identifiers.items():
        known.append((DOMAIN, f"id-{name}"))
    gateway.upstream.reset()
    gateway.upstream.answer = found.answer
    return found


@pytest.fixture(autouse=True)
def fresh(domain: XdsDomain, index: PatientIndex) -> Any:
    domain.reset()
    yield
    assert domain.complaints == []  # the domain is as strict as it says, and had nothing to say


async def ask(gateway: RunningGateway, path: str, method: str = "GET", **more: Any) -> Reply:
    claims = {"name": "Dr. Ada", "roles": ["http://snomed.info/sct|46255001"], "org_name": "Ward 7"}
    token = await gateway.token(
        "pA-r", aud=f"{gateway.origin}/cda", scope="patient/*.crs", **more.pop("claims", claims)
    )
    return await gateway.fhir(method, path, token=token, mount="/cda", **more)


def of(patient: str, **more: Any) -> bytes:
    return document(ids=f'<id root="{OID}" extension="mrn-{patient}"/>', **more)


def identifiers_in(root: Any) -> list[tuple[str, str]]:
    """The identifiers of the first record target, as FHIR has them, by what lxml reads."""
    found = []
    for each in root.xpath("v:recordTarget[1]/v:patientRole/v:id", namespaces=V3):
        oid, extension = each.get("root"), each.get("extension")
        system = {OID: MRN, AUTHORITY: DOMAIN}.get(oid, f"urn:oid:{oid}")
        found.append((system, extension) if extension else ("urn:ietf:rfc:3986", f"urn:oid:{oid}"))
    return found


async def test_iti_18_finds_the_documents_of_the_own_patient(
    gateway: RunningGateway, domain: XdsDomain
) -> None:
    own = domain.register(of("A"), "id-A")
    domain.register(of("B"), "id-B")
    old = domain.register(of("A"), "id-A", status="Deprecated", created="20200102030405")
    reply = await ask(gateway, "/DocumentReference?patient=A")
    assert reply.status == 200, reply.raw
    found = {each["resource"]["id"]: each["resource"] for each in reply.json["entry"]}
    assert found.keys() == {own.id, old.id}
    assert found[own.id]["type"]["coding"][0]["system"] == "http://loinc.org"
    assert found[own.id]["date"] == "2026-01-02T03:04:05Z"
    assert found[own.id]["content"][0]["attachment"]["url"] == f"Binary/{own.id}"
    assert found[old.id]["status"] == "superseded"
    for query, expected in (
        ("status=current", {own.id}),
        ("status=superseded", {old.id}),
        ("type=http://loinc.org%7C34133-9", {own.id, old.id}),
        ("type=http://loinc.org%7C1-1", set()),
        ("date=ge2026-01-01", {own.id}),
        ("date=lt2026-01-01", {old.id}),
        ("date=2026-01-02", {own.id}),
    ):
        reply = await ask(gateway, f"/DocumentReference?patient=A&{query}")
        assert reply.status == 200, (query, reply.raw)
        assert {each["resource"]["id"] for each in reply.json.get("entry", [])} == expected, query
    for query in ("patient=A&description=x", "patient=A&type=34133-9", "patient=A&status=entered-in-error"):
        assert (await ask(gateway, f"/DocumentReference?{query}")).status == 403, query
    domain.wrong = "another patient"
    assert (await ask(gateway, "/DocumentReference?patient=A")).status == 502


async def test_iti_43_gives_the_own_document_as_it_is_and_nobody_elses(
    gateway: RunningGateway, domain: XdsDomain, index: PatientIndex
) -> None:
    marked = f"<nonXMLBody><text>{SECRET}</text></nonXMLBody>"
    restricted = '<confidentialityCode code="R" codeSystem="2.16.840.1.113883.5.25"/>'
    own = domain.register(of("A"), "id-A")
    reply = await ask(gateway, f"/Binary/{own.id}")
    assert (reply.status, reply.body) == (200, own.content), reply.raw
    assert reply.header("Content-Disposition") == "attachment"
    as_fhir = await ask(gateway, f"/Binary/{own.id}", headers=[("Accept", "application/fhir+json")])
    assert as_fhir.json["contentType"] == "text/xml"
    nobody = await ask(gateway, "/Binary/0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0")
    others = [
        domain.register(of("B", body=marked), "id-B"),
        domain.register(of("B", body=marked), "id-A"),  # registered for A, and about B
        domain.register(of("A", body=marked), "id-nobody"),
        domain.register(of("A", body=marked, confidentiality=restricted), "id-A"),
    ]
    for each in others:
        reply = await ask(gateway, f"/Binary/{each.id}")
        assert (reply.status, reply.body) == (404, nobody.body), reply.raw
    assert (await ask(gateway, f"/Binary/{own.id.upper()}")).status == 404
    index.identifiers["B"].append((DOMAIN, "id-A"))  # one identifier, two people
    assert (await ask(gateway, f"/Binary/{own.id}")).status == 404
    assert (await ask(gateway, "/DocumentReference?patient=A")).json.get("entry", []) == []


async def test_xua_says_who_asks_in_a_signed_assertion_of_its_own_each_time(
    gateway: RunningGateway, domain: XdsDomain
) -> None:
    own = domain.register(of("A"), "id-A")
    assert (await ask(gateway, f"/Binary/{own.id}")).status == 200
    assert len(domain.assertions) == len(domain.asked) >= 3
    said, codes = domain.claims[-1], domain.codes[-1]
    assert said["NameID"] == ["pA-r"]
    assert said["subject-id"] == ["Dr. Ada"]
    assert said["organization"] == ["Ward 7"]
    assert said["organization-id"] == ["urn:oid:1.2.3"]
    assert codes["role"] == [("46255001", "2.16.840.1.113883.6.96")]
    assert codes["purposeofuse"] == [("TREAT", "2.16.840.1.113883.5.8")]
    before, issued, after = said["times"]
    assert before < issued < after
    await ask(gateway, f"/Binary/{own.id}", claims={"name": "Eve </saml:AttributeValue>&\r\n\"'"})
    assert domain.claims[-1]["subject-id"] == ["Eve </saml:AttributeValue>&\r\n\"'"]
    assert domain.claims[-1]["organization"] == ["Hospital <One> & Co"]
    assert all(peer for peer in domain.peers)  # each connection showed the gateway's certificate
    assert dict(each[0] for each in domain.peers[0]["subject"])["commonName"] == "gateway.example"


@pytest.mark.parametrize(
    "wrong", ["doctype", "action", "relates", "fault", "another document", "href", "more", "gone"]
)
async def test_an_answer_that_is_not_the_one_to_what_was_asked_opens_nothing(
    gateway: RunningGateway, domain: XdsDomain, wrong: str
) -> None:
    own = domain.register(of("A"), "id-A")
    domain.register(of("A"), "id-A")
    domain.wrong = wrong
    reply = await ask(gateway, f"/Binary/{own.id}")
    assert reply.status == (404 if wrong == "gone" else 502), reply.raw
    assert b"ClinicalDocument" not in reply.raw


@pytest.mark.parametrize("wrong", ["hash", "cut", "repository"])
async def test_a_document_that_is_not_the_registered_one_does_not_arrive_whole(
    gateway: RunningGateway, domain: XdsDomain, wrong: str
) -> None:
    body = "<nonXMLBody><text>" + "A" * 600_000 + "</text></nonXMLBody>"
    own = domain.register(of("A", body=body), "id-A", hash="0" * 40 if wrong == "hash" else None)
    if wrong == "repository":
        own.repository = "1.2.3"
    domain.wrong = wrong
    reply = await ask(gateway, f"/Binary/{own.id}")
    assert reply.status == 502 or not reply.has_last_chunk
    assert b"</ClinicalDocument>" not in reply.raw


async def test_the_decision_falls_before_a_long_document_was_read(
    gateway: RunningGateway, domain: XdsDomain
) -> None:
    whole = of("B", body="<nonXMLBody><text>@</text></nonXMLBody>")
    begin, end = whole.split(b"@")
    entry = domain.register(whole, "id-A", hash="")
    domain.filler = (begin, 3200, end)  # 200 MiB
    assert (await ask(gateway, f"/Binary/{entry.id}")).status == 404
    assert domain.sent < 12 * 1024 * 1024


async def test_iti_41_provides_a_document_with_what_its_header_says(
    gateway: RunningGateway, domain: XdsDomain
) -> None:
    def sent(content: bytes, patient: str) -> dict[str, Any]:
        headers = [("Content-Type", "application/hl7-cda+xml"), ("X-Security-Context", f"Patient/{patient}")]
        return {"headers": headers, "body": content}

    reply = await ask(gateway, "/Binary", "POST", **sent(of("A"), "A"))
    assert reply.status == 201, reply.raw
    (new,) = domain.provided
    assert new["content"] == of("A")
    assert sorted(new["names"].values()) == ["1.2.3.4", f"id-A^^^&{AUTHORITY}&ISO"]
    assert new["slots"]["sourcePatientId"] == f"mrn-A^^^&{OID}&ISO"
    assert new["slots"]["creationTime"] == "20260102030405"
    assert new["codes"]["type"] == "34133-9^^2.16.840.1.113883.6.1"
    assert new["codes"]["confidentiality"] == "N^^2.16.840.1.113883.5.25"
    place = str(reply.header("Location")).removeprefix(f"{gateway.origin}/cda/")
    assert (await ask(gateway, f"/{place}")).body == of("A")
    for content, patient in ((of("B"), "A"), (of("B"), "B"), (of("A"), "B")):
        assert (await ask(gateway, "/Binary", "POST", **sent(content, patient))).status in (403, 404)
    broken = of("A").replace(b"</ClinicalDocument>", b"")
    assert (await ask(gateway, "/Binary", "POST", **sent(broken, "A"))).status == 400
    assert len(domain.provided) == 1
    domain.wrong = "refused"
    assert (await ask(gateway, "/Binary", "POST", **sent(of("A"), "A"))).status == 502


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
async def test_the_sample_documents_pass_to_whom_they_are_about_by_what_lxml_reads_of_them(
    gateway: RunningGateway, domain: XdsDomain, index: PatientIndex, path: Path
) -> None:
    content = gzip.decompress(path.read_bytes())
    root = etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
    entry = domain.register(content, "id-A")
    assert (await ask(gateway, f"/Binary/{entry.id}")).status == 404
    index.identifiers["A"] = [(DOMAIN, "id-A"), *identifiers_in(root)]
    reply = await ask(gateway, f"/Binary/{entry.id}")
    assert reply.status == 200, reply.raw[:500]
    record = next(each for each in reversed(await gateway.audit()) if each["event"] == "access")
    assert record["document"]["type"] == root.xpath("string(v:code/@code)", namespaces=V3)
    said = root.xpath("string(v:confidentialityCode/@code)", namespaces=V3)
    assert record["document"]["confidentiality"] == said
    custodian = "v:custodian/v:assignedCustodian/v:representedCustodianOrganization/v:id/@root"
    named = [each.partition("^")[0] for each in record["document"]["custodian"]]
    assert named == root.xpath(custodian, namespaces=V3)
    foreign = await ask(gateway, f"/Binary/{entry.id}", claims={"patient": "B", "fhirUser": "Patient/B"})
    assert foreign.status == 404


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
async def test_the_sample_documents_are_provided_with_what_lxml_reads_of_them(
    gateway: RunningGateway, domain: XdsDomain, index: PatientIndex, path: Path
) -> None:
    headers = [("Content-Type", "application/hl7-cda+xml"), ("X-Security-Context", "Patient/A")]
    # A new document with a stylesheet is refused, and a signature that ends in dots for want of room.
    content = re.sub(rb"<\?xml-stylesheet[^>]*\?>", b"", gzip.decompress(path.read_bytes()))
    content = re.sub(rb"<sdtc:signatureText.*?</sdtc:signatureText>", b"", content, flags=re.DOTALL)
    root = etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
    index.identifiers["A"] = [(DOMAIN, "id-A"), *identifiers_in(root)]
    reply = await ask(gateway, "/Binary", "POST", headers=headers, body=content)
    assert reply.status == 201, reply.raw
    (new,) = domain.provided
    assert new["content"] == content
    code, language = (
        root.xpath(f"string(v:{name}/@code)", namespaces=V3) for name in ("code", "languageCode")
    )
    assert new["codes"]["type"].partition("^^")[0] == code
    assert new["slots"]["languageCode"] == language
    unique = [root.xpath(f"string(v:id/@{name})", namespaces=V3) for name in ("root", "extension")]
    if "-" in unique[0]:
        unique[0] = f"2.25.{uuid.UUID(unique[0]).int}"
    assert new["names"][UNIQUE_ID] == "^".join(filter(None, unique))

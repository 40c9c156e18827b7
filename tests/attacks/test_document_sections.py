"""Sections of clinical documents that policies do not show: as content, as a resource and in batches."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import pytest_asyncio

from gateway.policy import language
from tests.attacks.test_binaries import FHIR, refused
from tests.support.document_store import MRN, DocumentStore
from tests.support.documents import OID, document
from tests.support.gateway import RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("sections")]

JSON = ("Content-Type", "application/fhir+json")
POLICIES = """\
policy: sections
version: 1
owner: exchange@h1.example
status: enforce
text: Partners see what is not restricted.
rules:
  - rule: open-sections
    effect: permit
    who: {context: system}
    may: [read, batch]
    resources: [Binary, "cda:ClinicalDocument"]
    where:
      binary: {through: [DocumentReference]}
      cda: {patient_from: recordTarget, confidentiality_at_most: R}
    return: {sections: {at_most: N, unlabelled: N, without: ["v3-ActCode|PSY"], codes_without: ["http://loinc.org|29762-2"]}}
    because: Regional exchange agreement.
  - rule: discharge-whole
    effect: permit
    who: {context: system}
    may: [read, batch]
    resources: ["cda:ClinicalDocument"]
    where:
      binary: {through: [DocumentReference]}
      cda:
        types: ["http://loinc.org|18842-5"]
        authors: ["urn:oid:1.5"]
        custodians: ["urn:oid:1.6"]
    because: Discharge summaries of our ward go out whole.
  - rule: what-leads-there
    effect: permit
    who: {context: system}
    may: [read, search, batch]
    resources: [Patient, DocumentReference]
    shared: true
    because: Partners find documents.
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("sections")
    policies = policies_with(folder, "50-sections.yaml", POLICIES)
    running = await start_gateway(folder, policies=policies, identifier_systems={f"urn:oid:{OID}": MRN})
    yield running
    await stop_gateway(running)


@pytest.fixture
def store(gateway: RunningGateway) -> DocumentStore:
    return DocumentStore(gateway.upstream)


async def lab(gateway: RunningGateway) -> str:
    return await gateway.token("lab", scope="system/*.rs")


def section(text: str, label: str = "", code: str = "48765-2") -> str:
    said = f'<confidentialityCode code="{label}" codeSystem="2.16.840.1.113883.5.25"/>' if label else ""
    return (
        f'<component><section><code code="{code}" codeSystem="2.16.840.1.113883.6.1"/><text>{text}</text>{said}'
        "</section></component>"
    )


MIXED = document(
    body=f"<structuredBody>{section('shown')}{section(SECRET, 'R')}{section(SECRET, code='29762-2')}</structuredBody>"
)


async def test_what_is_not_shown_goes_from_content_from_the_resource_and_from_a_batch(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    store.document("d", "A", MIXED)
    token = await lab(gateway)
    native = await gateway.fhir("GET", "/Binary/d", token=token)
    assert native.status == 200
    whole = await gateway.fhir("GET", "/Binary/d", token=token, headers=FHIR)
    batch: dict[str, Any] = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [{"request": {"method": "GET", "url": "Binary/d"}}],
    }
    together = await gateway.fhir("POST", "/", token=token, headers=[JSON], body=json.dumps(batch).encode())
    assert together.status == 200, together.raw
    copies = [
        native.body,
        base64.b64decode(whole.json["data"]),
        base64.b64decode(together.json["entry"][0]["resource"]["data"]),
    ]
    for copy in copies:
        assert SECRET.encode() not in copy
        assert b"shown" in copy
        ElementTree.fromstring(copy)
    assert copies[0] == copies[1] == copies[2]
    assert store.contents["d"] == MIXED
    records = [each["withheld"] for each in await gateway.audit() if "withheld" in each]
    assert records[-1] == {"sections": 2, "entries": 0, "signature": "none"}


async def test_a_copy_is_never_taken_for_the_version_of_the_store(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    store.document("d", "A", MIXED)
    token = await lab(gateway)
    for headers in ([], FHIR):
        first = await gateway.fhir("GET", "/Binary/d", token=token, headers=headers)
        tag = first.header("ETag") or "*"
        again = await gateway.fhir(
            "GET", "/Binary/d", token=token, headers=[*headers, ("If-None-Match", tag)]
        )
        assert again.status == 200
        part = await gateway.fhir(
            "GET", "/Binary/d", token=token, headers=[*headers, ("Range", "bytes=0-10")]
        )
        assert part.status == 200
        assert SECRET.encode() not in part.raw


async def test_of_two_permits_the_one_that_shows_all_counts_where_it_holds(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    discharge = MIXED.replace(b'code="34133-9"', b'code="18842-5"', 1)
    store.document("d", "A", discharge)
    token = await lab(gateway)
    assert (await gateway.fhir("GET", "/Binary/d", token=token)).body == discharge
    others = (
        discharge.replace(b'<id root="1.5"/>', b'<id root="1.51"/>'),
        discharge.replace(b'<id root="1.6"/>', b'<id root="1.61"/>'),
        discharge.replace(
            b"<custodian>",
            b'<author><assignedAuthor><representedOrganization><id root="1.9"/></representedOrganization>'
            b"</assignedAuthor></author><custodian>",
        ),
        discharge.replace(b'codeSystem="2.16.840.1.113883.6.1"', b'codeSystem="1.2"', 1),
    )
    for content in others:
        store.document("d", "A", content)
        reply = await gateway.fhir("GET", "/Binary/d", token=token)
        assert reply.status == 200
        assert SECRET.encode() not in reply.body


async def test_a_document_above_the_ceiling_of_its_header_stays_whole(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    store.document(
        "d", "A", MIXED.replace(b'<confidentialityCode code="N"', b'<confidentialityCode code="V"', 1)
    )
    await refused(gateway, "/Binary/d", token=await lab(gateway))


async def test_a_body_that_breaks_off_gives_nothing_of_what_was_held(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    store.document("d", "A", MIXED[: MIXED.index(b"</structuredBody>")])
    reply = await gateway.fhir("GET", "/Binary/d", token=await lab(gateway))
    assert SECRET.encode() not in reply.raw
    assert b"shown" not in reply.raw


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("return: {sections: {}}", "must say"),
        ("return: {sections: {at_most: N}}", "go together"),
        ("return: {sections: {at_most: X, unlabelled: N}}", "confidentiality in at_most"),
        ("return: {sections: {codes_without: [29762-2]}}", "is not a code"),
        ("return: {sections: {with: [x]}}", "with"),
    ],
)
async def test_a_rule_about_sections_is_checked_where_it_stands(said: str, problem: str) -> None:
    lines = POLICIES.splitlines()
    text = "\n".join(f"    {said}" if line.startswith("    return:") else line for line in lines)
    with pytest.raises(language.PolicyErrors) as caught:
        language.load({"50.yaml": text})
    assert problem in str(caught.value)


async def test_sections_of_a_rule_that_looks_at_no_document_are_refused() -> None:
    text = POLICIES.replace("      cda: {patient_from: recordTarget, confidentiality_at_most: R}\n", "")
    with pytest.raises(language.PolicyErrors, match="about clinical documents"):
        language.load({"50.yaml": text})

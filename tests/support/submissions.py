"""Policies about documents that partners file at a plain store, and a gateway before one."""

from pathlib import Path
from typing import Any

from gateway.document_settings import DocumentSettings
from tests.support.document_store import MRN
from tests.support.documents import OID, document
from tests.support.gateway import Reply, RunningGateway, policies_with, start_gateway
from tests.support.plain_documents import PlainDocuments

POLICIES = """\
policy: submissions
version: 1
owner: exchange@h1.example
status: enforce
text: Documents that others file.
rules:
  - rule: own-documents
    effect: permit
    who: {context: patient}
    may: [read, create]
    resources: [DocumentReference, "cda:ClinicalDocument"]
    where:
      compartment: {patient: "{token.patient}"}
      binary: {through: [DocumentReference]}
      cda: {patient_from: recordTarget, confidentiality_at_most: N}
    because: A person reads and files the own documents.
  - rule: reports-of-a-laboratory
    effect: permit
    who: {context: system, org: lab-north}
    may: [create]
    resources: [DocumentReference, "cda:ClinicalDocument"]
    where:
      match: {DocumentReference: "DocumentReference?status=current"}
      binary: {through: [DocumentReference]}
      cda:
        patient_from: recordTarget
        authors: ["urn:oid:1.5"]
        custodians: ["urn:oid:1.6"]
        confidentiality_at_least: N
        confidentiality_at_most: R
    because: A laboratory files its own reports.
  - rule: who-files-anything
    effect: permit
    who: {context: system, org: content-only}
    may: [create]
    resources: [Binary]
    where: {binary: {through: [DocumentReference]}}
    because: A source of documents of any kind.
  - rule: their-patients
    effect: permit
    who: {context: system, org: content-only}
    may: [read]
    resources: [Patient]
    shared: true
    because: What is no clinical document is filed under a patient.
"""


async def start(folder: Path, store: PlainDocuments, **more: Any) -> RunningGateway:
    """A gateway before the store."""
    return await start_gateway(
        folder,
        policies=policies_with(folder, "50-submissions.yaml", POLICIES),
        documents={
            "base": store.base,
            "identifier_systems": {f"urn:oid:{OID}": MRN},
            "documents": DocumentSettings("fhir", "documents/{id}", **more),
        },
    )


def of(patient: str, **more: Any) -> bytes:
    """A document about this patient."""
    return document(ids=f'<id root="{OID}" extension="mrn-{patient}"/>', **more)


async def send(
    gateway: RunningGateway,
    content: bytes,
    *more: tuple[str, str],
    who: str = "pA-rw",
    kind: str = "text/xml",
    org: str | None = None,
    **said: Any,
) -> Reply:
    """File a document; org makes the caller a system of that organisation."""
    claims: dict[str, Any] = {"aud": f"{gateway.origin}/cda"}
    if org is not None:
        who = "lab"
        claims |= {"organization": org, "scope": "system/*.crs"}
    token = await gateway.token(who, **claims | said)
    headers = [("Content-Type", kind), *more]
    return await gateway.fhir("POST", "/documents", token=token, mount="/cda", headers=headers, body=content)

"""The documents of the demonstration, and who agreed that they are exchanged."""

import time
import uuid
from pathlib import Path
from typing import Any

from authz.storage.sqlite.store import open_store
from gateway.consent_service.versions import next_version
from gateway.demo.document_store import PATH

AT = "/cda"
LABORATORY = "2.16.840.1.113883.19.77"
_LICENCES = "2.16.840.1.113883.4.3.25"
HOSPITAL = "2.16.840.1.113883.19.5.99999.2"  # assigns the record numbers in the documents
STEPHEN = "d9427379-943a-42c1-b3d0-6b5056a12696"
ANTONY = "cc74fae7-b8e8-4e77-af46-fb7c3177bf1c"
LIZ = "ee9f8dd8-72d2-4769-8020-89e504b1504b"
_MEDICATION_SUMMARY = {"system": "http://loinc.org", "code": "56445-0"}
_NAMESPACE = uuid.UUID("b0a8d7f5-7d0d-4f0f-9a43-2f0d5ad4b3a1")

# name, patient, confidentiality, whether the regional exchange may read it
_DOCUMENTS: tuple[tuple[str, str, str, bool], ...] = (
    ("stephen-summary", STEPHEN, "N", True),  # without its restricted section
    ("stephen-medications", STEPHEN, "N", True),
    ("stephen-restricted", STEPHEN, "R", False),  # above what is exchanged
    ("antony-summary", ANTONY, "N", False),  # who never agreed
    ("liz-imaging", LIZ, "N", True),
)
# patient, the organisation that is agreed to, the one kind of document that is
_AGREED: tuple[tuple[str, str, dict[str, str] | None], ...] = (
    (STEPHEN, "exchange", None),
    (STEPHEN, "pharmacy", _MEDICATION_SUMMARY),
    (LIZ, "exchange", None),
)


def documents(public: str, mtls: str) -> list[dict[str, Any]]:
    """What demo.json says of the documents, whose gateway has these two origins."""
    return [
        {
            "url": f"{public}{AT}{PATH}/{name}",
            "url_mtls": f"{mtls}{AT}{PATH}/{name}",
            "patient": patient,
            "confidentiality": confidentiality,
            "exchange_mtls_may_read": may_read,
        }
        for name, patient, confidentiality, may_read in _DOCUMENTS
    ]


def laboratory_report(author: str) -> bytes:
    """A report of a laboratory about Stephen, by the organisation with this OID."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3">'
        '<typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>'
        f'<id root="{uuid.uuid4()}"/><code code="11502-2" codeSystem="2.16.840.1.113883.6.1"/>'
        '<title>Laboratory report</title><effectiveTime value="20260301"/>'
        '<confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/>'
        f'<recordTarget><patientRole><id root="{_LICENCES}" extension="S99910268"/></patientRole></recordTarget>'
        '<author><time value="20260301"/><assignedAuthor><id nullFlavor="NI"/><representedOrganization>'
        f'<id root="{author}"/><name>Laboratory</name></representedOrganization></assignedAuthor></author>'
        f'<custodian><assignedCustodian><representedCustodianOrganization><id root="{author}"/>'
        "</representedCustodianOrganization></assignedCustodian></custodian>"
        "<component><structuredBody><component><section><title>Results</title><text>HbA1c 6.3 %</text>"
        "</section></component></structuredBody></component></ClinicalDocument>"
    ).encode()


def mount(base: str) -> dict[str, Any]:
    """The mount of the sample document store, whose origin base is, beside the one named `fhir`."""
    return {
        "kind": "cda-rest",
        "at": AT,
        "base": base,
        "identifier_systems": {f"urn:oid:{HOSPITAL}": "http://hospital.smarthealthit.org"},
        "documents": {"patients": "fhir", "path": f"{PATH}/{{id}}"},
    }


async def record_agreements(store_file: Path, base: str) -> None:
    """Write the consents of those who agreed into the store; base is the public URL of the FHIR mount.

    Raises StoreUnavailable.
    """
    store = await open_store(store_file)
    try:
        for patient, organization, kind in _AGREED:
            name = str(uuid.uuid5(_NAMESPACE, f"{patient} {organization}"))
            consent = _consent(patient, organization, kind)
            await store.add_consent(
                next_version(consent, None, base=base, id=name, now=int(time.time()), by="demonstration")
            )
    finally:
        await store.close()


def _consent(patient: str, organization: str, kind: dict[str, str] | None) -> dict[str, Any]:
    recipient = {
        "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType",
        "code": "IRCP",
    }
    provision: dict[str, Any] = {
        "type": "permit",
        "actor": [
            {
                "role": {"coding": [recipient]},
                "reference": {"identifier": {"value": organization}},
            }
        ],
    }
    if kind is not None:
        provision["class"] = [kind]
    scope = {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}
    category = {"system": "http://loinc.org", "code": "59284-0"}
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [scope]},
        "category": [{"coding": [category]}],
        "patient": {"reference": f"Patient/{patient}"},
        "policy": [{"uri": "https://hospital.example/regional-exchange"}],
        "provision": provision,
    }

"""What a clinical document says of itself, as the DocumentReference that a FHIR store would have of it.

Rules judge a document by what leads to it. Where no store of references does, its own header leads to it: whose it is,
how confidential, of what kind, by whom and from whom (IHE MHD, C-CDA on FHIR).
"""

from typing import Any

from gateway.cda.header import CONFIDENTIALITY_SYSTEM, Code, DocumentOrganization, Header, InstanceIdentifier
from gateway.fhir.labels import CONFIDENTIALITY

NEW = "new"
"""In place of the id that the store will give to a document."""
_SYSTEMS = {
    "2.16.840.1.113883.6.1": "http://loinc.org",
    "2.16.840.1.113883.6.96": "http://snomed.info/sct",
}


def document_reference(id_: str, header: Header, patient: str, media_type: str) -> dict[str, Any]:
    """The current DocumentReference of the document with this id, about this patient, by the ids that both have here.

    A document without a confidentiality has no label: rules say what that is taken for.
    """
    found: dict[str, Any] = {"resourceType": "DocumentReference", "id": id_}
    label = None if header.confidentiality is None else _label(header.confidentiality)
    if label is not None:
        found["meta"] = {"security": [label]}
        found["securityLabel"] = [{"coding": [label]}]
    found["status"] = "current"
    if header.code is not None and header.code.code:
        found["type"] = {"coding": [_coding(header.code)]}
    found["subject"] = {"reference": f"Patient/{patient}"}
    authors = [_organization(each) for each in header.authors]
    if authors:
        found["author"] = authors
    if header.custodian is not None:
        found["custodian"] = _organization(header.custodian)
    found["content"] = [{"attachment": {"contentType": media_type, "url": f"Binary/{id_}"}}]
    return found


def _label(code: Code) -> dict[str, str] | None:
    """None for a confidentiality that is not said; one of another system is above every known one."""
    if not code.code:
        return None
    is_known = code.system in ("", CONFIDENTIALITY_SYSTEM)
    return {"system": CONFIDENTIALITY, "code": code.code if is_known else "?"}


def _coding(code: Code) -> dict[str, str]:
    system = _SYSTEMS.get(code.system, f"urn:oid:{code.system}")
    return {"system": system, "code": code.code} if code.system else {"code": code.code}


def _organization(organization: DocumentOrganization) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "Organization"}
    if organization.ids:
        found["identifier"] = _identifier(organization.ids[0])
    if organization.name:
        found["display"] = organization.name
    return found


def _identifier(identifier: InstanceIdentifier) -> dict[str, str]:
    if not identifier.extension:
        return {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{identifier.root}"}
    return {"system": f"urn:oid:{identifier.root}", "value": identifier.extension}

"""Entries of a registry as DocumentReferences, and searches for these as stored queries (IHE MHD 3.67, ITI TF-3 4.2)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.cda.header import InstanceIdentifier
from gateway.document_services.xds.envelopes import listed, quoted
from gateway.document_services.xds.soap_answers import Node
from gateway.fhir.labels import CONFIDENTIALITY
from gateway.fhir.outcome import FhirError, Reason

APPROVED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
DEPRECATED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"
PATIENT_ID = "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427"
UNIQUE_ID = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"
CLASS = "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a"
TYPE = "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983"
CONFIDENTIALITY_CODE = "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f"
CONFIDENTIALITY_OID = "2.16.840.1.113883.5.25"
_STATUS = {APPROVED: "current", DEPRECATED: "superseded"}
_SYSTEMS = {"http://loinc.org": "2.16.840.1.113883.6.1", "http://snomed.info/sct": "2.16.840.1.113883.6.96"}
_URIS = {oid: uri for uri, oid in _SYSTEMS.items()} | {CONFIDENTIALITY_OID: CONFIDENTIALITY}
_ENTRY_ID = re.compile(r"urn:uuid:([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})")
_OID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+")
_CX = re.compile(r"([^^&]+)\^\^\^(?:[^^&]*)&([0-9.]+)&ISO")
_DATE = re.compile(r"(eq|ge|gt|le|lt)?(\d{4}-\d\d-\d\d)(T\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d))?")
_STAMP = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)")


@dataclass(frozen=True, slots=True)
class Entry:
    """A document entry. id is its entryUUID, without the urn; hash is SHA-1 in hexadecimal, as registries have it."""

    id: str
    status: str
    patient: InstanceIdentifier
    unique_id: str
    repository: str
    home: str
    media_type: str
    created: str
    hash: str
    size: int | None
    title: str
    type: tuple[str, str, str] | None
    category: tuple[str, str, str] | None
    labels: tuple[tuple[str, str, str], ...]


def entry_of(node: Node) -> Entry:
    """An ExtrinsicObject as an entry. Raises FhirError(UPSTREAM_INVALID) for one that lacks what a decision needs."""
    slots = {each.attributes.get("name", ""): each for each in node.all("rim:Slot")}
    names: dict[str, list[str]] = {}
    for each in node.all("rim:ExternalIdentifier"):
        names.setdefault(each.attributes.get("identificationScheme", ""), []).append(
            each.attributes.get("value", "")
        )
    found = _ENTRY_ID.fullmatch(node.attributes.get("id", ""))
    patients, unique = names.get(PATIENT_ID, []), names.get(UNIQUE_ID, [])
    patient = patient_of(patients[0]) if len(patients) == 1 else None
    size = _slot(slots, "size")
    if found is None or patient is None or len(unique) != 1 or not unique[0]:
        raise FhirError(Reason.UPSTREAM_INVALID, "an entry of the registry names no document of a patient")
    kinds, categories = _codes(node, TYPE), _codes(node, CLASS)
    return Entry(
        id=found[1].lower(),
        status=_STATUS.get(node.attributes.get("status", ""), "entered-in-error"),
        patient=patient,
        unique_id=unique[0],
        repository=_slot(slots, "repositoryUniqueId"),
        home=node.attributes.get("home", ""),
        media_type=node.attributes.get("mimeType", "").partition(";")[0].strip().lower(),
        created=_slot(slots, "creationTime"),
        hash=_slot(slots, "hash").lower(),
        size=int(size) if size.isascii() and size.isdigit() and len(size) < 16 else None,
        title=next(
            (each.attributes.get("value", "") for each in node.all("rim:Name", "rim:LocalizedString")), ""
        ),
        type=kinds[0] if kinds else None,
        category=categories[0] if categories else None,
        labels=tuple(_codes(node, CONFIDENTIALITY_CODE)),
    )


def patient_of(text: str) -> InstanceIdentifier | None:
    """A patient identifier as registries write it (CX); None for what is none."""
    found = _CX.fullmatch(text)
    return InstanceIdentifier(found[2], found[1]) if found and _OID.fullmatch(found[2]) else None


def patient_text(identifier: InstanceIdentifier) -> str:
    """The same as registries write it. Raises FhirError for one that cannot be written so."""
    if re.search(r"[\^&~|]", identifier.extension):
        raise FhirError(Reason.NOT_FOUND)
    return f"{identifier.extension}^^^&{identifier.root}&ISO"


def as_reference(entry: Entry, patient: str) -> dict[str, Any]:
    """The DocumentReference of an entry about this patient of the FHIR store."""
    labels = [_coding(each) for each in entry.labels]
    if labels and not any(each.get("system") == CONFIDENTIALITY for each in labels):
        labels.append({"system": CONFIDENTIALITY, "code": "?"})  # above every known one
    found: dict[str, Any] = {"resourceType": "DocumentReference", "id": entry.id}
    if labels:
        found["meta"] = {"security": labels}
        found["securityLabel"] = [{"coding": [each]} for each in labels]
    root, mark, extension = entry.unique_id.partition("^")
    whole = {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{root}"}
    found["masterIdentifier"] = {"system": f"urn:oid:{root}", "value": extension} if mark else whole
    found["status"] = entry.status
    for name, code in (("type", entry.type), ("category", entry.category)):
        if code is not None:
            value = {"coding": [_coding(code)]}
            found[name] = [value] if name == "category" else value
    found["subject"] = {"reference": f"Patient/{patient}"}
    created = _instant(entry.created)
    if created is not None:
        found["date"] = created
    attachment: dict[str, Any] = {"contentType": entry.media_type, "url": f"Binary/{entry.id}"}
    if entry.title:
        attachment["title"] = entry.title
    found["content"] = [{"attachment": attachment}]
    return found


def parameters(terms: Mapping[str, str], patient: str) -> dict[str, str]:
    """The parameters of FindDocuments for a search; patient is written as registries do.

    Raises FhirError(UNSUPPORTED_PARAMETER) for what a registry cannot be asked so.
    """
    found = {"$XDSDocumentEntryPatientId": quoted(patient)}
    statuses = {"current": [APPROVED], "superseded": [DEPRECATED]}
    asked = terms.get("status", "current,superseded").split(",")
    if not set(asked) <= statuses.keys():
        raise _unsupported("status is current or superseded")
    found["$XDSDocumentEntryStatus"] = listed([one for each in asked for one in statuses[each]])
    for name, slot in (("type", "$XDSDocumentEntryTypeCode"), ("category", "$XDSDocumentEntryClassCode")):
        if name in terms:
            found[slot] = listed([_coded(each) for each in terms[name].split(",")])
    if "date" in terms:
        found |= _dates(terms["date"])
    return found


def _dates(text: str) -> dict[str, str]:
    """One limit, or the one day, of the time of creation: from the first second on, and to before the last."""
    match = _DATE.fullmatch(text)
    if match is None:
        raise _unsupported("date is a day or an instant, with eq, ge, gt, le or lt before it")
    day = datetime.fromisoformat(match[2] + (match[3] or "T00:00:00+00:00")).astimezone(UTC)
    after = day + (timedelta(seconds=1) if match[3] else timedelta(days=1))
    first, last = day.strftime("%Y%m%d%H%M%S"), after.strftime("%Y%m%d%H%M%S")
    begin, stop = "$XDSDocumentEntryCreationTimeFrom", "$XDSDocumentEntryCreationTimeTo"
    return {
        "ge": {begin: quoted(first)},
        "gt": {begin: quoted(last)},
        "lt": {stop: quoted(first)},
        "le": {stop: quoted(last)},
        "eq": {begin: quoted(first), stop: quoted(last)},
    }[match[1] or "eq"]


def _coded(text: str) -> str:
    system, mark, code = text.partition("|")
    oid = _SYSTEMS.get(system, system.removeprefix("urn:oid:"))
    if not mark or not code or not _OID.fullmatch(oid) or "^" in code:
        raise _unsupported("a code is asked for with its system, an OID, LOINC or SNOMED CT")
    return f"{code}^^{oid}"


def _unsupported(said: str) -> FhirError:
    return FhirError(Reason.UNSUPPORTED_PARAMETER, said)


def _slot(slots: Mapping[str, Node], name: str) -> str:
    return slots[name].said("rim:ValueList", "rim:Value") if name in slots else ""


def _codes(node: Node, scheme: str) -> list[tuple[str, str, str]]:
    """Code, system and display of the classifications of one scheme."""
    found = []
    for each in node.all("rim:Classification"):
        if each.attributes.get("classificationScheme") == scheme:
            slots = {one.attributes.get("name", ""): one for one in each.all("rim:Slot")}
            display = next(
                (one.attributes.get("value", "") for one in each.all("rim:Name", "rim:LocalizedString")), ""
            )
            found.append(
                (each.attributes.get("nodeRepresentation", ""), _slot(slots, "codingScheme"), display)
            )
    return found


def _coding(code: tuple[str, str, str]) -> dict[str, str]:
    value, system, display = code
    found = {"code": value}
    if system:
        found["system"] = _URIS.get(system, f"urn:oid:{system}" if _OID.fullmatch(system) else system)
    return found | ({"display": display} if display else {})


def _instant(stamp: str) -> str | None:
    """A time of a registry, in UTC; None for one less precise than an instant."""
    match = _STAMP.fullmatch(stamp)
    return None if match is None else "{}-{}-{}T{}:{}:{}Z".format(*match.groups())

"""An accounting of disclosures as JSON, as CSV, and as a FHIR Bundle of AuditEvents.

A Bundle of type collection, and not a Composition or Parameters: a disclosure is an event, and its AuditEvent (IHE BALP,
privacy disclosure at its source) is what other systems exchange about it. A Composition would only tell the same again
in words, and Parameters are understood by whoever defined them.
"""

import csv
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256

from gateway.officer.asking import when
from gateway.officer.disclosures import Accounting, Disclosure

_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_PURPOSES = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_LIFECYCLE = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
_ENTITY = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_SOURCE = "http://terminology.hl7.org/CodeSystem/security-source-type"
_PROFILE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PrivacyDisclosure.Source"
_COLUMNS = ("date", "recipient", "address", "disclosed", "purpose", "record")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def as_json(found: Accounting, *, for_officer: bool) -> dict[str, object]:
    """The accounting as one JSON value; for_officer adds how much is left out and suspended."""
    said: dict[str, object] = {
        "base": found.base,
        "patient": found.patient,
        "since": when(found.since),
        "until": when(found.until),
        "disclosures": [
            {
                "date": when(each.at),
                "recipient": each.recipient,
                "address": each.address or None,
                "disclosed": each.what,
                "purpose": each.purpose,
                "record": {"chain": each.chain, "sequence": each.sequence},
            }
            for each in found.disclosures
        ],
        "series": [
            {
                "recipient": each.first.recipient,
                "purpose": each.first.purpose,
                "first": when(each.first.at),
                "count": each.count,
                "last": when(each.last_at),
            }
            for each in found.series
        ],
    }
    return said | ({"left_out": found.left_out, "suspended": found.suspended} if for_officer else {})


def as_csv(found: Accounting) -> str:
    """The accounting as CSV (RFC 4180), with a line of names."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for each in found.disclosures:
        record = f"{each.chain or '-'} {each.sequence}"
        row = (when(each.at), each.recipient, each.address, each.what, each.purpose, record)
        writer.writerow([cell(value) for value in row])
    return text.getvalue()


def cell(value: str) -> str:
    """A cell that no spreadsheet takes for a formula: names of clients and recipients come from outside.

    The record of the chain without a name begins with '-' as well, and is kept apart in the same way.
    """
    return f"'{value}" if value.startswith(_FORMULA) else value


def as_fhir(found: Accounting, *, issuer: str, organisation: str) -> dict[str, object]:
    """The accounting as a Bundle of AuditEvents."""
    entries = [_event(found, each, issuer, organisation) for each in found.disclosures]
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": _instant(found.until),
        "entry": [{"fullUrl": f"urn:uuid:{event['id']}", "resource": event} for event in entries],
    }


def _event(found: Accounting, each: Disclosure, issuer: str, organisation: str) -> Mapping[str, object]:
    recipient: dict[str, object] = {
        "type": _concept(_DCM, "110152", "Destination Role ID"),
        "who": {"identifier": {"value": each.client}, "display": each.recipient},
        "name": each.recipient,
        "requestor": True,
    }
    event: dict[str, object] = {
        "resourceType": "AuditEvent",
        "id": _id(found, each),
        "meta": {"profile": [_PROFILE]},
        "type": _coding(_DCM, "110106", "Export"),
        "subtype": [_coding(_LIFECYCLE, "disclose", "Disclose Record Lifecycle Event")],
        "action": "R",
        "recorded": _instant(each.at),
        "outcome": "0",
        "agent": [
            {
                "type": _concept(_DCM, "110153", "Source Role ID"),
                "who": {"identifier": {"value": issuer}, "display": organisation},
                "requestor": False,
            },
            recipient,
        ],
        "source": {
            "site": organisation,
            "observer": {"identifier": {"value": issuer}},
            "type": [_coding(_SOURCE, "4", "Application Server")],
        },
        "entity": [
            {
                "what": {"reference": f"{found.base}/Patient/{found.patient}"},
                "type": _coding(_ENTITY, "1", "Person"),
                "role": _coding(_ROLE, "1", "Patient"),
            },
            {
                "what": {"display": each.what},
                "type": _coding(_ENTITY, "2", "System Object"),
                "role": _coding(_ROLE, "4", "Domain Resource"),
                "detail": _details(each),
            },
        ],
    }
    if each.purposes:
        event["purposeOfEvent"] = [_concept(_PURPOSES, code, None) for code in each.purposes]
    return event


def _details(each: Disclosure) -> list[dict[str, str]]:
    """What AuditEvent has no element for: the address of the recipient, and the record that proves it."""
    record = [{"type": "record", "valueString": f"{each.chain or '-'} {each.sequence}"}]
    address = [{"type": "recipient-address", "valueString": each.address}] if each.address else []
    return [*address, *record]


def _id(found: Accounting, each: Disclosure) -> str:
    digits = sha256(
        json.dumps([found.base, found.patient, each.chain, each.sequence]).encode("utf-8")
    ).hexdigest()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))


def _instant(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def _coding(system: str, code: str, display: str | None) -> dict[str, str]:
    return {"system": system, "code": code} | ({} if display is None else {"display": display})


def _concept(system: str, code: str, display: str | None) -> dict[str, object]:
    return {"coding": [_coding(system, code, display)]}

"""The world of the leak bank: patients A and B, what is theirs, what names both, and the six tokens that ask.

Whatever must never reach A holds the marker. The policies open all that a patient's compartment holds, so that the
scopes of the token are what closes: each question shows the scope layer, not a rule of a hospital.
"""

from typing import Any

from tests.support.world import SECRET, Resource

CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
CONDITION = "http://terminology.hl7.org/CodeSystem/condition-category"
CLINICAL_NOTE = "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category|clinical-note"
VITAL = f"category={CATEGORY}|vital-signs"
LABORATORY = f"category={CATEGORY}|laboratory"
LAB_TEXT = "potassium of the own laboratory"
"""What stands in the laboratory results of A: no token for vital signs alone may see it."""

TOKENS: dict[str, dict[str, Any]] = {
    "T1": {"scope": f"patient/Observation.rs?{VITAL} patient/Patient.r", "patient": "A"},
    "T2": {"scope": "patient/*.rs", "patient": "A"},
    "T3": {"scope": "patient/Observation.cud", "patient": "A"},
    "T4": {"scope": "user/*.cruds", "fhirUser": "Practitioner/P1", "roles": ["physician"]},
    "T5": {"scope": "system/Observation.rs", "organization": "registry"},
    "T6": {"scope": f"patient/Observation.c patient/Observation.rs?{LABORATORY}", "patient": "A"},
}
"""The tokens of the bank. A question that says less or more lays its own scope over one of them."""

_FOREIGN: Resource = {"reference": "Patient/B", "display": SECRET}
_HIDDEN: Resource = {
    "text": {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{SECRET}</div>'},
    "identifier": [{"system": "urn:mrn", "value": SECRET}],
    "extension": [{"url": "urn:example:note", "valueString": SECRET}],
}


def about(id_: str) -> Resource:
    """A reference to a patient."""
    return {"reference": f"Patient/{id_}"}


def observation(id_: str | None, patient: str = "A", *categories: str, **more: Any) -> Resource:
    """A result; without id one that is to be stored."""
    coded = [{"coding": [{"system": CATEGORY, "code": each}]} for each in categories]
    return {
        "resourceType": "Observation",
        **({} if id_ is None else {"id": id_, "meta": {"versionId": "1"}}),
        "status": "final",
        **({"category": coded} if coded else {}),
        "code": {"coding": [{"system": "http://loinc.org", "code": "4548-4"}]},
        "subject": about(patient),
    } | more


def _foreign(resource: Resource, **more: Any) -> Resource:
    return _HIDDEN | resource | more


def bank_world() -> dict[str, Resource]:
    """Every resource by 'Type/id', made anew."""
    laboratory = {"note": [{"text": LAB_TEXT}]}
    vital = "vital-signs"
    resources: list[Resource] = [
        {"resourceType": "Patient", "id": "A", "meta": {"versionId": "1"}, "name": [{"family": "Own"}],
         "link": [{"other": about("A2"), "type": "seealso"}]},
        _foreign({"resourceType": "Patient", "id": "A2", "name": [{"family": SECRET}]}),
        _foreign({"resourceType": "Patient", "id": "B", "name": [{"family": SECRET}]}),
        observation("oA-vs", "A", vital, hasMember=[{"reference": "Observation/oA-lab"}], encounter={
            "reference": "Encounter/eA"}),
        observation("oA-lab", "A", "laboratory", **laboratory),
        observation("oA-multi", "A", vital, "laboratory"),
        observation("oA-none", "A", **laboratory),
        _foreign(observation("oB-vs", "B", vital, subject=_FOREIGN)),
        _foreign(observation("oBfA", "B", vital, subject=_FOREIGN, focus=[about("A")])),
        _foreign(observation("oBnA", "B", vital, subject=_FOREIGN, note=[{"text": SECRET, "authorReference": about("A")}])),
        # In the compartment of both: what A performed is A's by the specification (performer), and holds no marker.
        observation("oBpA", "B", vital, performer=[about("A")]),
        _foreign(observation("oX", "B", vital, subject=_FOREIGN, meta={"versionId": "2"})),
        {"resourceType": "Encounter", "id": "eA", "status": "finished", "subject": about("A")},
        _foreign({"resourceType": "Encounter", "id": "eB", "status": "finished", "subject": _FOREIGN}),
        {"resourceType": "Condition", "id": "cA-pl", "category": [{"coding": [
            {"system": CONDITION, "code": "problem-list-item"}]}], "subject": about("A")},
        {"resourceType": "Condition", "id": "cA-ed", "category": [{"coding": [
            {"system": CONDITION, "code": "encounter-diagnosis"}]}], "subject": about("A")},
        _foreign({"resourceType": "Condition", "id": "cB", "subject": _FOREIGN}),
        {"resourceType": "Coverage", "id": "covA", "status": "active", "beneficiary": about("A"), "subscriber": about("B"),
         "payor": [{"reference": "Organization/O1"}]},
        _foreign({"resourceType": "DiagnosticReport", "id": "drB", "status": "final", "subject": _FOREIGN,
                  "result": [{"reference": "Observation/oA-vs"}]}),
        _foreign({"resourceType": "Provenance", "id": "pv", "target": [
            {"reference": "Observation/oA-vs"}, {"reference": "Observation/oB-vs", "display": SECRET}]}),
        _foreign({"resourceType": "Provenance", "id": "pvA", "target": [{"reference": "Observation/oA-vs"}]}),
        _foreign({"resourceType": "Provenance", "id": "pgA", "target": [{"reference": "Observation/oB-vs"}],
                  "agent": [{"who": about("A")}]}),
        _foreign({"resourceType": "List", "id": "lB", "status": "current", "mode": "working", "subject": _FOREIGN,
                  "entry": [{"item": {"reference": "Observation/oB-vs"}}]}),
        {"resourceType": "DocumentReference", "id": "dA", "status": "current", "subject": about("A"), "category": [
            {"coding": [{"system": CLINICAL_NOTE.split("|")[0], "code": "clinical-note"}]}],
         "content": [{"attachment": {"contentType": "text/plain", "url": "Binary/bA"}}]},
        _foreign({"resourceType": "DocumentReference", "id": "dB", "status": "current", "subject": _FOREIGN,
                  "content": [{"attachment": {"contentType": "text/plain", "url": "Binary/bB"}}]}),
        {"resourceType": "Binary", "id": "bA", "contentType": "text/plain", "data": "bm90ZQ=="},
        {"resourceType": "Binary", "id": "bB", "contentType": "text/plain", "data": "U0VDUkVULUI=",
         "securityContext": about("B")},
        {"resourceType": "Device", "id": "dvA", "patient": about("A")},
        _foreign({"resourceType": "Device", "id": "dv0"}),
        _foreign({"resourceType": "Device", "id": "dvB", "patient": _FOREIGN}),
        {"resourceType": "RelatedPerson", "id": "rA", "patient": about("A")},
        {"resourceType": "Practitioner", "id": "P1", "name": [{"family": "One"}]},
        {"resourceType": "Organization", "id": "O1", "name": "Hospital One"},
        _foreign({"resourceType": "AuditEvent", "id": "ae", "entity": [{"what": _FOREIGN}], "agent": [{"who": about("A")}]}),
        # What names both patients at once.
        _foreign({"resourceType": "Group", "id": "G", "type": "person", "actual": True,
                  "member": [{"entity": about("A")}, {"entity": _FOREIGN}]}),
        _foreign({"resourceType": "Appointment", "id": "apAB", "status": "booked", "participant": [
            {"actor": about("A"), "status": "accepted"}, {"actor": _FOREIGN, "status": "accepted"}]}),
        {"resourceType": "Appointment", "id": "apA", "status": "booked", "participant": [
            {"actor": about("A"), "status": "accepted"}]},
        {"resourceType": "Schedule", "id": "sA", "actor": [about("A")]},
        _foreign({"resourceType": "Communication", "id": "comAB", "status": "completed", "subject": about("A"),
                  "recipient": [_FOREIGN]}),
        _foreign({"resourceType": "Consent", "id": "conB", "status": "active", "patient": _FOREIGN, "performer": [about("A")]}),
        _foreign({"resourceType": "Composition", "id": "x", "status": "final", "subject": about("A"), "section": [
            {"entry": [{"reference": "Observation/oB-vs", "display": SECRET}]}], "title": "x", "author": [_FOREIGN]}),
        _foreign({"resourceType": "Task", "id": "tB", "status": "requested", "intent": "order", "for": _FOREIGN,
                  "owner": about("A")}),
        _foreign({"resourceType": "Bundle", "id": "docB", "type": "document", "entry": [
            {"resource": {"resourceType": "Patient", "id": "B", "name": [{"family": SECRET}]}}]}),
        _foreign({"resourceType": "MessageHeader", "id": "mB", "focus": [_FOREIGN]}),
    ]  # fmt: skip
    return {f"{resource['resourceType']}/{resource['id']}": resource for resource in resources}


DEFINITIONS = """\
definitions: leak-bank
version: 1
fhir: R4
claims:
  patient: {path: patient, type: id}
  user: {path: fhirUser, type: reference, of: [Practitioner, Patient]}
  roles: {path: roles, type: codes}
  org: {path: organization, type: string}
sets:
  record:
    types: [AllergyIntolerance, Condition, Coverage, DiagnosticReport, DocumentReference, Encounter, Observation, Patient,
            Provenance, RelatedPerson, Schedule]
  of-several: {types: [Appointment, Communication, Composition, Consent, Group, List]}
  special-care: {labels: ["v3-ActCode|PSY", "v3-ActCode|HIV"]}
"""

POLICY = """\
policy: leak-bank
version: 1
owner: tests
status: enforce
text: All that a compartment holds is open, so that scopes alone say what of it is shown.
rules:
  - rule: own-record
    effect: permit
    who: {context: patient}
    may: [read, vread, history-instance, search, create, update, patch, delete, batch, transaction]
    resources: [$record]
    shared: true
    query: {include: any-permitted, chain_depth: 3}
    conditional: {keys: [identifier]}
    conceal: true
    because: The scopes say whose.
  - rule: names-nobody-else
    effect: permit
    who: {context: patient}
    may: [read, search]
    resources: [$of-several]
    where: {compartment: {patient: "{token.patient}", membership: all}}
    conceal: true
    because: What names others as well is not for one of them.
  - rule: own-devices
    effect: permit
    who: {context: patient}
    may: [read, search]
    resources: [Device]
    shared: true
    where: {match: {Device: "Device?patient={token.patient}"}}
    conceal: true
    because: A device is not in the compartment of R4.
  - rule: own-content
    effect: permit
    who: {context: patient}
    may: [read]
    resources: [Binary]
    where: {compartment: {patient: "{token.patient}"}, binary: {through: [DocumentReference]}}
    conceal: true
    because: What belongs to a document is read with it.
  - rule: directory
    effect: permit
    may: [read, search]
    resources: [Organization, Practitioner]
    shared: true
    because: Names of care givers are for all.
  - rule: operations
    effect: permit
    who: {context: patient}
    may: ["operation:Patient/$everything", "operation:Observation/$lastn", "operation:$validate"]
    resources: [Patient, Observation]
    where: {compartment: {patient: "{token.patient}"}}
    conceal: true
    because: A person takes the own record along.
  - rule: staff
    effect: permit
    who: {context: user, role: [physician]}
    may: [read, vread, history-instance, search, create, update, patch, delete, batch, transaction]
    resources: [$record]
    shared: true
    query: {include: any-permitted, chain_depth: 3}
    because: The scopes say what.
  - rule: not-their-patient
    effect: deny
    who: {context: user, role: [student]}
    may: any
    resources: [Patient, Observation]
    where: {match: {Patient: "Patient?_id=B", Observation: "Observation?subject=Patient/B"}}
    because: B is in nobody's training.
  - rule: no-results-at-the-kiosk
    effect: deny
    who: {client: kiosk}
    may: any
    resources: [Observation]
    because: Results are not for a public screen.
  - rule: special-care
    effect: deny
    who: {context: patient, client: portal-of-labels}
    may: any
    resources: [$record]
    where: {labels: {any_of: $special-care}}
    because: Special care stays with its team.
  - rule: registry
    effect: permit
    who: {context: system, org: registry}
    may: [read, search, "operation:Group/$export", "operation:Patient/$export"]
    resources: [Group, Observation, Patient]
    shared: true
    because: The registry takes its results over.
  - rule: registry-of-all
    effect: permit
    who: {context: system, org: registry}
    may: ["operation:$export"]
    resources: any
    shared: true
    because: The registry takes its results over.
tests:
  - {test: t, as: {context: patient, patient: A}, request: GET /Patient/B, expect: {status: 404}}
"""

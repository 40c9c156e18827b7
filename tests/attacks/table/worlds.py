"""The worlds of the attack table: the resources that the store has, and the policies before it.

A world is a gateway with its policies. 'main' lets people keep their own record and staff see every chart; 'views'
hides elements; 'export' lets a registry take data out. The marker stands in everything that is not A's.
"""

from typing import Any

from tests.support.world import SECRET, Resource, world

DEFINITIONS = """\
definitions: attacks
version: 1
fhir: R4
claims:
  patient: {path: patient, type: id}
  user: {path: fhirUser, type: reference, of: [Practitioner, Patient]}
  roles: {path: roles, type: codes}
  org: {path: organization, type: string}
  purpose: {path: purpose_of_use, type: codes}
sets:
  chart:
    types: [Condition, Coverage, DocumentReference, Encounter, MedicationAdministration, Observation, Procedure]
  directory: {types: [Practitioner, Organization]}
  inside: {networks: [10.0.0.0/8]}
  special-care: {labels: ["v3-ActCode|PSY", "v3-ActCode|HIV"]}
"""

_TESTS = "tests:\n  - {test: t, as: {context: patient, patient: A}, request: GET /Patient/B, expect: {status: 404}}\n"

MAIN = """\
policy: main
version: 1
owner: tests
status: enforce
text: People keep the own record, staff sees charts.
rules:
  - rule: own-record
    effect: permit
    who: {context: patient}
    may: [read, vread, history-instance, search]
    resources: [Patient, $chart]
    where: {compartment: {patient: "{token.patient}", membership: subject}}
    query: {include: any-permitted, chain_depth: 2}
    conceal: true
    because: A person sees the own record.
  - rule: directory
    effect: permit
    may: [read, search]
    resources: [$directory]
    shared: true
    query: {include: any-permitted, chain_depth: 2}
    because: Names of care givers are for all.
  - rule: own-diary
    effect: permit
    who: {context: patient}
    may: [create, update, patch, delete]
    resources: [Patient, Condition, DocumentReference, Observation]
    where: {compartment: {patient: "{token.patient}", membership: all}}
    conditional: {keys: [identifier], system: urn:mrn}
    write: {readonly: [Patient.link]}
    conceal: true
    because: A person keeps the own diary.
  - rule: own-operations
    effect: permit
    who: {context: patient}
    may: ["operation:Patient/$everything", "operation:Observation/$lastn", "operation:$docref", "operation:$validate"]
    resources: [Patient, Condition, DocumentReference, Observation]
    where: {compartment: {patient: "{token.patient}"}}
    conceal: true
    because: A person takes the own record along.
  - rule: staff-sees-charts
    effect: permit
    who: {context: user, role: [physician]}
    may: [read, vread, history-instance, search]
    resources: [Patient, $chart]
    shared: true
    query: {include: any-permitted, chain_depth: 2}
    because: Staff sees charts.
  - rule: staff-writes
    effect: permit
    who: {context: user, role: [physician]}
    may: [create, update, patch, delete]
    resources: [Patient, Observation]
    shared: true
    because: Staff writes charts.
  - rule: labels-are-not-for-editing
    effect: deny
    may: [create, update, patch]
    resources: [any]
    changes: [meta.security]
    because: Only the privacy office adds or removes labels.
  - rule: laboratory-results
    effect: permit
    who: {context: system, org: laboratory}
    may: [create, update, patch]
    resources: [Observation]
    where: {match: {Observation: "Observation?category=laboratory"}}
    because: The laboratory sends its results.
  - rule: only-inside
    effect: permit
    who: {context: user, role: [physician]}
    when: {network: $inside}
    may: [read]
    resources: [Location]
    shared: true
    because: From inside the hospital.
  - rule: signed-in
    effect: permit
    who: {context: user, role: [physician], acr: urn:example:strong}
    when: {signed_in_within: 10m}
    may: [read]
    resources: [Communication]
    shared: true
    because: After a strong and fresh sign-in.
  - rule: normal-care
    effect: permit
    who: {context: user}
    may: [read]
    resources: [Procedure]
    where: {labels: {at_most: N, unlabelled: R}}
    because: Up to normal confidentiality.
"""

LABELS = """\
policy: labels
version: 1
owner: tests
status: enforce
text: Special care stays with its teams.
rules:
  - rule: up-to-normal
    effect: permit
    who: {context: user}
    may: [read, search, history-instance]
    resources: [Patient, Condition, Encounter, Observation]
    where: {labels: {at_most: N, unlabelled: R}}
    because: Up to normal confidentiality.
  - rule: own-record
    effect: permit
    who: {context: patient}
    may: [read, search]
    resources: [Patient, Observation]
    where: {compartment: {patient: "{token.patient}"}}
    conceal: true
    because: A person sees the own record.
"""

VIEWS = """\
policy: views
version: 1
owner: tests
status: enforce
text: Charts without identifiers, values and labels.
rules:
  - rule: charts-without-values
    effect: permit
    who: {context: user}
    may: [read, vread, history-instance, search, update]
    resources: [Patient, Encounter, Observation]
    shared: true
    query: {include: any-permitted, chain_depth: 1}
    return: {hide: [Patient.identifier, Patient.name, Observation.value, Observation.status, Encounter.identifier]}
    because: For planning.
  - rule: own-record
    effect: permit
    who: {context: patient}
    may: [read, search, update, patch]
    resources: [Patient, Observation]
    where: {compartment: {patient: "{token.patient}"}}
    return: {hide: [Observation.value]}
    conceal: true
    because: A person sees the own record.
  - rule: no-labels
    effect: deny
    may: [any]
    resources: any
    fields: [meta.security]
    because: The label itself would tell.
"""

EXPORT = """\
policy: export
version: 1
owner: tests
status: enforce
text: The registry's export.
rules:
  - rule: nightly
    effect: permit
    who: {context: system, org: registry}
    may: ["operation:Group/$export", "operation:Patient/$export"]
    resources: [Group, Patient]
    shared: true
    operation: {types: [Patient, Observation], type_filter: {Observation: "Observation?category=vital-signs"}, jobs_at_once: 100}
    because: The registry takes its group over.
  - rule: not-the-strangers
    effect: deny
    who: {context: system}
    may: [read]
    resources: [Patient]
    where: {ids: [B, C]}
    because: They said no.
  - rule: own-record
    effect: permit
    who: {context: patient}
    may: [read, search]
    resources: [Patient, Observation]
    where: {compartment: {patient: "{token.patient}"}}
    conceal: true
    because: A person sees the own record.
"""

ANY = """\
policy: any
version: 1
owner: tests
status: enforce
text: Staff does everything, librarians keep the rule book.
rules:
  - rule: staff-does-everything
    effect: permit
    who: {context: user, role: [physician]}
    may: [any]
    resources: any
    shared: true
    query: {include: any-permitted, chain_depth: 1}
    because: A small practice.
  - rule: librarians-keep-the-rule-book
    effect: permit
    who: {context: user, role: [librarian]}
    may: [read, create, update]
    resources: [Library, Patient, Subscription]
    shared: true
    because: Logic comes from the library.
"""

OPENED = """\
policy: opened
version: 1
owner: tests
status: enforce
text: Second queries, lists and full text, where they tell nothing more.
rules:
  - rule: own-record
    effect: permit
    who: {context: patient}
    may: [read, search]
    resources: [Patient, Condition, Observation, List]
    where: {compartment: {patient: "{token.patient}"}}
    query: {open: [_filter, _list, _text, _content], closed: [value-string]}
    conceal: true
    because: A person sees the own record.
  - rule: staff-sees-encounters
    effect: permit
    who: {context: user, role: [physician]}
    may: [read, search]
    resources: [Encounter]
    shared: true
    query: {open: [_filter, _list, _text]}
    because: For planning.
  - rule: staff-sees-patients-without-names
    effect: permit
    who: {context: user, role: [physician]}
    may: [read, search]
    resources: [Patient, List]
    shared: true
    return: {hide: [Patient.identifier, Patient.name, List.note]}
    query: {open: [_filter, _text]}
    because: For planning.
  - rule: up-to-normal
    effect: permit
    who: {context: user, role: [nurse]}
    may: [read, search]
    resources: [Observation]
    where: {labels: {at_most: N, unlabelled: R}}
    query: {open: [_filter, _text]}
    because: Up to normal confidentiality.
  - rule: registry
    effect: permit
    who: {context: system, org: registry}
    may: [read, search]
    resources: [Condition]
    shared: true
    query: {open: [_filter, _text]}
    because: The registry counts.
  - rule: not-what-is-refuted
    effect: deny
    who: {context: system}
    may: [read, search]
    resources: [Condition]
    where: {match: {Condition: "verification-status=refuted"}}
    because: It was none.
"""

POLICIES: dict[str, str] = {
    "main": MAIN + _TESTS,
    "labels": LABELS + _TESTS,
    "views": VIEWS + _TESTS,
    "export": EXPORT + _TESTS,
    "opened": OPENED + _TESTS,
    "any": ANY + _TESTS.replace("404", "403"),
}

CALLERS: dict[str, dict[str, Any]] = {
    "btg": {
        "scope": "user/*.cruds",
        "fhirUser": "Practitioner/dr1",
        "roles": ["physician"],
        "purpose_of_use": ["BTG"],
    },
    "librarian": {"scope": "user/*.cruds", "fhirUser": "Practitioner/dr2", "roles": ["librarian"]},
    "nurse": {"scope": "user/*.rs", "fhirUser": "Practitioner/dr2", "roles": ["nurse"]},
    "lab-w": {"scope": "system/*.cruds", "organization": "laboratory"},
    "sys": {"scope": "system/*.rs", "organization": "registry"},
    "sys-A": {"scope": "system/*.rs", "organization": "registry"},
    "cda": {"scope": "system/*.rs", "organization": "exchange"},
}


def wide_world() -> dict[str, Resource]:
    """Every resource of the case list: the shared world, and documents, containers and people beside it."""
    foreign = {"reference": "Patient/B", "display": SECRET}
    hidden = {
        "identifier": [{"value": SECRET}],
        "extension": [{"url": "urn:example:note", "valueString": SECRET}],
    }
    own = {"reference": "Patient/A"}
    note = {"attachment": {"contentType": "text/plain", "url": "Binary/a", "title": "note"}}
    strange = {"attachment": {"contentType": "text/plain", "url": "Binary/b", "title": SECRET}}
    cb: Resource = {
        "resourceType": "Composition", "id": "cb", "status": "final", "subject": foreign, "title": SECRET,
        "date": "2026-01-01", "identifier": {"value": SECRET}, "type": {"text": SECRET},
    }  # fmt: skip
    more: list[Resource] = [
        cb,
        {"resourceType": "DocumentReference", "id": "a1", "status": "current", "subject": own, "content": [note]},
        {"resourceType": "DocumentReference", "id": "b1", "status": "current", "subject": foreign,
         "content": [strange], **hidden},
        {"resourceType": "Binary", "id": "a", "contentType": "text/plain", "securityContext": own, "data": "bm90ZQ=="},
        {"resourceType": "Binary", "id": "b", "contentType": "text/plain", "securityContext": foreign,
         "data": "U0VDUkVULUI="},
        {"resourceType": "Bundle", "id": "doc-b", "type": "document", "entry": [{"resource": cb}]},
        {"resourceType": "Provenance", "id": "p", "target": [{"reference": "Observation/b1", "display": SECRET}]},
        {"resourceType": "Organization", "id": "h2", "name": "Hospital Two"},
        {"resourceType": "Location", "id": "ward", "name": "Ward"},
        {"resourceType": "Communication", "id": "c1", "status": "completed"},
        {"resourceType": "Person", "id": "pb", "link": [{"target": foreign}], **hidden},
        {"resourceType": "Schedule", "id": "s", "actor": [foreign], **hidden},
        {"resourceType": "Appointment", "id": "both", "status": "booked", "participant": [
            {"actor": own, "status": "accepted"}, {"actor": foreign, "status": "accepted"}], **hidden},
        {"resourceType": "AuditEvent", "id": "e", "entity": [{"what": foreign}], "agent": [{"name": SECRET}]},
        {"resourceType": "Consent", "id": "k", "status": "active", "patient": own},
        *(
            {"resourceType": type_, "id": "x", **hidden}
            for type_ in ("BiologicallyDerivedProduct", "Contract", "GuidanceResponse", "Linkage", "MessageHeader",
                          "PaymentNotice", "Subscription")
        ),
    ]  # fmt: skip
    return world() | {f"{resource['resourceType']}/{resource['id']}": resource for resource in more}

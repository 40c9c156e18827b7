"""Policies about documents: a person's own, and those that a partner fetches."""

POLICIES = """\
policy: documents
version: 1
owner: exchange@h1.example
status: enforce
text: Documents of people themselves, and of partners.
rules:
  - rule: own-record
    effect: permit
    who: {context: patient}
    may: [read, search, create, update, batch, transaction]
    resources: [Patient, DocumentReference]
    where: {compartment: {patient: "{token.patient}"}}
    because: A person reads and adds to the own record.
  - rule: own-content
    effect: permit
    who: {context: patient}
    may: [read, vread, create, update, batch, transaction]
    resources: [Binary]
    where:
      compartment: {patient: "{token.patient}"}
      binary: {through: [DocumentReference]}
    because: What belongs to a document is read with it.
  - rule: fetch-document
    effect: permit
    who: {context: system, client: partner-h2}
    may: [read, search]
    resources: [DocumentReference, Binary, "cda:ClinicalDocument"]
    where:
      match: {DocumentReference: "DocumentReference?status=current"}
      binary: {through: [DocumentReference]}
      cda: {patient_from: recordTarget, confidentiality_at_most: N}
    because: Regional exchange agreement.
  - rule: store-document
    effect: permit
    who: {context: system, client: partner-h2}
    may: [create]
    resources: ["cda:ClinicalDocument"]
    where:
      binary: {through: [DocumentReference]}
      cda: {patient_from: recordTarget, confidentiality_at_most: N}
    because: Regional exchange agreement.
  - rule: who-it-is-about
    effect: permit
    who: {context: system, client: partner-h2}
    may: [read]
    resources: [Patient]
    shared: true
    because: Partners identify patients.
tests:
  - test: a person reads the own document
    as: {context: patient, patient: A}
    request: GET /DocumentReference/a1
    expect: {decision: permit}
"""

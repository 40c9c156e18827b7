"""An access by somebody outside, as BALP's privacy disclosure: .Source where data went out, .Recipient where it came in.

Who is outside says the configuration: clients and organisations of `audit.disclosures`.
"""

from gateway.audit.events import agents, codes, entities
from gateway.audit.events.agents import Asking
from gateway.audit.events.codes import Json, coding, concept, dcm, term
from gateway.audit.events.record import Record, without_empty
from gateway.audit.events.rest import is_read, meta, outcome


def disclosure(record: Record) -> list[Json]:
    """One event for each patient of whom something went out or came in; none where it stays inside, or was refused."""
    asked = agents.asking(record)
    if not is_outside(record):
        return []
    ended = record.event == "delivered"
    if not asked.peer or (not ended and outcome(record) != codes.SUCCESS):
        return []
    patients = entities.patients(record)
    if not record.texts("patients") and (ended or is_read(record)):
        return []  # what was asked for and not found went nowhere
    return [
        _event(record, asked, record.event_id("disclosure", number), patient)
        for number, patient in enumerate(patients)
    ]


def is_outside(record: Record) -> bool:
    """Whether who asked is outside, by client or organisation: the one definition, for events and accountings alike."""
    asked, named = agents.asking(record), record.recorder
    organizations = {asked.organization, asked.organization_reference} - {""}
    return asked.client in named.disclosed_to or not organizations.isdisjoint(named.organizations)


def _event(record: Record, asked: Asking, id: str, patient: str) -> Json:
    goes_out = is_read(record)
    ours = {
        "who": agents.server_who(record.recorder.issuer),
        "requestor": False,
        **agents.network(record.base, "5"),
    }
    theirs = without_empty(
        {
            "who": agents.client_who(asked.client),
            "requestor": not asked.user,
            **agents.network(asked.peer),
        }
    )
    source, recipient = (ours, theirs) if goes_out else (theirs, ours)
    found: list[Json] = [
        {"type": concept(dcm("110153")), **source},
        {"type": concept(dcm("110152")), **recipient},
        *agents.organization(asked, record.base),
    ]
    if goes_out:
        custodian = {"who": {"display": record.recorder.site or record.recorder.issuer}, "requestor": False}
        kind = coding(codes.SNOMED, "159541003", "Record keeping/library clerk")
        found.append({"type": concept(kind), **custodian})
    if asked.user:
        found.append(agents.person(asked, term("v3-ParticipationType", "IRCP")))
    if asked.fhir_user == f"Patient/{patient}":
        advocate = concept(coding(codes.SNOMED, "429577009", "Patient Advocate"))
        who = entities.reference(record, "Patient", patient)
        found.append({"type": advocate, "who": who, "requestor": False})
    name = codes.DISCLOSURE_SOURCE if goes_out else codes.DISCLOSURE_RECIPIENT
    event: Json = {
        "resourceType": "AuditEvent",
        "id": id,
        "meta": meta(id, [name] if asked.client else []),
        "type": dcm("110106" if goes_out else "110107"),
        "subtype": [term("iso-21089-lifecycle", "disclose", "Disclose Record Lifecycle Event")],
        "action": "R" if goes_out else "C",
        "recorded": record.text("at"),
        "outcome": codes.SUCCESS,
        "purposeOfEvent": codes.purposes(asked.purposes),
        "agent": found,
        "source": agents.source(record, "4"),
        "entity": [
            *entities.transaction(record),
            entities.patient(record, patient),
            entities.data(record),
            entities.decision(record),
        ],
    }
    return without_empty(event)

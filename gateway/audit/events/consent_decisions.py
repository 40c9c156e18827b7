"""A decision that went by a patient's consents, as BALP's AuthZconsent: who asked, whose consents, permit or deny.

The profile closes the list of entities, so the details stand at the consents.
"""

from gateway.audit.events import agents, codes, entities
from gateway.audit.events.codes import Json, authorization_subtype, coding, concept, dcm, term
from gateway.audit.events.record import Record, without_empty
from gateway.audit.events.rest import meta


def consent_decision(record: Record) -> list[Json]:
    """One event for each patient of a request whose decision asked consents; none without."""
    consents = entities.consent_ids(record)
    if not consents:
        return []
    patients = entities.patients(record) or entities.patients(_as_asked(record))
    return [
        _event(record, record.event_id("consent-decision", number), patient, consents)
        for number, patient in enumerate(patients)
    ]


def _as_asked(record: Record) -> Record:
    """The record without what was shown: a refusal shows nobody."""
    members = {name: value for name, value in record.members.items() if name != "patients"}
    return Record(record.recorder, record.chain, members)


def _event(record: Record, id: str, patient: str, consents: list[str]) -> Json:
    asked = agents.asking(record)
    is_permit = record.text("decision") == "permit"
    organization = agents.organization(asked, record.base)
    actor = agents.person(asked, term("v3-ParticipationType", "IRCP")) if asked.user else None
    found = [
        without_empty(
            {
                "type": concept(dcm("110150")),
                "who": agents.client_who(asked.client),
                "requestor": actor is None,
                "policy": [codes.JTI + asked.token] if asked.token else [],
                **agents.network(asked.peer),
            }
        ),
        *([actor] if actor is not None else []),
        *organization,
        agents.authorizer(record),
    ]
    is_whole = actor is not None and bool(organization) and bool(asked.client) and bool(asked.peer)
    links = entities.details(record)
    event: Json = {
        "resourceType": "AuditEvent",
        "id": id,
        "meta": meta(id, [codes.AUTHZ_CONSENT] if is_whole else []),
        "type": dcm("110113"),
        "subtype": [authorization_subtype("AuthZ-Consent")],
        "action": "E",
        "recorded": record.text("at"),
        "outcome": codes.SUCCESS if is_permit else codes.SERIOUS,
        "outcomeDesc": "" if is_permit else entities.outcome_text(record) or "denied by consent",
        "purposeOfEvent": codes.purposes(asked.purposes),
        "agent": found,
        "source": agents.source(record, "6"),
        "entity": [
            entities.patient(record, patient),
            *(_consent(record, each, links) for each in consents),
            *_token(asked.token),
        ],
    }
    return without_empty(event)


def _consent(record: Record, named: str, links: list[Json]) -> Json:
    id, _, version = named.removeprefix("Consent/").partition("/_history/")
    return {
        "what": entities.reference(record, "Consent", id, version),
        "type": coding("http://hl7.org/fhir/resource-types", "Consent", "Consent"),
        "detail": [*links, *([entities.detail("version", version)] if version else [])],
    }


def _token(id: str) -> list[Json]:
    if not id:
        return []
    what = {"identifier": {"value": codes.JTI + id}}
    return [{"what": what, "type": codes.user_agent("UserOauthAgent")}]

"""A request to a FHIR base as AuditEvents: Read, Query, Create, Update, Delete of IHE BALP, one event a patient.

Who is told of one patient's events is not told of another's: BALP asks for an event for each patient of an answer.
A refusal has the shape of what it refuses and no profile, which BALP keeps for what succeeded; so have the
interactions that BALP does not know (history, operations, Bundles, capabilities).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.audit.events import agents, codes, entities
from gateway.audit.events.agents import Asking
from gateway.audit.events.codes import Json, concept, dcm, interaction_code, ours, profile, term
from gateway.audit.events.record import Record, without_empty


@dataclass(frozen=True, slots=True)
class _Shape:
    """How an interaction is told: profile, subtype, action, and the roles of the agents."""

    action: str
    subtype: str
    name: str | None = None  # of the profile, without 'Patient'
    client: str = "110152"
    server: str = "110153"
    user: str = "IRCP"


def _writing(action: str, subtype: str, name: str) -> _Shape:
    return _Shape(action, subtype, name, "110153", "110152", "AUT")


_SHAPES = {
    "read": _Shape("R", "read", "Read"),
    "vread": _Shape("R", "vread", "Read"),
    "search": _Shape("E", "search-type", "Query", "110153", "110152"),
    "create": _writing("C", "create", "Create"),
    "update": _writing("U", "update", "Update"),
    "patch": _writing("U", "patch", "Update"),
    "delete": _Shape("D", "delete", "Delete", "110150", "custodian", "AUT"),
    "history-instance": _Shape("R", "history-instance"),
    "history-type": _Shape("R", "history-type"),
    "history-system": _Shape("R", "history-system"),
    "capabilities": _Shape("R", "capabilities"),
    "batch": _Shape("E", "batch", client="110153", server="110152"),
    "transaction": _Shape("E", "transaction", client="110153", server="110152"),
    "operation": _Shape("E", "operation", client="110153", server="110152"),
}
_UNREAD = _Shape("E", "operation", client="110153", server="110152")


def access(record: Record) -> list[Json]:
    """The events of a request that was answered, permitted or not."""
    return _events(record, "access", outcome(record))


def delivered(record: Record) -> list[Json]:
    """The events of a long answer that has ended: one for each patient whom the record of its request did not name.

    Without any, one that says how it ended, of a kind that is not counted among the accesses.
    """
    if record.part("request") and record.texts("patients"):
        ended = codes.SUCCESS if record.text("ended") == "complete" else codes.MINOR
        return _events(record, "delivered", ended, why=record.text("ended"))
    return [_note(record, "delivered")]


def begun(record: Record) -> list[Json]:
    """A write that the store is about to get: its own event follows, unless this server ended meanwhile."""
    return [_note(record, "write-begins")]


def outcome(record: Record) -> str:
    """0, 4 for a refusal, 8 where something failed."""
    status = record.number("status") or 0
    if status >= 500:
        return codes.SERIOUS
    return codes.MINOR if status >= 400 or record.text("decision") not in ("permit",) else codes.SUCCESS


def is_read(record: Record) -> bool:
    """Whether the interaction shows and changes nothing."""
    return _shape(record).action == "R" or record.text("interaction") in ("search", "operation")


def _shape(record: Record) -> _Shape:
    return _SHAPES.get(record.text("interaction"), _UNREAD)


def _events(record: Record, kind: str, outcome: str, *, why: str = "") -> list[Json]:
    patients = entities.patients(record)
    about: Sequence[str | None] = patients or [None]
    return [
        _event(record, record.event_id(kind, number), patient, outcome, why)
        for number, patient in enumerate(about)
    ]


def _event(record: Record, id: str, patient: str | None, outcome: str, why: str) -> Json:
    shape, asked = _shape(record), agents.asking(record)
    is_success = outcome == codes.SUCCESS
    searched = _search_subtype(record) if shape.name == "Query" else None
    event: Json = {
        "resourceType": "AuditEvent",
        "id": id,
        "meta": meta(id, _profiles(shape, asked, record, patient) if is_success else _of_token(asked)),
        "type": term("audit-event-type", "rest", "Restful Operation"),
        "subtype": [interaction_code(searched or shape.subtype)],
        "action": shape.action,
        "recorded": record.text("at"),
        "outcome": outcome,
        "outcomeDesc": why if is_success else entities.outcome_text(record) or why,
        "purposeOfEvent": codes.purposes(asked.purposes),
        "agent": _agents(record, shape, asked),
        "source": agents.source(record, "4"),
        "entity": [
            *entities.transaction(record),
            entities.query(record) if shape.name == "Query" else entities.data(record),
            *([entities.patient(record, patient)] if patient is not None else []),
            entities.decision(record),
        ],
    }
    return without_empty(event)


def _search_subtype(record: Record) -> str:
    return "search-type" if record.part("request").get("type") else "search-system"


def _agents(record: Record, shape: _Shape, asked: Asking) -> list[Json]:
    client_type = concept(dcm(shape.client))
    if shape.server == "custodian":
        server_type = concept(term("provenance-participant-type", "custodian", "Custodian"))
    else:
        server_type = concept(dcm(shape.server))
    found = [agents.client(asked, client_type)]
    found.append(agents.server(record.base or record.recorder.issuer, server_type))
    if asked.user:
        # A person who writes is the author, and by the token's profile its recipient as well.
        roles = [shape.user] if shape.user == "IRCP" else [shape.user, "IRCP"]
        found.append(agents.person(asked, *(term("v3-ParticipationType", each) for each in roles)))
    found += agents.token_agents(asked, has_application=shape.client == "110150")
    return found + agents.organization(asked, record.base)


def _profiles(shape: _Shape, asked: Asking, record: Record, patient: str | None) -> list[str]:
    """The profiles whose every part is there: an address that is not known leaves the event without its name."""
    found = []
    if shape.name is not None and asked.client and asked.peer:
        found.append(codes.BASIC + ("Patient" if patient is not None else "") + shape.name)
    return found + _of_token(asked)


def _of_token(asked: Asking) -> list[str]:
    return [codes.TOKEN_MINIMAL, codes.TOKEN_COMPREHENSIVE] if asked.token and asked.client else []


def _note(record: Record, word: str) -> Json:
    """What is told beside the event of the request itself."""
    asked = agents.asking(record)
    id = record.event_id(word)
    failed = word == "delivered" and record.text("ended") != "complete"
    event: Json = {
        "resourceType": "AuditEvent",
        "id": id,
        "meta": meta(id, ()),
        "type": dcm("110100"),
        "subtype": [ours(word)],
        "action": "E",
        "recorded": record.text("at"),
        "outcome": codes.MINOR if failed else codes.SUCCESS,
        "outcomeDesc": record.text("ended") if failed else "",
        "agent": [agents.client(asked, concept(dcm("110150"))) | {"requestor": True}],
        "source": agents.source(record, "4"),
        "entity": [*entities.transaction(record), entities.decision(record)],
    }
    return without_empty(event)


def meta(id: str, profiles: Sequence[str]) -> Json:
    """The profiles that the event follows, and what it is known by wherever it is sent."""
    tag = [{"system": codes.RECORD, "code": id}]
    return without_empty({"profile": [profile(each) for each in profiles], "tag": tag})

"""Events beside the requests to a FHIR base: tokens, sign-in, consents, grants, emergencies, keys, clients, configuration.

What BALP has a profile for (IUA ITI-71, a token got) follows it. All else is told with DICOM's codes and a subtype of
our own word, so that every kind can be searched for.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from gateway.audit.events import agents, codes, entities
from gateway.audit.events.agents import Asking
from gateway.audit.events.codes import Json, coding, concept, dcm, ours, term
from gateway.audit.events.record import Record, object_of, text_of, without_empty
from gateway.audit.events.rest import meta


@dataclass(frozen=True, slots=True)
class _Kind:
    """How an event is told: DICOM's type and subtype, the action, and which outcomes are no success."""

    type: str
    subtype: str | None = None
    action: str = "E"
    failures: frozenset[str] = frozenset()


_ALERT = "110113"
_KINDS: Mapping[str, _Kind] = {
    "sign-in": _Kind("110114", "110122", failures=frozenset({"refused", "limited"})),
    "sign-out": _Kind("110114", "110123"),
    "consent": _Kind(_ALERT, "110137", failures=frozenset({"denied"})),
    "launch": _Kind("110100"),
    "authorization-refused": _Kind(_ALERT),
    "grant-revoked": _Kind(_ALERT, "110137", "D"),
    "key-changed": _Kind(_ALERT, "110129", "U"),
    "key-set-fetched": _Kind(_ALERT, "110129"),
    "client-changed": _Kind(_ALERT, "110137", "U"),
    "configuration-in-force": _Kind(_ALERT, "110131", "U", frozenset({"refused"})),
    "break-glass-start": _Kind(_ALERT, "110127"),
    "break-glass-stop": _Kind(_ALERT, "110138"),
    "break-glass-review": _Kind(_ALERT, "110138"),
    "audit-read": _Kind("110101", None, "R"),
    "audit-refused": _Kind("110101", None, "R", frozenset({"refused"})),
    "signal": _Kind(_ALERT),
    "signal-review": _Kind(_ALERT, None, "U"),
    "consent-recorded": _Kind(_ALERT, "110137", "C"),
    "consent-withdrawn": _Kind(_ALERT, "110137", "U"),
    "consent-changed": _Kind(_ALERT, "110137", "U"),
    "own-record": _Kind("110100", None, "R"),
}
_OTHER = _Kind("110100")
_SAID = (
    "outcome", "endpoint", "code", "scope", "grant_type", "what", "who", "why", "by", "kid", "state", "url", "status",
    "grants_ended", "old_policies", "new_policies", "changed", "count", "receiver", "attempts", "records", "since", "until",
    "version", "notification", "base", "mode", "configuration", "emergency", "relationship",
)  # fmt: skip
"""Members that are told as details. The reason of an emergency is not among them: it speaks of a patient."""


def token_issued(record: Record) -> list[Json]:
    """A token that a client got, as IUA's ITI-71 wants it: the request without anything secret of it."""
    asked = agents.named(record.members, record)
    id = record.event_id("token-issued")
    is_whole = bool(asked.client and asked.peer)
    request = urlencode({"grant_type": record.text("grant_type"), "client_id": asked.client})
    found = [
        agents.client(asked, concept(dcm("110150"))) | {"requestor": not asked.user},
        {
            "type": concept(codes.user_agent("AuthzOauthService")),
            "who": agents.server_who(record.recorder.issuer),
            "requestor": False,
            **agents.network(record.recorder.issuer, "5"),
        },
    ]
    if asked.user:
        found.append(agents.person(asked, term("v3-ParticipationType", "IRCP")))
    event: Json = {
        "resourceType": "AuditEvent",
        "id": id,
        "meta": meta(id, [codes.GET_TOKEN] if is_whole else []),
        "type": dcm("110114"),
        "subtype": [coding("urn:ihe:event-type-code", "ITI-71", "Get Access Token")],
        "action": "E",
        "recorded": record.text("at"),
        "outcome": codes.SUCCESS,
        "agent": found,
        "source": agents.source(record, "6"),
        "entity": [
            {
                "type": term("audit-entity-type", "2", "System Object"),
                "role": term("object-role", "24", "Query"),
                "query": b64encode(f"POST {record.recorder.issuer}/token\r\n\r\n{request}".encode()).decode(),
                "detail": entities.details(record),
            }
        ],
    }
    return [without_empty(event)]


def security_event(record: Record) -> list[Json]:
    """The event of any other record, of a kind that is known or not."""
    kind = _KINDS.get(record.event, _OTHER)
    asked, emergency = _asked(record)
    id = record.event_id(record.event or "unnamed")
    outcome, why = _outcome(record, kind)
    event: Json = {
        "resourceType": "AuditEvent",
        "id": id,
        "meta": meta(id, ()),
        "type": dcm(kind.type),
        "subtype": [*([dcm(kind.subtype)] if kind.subtype else []), ours(record.event or "unnamed")],
        "action": kind.action,
        "recorded": record.text("at"),
        "outcome": outcome,
        "outcomeDesc": why,
        "agent": _agents(record, asked),
        "source": agents.source(record, "6"),
        "entity": [
            *entities.transaction(record),
            *([entities.patient(record, emergency)] if emergency else []),
            *_subject(record),
            entities.decision(record, _said(record)),
        ],
    }
    return [without_empty(event)]


def _asked(record: Record) -> tuple[Asking, str]:
    """Who did it, and of an emergency access the patient."""
    emergency = record.part("emergency")
    if emergency:
        members = {
            "client_id": text_of(emergency, "client"),
            "subject": text_of(emergency, "subject"),
            "peer": record.text("peer"),
        }
        return agents.named(members, record), entities.emergency_patient(record)
    patient = record.text("patient")
    return agents.named(record.members, record), patient


def _agents(record: Record, asked: Asking) -> list[Json]:
    found = []
    if asked.client or asked.peer:
        found.append(agents.client(asked, concept(dcm("110150"))))
    if asked.user:
        found.append(agents.person(asked, term("v3-ParticipationType", "IRCP")))
    who = record.text("who") or record.text("by")
    if who and who != asked.client and who != asked.user:
        named = {"identifier": {"system": record.recorder.issuer, "value": who}}
        found.append({"who": named, "name": who, "requestor": not asked.user})
    found.append(agents.authorizer(record) | {"requestor": not found})
    return found


def _subject(record: Record) -> list[Json]:
    """The consent that was given, amended or withdrawn."""
    if record.event != "consent-changed" or not record.text("consent"):
        return []
    id, version = record.text("consent"), record.number("version")
    what = entities.reference(record, "Consent", id, "" if version is None else str(version))
    return [{"what": what, "type": coding("http://hl7.org/fhir/resource-types", "Consent", "Consent")}]


def _outcome(record: Record, kind: _Kind) -> tuple[str, str]:
    said = record.text("outcome")
    if record.event == "authorization-refused":
        why = "; ".join(
            each for each in (record.text("code"), record.text("endpoint"), record.text("detail")) if each
        )
        return codes.MINOR, why
    if record.event == "key-set-fetched":
        failed = said != "fetched"
        return (codes.MINOR, f"{said}; {record.text('detail')}") if failed else (codes.SUCCESS, "")
    if said in kind.failures:
        return codes.MINOR, said
    return codes.SUCCESS, ""


def _said(record: Record) -> list[Json]:
    found = []
    for name in _SAID:
        for said in _texts(record.members, name):
            found.append(entities.detail(name, said))
    for name in ("id", "rule"):
        if said := text_of(object_of(record.members, "emergency"), name):
            found.append(entities.detail(f"emergency-{name}", said))
    return found


def _texts(members: Mapping[str, Any], name: str) -> list[str]:
    found = members.get(name)
    values = found if isinstance(found, list) else [found]
    return [str(each) for each in values if isinstance(each, str | int) and str(each).strip()]

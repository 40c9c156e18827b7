"""A record of the audit log as entries of the index: one for each patient whom it is about, or one about none.

Whom a record is about: the patients whom its answer showed (`patients`), the patient that the request names, in its
path or as a parameter of its search, the patient of emergency access, and where none of these is there, the patient
whom the caller's token was given for. A search without a patient that showed nobody is about nobody.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from authz.storage.audit_index import AccessEntry
from gateway.fhir.ids import is_id

ACCESS = "access"
DELIVERED = "delivered"
READ = "audit-read"
"""Somebody looked at the audit log."""
PERMIT, NOTHING = "permit", "nothing"
"""Outcomes of accesses: of this patient something was shown or changed; it was permitted, and nothing was."""
_BEGUN = "write-begins"
_FAILED = 400
_OF_PATIENTS = frozenset({"patient", "subject", "beneficiary", "individual", "for", "focus", "target"})
_BARE = frozenset(
    {"patient"}
)  # parameters whose value may be an id alone: they refer to nothing but patients
_MOST_PATIENTS = 1000  # of one record: an export names more, and its record says whose it was


class Unreadable(Exception):
    """The line is no record. 'securus audit verify' says what was done to it."""


def entries_of(line: bytes, *, chain: str, bases: Mapping[str, str]) -> Sequence[AccessEntry]:
    """The entries of a line of the log; bases are the identifiers of FHIR bases by the name of their route.

    Raises Unreadable.
    """
    record = record_of(line)
    try:
        sequence, at = int(record["seq"]), milliseconds(str(record["at"]))
    except (KeyError, ValueError, TypeError) as error:
        raise Unreadable("the line has no sequence or no time") from error
    event = _text(record.get("event"))
    if event == DELIVERED and not record.get("patients"):
        return ()  # nobody more than the record of its access says
    caller = _mapping(record.get("caller"))
    emergency = _mapping(record.get("emergency"))
    user, client = _who(record, caller, emergency)
    is_access = event in (ACCESS, _BEGUN, DELIVERED)
    about = patients_of(record)
    base = _base(record, bases, is_about_somebody=bool(about))
    grant = _text(caller.get("grant") or record.get("grant_id"))
    kind = _text(record.get("interaction")) or event if is_access else event
    rule, purpose, types = _rules(record, emergency), _purposes(record, caller), _types(record)
    outcome = _outcome(event, record)
    unseen = _unseen(event, record, about)
    return [
        AccessEntry(
            chain=chain,
            sequence=sequence,
            at=at,
            base=base,
            patient=patient,
            user=user,
            client=client,
            grant=grant,
            kind=kind,
            outcome=NOTHING if patient in unseen else outcome,
            rule=rule,
            purpose=purpose,
            types=types,
        )
        for patient in about or ("",)
    ]


def record_of(line: bytes) -> dict[str, Any]:
    """The members of a line. Raises Unreadable."""
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable("the line is not JSON") from error
    if not isinstance(found, dict):
        raise Unreadable("the line is no object")
    return found


def milliseconds(at: str) -> int:
    """The time of a record in milliseconds since 1970. Raises ValueError."""
    moment = datetime.fromisoformat(at)
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return round(moment.timestamp() * 1000)


def patients_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Ids of the patients whom a record is about, in order; of too many, those whom the answer showed come first.

    The request is read to its end: what a caller writes before a patient hides nothing, and cuts no id short.
    """
    shown = {_id(each) for each in _sequence(record.get("patients"))} - {""}
    canonical = _mapping(record.get("request")).get("canonical")
    found = {each for each in _asked_for(canonical if isinstance(canonical, str) else "") if is_id(each)}
    emergency = _mapping(record.get("emergency"))
    found.add(_text(emergency.get("patient")))
    if record.get("event") == READ:
        found |= {_id(each) for each in _sequence(_mapping(record.get("query")).get("patients"))}
    found.discard("")
    if not found and not shown:
        found.add(_id(_mapping(record.get("caller")).get("patient")) or _id(record.get("patient")))
        found.discard("")
    return tuple(sorted([*sorted(shown), *sorted(found - shown)][:_MOST_PATIENTS]))


def _asked_for(canonical: str) -> Iterable[str]:
    """Patients that a request names; canonical is 'GET /Observation?subject=Patient%2FA'."""
    path, _, query = canonical.partition(" ")[2].partition("?")
    segments = [segment for segment in path.split("/") if segment]
    if len(segments) > 1 and segments[0] == "Patient" and segments[1][:1] not in ("_", "$"):
        yield segments[1]
    for name, value in parse_qsl(query) if query else ():
        parameter, _, modifier = name.partition(":")
        if segments[:1] == ["Patient"] and parameter == "_id":
            yield from value.split(",")
        elif parameter in _OF_PATIENTS and modifier in ("", "Patient"):
            for each in value.split(","):
                kind, _, last = each.rpartition("/")
                if (
                    kind == "Patient"
                    or kind.endswith("/Patient")
                    or (not kind and (parameter in _BARE or modifier == "Patient"))
                ):
                    yield last


def _who(
    record: Mapping[str, Any], caller: Mapping[str, Any], emergency: Mapping[str, Any]
) -> tuple[str, str]:
    """The user and the client of a record."""
    client = (
        caller.get("client") or record.get("client_id") or record.get("client") or emergency.get("client")
    )
    user = (
        caller.get("subject")
        or record.get("subject")
        or emergency.get("subject")
        or record.get("by")
        or record.get("who")
    )
    return _text(user), _text(client)


def _outcome(event: str, record: Mapping[str, Any]) -> str:
    if event == _BEGUN:
        return "begun"
    usual = PERMIT if event == DELIVERED else "ok"
    said = _text(record.get("decision") or record.get("outcome")) or usual
    status = record.get("status")
    failed = event == ACCESS and isinstance(status, int) and status >= _FAILED
    return NOTHING if failed and said == PERMIT else said


def _unseen(event: str, record: Mapping[str, Any], about: Sequence[str]) -> frozenset[str]:
    """Patients whom a permitted access was about and whom its answer did not show, where the record lists those."""
    shown = record.get("patients")
    if event != ACCESS or record.get("decision") != PERMIT or not isinstance(shown, list):
        return frozenset()
    return frozenset(about) - {_id(each) for each in shown}


def _purposes(record: Mapping[str, Any], caller: Mapping[str, Any]) -> str:
    """Codes of the purpose of use, without their systems: of the record, or the claim of the caller."""
    claims = _mapping(caller.get("claims"))
    said = record.get("purpose") or caller.get("purpose_of_use") or claims.get("purpose")
    said = said or claims.get("purpose_of_use")
    return " ".join([each.rpartition("|")[2] for each in _joined(said).split()]) if said else ""


def _base(record: Mapping[str, Any], bases: Mapping[str, str], *, is_about_somebody: bool) -> str:
    """The base of a record: that of its route, that which it names, or the only one there is."""
    named = _text(record.get("base") or _mapping(record.get("query")).get("base"))
    if named:
        return named
    route = _text(record.get("route"))
    if route:
        return bases.get(route, "")
    return next(iter(bases.values())) if is_about_somebody and len(bases) == 1 else ""


def _rules(record: Mapping[str, Any], emergency: Mapping[str, Any]) -> str:
    rules = _joined(record.get("rules"))
    return rules or _text(emergency.get("rule") or record.get("rule"))


def _types(record: Mapping[str, Any]) -> str:
    types = _joined(record.get("types"))
    return types or _text(_mapping(record.get("request")).get("type"))


def _text(value: object) -> str:
    """Text as the index can hold it: no column of PostgreSQL takes a zero byte."""
    if not isinstance(value, str):
        return ""
    return value.replace("\0", "\ufffd")[:500] if "\0" in value or len(value) > 500 else value


def _id(value: object) -> str:
    """The id in an id or a reference to a patient."""
    return _text(value).rpartition("/")[2]


def _joined(value: object) -> str:
    if isinstance(value, str):
        return _text(value)
    return _text(" ".join([text for each in _sequence(value) if (text := _text(each))]))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()

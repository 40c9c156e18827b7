"""A record of the audit log as entries of the index: one for each patient whom it is about, or one about none.

Whom a record is about: the patients whom its answer showed (`patients`), the patient that the request names, in its
path or as a parameter of its search, the patient of emergency access, and where none of these is there, the patient
whom the caller's token was given for. A search without a patient that showed nobody is about nobody.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
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
# Parameters whose value may be an id alone: they refer to nothing but patients.
_BARE = frozenset({"patient"})
_CALLERS = 5_000  # what so many tokens say is remembered
_KINDS = 500
_SECONDS = 64
_TIMES = 64
_OF_PATIENT_PATH = re.compile(r"[^ ]* /*Patient(?:/+([^/?]*))?(?=[/?]|\Z)").match
_MOST_PATIENTS = 1000  # of one record: an export names more, and its record says whose it was


class Unreadable(Exception):
    """The line is no record. 'securus audit verify' says what was done to it."""


class Record(msgspec.Struct):
    """The members of a record that an entry is made of, whatever each holds; the others are passed by unread.

    The caller is kept as it is written: what it says is reckoned once for all records that it made.
    """

    seq: Any = None
    at: Any = None
    event: Any = None
    base: Any = None
    by: Any = None
    caller: msgspec.Raw = msgspec.Raw(b"null")
    client: Any = None
    client_id: Any = None
    decision: Any = None
    emergency: Any = None
    grant_id: Any = None
    interaction: Any = None
    outcome: Any = None
    patient: Any = None
    patients: Any = None
    purpose: Any = None
    query: Any = None
    request: Any = None
    route: Any = None
    rule: Any = None
    rules: Any = None
    status: Any = None
    subject: Any = None
    types: Any = None
    who: Any = None


_decode = msgspec.json.Decoder(Record).decode


class CallerWords(msgspec.Struct, frozen=True):
    """What the entries of a caller's records say of it; None stands for what it does not say."""

    user: str | None
    client: str | None
    grant: str | None
    patient: str
    purpose: str


class Words(NamedTuple):
    """The last members of an entry: all its entries have them, but for those whom the answer did not show."""

    user: str
    client: str
    grant: str
    kind: str
    outcome: str
    rule: str
    purpose: str
    types: str


class Said(NamedTuple):
    """What a record says apart from its time and whom it is about. base is the one that it names."""

    event: str
    base: str
    caller: CallerWords
    words: Words


def entries_of(line: bytes, *, chain: str, bases: Mapping[str, str]) -> Sequence[AccessEntry]:
    """The entries of a line of the log; bases are the identifiers of FHIR bases by the name of their route.

    Raises Unreadable.
    """
    record = _read(line)
    try:
        sequence, at = int(record.seq), milliseconds(str(record.at))
    except (ValueError, TypeError) as error:
        raise Unreadable("the line has no sequence or no time") from error
    said = words_of(record)
    if said.event == DELIVERED and not record.patients:
        return ()  # nobody more than the record of its access says
    about, shown = _about(record, said.caller, _mapping(record.emergency))
    base = said.base or _base(record, bases, is_about_somebody=bool(about))
    # Patients whom a permitted access was about and whom its answer did not show, where the record lists those.
    is_listed = said.event == ACCESS and record.decision == PERMIT and isinstance(record.patients, list)
    unseen = said.words._replace(outcome=NOTHING) if is_listed else said.words
    return [
        AccessEntry(chain, sequence, at, base, patient, *(said.words if patient in shown else unseen))
        for patient in about or ("",)
    ]


def words_of(record: Record) -> Said:
    """What a record says apart from its time and whom it is about. Raises Unreadable."""
    decided = record.event, record.interaction, record.decision or record.outcome, record.status
    try:
        event, kind, outcome = _what(*decided)
    except TypeError:  # one of them cannot be remembered: a list, an object
        event, kind, outcome = _what.__wrapped__(*decided)
    caller = _caller(record.caller)
    emergency = _mapping(record.emergency)
    user, client = _who(record, caller, emergency)
    grant = _text(record.grant_id) if caller.grant is None else caller.grant
    rule = (record.rules and _joined(record.rules)) or _text(emergency.get("rule") or record.rule)
    purpose = _purpose(record.purpose) if record.purpose else caller.purpose
    types = (record.types and _joined(record.types)) or _text(_mapping(record.request).get("type"))
    base = _text(record.base or _mapping(record.query).get("base"))
    return Said(event, base, caller, Words(user, client, grant, kind, outcome, rule, purpose, types))


@lru_cache(_KINDS, typed=True)
def _what(event: object, interaction: object, said: object, status: object) -> tuple[str, str, str]:
    """The event of a record, the kind and the outcome of its entries; said is what was decided, or came of it."""
    word = _text(event)
    kind = _text(interaction) or word if word in (ACCESS, _BEGUN, DELIVERED) else word
    if word == _BEGUN:
        return word, kind, "begun"
    outcome = _text(said) or (PERMIT if word == DELIVERED else "ok")
    failed = word == ACCESS and isinstance(status, int) and status >= _FAILED
    return word, kind, NOTHING if failed and outcome == PERMIT else outcome


def record_of(line: bytes) -> dict[str, Any]:
    """The members of a line, every one. Raises Unreadable."""
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable("the line is not JSON") from error
    if not isinstance(found, dict):
        raise Unreadable("the line is no object")
    return found


def _read(line: bytes) -> Record:
    """The members of a line that an entry is made of. Raises Unreadable."""
    try:
        return _decode(line)
    except msgspec.ValidationError as error:
        raise Unreadable("the line is no object") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable("the line is not JSON") from error


def _caller(said: msgspec.Raw) -> CallerWords:
    """What a caller says. Raises Unreadable."""
    try:
        return _caller_of(bytes(said))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable("the line is not JSON") from error


@lru_cache(_CALLERS)
def _caller_of(said: bytes) -> CallerWords:
    caller = _mapping(msgspec.json.decode(said))
    claims = _mapping(caller.get("claims"))
    purpose = caller.get("purpose_of_use") or claims.get("purpose") or claims.get("purpose_of_use")
    return CallerWords(
        _said(caller, "subject"),
        _said(caller, "client"),
        _said(caller, "grant"),
        _id(caller.get("patient")),
        _purpose(purpose),
    )


def _said(caller: Mapping[str, Any], member: str) -> str | None:
    said = caller.get(member)
    return _text(said) if said else None


@lru_cache(_TIMES)
def milliseconds(at: str) -> int:
    """The time of a record in milliseconds since 1970. Raises ValueError."""
    if len(at) == 24 and at[19] == "." and at[23] == "Z" and at[20:23].isdecimal() and at.isascii():
        return _second(at[:19]) + int(at[20:23])  # as the log writes it
    moment = datetime.fromisoformat(at)
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return round(moment.timestamp() * 1000)


@lru_cache(_SECONDS)
def _second(at: str) -> int:
    return round(datetime.fromisoformat(at + "+00:00").timestamp() * 1000)


def patients_of(line: bytes) -> Sequence[str]:
    """Ids of the patients whom a record is about. Raises Unreadable."""
    record = _read(line)
    about, _ = _about(record, _caller(record.caller), _mapping(record.emergency))
    return about


def _about(
    record: Record, caller: CallerWords, emergency: Mapping[str, Any]
) -> tuple[Sequence[str], Collection[str]]:
    """Ids of the patients whom a record is about, in order, and whom of them the answer showed.

    Of too many, those whom the answer showed come first. The request is read to its end: what a caller writes before a
    patient hides nothing, and cuts no id short.
    """
    shown = {_id(each) for each in _sequence(record.patients)} if record.patients else set()
    shown.discard("")
    asked_for = _asked_for(_mapping(record.request).get("canonical"))
    found = {each for each in asked_for if each in shown or is_id(each)}
    if emergency:
        found.add(_text(emergency.get("patient")))
    if record.event == READ:
        found |= {_id(each) for each in _sequence(_mapping(record.query).get("patients"))}
    found.discard("")
    if not found and not shown:
        found.add(caller.patient or _id(record.patient))
        found.discard("")
    more = found - shown
    about = sorted(shown)[:_MOST_PATIENTS]
    return sorted([*about, *sorted(more)][:_MOST_PATIENTS]) if more else about, shown


def _asked_for(canonical: object) -> Iterable[str]:
    """Patients that a request names; canonical is 'GET /Observation?subject=Patient%2FA'."""
    if not isinstance(canonical, str):
        return
    of_patients = _OF_PATIENT_PATH(canonical)
    if of_patients is not None and of_patients[1] and of_patients[1][0] not in "_$":
        yield of_patients[1]
    if "?" not in canonical:
        return
    for name, value in parse_qsl(canonical.partition(" ")[2].partition("?")[2]):
        parameter, _, modifier = name.partition(":")
        if of_patients is not None and parameter == "_id":
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


def _who(record: Record, caller: CallerWords, emergency: Mapping[str, Any]) -> tuple[str, str]:
    """The user and the client of a record."""
    user, client = caller.user, caller.client
    if client is None:
        client = _text(record.client_id or record.client or emergency.get("client"))
    if user is None:
        user = _text(record.subject or emergency.get("subject") or record.by or record.who)
    return user, client


def _purpose(said: object) -> str:
    """Codes of a purpose of use, without their systems."""
    return " ".join([each.rpartition("|")[2] for each in _joined(said).split()]) if said else ""


def _base(record: Record, bases: Mapping[str, str], *, is_about_somebody: bool) -> str:
    """The base of a record that names none: that of its route, or the only one there is."""
    route = _text(record.route)
    if route:
        return bases.get(route, "")
    return next(iter(bases.values())) if is_about_somebody and len(bases) == 1 else ""


def _text(value: object) -> str:
    """Text as the index can hold it: no column of PostgreSQL takes a zero byte."""
    if not isinstance(value, str):
        return ""
    return value.replace("\0", "\ufffd")[:500] if "\0" in value or len(value) > 500 else value


def _id(value: object) -> str:
    """The id in an id or a reference to a patient."""
    said = _text(value)
    return said.rpartition("/")[2] if "/" in said else said


def _joined(value: object) -> str:
    if isinstance(value, str):
        return _text(value)
    return _text(" ".join([text for each in _sequence(value) if (text := _text(each))]))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()

"""The entry of an access as most are: of one caller, about at most one patient, whom its request names or nobody.

Such records differ in time and patient. What callers and decisions say in them is reckoned once, by the plain way of
entries.py, for all that say the same. A record is taken here only when it has no other member that an entry is made of,
each of the type that the log writes; every other one, and what is no record, goes the plain way.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from authz.storage.audit_index import AccessEntry
from gateway.audit.index.entries import (
    ACCESS,
    NOTHING,
    PERMIT,
    Record,
    Said,
    entries_of,
    milliseconds,
    words_of,
)

_CALLERS = 10_000
_DECISIONS = 1_000
_LONGEST_ID = 500  # a longer one is cut short, the plain way
_NOBODY = msgspec.Raw(b"null")
_Texts = tuple[str, ...]
_new_entry = tuple.__new__


class _Request(msgspec.Struct, gc=False):
    canonical: str
    type: str = ""


class _Access(msgspec.Struct, gc=False):
    """A record as most are. Of the members that stand last none may be there."""

    seq: int
    at: str
    event: str
    caller: msgspec.Raw
    request: _Request
    decision: str
    interaction: str = ""
    base: str = ""
    route: str = ""
    status: int = 0
    patients: list[str] | None = None
    rules: _Texts = ()
    purpose: _Texts = ()
    types: _Texts = ()
    by: None = None
    client: None = None
    client_id: None = None
    emergency: None = None
    grant_id: None = None
    outcome: None = None
    patient: None = None
    query: None = None
    rule: None = None
    subject: None = None
    who: None = None


_decode = msgspec.json.Decoder(_Access).decode


def entries_by_form(line: bytes, *, chain: str, bases: Mapping[str, str]) -> Sequence[AccessEntry]:
    """What entries_of() gives. Raises Unreadable."""
    try:
        record = _decode(line)
        canonical, patients, patient = record.request.canonical, record.patients, None
        user, client, grant, by_token, of_token = _caller(bytes(record.caller))
        base, kind, outcome, rule, purpose, types, if_unseen = _decision(
            record.interaction, record.decision, record.status, record.base, record.rules, record.purpose,
            record.types, record.request.type,
        )  # fmt: skip
        if patients:
            if len(patients) == 1 and _names_nobody_else(canonical, patients[0]):
                patient = patients[0]
        elif "Patient" not in canonical and "?" not in canonical:
            patient = of_token
            if patients is not None:
                outcome = if_unseen
        base = base or (record.route and bases.get(record.route, ""))
        if patient is not None and base and record.event == ACCESS:
            last = rule, purpose if record.purpose else by_token, types
            at = milliseconds(record.at)
            return (
                _new_entry(
                    AccessEntry,
                    (chain, record.seq, at, base, patient, user, client, grant, kind, outcome, *last),
                ),
            )
    except (msgspec.DecodeError, ValueError, TypeError):
        pass  # the plain way says what it is
    return entries_of(line, chain=chain, bases=bases)


def _names_nobody_else(canonical: str, patient: str) -> bool:
    """Whether a request can be about no other patient than this one, whose id stands as it is in the index."""
    if not patient or "/" in patient or "\0" in patient or len(patient) > _LONGEST_ID or "?" in canonical:
        return False
    return "Patient" not in canonical or canonical == "GET /Patient/" + patient


@lru_cache(_CALLERS)
def _caller(caller: bytes) -> tuple[str, str, str, str, str]:
    """User, client, grant and purpose of the entries of a caller, and the patient whom the token is for."""
    said = _said(caller=msgspec.Raw(caller))
    return said.words.user, said.words.client, said.words.grant, said.words.purpose, said.caller.patient


@lru_cache(_DECISIONS)
def _decision(
    interaction: str,
    decision: str,
    status: int,
    base: str,
    rules: _Texts,
    purpose: _Texts,
    types: _Texts,
    type_: str,
) -> tuple[str, str, str, str, str, str, str]:
    """Base, kind, outcome, rule, purpose and types, and the outcome where the answer did not show the patient."""
    said = _said(
        interaction=interaction, decision=decision, status=status, base=base, rules=[*rules], purpose=[*purpose],
        types=[*types], request={"type": type_},
    )  # fmt: skip
    words = said.words
    if_unseen = NOTHING if decision == PERMIT else words.outcome
    return said.base, words.kind, words.outcome, words.rule, words.purpose, words.types, if_unseen


def _said(*, caller: msgspec.Raw = _NOBODY, **members: object) -> Said:
    return words_of(Record(event=ACCESS, caller=caller, **members))

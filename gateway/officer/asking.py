"""A question to the audit log in the words of a person, as a query of its index, and as it is recorded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from authz.storage.audit_index import AuditQuery, Cursor
from gateway.fhir.ids import is_id

TERMS = ("base", "patient", "user", "client", "grant", "rule", "outcome", "kind", "since", "until")
"""What may be asked for; every term narrows."""
MOST_ON_A_PAGE = 1000
_PAGE = 50
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LONGEST_TERM = 300


class QuestionError(ValueError):
    """The question cannot be asked so. The text is for whoever asked it."""


@dataclass(frozen=True, slots=True)
class Question:
    """A query, and the terms that it was asked by."""

    query: AuditQuery
    terms: Mapping[str, str]

    def recorded(self) -> dict[str, object]:
        """How the question stands in the record of the look: also whom it was about."""
        said: dict[str, object] = dict(self.terms)
        if self.query.base is not None:
            said["base"] = self.query.base
        if self.query.patients:
            said["patients"] = sorted(self.query.patients)
            said.pop("patient", None)
        return said


def question_of(
    terms: Mapping[str, str],
    *,
    bases: Mapping[str, str],
    limit: int = _PAGE,
    before: Cursor | None = None,
) -> Question:
    """The question of terms, of which empty ones are none. bases are identifiers by name of route.

    Raises QuestionError.
    """
    said = {name: value.strip() for name, value in terms.items() if name in TERMS and value.strip()}
    for name, value in said.items():
        if len(value) > _LONGEST_TERM or not value.isprintable():
            raise QuestionError(f"{name} is no text of at most {_LONGEST_TERM} characters")
    patient = said.get("patient", "").removeprefix("Patient/")
    if patient and not is_id(patient):
        raise QuestionError("the patient is no FHIR id: letters, digits, '-' and '.', at most 64")
    since, until = (moment(said[name], name) if name in said else None for name in ("since", "until"))
    if since is not None and until is not None and until <= since:
        raise QuestionError("the time ends before it begins")
    query = AuditQuery(
        base=base_of(said.get("base", ""), bases, needed=bool(patient)),
        patients=(patient,) if patient else (),
        user=said.get("user"),
        client=said.get("client"),
        grant=said.get("grant"),
        rule=said.get("rule"),
        outcome=said.get("outcome"),
        kinds=tuple(said["kind"].split()) if "kind" in said else (),
        since=since,
        until=until,
        before=before,
        limit=max(1, min(limit, MOST_ON_A_PAGE)),
    )
    return Question(query, said)


def base_of(said: str, bases: Mapping[str, str], *, needed: bool) -> str | None:
    """The identifier of a base that is named by its route or by itself. Raises QuestionError.

    Where it is needed and not said, it is the only one.
    """
    if said in bases:
        return bases[said]
    if said in bases.values():
        return said
    if said:
        raise QuestionError(f"there is no FHIR base '{said}', expected one of {', '.join(sorted(bases))}")
    if not needed:
        return None
    if len(set(bases.values())) == 1:  # documents may have a route of their own, and these patients
        return next(iter(bases.values()))
    raise QuestionError(f"say at which FHIR base the patient is: {', '.join(sorted(bases))}")


def moment(text: str, name: str) -> int:
    """A day, its first moment in UTC, or a time with its zone, in milliseconds since 1970. Raises QuestionError."""
    try:
        found = datetime.fromisoformat(f"{text}T00:00Z" if _DAY.fullmatch(text) else text)
        if found.tzinfo is None:
            raise ValueError("no zone")
        return round(found.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise QuestionError(f"{name} is no time such as 2026-11-01 or 2026-11-01T08:00Z") from error


def written(cursor: Cursor) -> str:
    """A cursor as one text."""
    return "|".join((str(cursor.at), cursor.chain, str(cursor.sequence), cursor.base, cursor.patient))


def read_cursor(text: str) -> Cursor:
    """The cursor that written() wrote. Raises QuestionError."""
    parts = text.split("|")
    try:
        at, chain, sequence, base, patient = parts
        return Cursor(_number(at), chain, _number(sequence), base, patient)
    except ValueError as error:
        raise QuestionError("the place of the next page cannot be read") from error


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError("no number")
    return int(text)


def when(milliseconds: int) -> str:
    """A time for people: '2026-11-28 12:30:05 UTC'."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

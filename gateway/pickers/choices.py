"""Patients and visits as a person chooses among them, made of what was delivered: what a view hides is not here."""

import re
from collections.abc import Iterator
from datetime import date
from typing import Any

from authz.login.finding import Choice
from authz.login.language import ENGLISH, Language
from gateway.fhir.ids import is_id

_MAX_CHARACTERS = 120
_DAY = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT(\d\d:\d\d)")
_USES = ("official", "usual")
_RECORD_NUMBER = "MR"  # http://terminology.hl7.org/CodeSystem/v2-0203


def patient_choice(resource: object, language: Language = ENGLISH) -> Choice | None:
    """A Patient to choose; None for anything else."""
    if not isinstance(resource, dict) or resource.get("resourceType") != "Patient":
        return None
    id_ = resource.get("id")
    if not isinstance(id_, str) or not is_id(id_):
        return None
    born = _day(resource.get("birthDate"), language)
    number = next(_record_numbers(resource), "")
    details = [
        language.plain("patient.born", day=born) if born else "",
        language.plain("patient.number", number=number) if number else "",
    ]
    name = _name(resource) or language.plain("patient.unnamed", id=id_)
    return Choice(id_, name, ", ".join(filter(None, details)))


def encounter_choice(
    resource: object, patient: str, *, base: str, language: Language = ENGLISH
) -> Choice | None:
    """An Encounter of this patient to choose; None for anything else. base is the public base of references."""
    if not isinstance(resource, dict) or resource.get("resourceType") != "Encounter":
        return None
    id_, subject = resource.get("id"), _member(resource.get("subject"), "reference")
    if not isinstance(id_, str) or not is_id(id_) or not isinstance(subject, str):
        return None
    if subject.removeprefix(f"{base}/") != f"Patient/{patient}":
        return None
    kinds = [_words_of(kind) for kind in _list(resource.get("type"))]
    label = next((words for words in kinds if words), "") or _coded(resource.get("class"))
    period = resource.get("period")
    start, end = (_moment(_member(period, name), language) for name in ("start", "end"))
    is_of_one_day = start.partition(",")[0] == end.partition(",")[0]
    is_long = bool(start and end and not is_of_one_day)
    said = language.plain("encounter.from_to", start=start, end=end) if is_long else start
    return Choice(id_, label or language.plain("encounter.unnamed"), said)


def began(resource: object) -> str:
    """When an Encounter began, as it is written there; the same for all that do not say."""
    said = _member(_member(resource, "period"), "start")
    return said if isinstance(said, str) else ""


def _name(resource: dict[str, Any]) -> str:
    names = [name for name in _list(resource.get("name")) if isinstance(name, dict)]
    names.sort(key=lambda name: _USES.index(name["use"]) if name.get("use") in _USES else len(_USES))
    for name in names:
        text = _line(name.get("text"))
        if text:
            return text
        parts = [*_list(name.get("given")), name.get("family")]
        found = " ".join(filter(None, map(_line, parts)))
        if found:
            return found[:_MAX_CHARACTERS]
    return ""


def _record_numbers(resource: dict[str, Any]) -> Iterator[str]:
    for identifier in _list(resource.get("identifier")):
        codes = [_member(coding, "code") for coding in _list(_member(_member(identifier, "type"), "coding"))]
        value = _line(_member(identifier, "value"))
        if _RECORD_NUMBER in codes and value:
            yield value


def _words_of(concept: object) -> str:
    """A CodeableConcept in words."""
    found = _line(_member(concept, "text"))
    return found or next(filter(None, map(_coded, _list(_member(concept, "coding")))), "")


def _coded(coding: object) -> str:
    return _line(_member(coding, "display")) or _line(_member(coding, "code"))


def _moment(value: object, language: Language) -> str:
    """A date, or a date with the time as it was written there."""
    day = _day(value, language)
    time = _TIME.match(value) if isinstance(value, str) else None
    return f"{day}, {time[1]}" if day and time is not None else day


def _day(value: object, language: Language) -> str:
    """A FHIR date in words, as exact as it is; '' for anything else."""
    match = _DAY.match(value) if isinstance(value, str) else None
    if match is None:
        return ""
    year, month, day = match[1], match[2], match[3]
    try:
        at = date(int(year), int(month or 1), int(day or 1))
    except ValueError:
        return ""
    if day is not None:
        return language.day(at)
    return f"{language.texts[f'month.{at.month}']} {year}" if month is not None else year


def _line(value: object) -> str:
    """Text on one line, never without an end."""
    if not isinstance(value, str):
        return ""
    return "".join(c for c in " ".join(value.split()) if c.isprintable())[:_MAX_CHARACTERS]


def _member(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []

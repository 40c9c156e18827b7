"""The key represents of a user of gateway.yaml: for whom a parent, guardian or carer may act, in what, until when."""

from datetime import date, timedelta

from authz.login.language import ENGLISH
from authz.login.represented import EVERYTHING
from authz.settings import Representation
from gateway.config.ends import birthday, seconds_of
from gateway.config.schema import Section

_KIND = "relationship."
RELATIONSHIPS = tuple(key.removeprefix(_KIND) for key in ENGLISH.texts if key.startswith(_KIND))
"""The codes of v3-RoleCode that the pages have words for."""
_DAY = timedelta(days=1)


def read_representations(user: Section) -> tuple[Representation, ...]:
    """Everybody whom a user represents; mistakes go to its problems."""
    found: list[Representation] = []
    for section in user.sections("represents"):
        section.known("patient", "label", "relationship", "may", "until", "born", "until_age")
        until, born = _day(section, "until"), _day(section, "born")
        if section.has("until_age") != section.has("born"):
            section.report(section.node.place, f"{section.path} has born and until_age both, or neither")
        ends = [] if until is None else [until + _DAY]
        if born is not None and section.has("until_age"):
            ends.append(birthday(born, section.integer("until_age", 18, low=1, high=120)))
        if not ends:
            said = f"{section.path} has no end: give until, or born and until_age"
            section.report(section.node.place, said)
        patient = section.text("patient")
        if patient in [each.patient for each in found]:
            section.report(section.place("patient"), f"the patient '{patient}' is represented twice")
        may = section.words("may", sorted(EVERYTHING)) if section.has("may") else tuple(EVERYTHING)
        found.append(
            Representation(
                patient=patient,
                label=section.text("label"),
                relationship=section.word("relationship", RELATIONSHIPS),
                may=frozenset(may),
                ends_at=None if not ends else seconds_of(min(ends)),
            )
        )
    return tuple(found)


def _day(section: Section, key: str) -> date | None:
    text = section.optional_text(key)
    if not text:
        return None
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or not 1900 <= found.year <= 9998:
        section.report(section.place(key), f"{key} is '{text}', expected a day such as 2031-05-12")
        return None
    return found

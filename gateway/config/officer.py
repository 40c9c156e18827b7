"""`officer` of gateway.yaml: who sees the officer's pages, how long the index is kept, what accountings leave out."""

import re
from collections.abc import Collection
from datetime import UTC, date, datetime

from gateway.config.schema import Section
from gateway.config.signals import read_signals
from gateway.officer_settings import (
    DisclosureSettings,
    OfficerSettings,
    Recipient,
    Suspension,
)
from gateway.yaml_source import Mapping as YamlMapping

_DAY = 86400
_MOST_DAYS = 30 * 366
_PURPOSE = re.compile(r"[A-Z][A-Z0-9-]{1,30}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def read_officer(top: Section, *, receivers: Collection[str]) -> OfficerSettings:
    """The settings; nobody has the pages without them. receivers are the names under `notifications`."""
    section = top.section("officer")
    if section is None:
        return OfficerSettings()
    section.known("roles", "keep", "disclosures", "signals")
    default = OfficerSettings()
    keep = section.seconds("keep", default.keep_days * _DAY, low=_DAY, high=_MOST_DAYS * _DAY)
    return OfficerSettings(
        roles=frozenset(section.texts("roles")),
        keep_days=int(keep // _DAY),
        disclosures=_disclosures(section.section("disclosures")),
        signals=read_signals(section, receivers=receivers),
    )


def _disclosures(section: Section | None) -> DisclosureSettings:
    default = DisclosureSettings()
    if section is None:
        return default
    section.known("left_out", "purposes", "recipients", "suspensions")
    left_out = default.left_out
    if section.has("left_out"):
        left_out = frozenset(section.texts("left_out"))
        for code in left_out:
            _check_purpose(section, "left_out", code)
    purposes: dict[str, str] = {}
    said = section.section("purposes")
    for entry in () if said is None else said.node:
        if said is not None:
            purposes[entry.key] = said.text(entry.key, expected="a code such as TREAT")
            _check_purpose(said, entry.key, purposes[entry.key])
    return DisclosureSettings(
        left_out=left_out,
        purposes=purposes,
        recipients=_recipients(section),
        suspensions=tuple(_suspension(each) for each in section.sections("suspensions")),
    )


def _check_purpose(section: Section, key: str, code: str) -> None:
    if code and not _PURPOSE.fullmatch(code):
        section.report(section.place(key), f"'{code}' is no code of a purpose, such as TREAT or HPAYMT")


def _recipients(section: Section) -> dict[str, Recipient]:
    found: dict[str, Recipient] = {}
    said = section.section("recipients")
    for entry in () if said is None else said.node:
        inner = said.section(entry.key) if said is not None and isinstance(entry.value, YamlMapping) else None
        if inner is None:
            section.report(
                entry.value.place, f"recipients.{entry.key} is {entry.value.kind}, expected {{name, address}}"
            )
            continue
        inner.known("name", "address")
        found[entry.key] = Recipient(inner.text("name"), inner.optional_text("address") or "")
    return found


def _suspension(section: Section) -> Suspension:
    section.known("client", "since", "until", "why")
    since, until = _day(section, "since"), _day(section, "until")
    if until <= since and until:
        section.report(section.place("until"), f"{section.path}: until is not later than since")
    return Suspension(section.text("client"), since, until, section.text("why"))


def _day(section: Section, key: str) -> int:
    """A date as the milliseconds of its first moment in UTC."""
    text = section.text(key, expected="a date such as 2027-01-31")
    try:
        if not _DATE.fullmatch(text):
            raise ValueError("not of that form")
        day = date.fromisoformat(text)
    except ValueError:
        if text:
            section.report(
                section.place(key), f"{section.path}.{key}: '{text}' is no date such as 2027-01-31"
            )
        return 0
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000

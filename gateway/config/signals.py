"""`officer.signals` of gateway.yaml: rules of unusual access, each with only the keys that its kind has."""

import re
from collections.abc import Collection, Mapping
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway.config.schema import Section
from gateway.officer_settings import SignalKind, SignalRule
from gateway.policy.hours import DAYS, Hours
from gateway.yaml_source import did_you_mean

_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")
_LABEL = re.compile(r"[^\s|]+\|[^\s|]+")
_EVERY = ("name", "when", "clients", "except_clients", "except_users", "notify")
_KEYS: Mapping[SignalKind, tuple[str, ...]] = {
    SignalKind.VIP: ("patients", "labels"),
    SignalKind.SAME_FAMILY_NAME: ("claim",),
    SignalKind.VOLUME: ("at_most", "within", "times_median", "over"),
    SignalKind.OUT_OF_HOURS: ("hours", "days", "zone"),
    SignalKind.NO_RELATIONSHIP: ("rules",),
    SignalKind.OWN_RECORD: ("roles",),
    SignalKind.COLLEAGUE: ("roles",),
    SignalKind.BREAK_GLASS: ("at_most", "within"),
}
_DAY = 86400


def read_signals(officer: Section, *, receivers: Collection[str]) -> tuple[SignalRule, ...]:
    """The rules in the order of the file."""
    found: list[SignalRule] = []
    for section in officer.sections("signals"):
        rule = _rule(section, receivers)
        if rule.name in {each.name for each in found}:
            section.report(section.place("name"), f"the signal '{rule.name}' is named twice")
        found.append(rule)
    return tuple(found)


def _rule(section: Section, receivers: Collection[str]) -> SignalRule:
    name = section.text("name")
    if name and not _NAME.fullmatch(name):
        section.report(
            section.place("name"), f"'{name}' is no name of a signal: small letters, digits and '-'"
        )
    kind = _kind(section)
    if kind is None:
        return SignalRule(name, SignalKind.VIP)  # nothing to hold its keys against
    section.known(*_EVERY, *_KEYS[kind])
    notify = section.texts("notify")
    for receiver in notify:
        if receiver not in receivers:
            said = f"{section.path}.notify: there is no receiver '{receiver}' under notifications."
            section.report(section.place("notify"), said + did_you_mean(receiver, receivers))
    rule = SignalRule(
        name=name,
        kind=kind,
        clients=frozenset(section.texts("clients")),
        except_clients=frozenset(section.texts("except_clients")),
        except_users=frozenset(section.texts("except_users")),
        patients=frozenset(section.texts("patients")),
        labels=frozenset(section.texts("labels")),
        claim=section.text("claim", "family_name"),
        at_most=section.integer("at_most", 30 if kind is SignalKind.VOLUME else 2, low=1, high=100_000),
        within=int(section.seconds("within", _usual_within(kind), low=60, high=31 * _DAY)),
        times_median=section.integer("times_median", 3, low=1, high=1000),
        over=int(section.seconds("over", 30 * _DAY, low=_DAY, high=366 * _DAY)),
        hours=_hours(section) if kind is SignalKind.OUT_OF_HOURS else (),
        rules=frozenset(section.texts("rules")),
        roles=frozenset(section.texts("roles")),
        notify=notify,
    )
    _check(section, rule)
    return rule


def _kind(section: Section) -> SignalKind | None:
    said = section.text("when", expected="one of " + ", ".join(SignalKind))
    if said in list(SignalKind):
        return SignalKind(said)
    if said:
        expected = f"expected one of {', '.join(SignalKind)}.{did_you_mean(said, list(SignalKind))}"
        section.report(section.place("when"), f"{section.path}.when is '{said}', {expected}")
    return None


def _usual_within(kind: SignalKind) -> int:
    return 3600 if kind is SignalKind.VOLUME else 7 * _DAY


def _check(section: Section, rule: SignalRule) -> None:
    if rule.kind is SignalKind.VIP and not rule.patients and not rule.labels:
        section.report(
            section.node.place, f"{section.path} must say who is meant: 'patients', 'labels' or both"
        )
    if rule.kind is SignalKind.NO_RELATIONSHIP and not rule.rules:
        said = "must name the rules of policies that look for a relationship, such as ward/treating"
        section.report(section.node.place, f"{section.path}.rules {said}")
    if rule.kind in (SignalKind.OWN_RECORD, SignalKind.COLLEAGUE) and not rule.roles:
        said = "must name the roles of accounts that make staff, such as clinician"
        section.report(section.node.place, f"{section.path}.roles {said}")
    for label in rule.labels:
        if not _LABEL.fullmatch(label):
            section.report(section.place("labels"), f"{section.path}.labels: '{label}', expected system|code")


def _hours(section: Section) -> tuple[Hours, ...]:
    text = section.text("hours", "07:00-19:00")
    match = _HOURS.fullmatch(text)
    if match is None:
        section.report(
            section.place("hours"), f"{section.path}.hours: '{text}', expected such as 07:00-19:00"
        )
        return ()
    begin, end = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
    days = section.words("days", DAYS) or DAYS[:5]
    name = section.text("zone", "UTC")
    try:
        zone = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        section.report(
            section.place("zone"), f"{section.path}.zone: there is no zone '{name}', such as Europe/Berlin"
        )
        return ()
    return (Hours(begin, end, frozenset(DAYS.index(day) for day in days), zone),)

"""`officer` of gateway.yaml: what is read, and what is refused with its place."""

from pathlib import Path

import pytest

from gateway.config.document import ConfigErrors, load
from gateway.officer_settings import OfficerSettings, SignalKind
from gateway.settings import GatewaySettings
from tests.unit.test_cli import CONFIGURATION, folder  # noqa: F401 - fixture

WHOLE = """\
notifications: {office: log}
officer:
  roles: [privacy-officer]
  keep: 3000d
  disclosures:
    left_out: [TREAT]
    purposes: {ehr: TREAT}
    recipients: {lab: {name: Laboratory, address: "1 Road"}, other: {name: Other}}
    suspensions: [{client: lab, since: 2027-01-01, until: 2027-01-31, why: a letter}]
  signals:
    - {name: vip-list, when: vip, patients: [A], labels: ["urn:h|VIP"], notify: [office], except_users: [s1]}
    - {name: many, when: volume, at_most: 5, within: 30m, times_median: 2, over: 7d, clients: [ehr]}
    - {name: night, when: out-of-hours, hours: "06:30-20:00", days: [sat], zone: Europe/Berlin}
    - {name: own, when: own-record, roles: [nurse]}
    - {name: glass, when: break-glass}
"""


def read(folder: Path, text: str) -> GatewaySettings:  # noqa: F811
    file = folder / "gateway.yaml"
    file.write_text(CONFIGURATION + text, encoding="utf-8")
    return load(file, {})


def test_without_the_section_nobody_has_the_pages_and_no_rule_looks(folder: Path) -> None:  # noqa: F811
    officer = read(folder, "").officer
    assert officer == OfficerSettings()
    assert (officer.roles, officer.signals) == (frozenset(), ())
    assert officer.keep_days >= 6 * 366  # an accounting goes back six years


def test_the_section_is_read_whole(folder: Path) -> None:  # noqa: F811
    officer = read(folder, WHOLE).officer
    assert (officer.roles, officer.keep_days) == ({"privacy-officer"}, 3000)
    disclosures = officer.disclosures
    assert (disclosures.left_out, disclosures.purposes) == ({"TREAT"}, {"ehr": "TREAT"})
    assert [(key, each.name, each.address) for key, each in disclosures.recipients.items()] == [
        ("lab", "Laboratory", "1 Road"),
        ("other", "Other", ""),
    ]
    (suspension,) = disclosures.suspensions
    assert (suspension.since, suspension.until) == (1_798_761_600_000, 1_801_353_600_000)
    vip, many, night, own, glass = officer.signals
    assert (vip.kind, vip.patients, vip.labels, vip.notify) == (
        SignalKind.VIP,
        {"A"},
        {"urn:h|VIP"},
        ("office",),
    )
    assert (many.at_most, many.within, many.times_median, many.over) == (5, 1800, 2, 7 * 86400)
    assert str(night.hours[0]) == "06:30-20:00 sat Europe/Berlin"
    assert own.roles == {"nurse"}
    assert (glass.at_most, glass.within) == (2, 7 * 86400)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("officer: {role: [x]}", "Did you mean 'roles'?"),
        ("officer: {keep: 1h}", "officer.keep is '1h', expected 1d to"),
        ("officer: {disclosures: {left_out: [treatment]}}", "'treatment' is no code of a purpose"),
        ("officer: {disclosures: {purposes: {ehr: 5}}}", "officer.disclosures.purposes.ehr is '5'"),
        ("officer: {disclosures: {recipients: {lab: Lab}}}", "expected {name, address}"),
        (
            "officer: {disclosures: {suspensions: [{client: a, since: 2027-02-01, until: 2027-01-01, why: w}]}}",
            "until is not later than since",
        ),
        (
            "officer: {disclosures: {suspensions: [{client: a, since: soon, until: 2027-01-01, why: w}]}}",
            "'soon' is no date such as 2027-01-31",
        ),
        ("officer: {signals: [{name: a, when: vipp, patients: [A]}]}", "Did you mean 'vip'?"),
        ("officer: {signals: [{name: a, patients: [A]}]}", "when is missing, expected one of vip"),
        ("officer: {signals: [{name: a, when: vip}]}", "must say who is meant: 'patients', 'labels' or both"),
        ("officer: {signals: [{name: a, when: vip, labels: [VIP]}]}", "'VIP', expected system|code"),
        ("officer: {signals: [{name: a, when: vip, patients: [A], within: 1h}]}", "'within'"),
        ("officer: {signals: [{name: A B, when: vip, patients: [A]}]}", "'A B' is no name of a signal"),
        (
            "officer: {signals: [{name: a, when: vip, patients: [A]}, {name: a, when: vip, patients: [B]}]}",
            "the signal 'a' is named twice",
        ),
        ("officer: {signals: [{name: a, when: no-relationship}]}", "must name the rules of policies"),
        ("officer: {signals: [{name: a, when: colleague}]}", "must name the roles of accounts"),
        ("officer: {signals: [{name: a, when: out-of-hours, hours: 7-19}]}", "expected such as 07:00-19:00"),
        ("officer: {signals: [{name: a, when: out-of-hours, zone: Berlin}]}", "there is no zone 'Berlin'"),
        ("officer: {signals: [{name: a, when: out-of-hours, days: [mo]}]}", "Did you mean 'mon'?"),
        (
            "notifications: {office: log}\nofficer: {signals: [{name: a, when: vip, patients: [A], notify: [ofice]}]}",
            "there is no receiver 'ofice' under notifications. Did you mean 'office'?",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_would_be_right(folder: Path, text: str, said: str) -> None:  # noqa: F811
    with pytest.raises(ConfigErrors) as refused:
        read(folder, text)
    (problem,) = refused.value.problems
    assert said in problem.message
    assert problem.line > len(CONFIGURATION.splitlines())

"""Hours, days and zones of rules, and the days on which a policy is valid."""

from dataclasses import replace
from datetime import datetime

import pytest

from gateway.policy.decision import Decision, Deny, Environment, Permit
from gateway.policy.engine import Engine
from gateway.policy.language import PolicyErrors
from gateway.policy.reading import checks
from gateway.policy.selftests import selftest
from tests.support.policies import BASES, ask, caller, load, policy

OPEN = "rule: all, effect: permit, may: [read], resources: [Observation], shared: true"
SETS = """\
definitions: hours
version: 1
sets:
  office-hours: {hours: "07:00-20:00", days: [mon, tue, wed, thu, fri], zone: Europe/Amsterdam}
  night: {hours: ["22:00-24:00", "00:00-06:00"], zone: Europe/Amsterdam}
"""


def at(text: str) -> int:
    """Seconds since 1970 of a time with its offset."""
    return int(datetime.fromisoformat(text).timestamp())


def decided(rules: list[str], time: str, *, valid: str = "") -> Decision:
    """The answer to a read at that time."""
    text = policy(*rules)
    if valid:
        text = text.replace("status: enforce\n", f"status: enforce\nvalid: {valid}\n")
    engine = Engine(load(SETS, text), bases=BASES)
    return engine.decide(ask("GET /Observation/x"), caller(), Environment(at(time), "192.0.2.1"))


def is_open(when: str, time: str) -> bool:
    """Whether a permit with this `when` opens then."""
    return isinstance(decided([f"{OPEN}, when: {when}"], time), Permit)


def problems(*rules: str, definitions: str = SETS, valid: str = "") -> list[str]:
    """What is wrong with a policy of these rules, warnings too."""
    text = policy(*rules)
    if valid:
        text = text.replace("status: enforce\n", f"status: enforce\nvalid: {valid}\n")
    try:
        return [str(warning) for warning in load(definitions, text).warnings]
    except PolicyErrors as error:
        return [str(problem) for problem in error.problems]


# Hours


@pytest.mark.parametrize(
    ("when", "time", "open_"),
    [
        ('{hours: "08:00-18:00", zone: Europe/Amsterdam}', "2026-03-02T07:59:59+01:00", False),
        ('{hours: "08:00-18:00", zone: Europe/Amsterdam}', "2026-03-02T08:00:00+01:00", True),
        ('{hours: "08:00-18:00", zone: Europe/Amsterdam}', "2026-03-02T17:59:59+01:00", True),
        ('{hours: "08:00-18:00", zone: Europe/Amsterdam}', "2026-03-02T18:00:00+01:00", False),
        # the zone of the rule, not that of the caller or of the machine
        ('{hours: "08:00-18:00", zone: America/New_York}', "2026-03-02T08:00:00+01:00", False),
        ('{hours: "08:00-18:00", zone: Asia/Kathmandu}', "2026-03-02T03:15:00+01:00", True),
        # over midnight: the days are those on which the window begins
        ('{hours: "22:00-06:00", days: [fri], zone: UTC}', "2026-03-06T23:00:00+00:00", True),
        ('{hours: "22:00-06:00", days: [fri], zone: UTC}', "2026-03-07T05:59:59+00:00", True),
        ('{hours: "22:00-06:00", days: [fri], zone: UTC}', "2026-03-07T06:00:00+00:00", False),
        ('{hours: "22:00-06:00", days: [fri], zone: UTC}', "2026-03-06T05:00:00+00:00", False),
        ('{hours: "22:00-06:00", days: [sun], zone: UTC}', "2026-03-09T01:00:00+00:00", True),
        ('{hours: "22:00-24:00", days: [fri], zone: UTC}', "2026-03-06T23:59:59+00:00", True),
        ('{hours: "22:00-24:00", days: [fri], zone: UTC}', "2026-03-07T00:00:00+00:00", False),
        ('{hours: "00:00-24:00", days: [fri], zone: UTC}', "2026-03-06T00:00:00+00:00", True),
        # several windows, days alone, sets
        ('{hours: ["08:00-12:00", "13:00-17:00"], zone: UTC}', "2026-03-06T12:30:00+00:00", False),
        ('{hours: ["08:00-12:00", "13:00-17:00"], zone: UTC}', "2026-03-06T13:30:00+00:00", True),
        ("{days: [sat, sun], zone: Europe/Amsterdam}", "2026-03-06T23:30:00+00:00", True),
        ("{days: [sat, sun], zone: Europe/Amsterdam}", "2026-03-06T22:30:00+00:00", False),
        ("{hours: $office-hours}", "2026-03-06T07:00:00+01:00", True),
        ("{hours: $office-hours}", "2026-03-07T07:00:00+01:00", False),
        ("{hours: [$office-hours, $night]}", "2026-03-07T23:00:00+01:00", True),
        ('{hours: [$office-hours, "20:00-21:00"], zone: UTC}', "2026-03-07T20:30:00+00:00", True),
    ],
)  # fmt: skip
def test_304_a_rule_holds_in_its_hours_by_the_clocks_of_its_zone(when: str, time: str, open_: bool) -> None:
    assert is_open(when, time) is open_


@pytest.mark.parametrize(
    ("time", "open_"),
    [
        ("2026-03-29T01:59:59+01:00", False),
        ("2026-03-29T03:00:00+02:00", True),  # the next second: 02:00 to 03:00 does not come
        ("2026-03-29T03:59:59+02:00", True),
        ("2026-03-29T04:00:00+02:00", False),
        ("2026-10-25T02:30:00+02:00", True),
        ("2026-10-25T02:30:00+01:00", True),  # an hour later, the same on the clock
        ("2026-10-25T01:59:59+02:00", False),
        ("2026-10-25T04:00:00+01:00", False),
    ],
)
def test_304_a_change_of_clocks_is_followed_as_the_clocks_on_the_wall_do(time: str, open_: bool) -> None:
    assert is_open('{hours: "02:00-04:00", zone: Europe/Amsterdam}', time) is open_


def test_a_deny_closes_in_its_hours_only_and_a_require_outside_of_them() -> None:
    hours = 'when: {hours: "08:00-18:00", zone: UTC}'
    deny = [OPEN, f"rule: d, effect: deny, may: [any], resources: any, {hours}"]
    require = [OPEN, f"rule: q, effect: require, resources: any, {hours}"]
    day, night = "2026-03-06T12:00:00+00:00", "2026-03-06T20:00:00+00:00"
    assert isinstance(decided(deny, day), Deny)
    assert isinstance(decided(deny, night), Permit)
    assert isinstance(decided(require, day), Permit)
    assert isinstance(decided(require, night), Deny)


def test_a_time_that_no_calendar_knows_opens_nothing_and_closes_what_a_deny_is_about() -> None:
    never = Environment(10**18, "192.0.2.1")
    hours = 'when: {hours: "00:00-24:00", zone: UTC}'
    permit = Engine(load(policy(f"{OPEN}, {hours}")), bases=BASES)
    deny = Engine(
        load(policy(OPEN, f"rule: d, effect: deny, may: [any], resources: any, {hours}")), bases=BASES
    )
    require = Engine(load(policy(OPEN, f"rule: d, effect: require, {hours}")), bases=BASES)
    for engine in (permit, deny, require):
        assert isinstance(engine.decide(ask("GET /Observation/x"), caller(), never), Deny)


def test_a_rule_asks_for_hours_and_network_at_once() -> None:
    when = '{hours: "08:00-18:00", zone: UTC, network: [10.0.0.0/8]}'
    engine = Engine(load(policy(f"{OPEN}, when: {when}")), bases=BASES)
    day, night = at("2026-03-06T12:00:00+00:00"), at("2026-03-06T20:00:00+00:00")

    def answer(now: int, peer: str) -> Decision:
        return engine.decide(ask("GET /Observation/x"), caller(), Environment(now, peer))

    assert isinstance(answer(day, "10.0.0.1"), Permit)
    assert isinstance(answer(night, "10.0.0.1"), Deny)
    assert isinstance(answer(day, "192.0.2.1"), Deny)


def test_elements_that_a_deny_takes_away_come_back_after_its_hours() -> None:
    hours = 'when: {hours: "08:00-18:00", zone: UTC}'
    deny = f"rule: d, effect: deny, may: [read], resources: [Observation], fields: [note], {hours}"
    engine = Engine(load(policy(OPEN, deny)), bases=BASES)
    noted = {"resourceType": "Observation", "id": "x", "note": [{"text": "n"}]}
    seen = []
    for hour in (12, 20):
        decision = engine.decide(
            ask("GET /Observation/x"),
            caller(),
            Environment(at(f"2026-03-06T{hour}:00:00+00:00"), "192.0.2.1"),
        )
        assert isinstance(decision, Permit)
        assert decision.judge is not None
        seen.append(decision.judge(noted).seen)
    assert seen[0] is not None
    assert "note" not in seen[0]
    assert seen[1] is None


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ('{hours: "08:00-18:00"}', "hours and days need the zone whose clocks are meant: 'zone: Europe/Amsterdam'"),
        ("{days: [mon]}", "hours and days need the zone whose clocks are meant"),
        ("{zone: UTC}", "a zone alone says no time: give 'hours' or 'days'"),
        ('{hours: "08:00-18:00", zone: Europe/Amsterdm}',
         "unknown time zone 'Europe/Amsterdm'. Did you mean 'Europe/Amsterdam'?"),
        ('{hours: "08:00-18:00", zone: europe/amsterdam}', "Did you mean 'Europe/Amsterdam'?"),
        ('{hours: "08:00-18:00", zone: Europe}', "unknown time zone 'Europe'."),
        ('{hours: "08:00-18:00", zone: ../../etc/passwd}', "unknown time zone '../../etc/passwd'."),
        ('{hours: "08:00-18:00", zone: localtime}', "unknown time zone 'localtime'."),
        ('{hours: "08:00-18:00", zone: "+01:00"}', "unknown time zone '+01:00'."),
        ('{hours: "8-18", zone: UTC}', "'8-18' are no hours: write them as 07:00-20:00"),
        ('{hours: "08:60-18:00", zone: UTC}', "names an hour that no clock shows"),
        ('{hours: "08:00-25:00", zone: UTC}', "names an hour that no clock shows"),
        ('{hours: "24:00-25:00", zone: UTC}', "names an hour that no clock shows"),
        ('{hours: "08:00-08:00", zone: UTC}', "is empty: the rule could never match. A whole day is 00:00-24:00"),
        ("{hours: [], zone: UTC}", "'hours' names nothing: the rule could never match"),
        ("{hours: {from: 8}, zone: UTC}", "hours must be a window such as '07:00-20:00', or a list, found a mapping"),
        ("{days: [], zone: UTC}", "'days' names nothing: the rule could never match"),
        ("{days: [monday], zone: UTC}", "unknown day 'monday'."),
        ("{hours: $offce-hours}", "no set of hours named '$offce-hours'. Did you mean 'office-hours'?"),
        ("{hours: $office-hours, zone: UTC}", "'zone' says nothing here: a set of hours has its own"),
        ("{hours: $office-hours, days: [sat]}", "'days' says nothing here: a set of hours has its own"),
        ('{hour: "08:00-18:00", zone: UTC}', "when has no key 'hour'. Did you mean 'hours'?"),
    ],
)  # fmt: skip
def test_hours_that_are_not_right_are_refused_at_their_place(when: str, message: str) -> None:
    (found,) = [problem for problem in problems(f"{OPEN}, when: {when}") if message in problem]
    assert found.startswith("2.yaml:7:")
    assert "error: " in found


def test_hours_of_a_list_that_overlap_are_named() -> None:
    assert problems(f'{OPEN}, when: {{hours: ["08:00-12:00", "12:00-14:00"], zone: UTC}}') == []
    (found,) = problems(f'{OPEN}, when: {{hours: ["08:00-12:00", "11:00-14:00"], days: [mon], zone: UTC}}')
    assert found.endswith("warning: hours '08:00-12:00 mon UTC' and '11:00-14:00 mon UTC' overlap")
    assert "overlap" in problems(f'{OPEN}, when: {{hours: ["22:00-06:00", "05:00-07:00"], zone: UTC}}')[0]
    assert "overlap" in problems(f"{OPEN}, when: {{hours: [$office-hours, $office-hours]}}")[0]


def test_a_set_of_hours_that_is_not_right_is_refused() -> None:
    wrong = "definitions: d\nversion: 1\nsets:\n  s: {hours: [$office-hours], zone: UTC}\n"
    assert "'$office-hours' are no hours" in problems(OPEN, definitions=wrong)[0]


# Validity


VALID = "{from: 2026-01-01, until: 2026-12-31}"


@pytest.mark.parametrize(
    ("valid", "time", "open_"),
    [
        (VALID, "2025-12-31T23:59:59+00:00", False),
        (VALID, "2026-01-01T00:00:00+00:00", True),
        (VALID, "2026-12-31T23:59:59+00:00", True),
        (VALID, "2027-01-01T00:00:00+00:00", False),
        ("{until: 2026-12-31}", "1990-01-01T00:00:00+00:00", True),
        ("{from: 2026-01-01}", "2090-01-01T00:00:00+00:00", True),
        ("{until: 2026-12-31, zone: Europe/Amsterdam}", "2026-12-31T22:59:59+00:00", True),
        ("{until: 2026-12-31, zone: Europe/Amsterdam}", "2026-12-31T23:00:00+00:00", False),
    ],
)
def test_a_policy_counts_from_its_first_day_until_the_end_of_its_last(
    valid: str, time: str, open_: bool
) -> None:
    assert isinstance(decided([OPEN], time, valid=valid), Permit) is open_


@pytest.mark.parametrize(
    "closing", ["effect: deny, may: [any], resources: any", "effect: require, when: {network: [10.0.0.0/8]}"]
)
def test_an_expired_policy_is_off_as_a_whole_and_says_so_at_load(closing: str) -> None:
    guards = policy(f"rule: guard, {closing}", name="guards").replace("text: t", f"text: t\nvalid: {VALID}")
    policies = load(policy(OPEN), guards)
    engine = Engine(policies, bases=BASES)

    def answer(time: str) -> Decision:
        return engine.decide(ask("GET /Observation/x"), caller(), Environment(at(time), "192.0.2.1"))

    assert isinstance(answer("2026-06-01T00:00:00+00:00"), Deny)
    assert isinstance(answer("2027-06-01T00:00:00+00:00"), Permit)
    assert checks.not_valid(policies.rules, at("2026-06-01T00:00:00+00:00")) == []
    (late,) = checks.not_valid(policies.rules, at("2027-06-01T00:00:00+00:00"))
    (early,) = checks.not_valid(policies.rules, at("2025-06-01T00:00:00+00:00"))
    assert str(late) == (
        "2.yaml:6:8: warning: the policy is expired: none of its rules counts any more, and what they denied is "
        "denied no longer; valid from 2026-01-01 until 2026-12-31 (UTC)"
    )
    assert "warning: the policy is not valid yet" in str(early)


@pytest.mark.parametrize(
    ("valid", "message"),
    [
        ("{}", "valid must say from or until which day"),
        ("2026", "valid must be a mapping, found a number"),
        ("{from: 2026}", "'2026' is no day: write it as 2026-12-31"),
        ("{from: 2026-13-01}", "'2026-13-01' is no day"),
        ("{from: 2026-02-01, until: 2026-01-31}", "valid ends on 2026-01-31, before it begins"),
        ("{from: 2026-02-01, zone: Mars}", "unknown time zone 'Mars'."),
        ("{form: 2026-02-01}", "valid has no key 'form'. Did you mean 'from'?"),
    ],
)
def test_a_validity_that_is_not_right_is_refused(valid: str, message: str) -> None:
    assert [found for found in problems(OPEN, valid=valid) if message in found and ": error: " in found]


# Tests in the file


def said_by(test: str) -> tuple[str, ...]:
    """What the tests of a policy with office hours say."""
    text = policy(f"{OPEN}, when: {{hours: $office-hours}}", tests=f"  - {test}\n")
    return tuple(problem.message for problem in selftest.run(load(SETS, text)).failures)


SHOWN = "request: GET /Observation/x, expect: {decision: permit}"


def test_a_test_takes_place_when_it_says() -> None:
    assert said_by(f'{{test: t, as: {{context: user, time: "2026-03-06T19:59:00+01:00"}}, {SHOWN}}}') == ()
    assert (
        "decision is deny"
        in said_by(f'{{test: t, as: {{context: user, time: "2026-03-06T20:00:00+01:00"}}, {SHOWN}}}')[0]
    )


@pytest.mark.parametrize("time", ["2026-03-06T12:00:00", "noon", "2026-03-06", "1800000000"])
def test_a_time_without_its_offset_is_no_time(time: str) -> None:
    (found,) = said_by(f'{{test: t, as: {{context: user, time: "{time}"}}, {SHOWN}}}')
    assert "expected a time with its offset such as 2026-03-02T02:00:00+01:00" in found


@pytest.mark.parametrize("valid", ["{until: 2020-05-15}", "{from: 2031-05-16}"])
def test_a_test_without_a_time_takes_place_while_its_policy_is_valid(valid: str) -> None:
    text = policy(OPEN, tests=f"  - {{test: t, as: {{context: user}}, {SHOWN}}}\n")
    policies = load(text.replace("status: enforce\n", f"status: enforce\nvalid: {valid}\n"))
    assert selftest.run(policies).failures == ()


def test_how_long_ago_somebody_signed_in_is_counted_from_the_time_of_the_test() -> None:
    rule = f"{OPEN}, when: {{signed_in_within: 10m}}"
    said = 'time: "2020-01-01T00:00:00Z"'
    tests = f"  - {{test: t, as: {{context: user, signed_in: 5m, {said}}}, {SHOWN}}}\n"
    late = tests.replace("5m", "11m")
    assert selftest.run(load(policy(rule, tests=tests))).failures == ()
    assert selftest.run(load(policy(rule, tests=late))).failures != ()


def test_a_deny_in_some_hours_covers_no_permit_and_hours_are_a_change_of_a_rule() -> None:
    deny = 'rule: d, effect: deny, may: [any], resources: any, when: {hours: "08:00-18:00", zone: UTC}'
    assert problems(OPEN, deny) == []
    (rule,) = load(SETS, policy(f"{OPEN}, when: {{hours: $night}}")).rules
    assert replace(rule, hours=None) != rule

"""Policies in shadow are decided beside those in force, and never change an answer; policies that are off are tested."""

from typing import Any

import pytest

from gateway.policy import by_list
from gateway.policy.decision import Decision, Deny, Environment, Nothing, Permit
from gateway.policy.engine import Engine
from gateway.policy.inquiries.coverage import coverage
from gateway.policy.inquiries.explanation import explain
from gateway.policy.inquiries.explanation_words import as_json, as_lines
from gateway.policy.known import Known
from gateway.policy.language import PolicyErrors
from gateway.policy.selftests import selftest
from gateway.policy.shadow import Shadows
from tests.support.policies import BASES, HERE, NOW, ask, caller, load, policy, resource, shows

READ = "may: [read, search, history-instance]"
OPEN = f"rule: open, effect: permit, {READ}, resources: [Observation], shared: true"
MINE = 'where: {compartment: {patient: "{token.patient}"}}'
OWN = f"rule: own, effect: permit, {READ}, resources: [Observation], {MINE}"
OF_FINAL = "where: {match: {Observation: status=final}}"
DENY_FINAL = f"rule: not-final, effect: deny, {READ}, resources: [Observation], {OF_FINAL}"
FINAL, DRAFT = resource("Observation", "f", status="final"), resource("Observation", "d", status="draft")


def shadow(*rules: str, name: str = "later", status: str = "shadow", tests: str = "") -> str:
    """A policy that is not in force."""
    return policy(*rules, name=name, tests=tests).replace("status: enforce", f"status: {status}")


def beside(
    *files: str, text: str = "GET /Observation?code=x", given: tuple[dict[str, Any], ...] = (), **claims: Any
) -> tuple[Decision, list[dict[str, object]]]:
    """The decision of these files, and what is on record of the shadow once these resources were judged."""
    engine = Engine(load(*files), bases=BASES)
    shadows = Shadows()
    who = caller(**claims)
    decision = engine.decide(ask(text), who, HERE)
    compared = shadows.beside(engine, ask(text), who, HERE, (), decision)
    for each in given:
        assert isinstance(compared, Permit)
        assert isinstance(decision, Permit)
        assert compared.judge is not None
        assert decision.judge is not None
        assert compared.judge(each) == decision.judge(each)
    if isinstance(decision, Permit):
        assert isinstance(compared, Permit)
        assert (compared.request, compared.added, compared.exact) == (
            decision.request, decision.added, decision.exact,
        )  # fmt: skip
    else:
        assert compared is decision
    return compared, shadows.record()


def test_a_shadow_that_would_refuse_the_request_changes_nothing_but_the_record() -> None:
    deny = f"rule: shut, effect: deny, {READ}, resources: [Observation]"
    decision, record = beside(policy(OPEN), shadow(deny))
    assert isinstance(decision, Permit)
    assert record == [{"policy": "later", "would": ["deny"], "rules": ["later/shut"]}]


def test_a_shadow_that_would_permit_opens_nothing() -> None:
    decision, record = beside(policy(OWN), shadow(OPEN), context="user")
    assert isinstance(decision, Deny)
    assert record == [{"policy": "later", "would": ["permit"], "rules": ["later/open"]}]


def test_entries_that_a_shadow_would_hide_are_shown_and_counted() -> None:
    decision, record = beside(policy(OPEN), shadow(DENY_FINAL), given=(FINAL, DRAFT, FINAL))
    assert shows(decision, FINAL)
    assert record == [
        {"policy": "later", "would": ["hide"], "rules": ["later/not-final"], "entries": {"hide": 1}}
    ]


def test_entries_that_a_shadow_would_show_stay_hidden_and_are_counted() -> None:
    in_force = f"{OWN[:-1]}, match: {{Observation: status=draft}}}}"
    stranger = resource("Observation", "s", status="final", subject="B")
    decision, record = beside(
        policy(in_force), shadow(OWN.replace("own", "wide")), given=(stranger,), context="patient", patient="B",
        text="GET /Observation/s/_history",
    )  # fmt: skip
    assert not shows(decision, stranger)
    assert record == [
        {"policy": "later", "would": ["permit"], "rules": ["later/wide"], "entries": {"permit": 1}}
    ]


def test_a_read_that_a_shadow_would_refuse_says_deny_and_counts_no_entries() -> None:
    _, record = beside(policy(OPEN), shadow(DENY_FINAL), text="GET /Observation/f", given=(FINAL,))
    assert record == [{"policy": "later", "would": ["deny"], "rules": ["later/not-final"]}]


def test_elements_that_a_shadow_would_take_away_are_seen_and_said() -> None:
    fields = f"rule: no-status, effect: deny, {READ}, resources: [Observation], fields: [status]"
    decision, record = beside(policy(OPEN), shadow(fields), text="GET /Observation/f", given=(FINAL,))
    assert isinstance(decision, Permit)
    assert decision.judge is not None
    assert decision.judge(FINAL).seen is None
    assert record == [{"policy": "later", "would": ["hide"], "rules": ["later/no-status"]}]


def test_a_search_that_would_find_nothing_or_something() -> None:
    nobody = f"rule: none, effect: require, {READ}, resources: [Observation], where: {{compartment: {{patient: Z}}}}"
    decision, record = beside(policy(OWN), shadow(nobody), context="patient", patient="A")
    assert isinstance(decision, Permit)
    assert record[0]["would"] == ["hide"]
    decision, record = beside(policy(OWN, nobody), shadow(OPEN), context="patient", patient="A")
    assert isinstance(decision, Nothing)
    assert record == []


def test_several_shadows_are_told_apart_and_one_that_would_change_nothing_is_silent() -> None:
    deny = f"rule: shut, effect: deny, {READ}, resources: [Observation]"
    again = OPEN.replace("open", "again")
    _, record = beside(
        policy(OPEN), shadow(deny, name="a"), shadow(again, name="b"), shadow(DENY_FINAL, name="c")
    )
    assert [each["policy"] for each in record] == ["a"]


@pytest.mark.parametrize("where", ["decide", "judge"])
def test_a_shadow_that_fails_changes_no_answer(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(load(policy(OPEN), shadow(DENY_FINAL)), bases=BASES)
    shadows = Shadows()

    def fail(*_: object, **__: object) -> Any:
        raise MemoryError

    other = engine.shadows["later"]
    broken = fail
    if where == "judge":
        permit = other.decide(ask("GET /Observation/f"), caller(), HERE)
        assert isinstance(permit, Permit)
        object.__setattr__(permit, "judge", fail)

        def broken(*_: object, **__: object) -> Any:
            return permit

    monkeypatch.setattr(other, "decide", broken)
    decision = engine.decide(ask("GET /Observation/f"), caller(), HERE)
    compared = shadows.beside(engine, ask("GET /Observation/f"), caller(), HERE, (), decision)
    assert shows(compared, FINAL)
    assert [each["would"] for each in shadows.record()] == [["unknown"]]


def test_what_a_shadow_would_have_to_look_up_is_not_told_and_not_looked_up() -> None:
    consent = "where: {consent: {scope: research, decision: permit}}"
    require = f"rule: asks, effect: require, {READ}, resources: [Observation], {consent}"
    engine = Engine(load(policy(OPEN), shadow(require)), bases=BASES)
    known = Known()
    environment = Environment(NOW, "192.0.2.1", known=known)
    shadows = Shadows()
    decision = engine.decide(ask("GET /Observation/f"), caller(), environment)
    compared = shadows.beside(engine, ask("GET /Observation/f"), caller(), environment, (), decision)
    about = resource("Observation", "f", subject="A")
    assert shows(compared, about)
    assert [each["would"] for each in shadows.record()] == [["unknown"]]
    assert not known.wanted()
    assert not known.judges_ask


def test_the_resources_that_are_compared_are_bounded_and_each_counts_once() -> None:
    many = tuple(resource("Observation", f"o{n}", status="final") for n in range(1200))
    _, record = beside(policy(OPEN), shadow(DENY_FINAL), given=many)
    assert record[0]["entries"] == {"hide": 1000}


def test_what_a_shadow_would_do_is_counted_once_for_a_request() -> None:
    engine = Engine(load(policy(OPEN), shadow(DENY_FINAL)), bases=BASES)
    shadows = Shadows()
    decision = engine.decide(ask("GET /Observation"), caller(), HERE)
    compared = shadows.beside(engine, ask("GET /Observation"), caller(), HERE, (), decision)
    assert list(shadows.uncounted()) == []
    assert shows(compared, FINAL)
    assert list(shadows.uncounted()) == [("later", "hide")]
    assert shows(compared, {**FINAL, "id": "g"})
    assert list(shadows.uncounted()) == []


# Tests in the file


def test_the_tests_of_a_policy_in_shadow_or_off_run_as_if_it_were_enforced() -> None:
    said = "  - {{test: t, as: {{context: user}}, request: GET /Observation/x, expect: {{decision: {}}}}}\n"
    for status in ("shadow", "off"):
        right = load(shadow(OPEN, status=status, tests=said.format("permit")))
        wrong = load(shadow(OPEN, status=status, tests=said.format("deny")))
        assert selftest.run(right) == selftest.SelfTestReport(1, (), ())
        assert len(selftest.run(wrong).failures) == 1
        assert right.rules == ()
        assert isinstance(Engine(right, bases=BASES).decide(ask("GET /Observation/x"), caller(), HERE), Deny)
        (covered,) = coverage(right)
        assert covered.permits == ("t",)


def test_the_tests_of_policies_in_force_do_not_see_the_shadow() -> None:
    said = "  - {test: t, as: {context: user}, request: GET /Observation/x, expect: {decision: permit}}\n"
    deny = f"rule: shut, effect: deny, {READ}, resources: [Observation]"
    shut = said.replace("permit", "deny")
    assert selftest.run(load(policy(OPEN, tests=said), shadow(deny, tests=shut))).failures == ()


def test_more_policies_in_shadow_than_can_be_decided_beside_each_request_are_refused() -> None:
    rules = [OPEN.replace("open", f"r{n}") for n in range(9)]
    files = [shadow(rule, name=f"p{n}") for n, rule in enumerate(rules)]
    assert len(Engine(load(*files[:8]), bases=BASES).shadows) == 8
    with pytest.raises(PolicyErrors, match="at most 8 policies can be in shadow at a time"):
        load(*files)


def test_a_rule_in_shadow_that_can_never_match_is_named_and_names_are_unique_over_all_policies() -> None:
    never = f"rule: none, effect: deny, {READ}, resources: [Observation], who: {{role: []}}"
    with pytest.raises(PolicyErrors, match="could never match"):
        load(policy(OPEN), shadow(never))
    with pytest.raises(PolicyErrors, match="rule name 'open' is used twice"):
        load(policy(OPEN), shadow(OPEN))


# Explanations


def test_an_explanation_says_what_a_policy_in_shadow_would_do() -> None:
    engine = Engine(load(policy(OPEN), shadow(DENY_FINAL)), bases=BASES)
    found = explain(engine, ask("GET /Observation/f"), caller(), HERE, resource=FINAL)
    assert found.verdict is not None
    assert found.verdict.shown
    assert "in shadow, policy later would: deny, by later/not-final" in as_lines(found)
    assert as_json(found)["shadow"] == [{"policy": "later", "would": ["deny"], "rules": ["later/not-final"]}]
    plain = explain(engine, ask("GET /Observation/d"), caller(), HERE, resource=DRAFT)
    assert "shadow" not in as_json(plain)


def test_the_members_of_a_list_are_compared_once_the_list_is_read() -> None:
    opening = OPEN.replace("[Observation]", "[Observation, List]") + ", query: {open: [_list]}"
    engine = Engine(load(policy(opening), shadow(DENY_FINAL)), bases=BASES)
    asked, shadows = ask("GET /Observation?_list=l"), Shadows()
    compared = shadows.beside(engine, asked, caller(), HERE, (), engine.decide(asked, caller(), HERE))
    assert isinstance(compared, Permit)
    read = by_list.read(compared)
    assert [shows(read, each) for each in (FINAL, DRAFT)] == [True, True]
    (difference,) = shadows.differences
    assert difference.as_record()["entries"] == {"hide": 1}

"""Rules that ask for a sign-in: how (acr) and how long ago (signed_in_within), and the challenge that they become."""

from typing import Any

import pytest

from gateway.fhir.outcome import Reason
from gateway.policies_folder import PoliciesRefused, load_policies
from gateway.policy import language
from gateway.policy.decision import Decision, Deny, Nothing, Permit, StepUp
from gateway.policy.language import PolicyErrors
from gateway.policy.selftests import selftest
from tests.support.policies import DEFINITIONS, NOW, caller, decide, policy

PASSWORD, STRONG = "urn:securus:acr:password", "urn:example:strong"
OPEN = "rule: open, effect: permit, may: [read, search, create], resources: [Observation], shared: true"
FRESH = "rule: fresh, effect: require, who: {context: user}, when: {signed_in_within: 10m}"
BY_PASSWORD = f"rule: pw, effect: require, who: {{acr: '{PASSWORD}'}}"


def asked(
    rules: list[str], text: str = "GET /Observation/x", *, context: str = "user", **claims: Any
) -> Decision:
    return decide(rules, caller(context, **claims), text)


def step_up(decision: Decision) -> StepUp | None:
    """The challenge of a refusal, which then has the reason of one."""
    assert isinstance(decision, Deny)
    assert (decision.reason is Reason.STEP_UP_REQUIRED) == (decision.step_up is not None)
    return decision.step_up


@pytest.mark.parametrize(
    "text", ["GET /Observation/x", "GET /Observation", "POST /Observation", "POST /Observation/_search"]
)
def test_a_sign_in_that_is_too_old_is_a_challenge_and_a_newer_one_passes(text: str) -> None:
    assert step_up(asked([OPEN, FRESH], text, auth_time=NOW - 601)) == StepUp((), 600)
    assert isinstance(asked([OPEN, FRESH], text, auth_time=NOW - 600), Permit)
    assert isinstance(asked([OPEN, FRESH], text, auth_time=NOW), Permit)


@pytest.mark.parametrize("at", [..., None, "now", True, NOW + 61, [NOW], float(NOW), {}, str(NOW)])
def test_case_306_what_the_token_does_not_say_was_not_done(at: Any) -> None:
    claims = {} if at is ... else {"auth_time": at}
    assert step_up(asked([OPEN, FRESH], **claims)) == StepUp((), 600)


@pytest.mark.parametrize(
    "acr", [..., None, "", "urn:other", [PASSWORD], True, PASSWORD.upper(), f"{PASSWORD} x"]
)
def test_case_306_an_acr_that_is_missing_or_another_is_a_challenge(acr: Any) -> None:
    claims = {} if acr is ... else {"acr": acr}
    assert step_up(asked([OPEN, BY_PASSWORD], **claims)) == StepUp((PASSWORD,), None)
    assert isinstance(asked([OPEN, BY_PASSWORD], acr=PASSWORD), Permit)


def test_a_require_is_about_those_whom_its_who_names() -> None:
    """acr is not whom it is about but what it asks for."""
    assert isinstance(asked([OPEN, FRESH], context="system"), Permit)
    rule = f"rule: r, effect: require, who: {{role: nurse, acr: '{STRONG}'}}"
    assert isinstance(asked([OPEN, rule], roles=["physician"]), Permit)
    assert step_up(asked([OPEN, rule], roles=["nurse"], acr=PASSWORD)) == StepUp((STRONG,), None)


def test_a_permit_asks_too() -> None:
    permit = OPEN + f", who: {{acr: '{STRONG}'}}, when: {{signed_in_within: 5m}}"
    assert step_up(asked([permit], acr=PASSWORD, auth_time=NOW)) == StepUp((STRONG,), 300)
    assert isinstance(asked([permit], acr=STRONG, auth_time=NOW), Permit)


def test_a_permit_that_holds_needs_no_other() -> None:
    strong = f"rule: s, effect: permit, who: {{acr: '{STRONG}'}}, may: [read], resources: [Observation], shared: true"
    assert isinstance(asked([OPEN, strong], acr=PASSWORD), Permit)


def test_the_least_demanding_permit_is_asked_for_with_every_require() -> None:
    may = "may: [read], resources: [Observation], shared: true"
    hard = f"rule: a, effect: permit, who: {{acr: '{STRONG}'}}, when: {{signed_in_within: 1m}}, {may}"
    easy = f"rule: b, effect: permit, when: {{signed_in_within: 1h}}, {may}"
    for rules in ([hard, easy], [easy, hard]):
        assert step_up(asked(rules)) == StepUp((), 3600)
        assert step_up(asked([*rules, FRESH])) == StepUp((), 600)
        assert step_up(asked([*rules, BY_PASSWORD], acr=PASSWORD)) == StepUp((PASSWORD,), 3600)


def test_several_requires_are_asked_for_at_once() -> None:
    """A challenge that named one only would be followed by another."""
    either = (
        f"rule: e, effect: require, who: {{acr: [{STRONG}, '{PASSWORD}']}}, when: {{signed_in_within: 1h}}"
    )
    assert step_up(asked([OPEN, FRESH, either, BY_PASSWORD])) == StepUp((PASSWORD,), 600)
    assert step_up(asked([OPEN, FRESH, either], acr=STRONG, auth_time=NOW - 700)) == StepUp(
        (STRONG, PASSWORD), 600
    )


def test_what_no_sign_in_can_meet_is_a_plain_refusal() -> None:
    strong = f"rule: s, effect: require, who: {{acr: '{STRONG}'}}"
    decision = asked([OPEN, strong, BY_PASSWORD], acr=PASSWORD)
    assert isinstance(decision, Deny)
    assert (decision.reason, decision.step_up) == (Reason.POLICY_DENIED, None)


def test_a_client_by_itself_is_not_asked_to_sign_in() -> None:
    for rule in (
        f"rule: s, effect: require, who: {{acr: '{PASSWORD}'}}",
        "rule: s, effect: require, when: {signed_in_within: 1h}",
    ):
        decision = asked([OPEN, rule], context="system")
        assert isinstance(decision, Deny)
        assert (decision.reason, decision.step_up) == (Reason.POLICY_DENIED, None)


def test_nobody_is_sent_to_sign_in_for_what_stays_closed() -> None:
    closed = "rule: c, effect: deny, may: [read], resources: [Observation]"
    decision = asked([OPEN, FRESH, closed])
    assert isinstance(decision, Deny)
    assert (decision.reason, decision.step_up) == (Reason.POLICY_DENIED, None)
    nothing = asked([FRESH])
    assert isinstance(nothing, Deny)
    assert (nothing.reason, nothing.step_up) == (Reason.NO_PERMIT, None)
    scope = asked([OPEN, FRESH], scope="user/Condition.rs")
    assert isinstance(scope, Deny)
    assert scope.reason is Reason.SCOPE_INSUFFICIENT


def test_a_require_of_a_place_is_not_lifted_by_a_sign_in() -> None:
    both = "rule: b, effect: require, when: {signed_in_within: 10m, network: 10.0.0.0/8}"
    decision = asked([OPEN, both], auth_time=NOW - 700)
    assert isinstance(decision, Deny)
    assert decision.reason is Reason.POLICY_DENIED
    assert step_up(decide([OPEN, both], caller(), "GET /Observation/x", peer="10.1.2.3")) == StepUp((), 600)


def test_a_deny_of_an_acr_stays_a_deny() -> None:
    deny = (
        f"rule: d, effect: deny, who: {{acr: {{not: ['{STRONG}']}}}}, may: [read], resources: [Observation]"
    )
    decision = asked([OPEN, deny], acr=PASSWORD)
    assert isinstance(decision, Deny)
    assert decision.reason is Reason.POLICY_DENIED
    assert isinstance(asked([OPEN, deny], acr=STRONG), Permit)
    absent = asked([OPEN, deny])
    assert not isinstance(absent, Permit | Nothing)


# Reading

ORDERED = DEFINITIONS + f"acr: ['{PASSWORD}', '{STRONG}', 'urn:example:strongest']\n"


def loaded(rule: str, definitions: str = ORDERED) -> language.PolicySet:
    return language.load({"0.yaml": definitions, "1.yaml": policy(rule)})


def test_at_least_is_a_value_and_every_stronger_one() -> None:
    rule = loaded(f"{OPEN}, who: {{acr: at-least-{STRONG}}}").rules[0]
    assert rule.sign_in.acr == (STRONG, "urn:example:strongest")
    assert loaded(f"{OPEN}, who: {{acr: [at-least-{STRONG}, '{PASSWORD}']}}").rules[0].sign_in.acr == (
        STRONG, "urn:example:strongest", PASSWORD,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (f"{OPEN}, who: {{acr: at-least-urn:example:stronk}}", "acr has no value 'urn:example:stronk'. Did you mean"),
        (f"{OPEN}, who: {{acr: urn:example:stronk}}", "Did you mean 'urn:example:strong'?"),
        (f"{OPEN}, who: {{acr: 'two words'}}", "'two words' is not an acr: ASCII without spaces"),
        (f"{OPEN}, who: {{acr: 'a\"b'}}", "is not an acr"),
        (f"{OPEN}, who: {{acr: []}}", "'acr' names nothing"),
        (f"{OPEN}, when: {{signed_in_within: 10}}", "signed_in_within must be a duration with its unit, such as 10m"),
        (f"{OPEN}, when: {{signed_in_within: 0m}}", "must be a duration with its unit"),
        (f"{OPEN}, when: {{signed_in_within: 30s}}", "signed_in_within must be 1m to 400d"),
        (f"{OPEN}, when: {{signed_in_within: 401d}}", "signed_in_within must be 1m to 400d"),
        (f"{OPEN}, when: {{signed_in_witin: 10m}}", "when has no key 'signed_in_witin'. Did you mean 'signed_in_within'?"),
        (f"{OPEN}, who: {{context: system}}, when: {{signed_in_within: 10m}}", "a client by itself never signs in"),
        (f"rule: r, effect: require, who: {{acr: {{not: ['{PASSWORD}']}}}}", "a require says which acr must be reached"),
    ],
)  # fmt: skip
def test_a_sign_in_that_is_not_right_is_refused_at_its_place(rule: str, message: str) -> None:
    with pytest.raises(PolicyErrors) as error:
        loaded(rule)
    assert len(error.value.problems) == 1
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("acr: [a, a]", "acr names a value twice"),
        ("acr: []", "'acr' names nothing"),
        ("acr: ['a b']", "is not an acr"),
    ],
)
def test_an_order_that_is_not_right_is_refused(line: str, message: str) -> None:
    with pytest.raises(PolicyErrors, match=message):
        loaded(OPEN, DEFINITIONS + line + "\n")


def test_two_orders_are_one_too_many() -> None:
    more = {"0.yaml": ORDERED, "2.yaml": "definitions: more\nversion: 1\nacr: [x]\n", "1.yaml": policy(OPEN)}
    with pytest.raises(PolicyErrors, match="is defined twice"):
        language.load(more)


def test_an_acr_that_nobody_can_reach_here_is_warned_of() -> None:
    warnings = [str(w) for w in loaded(f"{OPEN}, who: {{acr: {STRONG}}}", DEFINITIONS).warnings]
    assert [w for w in warnings if f"nobody can sign in here so that acr is {STRONG}" in w]
    quiet = [str(w) for w in loaded(f"{OPEN}, who: {{acr: '{PASSWORD}'}}", DEFINITIONS).warnings]
    assert not [w for w in quiet if "nobody can sign in" in w]


# Tests in policy files


def run(test: str) -> selftest.SelfTestReport:
    text = policy(OPEN, FRESH, BY_PASSWORD, tests=f"  - {{test: t, request: GET /Observation/x, {test}}}\n")
    return selftest.run(language.load({"0.yaml": DEFINITIONS, "1.yaml": text}))


OLD = f"as: {{acr: '{PASSWORD}', signed_in: 11m}}"


@pytest.mark.parametrize(
    "test",
    [
        f"{OLD}, expect: {{decision: deny, status: 401, reason: step-up-required, rule: fresh, max_age: 600}}",
        f"{OLD}, expect: {{acr_values: ['{PASSWORD}']}}",
        f"as: {{acr: '{PASSWORD}', signed_in: 9m}}, expect: {{decision: permit, max_age: null}}",
        f"as: {{acr: '{PASSWORD}', signed_in: never}}, expect: {{status: 401, max_age: 600}}",
        "as: {signed_in: 1m, acr: other}, expect: {status: 401, rule: pw, upstream: none}",
        "as: {signed_in: never}, expect: {status: 401}",
        "as: {context: user}, expect: {decision: permit}",
        "as: {context: system}, expect: {status: 403, rule: pw}",
    ],
)  # fmt: skip
def test_a_test_says_how_long_ago_the_person_signed_in(test: str) -> None:
    assert run(test).failures == ()


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (f"{OLD}, expect: {{decision: permit}}", "decision is deny, expected permit"),
        (f"{OLD}, expect: {{max_age: 601}}", "max_age is 600, expected 601"),
        (f"{OLD}, expect: {{acr_values: []}}", f"acr_values is ['{PASSWORD}'], expected []"),
        (
            "as: {signed_in: yesterday}, expect: {status: 401}",
            "'signed_in' must say how long ago, such as 5m, or never",
        ),
    ],
)
def test_a_test_that_says_something_else_fails(test: str, message: str) -> None:
    assert message in str(run(test).failures[0])


def test_a_set_whose_test_of_a_sign_in_fails_stays_out_of_force() -> None:
    failing = policy(
        OPEN, tests=f"  - {{test: t, request: GET /Observation/x, {OLD}, expect: {{status: 401}}}}\n"
    )
    with pytest.raises(PoliciesRefused):
        load_policies({"0.yaml": DEFINITIONS, "1.yaml": failing})


# On the way of a join

CHARTS = (
    "rule: charts, effect: permit, may: [read, search], resources: [Observation], shared: true, "
    "query: {chain_depth: 2, include: any-permitted}"
)
PEOPLE = "rule: people, effect: permit, may: [read, search], resources: [Patient, Practitioner], shared: true"
FRESH_FOR_PEOPLE = f"{FRESH}, may: [any], resources: [Patient]"
STRONG_FOR_STAFF = (
    f"rule: strong, effect: require, who: {{acr: '{STRONG}'}}, may: [any], resources: [Practitioner]"
)


@pytest.mark.parametrize(
    "query", ["subject:Patient.name=x", "_include=Observation:subject:Patient", "patient.birthdate=1990"]
)
def test_a_join_that_another_sign_in_would_open_is_a_challenge(query: str) -> None:
    rules = [CHARTS, PEOPLE, FRESH_FOR_PEOPLE]
    assert step_up(asked(rules, f"GET /Observation?{query}", auth_time=NOW - 601)) == StepUp((), 600)
    assert isinstance(asked(rules, f"GET /Observation?{query}", auth_time=NOW), Permit)


def test_one_challenge_names_what_every_hop_of_a_join_wants() -> None:
    rules = [CHARTS, PEOPLE, FRESH_FOR_PEOPLE, STRONG_FOR_STAFF]
    query = "GET /Observation?patient.name=x&performer:Practitioner.name=y"
    assert step_up(asked(rules, query, auth_time=NOW - 601)) == StepUp((STRONG,), 600)
    assert isinstance(asked(rules, query, auth_time=NOW, acr=STRONG), Permit)


def test_nobody_signs_in_for_a_join_that_stays_closed() -> None:
    closed = "rule: closed, effect: deny, may: [search], resources: [Patient], where: {ids: [vip]}"
    rules = [CHARTS, PEOPLE, FRESH_FOR_PEOPLE, closed]
    found = asked(rules, "GET /Observation?subject:Patient.name=x", auth_time=NOW - 601)
    assert isinstance(found, Deny)
    assert (found.reason, found.step_up) == (Reason.JOIN_CLOSED, None)

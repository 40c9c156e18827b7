"""`then` and `break_glass`: what the loader takes, what the engine says is owed, and which requests open a chart."""

from typing import Any

import pytest

from gateway.fhir.outcome import Reason
from gateway.policy.break_glass import is_reason, one_patient
from gateway.policy.decision import Decision, Deny, Environment, Permit
from gateway.policy.inquiries.explanation import explain
from gateway.policy.inquiries.explanation_parts import Outcome, Truth
from gateway.policy.inquiries.permission import not_said
from gateway.policy.inquiries.replay import read_record
from gateway.policy.language import PolicyErrors
from gateway.policy.obligations import (
    NO_OBLIGATIONS,
    BreakGlass,
    Emergency,
    EmergencyAccess,
    Obligations,
    Rate,
)
from tests.support.policies import BASES, NOW, ask, caller, decide, engine, load, policy, resource, shows

OPEN = "effect: permit, may: [read, search, create], resources: [Observation], shared: true"
GLASS = (
    "rule: glass, effect: permit, who: {context: user, role: [physician], purpose: [BTG]}, may: [read, vread, search],"
    " resources: [Patient, Observation, Condition],"
    " break_glass: {one_patient: true, lasts: 60m, reason: {at_least: 10, at_most: 40}}"
)
REASON = "unconscious in bay 4"
DOCTOR = caller(roles=["physician"], purpose_of_use=["BTG"])


def mistakes(rule: str) -> list[str]:
    """What the loader says of a rule."""
    with pytest.raises(PolicyErrors) as error:
        load(policy(rule))
    return [problem.message for problem in error.value.problems]


@pytest.mark.parametrize(
    ("then", "message"),
    [
        ("{rate: 30/minute}", "rate is '30/minute', expected a number in a time, such as 5/s, 30/min, 1000/h or 500/d"),
        ("{rate: 0/s}", "rate is '0/s', expected a number in a time, such as 5/s, 30/min, 1000/h or 500/d"),
        ("{rate: -1/s}", "rate is '-1/s', expected a number in a time, such as 5/s, 30/min, 1000/h or 500/d"),
        ("{rate: 30}", "rate is '30', expected a number in a time, such as 5/s, 30/min, 1000/h or 500/d"),
        ("{notify: []}", "'notify' names nobody"),
        ("{notify: ['a b']}", "'a b' is no name of a receiver: letters, digits, '.', '_' and '-'"),
        ("{notify: [a, a]}", "receiver 'a' is named twice"),
        ("{answer: minimum}", "unknown answer 'minimum'. Did you mean 'minimal'?"),
        ("{headers: {Content-Type: text/html}}",
         "header 'Content-Type' is set by the gateway: a rule does not change it"),
        ("{headers: {content-security-policy: x}}",
         "header 'content-security-policy' is set by the gateway: a rule does not change it"),
        ("{headers: {Access-Control-Allow-Origin: '*'}}",
         "header 'Access-Control-Allow-Origin' is set by the gateway: a rule does not change it"),
        ("{headers: {Set-Cookie: a=b}}", "header 'Set-Cookie' is set by the gateway: a rule does not change it"),
        ('{headers: {X-Note: "a\\r\\nSet-Cookie: b=c"}}',
         "header X-Note must be one line of 1 to 200 printable ASCII characters"),
        ('{headers: {X-Note: "ü"}}', "header X-Note must be one line of 1 to 200 printable ASCII characters"),
        ("{headers: {'X Note': a}}", "'X Note' is no name of a header: letters, digits and '-'"),
        ('{headers: {"X-Note:a\\r\\nX-B": a}}', "'X-Note:a\r\nX-B' is no name of a header: letters, digits and '-'"),
        ("{headers: {X-A: b}, answer_headers: {x-a: c}}", "header 'x-a' is given twice"),
        ("{rates: 5/s}", "then has no key 'rates'. Did you mean 'rate'?"),
    ],
)  # fmt: skip
def test_then_that_is_not_right_is_refused(then: str, message: str) -> None:
    assert [said for said in mistakes(f"rule: r, {OPEN}, then: {then}") if said.startswith(message)]


@pytest.mark.parametrize("key", ["rate: 5/s", "notify: [a]", "answer: minimal", "headers: {X-A: b}"])
def test_what_follows_from_a_permit_follows_from_no_refusal(key: str) -> None:
    name = key.partition(":")[0]
    for effect, other in (("deny", ""), ("require", ", where: {ids: [x]}")):
        found = mistakes(
            f"rule: r, effect: {effect}, may: [read], resources: [Patient]{other}, then: {{{key}}}"
        )
        assert f"'{name}' follows from a permit: a {effect} answers with a refusal" in found


def test_a_minimal_answer_is_about_writes() -> None:
    found = mistakes(
        "rule: r, effect: permit, may: [read], resources: [Patient], shared: true, then: {answer: minimal}"
    )
    assert found == ["'answer: minimal' is about writes: add create, update or patch to may, or take it away"]


def owed(decision: Decision) -> Obligations:
    assert isinstance(decision, Permit)
    return decision.obligations


def test_obligations_of_all_matching_permits_are_united_in_any_order() -> None:
    one = f"rule: b, {OPEN}, then: {{rate: 30/min, notify: [x], headers: {{X-A: one, X-B: b}}}}"
    other = (
        f"rule: a, {OPEN}, then: {{rate: 5/s, notify: [y, x], answer: minimal, answer_headers: {{x-a: two}}}}"
    )
    silent = f"rule: c, {OPEN}"
    expected = Obligations(
        rates=(("p/a", Rate(5, 1)), ("p/b", Rate(30, 60))),
        notify=(("x", ("p/a", "p/b")), ("y", ("p/a",))),
        minimal=True,
        headers=(("x-a", "two"), ("X-B", "b")),
    )
    assert owed(decide([one, other, silent], caller(), "GET /Observation/x")) == expected
    assert owed(decide([silent, other, one], caller(), "GET /Observation?code=x")) == expected
    assert owed(decide([silent, other, one], caller(), "POST /Observation")) == expected


def test_a_permit_that_does_not_match_obliges_to_nothing() -> None:
    quiet = f"rule: a, {OPEN}"
    nurse = f"rule: b, who: {{role: [nurse]}}, {OPEN}, then: {{rate: 5/s}}"
    assert owed(decide([quiet, nurse], caller(), "GET /Observation/x")) is NO_OBLIGATIONS
    assert owed(decide([quiet, nurse], caller(roles=["nurse"]), "GET /Observation/x")).rates


def test_an_operation_obliges_to_what_opens_it_and_to_what_it_searches_by() -> None:
    opens = (
        "rule: op, effect: permit, may: ['operation:Observation/$lastn'], resources: [Observation], shared: true,"
        " then: {rate: 5/s}"
    )
    reads = f"rule: r, {OPEN}, then: {{rate: 7/s}}"
    found = owed(decide([opens, reads], caller(), "GET /Observation/$lastn?patient=A"))
    assert {rule for rule, _ in found.rates} == {"p/op", "p/r"}


# Emergency access


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("lasts: 60m, ", ""), "say how long emergency access lasts: 'lasts: 60m'"),
        (("60m", "2d"), "lasts must be 1m to 1d"),
        (("60m", "soon"), "lasts must be a duration with its unit, such as 10m, 8h or 1d"),
        (("at_least: 10", "at_least: 3"), "at_least must be a whole number from 10 to 500"),
        (("at_most: 40", "at_most: 501"), "at_most must be a whole number from 10 to 500"),
        (("at_least: 10", "at_least: 50"), "a reason of at least 50 and at most 40 characters cannot be given"),
        (("one_patient: true, ", ""), "emergency access is for one patient: say 'one_patient: true'"),
        (("one_patient: true", "one_patient: false"), "emergency access is for one patient: say 'one_patient: true'"),
        (("vread", "update"), "emergency access is for reading: take update out of may"),
        (("vread", "'operation:Patient/$everything'"), "emergency access is for reading: take operation out of may"),
        (("Condition]", "Organization]"),
         "emergency access opens the chart of one patient, to which Organization does not belong"),
        (("[Patient, Observation, Condition]", "[any]"),
         "emergency access opens the chart of one patient, to which any does not belong"),
        ((", purpose: [BTG]", ""), "emergency access needs 'purpose' in who: the token must say the emergency"),
        (("role: [physician], ", ""), "emergency access needs 'role' in who: not everybody may"),
        (("context: user, ", ""), "emergency access is for people: say 'context: user' in who"),
        (("context: user", "context: [user, system]"), "emergency access is for people: say 'context: user' in who"),
        (("effect: permit", "effect: deny"), "'break_glass' is for a permit: it opens what is closed otherwise"),
        (("reason: {", "reasons: {"), "break_glass has no key 'reasons'. Did you mean 'reason'?"),
    ],
)  # fmt: skip
def test_emergency_access_that_opens_too_much_is_refused(change: tuple[str, str], message: str) -> None:
    rule = GLASS.replace(*change)
    assert rule != GLASS
    assert message in mistakes(rule)


def emergency(
    text: str, reason: str | None = REASON, who: Any = DOCTOR, under_way: tuple[str, ...] = (), more: str = ""
) -> Decision:
    known = Emergency(reason, frozenset(("p/glass", patient) for patient in under_way))
    rules = [GLASS, *([more] if more else [])]
    return engine(*rules).decide(ask(text), who, Environment(NOW, "192.0.2.1", emergency=known))


@pytest.mark.parametrize(
    "text",
    [
        "GET /Patient/B",
        "GET /Patient/B/_history/1",
        "GET /Patient?_id=B",
        "GET /Observation?patient=B",
        "GET /Observation?patient=Patient/B",
        "GET /Observation?subject=Patient/B",
        "GET /Observation?subject:Patient=B",
        "GET /Observation?patient=https://gw.example/fhir/r4/Patient/B",
        "GET /Observation?patient=B&subject=Patient/B&code=x",
        "GET /Condition?patient=B&_id=x",
        "GET /Patient/B/Observation",
        "GET /Patient/B/Observation?patient=B",
    ],
)
def test_A300_with_a_reason_the_chart_of_one_patient_is_opened_and_audited_in_full(text: str) -> None:
    found = emergency(text)
    assert isinstance(found, Permit), found
    assert found.obligations.emergency == (EmergencyAccess("p/glass", "B", 3600, REASON),)
    assert found.audit == "full"
    own, other = resource("Observation", subject="B"), resource("Observation", subject="C")
    if "Observation" in text:
        assert (shows(found, own), shows(found, other)) == (True, False)


@pytest.mark.parametrize(
    "text",
    [
        "GET /Observation",
        "GET /Observation/x",
        "GET /Observation?patient=B,C",
        "GET /Observation?patient=B&patient=C",
        "GET /Observation?patient=B&subject=Patient/C",
        "GET /Observation?patient:missing=false",
        "GET /Observation?patient=B&patient:missing=false",
        "GET /Observation?subject=B",
        "GET /Observation?subject:Device=B",
        "GET /Observation?subject=Group/B",
        "GET /Observation?patient=https://elsewhere.example/Patient/B",
        "GET /Patient/C/Observation?patient=B",
        "GET /Patient",
        "GET /Patient?_id=B,C",
        "GET /Patient?identifier=x",
    ],
)
def test_A301_without_exactly_one_patient_nothing_is_opened(text: str) -> None:
    found = emergency(text)
    assert isinstance(found, Deny)
    assert found.reason is Reason.BREAK_GLASS_NEEDS_ONE_PATIENT


@pytest.mark.parametrize("text", ["GET /Observation?patient.name=x", "GET /Observation?_id=x"])
def test_A301_what_leads_to_a_patient_names_none(text: str) -> None:
    assert one_patient(ask(text), BASES) is None


@pytest.mark.parametrize(
    "text",
    [
        "POST /Observation",
        "PUT /Observation/x",
        "DELETE /Patient/B",
        "GET /Patient/B/$everything",
        "GET /$export?patient=B",
        "GET /Observation/$lastn?patient=B",
        "GET /Observation?patient=B&encounter.patient=B",
        "GET /Patient/B/_history",
        "GET /Encounter?patient=B",
    ],
)
def test_A301_writes_operations_joins_and_other_types_do_not_go_by_emergency_access(text: str) -> None:
    operations = (
        "rule: ops, effect: permit, may: ['operation:Patient/$everything', 'operation:Observation/$lastn',"
        " 'operation:$export'], resources: [Patient, Observation], shared: true"
    )
    assert isinstance(emergency(text), Deny)
    assert isinstance(emergency(text, more=operations), Deny)


@pytest.mark.parametrize(
    "text",
    [
        "GET /Observation?patient=B&encounter.subject=Patient/C",
        "GET /Observation?patient=B&encounter.subject=Patient/B",
        "GET /Observation?patient=B&_include=Observation:subject",
        "GET /Observation?patient=B&_include=Observation:encounter",
    ],
)
def test_A301_what_is_joined_is_not_opened_by_emergency_access(text: str) -> None:
    wide = (
        GLASS.replace("Observation, C", "Observation, Encounter, C")
        + ", query: {chain_depth: 1, include: any-permitted}"
    )
    environment = Environment(NOW, "192.0.2.1", emergency=Emergency(REASON))
    found = engine(wide).decide(ask(text), DOCTOR, environment)
    beside = found.included if isinstance(found, Permit) else None
    assert isinstance(found, Deny) or beside is None or not beside.judges


@pytest.mark.parametrize(
    "reason",
    [
        None, "", "too short", "x" * 41, "twelve\r\nlines more", "a\x00nul in a reason", "bell\x07 in a reason",
        " blanks around it ", "reversed \u202e text here", "a line\u2028separator",
        "half a \ud800 surrogate", "del\x7fete it now",
    ],
)  # fmt: skip
def test_A302_a_reason_that_is_none_opens_nothing(reason: str | None) -> None:
    found = emergency("GET /Patient/B", reason)
    assert isinstance(found, Deny)
    assert found.reason is Reason.BREAK_GLASS_NEEDS_REASON
    assert reason is None or REASON not in found.explanation


def test_A302_a_reason_counts_characters_of_any_script() -> None:
    glass = BreakGlass(60, 10, 12)
    assert is_reason("bewußtlos!", glass)
    assert is_reason("意識がない患者救急外来", glass)
    assert not is_reason("ß" * 9, glass)
    assert not is_reason("ß" * 13, glass)


@pytest.mark.parametrize(
    "who",
    [
        caller(roles=["physician"]),
        caller(roles=["physician"], purpose_of_use=["TREAT"]),
        caller(roles=["physician"], purpose_of_use="BTG"),
        caller(roles=["nurse"], purpose_of_use=["BTG"]),
        caller("system", roles=["physician"], purpose_of_use=["BTG"]),
    ],
)
def test_A300_a_reason_without_the_right_opens_nothing_and_says_nothing_of_emergencies(who: Any) -> None:
    found = emergency("GET /Patient/B", who=who)
    assert isinstance(found, Deny)
    assert found.reason is Reason.NO_PERMIT


def test_access_that_is_under_way_needs_no_reason_and_is_of_its_patient_alone() -> None:
    found = emergency("GET /Patient/B", None, under_way=("B",))
    assert owed(found).emergency == (EmergencyAccess("p/glass", "B", 3600, None),)
    again = emergency("GET /Patient/B", REASON, under_way=("B",))
    assert owed(again).emergency == (EmergencyAccess("p/glass", "B", 3600, None),)  # not made longer
    assert isinstance(emergency("GET /Patient/C", None, under_way=("B",)), Deny)


def test_without_a_word_of_emergencies_the_rule_is_not_there() -> None:
    """Whoever decides without the gateway's own knowledge of emergencies: effects, joins, replays, evaluations."""
    found = decide([GLASS], DOCTOR, "GET /Patient/B")
    assert isinstance(found, Deny)
    assert found.reason is Reason.NO_PERMIT


def test_emergency_access_asks_for_the_sign_in_of_its_rule() -> None:
    strict = GLASS + ", when: {signed_in_within: 10m}"
    old = caller(roles=["physician"], purpose_of_use=["BTG"], auth_time=NOW - 601)
    fresh = caller(roles=["physician"], purpose_of_use=["BTG"], auth_time=NOW - 600)
    environment = Environment(NOW, "192.0.2.1", emergency=Emergency(REASON))
    found = engine(strict).decide(ask("GET /Patient/B"), old, environment)
    assert isinstance(found, Deny)
    assert found.reason is Reason.STEP_UP_REQUIRED
    assert isinstance(engine(strict).decide(ask("GET /Patient/B"), fresh, environment), Permit)


def test_a_deny_holds_in_an_emergency_and_its_labels_stay_closed() -> None:
    closed = "rule: no, effect: deny, may: [read], resources: [Patient], where: {ids: [B]}"
    found = emergency("GET /Patient/B", more=closed)
    assert not shows(found, resource("Patient", "B"))


def test_an_ordinary_right_opens_without_an_emergency() -> None:
    found = emergency("GET /Observation/x", None, more=f"rule: r, {OPEN}")
    assert owed(found) is NO_OBLIGATIONS


def test_contained_resources_are_not_seen_through_emergency_access_that_was_not_opened() -> None:
    hiding = (
        "rule: r, effect: permit, may: [read], resources: [Patient, Observation], shared: true,"
        " return: {hide: [Patient.name]}"
    )
    shown = emergency("GET /Observation/x", None, more=hiding)
    person = {"resourceType": "Patient", "id": "p", "name": [{"family": "Secret"}]}
    assert isinstance(shown, Permit)
    assert shown.judge is not None
    seen = shown.judge(resource("Observation", subject="B", contained=[person])).seen
    assert seen is not None
    assert "Secret" not in str(seen)


# What tools say of it


def explained(text: str, reason: str | None, given: dict[str, Any] | None = None) -> Any:
    judge = engine(GLASS + ", then: {rate: 5/s}")
    environment = Environment(NOW, "192.0.2.1", emergency=Emergency(reason))
    (rule,) = explain(judge, ask(text), DOCTOR, environment, resource=given).rules
    assert "then" not in [part.name for part in rule.parts]  # what follows is no condition
    (glass,) = [part for part in rule.parts if part.name == "break_glass"]
    return glass.holds, rule.outcome


def test_an_explanation_says_whether_the_request_opens_the_chart() -> None:
    assert explained("GET /Patient/B", None) == (Truth.FALSE, Outcome.UNMATCHED)
    assert explained("GET /Observation", REASON) == (Truth.FALSE, Outcome.UNMATCHED)
    assert explained("GET /Patient/B", REASON)[0] is Truth.OPEN
    own, other = resource("Observation", subject="B"), resource("Observation", subject="C")
    assert explained("GET /Observation?patient=B", REASON, own) == (Truth.TRUE, Outcome.PERMITS)
    assert explained("GET /Observation?patient=B", REASON, other) == (Truth.FALSE, Outcome.UNMATCHED)


def test_a_permission_says_that_it_cannot_say_emergency_access_and_what_follows() -> None:
    (line,) = not_said(load(policy(GLASS + ", then: {rate: 5/s}")))
    assert "break_glass: lasts_seconds 3600" in line
    assert "then: rate at_most 5, seconds 1" in line


def test_a_record_is_replayed_with_the_reason_that_was_given() -> None:
    rules = load(policy(GLASS))
    line: dict[str, object] = {
        "event": "access", "at": "2027-01-15T08:00:00.000Z", "peer": "192.0.2.1", "decision": "permit",
        "request": {"canonical": "GET /Patient/B"}, "interaction": "read", "status": 200,
        "caller": {
            "issuer": "https://gw.example", "subject": "s", "client": "app", "binding": "dpop", "key": "x" * 43,
            "scope": "user/*.rs", "token": "t", "claims": {"roles": ["physician"], "purpose": ["BTG"]},
        },
    }  # fmt: skip
    for emergency, reason in ((None, None), ({"reason": REASON, "patient": "B"}, REASON)):
        found = read_record(line | {"emergency": emergency}, rules, {})
        assert found is not None
        assert found.environment.emergency == Emergency(reason)

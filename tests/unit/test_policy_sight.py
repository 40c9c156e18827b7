"""Views in policies: what of a resource is seen, through which permits, and which searches that closes."""

from typing import Any

import pytest

from gateway.fhir.outcome import Reason
from gateway.policy.decision import Decision, Deny, Permit
from gateway.policy.language import PolicyErrors
from gateway.policy.selftests import selftest
from tests.support.policies import caller, decide, load, policy, resource

WHOLE = "rule: whole, effect: permit, may: [any], resources: [Patient, Observation], shared: true"
PATIENT = resource(
    "Patient",
    "p",
    name=[{"family": "Vermeer", "text": "Jan Vermeer"}],
    birthDate="1970-05-31",
    telecom=[{"system": "phone", "value": "+31 20 555 0199"}],
    text={"status": "generated", "div": "<div>Jan Vermeer, +31 20 555 0199</div>"},
)
OBSERVATION = resource(
    "Observation",
    "o",
    subject={"reference": "Patient/p", "display": "Jan Vermeer"},
    status="final",
    effectiveDateTime="2026-03-04T05:06:07Z",
    note=[{"text": "Called Jan Vermeer"}],
)


def view(text: str, *, types: str = "Patient", who: str = "{}", name: str = "view") -> str:
    """A permit that shows these types through a view."""
    return (
        f"rule: {name}, effect: permit, who: {who}, may: [read, search, create], resources: [{types}],"
        f" shared: true, return: {text}"
    )


def deny(fields: str, *, types: str = "any", more: str = "") -> str:
    """A deny of fields."""
    return f"rule: taken, effect: deny, may: [any], resources: [{types}], fields: {fields}{more}"


def seen(decision: Decision, what: dict[str, Any]) -> Any:
    """What of the resource goes out."""
    assert isinstance(decision, Permit), decision
    assert decision.judge is not None
    verdict = decision.judge(what)
    assert verdict.shown, verdict
    return what if verdict.seen is None else verdict.seen


def read(rules: list[str], what: dict[str, Any], **claims: Any) -> Any:
    """What of the resource a read shows."""
    return seen(decide(rules, caller(**claims), f"GET /{what['resourceType']}/{what['id']}"), what)


def test_what_is_hidden_is_gone_with_its_copies_and_the_rest_is_marked_subsetted() -> None:
    found = read([view("{hide: [Patient.telecom]}")], PATIENT)
    assert "telecom" not in found
    assert "text" not in found
    assert found["name"] == PATIENT["name"]
    assert found["meta"]["tag"][0]["code"] == "SUBSETTED"


def test_only_shows_what_it_names_and_the_id() -> None:
    found = read([view("{only: [Patient.birthDate]}")], PATIENT)
    assert set(found) == {"resourceType", "id", "meta", "birthDate"}


def test_a_rounded_date_keeps_what_it_was_rounded_to() -> None:
    rules = [view("{round_dates: {Patient.birthDate: year, Patient.deceased: month}}")]
    assert read(rules, PATIENT)["birthDate"] == "1970"
    assert read(rules, PATIENT | {"deceasedDateTime": "2026-01-02"})["deceasedDateTime"] == "2026-01"


def test_a_resource_of_which_nothing_is_hidden_is_the_same_object() -> None:
    bare = resource("Patient", "p", birthDate="1970-05-31")
    assert read([view("{hide: [Patient.telecom]}")], bare) is bare
    assert read([WHOLE], PATIENT) is PATIENT


def test_one_more_permit_shows_more_and_never_less() -> None:
    narrow, wide = view("{hide: [Patient.telecom]}"), view("{only: [Patient.telecom]}", name="other")
    assert "telecom" in read([narrow, wide], PATIENT)
    assert read([narrow, WHOLE], PATIENT) is PATIENT
    nurses = view("{hide: [Patient.name]}", who="{role: [nurse]}", name="nurses")
    assert read([WHOLE, nurses], PATIENT, roles=["nurse"]) is PATIENT


def test_a_deny_of_fields_takes_away_from_every_permit_and_refuses_nothing() -> None:
    decision = decide([WHOLE, deny("[Patient.birthDate]")], caller(), "GET /Patient/p")
    assert "birthDate" not in seen(decision, PATIENT)
    assert isinstance(decision, Permit)
    assert decision.judge is not None
    assert decision.judge(PATIENT).rules == ("p/whole", "p/taken")
    assert decision.judge(resource("Patient", "p")).rules == ("p/whole",)


def test_a_deny_of_fields_with_a_condition_takes_away_where_it_holds() -> None:
    rules = [WHOLE, deny("[status]", types="Observation", more=", where: {ids: [o]}")]
    assert "status" not in read(rules, OBSERVATION)
    assert read(rules, OBSERVATION | {"id": "other"})["status"] == "final"


def test_a_deny_of_fields_whose_condition_cannot_be_said_takes_away() -> None:
    where = ', where: {compartment: {patient: "{token.team}"}}'
    assert "status" not in read([WHOLE, deny("[status]", types="Observation", more=where)], OBSERVATION)


def test_labels_are_taken_from_every_type() -> None:
    labelled = OBSERVATION | {"meta": {"security": [{"system": "s", "code": "PSY", "display": "psychiatry"}]}}
    assert "security" not in read([WHOLE, deny("[meta.security]")], labelled)["meta"]


@pytest.mark.parametrize(
    "rules",
    [
        [WHOLE, deny("[Patient.name]", types="Patient")],
        [WHOLE, deny("[name]", types="Patient")],
        [view("{hide: [Patient.name]}", types="Patient, Observation")],
        [view("{only: [Observation.subject, Observation.status]}", types="Observation")],
    ],
)
def test_a_name_that_is_hidden_is_no_display_of_a_reference_either(rules: list[str]) -> None:
    found = read(rules, OBSERVATION)
    assert found["subject"] == {"reference": "Patient/p"}
    assert "Vermeer" not in str(found)


def test_a_display_stays_where_a_permit_shows_the_name() -> None:
    rules = [
        view("{only: [Observation.subject]}", types="Observation"),
        view("{hide: [Patient.telecom]}", name="names"),
    ]
    assert read(rules, OBSERVATION)["subject"]["display"] == "Jan Vermeer"


def test_a_contained_resource_is_seen_as_its_own_type_is() -> None:
    holder = OBSERVATION | {"contained": [PATIENT | {"id": "c"}]}
    assert "1970" not in str(read([WHOLE, deny("[Patient.birthDate]", types="Patient")], holder))
    apart = [
        "rule: o, effect: permit, may: [any], resources: [Observation], shared: true",
        view("{hide: [Patient.birthDate]}"),
    ]
    assert "1970" not in str(read(apart, holder))
    assert read([WHOLE], holder) is holder
    odd = OBSERVATION | {"contained": [{"resourceType": "Patiënt", "birthDate": "1970"}]}
    assert "1970" not in str(read(apart, odd))


def test_a_resource_that_cannot_be_walked_is_not_shown() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"extension": [deep]}
    decision = decide([view("{hide: [Patient.name]}")], caller(), "GET /Patient/p")
    assert isinstance(decision, Permit)
    assert decision.judge is not None
    verdict = decision.judge(resource("Patient", "p", name=[deep]) | {"extension": [deep]})
    assert (verdict.shown, verdict.reason) == (False, Reason.POLICY_DENIED)


# Searches that would tell what is hidden


@pytest.mark.parametrize(
    "query",
    [
        "phone=555", "telecom:missing=true", "telecom=x", "_sort=-telecom", "_sort=birthdate,telecom",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "rule", [view("{hide: [Patient.telecom]}"), view("{only: [Patient.name, Patient.birthDate]}")]
)
def test_a_search_for_what_is_hidden_is_refused(rule: str, query: str) -> None:
    answer = decide([rule], caller(), f"GET /Patient?{query}")
    assert isinstance(answer, Deny), answer
    assert (answer.reason, answer.rules) == (Reason.UNSUPPORTED_PARAMETER, ("p/view",))


@pytest.mark.parametrize("query", ["name=x", "family=x&_count=5", "birthdate=1970", "_id=p", "_sort=name"])
def test_a_search_for_what_is_shown_is_not(query: str) -> None:
    assert isinstance(decide([view("{hide: [Patient.telecom]}")], caller(), f"GET /Patient?{query}"), Permit)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("{hide: [Patient.name.family]}", "name=x"),  # what is hidden is below what is asked for
        ("{hide: [Patient.name]}", "family=x"),  # and above
        ("{only: [Patient.name.given]}", "name=x"),
        ("{round_dates: {Patient.birthDate: year}}", "birthdate=1970-05-31"),
        ("{hide: [Patient.name]}", "deceased=true"),  # what it looks at cannot be told
        ("{only: [Patient.name]}", "_lastUpdated=2026"),
    ],
)
def test_a_search_that_touches_a_part_or_the_rest_of_a_date_is_refused(text: str, query: str) -> None:
    answer = decide([view(text)], caller(), f"GET /Patient?{query}")
    assert isinstance(answer, Deny), answer
    assert answer.reason is Reason.UNSUPPORTED_PARAMETER


def test_a_search_is_open_through_the_permits_that_show_what_it_asks_for() -> None:
    mine = 'rule: mine, effect: permit, may: [search], resources: [Patient], where: {compartment: {patient: "A"}}'
    answer = decide([view("{hide: [Patient.telecom]}"), mine], caller(), "GET /Patient?phone=1")
    assert isinstance(answer, Permit)
    assert answer.rules == ("p/mine",)
    assert answer.added == ("_id=A",)
    assert answer.judge is not None
    assert answer.judge(PATIENT | {"id": "A"}).shown
    assert not answer.judge(PATIENT).shown


def test_a_search_for_what_a_deny_takes_away_is_refused_even_where_it_takes_from_some_only() -> None:
    rules = [WHOLE, deny("[telecom]", types="Patient", more=", where: {ids: [x]}")]
    answer = decide(rules, caller(), "GET /Patient?phone=1")
    assert isinstance(answer, Deny)
    assert (answer.reason, answer.rules) == (Reason.UNSUPPORTED_PARAMETER, ("p/taken",))
    assert isinstance(decide(rules, caller(), "GET /Patient?name=x"), Permit)
    assert isinstance(decide(rules, caller(), "GET /Observation?code=x"), Permit)


def test_the_compartment_of_a_search_is_a_criterion_too() -> None:
    rule = view("{only: [Observation.code]}", types="Observation")
    assert isinstance(decide([rule], caller(), "GET /Patient/A/Observation"), Deny)
    assert isinstance(decide([rule], caller(), "GET /Observation?code=x"), Permit)


# Reading the words


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (view("{hide: [Patient.phone]}"), "Patient has no element 'phone'"),
        (view("{hide: [Patient.name.famly]}"), "Patient has no element 'name.famly'. Did you mean 'family'?"),
        (view("{hide: [telecom]}"), "'telecom' does not say its type: write it as Patient.telecom"),
        (view("{hide: [Patent.name]}"), "unknown resource type 'Patent'. Did you mean 'Patient'?"),
        (view("{hide: [Patient.id]}"), "id cannot be hidden"),
        (view("{only: [Observation.code]}"), "only says nothing about Patient"),
        (view("{only: []}"), "'only' names nothing"),
        (view("{}"), "return must say 'hide', 'only', 'round_dates' or 'sections'"),
        (view("{hidden: [Patient.name]}"), "return has no key 'hidden'. Did you mean 'hide'?"),
        (view("{round_dates: {Patient.birthDate: decade}}"), "unknown precision of a date 'decade'"),
        (view("{round_dates: {Patient.birthdate: year}}"), "Patient has no element 'birthdate'"),
        (
            "rule: r, effect: permit, may: [create], resources: [Patient], shared: true,"
            " return: {hide: [Patient.name]}",
            "'return' says what is read",
        ),
        (
            "rule: r, effect: permit, may: [read], resources: any, shared: true, return: {only: [Patient.name]}",
            "'resources: any' and 'only'",
        ),
        (deny("[colour]"), "has no element 'colour'"),
        (deny("[value]", types="Observation, Patient"), "Patient has no element 'value'"),
        (deny("[id]"), "id cannot be hidden"),
        (
            "rule: r, effect: deny, may: [create], resources: [Patient], fields: [name]",
            "'fields' says what is read",
        ),
        (
            "rule: r, effect: permit, may: [read], resources: [Patient], shared: true, fields: [name]",
            "'fields' is for a deny",
        ),
    ],
)
def test_a_mistake_is_found_at_load(rule: str, message: str) -> None:
    with pytest.raises(PolicyErrors) as caught:
        load(policy(rule))
    assert message in str(caught.value)


def selftested(expect: str) -> selftest.SelfTestReport:
    """The report of one test of a search for two patients under a view."""
    rules = view("{hide: [Patient.telecom]}"), deny("[Patient.birthDate]")
    tests = (
        "  - {test: t, as: {context: user}, request: GET /Patient?name=x, given: {search: [{resourceType:"
        " Patient, id: p, birthDate: 1970-05-31, name: [{family: V}], telecom: [{value: '1'}]}]},"
        f" expect: {expect}}}\n"
    )
    return selftest.run(load(policy(*rules, tests=tests)))


@pytest.mark.parametrize(
    "expect",
    [
        "{shows: [Patient/p, name, Patient.name.family, total], hides: [telecom, Patient.birthDate]}",
        "{decision: permit, rule: taken}",
    ],
)
def test_a_test_says_which_elements_are_shown_and_hidden(expect: str) -> None:
    report = selftested(expect)
    assert report.failures == ()
    assert report.untested == ()


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ("{hides: [name, telecom]}", "name expected among what it hides"),
        ("{shows: [telecom]}", "telecom expected among what it shows"),
        ("{shows: [Observation.status]}", "Observation.status expected among what it shows"),
        ("{hides: [total]}", "total expected among what it hides"),
        ("{hides: [colour]}", "Patient has no element 'colour'"),
    ],
)
def test_a_test_of_elements_can_fail(expect: str, message: str) -> None:
    [failure] = selftested(expect).failures
    assert message in str(failure)

"""Tests inside policy files: what they see, what they never guess, and that a set whose test fails stays out."""

import json
from typing import Any

import pytest

from gateway.policies_folder import PoliciesRefused, load_policies
from gateway.policy.selftests import selftest
from gateway.policy.selftests.selftest import SelfTestReport
from tests.support.policies import DEFINITIONS, load, policy

READ = "may: [read, search]"
OWN = (
    f"rule: own, effect: permit, who: {{context: patient}}, {READ}, resources: [Patient, $chart], conceal: true, "
    'where: {compartment: {patient: "{token.patient}"}}'
)
STAFF = f"rule: staff, effect: permit, who: {{role: [nurse]}}, {READ}, resources: [$chart], shared: true"
LAB = "rule: lab, effect: permit, may: [create], resources: [Observation], where: {match: {Observation: category=lab}}"
ANY = "rule: any, effect: permit, may: [create], resources: [Condition], shared: true"
HOME = f"rule: home, effect: deny, {READ}, resources: [$chart], when: {{network: 10.0.0.1}}"
RULES = (OWN, STAFF, LAB, ANY, HOME)
A = {"context": "patient", "patient": "A"}
OF_A = {"resourceType": "Observation", "id": "x", "subject": {"reference": "Patient/A"}}
OF_B = {"resourceType": "Observation", "id": "y", "subject": {"reference": "Patient/B"}}
MTLS = f"rule: m, effect: permit, who: {{bound: mtls, client: c}}, {READ}, resources: [Organization], shared: true"


def report(*tests: dict[str, Any], rules: tuple[str, ...] = RULES) -> SelfTestReport:
    said = [f"  - {json.dumps({'test': f't{number}', **test})}\n" for number, test in enumerate(tests)]
    return selftest.run(load(policy(*rules, tests="".join(said))))


def failure(**test: Any) -> str:
    """What the one test fails with."""
    found = report(test)
    assert (found.passed, len(found.failures)) == (0, 1)
    text = str(found.failures[0])
    place, _, message = text.partition(": error: test 't0': ")
    assert place.startswith("1.yaml:")
    return message


RIGHT: list[dict[str, Any]] = [
    {"as": A, "request": "GET /Observation?code=x",
     "expect": {"decision": "permit", "status": 200, "rule": "own", "entries": 0,
                "upstream": "GET /Observation?code=x&subject=Patient/A"}},
    {"as": A, "request": "GET /Observation", "given": {"search": [OF_A, OF_B]},
     "expect": {"shows": ["Observation/x"], "hides": ["Observation/y"], "entries": 1}},
    {"as": A, "request": "GET /Observation/x", "given": {"Observation/x": OF_A},
     "expect": {"decision": "permit", "shows": ["Observation/x"], "upstream": ["GET /Observation/x"]}},
    {"as": A, "request": "GET /Observation/y", "given": {"Observation/y": OF_B},
     "expect": {"decision": "deny", "status": 404, "reason": "scope-insufficient", "hides": ["Observation/y"]}},
    {"as": A, "request": "GET /Patient/B", "expect": {"decision": "deny", "status": 404, "upstream": "none"}},
    {"as": A, "request": "GET /Observation?subject=B", "expect": {"decision": "permit", "upstream": "none", "entries": 0}},
    {"as": {"role": "nurse"}, "request": "GET /Observation", "expect": {"rule": "staff"}},
    {"as": {"role": ["nurse"], "network": "10.0.0.1"}, "request": "GET /Observation",
     "expect": {"decision": "deny", "reason": "policy-denied", "rule": "home", "status": 403, "upstream": "none"}},
    {"as": {"role": ["nurse"], "scope": "user/Condition.rs"}, "request": "GET /Observation",
     "expect": {"decision": "deny", "reason": "scope-insufficient"}},
    {"as": {"context": "system"}, "request": "POST /Observation", "body": {"resourceType": "Observation", "category": [
        {"coding": [{"code": "lab"}]}]}, "expect": {"decision": "permit", "rule": "lab", "upstream": "POST /Observation"}},
    {"as": {"context": "system"}, "request": "POST /Observation", "body": {"resourceType": "Observation"},
     "expect": {"decision": "deny", "status": 403, "upstream": "none"}},
    {"as": {"context": "system"}, "request": "POST /Observation", "expect": {"decision": "deny", "upstream": "none"}},
    {"as": {"context": "system"}, "request": "POST /Condition", "expect": {"decision": "permit", "rule": "any"}},
    {"as": A, "request": "GET /Practitioner?_has:Observation:performer:patient=B",
     "expect": {"decision": "deny", "upstream": "none", "reason": "no-permit"}},
    {"as": A, "request": "GET /Practitioner?_list=x", "expect": {"decision": "deny", "reason": "unsupported-parameter"}},
    {"as": A, "request": "GET /Practitioner?_has:Observation:performer:patient=B", "expect": {"decision": "deny"}},
    {"as": A, "request": "GET /Patient/..", "expect": {"decision": "deny", "reason": "ambiguous-path", "status": 400}},
]  # fmt: skip


@pytest.mark.parametrize("test", RIGHT)
def test_a_test_that_says_what_happens_passes(test: dict[str, Any]) -> None:
    assert report(test).failures == ()
    assert report(test).passed == 1


@pytest.mark.parametrize("test", RIGHT)
def test_each_expectation_of_it_can_fail(test: dict[str, Any]) -> None:
    """A test that cannot fail proves nothing: every expectation is turned round, one at a time."""
    other: dict[str, Any] = {"status": 418, "rule": "nobody", "entries": 7, "upstream": "GET /Observation/other",
                             "shows": ["Observation/z"], "hides": ["Observation/z"], "reason": "internal"}  # fmt: skip
    for key, value in test["expect"].items():
        if key == "reason" and "upstream" not in test["expect"] and test["request"].endswith(".."):
            continue  # without its reason the request counts as written wrong, as below
        wrong = other | {"decision": "deny" if value == "permit" else "permit"}
        assert report({**test, "expect": {key: wrong[key]}}).failures, key


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ({"request": "GET /Patient/A", "expect": {"status": 200}}, "'as' must say who calls"),
        ({"as": A, "expect": {"status": 200}}, "'request' must be a method and a path"),
        ({"as": A, "request": "/Patient/A", "expect": {"status": 200}}, "'request' must be a method and a path"),
        ({"as": A, "request": "GET /Patient/A"}, "'expect' must say what comes of it"),
        ({"as": A, "request": "GET /Patient/A", "expect": {}}, "'expect' must say what comes of it"),
        ({"as": A, "request": "GET /Patient/A", "expect": {"desicion": "permit"}},
         "expect has no key 'desicion'. Did you mean 'decision'?"),
        ({"as": A, "request": "GET /Patient/A", "expect": {"decision": "allow"}}, "decision is permit, expected allow"),
        ({"as": A, "request": "GET /Patient/A", "expect": {"shows": "Patient/A"}}, "shows must be a list of 'Type/id'"),
        ({"as": A, "request": "GET /Patient/A", "expect": {"hides": None}}, "hides must be a list of 'Type/id'"),
        ({"as": A, "request": "GET /Patient/A", "expect": {"upstream": 5}}, "upstream must be none, a request, or a list"),
        ({"as": {"context": "pateint", "patient": "A"}, "request": "GET /Patient/A", "expect": {"decision": "deny"}},
         "context is 'pateint', expected user or patient or system. Did you mean 'patient'?"),
        ({"as": {"bound": "tls"}, "request": "GET /Patient/A", "expect": {"decision": "deny"}},
         "bound is 'tls', expected dpop or mtls."),
        ({"as": {"network": "home"}, "request": "GET /Patient/A", "expect": {"decision": "deny"}},
         "network is 'home', expected an address such as 10.20.1.4"),
        ({"as": {"rolle": ["nurse"]}, "request": "GET /Patient/A", "expect": {"decision": "deny"}},
         "no claim named 'rolle'. Did you mean 'role'?"),
        ({"as": {"client": 5}, "request": "GET /Patient/A", "expect": {"decision": "deny"}},
         "client_id of the access token must be a string"),
        ({"as": {"scope": ["user/*.rs"]}, "request": "GET /Patient/A", "expect": {"decision": "deny"}},
         "scope of the access token must be a string"),
        ({"as": A, "request": "GET /Observatoin", "expect": {"decision": "deny"}},
         "unknown-type: Did you mean 'Observation'?"),
        ({"as": A, "request": "GET Patient/A", "expect": {"decision": "deny"}}, "unknown-route"),
        ({"as": A, "request": "GET /Observation?categroy=x", "expect": {"decision": "deny"}}, "unknown-parameter"),
        ({"as": A, "request": "GET /Observation", "given": {"search": "x"}, "expect": {"decision": "permit"}},
         "'search' of given must be a list of resources"),
        ({"as": A, "request": "GET /Observation", "given": {"search": [OF_A, "x"]}, "expect": {"decision": "permit"}},
         "'search' of given must be a list of resources"),
        ({"as": A, "request": "GET /Observation/x", "given": {"Observation/z": OF_A}, "expect": {"decision": "permit"}},
         "given holds no 'Observation/x', which the request asks for"),
        ({"as": A, "request": "GET /Observation/x", "given": [OF_A], "expect": {"decision": "permit"}},
         "'given' must be a mapping"),
        ({"as": {"context": "system"}, "request": "POST /Observation", "body": "x", "expect": {"decision": "deny"}},
         "'body' must be a resource"),
    ],
)  # fmt: skip
def test_a_test_that_is_not_written_right_fails_and_never_guesses(test: dict[str, Any], message: str) -> None:
    assert message in failure(**test)


def test_differences_are_told_together() -> None:
    expect = {"decision": "permit", "status": 200, "rule": "own", "upstream": "GET /Claim/1"}
    assert failure(**{"as": A, "request": "GET /Claim/1", "expect": expect}) == (
        "decision is deny, expected permit; status is 403, expected 200; rule own had no part, none had; "
        "upstream is none, expected ['GET /Claim/1']"
    )


def test_binding_and_client_are_the_callers() -> None:
    right = {
        "as": {"bound": "mtls", "client": "c"},
        "request": "GET /Organization/o",
        "expect": {"rule": "m"},
    }
    assert report(right, rules=(MTLS,)).failures == ()
    for other in ({"bound": "dpop", "client": "c"}, {"bound": "mtls"}):
        assert report({**right, "as": other}, rules=(MTLS,)).failures


def test_rules_that_no_test_shows_are_named_by_side() -> None:
    permitted = {"as": {"role": ["nurse"]}, "request": "GET /Observation", "expect": {"decision": "permit"}}
    assert report(permitted).untested == ("p/own", "p/lab", "p/any", "p/home")
    assert report(*RIGHT).untested == ()


def test_a_set_whose_own_test_fails_is_not_put_in_force() -> None:
    said = "  - {test: open, as: {role: [nurse]}, request: GET /Observation, expect: {decision: deny}}\n"
    files = {"0.yaml": DEFINITIONS, "1.yaml": policy(*RULES, tests=said)}
    with pytest.raises(PoliciesRefused) as error:
        load_policies(files)
    assert [str(problem) for problem in error.value.problems] == [
        "1.yaml:13:5: error: test 'open': decision is permit, expected deny"
    ]
    files["1.yaml"] = files["1.yaml"].replace("{decision: deny}", "{decision: permit}")
    assert len(load_policies(files).rules) == len(RULES)


def test_a_denial_in_another_file_fails_the_test_of_a_permit() -> None:
    """Tests run against the whole set: what another office forbids shows where it was expected to be open."""
    said = "  - {test: open, as: {role: [nurse]}, request: GET /Observation, expect: {decision: permit}}\n"
    files = {"0.yaml": DEFINITIONS, "1.yaml": policy(*RULES, tests=said)}
    load_policies(files)
    files["2.yaml"] = policy("rule: closed, effect: deny, may: [any], resources: [any]", name="q", tests=(
        "  - {test: t, as: {role: [nurse]}, request: GET /Patient/A, expect: {decision: deny}}\n"
    ))  # fmt: skip
    with pytest.raises(PoliciesRefused, match="test 'open': decision is deny, expected permit"):
        load_policies(files)


@pytest.mark.parametrize(("group", "failures"), [("study-1", 1), ("study-2", 0)])
def test_an_operation_is_refused_where_the_instance_of_given_is_not_one_that_the_rule_opens(
    group: str, failures: int
) -> None:
    text = (
        "policy: p\nversion: 1\nowner: o\nstatus: enforce\ntext: t\nrules:\n"
        "  - {rule: r, effect: permit, who: {context: system}, may: ['operation:Group/$export'],"
        " resources: [Group], where: {ids: [study-1]}, operation: {types: [Patient]}, because: b}\n"
        f"tests:\n  - {{test: t, as: {{context: system}}, request: 'GET /Group/{group}/$export',"
        f" given: {{Group/{group}: {{resourceType: Group, id: {group}}}}},"
        " expect: {decision: deny, status: 403, upstream: none}}\n"
    )
    assert len(selftest.run(load(text)).failures) == failures

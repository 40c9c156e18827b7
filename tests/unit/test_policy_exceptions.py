"""Labels, any_of and exceptions (`unless`) in policies."""

from typing import Any

import pytest

from gateway.fhir.outcome import Reason
from gateway.policy.decision import Decision, Deny, Permit
from gateway.policy.language import PolicyErrors
from tests.support.policies import caller, decide, load, policy, resource, shows

ALL = "rule: all, effect: permit, may: [any], resources: [Patient, Observation, Condition], shared: true"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


def labelled(*codes: str, **members: Any) -> dict[str, Any]:
    """An Observation with labels, 'R' of confidentiality and longer ones of v3-ActCode."""
    security = [{"system": CONFIDENTIALITY if len(c) == 1 else ACT, "code": c} for c in codes]
    return resource("Observation", meta={"security": security} if codes else {}, **members)


def deciding(*rules: str, ask: str = "GET /Observation", **claims: Any) -> Decision:
    """The answer to a search."""
    return decide(list(rules), caller(**claims), ask)


# Labels


def allowed(labels: str) -> str:
    """A permit by labels."""
    return (
        f"rule: r, effect: permit, may: [read, search], resources: [Observation], where: {{labels: {labels}}}"
    )


@pytest.mark.parametrize(
    ("labels", "codes", "shown"),
    [
        ("{at_most: N, unlabelled: N}", [], True),
        ("{at_most: N, unlabelled: R}", [], False),
        ("{at_most: V, unlabelled: deny}", [], False),
        ("{at_most: N, unlabelled: N}", ["N"], True),
        ("{at_most: N, unlabelled: N}", ["R"], False),
        ("{at_most: N, unlabelled: N}", ["L", "R"], False),
        ("{at_most: V, unlabelled: N}", ["Q"], False),  # a code that nobody knows is above all
        ("{at_most: N, unlabelled: N, without: [v3-ActCode|PSY]}", ["PSY"], False),
        ("{without: [v3-ActCode|PSY]}", ["HIV"], True),
        ("{any_of: [v3-ActCode|HIV, v3-ActCode|PSY]}", ["HIV"], True),
        ("{any_of: [v3-ActCode|HIV]}", [], False),
        ("{any_of: [v3-ActCode|BH]}", ["PSY"], True),  # a kind of it
    ],
)
def test_293_294_a_permit_by_labels(labels: str, codes: list[str], shown: bool) -> None:
    assert shows(deciding(allowed(labels)), labelled(*codes)) is shown


def test_labels_that_cannot_be_read_open_nothing_and_close() -> None:
    odd = resource("Observation", meta={"security": ["PSY"]})
    assert not shows(deciding(allowed("{without: [v3-ActCode|PSY]}")), odd)
    closed = "rule: d, effect: deny, may: [any], resources: any, where: {labels: {any_of: [v3-ActCode|PSY]}}"
    assert not shows(deciding(ALL, closed), odd)
    assert shows(deciding(ALL, closed), labelled("HIV"))


def test_70_labels_are_never_said_in_a_search_and_close_its_total() -> None:
    answer = deciding(allowed("{at_most: N, unlabelled: N}"))
    assert isinstance(answer, Permit)
    assert (answer.added, answer.exact) == ((), False)


def test_a_set_of_labels_stands_for_them() -> None:
    definitions = "definitions: d\nversion: 1\nsets:\n  special: {labels: [v3-ActCode|PSY]}\n"
    found = load(definitions, policy(allowed("{without: $special}")))
    assert found.rules[0].where.labels is not None
    assert {label.code for label in found.rules[0].where.labels.without} == {"PSY"}


# any_of


def test_any_of_holds_where_one_of_its_conditions_does() -> None:
    rule = (
        "rule: r, effect: permit, may: [search], resources: [Observation],"
        " where: {any_of: [{compartment: {patient: A}}, {ids: [b]}]}"
    )
    answer = deciding(rule)
    assert shows(answer, resource("Observation", subject="A"))
    assert shows(answer, resource("Observation", "b", subject="B"))
    assert not shows(answer, resource("Observation", subject="B"))
    assert isinstance(answer, Permit)
    assert (answer.added, answer.exact) == ((), False)


def test_any_of_narrows_to_the_patients_of_all_its_conditions() -> None:
    rule = (
        "rule: r, effect: permit, may: [search], resources: [Observation],"
        " where: {any_of: [{compartment: {patient: A}}, {compartment: {patient: B}, ids: [b]}]}"
    )
    answer = deciding(rule)
    assert isinstance(answer, Permit)
    assert answer.added == ("subject=Patient/A,Patient/B",)
    assert not shows(answer, resource("Observation", subject="B"))


TEAM = 'compartment: {patient: "{token.team}"}'


def test_a_condition_of_any_of_that_cannot_be_said_opens_no_way_and_leaves_the_others() -> None:
    rule = "rule: r, effect: permit, may: [search], resources: [Observation], where: {any_of: [{%s}%s]}"
    assert shows(deciding(rule % (TEAM, ", {ids: [b]}")), resource("Observation", "b"))
    assert isinstance(deciding(rule % (TEAM, "")), Deny)


def test_a_condition_of_any_of_that_cannot_be_said_closes_all_in_a_deny() -> None:
    rule = "rule: d, effect: deny, may: [any], resources: [Observation], where: {any_of: [{ids: [b]}, {%s}]}"
    assert isinstance(deciding(ALL, rule % TEAM), Deny)


# unless


def closed(unless: str, *, more: str = "", effect: str = "deny") -> str:
    """A rule that closes Observations, with an exception."""
    return f"rule: d, effect: {effect}, may: [any], resources: [Observation]{more}, unless: {unless}"


@pytest.mark.parametrize(
    ("unless", "claims", "opened"),
    [
        ("{role: [psychiatrist]}", {"roles": ["psychiatrist"]}, True),
        ("{role: [psychiatrist]}", {"roles": ["nurse"]}, False),
        ("{role: [psychiatrist]}", {}, False),
        ("{role: [psychiatrist]}", {"roles": "psychiatrist"}, False),  # of another type: not known
        ("{role: {not: [guest]}}", {"roles": ["nurse"]}, True),
        ("{role: {not: [guest]}}", {"roles": ["nurse", "guest"]}, False),
        ("{role: {not: [guest]}}", {}, False),  # whether one is outside is not known either
        ("{role: [nurse], org: [H1]}", {"roles": ["nurse"], "organization": "H2"}, False),
        ("{role: [nurse], org: [H1]}", {"roles": ["nurse"], "organization": "H1"}, True),
        ("{any_of: [{role: [nurse]}, {org: [H1]}]}", {"organization": "H1"}, True),
        ("{any_of: [{role: [nurse]}, {org: [H1]}]}", {"organization": "H2"}, False),
        ("{org: [H1], any_of: [{role: [nurse]}]}", {"roles": ["nurse"]}, False),
        ("{context: user}", {}, True),
        ("{context: patient}", {}, False),
    ],
)
@pytest.mark.parametrize("more", ["", ", where: {ids: [x]}"])
def test_an_exception_by_caller(unless: str, claims: dict[str, Any], opened: bool, more: str) -> None:
    for rule in (
        closed(unless, more=more),
        closed(unless, more=", where: {ids: [nothing]}", effect="require"),
    ):
        assert shows(deciding(ALL, rule, **claims), resource("Observation")) is opened


def test_an_exception_by_resource_opens_where_it_surely_holds() -> None:
    rules = ALL, closed("{role: [nurse], compartment: {patient: A}}")
    answer = deciding(*rules, roles=["nurse"])
    assert shows(answer, resource("Observation", subject="A"))
    assert not shows(answer, resource("Observation", subject="B"))
    assert not shows(answer, resource("Observation", subject={"reference": "urn:uuid:1"}))
    refused = deciding(*rules, roles=["guest"])
    assert isinstance(refused, Deny)
    assert (refused.reason, refused.rules) == (Reason.POLICY_DENIED, ("p/d",))


def test_an_exception_of_a_require_by_resource() -> None:
    guard = closed("{labels: {any_of: [v3-ActCode|PSY]}}", more=", where: {ids: [x]}", effect="require")
    answer = deciding(ALL, guard)
    assert shows(answer, resource("Observation", "x"))
    assert shows(answer, labelled("PSY", id="other"))
    assert not shows(answer, resource("Observation", "other"))


def test_an_exception_that_cannot_be_said_is_none() -> None:
    assert isinstance(deciding(ALL, closed(f"{{{TEAM}}}")), Deny)
    assert isinstance(deciding(ALL, closed(f"{{any_of: [{{{TEAM}}}]}}")), Deny)
    one_way = closed(f"{{any_of: [{{{TEAM}}}, {{ids: [x]}}]}}")
    assert shows(deciding(ALL, one_way), resource("Observation", "x"))


def test_an_exception_leaves_fields() -> None:
    rule = closed("{role: [nurse]}", more=", fields: [status]")
    answer = deciding(ALL, rule, roles=["nurse"])
    assert isinstance(answer, Permit)
    assert answer.judge is not None
    assert answer.judge(resource("Observation", status="final")).seen is None
    other = deciding(ALL, rule, roles=["guest"])
    assert isinstance(other, Permit)
    assert other.judge is not None
    seen = other.judge(resource("Observation", status="final")).seen
    assert seen is not None
    assert "status" not in seen
    by_resource = deciding(ALL, closed("{ids: [x]}", more=", fields: [status]"))
    assert isinstance(by_resource, Permit)
    assert by_resource.judge is not None
    assert by_resource.judge(resource("Observation", "x", status="final")).seen is None
    assert by_resource.judge(resource("Observation", "y", status="final")).seen is not None


# Reading the words


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (allowed("{at_most: N}"), "say what a resource without a label is taken for: 'unlabelled: N'"),
        (allowed("{unlabelled: N}"), "'unlabelled' says how confidential a resource is: it needs 'at_most'"),
        (allowed("{at_most: X, unlabelled: N}"), "unknown confidentiality in at_most 'X'"),
        (allowed("{}"), "labels must say 'at_most', 'any_of' or 'without'"),
        (allowed("{any_of: []}"), "'any_of' names nothing"),
        (allowed("{any_of: [PSY]}"), "'PSY' is not a label: system and code"),
        (allowed("{without: $specal}"), "no set of labels named '$specal'"),
        (allowed("{wihout: [v3-ActCode|PSY]}"), "labels has no key 'wihout'. Did you mean 'without'?"),
        (
            "rule: d, effect: deny, may: [any], resources: any, where: {labels: {at_most: N, unlabelled: N}}",
            "'at_most' is for a permit or a require",
        ),
        (
            "rule: r, effect: permit, may: [read], resources: [Observation], where: {any_of: [{}]}",
            "a condition of any_of that says nothing would always hold",
        ),
        (
            "rule: r, effect: permit, may: [read], resources: [Observation], where: {any_of: [{idz: [x]}]}",
            "any_of has no key 'idz'. Did you mean 'ids'?",
        ),
        (closed("{}"), "an exception that says nothing would always hold"),
        (closed("{any_of: [{}]}"), "an exception that says nothing would always hold"),
        (closed("{rol: [nurse]}"), "unless has no key 'rol'. Did you mean 'role'?"),
        (closed("{context: nurse}"), "unknown context 'nurse'"),
        (closed("{consent: {}}"), "consent must say its 'scope'"),
        (
            "rule: r, effect: permit, may: [read], resources: [Patient], shared: true, unless: {role: [x]}",
            "'unless' is for a deny or a require",
        ),
        (
            "rule: r, effect: require, may: [read], resources: [Patient], when: {signed_in_within: 5m},"
            " unless: {ids: [x]}",
            "a sign-in is asked for before a resource is seen",
        ),
    ],
)
def test_a_mistake_is_found_at_load(rule: str, message: str) -> None:
    with pytest.raises(PolicyErrors) as caught:
        load(policy(rule))
    assert message in str(caught.value)

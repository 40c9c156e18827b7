"""The query of a permit, and joins: what they open, and that a chain never answers about what a read would hide."""

from typing import Any

import pytest

from authz.protocol.tokens import Caller
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.request_target import upstream_target
from gateway.policy import language
from gateway.policy.decision import Deny, Permit
from tests.support import policies
from tests.support.policies import ask, caller, decide, resource

MAY = "may: [read, search]"
A = caller("patient", patient="A")
OWN = (
    f"rule: own, effect: permit, who: {{context: patient}}, {MAY}, resources: [Patient, Encounter, Observation], "
    'where: {compartment: {patient: "{token.patient}"}}, query: {chain_depth: 2, include: any-permitted}'
)
DIRECTORY = f"rule: directory, effect: permit, {MAY}, resources: [Practitioner, Organization], shared: true"
STAFF = (
    f"rule: staff, effect: permit, who: {{context: user}}, {MAY}, resources: [Patient, $chart, Practitioner], "
    "shared: true, query: {chain_depth: 2, include: any-permitted}"
)
LAB = f"rule: lab, effect: permit, {MAY}, resources: [Observation], where: {{match: {{Observation: category=lab}}}}"


def answer(rules: list[str], who: Caller, text: str) -> str:
    """What goes upstream, or the reason for which nothing does."""
    found = decide(rules, who, text)
    if isinstance(found, Deny):
        return str(found.reason)
    return upstream_target(found.request) if isinstance(found, Permit) else "nothing"


def problems(
    query: str, *, types: str = "Patient", rest: str = "effect: permit, may: [search], shared: true"
) -> list[str]:
    try:
        return [
            str(p)
            for p in policies.load(
                policies.policy(f"rule: r, {rest}, resources: [{types}], query: {query}")
            ).warnings
        ]
    except language.PolicyErrors as error:
        return [str(problem) for problem in error.problems]


@pytest.mark.parametrize(
    "text",
    ["GET /Observation?subject:Patient.name=x", "GET /Patient?_has:Observation:subject:code=x",
     "GET /Observation?_include=Observation:performer", "GET /Patient?_revinclude=Observation:subject",
     "GET /Observation?_include:iterate=Observation:performer"],
)  # fmt: skip
def test_joins_are_closed_where_no_permit_opens_them(text: str) -> None:
    assert answer([STAFF.partition(", query")[0]], caller(), text) == "query-closed"


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("GET /Observation?subject:Patient.name=x", "Observation?subject:Patient.name=x"),
        ("GET /Observation?patient.name=x", "Observation?patient:Patient.name=x"),
        ("GET /Observation?subject.name=x", "Observation?subject:Patient.name=x"),
        ("GET /Patient?_has:Observation:subject:code=x", "Patient?_has:Observation:subject:code=x"),
        (
            "GET /Patient?_has:Observation:patient:performer:Practitioner.name=x",
            "Patient?_has:Observation:patient:performer:Practitioner.name=x",
        ),
        ("GET /Observation?_include=Observation:subject", "Observation?_include=Observation%3Asubject"),
    ],
)
def test_whoever_sees_all_of_a_type_may_chain_through_it(text: str, sent: str) -> None:
    assert answer([STAFF], caller(), text) == sent


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("GET /Observation?subject:Patient.name=x", "Observation?subject:Patient.name=x&subject=Patient%2FA"),
        ("GET /Observation?subject.name=x", "Observation?subject:Patient.name=x&subject=Patient%2FA"),
        ("GET /Encounter?patient.name=x", "Encounter?patient:Patient.name=x&patient=Patient%2FA"),
        ("GET /Patient?_has:Observation:subject:code=x", "Patient?_has:Observation:subject:code=x&_id=A"),
        (
            "GET /Observation?performer:Practitioner.name=x",
            "Observation?performer:Practitioner.name=x&subject=Patient%2FA",
        ),
    ],
)
def test_a_patient_chains_within_the_own_record_and_through_what_is_open(text: str, sent: str) -> None:
    assert answer([OWN, DIRECTORY], A, text) == sent


@pytest.mark.parametrize(
    "text",
    [
        "GET /Observation?performer:Patient.name=x",
        "GET /Observation?focus:Patient.name=x",
        "GET /Observation?encounter:Encounter.status=x",
        "GET /Observation?subject:Patient.general-practitioner:Practitioner._id=x&subject:Patient.link:Patient._id=B",
        "GET /Patient?link:Patient.name=x",
        "GET /Patient?_has:Observation:performer:code=x",
        "GET /Patient?_has:Observation:subject:encounter:Encounter.status=x",
        "GET /Patient?_has:Condition:subject:code=x",
        "GET /Observation?subject:Location.name=x",
    ],
)
def test_a_chain_that_may_reach_a_stranger_is_refused(text: str) -> None:
    assert answer([OWN, DIRECTORY], A, text) == "join-closed"


def test_what_a_hop_is_searched_by_must_be_open_there() -> None:
    closing = DIRECTORY + ", query: {closed: [name], chain_depth: 1}"
    assert answer([OWN, closing], A, "GET /Observation?performer:Practitioner.name=x") == "join-closed"
    assert answer([OWN, closing], A, "GET /Observation?performer:Practitioner.active=true").startswith("Obs")


@pytest.mark.parametrize(
    "closing",
    [
        "rule: vip, effect: deny, may: [any], resources: [Patient], where: {ids: [VIP]}",
        "rule: vip, effect: deny, may: [read], resources: [Patient], where: {ids: [VIP]}",
        "rule: some, effect: require, may: [search], resources: [Patient], where: {ids: [A]}",
    ],
)
def test_one_resource_that_is_closed_closes_every_chain_through_its_type(closing: str) -> None:
    for who, rules in ((caller(), [STAFF]), (A, [OWN])):
        assert answer([*rules, closing], who, "GET /Observation?subject:Patient.name=x") == "join-closed"


def test_a_filtered_scope_is_no_way_through() -> None:
    who = caller(scope="user/Observation.rs?category=lab user/Patient.rs")
    assert answer([STAFF], who, "GET /Patient?_has:Observation:subject:code=x") == "join-closed"
    who = caller(scope="user/Observation.r user/Patient.rs")
    assert answer([STAFF], who, "GET /Patient?_has:Observation:subject:code=x") == "join-closed"
    who = caller(scope="user/Observation.s user/Patient.rs")
    assert answer([STAFF], who, "GET /Patient?_has:Observation:subject:code=x") == "join-closed"


def test_a_permit_with_a_condition_is_no_way_through() -> None:
    rules = [
        LAB,
        f"rule: p, effect: permit, {MAY}, resources: [Patient], shared: true, query: {{chain_depth: 3}}",
    ]
    assert answer(rules, caller(), "GET /Patient?_has:Observation:subject:code=x") == "join-closed"


def test_two_types_that_the_caller_may_ask_are_not_guessed_between() -> None:
    places = f"rule: places, effect: permit, {MAY}, resources: [Location], shared: true"
    assert answer([STAFF, places], caller(), "GET /Observation?subject.name=x") == "ambiguous-query"


def test_an_include_of_what_nobody_permits_is_refused_and_another_has_its_own_judge() -> None:
    assert answer([OWN], A, "GET /Observation?_include=Observation:device") == "join-closed"
    found = decide([OWN, DIRECTORY], A, "GET /Observation?_include=Observation:performer")
    assert isinstance(found, Permit)
    assert found.included is not None
    assert set(found.included.judges) == {"Organization", "Patient", "Practitioner"}
    assert found.included.judges["Patient"](resource("Patient", "A")).shown
    assert not found.included.judges["Patient"](resource("Patient", "B")).shown
    assert not found.included.judges["Practitioner"](resource("Patient", "A")).shown


def test_a_reverse_include_needs_a_search_right_as_well() -> None:
    only_read = "rule: d, effect: permit, may: [read], resources: [Provenance], shared: true"
    assert answer([STAFF, only_read], caller(), "GET /Patient?_revinclude=Provenance:target") == "join-closed"
    both = f"rule: d, effect: permit, {MAY}, resources: [Provenance], shared: true"
    assert answer([STAFF, both], caller(), "GET /Patient?_revinclude=Provenance:target").startswith(
        "Patient?"
    )


def test_one_permit_does_not_lend_its_includes_to_what_another_opens() -> None:
    lab = LAB + ', query: {include: ["Observation:subject"]}'
    everything = f"rule: all, effect: permit, {MAY}, resources: [Observation, Patient], shared: true"
    found = decide([lab, everything], caller(), "GET /Observation?_include=Observation:subject")
    assert isinstance(found, Permit)
    assert found.judge is not None
    assert not found.judge(resource("Observation")).shown
    assert found.judge(resource("Observation", category=[{"coding": [{"code": "lab"}]}])).shown


FIND = (
    "rule: find, effect: permit, may: [search], resources: [Patient], shared: true, "
    'query: {needs_one_of: [identifier, "family+birthdate"], page_at_most: 20, closed: [phone]}'
)


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ("identifier=x", "identifier=x&_count=20"),
        ("identifier=x&_count=50", "identifier=x&_count=20"),
        ("identifier=x&_count=5", "identifier=x&_count=5"),
        ("family=x&birthdate=2000-01-01", "family=x&birthdate=2000-01-01&_count=20"),
        ("family=x", None),
        ("", None),
        ("identifier:missing=true", None),
        ("identifier:not=x", None),
        ("identifier=x&phone=1", None),
        ("identifier=x&_sort=-phone", None),
    ],
)
def test_a_search_for_a_person_must_name_one(query: str, sent: str | None) -> None:
    expected = "query-closed" if sent is None else f"Patient?{sent}"
    assert answer([FIND], caller(), f"GET /Patient?{query}") == expected


def test_the_largest_page_of_all_permits_counts() -> None:
    other = f"rule: o, effect: permit, {MAY}, resources: [Patient], shared: true, query: {{page_at_most: 60}}"
    assert answer([FIND, other], caller(), "GET /Patient?identifier=x") == "Patient?identifier=x&_count=60"


def test_a_total_is_never_told_where_one_permit_says_so() -> None:
    found = decide([OWN.replace("chain_depth: 2", "total: never")], A, "GET /Observation")
    assert isinstance(found, Permit)
    assert not found.exact


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{include: [Patient:organisation]}", "Patient has no search parameter 'organisation'. Did you mean"),
        ("{include: [Patient:birthdate]}", "it refers to nothing"),
        ("{include: [Pateint:organization]}", "is not a resource type. Did you mean 'Patient'?"),
        ('{include: ["*"]}', "closed"),
        ("{include: [Patient:organization:Organization]}", "write 'Patient:organization'"),
        ("{include: [Encounter:location]}", "nobody can ask for it"),
        ("{chain_depth: 4}", "chain_depth must be a number from 0 to 3"),
        ("{chain_depth: yes}", "chain_depth must be a number from 0 to 3"),
        ("{page_at_most: 0}", "page_at_most must be a number from 1 to 200"),
        ("{closed: [identifer]}", "Did you mean 'identifier'?"),
        ("{needs_one_of: [family+birthday]}", "Patient has no search parameter 'birthday'. Did you mean 'birthdate'?"),
        ("{needs_one_of: [general-practitioner.name]}", "may mean several types"),
        ("{needs_one_of: [organization:Organization.name]}", "write it without modifiers and types"),
        ("{total: sometimes}", "unknown total 'sometimes'."),
        ("{chain: 1}", "query has no key 'chain'."),
        ("[]", "query must be a mapping"),
    ],
)  # fmt: skip
def test_a_query_that_is_not_right_is_refused_at_load(query: str, message: str) -> None:
    found = problems(query)
    assert [text for text in found if message in text and "error" in text], found


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("effect: deny, may: [search]", "'query' is for a permit"),
        ("effect: permit, may: [read], shared: true", "'query' is about searches"),
    ],
)
def test_a_query_stands_in_a_permit_of_searches(rest: str, message: str) -> None:
    assert any(message in text for text in problems("{chain_depth: 1}", rest=rest))


@pytest.mark.parametrize(
    "query",
    [
        "{include: none}",
        "{include: any-permitted}",
        "{include: [Patient:organization, Observation:subject]}",
        "{needs_one_of: [organization.name]}",
    ],
)
def test_a_query_that_is_right_loads(query: str) -> None:
    assert [text for text in problems(query) if "error" in text] == []


def test_refusals_of_joins_are_stable() -> None:
    found: Any = decide([OWN], A, "GET /Observation?focus:Patient.name=x")
    assert (found.reason, found.conceal) == (Reason.JOIN_CLOSED, False)


@pytest.mark.parametrize("query", ["_summary=count", "_total=accurate", "_total=estimate"])
def test_a_count_is_told_only_where_it_counts_nothing_hidden(query: str) -> None:
    assert answer([OWN], A, f"GET /Observation?{query}") == f"Observation?{query}&subject=Patient%2FA"
    deny = "rule: vip, effect: deny, may: [any], resources: [Observation], where: {ids: [secret]}"
    never = OWN.replace("chain_depth: 2", "total: never")
    for rules in ([OWN, deny], [never]):
        if query.startswith("_summary"):
            assert answer(rules, A, f"GET /Observation?{query}") == "count-closed"
            continue
        # A total is a wish (FHIR R4 3.1.1.5): the search passes, and says none.
        found = decide(rules, A, f"GET /Observation?{query}")
        assert isinstance(found, Permit)
        assert not found.exact
        assert upstream_target(found.request) == "Observation?subject=Patient%2FA"
    both = "GET /Observation?_total=none&_summary=count"
    assert answer([OWN, deny], A, both) == "count-closed"


def test_a_search_that_only_counts_shows_nothing_else() -> None:
    found = decide([OWN], A, "GET /Observation?_summary=count")
    assert isinstance(found, Permit)
    assert found.exact
    assert not policies.shows(found, resource("Observation", subject="A"))


def test_no_total_is_told_where_none_is_asked_for() -> None:
    found = decide([OWN], A, "GET /Observation?_total=none")
    assert isinstance(found, Permit)
    assert not found.exact
    assert upstream_target(found.request) == "Observation?subject=Patient%2FA"


VIEW = (
    f"rule: v, effect: permit, {MAY}, resources: [Patient, Observation], shared: true, "
    "query: {chain_depth: 2, include: any-permitted}, return: {hide: [Patient.name, Observation.performer]}"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET /Observation?subject:Patient.name=x", "join-closed"),
        ("GET /Observation?subject:Patient.gender=male", "Observation?subject:Patient.gender=male"),
        ("GET /Patient?_has:Observation:performer:code=x", "join-closed"),
        ("GET /Patient?_has:Observation:subject:code=x", "Patient?_has:Observation:subject:code=x"),
        ("GET /Patient?_has:Observation:subject:performer=Practitioner/x", "join-closed"),
        ("GET /Observation?performer:Patient.gender=male", "unsupported-parameter"),
        ("GET /Observation?_include=Observation:performer", "unsupported-parameter"),
        ("GET /Patient?_revinclude=Observation:performer", "join-closed"),
        ("GET /Patient?_revinclude=Observation:subject", "Patient?_revinclude=Observation%3Asubject"),
        ("GET /Patient?_elements=gender&_summary=count", "invalid-parameter"),
        ("GET /Patient?_elements=name", "Patient"),
        ("GET /Patient?_total=accurate", "Patient?_total=accurate"),
    ],
)
def test_no_join_goes_by_what_a_view_hides(text: str, expected: str) -> None:
    if expected == "invalid-parameter":
        with pytest.raises(FhirError):
            ask(text)
        return
    assert answer([VIEW], caller(), text) == expected


def test_a_deny_of_fields_closes_every_join_by_them() -> None:
    fields = (
        "rule: f, effect: deny, may: [any], resources: [Patient], fields: [Patient.name], where: {ids: [VIP]}"
    )
    assert answer([STAFF, fields], caller(), "GET /Observation?subject:Patient.name=x") == "join-closed"
    assert answer([STAFF, fields], caller(), "GET /Observation?subject:Patient.gender=male").startswith("Obs")


def test_what_is_included_is_seen_as_a_read_shows_it() -> None:
    found = decide([VIEW], caller(), "GET /Observation?_include=Observation:subject")
    assert isinstance(found, Permit)
    assert found.included is not None
    verdict = found.included.judges["Patient"](
        resource("Patient", "A", name=[{"family": "x"}], gender="male")
    )
    assert verdict.seen is not None
    assert "name" not in verdict.seen

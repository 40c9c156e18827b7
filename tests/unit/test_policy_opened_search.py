"""`query: open`: who may search by `_filter`, `_list`, `_text` and `_content`, and what is judged of it."""

from typing import Any

import pytest

from gateway.fhir.outcome import Reason
from gateway.fhir.request_target import upstream_target
from gateway.policy import by_list
from gateway.policy.decision import Deny, Nothing, Permit
from gateway.policy.language import PolicyErrors
from tests.support.policies import caller, decide, load, policy, resource, shows

ALL = "query: {open: [_filter, _list, _text, _content]}"
CHART = "may: [read, search], resources: [Patient, Observation, Condition, List]"
OWN = f'rule: own, effect: permit, {CHART}, where: {{compartment: {{patient: "{{token.patient}}"}}}}, {ALL}'
STAFF = f"rule: staff, effect: permit, {CHART}, shared: true, {ALL}"
A = caller("patient", patient="A")


def answer(rules: list[str], who: Any, text: str) -> str:
    """What the store is asked; the reason of a refusal; 'nothing'."""
    found = decide(rules, who, text)
    if isinstance(found, Deny):
        return str(found.reason)
    return "nothing" if isinstance(found, Nothing) else upstream_target(found.request)


@pytest.mark.parametrize("text", ["_filter=code%20eq%20x", "_list=l", "_text=x", "_content=x"])
def test_only_a_permit_that_opens_it_carries_a_search(text: str) -> None:
    word = text.partition("=")[0]
    shut = OWN.replace(ALL, "query: {total: exact}")
    rest = sorted({"_filter", "_list", "_text", "_content"} - {word})
    other = OWN.replace(ALL, f"query: {{open: [{', '.join(rest)}]}}")
    ask = f"GET /Observation?{text}"
    assert answer([OWN], A, ask) == f"Observation?{text}&subject=Patient%2FA"
    assert answer([shut], A, ask) == "unsupported-parameter"
    assert answer([other], A, ask) == "unsupported-parameter"
    assert answer(["rule: r, effect: permit, may: [read], resources: [Device], shared: true"], A, ask) == (
        "unsupported-parameter"
    )
    # Another's permit opens nothing for this one, and a permit that opens it lends it to none.
    theirs = STAFF.replace("effect: permit,", "effect: permit, who: {context: user},")
    assert answer([shut, theirs], A, ask) == "unsupported-parameter"
    some = f"rule: some, effect: permit, {CHART}, where: {{ids: [x]}}, query: {{open: [_filter, _list]}}"
    both = [some, STAFF.replace(ALL, "query: {total: exact}")]
    if word in ("_filter", "_list"):
        found = decide(both, caller(), ask)
        assert isinstance(found, Permit)
        found = by_list.read(found)
        assert shows(found, resource("Observation", "x"))
        assert not shows(found, resource("Observation", "y"))


def test_what_the_query_of_all_permits_together_would_open_is_not_opened() -> None:
    rules = [OWN.replace(ALL, "query: {open: [_filter]}"), STAFF.replace(ALL, "query: {open: [_text]}")]
    assert (
        answer(rules, caller(patient="A"), "GET /Observation?_text=x&_filter=code%20eq%20x") == "query-closed"
    )


def test_other_ways_of_the_language_do_not_have_them() -> None:
    for where in ("_filter=code eq x", "_list=l", "_text=x"):
        with pytest.raises(PolicyErrors):
            load(
                policy(
                    f'rule: r, effect: permit, {CHART}, where: {{match: {{Observation: "{where}"}}}}, shared: true'
                )
            )


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("open: [_fliter]", "'_fliter' is none of _content, _filter, _list, _text, which alone are opened here. Did"),
        ("open: [_query]", "'_query' is none of"),
        ("open: [_text], closed: [_text]", "'_text' is opened and closed by the same rule"),
    ],
)  # fmt: skip
def test_a_mistake_in_open_is_told(said: str, problem: str) -> None:
    with pytest.raises(PolicyErrors) as error:
        load(policy(STAFF.replace(ALL, f"query: {{{said}}}")))
    assert problem in str(error.value)


# _filter


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("subject eq Patient/B", "nothing"),
        ("subject eq Patient/B and code eq x", "nothing"),
        ("subject eq Patient/B or code eq x", "sent"),
        ("not (subject eq Patient/A)", "sent"),
        ("subject pr false", "sent"),
        ("code eq x and identifier eq y", "query-closed"),
        ("code eq x or not (identifier eq y)", "query-closed"),
        ("status eq final", "unsupported-parameter"),
        ("code eq x or not (status eq final)", "unsupported-parameter"),
    ],
)
def test_every_parameter_of_a_filter_is_judged_as_one_of_the_search(filter: str, expected: str) -> None:
    rule = OWN.replace(
        ALL, "query: {open: [_filter], closed: [identifier]}, return: {hide: [Observation.status]}"
    )
    found = answer([rule], A, f"GET /Observation?_filter={filter.replace(' ', '%20')}")
    assert (
        (found.startswith("Observation?_filter=") and "&subject=Patient%2FA" in found)
        if expected == "sent"
        else (found == expected)
    )


def test_a_filter_is_none_of_what_a_search_needs() -> None:
    rule = STAFF.replace(ALL, "query: {open: [_filter], needs_one_of: [identifier]}")
    assert answer([rule], caller(), "GET /Patient?_filter=identifier%20eq%20x") == "query-closed"
    assert answer([rule], caller(), "GET /Patient?_filter=identifier%20eq%20x&identifier=x").startswith(
        "Patient?"
    )


def test_what_a_deny_takes_away_closes_a_filter_by_it() -> None:
    deny = "rule: d, effect: deny, may: [read, search], resources: [Observation], fields: [status]"
    ask = "GET /Observation?_filter=code%20eq%20x%20or%20{}%20eq%20final"
    assert answer([STAFF, deny], caller(), ask.format("status")) == "unsupported-parameter"
    assert answer([STAFF, deny], caller(), ask.format("category")).startswith("Observation?")


def test_the_store_must_say_that_it_took_the_filter() -> None:
    found = decide([OWN], A, "GET /Observation?_filter=(code%20eq%20x)&_list=l")
    assert isinstance(found, Permit)
    assert found.added == ("subject=Patient/A", "_filter=code eq x", "_list=l")
    assert found.opened == {"_filter", "_list"}


# _list


def test_nothing_is_shown_before_the_list_was_read() -> None:
    found = decide([OWN], A, "GET /Observation?_list=l")
    assert isinstance(found, Permit)
    assert found.by_list is not None
    assert found.by_list.id == "l"
    own, foreign = resource("Observation", subject="A"), resource("Observation", subject="B")
    assert not shows(found, own)
    assert shows(by_list.read(found), own)
    assert not shows(by_list.read(found), foreign)


def test_a_search_that_also_has_to_prove_its_narrowing_waits_for_both() -> None:
    rule = 'rule: r, effect: permit, may: [search], resources: [Observation], where: {match: {Observation: "%s"}}, %s'
    found = decide([rule % ("subject:Patient.gender=male", ALL)], caller(), "GET /Observation?_list=l")
    assert isinstance(found, Permit)
    read = by_list.read(found)
    assert found.by_search is not None
    assert read.by_search is not None
    one = resource("Observation")
    assert not shows(found, one)
    assert not shows(read, one)
    assert not found.by_search.judge(one).shown
    assert read.by_search.judge(one).shown
    assert "_list=l" in found.by_search.proof


# _text and _content


DENY = "rule: d, effect: deny, may: [read, search]"
DEVICES = "rule: v, effect: permit, may: [read, search], resources: [Device], shared: true"
IN_PART = f"{DEVICES}, return: {{hide: [Device.identifier]}}"
IS_FINAL = "may: [search], resources: [Observation], where: {match: {Observation: status=final}}"
FINAL = f"rule: m, effect: permit, {IS_FINAL}, {ALL}"
LABELLED = 'where: {labels: {any_of: ["v3-ActCode|PSY"]}}'


@pytest.mark.parametrize(
    ("rules", "added"),
    [
        ([STAFF], ""),
        ([OWN], "&subject=Patient%2FA"),
        ([FINAL], "&status=final"),
        # What closes some of what is found, and what closes something else.
        ([STAFF, f"{DENY}, resources: [Observation], where: {{ids: [x]}}"], None),
        ([STAFF, f"{DENY}, resources: [Condition], where: {{ids: [x]}}"], ""),
        ([STAFF, f"{DENY}, resources: any, {LABELLED}"], None),
        ([STAFF, f"{DENY}, resources: any, fields: [meta.security]"], None),
        ([STAFF, f"{DENY}, resources: [Observation], fields: [status]"], None),
        # Names and numbers in references, and whatever stands contained in what is found.
        ([STAFF, f"{DENY}, resources: [Patient], fields: [name]"], None),
        ([STAFF, f"{DENY}, resources: [Device], fields: [identifier]"], None),
        ([STAFF, f"{DENY}, who: {{context: patient}}, resources: [Device], fields: [identifier]"], ""),
        ([STAFF, IN_PART], None),
        ([STAFF, IN_PART, DEVICES.replace("rule: v", "rule: w")], ""),
        # Conditions that a search cannot say, or says by halves.
        ([f"rule: i, effect: permit, {CHART}, where: {{ids: [x]}}, {ALL}"], None),
        ([f"rule: l, effect: permit, {CHART}, where: {{labels: {{at_most: N, unlabelled: R}}}}, {ALL}"], None),
        ([STAFF, "rule: q, effect: require, may: [search], resources: [Observation], where: {ids: [x]}"], None),
        ([STAFF, f"rule: q, effect: require, {IS_FINAL}"], "&status=final"),
        ([FINAL, FINAL.replace("rule: m", "rule: n").replace("final", "amended")], None),
        ([OWN.replace('token.patient}"', 'token.patient}", membership: all')], None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("word", ["_text", "_content"])
def test_full_text_is_closed_wherever_something_is_left_out_of_what_it_finds(
    word: str, rules: list[str], added: str | None
) -> None:
    who = A if rules[0].startswith("rule: own") else caller()
    found = answer(rules, who, f"GET /Observation?{word}=x")
    assert found == ("unsupported-parameter" if added is None else f"Observation?{word}=x{added}")


def test_a_permit_with_a_view_carries_no_full_text_and_one_beside_it_does() -> None:
    view = f"rule: v, effect: permit, {CHART}, shared: true, return: {{hide: [Observation.status]}}, {ALL}"
    ask = "GET /Observation?_text=x"
    assert answer([view], A, ask) == "unsupported-parameter"
    found = decide([view, OWN], A, ask)
    assert isinstance(found, Permit)
    assert found.rules == ("p/own",)
    assert upstream_target(found.request) == "Observation?_text=x&subject=Patient%2FA"


def test_a_total_is_told_of_full_text_as_of_other_searches() -> None:
    found = decide([OWN], A, "GET /Observation?_text=x")
    never = decide([OWN.replace("_content]", "_content], total: never")], A, "GET /Observation?_text=x")
    assert isinstance(found, Permit)
    assert isinstance(never, Permit)
    assert (found.exact, never.exact) == (True, False)


def test_the_refusal_says_which_word_opens_it() -> None:
    found = decide(
        [STAFF.replace(ALL, "query: {open: [_list]}")], caller(), "GET /Observation?_text=x&_list=l"
    )
    assert isinstance(found, Deny)
    assert found.reason is Reason.UNSUPPORTED_PARAMETER
    assert found.explanation == "_text must be opened by the query of a permit, which says 'open: [_text]'"

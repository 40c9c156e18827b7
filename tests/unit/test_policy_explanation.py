"""securus policy explain: what it says of scopes, of every condition of every rule, and of the resource."""

import json
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.policy.engine import Engine
from gateway.policy.inquiries.explanation import Explanation, explain
from gateway.policy.inquiries.explanation_parts import Outcome, Truth
from gateway.policy.inquiries.explanation_words import as_json, as_lines
from tests.support.policies import BASES, DEFINITIONS, HERE, ask, caller, load, policy, resource

RULES = (
    "rule: nurses, effect: permit, who: {context: user, role: [nurse]}, when: {network: $inside}, may: [read, search], "
    'resources: [Observation], where: {match: {Observation: "category=lab"}}, then: {audit: full}',
    "rule: withdrawn, effect: deny, may: [any], resources: any, where: {ids: [w]}",
    "rule: fresh, effect: require, who: {context: user}, when: {signed_in_within: 10m}, resources: [Condition]",
    "rule: all-conditions, effect: permit, who: {context: user}, may: [read], resources: [Condition], shared: true",
)
LAB = resource("Observation", "x", category=[{"coding": [{"code": "lab"}]}])


def explained(text: str, *, stored: object = None, **who: object) -> Explanation:
    judge = Engine(load(policy(*RULES)), bases=BASES)
    return explain(judge, ask(text), caller(**who), HERE, resource=stored)  # type: ignore[arg-type]


def parts(found: Explanation, rule: str) -> dict[str, str]:
    (each,) = [each for each in found.rules if each.rule.id == f"p/{rule}"]
    return {part.name: str(part.holds) for part in each.parts}


def outcomes(found: Explanation) -> dict[str, Outcome]:
    return {each.rule.id.removeprefix("p/"): each.outcome for each in found.rules}


def test_each_condition_of_a_rule_that_does_not_match_is_told_for_itself() -> None:
    found = explained("GET /Observation/x", roles=["clerk"])
    assert parts(found, "nurses") == {
        "who.context": "true", "who.roles": "false", "networks": "false", "where": "open",
    }  # fmt: skip
    assert outcomes(found) == {"nurses": Outcome.UNMATCHED, "withdrawn": Outcome.OPEN}
    assert (found.allowed, found.reason) == (Truth.FALSE, "no-permit")


def test_what_depends_on_the_resource_is_open_until_the_resource_is_given() -> None:
    judge = Engine(load(policy(RULES[0].replace("when: {network: $inside}, ", ""), RULES[1])), bases=BASES)
    who, asked = caller(roles=["nurse"]), ask("GET /Observation/x")
    without = explain(judge, asked, who, HERE)
    assert without.allowed is Truth.OPEN
    assert set(outcomes(without).values()) == {Outcome.OPEN}
    given = explain(judge, asked, who, HERE, resource=LAB)
    assert given.allowed is Truth.TRUE
    assert outcomes(given) == {"nurses": Outcome.PERMITS, "withdrawn": Outcome.UNMATCHED}
    other = explain(judge, asked, who, HERE, resource=resource("Observation", "x"))
    assert (other.allowed, outcomes(other)["nurses"]) == (Truth.FALSE, Outcome.UNMATCHED)
    assert other.reason == "no-permit"


def test_a_missing_claim_and_one_of_another_type_are_told_apart() -> None:
    (missing, *_) = explained("GET /Observation/x").rules
    assert (missing.parts[1].found, missing.parts[1].holds) == (None, Truth.FALSE)
    (wrong, *_) = explained("GET /Observation/x", roles="nurse").rules
    assert (wrong.parts[1].found, wrong.parts[1].holds) == ("not of its type", Truth.FALSE)


def test_a_sign_in_that_is_asked_for_is_named_as_such() -> None:
    found = explained("GET /Condition/x")
    assert outcomes(found)["fresh"] is Outcome.STEP_UP
    assert parts(found, "fresh") == {"who.context": "true", "sign_in": "false"}
    assert found.reason == "step-up-required"
    assert as_json(found)["obligations"] == {"conceal": False, "step_up": {"acr_values": [], "max_age": 600}}


def test_scopes_that_do_not_count_say_why() -> None:
    found = explained("GET /Observation/x", scope="openid user/Condition.rs user/Observation.rs")
    assert [(s.scope, s.holds, s.why) for s in found.scopes] == [
        ("openid", Truth.FALSE, "it is not a scope for health data"),
        ("user/Condition.rs", Truth.FALSE, "no scope of the token gives Observation.r"),
        ("user/Observation.rs", Truth.TRUE, "it opens the request"),
    ]


def test_a_caller_of_no_standing_has_no_rule_asked_about() -> None:
    found = explained("GET /Observation/x", scope="user/*.rs patient/*.rs")
    assert (found.rules, found.reason) == ((), "mixed-contexts")
    assert "rules about it: none were asked, or there are none" in as_lines(found)


def test_the_text_has_the_reason_the_because_and_what_is_added() -> None:
    rules = RULES[0].replace("when: {network: $inside}, ", "")
    judge = Engine(load(policy(rules)), bases=BASES)
    text = "\n".join(as_lines(explain(judge, ask("GET /Observation"), caller(roles=["nurse"]), HERE)))
    for said in (
        "decision: permit", "the store is asked: GET /Observation?category=lab", "added: category=lab",
        "audit: full", "because: Said so.", "? where: wanted", '+ who.roles: wanted ["nurse"], found ["nurse"]',
    ):  # fmt: skip
        assert said in text


def test_a_deny_of_elements_takes_them_away_and_refuses_nothing() -> None:
    hides = "rule: notes, effect: deny, who: {context: user}, may: [read], resources: [Condition], fields: [Condition.note]"
    judge = Engine(load(policy(hides, RULES[3])), bases=BASES)
    found = explain(judge, ask("GET /Condition/x"), caller(), HERE)
    assert outcomes(found) == {"notes": Outcome.HIDES, "all-conditions": Outcome.PERMITS}
    assert found.allowed is Truth.TRUE
    assert 'takes away: ["Condition.note"]' in "\n".join(as_lines(found))
    other = explain(judge, ask("GET /Condition/x"), caller("system"), HERE)
    assert outcomes(other)["notes"] is Outcome.UNMATCHED


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    (tmp_path / "0.yaml").write_text(DEFINITIONS)
    (tmp_path / "1.yaml").write_text(policy(*RULES))
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main(["policy", "explain", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def test_the_command_takes_words_claims_and_a_stored_resource(
    policies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored, claims = tmp_path / "x.json", tmp_path / "claims.json"
    stored.write_text(json.dumps(LAB))
    claims.write_text(json.dumps({"scope": "user/*.rs", "realm": {"roles": ["nurse"]}}))
    for who in (["--as", "context: user, role: nurse"], ["--claims", claims]):
        code, out = run(
            capsys, "GET /Observation/x", "--policies", policies, *who, "--network", "10.20.0.1",
            "--resource", stored, "--json",
        )  # fmt: skip
        said = json.loads(out)
        assert code == 0
        assert (said["decision"], said["depends_on_resource"]) == ("permit", False)
        assert said["deciding_rules"] == ["p/nurses"]
        assert said["resource"] == {"shown": True, "rules": ["p/nurses"]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Observation", "--as", "context: user"], "is not a method and a path"),
        (["GET /Observatoin/x", "--as", "context: user"], "unknown-type"),
        (["GET /Observation/x", "--as", "context: usr"], "Did you mean 'user'?"),
        (["GET /Observation/x", "--as", "rôle: x"], "no claim named"),
        (["GET /Observation/x", "--as", "context: [user"], "--as:1:"),
    ],
)
def test_a_question_that_cannot_be_read_says_what_is_wrong(
    policies: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code, out = run(capsys, *arguments, "--policies", policies)
    assert code == 1
    assert said in out


WRITES = (
    "rule: find, effect: permit, who: {context: user}, may: [search], resources: [Patient], shared: true, "
    "query: {needs_one_of: [identifier]}",
    "rule: file, effect: permit, who: {context: user}, may: [create, update], resources: [Observation], shared: true, "
    "write: {must_hold: \"status = 'final'\"}, conditional: {keys: [identifier]}",
    "rule: labels, effect: deny, may: [create, update], resources: [Observation], changes: [meta.security]",
)


def told(text: str, stored: object = None) -> Explanation:
    judge = Engine(load(policy(*WRITES)), bases=BASES)
    return explain(judge, ask(text), caller(), HERE, resource=stored)  # type: ignore[arg-type]


def test_a_search_that_a_permit_does_not_open_names_its_query() -> None:
    for text, holds, outcome in (
        ("GET /Patient?identifier=x", "true", Outcome.PERMITS),
        ("GET /Patient?name=x", "false", Outcome.UNMATCHED),
    ):
        found = told(text)
        assert (parts(found, "find"), outcomes(found)) == (
            {"query": holds, "who.context": "true"},
            {"find": outcome},
        )
    assert "query: wanted" in "\n".join(as_lines(told("GET /Patient?name=x")))


def test_a_write_is_told_by_its_statement_and_by_what_it_changes() -> None:
    final, draft = (resource("Observation", "x", status=status) for status in ("final", "preliminary"))
    labelled = {**final, "meta": {"security": [{"code": "R"}]}}
    for stored, allowed, file, labels in (
        (final, Truth.TRUE, "true", "false"),
        (draft, Truth.FALSE, "false", "false"),
        (labelled, Truth.FALSE, "true", "true"),
        (None, Truth.OPEN, "open", "open"),
    ):
        found = told("POST /Observation", stored)
        said = (found.allowed, parts(found, "file")["write"], parts(found, "labels")["write"])
        assert said == (allowed, file, labels), stored
    assert outcomes(told("POST /Observation", labelled))["labels"] is Outcome.REFUSES
    assert outcomes(told("POST /Observation", draft)) == {
        "file": Outcome.UNMATCHED,
        "labels": Outcome.UNMATCHED,
    }
    # Of an update two versions are looked at, and one is given.
    assert outcomes(told("PUT /Observation/x", final)) == {"file": Outcome.OPEN, "labels": Outcome.OPEN}


def test_a_conditional_update_is_told_by_its_criteria() -> None:
    for text, holds in (("PUT /Observation?identifier=x", "true"), ("PUT /Observation?code=x", "false")):
        assert parts(told(text), "file")["conditional"] == holds
    assert "conditional" not in parts(told("PUT /Observation/x"), "file")


def test_a_search_by_what_must_be_opened_by_name_says_which_permit_opens_it_and_what_is_read_first() -> None:
    permit = "rule: {}, effect: permit, may: [read, search], resources: [Observation, List], shared: true"
    shut, opening = permit.format("shut"), permit.format("opening") + ", query: {open: [_list, _filter]}"
    asked, who = ask("GET /Observation?_list=l&_filter=(code%20eq%20x)"), caller()
    found = explain(Engine(load(policy(shut, opening)), bases=BASES), asked, who, HERE)
    assert (parts(found, "shut")["query"], parts(found, "opening")["query"]) == ("false", "true")
    assert outcomes(found) == {"shut": Outcome.UNMATCHED, "opening": Outcome.PERMITS}
    assert "  once a read of List/l shows it whole; else nothing is found" in as_lines(found)
    said = as_json(found)
    assert said["reads_first"] == "List/l"
    assert said["upstream"] == "GET /Observation?_list=l&_filter=code%20eq%20x"
    stored = explain(Engine(load(policy(opening)), bases=BASES), asked, who, HERE, resource=LAB)
    assert stored.allowed is Truth.TRUE
    refused = explain(Engine(load(policy(shut)), bases=BASES), asked, who, HERE)
    assert refused.reason == "unsupported-parameter"
    assert (
        "why: _filter and _list must be opened by the query of a permit, which says 'open: [_filter, _list]'"
        in (as_lines(refused))
    )

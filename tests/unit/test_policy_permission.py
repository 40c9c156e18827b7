"""A policy set as a FHIR Permission: each permit and deny is a rule, and nothing that is left out goes unsaid."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main
from gateway.policies_folder import policy_files
from gateway.policy import language
from gateway.policy.inquiries.permission import NOT_EXPRESSED, not_said, permission
from tests.support.policies import DEFINITIONS, load, policy

ROOT = Path(__file__).parents[2]
RULES = (
    "rule: own, effect: permit, who: {context: patient, client: portal, purpose: [PATRQT]}, may: [read, search], "
    'resources: [Observation, Patient], where: {compartment: {patient: "{token.patient}", membership: spec}}, '
    "return: {hide: [Observation.note]}",
    'rule: lab, effect: permit, who: {org: LAB}, may: [search], resources: [Observation], '
    'where: {match: {Observation: "Observation?category=laboratory"}}, query: {page_at_most: 20}',
    "rule: closed, effect: deny, may: [any], resources: any, where: {labels: {any_of: [v3-ActCode|PSY]}}, "
    "unless: {role: [psychiatrist]}",
    "rule: one, effect: deny, may: [read], resources: [Observation], where: {ids: [x]}, who: {role: {not: [chief]}}",
    "rule: inside, effect: require, who: {context: user}, when: {network: [10.0.0.0/8]}",
)  # fmt: skip
RULE_MEMBERS = {"id", "extension", "type", "data", "activity", "limit"}  # FHIR R5 Permission.rule
DATA_MEMBERS = {"resource", "security", "period", "expression"}
ACTIVITY_MEMBERS = {"actor", "action", "purpose"}


def exported(*rules: str) -> dict[str, Any]:
    found = permission(load(policy(*rules)))
    assert json.loads(json.dumps(found)) == found
    return found


def rules_of(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in found["rule"]}


def unsaid(rule: dict[str, Any]) -> str:
    extensions = rule.get("extension", [])
    assert {each["url"] for each in extensions} <= {NOT_EXPRESSED}
    return "; ".join(each["valueString"] for each in extensions)


def test_permits_and_denies_are_rules_that_a_deny_overrides() -> None:
    found = exported(*RULES)
    assert (found["resourceType"], found["status"], found["combining"]) == (
        "Permission", "active", "deny-overrides",
    )  # fmt: skip
    assert {name: each["type"] for name, each in rules_of(found).items()} == {
        "p.own": "permit", "p.lab": "permit", "p.closed": "deny", "p.one": "deny",
    }  # fmt: skip


def test_whose_data_which_criteria_labels_and_ids() -> None:
    found = rules_of(exported(*RULES))
    assert [each["expression"]["expression"] for each in found["p.own"]["data"]] == [
        "Observation?subject={{%token.patient}}", "Patient?_id={{%token.patient}}",
    ]  # fmt: skip
    assert found["p.lab"]["data"][0]["expression"] == {
        "language": "application/x-fhir-query", "expression": "Observation?category=laboratory",
    }  # fmt: skip
    act_code = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
    assert found["p.closed"]["data"] == [{"security": [{"system": act_code, "code": "PSY"}]}]
    instance = {"meaning": "instance", "reference": {"reference": "Observation/x"}}
    assert found["p.one"]["data"] == [{"resource": [instance]}]


def test_who_may_do_what_and_for_which_purpose() -> None:
    (activity,) = rules_of(exported(*RULES))["p.own"]["activity"]
    assert activity["actor"] == [
        {"type": "Device", "identifier": {"system": "urn:securus:client", "value": "portal"}}
    ]
    assert [each["coding"][0]["code"] for each in activity["action"]] == ["read", "search-type"]
    assert [each["coding"][0]["code"] for each in activity["purpose"]] == ["PATRQT"]


def test_what_is_taken_away_is_a_limit() -> None:
    assert rules_of(exported(*RULES))["p.own"]["limit"] == [{"text": "without Observation.note"}]


def test_what_a_permission_cannot_say_is_said_in_words() -> None:
    found = rules_of(exported(*RULES))
    assert "who.context: one of patient" in unsaid(found["p.own"])
    assert "membership spec" in unsaid(found["p.own"])
    assert "query: page_at_most 20" in unsaid(found["p.lab"])
    assert "unless: " in unsaid(found["p.closed"])
    assert "psychiatrist" in unsaid(found["p.closed"])
    assert "who.roles: none of chief" in unsaid(found["p.one"])


def test_a_guard_is_no_rule_of_a_permission_and_is_named() -> None:
    (line,) = [each for each in not_said(load(policy(*RULES))) if each.startswith("p/inside")]
    assert "the whole rule: it is a guard" in line
    assert "networks: 10.0.0.0/8" in line
    assert "p/inside" in exported(*RULES)["text"]["div"]


def test_the_narrative_is_xhtml_whatever_the_rules_say() -> None:
    text = policy(RULES[0]).replace("Said so.", "'<script>x</script> & more'")
    div = permission(load(text))["text"]["div"]  # type: ignore[index]
    tags: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)

    Tags().feed(div)
    assert set(tags) <= {"div", "p", "ul", "li", "b"}


def test_the_members_are_those_of_fhir_r5() -> None:
    shipped = language.load(policy_files(ROOT / "policies"))
    for found in (exported(*RULES), permission(shipped)):
        for rule in found["rule"]:  # type: ignore[attr-defined]
            assert set(rule) <= RULE_MEMBERS
            assert all(set(each) <= DATA_MEMBERS and each for each in rule["data"])
            assert all(set(each) <= ACTIVITY_MEMBERS for each in rule["activity"])


def test_no_condition_of_the_language_is_lost_in_silence() -> None:
    """Whatever makes a rule narrower is in the rule's JSON, or named as left out."""
    for narrower, word in (
        ("who: {bound: mtls}", "mtls"),
        ("who: {acr: urn:securus:acr:password}", "password"),
        ("when: {network: [10.0.0.0/8]}", "10.0.0.0"),
        ("when: {signed_in_within: 10m}", "600"),
        ("where: {labels: {at_most: N, unlabelled: N}}", "at_most"),
        ("where: {labels: {without: [v3-ActCode|ETH]}}", "ETH"),
        ("where: {any_of: [{ids: [only-this]}, {ids: [only-that]}]}", "only-that"),
        ("query: {needs_one_of: [identifier]}", "identifier"),
    ):
        shared = "" if narrower.startswith("where") else ", shared: true"
        rule = f"rule: r, effect: permit, may: [read, search], resources: [Observation], {narrower}{shared}"
        assert word in json.dumps(exported(rule)["rule"]), narrower


def test_the_command_prints_the_resource_and_what_it_does_not_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "0.yaml").write_text(DEFINITIONS)
    (tmp_path / "1.yaml").write_text(policy(*RULES))
    assert main(["policy", "export", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["resourceType"] == "Permission"
    assert "securus: not said by the Permission: p/inside: " in printed.err
    (tmp_path / "empty").mkdir()
    assert main(["policy", "export", str(tmp_path / "empty")]) == 1

"""securus policy diff: rules field by field, and the decisions that differ."""

import json
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.policy import language
from gateway.policy.inquiries.difference import compare, rule_changes
from tests.model.test_policy_model import texts
from tests.model.worlds import World
from tests.support.policies import DEFINITIONS, load, policy

NURSES = (
    "rule: see, effect: permit, who: {context: user, role: [nurse]}, may: [read, search], "
    "resources: [Observation], shared: true"
)
OWN = (
    "rule: own, effect: permit, who: {context: patient}, may: [read, search], resources: [Observation], "
    'where: {compartment: {patient: "{token.patient}"}}'
)


def test_a_set_does_not_differ_from_itself() -> None:
    for seed in range(15):
        files = texts(World(seed).policies())
        found = compare(language.load(files), language.load(files))
        assert (found.rules, found.decisions) == ((), ())
        assert found.is_whole


def test_rules_are_compared_field_by_field_wherever_they_stand() -> None:
    before = load(policy(NURSES, OWN))
    after = load(
        policy(
            "rule: new, effect: deny, may: [any], resources: any", NURSES.replace("[nurse]", "[nurse, clerk]")
        )
    )
    changes = {each.rule: each for each in rule_changes(before, after)}
    assert {name: each.what for name, each in changes.items()} == {
        "p/new": "added", "p/own": "removed", "p/see": "changed",
    }  # fmt: skip
    ((key, (old, new)),) = changes["p/see"].fields.items()
    assert key == "who"
    assert "clerk" not in json.dumps(old)
    assert "clerk" in json.dumps(new)
    assert rule_changes(load(policy(NURSES, OWN)), load(policy(OWN, NURSES))) == ()


def test_decisions_that_differ_say_who_what_from_and_to() -> None:
    found = compare(load(policy(NURSES)), load(policy(NURSES.replace("[nurse]", "[nurse, clerk]"), OWN)))
    said = {(each.who, each.request, each.before, each.after) for each in found.decisions}
    assert said == {
        ("context: user, roles: clerk", "GET /Observation/x", "deny no-permit", "permit"),
        ("context: user, roles: clerk", "GET /Observation", "deny no-permit", "permit"),
        ("context: patient, patient: x", "GET /Observation/x", "deny no-permit", "permit, depending on the resource"),
        ("context: patient, patient: x", "GET /Observation", "deny no-permit", "permit with subject=Patient/x"),
    }  # fmt: skip


def test_the_tests_of_either_set_are_put_to_both() -> None:
    test = (
        "  - test: withdrawn\n    as: {context: user, role: nurse}\n    request: GET /Observation/w\n"
        "    given: {Observation/w: {resourceType: Observation, id: w}}\n    expect: {decision: deny}\n"
    )
    deny = "rule: d, effect: deny, may: [any], resources: [Observation], where: {ids: [w]}"
    found = compare(load(policy(NURSES)), load(policy(NURSES, deny, tests=test)))
    by_test = [each for each in found.decisions if each.test == "withdrawn"]
    assert [(each.before, each.after) for each in by_test] == [("permit", "deny policy-denied")]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    for name, rules in (("a", (NURSES,)), ("b", (NURSES, OWN))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.yaml").write_text(DEFINITIONS)
        (tmp_path / name / "1.yaml").write_text(policy(*rules))
    return str(tmp_path / "a"), str(tmp_path / "b")


def test_the_command_prints_both_parts(folders: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "diff", *folders]) == 0
    out = capsys.readouterr().out
    assert out.startswith("added p/own\n")
    assert (
        "GET /Observation by context: patient, patient: x\n  deny no-permit -> permit with subject=Patient/x\n"
        in out
    )
    assert main(["policy", "diff", *folders, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rules"] == [{"rule": "p/own", "what": "added", "fields": {}}]
    assert len(found["decisions"]) == 2


def test_a_folder_without_policies_is_a_refusal(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c").mkdir()
    assert main(["policy", "diff", folders[0], str(tmp_path / "c")]) == 1
    assert "holds no policy files" in capsys.readouterr().err

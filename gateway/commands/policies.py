"""securus policy …"""

import argparse
from dataclasses import replace
from pathlib import Path

from gateway.app import policy_files
from gateway.commands import policy_explain
from gateway.commands.answers import OK, REFUSED, add_group, add_verb, failed, problems, say
from gateway.policy import language, selftest


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    policy = add_group(verbs, "policy", "policies")
    policy_explain.add(policy)
    verb = add_verb(policy, "test", "run the tests inside the policy files", _test, configured=False)
    verb.add_argument(
        "path", nargs="?", type=Path, default=Path("policies"), metavar="PATH", help="file or folder"
    )


def _test(options: argparse.Namespace) -> int:
    path: Path = options.path
    # A file is tested as it would be in force: with the definitions and the other policies of its folder.
    files = policy_files(path.parent if path.is_file() else path)
    if path.is_file():
        files[str(path)] = path.read_text(encoding="utf-8")
    if not files:
        return failed(options, f"{path} holds no policy files (*.yaml)")
    try:
        policies = language.load(files)
    except language.PolicyErrors as error:
        return problems(options, error.problems)
    if path.is_file():
        own = tuple(test for test in policies.tests if test.place.file == str(path))
        policies = replace(policies, tests=own)
    report = selftest.run(policies)
    untested = [rule for rule in report.untested if rule in _rules_of(policies, path)]
    value = {
        "passed": report.passed,
        "failed": [str(problem) for problem in report.failures],
        "untested_rules": untested,
    }
    lines = [str(problem) for problem in report.failures]
    lines += [f"warning: no test shows the rule {name}" for name in untested]
    lines.append(f"{report.passed} passed, {len(report.failures)} failed")
    say(options, value, lines)
    return REFUSED if report.failures else OK


def _rules_of(policies: language.PolicySet, path: Path) -> frozenset[str]:
    """The rules that a test of this path should show: of the one file, or of all."""
    return frozenset(rule.id for rule in policies.rules if not path.is_file() or rule.place.file == str(path))

"""securus policy …"""

import argparse
from dataclasses import replace
from pathlib import Path

from authz.clock import system_clock
from gateway.commands import policy_diff, policy_explain, policy_export, policy_replay
from gateway.commands.answers import OK, REFUSED, add_group, add_verb, failed, problems, say
from gateway.commands.policy_sets import none_in
from gateway.commands.verbs import VERBS
from gateway.policies_folder import policy_files
from gateway.policy import language
from gateway.policy.inquiries.coverage import coverage
from gateway.policy.reading.checks import not_valid
from gateway.policy.selftests import selftest


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    policy = add_group(verbs, "policy", VERBS["policy"].help)
    policy_explain.add(policy)
    policy_diff.add(policy)
    policy_replay.add(policy)
    policy_export.add(policy)
    verb = add_verb(policy, "test", "run the tests inside the policy files", _test, configured=False)
    verb.add_argument(
        "path", nargs="?", type=Path, default=Path("policies"), metavar="PATH", help="file or folder"
    )
    verb.add_argument("--strict", action="store_true", help="exit 1 when a rule is not shown from both sides")


def _test(options: argparse.Namespace) -> int:
    path: Path = options.path
    # A file is tested as it would be in force: with the definitions and the other policies of its folder.
    files = policy_files(path.parent if path.is_file() else path)
    if path.is_file():
        files[str(path)] = path.read_text(encoding="utf-8")
    if not files:
        return failed(options, none_in(path))
    try:
        policies = language.load(files)
    except language.PolicyErrors as error:
        return problems(options, error.problems)
    if path.is_file():
        own = tuple(test for test in policies.tests if test.place.file == str(path))
        policies = replace(policies, tests=own)
    report = selftest.run(policies)
    own_rules = _rules_of(policies, path)
    untested = [rule for rule in report.untested if rule in own_rules]
    covered = [each for each in coverage(policies) if each.rule in own_rules]
    gaps = [f"{each.rule}: {gap}" for each in covered for gap in each.gaps]
    all_warnings = (*policies.warnings, *not_valid(policies.every_rule, system_clock()))
    warnings = [str(w) for w in all_warnings if not path.is_file() or w.file == str(path)]
    value = {
        "passed": report.passed,
        "failed": [str(problem) for problem in report.failures],
        "untested_rules": untested,
        "coverage": [
            {
                "rule": each.rule,
                "effect": str(each.effect),
                "permitting_tests": list(each.permits),
                "refusing_tests": list(each.refuses),
                "gaps": list(each.gaps),
            }
            for each in covered
        ],
        "warnings": warnings,
    }
    lines = [str(problem) for problem in report.failures]
    lines += warnings
    lines += [f"warning: {gap}" for gap in gaps]
    whole = sum(not each.gaps for each in covered)
    lines.append(f"{whole} of {len(covered)} rules are shown from both sides")
    lines.append(f"{report.passed} passed, {len(report.failures)} failed")
    say(options, value, lines)
    return REFUSED if report.failures or (options.strict and (gaps or warnings)) else OK


def _rules_of(policies: language.PolicySet, path: Path) -> frozenset[str]:
    """The rules that a test of this path should show: of the one file, or of all."""
    return frozenset(
        rule.id for rule in policies.every_rule if not path.is_file() or rule.place.file == str(path)
    )

"""The folder of policy files, and what of it may be put in force."""

from collections.abc import Collection
from pathlib import Path

from gateway.policy import language
from gateway.policy.reading import checks
from gateway.policy.selftests import selftest
from gateway.yaml_source import Problem


class PoliciesRefused(Exception):
    """A policy set that cannot be put in force. problems says why."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def policy_files(folder: Path) -> dict[str, str]:
    """The policy files of a folder and the documents of their tests, by the path to be shown in problems.

    Raises OSError.
    """
    found = sorted((*folder.glob("*.yaml"), *folder.glob("*.xml")))
    return {str(path): path.read_text(encoding="utf-8") for path in found}


def load_policies(files: dict[str, str]) -> language.PolicySet:
    """The policy set of these files, whose own tests all hold. Raises PoliciesRefused."""
    try:
        policies = language.load(files)
    except language.PolicyErrors as error:
        raise PoliciesRefused(tuple(error.problems)) from error
    report = selftest.run(policies)
    if report.failures:
        raise PoliciesRefused(tuple(report.failures))
    return policies


def check_receivers(policies: language.PolicySet, known: Collection[str]) -> None:
    """Raise PoliciesRefused where a rule notifies somebody who is not a known receiver of the configuration."""
    unknown = checks.unknown_receivers(policies.rules, known)
    if unknown:
        raise PoliciesRefused(tuple(unknown))

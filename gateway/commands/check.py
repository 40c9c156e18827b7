"""securus check"""

import argparse

from authz.clock import system_clock
from gateway.commands.answers import OK, add_verb, problems, say
from gateway.commands.opened import settings_of
from gateway.commands.verbs import VERBS
from gateway.config.document import ConfigErrors
from gateway.policies_folder import PoliciesRefused, check_receivers, load_policies, policy_files
from gateway.policy.reading.checks import not_valid
from gateway.yaml_source import Problem


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    add_verb(verbs, "check", VERBS["check"].help, _check)


def _check(options: argparse.Namespace) -> int:
    found: list[Problem] = []
    settings = None
    try:
        settings = settings_of(options)
    except ConfigErrors as error:
        found.extend(error.problems)
    warnings: list[Problem] = []
    policies = None
    if settings is not None:
        try:
            policies = load_policies(policy_files(settings.policies))
            warnings.extend(policies.warnings)
            warnings.extend(not_valid(policies.every_rule, system_clock()))
            check_receivers(policies, settings.notifications)
        except PoliciesRefused as error:
            found.extend(error.problems)
        if policies is not None and not policies.rules:
            found.append(
                Problem(str(settings.policies), 1, 1, "no rule is in force: every request is refused")
            )
    if found:
        return problems(options, found)
    rules = 0 if policies is None else len(policies.rules)
    tests = 0 if policies is None else len(policies.tests)
    say(
        options,
        {"ok": True, "rules": rules, "tests": tests, "warnings": [str(w) for w in warnings]},
        [
            *map(str, warnings),
            f"{options.config}: configuration, {rules} rules and {tests} policy tests are right",
        ],
    )
    return OK

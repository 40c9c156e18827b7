"""securus serve | check | demo"""

import argparse
from pathlib import Path

import uvloop

from authz.clock import system_clock
from gateway.commands.answers import OK, add_verb, problems, say, settings_of
from gateway.config.document import ConfigErrors
from gateway.demo.show import demo
from gateway.policies_folder import PoliciesRefused, check_receivers, load_policies, policy_files
from gateway.policy.reading.checks import not_valid
from gateway.serving import serve
from gateway.telemetry import log_to_stderr
from gateway.yaml_source import Problem


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    add_verb(verbs, "serve", "run the gateway", _serve)
    add_verb(verbs, "check", "check configuration and policies, and run the policies' tests", _check)
    said = "start everything with synthetic patients and run one full flow"
    verb = add_verb(verbs, "demo", said, _demo, configured=False)
    verb.add_argument(
        "--state", type=Path, default=Path(".demo"), metavar="DIR", help="where it keeps its files"
    )
    verb.add_argument("--port", type=int, default=8443, metavar="P", help="public port; P+1 is mutual TLS")
    verb.add_argument("--once", action="store_true", help="exit after the flow instead of serving on")


def _serve(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    log_to_stderr()
    uvloop.run(serve(settings))
    return OK


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


def _demo(options: argparse.Namespace) -> int:
    return demo(options.state, port=options.port, once=options.once)

"""securus serve | check | demo"""

import argparse
import asyncio
import os
from pathlib import Path

import uvloop

from authz.clock import system_clock
from gateway.commands.answers import OK, add_verb, problems, say, settings_of
from gateway.config.document import MOST_WORKERS, ConfigErrors, load
from gateway.demo.show import demo
from gateway.policies_folder import PoliciesRefused, check_receivers, load_policies, policy_files
from gateway.policy.reading.checks import not_valid
from gateway.serving import serve
from gateway.telemetry import log_to_stderr
from gateway.workers.supervisor import supervise
from gateway.workers.worker import Worker
from gateway.yaml_source import Problem


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    verb = add_verb(verbs, "serve", "run the gateway", _serve)
    said = "processes that share the listeners; without it what the configuration says"
    verb.add_argument("--workers", type=_workers, metavar="N", help=said)
    verb.add_argument("--as-worker", type=Worker.of, help=argparse.SUPPRESS)  # of a supervisor's own use
    add_verb(verbs, "check", "check configuration and policies, and run the policies' tests", _check)
    said = "start everything with synthetic patients and run one full flow"
    verb = add_verb(verbs, "demo", said, _demo, configured=False)
    verb.add_argument(
        "--state", type=Path, default=Path(".demo"), metavar="DIR", help="where it keeps its files"
    )
    verb.add_argument("--port", type=int, default=8443, metavar="P", help="public port; P+1 is mutual TLS")
    verb.add_argument("--once", action="store_true", help="exit after the flow instead of serving on")


def _serve(options: argparse.Namespace) -> int:
    worker: Worker | None = options.as_worker
    if worker is not None:
        settings = load(options.config, os.environ, copy=worker.configuration)
        log_to_stderr(worker=worker.number)
        uvloop.run(serve(settings, worker=worker))
        return OK
    settings = settings_of(options)
    log_to_stderr()
    count = options.workers or settings.workers
    if count > 1:
        return asyncio.run(supervise(settings, count=count))
    uvloop.run(serve(settings))
    return OK


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 1 to {MOST_WORKERS}")
    return int(text)


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

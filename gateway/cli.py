"""The command line: securus serve | check | demo | policy test | audit verify | user | client | key.

Exit code 0 on success, 1 on a refused request or an error in a file, 2 on wrong usage. --json gives one JSON value.
"""

import argparse
import asyncio
import getpass
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import uvloop

from authz.clock import system_clock
from authz.keys import KeyRing, KeyRingError, load_or_create_encryption_key
from authz.login.accounts import hash_password
from authz.storage.sqlite import SqliteStore, open_store
from authz.storage.store import StoreUnavailable
from gateway import audit
from gateway.app import PoliciesRefused, load_policies, policy_files, serve
from gateway.config.document import ConfigErrors, load
from gateway.demo.show import demo
from gateway.listener import ParserMissing
from gateway.policy import language, selftest
from gateway.settings import GatewaySettings
from gateway.telemetry import log_to_stderr
from gateway.yaml_source import Problem

T = TypeVar("T")
OK, REFUSED = 0, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except ConfigErrors as error:
        return _problems(options, error.problems)
    except PoliciesRefused as error:
        return _problems(options, list(error.problems))
    except (StoreUnavailable, KeyRingError, ParserMissing, OSError) as error:
        return _failed(options, str(error))
    except UnicodeDecodeError:
        return _failed(options, "a policy file is not UTF-8")
    except KeyboardInterrupt:
        return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="securus", description="The gateway in front of a hospital's FHIR store."
    )
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    verb = _verb(verbs, "serve", "run the gateway", _serve)
    _config(verb)
    verb = _verb(verbs, "check", "check configuration and policies, and run the policies' tests", _check)
    _config(verb)

    verb = _verb(verbs, "demo", "start everything with synthetic patients and run one full flow", _demo)
    verb.add_argument(
        "--state", type=Path, default=Path(".demo"), metavar="DIR", help="where it keeps its files"
    )
    verb.add_argument("--port", type=int, default=8443, metavar="P", help="public port; P+1 is mutual TLS")
    verb.add_argument("--once", action="store_true", help="exit after the flow instead of serving on")

    policy = _group(verbs, "policy", "policies")
    verb = _verb(policy, "test", "run the tests inside the policy files", _policy_test)
    verb.add_argument(
        "path", nargs="?", type=Path, default=Path("policies"), metavar="PATH", help="file or folder"
    )

    log = _group(verbs, "audit", "the audit log")
    verb = _verb(log, "verify", "walk the chain; exit 1 naming the first broken record", _audit_verify)
    _config(verb)

    user = _group(verbs, "user", "local accounts")
    _verb(
        user, "hash", "make the argon2id hash of a password from the terminal or standard input", _user_hash
    )
    verb = _verb(user, "list", "list the accounts", _user_list)
    _config(verb)

    client = _group(verbs, "client", "clients")
    verb = _verb(client, "list", "list the clients", _client_list)
    _config(verb)

    key = _group(verbs, "key", "the server's signing keys")
    verb = _verb(key, "list", "list the keys with their states", _key_list)
    _config(verb)
    verb = _verb(key, "rotate", "announce a successor now", _key_rotate)
    _config(verb)
    return parser


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    help_: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=help_, description=help_)
    verb.add_argument("--json", action="store_true", help="print one JSON value")
    verb.set_defaults(run=run)
    return verb


def _group(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, help_: str
) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    group = verbs.add_parser(name, help=help_, description=help_)
    return group.add_subparsers(title="verbs", required=True, metavar="VERB")


def _config(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("-c", "--config", type=Path, default=Path("gateway.yaml"), metavar="FILE")


def _settings(options: argparse.Namespace) -> GatewaySettings:
    return load(options.config, os.environ)


# Verbs


def _serve(options: argparse.Namespace) -> int:
    settings = _settings(options)
    log_to_stderr()
    uvloop.run(serve(settings))
    return OK


def _check(options: argparse.Namespace) -> int:
    problems: list[Problem] = []
    settings = None
    try:
        settings = _settings(options)
    except ConfigErrors as error:
        problems.extend(error.problems)
    warnings: list[Problem] = []
    policies = None
    if settings is not None:
        try:
            policies = load_policies(policy_files(settings.policies))
            warnings.extend(policies.warnings)
        except PoliciesRefused as error:
            problems.extend(error.problems)
        if policies is not None and not policies.rules:
            problems.append(
                Problem(str(settings.policies), 1, 1, "no rule is in force: every request is refused")
            )
    if problems:
        return _problems(options, problems)
    rules = 0 if policies is None else len(policies.rules)
    tests = 0 if policies is None else len(policies.tests)
    _say(
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


def _policy_test(options: argparse.Namespace) -> int:
    path: Path = options.path
    # A file is tested as it would be in force: with the definitions and the other policies of its folder.
    files = policy_files(path.parent if path.is_file() else path)
    if path.is_file():
        files[str(path)] = path.read_text(encoding="utf-8")
    if not files:
        return _failed(options, f"{path} holds no policy files (*.yaml)")
    try:
        policies = language.load(files)
    except language.PolicyErrors as error:
        return _problems(options, error.problems)
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
    _say(options, value, lines)
    return REFUSED if report.failures else OK


def _rules_of(policies: language.PolicySet, path: Path) -> frozenset[str]:
    """The rules that a test of this path should show: of the one file, or of all."""
    return frozenset(rule.id for rule in policies.rules if not path.is_file() or rule.place.file == str(path))


def _audit_verify(options: argparse.Namespace) -> int:
    settings = _settings(options)

    async def work(store: SqliteStore) -> audit.Verification:
        return await audit.verify(store)

    found = _with_store(settings, work)
    value = {"whole": found.whole, "records": found.records, "broken_at": found.broken_at, "why": found.why}
    line = f"the chain is whole: {found.records} records" if found.whole else f"broken: {found.why}"
    _say(options, value, [line])
    return OK if found.whole else REFUSED


def _user_hash(options: argparse.Namespace) -> int:
    password = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if len(password) < 8:
        return _failed(options, "a password has at least 8 characters")
    hashed = hash_password(password)
    _say(options, {"hash": hashed}, [hashed])
    return OK


def _user_list(options: argparse.Namespace) -> int:
    rows = [
        {
            "username": a.username,
            "subject": a.subject,
            "name": a.name,
            "patient": a.patient,
            "claims": a.claims,
        }
        for a in _settings(options).accounts
    ]
    _say(options, rows, [f"{row['username']}\t{row['subject']}\t{row['name']}" for row in rows])
    return OK


def _client_list(options: argparse.Namespace) -> int:
    rows = [
        {
            "client_id": c.client_id,
            "name": c.name,
            "profile": str(c.profile),
            "authentication": str(c.authentication_method),
            "binding": str(c.binding),
            "grants": sorted(map(str, c.grant_types)),
            "scope": " ".join(c.scope),
        }
        for c in _settings(options).clients
    ]
    lines = [
        f"{r['client_id']}\t{r['profile']}\t{r['authentication']}\t{r['binding']}\t{r['name']}" for r in rows
    ]
    _say(options, rows, lines)
    return OK


def _key_list(options: argparse.Namespace) -> int:
    async def work(store: SqliteStore) -> list[dict[str, object]]:
        return [
            {"kid": k.kid, "algorithm": k.algorithm, "state": k.state, "activates_at": k.activates_at,
             "retires_at": k.retires_at}
            for k in await store.keys()
        ]  # fmt: skip

    rows = _with_store(_settings(options), work)
    _say(options, rows, [f"{row['kid']}\t{row['algorithm']}\t{row['state']}" for row in rows])
    return OK


def _key_rotate(options: argparse.Namespace) -> int:
    settings = _settings(options)

    async def work(store: SqliteStore) -> str:
        key = settings.keys.encryption_key
        if key is None and settings.keys.encryption_key_file is not None:
            key = load_or_create_encryption_key(settings.keys.encryption_key_file)
        if key is None:
            raise KeyRingError("keys.encryption_key names neither a file nor a value")
        ring = await KeyRing.open(
            store,
            encryption_key=key,
            algorithm=settings.authorization.signing_algorithm,
            announced_seconds=settings.authorization.key_announced_seconds,
            active_seconds=settings.authorization.key_active_seconds,
            clock=system_clock,
            emit=lambda event: None,
        )
        return await ring.rotate()

    kid = _with_store(settings, work)
    seconds = settings.authorization.key_announced_seconds
    _say(options, {"kid": kid, "signs_in_seconds": seconds}, [f"announced {kid}; it signs in {seconds} s"])
    return OK


# How answers are printed


def _with_store(settings: GatewaySettings, work: Callable[[SqliteStore], Awaitable[T]]) -> T:
    """The result of work on the store, opened and closed around it. Raises StoreUnavailable.

    A store that is not there is not made: an audit log that has vanished must not count as whole.
    """
    if not Path(settings.storage.path).is_file():
        raise StoreUnavailable(f"there is no store at '{settings.storage.path}': has the gateway run yet?")

    async def run() -> T:
        store = await open_store(Path(settings.storage.path), settings.storage.options)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def _say(options: argparse.Namespace, value: object, lines: list[str]) -> None:
    if getattr(options, "json", False):
        print(json.dumps(value, ensure_ascii=False))
    else:
        print("\n".join(lines))


def _problems(options: argparse.Namespace, problems: list[Problem]) -> int:
    if getattr(options, "json", False):
        rows = [{"file": p.file, "line": p.line, "column": p.column, "message": p.message} for p in problems]
        print(json.dumps({"ok": False, "problems": rows}, ensure_ascii=False))
    else:
        for problem in problems:
            print(problem, file=sys.stderr)
    return REFUSED


def _failed(options: argparse.Namespace, message: str) -> int:
    if getattr(options, "json", False):
        print(json.dumps({"ok": False, "error": message}, ensure_ascii=False))
    else:
        print(f"securus: {message}", file=sys.stderr)
    return REFUSED

"""securus policy export"""

import argparse
import json
import sys
from pathlib import Path

from gateway.commands.answers import OK, add_verb, failed, problems
from gateway.policies_folder import policy_files
from gateway.policy import language
from gateway.policy.inquiries.permission import not_said, permission


def add(policy: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to securus policy."""
    verb = add_verb(
        policy, "export", "print a folder of policies as a FHIR Permission", _export, configured=False
    )
    verb.add_argument("path", nargs="?", type=Path, default=Path("policies"), metavar="DIR")


def _export(options: argparse.Namespace) -> int:
    files = policy_files(options.path)
    if not files:
        return failed(options, f"{options.path} holds no policy files (*.yaml)")
    try:
        policies = language.load(files)
    except language.PolicyErrors as error:
        return problems(options, error.problems)
    print(json.dumps(permission(policies), ensure_ascii=False, indent=None if options.json else 2))
    for line in not_said(policies):
        print(f"securus: not said by the Permission: {line}", file=sys.stderr)
    return OK

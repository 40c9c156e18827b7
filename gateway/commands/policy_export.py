"""securus policy export"""

import argparse
import json
import sys
from pathlib import Path

from gateway.commands.answers import OK, REFUSED, add_verb
from gateway.commands.policy_sets import policy_set
from gateway.policy.inquiries.permission import not_said, permission


def add(policy: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to securus policy."""
    verb = add_verb(
        policy, "export", "print a folder of policies as a FHIR Permission", _export, configured=False
    )
    verb.add_argument("path", nargs="?", type=Path, default=Path("policies"), metavar="DIR")


def _export(options: argparse.Namespace) -> int:
    policies = policy_set(options, options.path)
    if policies is None:
        return REFUSED
    print(json.dumps(permission(policies), ensure_ascii=False, indent=None if options.json else 2))
    for line in not_said(policies):
        print(f"securus: not said by the Permission: {line}", file=sys.stderr)
    return OK

"""securus policy diff"""

import argparse
import json
from pathlib import Path

from gateway.commands.answers import OK, REFUSED, add_verb, say
from gateway.commands.policy_sets import policy_set
from gateway.policy.inquiries.difference import Difference, compare


def add(policy: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to securus policy."""
    verb = add_verb(policy, "diff", "compare two folders of policies", _diff, configured=False)
    verb.add_argument("before", type=Path, metavar="A", help="folder of the policies in force")
    verb.add_argument("after", type=Path, metavar="B", help="folder of the policies to be")


def _diff(options: argparse.Namespace) -> int:
    sets = []
    for folder in (options.before, options.after):
        policies = policy_set(options, folder)
        if policies is None:
            return REFUSED
        sets.append(policies)
    found = compare(*sets)
    say(options, _value(found), _lines(found))
    return OK


def _value(found: Difference) -> dict[str, object]:
    return {
        "rules": [
            {
                "rule": each.rule,
                "what": each.what,
                "fields": {k: {"from": a, "to": b} for k, (a, b) in each.fields.items()},
            }
            for each in found.rules
        ],
        "decisions": [
            {
                "who": each.who,
                "request": each.request,
                "from": each.before,
                "to": each.after,
                "test": each.test or None,
            }
            for each in found.decisions
        ],
        "requests_compared": found.asked,
        "all_compared": found.is_whole,
    }


def _lines(found: Difference) -> list[str]:
    lines = []
    for each in found.rules:
        lines.append(f"{each.what} {each.rule}")
        lines += [f"  {key}: {_text(a)} -> {_text(b)}" for key, (a, b) in each.fields.items()]
    for change in found.decisions:
        test = f" (test '{change.test}')" if change.test else ""
        lines.append(f"{change.request} by {change.who}{test}")
        lines.append(f"  {change.before} -> {change.after}")
    more = "" if found.is_whole else "; there would have been more"
    lines.append(
        f"{len(found.rules)} rules and {len(found.decisions)} decisions differ, {found.asked} requests compared{more}"
    )
    return lines


def _text(value: object) -> str:
    return "default" if value is None else json.dumps(value, ensure_ascii=False)

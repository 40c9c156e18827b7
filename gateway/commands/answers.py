"""How verbs are declared, and how they print what they found: as text, or as one JSON value."""

import argparse
import getpass
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.yaml_source import Problem

OK, REFUSED = 0, 1
_DURATION = re.compile(r"([0-9]{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    help_: str,
    run: Callable[[argparse.Namespace], int],
    *,
    configured: bool = True,
) -> argparse.ArgumentParser:
    """A verb with --json, and with -c FILE where it works on a configuration."""
    verb = verbs.add_parser(name, help=help_, description=help_)
    verb.add_argument("--json", action="store_true", help="print one JSON value")
    if configured:
        verb.add_argument("-c", "--config", type=Path, default=Path("gateway.yaml"), metavar="FILE")
    verb.set_defaults(run=run)
    return verb


def add_change(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    help_: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    """A verb that changes something: with --why, which it needs, and --by."""
    verb = add_verb(verbs, name, help_, run)
    verb.add_argument("--why", type=_line, required=True, help="the reason, for those who ask later")
    verb.add_argument(
        "--by", type=_line, metavar="NAME", help="who decides; without it the user of this system"
    )
    return verb


def add_group(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, help_: str
) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    """A group of verbs: securus NAME VERB."""
    group = verbs.add_parser(name, help=help_, description=help_)
    return group.add_subparsers(title="verbs", required=True, metavar="VERB")


def who(options: argparse.Namespace) -> str:
    """Who decides, as it stands in history and audit log: --by, else the user of this system."""
    if options.by is not None:
        return str(options.by)
    try:
        return f"operator {getpass.getuser()}"
    except (KeyError, OSError):  # a user id without a name, as in a container
        return f"operator {os.getuid()}"


def seconds_of(text: str) -> int:
    """A duration of the command line, such as 12h or 7d, for argparse."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a duration such as 30m, 12h or 7d")
    return int(match[1]) * _SECONDS[match[2]]


def _line(text: str) -> str:
    text = text.strip()
    if not text or len(text) > 500 or not text.isprintable():
        raise argparse.ArgumentTypeError("expected one line of 1 to 500 characters")
    return text


def say(options: argparse.Namespace, value: object, lines: list[str]) -> None:
    """Print the value as JSON, or the lines."""
    if getattr(options, "json", False):
        print(shown(json.dumps(value, ensure_ascii=False)))
    else:
        print("\n".join(map(shown, lines)))


def shown(line: str) -> str:
    """A line for a terminal: what would move the cursor, hide text or begin another line is escaped as in JSON.

    Names of clients and subjects come from outside, and who reads a list of them is an operator.
    """
    return "".join(each if each.isprintable() or each == "\t" else json.dumps(each)[1:-1] for each in line)


def problems(options: argparse.Namespace, found: "list[Problem]") -> int:
    """Print every problem of a file; exit code 1."""
    if getattr(options, "json", False):
        rows = [{"file": p.file, "line": p.line, "column": p.column, "message": p.message} for p in found]
        print(json.dumps({"ok": False, "problems": rows}, ensure_ascii=False))
    else:
        for problem in found:
            print(problem, file=sys.stderr)
    return REFUSED


def failed(options: argparse.Namespace, message: str) -> int:
    """Print why a verb could not do its work; exit code 1."""
    if getattr(options, "json", False):
        print(json.dumps({"ok": False, "error": message}, ensure_ascii=False))
    else:
        print(f"securus: {shown(message)}", file=sys.stderr)
    return REFUSED

"""The command line: securus serve | check | demo | report, and groups of verbs: policy …, client …, break-glass …

Exit code 0 on success, 1 on a refused request or an error in a file, 2 on wrong usage. --json gives one JSON value.
"""

import argparse
import gc
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from gateway.commands.answers import OK
from gateway.commands.verbs import VERBS
from gateway.commands.wrong_usage import Arguments

_IDS: Mapping[tuple[str, ...], re.Pattern[str]] = {
    ("key", "retire"): re.compile(r"-[A-Za-z0-9_-]{11}\.[0-9]+"),
    ("break-glass", "review"): re.compile(r"-[A-Za-z0-9_-]{15}"),
}
"""Verbs that name something by an id in base64url → one that begins with '-', which argparse takes for an option."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if list(given) == ["--version"]:
        print(f"securus {import_module('importlib.metadata').version('securus')}")
        return OK
    options = _parser(given).parse_args(_with_id_apart(given))
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except KeyboardInterrupt:
        return OK
    except Exception as error:
        code: int = _imported("failures").answered(options, error)
        return code


def _with_id_apart(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments with an id that begins with '-' behind '--', where it is no option."""
    like = _IDS.get(tuple(arguments[:2]))
    ids = [text for text in arguments if like is not None and like.fullmatch(text)]
    if not ids or "--" in arguments:
        return arguments
    return [*(text for text in arguments if text not in ids), "--", *ids]


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """What reads these arguments: it knows the verb that they name, and of the others that there are such."""
    parser = Arguments(prog="securus", description="The gateway in front of a hospital's FHIR store.")
    parser.add_argument("--version", action="store_true", help="print the version alone")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    named = VERBS.get(arguments[0]) if arguments else None
    if named is not None:
        _imported(named.module).add(verbs)
    else:
        for name, verb in VERBS.items():
            verbs.add_parser(name, help=verb.help)
    return parser


def _imported(module: str) -> Any:
    """A module of gateway.commands. What it brings stays: to look for garbage among it takes a tenth of the time."""
    gc.disable()
    try:
        return import_module(f"gateway.commands.{module}")
    finally:
        gc.enable()

"""securus policy replay"""

import argparse
from pathlib import Path

from gateway.commands.answers import add_verb
from gateway.commands.times import add_times


def add(policy: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to securus policy."""
    verb = add_verb(policy, "replay", "put the requests of the audit log to other policies", _replay)
    verb.add_argument("after", type=Path, metavar="DIR", help="folder of the policies to be")
    verb.add_argument(
        "--before",
        type=Path,
        metavar="DIR",
        help="folder of the policies in force; without it what is on record counts",
    )
    verb.add_argument(
        "--log", type=Path, metavar="FILE", help="lines of an audit log, in place of the store's"
    )
    add_times(verb)
    verb.add_argument("--strict", action="store_true", help="exit 1 when a decision changes")


def _replay(options: argparse.Namespace) -> int:
    # Needs configuration and store, as no other verb on policies.
    from gateway.commands.replayed_log import replayed

    return replayed(options)

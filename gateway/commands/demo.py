"""securus demo"""

import argparse
from pathlib import Path

from gateway.commands.answers import add_verb
from gateway.commands.verbs import VERBS
from gateway.demo.show import demo


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    verb = add_verb(verbs, "demo", VERBS["demo"].help, _demo, configured=False)
    verb.add_argument(
        "--state", type=Path, default=Path(".demo"), metavar="DIR", help="where it keeps its files"
    )
    verb.add_argument("--port", type=int, default=8443, metavar="P", help="public port; P+1 is mutual TLS")
    verb.add_argument("--once", action="store_true", help="exit after the flow instead of serving on")


def _demo(options: argparse.Namespace) -> int:
    return demo(options.state, port=options.port, once=options.once)

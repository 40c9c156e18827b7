"""securus demo"""

import argparse
from pathlib import Path

from gateway.commands.answers import add_verb
from gateway.commands.verbs import VERBS
from gateway.demo.show import demo

_HIGHEST = 65535 - 2  # so that the two behind it are there


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    verb = add_verb(verbs, "demo", VERBS["demo"].help, _demo, configured=False)
    verb.add_argument(
        "--state", type=Path, default=Path(".demo"), metavar="DIR", help="where it keeps its files"
    )
    verb.add_argument(
        "--port",
        type=_port,
        default=8443,
        metavar="P",
        help="public port, 8443 without it; P+1 is mutual TLS, P+2 (9090 for 8443) metrics and health",
    )
    verb.add_argument("--once", action="store_true", help="exit after the flow instead of serving on")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= _HIGHEST:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port from 1 to {_HIGHEST}")
    return int(text)


def _demo(options: argparse.Namespace) -> int:
    return demo(options.state, port=options.port, once=options.once)

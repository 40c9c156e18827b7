"""How verbs read their configuration, open the store, and print what they found: as text, or as one JSON value."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from authz.storage.sqlite import SqliteStore, open_store
from authz.storage.store import StoreUnavailable
from gateway.config.document import load
from gateway.settings import GatewaySettings
from gateway.yaml_source import Problem

T = TypeVar("T")
OK, REFUSED = 0, 1


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


def add_group(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, help_: str
) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    """A group of verbs: securus NAME VERB."""
    group = verbs.add_parser(name, help=help_, description=help_)
    return group.add_subparsers(title="verbs", required=True, metavar="VERB")


def settings_of(options: argparse.Namespace) -> GatewaySettings:
    """The configuration that -c names. Raises ConfigErrors."""
    return load(options.config, os.environ)


def with_store(settings: GatewaySettings, work: Callable[[SqliteStore], Awaitable[T]]) -> T:
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


def say(options: argparse.Namespace, value: object, lines: list[str]) -> None:
    """Print the value as JSON, or the lines."""
    if getattr(options, "json", False):
        print(json.dumps(value, ensure_ascii=False))
    else:
        print("\n".join(lines))


def problems(options: argparse.Namespace, found: list[Problem]) -> int:
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
        print(f"securus: {message}", file=sys.stderr)
    return REFUSED

"""securus db status | migrate | grants | copy: the store itself, its schema, and its way from SQLite to PostgreSQL."""

import argparse
import asyncio
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from authz.storage.opening import is_there, open_storage
from authz.storage.postgresql.roles import grants
from authz.storage.postgresql.settings import PostgresqlSettings, dsn_fault
from authz.storage.settings import StoreSettings
from authz.storage.status import StoreStatus, status
from authz.storage.store import StoreUnavailable
from gateway.commands.answers import OK, REFUSED, add_group, add_verb, say
from gateway.commands.opened import settings_of
from gateway.commands.verbs import VERBS

_SQLITE, _POSTGRESQL = "sqlite:", "postgresql:"
_ROLE = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    group = add_group(verbs, "db", VERBS["db"].help)
    add_verb(group, "status", "tell schema, waiting migrations and rows; changes nothing", _status)
    verb = add_verb(group, "migrate", "bring the schema up to date", _migrate)
    verb.add_argument(
        "--dsn-file",
        type=Path,
        metavar="FILE",
        help="address of PostgreSQL for the role that owns the tables",
    )
    said = "print the statements that give a role of PostgreSQL what a gateway needs, and nothing more"
    verb = add_verb(group, "grants", said, _grants, configured=False)
    verb.add_argument("--role", required=True, type=_role, metavar="NAME")
    said = "copy a SQLite store into an empty PostgreSQL database while the gateway works on the former"
    verb = add_verb(group, "copy", said, _copy, configured=False)
    verb.add_argument("--from", dest="source", required=True, type=_source, metavar="sqlite:PATH")
    verb.add_argument(
        "--to",
        dest="target",
        required=True,
        type=_target,
        metavar="postgresql:FILE",
        help="FILE has the address",
    )
    verb.add_argument(
        "--finish",
        action="store_true",
        help="take over the rest and seal the source: nobody writes to it again",
    )


def _status(options: argparse.Namespace) -> int:
    found = asyncio.run(status(settings_of(options).storage))
    value = {
        "kind": found.kind,
        "schema": found.schema,
        "known": found.known,
        "waiting": list(found.waiting),
        "problem": found.problem or None,
        "rows": dict(found.rows),
    }
    say(options, value, _lines(found))
    return REFUSED if found.problem else OK


def _lines(found: StoreStatus) -> list[str]:
    lines = [f"{found.kind}, schema {found.schema} of {found.known}"]
    lines += [f"waiting: {name}" for name in found.waiting]
    lines += [f"problem: {found.problem}"] if found.problem else []
    return lines + [f"{rows:>12}  {table}" for table, rows in found.rows.items()]


def _migrate(options: argparse.Namespace) -> int:
    storage = settings_of(options).storage
    if options.dsn_file is not None:
        if storage.postgresql is None:
            raise StoreUnavailable(
                "--dsn-file is for PostgreSQL, and the store of this configuration is SQLite"
            )
        storage = StoreSettings(storage.kind, "", postgresql=_address(options.dsn_file))
    before = _schema(storage)

    async def run() -> None:
        await (await open_storage(storage)).close()

    asyncio.run(run())
    after = _schema(storage)
    line = f"schema {before} is the newest" if before == after else f"schema {before} is now {after}"
    say(options, {"from": before, "to": after}, [line])
    return OK


def _grants(options: argparse.Namespace) -> int:
    statements = grants(options.role)
    say(options, {"role": options.role, "statements": list(statements)}, [f"{each};" for each in statements])
    return OK


def _role(text: str) -> str:
    if not _ROLE.fullmatch(text):
        raise argparse.ArgumentTypeError("expected the name of a role: small letters, digits and '_'")
    return text


def _schema(storage: StoreSettings) -> int:
    # A file that is not there is made by opening it.
    return asyncio.run(status(storage)).schema if is_there(storage) else 0


def _copy(options: argparse.Namespace) -> int:
    try:
        copying: Any = import_module("authz.storage.copying")
    except ImportError as error:
        raise StoreUnavailable("asyncpg is not installed: pip install 'securus[postgresql]'") from error

    def progress(line: str) -> None:
        if not options.json:
            print(line, file=sys.stderr)

    target = _address(options.target)
    copied: Sequence[Any] = asyncio.run(
        copying.copy(options.source, target, finish=options.finish, progress=progress)
    )
    value = {
        "finished": options.finish,
        "tables": [{"table": each.table, "rows": each.rows, "digest": each.digest} for each in copied],
    }
    lines = [f"{each.rows:>12}  {each.digest[:16]}  {each.table}" for each in copied]
    what_follows = (
        "finished: the source is sealed; start the gateway with storage.postgresql"
        if options.finish
        else "not finished: when gateway.yaml names the new store, run this again with --finish and restart"
    )
    say(options, value, [*lines, what_follows])
    return OK


def _address(file: Path) -> PostgresqlSettings:
    """The address in a file. Raises StoreUnavailable without repeating it."""
    dsn = file.read_text(encoding="utf-8").strip()
    fault = dsn_fault(dsn)
    if fault is not None:
        raise StoreUnavailable(f"the address in '{file}' cannot be used: {fault}")
    return PostgresqlSettings(dsn)


def _source(text: str) -> Path:
    if not text.startswith(_SQLITE) or text == _SQLITE:
        raise argparse.ArgumentTypeError("expected sqlite:PATH, the only store that can be copied from")
    return Path(text.removeprefix(_SQLITE))


def _target(text: str) -> Path:
    if text.startswith("postgresql://") or not text.startswith(_POSTGRESQL) or text == _POSTGRESQL:
        # An address on the command line is seen by everybody on the machine, its password with it.
        raise argparse.ArgumentTypeError(
            "expected postgresql:FILE, and the address postgresql://… in that file"
        )
    return Path(text.removeprefix(_POSTGRESQL))

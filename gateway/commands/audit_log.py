"""securus audit verify | export | head | key | hold …"""

import argparse
import json
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path

from authz.storage.audit_seals import Hold, TreeHead
from authz.storage.store import Store, StoreUnavailable
from gateway.audit.head_file import read_heads_file
from gateway.audit.heads import BadSeal, PublicKeys, read_head
from gateway.audit.keys import AuditKeys
from gateway.audit.log import AuditLog
from gateway.audit.verification import AuditSource, Verification, verify
from gateway.commands import audit_export, audit_proofs, audit_search, disclosures, signals
from gateway.commands.answers import OK, REFUSED, add_change, add_group, add_verb, failed, say, who
from gateway.commands.audit_sources import add_source, load_keys, with_source
from gateway.commands.opened import settings_of, with_log, with_store
from gateway.commands.verbs import VERBS


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    log = add_group(verbs, "audit", VERBS["audit"].help)
    said = "walk every chain, signed head and stub; exit 1 naming the first broken record or head"
    verb = add_verb(log, "verify", said, _verify)
    add_source(verb)
    said = "heads that were kept elsewhere, one a line: each must be in the log as it was"
    verb.add_argument("--heads", type=Path, metavar="FILE", help=said)
    audit_export.add(log)
    verb = add_verb(log, "head", "print a signed head, the newest or one by its number", _head)
    verb.add_argument("--number", type=int, metavar="N")
    verb = add_verb(log, "key", "print the public keys of the log as a JWK Set", _key)
    verb.add_argument("--rotate", action="store_true", help="make a new key first, which signs from now on")
    audit_proofs.add(log)
    hold = add_group(log, "hold", "legal holds: records that are not retired while one lasts")
    verb = add_change(hold, "add", "hold the records of a time", _hold_add)
    verb.add_argument("--since", type=_day, required=True, metavar="DATE", help="its first day, UTC")
    verb.add_argument("--until", type=_day, required=True, metavar="DATE", help="the day after its last")
    add_verb(hold, "list", "list the holds", _hold_list)
    verb = add_change(hold, "end", "end a hold", _hold_end)
    verb.add_argument("id", metavar="ID")
    audit_search.add(log)
    disclosures.add(log)
    signals.add(log)


def _verify(options: argparse.Namespace) -> int:
    try:
        elsewhere = {} if options.heads is None else read_heads_file(options.heads)
    except BadSeal as error:
        return failed(options, str(error))

    async def work(source: AuditSource, keys: PublicKeys) -> Verification:
        return await verify(source, keys, elsewhere=elsewhere)

    found = with_source(options, work)
    value = {
        "whole": found.whole,
        "records": found.records,
        "broken_at": found.broken_at,
        "why": found.why,
        "chain": None if found.whole else found.chain,
        "heads": found.heads,
        "broken_head": found.head,
        "retired": found.retired,
    }
    say(options, value, [_said(found)])
    return OK if found.whole else REFUSED


def _said(found: Verification) -> str:
    if not found.whole:
        return f"broken: {f'chain {found.chain}: ' if found.chain else ''}{found.why}"
    retired = f", {found.retired} of them retired" if found.retired else ""
    heads = f", {found.heads} signed head{'s' if found.heads != 1 else ''}" if found.heads else ""
    return f"the chain is whole: {found.records} records{retired}{heads}"


def _head(options: argparse.Namespace) -> int:
    async def work(store: Store) -> TreeHead | None:
        if options.number is None:
            return await store.newest_tree_head()
        rows = await store.tree_heads(after=options.number - 1, limit=1)
        return rows[0] if rows and rows[0].number == options.number else None

    row = with_store(settings_of(options), work)
    if row is None:
        return failed(options, "there is no such signed head")
    sealed = row.head.decode("ascii")
    try:
        head = read_head(row.head, None)
    except BadSeal as error:
        return failed(options, f"head {row.number} cannot be read: {error}")
    chains = {name: state.size for name, state in head.chains.items()}
    value = {"number": head.number, "at": head.at, "records": chains, "head": sealed}
    say(options, value, [sealed])
    return OK


def _key(options: argparse.Namespace) -> int:
    settings = settings_of(options)

    async def work(store: Store, log: AuditLog) -> AuditKeys:
        keys = await load_keys(settings, store, make=options.rotate)
        if options.rotate:
            kid = (await store.audit_keys())[-1].kid
            await log.record({"event": "audit-key", "kid": kid})
        return keys

    jwks = with_log(settings, work).jwks()
    say(options, jwks, json.dumps(jwks, indent=2).split("\n"))
    return OK


def _hold_add(options: argparse.Namespace) -> int:
    if options.until <= options.since:
        return failed(options, "--until is the day after the last: later than --since")
    now = int(time.time())
    record = Hold(secrets.token_hex(6), options.since, options.until, options.why, who(options), now)

    async def work(store: Store, log: AuditLog) -> None:
        # Recorded first: a hold that nobody knows of would be worse than a record of one that failed.
        said = {"since": record.since, "until": record.until, "why": record.why, "by": record.by}
        await log.record({"event": "audit-hold", "hold": record.id, **said})
        await store.put_hold(record)

    with_log(settings_of(options), work)
    say(options, {"id": record.id}, [f"hold {record.id}"])
    return OK


def _hold_list(options: argparse.Namespace) -> int:
    async def work(store: Store) -> list[dict[str, object]]:
        return [
            {"id": h.id, "since": _date(h.since), "until": _date(h.until), "why": h.why, "by": h.by,
             "ended": None if h.ended_at is None else _date(h.ended_at)}
            for h in await store.holds()
        ]  # fmt: skip

    rows = with_store(settings_of(options), work)
    lines = [
        f"{r['id']}\t{r['since']} to {r['until']}\t{'lasts' if r['ended'] is None else 'ended'}\t{r['why']}"
        for r in rows
    ]
    say(options, rows, lines)
    return OK


def _hold_end(options: argparse.Namespace) -> int:
    async def work(store: Store, log: AuditLog) -> bool:
        ended = await store.end_hold(options.id, now=int(time.time()))
        if ended:
            said = {"hold": options.id, "why": options.why, "by": who(options)}
            await log.record({"event": "audit-hold-ended", **said})
        return ended

    if not with_log(settings_of(options), work):
        raise StoreUnavailable(f"there is no hold '{options.id}' that lasts")
    say(options, {"id": options.id}, [f"hold {options.id} ended"])
    return OK


def _day(text: str) -> int:
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise argparse.ArgumentTypeError("expected a date such as 2026-11-01") from error


def _date(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")

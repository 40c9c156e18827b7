"""securus audit …"""

import argparse
import json

from authz.storage.store import Store
from gateway.audit.log import Verification, verify
from gateway.commands import audit_search, disclosures, signals
from gateway.commands.answers import OK, REFUSED, add_group, add_verb, say, settings_of, with_store

_PAGE_LINES = 1000


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    log = add_group(verbs, "audit", "the audit log")
    add_verb(log, "verify", "walk the chain; exit 1 naming the first broken record", _verify)
    export = add_verb(
        log, "export", "print the records, one JSON object a line, as they were written", _export
    )
    export.add_argument("--since", default="", metavar="TIME", help="such as 2026-11-01 or 2026-11-01T08:00Z")
    export.add_argument("--until", default="", metavar="TIME")
    audit_search.add(log)
    disclosures.add(log)
    signals.add(log)


def _verify(options: argparse.Namespace) -> int:
    settings = settings_of(options)

    async def work(store: Store) -> Verification:
        return await verify(store)

    found = with_store(settings, work)
    value = {"whole": found.whole, "records": found.records, "broken_at": found.broken_at, "why": found.why}
    line = f"the chain is whole: {found.records} records" if found.whole else f"broken: {found.why}"
    say(options, value, [line])
    return OK if found.whole else REFUSED


def _export(options: argparse.Namespace) -> int:
    settings = settings_of(options)

    async def work(store: Store) -> None:
        sequence = 0
        while lines := await store.audit(after=sequence, limit=_PAGE_LINES):
            for line in lines:
                at = str(json.loads(line.line)["at"])
                if at >= options.since and (not options.until or at < options.until):
                    print(line.line.decode("utf-8"))
            sequence = lines[-1].sequence

    with_store(settings, work)
    return OK

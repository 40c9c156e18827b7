"""securus audit …"""

import argparse

from authz.storage.sqlite import SqliteStore
from gateway import audit
from gateway.commands.answers import OK, REFUSED, add_group, add_verb, say, settings_of, with_store


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    log = add_group(verbs, "audit", "the audit log")
    add_verb(log, "verify", "walk the chain; exit 1 naming the first broken record", _verify)


def _verify(options: argparse.Namespace) -> int:
    settings = settings_of(options)

    async def work(store: SqliteStore) -> audit.Verification:
        return await audit.verify(store)

    found = with_store(settings, work)
    value = {"whole": found.whole, "records": found.records, "broken_at": found.broken_at, "why": found.why}
    line = f"the chain is whole: {found.records} records" if found.whole else f"broken: {found.why}"
    say(options, value, [line])
    return OK if found.whole else REFUSED

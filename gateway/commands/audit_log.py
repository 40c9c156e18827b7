"""securus audit …"""

import argparse
import json
import sys

from authz.storage.store import Store, StoreUnavailable
from gateway.audit.events.mapping import audit_events
from gateway.audit.log import AuditLog, AuditUnavailable, Verification, verify
from gateway.audit.recorder import recorder_of
from gateway.commands import audit_search, disclosures, signals
from gateway.commands.answers import (
    OK,
    REFUSED,
    add_group,
    add_verb,
    say,
    settings_of,
    who,
    with_log,
    with_store,
)

_PAGE_LINES = 1000
_FORMATS = ("ndjson", "fhir")


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    log = add_group(verbs, "audit", "the audit log")
    add_verb(log, "verify", "walk the chain; exit 1 naming the first broken record", _verify)
    export = add_verb(
        log,
        "export",
        "print the records, one JSON object a line: as they were written, or as FHIR AuditEvents; this is recorded too",
        _export,
    )
    export.add_argument("--format", choices=_FORMATS, default="ndjson", help="ndjson (the lines) or fhir")
    export.add_argument("--by", metavar="NAME", help="who exports; the account of this session without it")
    export.add_argument("--since", default="", metavar="TIME", help="such as 2026-11-01 or 2026-11-01T08:00Z")
    export.add_argument("--until", default="", metavar="TIME")
    audit_search.add(log)
    disclosures.add(log)
    signals.add(log)


async def _is_there(store: Store) -> None:
    await store.check()


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
    settings, by = settings_of(options), who(options)
    recorder = recorder_of(settings)

    async def record(store: Store, log: AuditLog) -> None:
        asked = {"format": options.format, "since": options.since, "until": options.until}
        await log.record({"event": "audit-read", "by": by, "what": "export", "query": asked})

    async def work(store: Store) -> None:
        sequence = 0
        while lines := await store.audit(after=sequence, limit=_PAGE_LINES):
            for line in lines:
                at = str(json.loads(line.line)["at"])
                if at >= options.since and (not options.until or at < options.until):
                    if options.format == "ndjson":
                        print(line.line.decode("utf-8"))
                        continue
                    for event in audit_events(line.line, recorder):
                        print(json.dumps(event, ensure_ascii=False, separators=(",", ":")))
            sequence = lines[-1].sequence

    with_store(settings, _is_there)
    try:
        with_log(settings, record)
    except (StoreUnavailable, AuditUnavailable) as error:
        # Whoever looks into a log that was tampered with must be able to read it.
        print(f"this export is not on record: {error}", file=sys.stderr)
    with_store(settings, work)
    return OK

"""securus audit export: the records as they were written, as FHIR AuditEvents, or the whole log as one file."""

import argparse
import json
import sys

from authz.storage.store import Store, StoreUnavailable
from gateway.audit.events.mapping import audit_events
from gateway.audit.exports import export
from gateway.audit.log import AuditLog, AuditUnavailable
from gateway.audit.recorder import recorder_of
from gateway.commands.answers import OK, add_verb, failed, who
from gateway.commands.opened import settings_of, with_log, with_store
from gateway.commands.times import add_times, asked_times
from gateway.officer.asking import QuestionError

_PAGE_LINES = 1000
_FORMATS = ("ndjson", "fhir")


def add(log: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    said = "print the records, one JSON object a line: as they were written, or as FHIR AuditEvents; this is recorded too"
    verb = add_verb(log, "export", said, _export)
    verb.add_argument("--format", choices=_FORMATS, default="ndjson", help="ndjson (the lines) or fhir")
    add_times(verb)
    verb.add_argument("--by", metavar="NAME", help="who exports; the account of this session without it")
    verb.add_argument(
        "--whole", action="store_true", help="with heads and stubs, as 'audit verify --export' reads it"
    )


def _export(options: argparse.Namespace) -> int:
    if options.whole and options.format != "ndjson":
        return failed(options, "--whole is the log as it is written: it has no other format")
    try:
        is_asked = asked_times(options)
    except QuestionError as error:
        return failed(options, str(error))
    settings, by = settings_of(options), who(options)
    recorder = recorder_of(settings)

    async def record(store: Store, log: AuditLog) -> None:
        asked = {"format": options.format, "since": options.since, "until": options.until}
        await log.record({"event": "audit-read", "by": by, "what": "export", "query": asked})

    async def whole(store: Store) -> None:
        async for line in export(store):
            print(line)

    async def work(store: Store) -> None:
        for chain in await store.chains():
            sequence = 0
            while lines := await store.audit(chain=chain, after=sequence, limit=_PAGE_LINES):
                for line in lines:
                    if not is_asked(str(json.loads(line.line)["at"])):
                        continue
                    if options.format == "ndjson":
                        print(line.line.decode("utf-8"))
                        continue
                    for event in audit_events(line.line, recorder, chain=chain):
                        print(json.dumps(event, ensure_ascii=False, separators=(",", ":")))
                sequence = lines[-1].sequence

    with_store(settings, _is_there)
    try:
        with_log(settings, record)
    except (StoreUnavailable, AuditUnavailable) as error:
        # Whoever looks into a log that was tampered with must be able to read it.
        print(f"this export is not on record: {error}", file=sys.stderr)
    with_store(settings, whole if options.whole else work)
    return OK


async def _is_there(store: Store) -> None:
    await store.check()

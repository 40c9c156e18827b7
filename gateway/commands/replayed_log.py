"""What `securus policy replay` does: it puts the requests of an audit log to other policies, and tells what changes."""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from authz.storage.store import Store
from gateway.commands.answers import OK, REFUSED, failed, say
from gateway.commands.opened import settings_of, with_store
from gateway.commands.policy_sets import policy_set
from gateway.commands.times import asked_times
from gateway.officer.asking import QuestionError
from gateway.policy.inquiries.replay import Change, Replay, Replayed
from gateway.settings import GatewaySettings

_PAGE_LINES = 1000


def replayed(options: argparse.Namespace) -> int:
    """Replay and print; the exit code."""
    after = policy_set(options, options.after)
    before = None if options.before is None else policy_set(options, options.before)
    if after is None or (before is None and options.before is not None):
        return REFUSED
    settings = None if options.log is not None and not options.config.is_file() else settings_of(options)
    replay = Replay(after, before=before, bases=_bases(settings), locations=_locations(settings))

    try:
        is_asked = asked_times(options)
    except QuestionError as error:
        return failed(options, str(error))

    def within(line: Mapping[str, object]) -> bool:
        return is_asked(str(line.get("at", "")))

    if options.log is not None:
        try:
            for line in _lines_of(options.log):
                if within(line):
                    replay.take(line)
        except ValueError:
            return failed(options, f"{options.log} must hold one JSON object a line, as the audit log does")
    elif settings is not None:

        async def read(store: Store) -> None:
            for chain in await store.chains():
                sequence = 0
                while lines := await store.audit(chain=chain, after=sequence, limit=_PAGE_LINES):
                    for line in lines:
                        said = json.loads(line.line)
                        if within(said):
                            replay.take(said)
                    sequence = lines[-1].sequence

        with_store(settings, read)
    found = replay.result()
    say(options, _value(found), _text(found))
    return REFUSED if options.strict and (found.changes or found.open) else OK


def _bases(settings: GatewaySettings | None) -> frozenset[str]:
    upstreams = () if settings is None else settings.upstreams
    return frozenset(base for upstream in upstreams for base in (*upstream.bases, upstream.base))


def _locations(settings: GatewaySettings | None) -> dict[str, str]:
    return {} if settings is None else {each.name: each.identifier for each in settings.upstreams}


def _lines_of(path: Path) -> Iterator[Mapping[str, object]]:
    """The lines of a file. Raises ValueError for one that is not an object."""
    with path.open(encoding="utf-8") as lines:
        for text in lines:
            if not text.strip():
                continue
            line = json.loads(text)
            if not isinstance(line, dict):
                raise ValueError("not an object")
            yield line


def _value(found: Replayed) -> dict[str, object]:
    return {
        "compared": found.compared,
        "changes": [_change(each) for each in found.changes],
        "depending_on_the_resource": [_change(each) for each in found.open],
        "left_out": dict(found.left_out),
        "claims_not_on_record": sorted(found.unrecorded),
    }


def _change(each: Change) -> dict[str, object]:
    return {
        "client": each.client, "subject": each.subject, "patient": each.patient, "interaction": each.interaction,
        "type": each.type, "from": each.before, "to": each.after, "requests": each.count, "records": each.sequences,
    }  # fmt: skip


def _text(found: Replayed) -> list[str]:
    lines = [f"{_who(each)}: {each.before} -> {each.after} ({_records(each)})" for each in found.changes]
    lines += [f"{_who(each)}: as the resource is, by other rules ({_records(each)})" for each in found.open]
    lines += [f"left out: {count} because {why}" for why, count in found.left_out.items()]
    if found.unrecorded:
        lines.append(
            f"no record has these claims, they count as absent: {', '.join(sorted(found.unrecorded))}"
        )
    changed, open_ = (sum(each.count for each in some) for some in (found.changes, found.open))
    lines.append(
        f"{found.compared} requests compared: {changed} would be decided differently, {open_} may be, as the resource is"
    )
    return lines


def _who(each: Change) -> str:
    patient = f", patient {each.patient}" if each.patient else ""
    return f"{each.type or 'system'}.{each.interaction} by {each.subject} with {each.client}{patient}"


def _records(each: Change) -> str:
    more = " \u2026" if each.count > len(each.sequences) else ""
    return f"{each.count} requests, records {', '.join(map(str, each.sequences))}{more}"

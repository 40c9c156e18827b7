"""securus audit signals | review: signals of unusual access, seen and reviewed."""

import argparse
import time
from collections.abc import Sequence

from authz.storage.audit_signals import Signal
from authz.storage.store import Store
from gateway.audit.log import AuditLog
from gateway.commands.answers import OK, add_change, add_verb, failed, say, who
from gateway.commands.audit_search import add_by
from gateway.commands.opened import settings_of, with_log
from gateway.officer.asking import when
from gateway.officer.looks import Looks


def add(log: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs to the group audit."""
    listed = add_verb(log, "signals", "list signals of unusual access, the newest first", _list)
    listed.add_argument("--open", action="store_true", help="only what nobody has reviewed")
    listed.add_argument("--limit", type=int, default=100, metavar="N")
    add_by(listed)
    said = "write down that a signal was reviewed; --why is what was found"
    add_change(log, "review", said, _review).add_argument("id", metavar="ID")


def _list(options: argparse.Namespace) -> int:
    async def work(store: Store, audit: AuditLog) -> Sequence[Signal]:
        found = await store.signals(only_open=options.open, limit=options.limit, now=int(time.time()))
        asked = {"open": options.open, "patients": sorted({each.patient for each in found if each.patient})}
        await Looks(store, audit).recorded("signals", asked, by=who(options), shown=len(found))
        return found

    found = with_log(settings_of(options), work)
    say(options, [signal_said(each) for each in found], [_line(each) for each in found] or ["no signal"])
    return OK


def _review(options: argparse.Namespace) -> int:
    async def work(store: Store, audit: AuditLog) -> bool:
        return await Looks(store, audit).review_signal(
            options.id, by=who(options), review=options.why, now=int(time.time())
        )

    if not with_log(settings_of(options), work):
        return failed(options, f"there is no signal '{options.id}' that is not reviewed yet")
    said = {"id": options.id, "reviewed_by": who(options), "review": options.why}
    say(options, said, [f"{options.id} is reviewed"])
    return OK


def signal_said(signal: Signal) -> dict[str, object]:
    """A signal as JSON."""
    return {
        "id": signal.id, "rule": signal.rule, "kind": signal.kind, "first": when(signal.at),
        "last": when(signal.last_at), "base": signal.base, "patient": signal.patient, "user": signal.user,
        "client": signal.client, "words": signal.words, "count": signal.count,
        "records": [{"chain": chain, "sequence": sequence} for chain, sequence in signal.records],
        "reviewed_at": signal.reviewed_at, "reviewed_by": signal.reviewed_by, "review": signal.review,
    }  # fmt: skip


def _line(signal: Signal) -> str:
    state = (
        "not reviewed" if signal.reviewed_by is None else f"reviewed by {signal.reviewed_by}: {signal.review}"
    )
    times = "1 access" if signal.count == 1 else f"{signal.count} accesses"
    return "\t".join((signal.id, when(signal.at), signal.rule, signal.user, times, signal.words, state))

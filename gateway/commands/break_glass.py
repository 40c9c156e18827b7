"""securus break-glass list | review: emergency access, seen and reviewed."""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime

from authz.clock import system_clock
from authz.storage.effects import Emergency
from authz.storage.store import Store
from gateway.audit.log import AuditLog
from gateway.commands.answers import OK, add_change, add_group, add_verb, failed, say, who
from gateway.commands.opened import settings_of, with_log, with_store
from gateway.commands.verbs import VERBS
from gateway.emergencies import described, review


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    group = add_group(verbs, "break-glass", VERBS["break-glass"].help)
    verb = add_verb(group, "list", "list emergency access, the newest first", _list)
    verb.add_argument("--open", action="store_true", help="only what nobody has reviewed")
    said = "write down that emergency access was reviewed; --why is what was found"
    verb = add_change(group, "review", said, _review)
    verb.add_argument("id", metavar="ID")


def _list(options: argparse.Namespace) -> int:
    async def work(store: Store) -> Sequence[Emergency]:
        return await store.emergencies(only_open=options.open, now=system_clock())

    found = with_store(settings_of(options), work)
    say(options, [_said(each) for each in found], [_line(each) for each in found] or ["no emergency access"])
    return OK


def _review(options: argparse.Namespace) -> int:
    by = who(options)

    async def work(store: Store, log: AuditLog) -> bool:
        return await review(store, log, options.id, by=by, review=options.why, now=system_clock())

    if not with_log(settings_of(options), work):
        return failed(options, f"there is no emergency access '{options.id}' that is not reviewed yet")
    say(options, {"id": options.id, "reviewed_by": by, "review": options.why}, [f"{options.id} is reviewed"])
    return OK


def _said(each: Emergency) -> dict[str, object]:
    review = {"reviewed_at": each.reviewed_at, "reviewed_by": each.reviewed_by, "review": each.review}
    return {**described(each), **review}


def _line(each: Emergency) -> str:
    at = datetime.fromtimestamp(each.started_at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    state = "not reviewed" if each.reviewed_by is None else f"reviewed by {each.reviewed_by}: {each.review}"
    # A reason holds no control characters, so that it stays in its line.
    return "\t".join(
        (each.id, at, each.subject, each.client_id, f"Patient/{each.patient}", each.reason, state)
    )

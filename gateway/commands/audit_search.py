"""securus audit search | show | reindex: questions to the audit log by its index, and the index itself."""

import argparse
import json
import time

from authz.storage.audit_index import AccessEntry
from authz.storage.store import Store
from gateway.audit.index.follower import IndexFollower, bases_of, rebuild
from gateway.audit.log import AuditLog
from gateway.commands.answers import OK, add_verb, failed, say, who
from gateway.commands.opened import settings_of, with_log, with_store
from gateway.officer.asking import TERMS, QuestionError, question_of, read_cursor, when, written
from gateway.officer.looks import FoundRecord, Looks, Page

_WORDS = {
    "base": "the FHIR base, by its name under upstreams or its URL",
    "patient": "a patient, by FHIR id",
    "user": "a subject",
    "client": "a client_id",
    "grant": "a grant",
    "rule": "a rule that decided, such as ward/treating",
    "outcome": "permit, deny, refused …",
    "kind": "an interaction (read, search …) or event (sign-in, break-glass-start …)",
    "since": "such as 2026-11-01 or 2026-11-01T08:00Z",
    "until": "not included",
}


def add(log: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs to the group audit."""
    search = add_verb(log, "search", "find records by whom they are about, who, when and why", _search)
    for term in TERMS:
        search.add_argument(f"--{term}", default="", help=_WORDS[term], metavar=term.upper())
    search.add_argument("--limit", type=int, default=50, metavar="N", help="at most 1000")
    search.add_argument("--next", default="", metavar="PLACE", help="what the page before gave as 'next'")
    show = add_verb(log, "show", "print one record whole, with its place in the chain", _show)
    show.add_argument("chain", metavar="CHAIN", help="name of the chain; '' for the one without a name")
    show.add_argument("sequence", metavar="SEQ", type=int)
    for verb in (search, show):
        add_by(verb)
    add_verb(log, "reindex", "make the index anew from the log; a gateway may work meanwhile", _reindex)


def add_by(verb: argparse.ArgumentParser) -> None:
    """--by of a verb that looks: each look is recorded."""
    verb.add_argument("--by", metavar="NAME", help="who looks; without it the user of this system")


def entry_said(entry: AccessEntry) -> dict[str, object]:
    """An entry as JSON."""
    return {
        "chain": entry.chain, "sequence": entry.sequence, "at": when(entry.at), "base": entry.base,
        "patient": entry.patient, "user": entry.user, "client": entry.client, "grant": entry.grant,
        "kind": entry.kind, "outcome": entry.outcome, "rules": entry.rule.split(), "purpose": entry.purpose,
        "types": entry.types.split(),
    }  # fmt: skip


def _search(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    terms = {term: getattr(options, term) for term in TERMS}
    try:
        before = read_cursor(options.next) if options.next else None
        question = question_of(terms, bases=bases_of(settings), limit=options.limit, before=before)
    except QuestionError as error:
        return failed(options, str(error))

    async def work(store: Store, audit: AuditLog) -> tuple[Page, int]:
        behind = await IndexFollower(store, bases_of(settings)).behind()
        return await Looks(store, audit).search(question, by=who(options)), behind

    page, behind = with_log(settings, work)
    more = None if page.more is None else written(page.more)
    value = {"entries": [entry_said(each) for each in page.entries], "next": more, "not_indexed_yet": behind}
    lines = [_line(each) for each in page.entries] or ["nothing was found"]
    if more is not None:
        lines.append(f"more: --next '{more}'")
    if behind:
        lines.append(f"{behind} records are not indexed yet")
    say(options, value, lines)
    return OK


def _line(entry: AccessEntry) -> str:
    patient = f"Patient/{entry.patient}" if entry.patient else "-"
    place = f"{entry.chain or '-'} {entry.sequence}"
    return "\t".join(
        (when(entry.at), patient, entry.user or "-", entry.client or "-", f"{entry.kind} {entry.types}".strip(),
         entry.outcome, entry.rule or "-", entry.purpose or "-", place)
    )  # fmt: skip


def _show(options: argparse.Namespace) -> int:
    chain = "" if options.chain == "-" else options.chain

    async def work(store: Store, audit: AuditLog) -> FoundRecord | None:
        return await Looks(store, audit).record(chain, options.sequence, by=who(options))

    found = with_log(settings_of(options), work)
    if found is None:
        return failed(options, f"chain '{chain}' has no record {options.sequence}")
    value = {
        "chain": found.chain,
        "sequence": found.sequence,
        "record": found.members,
        "previous": found.previous,
        "digest": found.digest,
        "head": found.head or None,
    }
    whole = json.dumps(found.members, ensure_ascii=False, indent=2, sort_keys=True).splitlines()
    named = f" --chain {found.chain}" if found.chain else ""
    covered = f"signed head {found.head} covers it: securus audit prove {found.sequence}{named}"
    place = [f"follows the record with digest {found.previous}", f"digest {found.digest}"]
    say(options, value, [*whole, *place, covered if found.head else "no signed head covers it yet"])
    return OK


def _reindex(options: argparse.Namespace) -> int:
    settings = settings_of(options)

    async def work(store: Store) -> int:
        return await rebuild(store, bases_of(settings), now=int(time.time()))

    read = with_store(settings, work)
    say(options, {"records": read}, [f"{read} records were indexed"])
    return OK

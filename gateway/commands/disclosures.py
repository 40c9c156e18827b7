"""securus audit disclosures: the accounting of disclosures of a patient's record (45 CFR 164.528)."""

import argparse
import json
import time
from pathlib import Path

from authz.storage.store import Store
from gateway.audit.index.follower import bases_of
from gateway.audit.log import AuditLog
from gateway.audit.recorder import recorder_of
from gateway.commands.answers import OK, add_verb, failed, say, shown, who
from gateway.commands.audit_search import add_by
from gateway.commands.opened import settings_of, with_log
from gateway.officer.accounting_forms import as_csv, as_json
from gateway.officer.asking import QuestionError, question_of
from gateway.officer.disclosure_bundle import as_fhir
from gateway.officer.disclosures import Accounting, TooManyDisclosures, accounting, in_words
from gateway.officer.looks import Looks

_FORMS = ("text", "csv", "json", "fhir")


def add(log: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the group audit."""
    said = "print whom a patient's record was disclosed to, when, what and why (45 CFR 164.528)"
    verb = add_verb(log, "disclosures", said, _disclosures)
    verb.add_argument("--patient", required=True, metavar="ID")
    verb.add_argument("--base", default="", metavar="BASE", help="the FHIR base, where there are several")
    verb.add_argument(
        "--since", default="", metavar="TIME", help="at most six years back, which is the default"
    )
    verb.add_argument("--until", default="", metavar="TIME", help="not included; now without it")
    verb.add_argument("--as", dest="form", choices=_FORMS, default="text", help="--json is --as json")
    verb.add_argument("--to", type=Path, metavar="FILE", help="a new file that only its owner reads")
    add_by(verb)


def _disclosures(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    names = {client.client_id: client.name for client in settings.clients}
    terms = {term: getattr(options, term) for term in ("patient", "base", "since", "until")}
    try:
        question = question_of(terms, bases=bases_of(settings))
    except QuestionError as error:
        return failed(options, str(error))
    query = question.query
    form = "json" if options.json else options.form

    async def work(store: Store, audit: AuditLog) -> tuple[Accounting, object]:
        found = await accounting(
            store,
            base=query.base or "",
            patient=next(iter(query.patients)),
            since=query.since,
            until=query.until or int(time.time() * 1000),
            settings=settings.officer.disclosures,
            recorder=recorder_of(settings),
            names=names,
        )
        told = len(found.disclosures)
        await Looks(store, audit).recorded("disclosures", question.recorded(), by=who(options), shown=told)
        is_fhir = form == "fhir"
        return found, await as_fhir(store, found, recorder_of(settings)) if is_fhir else None

    try:
        found, bundle = with_log(settings, work)
    except TooManyDisclosures as error:
        return failed(options, str(error))
    if form == "text" and options.to is None:
        say(options, None, in_words(found))
        return OK
    text = {
        "text": lambda: "\n".join(map(shown, in_words(found))) + "\n",
        "csv": lambda: as_csv(found),
        "json": lambda: json.dumps(as_json(found, for_officer=True), ensure_ascii=False) + "\n",
        "fhir": lambda: json.dumps(bundle, ensure_ascii=False) + "\n",
    }[form]()
    if options.to is None:
        print(text, end="")
        return OK
    options.to.touch(mode=0o600, exist_ok=False)
    options.to.write_text(text, encoding="utf-8", newline="")
    say(options, {"file": str(options.to)}, [f"{options.to}: {len(found.disclosures)} disclosures"])
    return OK

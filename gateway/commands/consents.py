"""securus consent list | show | history | revoke | import | receipt: the consents that are kept here."""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from authz.clock import system_clock
from authz.grant_endings import end_grant
from authz.storage.consents import ConsentVersion
from authz.storage.store import Store
from gateway.audit.chains import chain_of
from gateway.audit.log import AuditLog
from gateway.commands.answers import OK, add_change, add_group, add_verb, failed, say, who
from gateway.commands.opened import settings_of, with_log, with_store
from gateway.commands.verbs import VERBS
from gateway.consent_service import receipts
from gateway.consent_service.grants import end_with_grant, settled
from gateway.consent_service.importing import Imported, bring_in
from gateway.consent_service.plain import as_plain
from gateway.consent_service.routing import RoutingClient
from gateway.consent_service.versions import next_version, with_status
from gateway.fhir.outcome import FhirError
from gateway.fhir.resource import parse_resource
from gateway.proxy.lookups.preflight import Preflight, TooMany, Unavailable
from gateway.proxy.upstream import UpstreamClient
from gateway.settings import GatewaySettings, Upstream
from gateway.signing_keys import open_key_ring

_PAGE = 500
_MOST_IMPORTED = 10_000
_IMPORT_SECONDS = 600.0
_NONE = "there is no consent of that id"


class _Refused(Exception):
    """What cannot be done, and why."""


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    group = add_group(verbs, "consent", VERBS["consent"].help)
    verb = add_verb(group, "list", "list consents, the newest version of each", _list)
    verb.add_argument("--patient", metavar="ID", help="only those of this patient")
    verb.add_argument("--status", help="only those of this status")
    _add_base(verb)
    verb = add_verb(group, "show", "show a consent as FHIR", _show)
    verb.add_argument("id", metavar="ID")
    verb.add_argument("--version", type=int, metavar="N", help="an older version")
    _add_base(verb)
    verb = add_verb(group, "history", "show every version of a consent: when, by whom, why", _history)
    verb.add_argument("id", metavar="ID")
    _add_base(verb)
    said = "revoke a consent, in force for the next request; an app's grant ends with it"
    verb = add_change(group, "revoke", said, _revoke)
    verb.add_argument("id", metavar="ID")
    _add_base(verb)
    said = "bring in the Consent resources of the store behind the base, once or again"
    verb = add_change(group, "import", said, _import)
    verb.add_argument("--patient", metavar="ID", help="only those of this patient")
    verb.add_argument("--dry-run", action="store_true", help="tell what would be done, and write nothing")
    _add_base(verb)
    verb = add_verb(group, "receipt", "make a signed receipt of a consent", _receipt)
    verb.add_argument("id", metavar="ID")
    _add_base(verb)


def _add_base(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--base", metavar="NAME", help="the upstream, where several keep their consents here")


def _list(options: argparse.Namespace) -> int:
    settings = settings_of(options)

    async def work(store: Store, base: Upstream) -> Sequence[ConsentVersion]:
        found = [
            each
            for each in await _versions(store, base.identifier, options.patient)
            if options.status in (None, each.status)
        ]
        return found

    def told(found: Sequence[ConsentVersion]) -> int:
        rows = [_row(each) for each in found]
        lines = [f"{each.id}\t{each.version}\t{each.status}\tPatient/{each.patient}" for each in found]
        say(options, rows, lines or ["no consent"])
        return OK

    return _at_store(options, settings, work, told)


def _show(options: argparse.Namespace) -> int:
    async def work(store: Store, base: Upstream) -> ConsentVersion:
        found = await _newest(store, base.identifier, options.id)
        if options.version is not None:
            older = await store.consent(base.identifier, options.id, options.version)
            if older is None:
                raise _Refused(f"there is no version {options.version} of that consent")
            return older
        return found

    def told(found: ConsentVersion) -> int:
        value = json.loads(found.resource)
        say(options, value, json.dumps(value, ensure_ascii=False, indent=2).splitlines())
        return OK

    return _at_store(options, settings_of(options), work, told)


def _history(options: argparse.Namespace) -> int:
    async def work(store: Store, base: Upstream) -> Sequence[ConsentVersion]:
        await _newest(store, base.identifier, options.id)
        return await store.consent_history(base.identifier, options.id)

    def told(found: Sequence[ConsentVersion]) -> int:
        rows = [_row(each) for each in found]
        lines = [
            f"{row['version']}\t{row['updated_at']}\t{row['status']}\t{row['recorded_by']}\t{row.get('reason', '')}"
            for row in rows
        ]
        say(options, rows, lines)
        return OK

    return _at_store(options, settings_of(options), work, told)


def _revoke(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    by = who(options)

    async def work(store: Store, log: AuditLog) -> ConsentVersion:
        base = _base(settings, options.base)
        before = await _newest(store, base.identifier, options.id)
        now = system_clock()
        value = with_status(parse_resource(before.resource), "inactive", options.why)
        try:
            next_version(value, before, base=base.identifier, id=before.id, now=now, by=by)
        except FhirError as error:
            raise _Refused(error.diagnostics) from error
        if before.grant_id is not None:
            await end_grant(
                store,
                before.grant_id,
                now=now,
                access_token_seconds=settings.authorization.lifetimes.access_token,
                who=by,
                why=options.why,
                emit=log.note,
                revocations=None,
                reason="consent",
            )
        after = await end_with_grant(store, value, before, now=now, by=by)
        if after is None:
            raise _Refused("the consent was changed meanwhile: look at it again")
        await log.record(_record("consent-withdrawn", after, by=by, why=options.why))
        return after

    try:
        done = with_log(settings, work)
    except _Refused as refused:
        return failed(options, str(refused))
    say(options, _row(done), [f"{done.id} is revoked, as version {done.version}"])
    return OK


def _import(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    by = who(options)

    async def work(store: Store, log: AuditLog) -> Imported:
        base = _base(settings, options.base)
        client = RoutingClient(base, lambda seconds: None)
        theirs = UpstreamClient(base, lambda seconds: None)  # which asks the store for consents, and not us
        await client.open()
        await theirs.open()
        try:
            asking = Preflight(theirs, system_clock, seconds=_IMPORT_SECONDS)
            only = "" if options.patient is None else f"patient=Patient/{options.patient}&"
            found = await asking.search(f"Consent?{only}_count=200", at_most=_MOST_IMPORTED)
            done = await bring_in(
                found,
                name=base.name,
                base=base.identifier,
                store=store,
                is_there=client.has_patient,
                now=system_clock(),
                writes=not options.dry_run,
            )
        except (Unavailable, FhirError) as error:
            raise _Refused("the store behind the base does not answer as it should") from error
        except TooMany as error:
            raise _Refused(
                f"the store holds more than {_MOST_IMPORTED}: import patient by patient"
            ) from error
        finally:
            await theirs.close()
            await client.close()
        for id_ in () if options.dry_run else (*done.added, *done.renewed):
            version = await store.consent(base.identifier, id_)
            if version is not None:
                await log.record(_record("consent-recorded", version, by=by, why=options.why))
        return done

    try:
        done = with_log(settings, work)
    except _Refused as refused:
        return failed(options, str(refused))
    counts = {name: len(found) for name, found in asdict(done).items()}
    lines = [f"{count}\t{name.replace('_', ' ')}" for name, count in counts.items()]
    say(options, asdict(done), [*lines, *(f"{id_}: {why}" for id_, why in done.refused.items())])
    return OK


def _receipt(options: argparse.Namespace) -> int:
    settings = settings_of(options)

    async def work(store: Store, base: Upstream) -> dict[str, Any]:
        found = await _newest(store, base.identifier, options.id)
        value = json.loads(found.resource)
        claims = receipts.receipt_claims(
            value,
            found.resource,
            issuer=settings.authorization.issuer,
            base=base.identifier,
            organisation=settings.authorization.organisation,
            now=system_clock(),
        )
        log = await AuditLog.open(store, time.time, chain=chain_of(settings))
        try:
            keys = await open_key_ring(settings, store, clock=system_clock, emit=log.note)
            try:
                signed = await keys.sign(claims, typ=receipts.TYPE)
            finally:
                await keys.close()
        finally:
            await log.close()
        return {"receipt": signed, "words": receipts.in_words(value)}

    def told(found: dict[str, Any]) -> int:
        say(options, found, [*found["words"], found["receipt"]])
        return OK

    return _at_store(options, settings, work, told)


def _at_store(options: argparse.Namespace, settings: GatewaySettings, work: Any, told: Any) -> int:
    """What told makes of the result of work on the store and the base."""

    async def run(store: Store) -> Any:
        return await work(store, _base(settings, options.base))

    try:
        found = with_store(settings, run)
    except _Refused as refused:
        return failed(options, str(refused))
    return int(told(found))


def _base(settings: GatewaySettings, name: str | None) -> Upstream:
    """The base that is meant. Raises _Refused."""
    kept = {each.name: each for each in settings.upstreams if each.keeps_consents}
    if not kept:
        raise _Refused("no upstream keeps its consents here: say 'consents: {kept: here}' of one")
    if name is None and len(kept) == 1:
        return next(iter(kept.values()))
    if name not in kept:
        raise _Refused(f"say --base, one of {', '.join(sorted(kept))}")
    return kept[name]


async def _versions(store: Store, base: str, patient: str | None) -> Sequence[ConsentVersion]:
    if patient is not None:
        return await settled(store, await store.consents_of(base, [patient]), system_clock())
    found: list[ConsentVersion] = []
    while True:
        after = found[-1].id if found else ""
        page = await store.consents(base, after=after, limit=_PAGE)
        found += await settled(store, page, system_clock())
        if len(page) < _PAGE:
            return found


async def _newest(store: Store, base: str, id_: str) -> ConsentVersion:
    found = await store.consent(base, id_)
    if found is None:
        raise _Refused(_NONE)
    return (await settled(store, [found], system_clock()))[0]


def _record(event: str, version: ConsentVersion, *, by: str, why: str) -> dict[str, object]:
    """What the audit log holds of a version that was written here."""
    return {
        "event": event,
        "base": version.base,
        "patient": version.patient,
        "consent": version.id,
        "version": version.version,
        "by": by,
        "why": why,
    }


def _row(version: ConsentVersion) -> dict[str, object]:
    value = json.loads(version.resource)
    return as_plain(value) | {"recorded_by": version.recorded_by, "grant": version.grant_id}

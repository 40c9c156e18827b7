"""The watch over the index: each new entry is held against the rules of signals, once, by the process that leads.

Signals and the place up to which was looked are written in one transaction. A signal has a record in the audit log, which
is written before it is marked as recorded: a process that ends in between records it again, never not at all.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Protocol

from authz.clock import Clock
from authz.storage.audit_index import AccessEntry, AuditQuery
from authz.storage.audit_signals import Signal
from authz.storage.claims import Namespace
from authz.storage.effects import Notification
from authz.storage.store import Store
from gateway.audit.index.follower import chains
from gateway.audit.log import AuditLog
from gateway.audit.signals import findings
from gateway.audit.signals.findings import Finding, PatientFacts, Staff
from gateway.officer_settings import OfficerSettings, SignalKind, SignalRule

_PAGE_RECORDS = 200
_TRIES = 60  # rounds, about a second each, in which the store is asked about a patient
_MOST_COUNTED = 1000
_NOTED_AT_ONCE = 50
_CLAIMED_SECONDS = 60
_log = logging.getLogger("securus.audit")
Message = Callable[[str, Mapping[str, object]], Notification]


class PatientsUnavailable(Exception):
    """The store did not say who a patient is."""


class Patients(Protocol):
    """Where facts about patients are found out."""

    async def of(self, base: str, patient: str) -> PatientFacts:
        """What is known of a patient now; nothing of one who is not there. Raises PatientsUnavailable."""
        ...


class Watch:
    """Holds the entries of one index against the rules. message makes a notification for a receiver."""

    def __init__(
        self,
        *,
        store: Store,
        audit: AuditLog,
        settings: OfficerSettings,
        staff: Staff,
        patients: Patients,
        message: Message,
        clock: Clock,
        found: Callable[[str], None] = lambda rule: None,
    ) -> None:
        self._store = store
        self._audit = audit
        self._settings = settings
        self._staff = staff
        self._patients = patients
        self._message = message
        self._clock = clock
        self._found = found
        self._tries = 0

    async def look(self) -> None:
        """Look at what was indexed since, and record what was found. Raises StoreUnavailable, AuditUnavailable."""
        for chain in await chains(self._store) if self._settings.signals else ():
            await self._look(chain)
        await self._note()

    async def _look(self, chain: str) -> None:
        place = await self._store.signalled_to(chain)
        while entries := await self._store.audit_entries(chain=chain, after=place, limit=_PAGE_RECORDS):
            try:
                found = await self._findings(entries)
            except PatientsUnavailable:
                self._tries += 1
                _log.warning("signals wait for the store", extra={"count": self._tries})
                return
            self._tries = 0
            signals = self._signals(found)
            messages = {signal.id: self._messages(signal) for signal in signals}
            read_to = entries[-1].sequence
            await self._store.put_signals(signals, messages, chain=chain, read_from=place, read_to=read_to)
            place = await self._store.signalled_to(chain)
            if place < read_to:
                return  # another node is at it
            await asyncio.sleep(0)  # requests come first

    async def _findings(self, entries: Sequence[AccessEntry]) -> list[Finding]:
        """What the rules say of a page of entries. Raises PatientsUnavailable."""
        found = []
        for entry in entries:
            for rule in self._settings.signals:
                if findings.applies(rule, entry):
                    await asyncio.sleep(0)  # requests come first
                    finding = await self._finding(rule, entry)
                    if finding is not None:
                        found.append(finding)
        return found

    async def _finding(self, rule: SignalRule, entry: AccessEntry) -> Finding | None:
        if rule.kind is SignalKind.VOLUME:
            until = entry.at + 1
            windows = await self._store.patients_per_window(
                entry.user,
                since=until - (rule.over + rule.within) * 1000,
                until=until,
                window=rule.within * 1000,
            )
            return findings.by_volume(rule, entry, windows)
        if rule.kind is SignalKind.BREAK_GLASS:
            query = AuditQuery(
                user=entry.user,
                kinds=(entry.kind,),
                since=entry.at - rule.within * 1000,
                until=entry.at + 1,
                limit=_MOST_COUNTED,
            )
            return findings.by_repetition(rule, entry, len(await self._store.find_audit(query)))
        patient = PatientFacts()
        if findings.needs_patient(rule):
            try:
                patient = await self._patients.of(entry.base, entry.patient)
            except PatientsUnavailable:
                if self._tries < _TRIES:
                    raise
                return findings.unchecked(rule, entry)
        return findings.by_entry(rule, entry, staff=self._staff, patient=patient)

    def _signals(self, found: Sequence[Finding]) -> list[Signal]:
        """One signal for the findings of one key."""
        by_id: dict[str, list[Finding]] = {}
        for finding in found:
            id = sha256(f"{finding.rule.name}|{finding.key}".encode()).hexdigest()[:24]
            by_id.setdefault(id, []).append(finding)
        return [self._signal(id, each) for id, each in by_id.items()]

    def _signal(self, id: str, found: Sequence[Finding]) -> Signal:
        # Of a number that rises the last finding says the most.
        finding, first = found[-1], found[0].entry
        is_of_patient = finding.is_of_patient
        return Signal(
            id=id,
            rule=finding.rule.name,
            kind=str(finding.rule.kind),
            at=first.at,
            last_at=finding.entry.at,
            base=first.base if is_of_patient else "",
            patient=first.patient if is_of_patient else "",
            user=first.user,
            client=first.client,
            words=finding.words,
            records=tuple(dict.fromkeys((each.entry.chain, each.entry.sequence) for each in found)),
            count=len(found),
            expires_at=first.at // 1000 + self._settings.keep_days * 86400,
        )

    def _messages(self, signal: Signal) -> list[Notification]:
        rule = next(each for each in self._settings.signals if each.name == signal.rule)
        return [self._message(receiver, described(signal)) for receiver in rule.notify]

    async def _note(self) -> None:
        for signal in await self._store.unnoted_signals(at_most=_NOTED_AT_ONCE):
            now = self._clock()
            key, until = signal.id.encode(), now + _CLAIMED_SECONDS
            if await self._store.claim(Namespace.AUDIT_SIGNAL, key, until=until, now=now):
                await self._audit.record({**described(signal), "words": signal.words})
                await self._store.note_signal(signal.id)
                self._found(signal.rule)


def described(signal: Signal) -> dict[str, object]:
    """A signal as it stands in records and notifications: ids and names of rules, no text."""
    said: dict[str, object] = {
        "event": "signal",
        "signal": signal.id,
        "rule": signal.rule,
        "kind": signal.kind,
        "subject": signal.user,
        "client": signal.client,
        "accesses": [{"chain": chain, "sequence": sequence} for chain, sequence in signal.records],
    }
    if signal.patient:
        said |= {"patient": signal.patient, "base": signal.base}
    return said

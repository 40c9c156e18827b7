"""What is kept of patients, in memory: an index of the audit log, and consents, as the stores keep them."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from authz.account.own_records import Actor, ActorKind, OwnRecords
from authz.clock import Clock
from authz.storage.audit_index import AccessEntry, AuditQuery, Cursor
from authz.storage.consents import ConsentStore, ConsentVersion, Room, Standing
from authz.storage.store import Store
from gateway.account.accesses import IndexedAccesses
from gateway.account.consents import KeptConsents
from gateway.consent_service.room import OPEN
from tests.support.authorization_server import FHIR, ISSUER, NOW


def access(sequence: int, **members: object) -> AccessEntry:
    """An entry of the index: a doctor read a result of Anna's, so many minutes after NOW."""
    known: dict[str, object] = {
        "chain": "",
        "sequence": sequence,
        "at": (NOW + sequence * 60) * 1000,
        "base": FHIR,
        "patient": "A",
        "user": "d0c7",
        "client": "portal",
        "grant": "",
        "kind": "read",
        "outcome": "permit",
        "rule": "care-team/read",
        "purpose": "TREAT",
        "types": "Observation",
    }
    return AccessEntry(**(known | members))  # type: ignore[arg-type]


@dataclass
class IndexInMemory:
    """The part of authz.storage.audit_index.AuditIndexStore that pages ask."""

    entries: list[AccessEntry] = field(default_factory=list)

    async def find_audit(self, wanted: AuditQuery) -> Sequence[AccessEntry]:
        def place(entry: AccessEntry) -> tuple[object, ...]:
            found = Cursor.behind(entry)
            return (found.at, found.chain, found.sequence)

        before = wanted.before
        found = [
            each
            for each in self.entries
            if each.base == wanted.base
            and each.patient in wanted.patients
            and (wanted.since is None or each.at >= wanted.since)
            and (wanted.until is None or each.at < wanted.until)
            and (before is None or place(each) < (before.at, before.chain, before.sequence))
        ]
        return sorted(found, key=place, reverse=True)[: wanted.limit]

    async def last_use(self, grants: Collection[str]) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for each in self.entries:
            if each.grant in grants:
                found[each.grant] = max(each.at, found.get(each.grant, 0))
        return found


def with_index(index: IndexInMemory) -> OwnRecords:
    """The records of a house that keeps accesses alone."""
    return OwnRecords(accesses=IndexedAccesses(index, FHIR))  # type: ignore[arg-type]  # pages ask no more of it


class ConsentsInMemory:
    """authz.storage.consents.ConsentStore."""

    def __init__(self) -> None:
        self.versions: list[ConsentVersion] = []

    async def add_consent(
        self, version: ConsentVersion, *, at_number: int | None = None, within: Room | None = None
    ) -> bool:
        newest = await self.consent(version.base, version.id)
        if version.version != (1 if newest is None else newest.version + 1):
            return False
        self.versions.append(version)
        return True

    async def consents_standing(
        self, base: str, patient: str, statuses: Collection[str], *, beside: str
    ) -> Standing:
        found = await self.consents_of(base, [patient], statuses=statuses)
        others = [each.most_provisions for each in found if each.id != beside]
        return Standing(len(others), sum(others))

    async def consent(self, base: str, id: str, version: int | None = None) -> ConsentVersion | None:
        found = await self.consent_history(base, id)
        return next((each for each in found if version in (None, each.version)), None)

    async def consent_history(
        self, base: str, id: str, *, before: int | None = None, at_most: int | None = None
    ) -> Sequence[ConsentVersion]:
        found = [each for each in reversed(self.versions) if (each.base, each.id) == (base, id)]
        return [each for each in found if before is None or each.version < before][:at_most]

    async def consents_of(
        self,
        base: str,
        patients: Collection[str],
        *,
        statuses: Collection[str] | None = None,
        at_most: int | None = None,
    ) -> Sequence[ConsentVersion]:
        newest = {each.id: each for each in self.versions if each.base == base}
        found = [newest[id] for id in sorted(newest) if newest[id].patient in patients]
        return [each for each in found if statuses is None or each.status in statuses][:at_most]

    async def consents_in(
        self, base: str, patient: str, status: str, *, after: str, limit: int
    ) -> Sequence[ConsentVersion]:
        raise NotImplementedError  # the pages ask for the newest first

    async def consents_newest_first(
        self, base: str, patient: str, *, is_active: bool, before: int | None, limit: int
    ) -> Sequence[tuple[int, ConsentVersion]]:
        newest = {
            each.id: (number, each) for number, each in enumerate(self.versions, 1) if each.base == base
        }
        found = [
            (number, each)
            for number, each in newest.values()
            if each.patient == patient and (each.status == "active") is is_active
        ]
        return [
            pair for pair in sorted(found, key=lambda pair: -pair[0]) if before is None or pair[0] < before
        ][:limit]

    async def consent_number(self) -> int:
        return len(self.versions)

    async def consents_written(
        self, base: str, *, after: int, to: int, limit: int
    ) -> Sequence[ConsentVersion]:
        raise NotImplementedError  # the pages write under no condition

    async def consents(self, base: str, *, after: str, limit: int) -> Sequence[ConsentVersion]:
        raise NotImplementedError  # the pages ask for those of a patient

    async def consent_of_grant(self, grant_id: str) -> ConsentVersion | None:
        return next((each for each in reversed(self.versions) if each.grant_id == grant_id), None)


ORGANIZATION = Actor(ActorKind.ORGANIZATION, "Organization/lab", "Laboratory North")
PRACTITIONER = Actor(ActorKind.PRACTITIONER, "Practitioner/D", "Doctor House")


async def _sign(claims: Mapping[str, object]) -> str:
    return f"signed {json.dumps(claims)}"


def own_records(consents: ConsentStore, index: IndexInMemory, grants: Store, clock: Clock) -> OwnRecords:
    """The records of a house that keeps both."""

    async def standing(patient: str) -> dict[str, dict[str, Any]]:
        return {
            each.id: json.loads(each.resource)
            for each in await consents.consents_of(FHIR, [patient], statuses=OPEN)
        }

    kept = KeptConsents(
        store=consents,
        grants=grants,
        clock=clock,
        base=FHIR,
        issuer=ISSUER,
        policy="https://hospital.example/privacy",
        custodian={"reference": "Organization/h1"},
        sign=_sign,
        standing=standing,
        actors={ActorKind.ORGANIZATION: [ORGANIZATION], ActorKind.PRACTITIONER: [PRACTITIONER]},
    )
    return OwnRecords(kept, with_index(index).accesses)

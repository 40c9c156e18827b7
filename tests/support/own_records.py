"""What is kept of patients, in memory: an index of the audit log, and consents, as the stores keep them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from authz.account.own_records import OwnRecords
from authz.storage.audit_index import AccessEntry, AuditQuery, Cursor
from gateway.account.accesses import IndexedAccesses
from tests.support.authorization_server import FHIR, NOW


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

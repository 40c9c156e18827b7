"""The index of the audit log: who did what to whose record, so that a question about one person is answered at once.

It proves nothing: the log does. Whoever reads an entry can read the record that it stands for, by chain and sequence,
and the whole index can be made anew from the log. Times are milliseconds since 1970, as records have them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class AccessEntry(NamedTuple):
    """One record of the audit log about one patient (patient '' where it is about none).

    A tuple, as a store has it as a row: its members are those of the columns, in their order.

    user is a subject, or a client_id where a client acts for itself. kind is the word of the event; for an access to
    a FHIR base, the interaction. rule and types hold ids and resource types joined by blanks.
    """

    chain: str
    sequence: int
    at: int  # milliseconds since 1970
    base: str
    patient: str
    user: str
    client: str
    grant: str
    kind: str
    outcome: str
    rule: str
    purpose: str
    types: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended: the next one has what is older. Its members order all entries, the newest first."""

    at: int
    chain: str
    sequence: int
    base: str = ""
    patient: str = ""

    @classmethod
    def behind(cls, entry: AccessEntry) -> "Cursor":
        """The place behind an entry."""
        return cls(entry.at, entry.chain, entry.sequence, entry.base, entry.patient)


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """What is looked for; every member that is given narrows, None and empty do not.

    patients are ids at base: a search for a patient names its base too. since and until are milliseconds, since
    included and until not. about_patients leaves out entries about none.
    """

    base: str | None = None
    patients: Collection[str] = ()
    user: str | None = None
    client: str | None = None
    grant: str | None = None
    rule: str | None = None
    outcome: str | None = None
    kinds: Collection[str] = ()
    since: int | None = None
    until: int | None = None
    about_patients: bool = False
    before: Cursor | None = None
    limit: int = 100


class AuditIndexStore(Protocol):
    """The part of the Store that keeps it. What holds for every method of a Store holds for these."""

    audit_lines_at_once: int
    """Of so many lines of the log the entries are best added together."""

    async def index_audit(self, entries: Sequence[AccessEntry], *, chain: str, read_to: int) -> None:
        """Add entries and move the follower's place in their chain, in one transaction.

        An entry that is there already stays as it is: two followers that read the same lines index them once. The
        place never goes back.
        """
        ...

    async def indexed_to(self, chain: str) -> int:
        """The sequence of the last line that was indexed; 0 at the beginning."""
        ...

    async def find_audit(self, wanted: AuditQuery) -> Sequence[AccessEntry]:
        """At most wanted.limit entries, the newest first."""
        ...

    async def audit_entries(self, *, chain: str, after: int, limit: int) -> Sequence[AccessEntry]:
        """Entries of one chain in its order, those of at most limit records, each with all of its entries."""
        ...

    async def last_use(self, grants: Collection[str]) -> Mapping[str, int]:
        """The milliseconds of the newest access by each grant; a grant without one is left out."""
        ...

    async def patients_per_window(
        self, user: str, *, since: int, until: int, window: int
    ) -> Mapping[int, int]:
        """How many patients a user's permitted accesses were about in each window of so many milliseconds.

        Windows begin at until and go back, number 0 is the newest; one without an access is left out.
        """
        ...

    async def remove_audit_entries(self, *, before: int, at_most: int) -> int:
        """Remove entries older than that, at most so many; how many went."""
        ...

    async def tend_audit_index(self) -> bool:
        """Do one short part of what keeps searches short; False when nothing is left to do.

        Who adds entries, and who removed some, calls it until then. What was found before is found at any moment.
        """
        ...

    async def rewind_audit_index(self) -> None:
        """Put the follower back to the beginning of every chain; entries that are there meanwhile stay."""
        ...

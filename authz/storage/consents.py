"""Consents of patients as a store keeps them: versions that follow each other, none ever changed or removed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ConsentVersion:
    """One version of a consent, as it was written; nothing is overwritten."""

    base: str  # identifier of the FHIR base (upstream.identifier) whose patient it is about
    id: str  # FHIR id
    version: int  # 1, 2, ...
    patient: str  # FHIR id of the patient
    status: str  # Consent.status
    resource: bytes  # FHIR R4 Consent as JSON, with id, meta.versionId, meta.lastUpdated
    recorded_at: int
    recorded_by: str  # subject of the person, or client_id, or 'import'
    grant_id: str | None = None  # the OAuth grant that was given on the same page
    provisions: int | None = None  # those within others too; None where nobody counted them

    @property
    def most_provisions(self) -> int:
        """How many provisions it has at the most: each is an object, and there is one brace for each in its text."""
        return self.resource.count(b"{") if self.provisions is None else self.provisions


@dataclass(frozen=True, slots=True)
class Room:
    """How many consents of one patient may have one of these statuses at once. None is no bound."""

    statuses: frozenset[str]
    consents: int
    provisions: int | None  # of all of them


@dataclass(frozen=True, slots=True)
class Standing:
    """How many consents there are, and how many provisions they have: at the most, where nobody counted them."""

    consents: int
    provisions: int

    def leaves_room(self, version: ConsentVersion, room: Room) -> bool:
        """Whether that version fits beside them."""
        if self.consents >= room.consents:
            return False
        return room.provisions is None or self.provisions + version.most_provisions <= room.provisions


class NoRoomLeft(Exception):
    """The patient has as many consents as may stand. Nothing was written."""


class ConsentStore(Protocol):
    """The part of the Store that keeps them. What holds for every method of a Store holds for these.

    Versions are kept for good, like the audit log: what somebody had agreed to when a record was shown is asked years
    later. The store itself refuses to change or remove one.
    """

    async def add_consent(
        self, version: ConsentVersion, *, at_number: int | None = None, within: Room | None = None
    ) -> bool:
        """Write a version, in one step: True.

        False, and nothing written, where it is not exactly the newest one and 1, or 1 for a new consent; with at_number
        also where consent_number() is not that any more: somebody wrote a consent since it was looked at. Raises
        NoRoomLeft where the version has one of the statuses of within and does not fit, whoever writes at the same moment.
        """
        ...

    async def consents_standing(
        self, base: str, patient: str, statuses: Collection[str], *, beside: str
    ) -> Standing:
        """How many consents of a patient have one of these statuses now, beside the one with that id."""
        ...

    async def consent_number(self) -> int:
        """A number that is another one after each version that is written, of whichever base, and never falls.

        Whoever sees it sees every version that is numbered so or lower.
        """
        ...

    async def consents_written(
        self, base: str, *, after: int, to: int, limit: int
    ) -> Sequence[ConsentVersion]:
        """The versions of a base that were written behind one consent_number() and up to another, the oldest first."""
        ...

    async def consent(self, base: str, id: str, version: int | None = None) -> ConsentVersion | None:
        """That version of a consent, the newest without one; None where there is none."""
        ...

    async def consent_history(
        self, base: str, id: str, *, before: int | None = None, at_most: int | None = None
    ) -> Sequence[ConsentVersion]:
        """Every version of a consent, the newest first; with before those of lower numbers, with at_most so many."""
        ...

    async def consents_of(
        self,
        base: str,
        patients: Collection[str],
        *,
        statuses: Collection[str] | None = None,
        at_most: int | None = None,
    ) -> Sequence[ConsentVersion]:
        """The newest version of each consent of these patients, in the order of ids.

        With statuses only of those that have one of them now: what it costs does not grow with all others. With at_most
        so many, whichever they are.
        """
        ...

    async def consents_in(
        self, base: str, patient: str, status: str, *, after: str, limit: int
    ) -> Sequence[ConsentVersion]:
        """The newest versions of a patient's consents that have this status now, behind that id, in the order of ids."""
        ...

    async def consents_newest_first(
        self, base: str, patient: str, *, is_active: bool, before: int | None, limit: int
    ) -> Sequence[tuple[int, ConsentVersion]]:
        """The newest versions of a patient's consents that are active now, or that are not, the last written first.

        Each with the consent_number() that it was written as; with before those of lower numbers. What it costs does
        not grow with all others.
        """
        ...

    async def consents(self, base: str, *, after: str, limit: int) -> Sequence[ConsentVersion]:
        """The newest version of each consent of a base behind that id, in the order of ids."""
        ...

    async def consent_of_grant(self, grant_id: str) -> ConsentVersion | None:
        """The newest version of the consent that was given with a grant; None without one."""
        ...

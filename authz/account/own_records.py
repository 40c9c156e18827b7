"""What is kept of a patient, as the pages ask for it: consents and accesses. Whoever stands before the records answers.

This server knows the person, for whom the person acts, and the words; which FHIR base a record lies in, and what a
consent is there, is known elsewhere. Every method raises StoreUnavailable where nothing can be said.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Protocol

from authz.login.relations import NoRelations, Relations
from authz.storage.audit_index import AccessEntry


class ActorKind(StrEnum):
    """What a consent may be about, beside everybody."""

    APP = "app"
    ORGANIZATION = "organization"
    PRACTITIONER = "practitioner"


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody for whom a consent is. id is a client_id, or a reference or identifier of the FHIR base."""

    kind: ActorKind
    id: str
    name: str


class What(StrEnum):
    """What of a record a consent is about."""

    EVERYTHING = "everything"
    NORMAL = "normal"  # without what is labelled as restricted or sensitive
    CLASSES = "classes"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person permits or denies. actor None is everybody, no purpose is every purpose, until None is no end.

    classes are resource types, where what is CLASSES. until is the last day.
    """

    permits: bool
    actor: Actor | None
    what: What
    classes: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    until: date | None = None


@dataclass(frozen=True, slots=True)
class Author:
    """Who gives a consent: the patient, or somebody for them in a relationship, a code of v3-RoleCode."""

    subject: str
    name: str
    relationship: str = ""


@dataclass(frozen=True, slots=True)
class OwnConsent:
    """A version of a consent of the patient. wish is None for one that says more, or other things, than the pages can.

    by is the name of who agreed, recorded_by who wrote it down: a subject, a client_id, or another word.
    """

    id: str
    version: int
    status: str
    recorded_at: int
    recorded_by: str
    by: str
    relationship: str
    wish: Wish | None
    resource: Mapping[str, object]
    grant_id: str | None = None  # of a consent that was given to an app with its access


@dataclass(frozen=True, slots=True)
class ConsentsPage:
    """A page of consents; before is the place where the next page begins, '' after the last."""

    consents: Sequence[OwnConsent]
    before: str = ""


class NoRoom(Exception):
    """The patient has as many consents, or their consents as many provisions, as there can be at once."""


class OwnConsents(Protocol):
    """The consents of patients at one FHIR base."""

    @property
    def base(self) -> str:
        """The identifier of the base."""
        ...

    async def page(self, patient: str, *, before: str, limit: int) -> ConsentsPage:
        """The newest versions of so many consents of the patient, from a place on: those that are kept as active first.

        Of both kinds the last written ones first. A place stays good while consents are written, and what it costs does
        not grow with their number. Raises ValueError for a place that is none.
        """
        ...

    async def history(
        self, patient: str, id: str, *, before: int | None = None, limit: int
    ) -> Sequence[OwnConsent]:
        """Versions of a consent, before that one, the newest first; none where it is not this patient's."""
        ...

    async def version(self, patient: str, id: str, version: int | None = None) -> OwnConsent | None:
        """That version of a consent, the newest without one; None where it is not this patient's."""
        ...

    async def write(
        self, patient: str, wish: Wish, *, author: Author, words: str, after: OwnConsent | None, now: int
    ) -> OwnConsent | None:
        """Write a new consent, or the version after one. words is what the person read and agreed to.

        None, and nothing written, where another version was written meanwhile. Raises NoRoom.
        """
        ...

    async def withdraw(
        self, patient: str, consent: OwnConsent, *, author: Author, now: int
    ) -> OwnConsent | None:
        """Write the version that ends a consent. None, and nothing written, where another was written meanwhile."""
        ...

    async def receipt(self, patient: str, id: str, version: int, *, now: int) -> str | None:
        """A receipt of a version, signed by this server, as a JWS; None where it is not this patient's."""
        ...

    def actors(self, kind: ActorKind) -> Sequence[Actor]:
        """Organizations or practitioners to choose from, by name."""
        ...


@dataclass(frozen=True, slots=True)
class Accesses:
    """A page of accesses, the newest first; before is the place where the next page begins, '' after the last."""

    entries: Sequence[AccessEntry]
    before: str = ""


class OwnAccesses(Protocol):
    """Who saw the records of patients at one FHIR base."""

    @property
    def base(self) -> str:
        """The identifier of the base."""
        ...

    async def of(
        self, patient: str, *, since: int | None, until: int | None, before: str, limit: int
    ) -> Accesses:
        """Records of the audit log about the patient, from since on and before until, milliseconds since 1970.

        Raises ValueError for a place that is none.
        """
        ...

    async def last_use(self, grants: Collection[str]) -> Mapping[str, int]:
        """The milliseconds of the newest access by each grant; a grant without one is left out."""
        ...


@dataclass(frozen=True, slots=True)
class OwnRecords:
    """What is kept of patients here, as far as it is, and who acts for whom by it."""

    consents: OwnConsents | None = None
    accesses: OwnAccesses | None = None
    relations: Relations = field(default_factory=NoRelations)

    @property
    def base(self) -> str:
        """The identifier of the FHIR base that it is about; '' where nothing is kept."""
        kept = self.consents or self.accesses
        return "" if kept is None else kept.base

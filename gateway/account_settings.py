"""The pages of people under /account: `account_pages` of gateway.yaml, read, checked and frozen."""

from dataclasses import dataclass

from authz.account.own_records import Actor


@dataclass(frozen=True, slots=True)
class RelatedPersons:
    """How RelatedPersons of a base let people act for patients.

    system is that of the identifier that an account names, until_age the age of the patient at which it ends, may what
    they may do (Representation), keep for how many seconds an answer is good.
    """

    system: str
    until_age: int
    may: frozenset[str]
    keep: int = 30


@dataclass(frozen=True, slots=True)
class AccountPages:
    """What the pages under /account are about: a FHIR base by its identifier, and whether consents are given there.

    custodian is the reference to who holds the records, policy the address of what is agreed to, organizations those
    that a consent may be for.
    """

    base: str
    consents: bool = False
    custodian: str = ""
    policy: str = ""
    organizations: tuple[Actor, ...] = ()
    related_persons: RelatedPersons | None = None

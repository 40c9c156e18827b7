"""For whom a person may act: for themselves, and for those whom the account says they represent, as long as it lasts."""

from dataclasses import dataclass

from authz.settings import Account

EVERYTHING = frozenset({"see", "consent", "revoke"})
CLAIM = "acting_as"
"""The claim of a token whose person acts for the patient: what they are to them, a code of v3-RoleCode."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whose record a page is about. relationship is '' for the one who is signed in."""

    patient: str
    label: str
    relationship: str
    may: frozenset[str]

    @property
    def is_self(self) -> bool:
        """Whether it is the one who is signed in."""
        return not self.relationship

    def allows(self, what: str) -> bool:
        """Whether the one who is signed in may do this: 'see', 'consent' or 'revoke'."""
        return what in self.may


def people_of(account: Account, now: int) -> tuple[Person, ...]:
    """The people whose records the account may see at the pages now, the own one first. Staff have none here."""
    own = () if account.patient is None else (Person(account.patient, account.name, "", EVERYTHING),)
    represented = (
        Person(each.patient, each.label, each.relationship, each.may)
        for each in account.represents
        if each.allows("see", now) and each.patient != account.patient
    )
    return (*own, *represented)


def relationship_to(account: Account, patient: object, now: int) -> str:
    """What the person is to a patient for whom they act; '' for the own record, and for one they do not act for."""
    if patient == account.patient:
        return ""
    return next(
        (e.relationship for e in account.represents if e.patient == patient and e.allows("consent", now)), ""
    )


def claims_for(account: Account, patient: object, now: int) -> dict[str, object]:
    """The claims of a token of this person for the record of a patient: with the relationship, where one acts."""
    relationship = relationship_to(account, patient, now) if isinstance(patient, str) else ""
    return dict(account.claims) | ({CLAIM: relationship} if relationship else {})

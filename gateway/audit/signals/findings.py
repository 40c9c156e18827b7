"""What a rule of signals says of one access: pure, from the entry of the index and what is known beside it.

Each finding says in plain words and numbers why the rule holds, so that the person who reviews it can judge it, and so
that the person whom it is about can be told. No name of a patient or of a person is in it.
"""

import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from statistics import median

from authz.settings import Account
from authz.storage.audit_index import AccessEntry
from gateway.officer_settings import SignalKind, SignalRule
from gateway.policy.hours import in_hours

DAY = 86_400_000


@dataclass(frozen=True, slots=True)
class PatientFacts:
    """What the store says of a patient, for as long as a rule looks at it: nothing of it is kept."""

    family_names: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()  # 'system|code'


@dataclass(frozen=True, slots=True)
class Staff:
    """What the accounts say of people, by subject."""

    accounts: Mapping[str, Account] = field(default_factory=dict)

    @classmethod
    def of(cls, accounts: Collection[Account]) -> "Staff":
        """That of these accounts."""
        return cls({account.subject: account for account in accounts})

    def claim(self, subject: str, name: str) -> str:
        """A claim of an account that is text; empty without."""
        account = self.accounts.get(subject)
        found = None if account is None else account.claims.get(name)
        return found if isinstance(found, str) else ""

    def is_staff(self, subject: str, roles: Collection[str]) -> bool:
        """Whether the account has one of the roles."""
        account = self.accounts.get(subject)
        said = None if account is None else account.claims.get("roles")
        return isinstance(said, list | tuple) and not set(map(str, said)).isdisjoint(roles)

    def own_record(self, subject: str) -> str:
        """The id of the record of a person; empty without one."""
        account = self.accounts.get(subject)
        if account is None:
            return ""
        said = account.claims.get("fhirUser")
        kind, _, last = said.rpartition("/") if isinstance(said, str) else ("", "", "")
        return account.patient or (last if kind.rpartition("/")[2] == "Patient" else "")

    def whose(self, patient: str, roles: Collection[str]) -> str:
        """The subject of the staff whose own record this is; empty where it is nobody's."""
        for subject in self.accounts:
            if self.own_record(subject) == patient and self.is_staff(subject, roles):
                return subject
        return ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that holds of an access. key is what makes it the same signal as another: by patient, day or window."""

    rule: SignalRule
    entry: AccessEntry
    words: str
    key: str
    is_of_patient: bool = True


def applies(rule: SignalRule, entry: AccessEntry) -> bool:
    """Whether a rule looks at such an access at all."""
    if rule.clients and entry.client not in rule.clients:
        return False
    if entry.client in rule.except_clients or entry.user in rule.except_users or not entry.user:
        return False
    if rule.kind is SignalKind.BREAK_GLASS:
        return entry.kind == "break-glass-start"
    return entry.outcome == "permit" and bool(entry.patient)


def needs_patient(rule: SignalRule) -> bool:
    """Whether the store is asked about the patient."""
    return rule.kind is SignalKind.SAME_FAMILY_NAME or bool(rule.labels)


def by_entry(rule: SignalRule, entry: AccessEntry, *, staff: Staff, patient: PatientFacts) -> Finding | None:
    """What a rule says that looks at one access alone; None where it does not hold."""
    words = _words(rule, entry, staff, patient)
    if not words:
        return None
    if rule.kind is SignalKind.OUT_OF_HOURS:
        return Finding(rule, entry, words, f"{entry.user}|{entry.at // DAY}", is_of_patient=False)
    return Finding(rule, entry, words, f"{entry.user}|{entry.base}|{entry.patient}|{entry.at // DAY}")


def _words(rule: SignalRule, entry: AccessEntry, staff: Staff, patient: PatientFacts) -> str:
    whom = f"Patient/{entry.patient}"
    match rule.kind:
        case SignalKind.VIP:
            if entry.patient in rule.patients:
                return f"{whom} is on the list of this rule"
            labels = sorted(patient.labels & rule.labels)
            return f"the record of {whom} has the label {labels[0]}" if labels else ""
        case SignalKind.SAME_FAMILY_NAME:
            name = folded(staff.claim(entry.user, rule.claim))
            is_own = staff.own_record(entry.user) == entry.patient
            if not name or is_own or name not in {folded(each) for each in patient.family_names}:
                return ""
            return f"the claim {rule.claim} of the user and the family name of {whom} are the same"
        case SignalKind.OUT_OF_HOURS:
            if in_hours(entry.at // 1000, rule.hours, unknown=True):
                return ""
            return f"an access outside the working hours {' and '.join(map(str, rule.hours))}"
        case SignalKind.NO_RELATIONSHIP:
            decided = entry.rule.split()
            if not rule.rules.isdisjoint(decided):
                return ""
            by = " ".join(decided) or "no rule that the record names"
            return (
                f"permitted by {by}, and by none of the {len(rule.rules)} rules that look for a relationship"
            )
        case SignalKind.OWN_RECORD:
            if staff.own_record(entry.user) != entry.patient or not staff.is_staff(entry.user, rule.roles):
                return ""
            return f"{whom} is the user's own record"
        case SignalKind.COLLEAGUE:
            whose = staff.whose(entry.patient, rule.roles)
            if not whose or whose == entry.user or not staff.is_staff(entry.user, rule.roles):
                return ""
            return f"{whom} is the record of a colleague"
        case SignalKind.VOLUME | SignalKind.BREAK_GLASS:
            return ""  # by_volume and by_repetition say it


def by_volume(rule: SignalRule, entry: AccessEntry, windows: Mapping[int, int]) -> Finding | None:
    """What the rule says of how many patients a user saw in the window that ends with this access.

    windows are the numbers of patients by window, 0 the newest; those before with an access are the user's own measure.
    """
    count = windows.get(0, 0)
    before = [each for number, each in windows.items() if number > 0]
    usual = float(median(before)) if before else 0.0
    if count <= rule.at_most or count <= usual * rule.times_median:
        return None
    within = duration(rule.within)
    measure = (
        f"the user's own median is {usual:g}, of {len(before)} such times with accesses in the {duration(rule.over)} before"
        if before
        else f"the user has no other accesses in the {duration(rule.over)} before"
    )
    words = f"{count} patients within {within}; {rule.at_most} are taken for usual, and {measure}"
    bucket = entry.at // (rule.within * 1000)
    return Finding(rule, entry, words, f"{entry.user}|{bucket}", is_of_patient=False)


def by_repetition(rule: SignalRule, entry: AccessEntry, count: int) -> Finding | None:
    """What the rule says of how often a user began emergency access."""
    if count <= rule.at_most:
        return None
    words = f"emergency access began {count} times within {duration(rule.within)}; {rule.at_most} are taken for usual"
    return Finding(rule, entry, words, f"{entry.user}|{entry.at // DAY}", is_of_patient=False)


def unchecked(rule: SignalRule, entry: AccessEntry) -> Finding:
    """That a rule could not be held against an access, so that somebody looks."""
    words = "the rule could not be held against this access: the store did not say who the patient is"
    return Finding(rule, entry, words, f"unchecked|{entry.base}|{entry.at // DAY}", is_of_patient=False)


def folded(name: str) -> str:
    """A family name as it is compared: without accents, case, and what is no letter."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return "".join(each for each in plain if each.isalnum())


def duration(seconds: int) -> str:
    """A time such as '1 h' or '30 d'."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"

"""What the privacy officer's pages and commands are told: `officer` of gateway.yaml, read, checked and frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.policy.hours import Hours

SIX_YEARS_DAYS = 6 * 366
_KEPT_DAYS = SIX_YEARS_DAYS + 31


class SignalKind(StrEnum):
    """What a rule of signals looks for."""

    VIP = "vip"
    SAME_FAMILY_NAME = "same-family-name"
    VOLUME = "volume"
    OUT_OF_HOURS = "out-of-hours"
    NO_RELATIONSHIP = "no-relationship"
    OWN_RECORD = "own-record"
    COLLEAGUE = "colleague"
    BREAK_GLASS = "break-glass"


@dataclass(frozen=True, slots=True)
class SignalRule:
    """A rule of signals: what it looks for, and of which accesses. Empty sets leave nothing out.

    clients, except_clients, except_users   whose accesses are looked at
    patients, labels     vip: ids at any base, and security labels 'system|code' of the Patient resource
    claim                same-family-name: the claim of an account that holds the family name
    at_most, within      volume: patients, seconds; break-glass: times, seconds
    times_median, over   volume: how many times the user's own median of windows in the seconds before counts
    hours                out-of-hours: the working hours
    rules                no-relationship: the rules of policies that look for a relationship
    roles                own-record, colleague: roles of accounts that make staff
    notify               receivers of `notifications`
    """

    name: str
    kind: SignalKind
    clients: frozenset[str] = frozenset()
    except_clients: frozenset[str] = frozenset()
    except_users: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    claim: str = ""
    at_most: int = 0
    within: int = 0
    times_median: int = 0
    over: int = 0
    hours: tuple[Hours, ...] = ()
    rules: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    notify: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who is behind a client, for an accounting of disclosures: name, and address if known (45 CFR 164.528(b)(2)(ii))."""

    name: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Suspension:
    """A time in which disclosures to a client are left out of accountings (45 CFR 164.528(a)(2)).

    since and until are milliseconds; the law bounds it: an agency says in writing for how long, or for 30 days by word.
    """

    client: str
    since: int
    until: int
    why: str


@dataclass(frozen=True, slots=True)
class DisclosureSettings:
    """What an accounting of disclosures leaves out, and what it knows of recipients.

    purposes that are left out are codes such as TREAT; where a record says none, the client's purpose stands for it.
    """

    left_out: frozenset[str] = frozenset({"TREAT", "HPAYMT", "HOPERAT", "PATRQT"})
    purposes: Mapping[str, str] = field(default_factory=dict)  # of clients, where their records say none
    recipients: Mapping[str, Recipient] = field(default_factory=dict)
    suspensions: tuple[Suspension, ...] = ()


@dataclass(frozen=True, slots=True)
class OfficerSettings:
    """roles are those of accounts (claim `roles`) that may see the officer's pages; keep_days is the age of the index."""

    roles: frozenset[str] = frozenset()
    keep_days: int = _KEPT_DAYS
    disclosures: DisclosureSettings = field(default_factory=DisclosureSettings)
    signals: tuple[SignalRule, ...] = ()

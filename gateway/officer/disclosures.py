"""An accounting of disclosures of one patient's record, 45 CFR 164.528.

For each disclosure (b)(2): the date, who received it with the address if known, what was disclosed, and the purpose.
For several to one recipient for one purpose (b)(3): the first of them, how many, and the last. What goes to somebody
outside is a disclosure, as for AuditEvents (gateway.audit.events.disclosures); what stays inside is a use. Left out are
purposes that (a)(1) leaves out, as the configuration says, and what a suspension holds back (a)(2). A patient is told too
much rather than too little: where nobody said who is outside, everybody is, and so is who asked in a record that cannot
be read any more; a disclosure whose purpose nobody said is in the accounting.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from authz.beside import beside
from authz.storage.audit_index import AccessEntry, AuditQuery, Cursor
from authz.storage.store import Store
from gateway.audit.events.disclosures import is_outside
from gateway.audit.events.record import Recorder, read_record
from gateway.audit.index.follower import line_at
from gateway.officer.asking import when
from gateway.officer_settings import DisclosureSettings

YEARS = 6
_ACCESS_KINDS = frozenset(
    {
        "read",
        "vread",
        "search",
        "history-instance",
        "history-type",
        "history-system",
        "operation",
        "delivered",
    }
)
_WORDS: Mapping[str, str] = {
    "read": "read", "vread": "read, an older version", "search": "found by a search", "operation": "by an operation",
    "history-instance": "history read", "history-type": "history read", "history-system": "history read",
    "delivered": "sent",
}  # fmt: skip
_PURPOSE_WORDS: Mapping[str, str] = {
    "TREAT": "treatment", "ETREAT": "emergency treatment", "BTG": "emergency access", "HPAYMT": "payment",
    "HOPERAT": "health care operations", "HRESCH": "research", "PATRQT": "at the patient's own request",
    "PUBHLTH": "public health", "HLEGAL": "legal proceedings", "FAMRQT": "at the request of the family",
    "HMARKT": "marketing", "HSYSADMIN": "system administration", "HDIRECT": "health directory",
}  # fmt: skip
_NOT_STATED = "not stated"
_PAGE = 200
_AT_ONCE = 50  # entries that are looked at before others have their turn
_MOST = 100_000


class TooManyDisclosures(ValueError):
    """More accesses than one accounting holds: a shorter time is needed."""


@dataclass(frozen=True, slots=True)
class Disclosure:
    """One disclosure. at is milliseconds; purposes are codes."""

    at: int
    recipient: str
    address: str
    client: str
    what: str
    purpose: str
    purposes: tuple[str, ...]
    chain: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Series:
    """Disclosures to one recipient for one purpose: the first whole, how many, and when the last was (b)(3)."""

    first: Disclosure
    count: int
    last_at: int


@dataclass(frozen=True, slots=True)
class Accounting:
    """What a patient is told. left_out, suspended and inside count what is not told, for the officer alone."""

    base: str
    patient: str
    since: int
    until: int
    disclosures: Sequence[Disclosure]
    series: Sequence[Series]
    left_out: int
    suspended: int
    inside: int = 0


async def accounting(
    store: Store,
    *,
    base: str,
    patient: str,
    since: int | None,
    until: int,
    settings: DisclosureSettings,
    recorder: Recorder,
    names: Mapping[str, str],
) -> Accounting:
    """The accounting of the six years before until, or of a shorter time (b)(1). names are those of clients by id, and
    recorder says who is outside.

    Raises TooManyDisclosures.
    """
    earliest = six_years_before(until)
    begin = earliest if since is None else max(since, earliest)
    found: list[AccessEntry] = []
    before: Cursor | None = None
    while True:
        query = AuditQuery(
            base=base,
            patients=(patient,),
            outcome="permit",
            since=begin,
            until=until,
            before=before,
            limit=_PAGE,
        )
        page = await store.find_audit(query)
        found += [entry for entry in page if entry.kind in _ACCESS_KINDS]
        if len(page) < _PAGE:
            break
        if len(found) > _MOST:
            raise TooManyDisclosures(f"there are more than {_MOST} accesses: ask for a shorter time")
        before = Cursor.behind(page[-1])
        await asyncio.sleep(0)  # a store may answer without a wait
    told, left_out, suspended, inside = [], 0, 0, 0
    for number, entry in enumerate(reversed(found), 1):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
        if _is_left_out(entry, settings):
            left_out += 1
        elif not await _goes_outside(entry, store, recorder):
            inside += 1
        elif _is_suspended(entry, settings, now=until):
            suspended += 1
        else:
            told.append(_disclosure(entry, settings, names))
    series = await beside(partial(_series, told))
    return Accounting(base, patient, begin, until, told, series, left_out, suspended, inside)


def six_years_before(at: int) -> int:
    """The earliest moment that an accounting goes back to, in milliseconds."""
    return at - (YEARS * 365 + 2) * 86_400_000


def _purposes(entry: AccessEntry, settings: DisclosureSettings) -> tuple[str, ...]:
    said = entry.purpose.split()
    return tuple(said or settings.purposes.get(entry.client, "").split())


def _is_left_out(entry: AccessEntry, settings: DisclosureSettings) -> bool:
    """Whether every purpose of it is left out; one that is not brings it in."""
    purposes = _purposes(entry, settings)
    return bool(purposes) and settings.left_out.issuperset(purposes)


async def _goes_outside(entry: AccessEntry, store: Store, recorder: Recorder) -> bool:
    """Whether who asked is outside. The index knows clients; for organisations the record is read."""
    if not recorder.disclosed_to and not recorder.organizations:
        return True
    if entry.client in recorder.disclosed_to:
        return True
    if not recorder.organizations:
        return False
    await asyncio.sleep(0)  # requests come first
    line = await line_at(store, entry.chain, entry.sequence)
    if line is None:
        return True
    try:
        return is_outside(read_record(line.line, recorder, chain=entry.chain))
    except ValueError:
        return True


def _is_suspended(entry: AccessEntry, settings: DisclosureSettings, *, now: int) -> bool:
    """Whether disclosures to its recipient are held back now; once the time is over they are told."""
    return any(
        each.client == entry.client and each.since <= now < each.until for each in settings.suspensions
    )


def _disclosure(entry: AccessEntry, settings: DisclosureSettings, names: Mapping[str, str]) -> Disclosure:
    known = settings.recipients.get(entry.client)
    purposes = _purposes(entry, settings)
    types = ", ".join(entry.types.split()) or "health record"
    return Disclosure(
        at=entry.at,
        recipient=names.get(entry.client, entry.client) if known is None else known.name,
        address="" if known is None else known.address,
        client=entry.client,
        what=f"{types} ({_WORDS[entry.kind]})",
        purpose=", ".join(_PURPOSE_WORDS.get(code, code) for code in purposes) or _NOT_STATED,
        purposes=purposes,
        chain=entry.chain,
        sequence=entry.sequence,
    )


def _series(told: Sequence[Disclosure]) -> Sequence[Series]:
    found: dict[tuple[str, str], list[Disclosure]] = {}
    for each in told:
        found.setdefault((each.client, each.purpose), []).append(each)
    return [Series(each[0], len(each), each[-1].at) for each in found.values()]


def in_words(found: Accounting) -> list[str]:
    """The accounting as lines of text."""
    lines = [
        f"Accounting of disclosures of the record of Patient/{found.patient} at {found.base}",
        f"from {when(found.since)} until {when(found.until)}",
        "",
    ]
    for each in found.disclosures:
        address = f", {each.address}" if each.address else ""
        lines.append(f"{when(each.at)}\t{each.recipient}{address}\t{each.what}\t{each.purpose}")
    if not found.disclosures:
        lines.append("No disclosure is to be accounted for.")
    if any(each.count > 1 for each in found.series):
        lines += ["", "By recipient and purpose:"]
    for series in found.series:
        if series.count > 1:
            first = series.first
            lines.append(
                f"{first.recipient}\t{first.purpose}\t{series.count} times\tfirst {when(first.at)}"
                f"\tlast {when(series.last_at)}"
            )
    return lines

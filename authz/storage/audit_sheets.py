"""Sheets: entries of the index that stand in one row together, packed, in the order of their chain.

An entry costs a row with its indexes twenty times what its bytes cost among those of others. A sheet has whole records
only, and sheets of a chain do not overlap, so that a record is found by the first sequence of its sheet. Times within
a sheet are a minute apart at most, but for those of a record and for what was added later: such a sheet is wide.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby
from operator import attrgetter, lt
from typing import TypeVar

import msgspec

from authz.storage.audit_index import AccessEntry, AuditQuery
from authz.storage.records import octets
from authz.storage.store import StoreUnavailable

SHEET_COLUMNS = "chain, first, last, count, earliest, latest, entries"
SHEET_ENTRIES = 32
SPAN = 60_000  # milliseconds
Sheet = tuple[str, int, int, int, int, int, bytes]
"""A row of SHEET_COLUMNS: chain, first and last sequence, how many entries, their times, and they themselves."""

T = TypeVar("T")
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[list[int], list[AccessEntry]]).decode
_unpack_parts = msgspec.msgpack.Decoder(tuple[list[int], list[msgspec.Raw]]).decode
_unpack_entry = msgspec.msgpack.Decoder(AccessEntry).decode
_sequence, _at = attrgetter("sequence"), attrgetter("at")


def in_order(entries: Sequence[AccessEntry]) -> Sequence[AccessEntry]:
    """Entries of one chain as its sheets have them, each once."""
    sequences = [*map(_sequence, entries)]
    if all(map(lt, sequences, sequences[1:])):
        return entries
    found: dict[tuple[int, str, str], AccessEntry] = {}
    for entry in entries:
        found.setdefault(key(entry), entry)
    return [found[each] for each in sorted(found)]


def key(entry: AccessEntry) -> tuple[int, str, str]:
    """What tells the entries of a chain apart, and orders them."""
    return entry.sequence, entry.base, entry.patient


def sheet_of(chain: str, entries: Sequence[AccessEntry]) -> Sheet:
    """The sheet of entries that are in order."""
    times = [*map(_at, entries)]
    sequences = [*map(_sequence, entries)]
    return (
        chain, sequences[0], sequences[-1], len(entries), min(times), max(times), _pack((sequences, entries)),
    )  # fmt: skip


def sheets_of(chain: str, entries: Sequence[AccessEntry]) -> Sequence[Sheet]:
    """The sheets of entries that are in order."""
    times, sequences = [*map(_at, entries)], [*map(_sequence, entries)]
    if max(times) - min(times) <= SPAN and all(map(lt, sequences, sequences[1:])):
        # Each is of a record of its own, and all are of about one time.
        starts = range(0, len(entries), SHEET_ENTRIES)
        return [sheet_of(chain, entries[start : start + SHEET_ENTRIES]) for start in starts]
    return [sheet_of(chain, each) for each in _cut(entries)]


def _cut(entries: Sequence[AccessEntry]) -> Iterator[Sequence[AccessEntry]]:
    """The same in parts of whole records: a part with more than one is short, and its times are near each other."""
    part: list[AccessEntry] = []
    earliest = latest = 0
    for _, group in groupby(entries, _sequence):
        record = [*group]
        times = [*map(_at, record)]
        if part:
            earliest, latest = min(earliest, *times), max(latest, *times)
        if part and (len(part) + len(record) > SHEET_ENTRIES or latest - earliest > SPAN):
            yield part
            part = []
        if not part:
            earliest, latest = min(times), max(times)
        part += record
    yield part


def entries_in(packed: object) -> list[AccessEntry]:
    """The entries of a sheet. Raises StoreUnavailable."""
    return _unpacked(_unpack, packed)[1]


def entries_of_records(packed: object, sequences: Collection[int]) -> list[AccessEntry]:
    """The entries that a sheet has of some records. Raises StoreUnavailable."""
    numbers, parts = _unpacked(_unpack_parts, packed)
    return [_unpacked_entry(part) for number, part in zip(numbers, parts, strict=True) if number in sequences]


def _unpacked(
    decode: Callable[[bytes], tuple[list[int], list[T]]], packed: object
) -> tuple[list[int], list[T]]:
    try:
        numbers, those = decode(octets(packed))
    except msgspec.DecodeError as error:
        raise _unreadable(error) from error
    if len(numbers) != len(those):
        raise _unreadable("it has not as many entries as it says")
    return numbers, those


def _unpacked_entry(part: msgspec.Raw) -> AccessEntry:
    try:
        return _unpack_entry(part)
    except msgspec.DecodeError as error:
        raise _unreadable(error) from error


def _unreadable(why: object) -> StoreUnavailable:
    return StoreUnavailable(f"a sheet of the index cannot be read: {why}")


def matching(wanted: AuditQuery) -> Callable[[AccessEntry], bool]:
    """Says of an entry whether it is wanted."""
    patients, kinds = frozenset(wanted.patients), frozenset(wanted.kinds)
    rule = None if wanted.rule is None else f" {wanted.rule} "  # ids joined by blanks, and an id holds none
    cursor = wanted.before
    before = None
    if cursor is not None:
        before = (cursor.at, cursor.chain, cursor.sequence, cursor.base, cursor.patient)
    base, user, client, grant, outcome = wanted.base, wanted.user, wanted.client, wanted.grant, wanted.outcome
    since, until, about = wanted.since, wanted.until, wanted.about_patients
    if "" in (user, client, grant):  # nobody is nobody's name
        return lambda entry: False

    def is_wanted(entry: AccessEntry) -> bool:
        return (
            (base is None or entry.base == base)
            and (user is None or entry.user == user)
            and (client is None or entry.client == client)
            and (grant is None or entry.grant == grant)
            and (outcome is None or entry.outcome == outcome)
            and (not kinds or entry.kind in kinds)
            and (not patients or (entry.patient in patients and entry.patient != ""))
            and (not about or entry.patient != "")
            and (since is None or entry.at >= since)
            and (until is None or entry.at < until)
            and (before is None or order(entry) < before)
            and (rule is None or rule in f" {entry.rule} ")
        )

    return is_wanted


def order(entry: AccessEntry) -> tuple[int, str, int, str, str]:
    """What orders all entries, the oldest first."""
    return entry.at, entry.chain, entry.sequence, entry.base, entry.patient


def words_of(wanted: AuditQuery) -> Sequence[bytes]:
    """Bytes of which a sheet has every one where it has an entry that is wanted."""
    said = [wanted.base, wanted.user, wanted.client, wanted.grant, wanted.outcome, wanted.rule]
    said += [next(iter(among)) for among in (wanted.patients, wanted.kinds) if len(among) == 1]
    return [each.encode("utf-8", "surrogatepass") for each in said if each]

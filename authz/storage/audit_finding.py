"""Finding entries of the index: steps that read, by mentions where somebody is named, else by the times of sheets."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from heapq import nlargest
from itertools import chain as chained

from authz.storage import audit_pages
from authz.storage.audit_index import AccessEntry, AuditQuery
from authz.storage.audit_mentions import USER, mark, marks_of
from authz.storage.audit_pages import Found
from authz.storage.audit_sheets import (
    SHEET_ENTRIES,
    SPAN,
    entries_in,
    entries_of_records,
    matching,
    order,
    words_of,
)
from authz.storage.audit_steps import OneMoment, Row, Statement, Steps, Turn
from authz.storage.records import integer, octets

_AT_ONCE = 500  # records that are looked at together
_OFTEN = 1000
"""Who is named by so many records of one volume or page is found as soon by the time of all entries."""
_RECORDS_AT_ONCE = 128
_SHEETS_IN_A_TURN = 16
_MOST_KNOWN = 20_000  # records of users whose accesses are counted
_SHEETS_AT_FIRST, _MOST_SHEETS = 3, 48
_FIRST, _LAST = -(1 << 63), (1 << 63) - 1
_Access = tuple[int, str, str]
Accesses = MutableMapping[tuple[str, str, int], Sequence[_Access]]
"""Time, base and patient of a user's permitted accesses, by user, chain and sequence."""


def find(wanted: AuditQuery) -> Steps[list[AccessEntry]]:
    """At most wanted.limit entries, the newest first."""
    marks = marks_of(wanted)
    if not marks:
        return (yield from by_time(wanted))
    until = [] if wanted.until is None else [wanted.until]
    if wanted.before is not None:
        until.append(wanted.before.at)
    rows = yield from audit_pages.mentions(marks, earliest=wanted.since, latest=min(until, default=None))
    return (yield from _find_mentioned(wanted, rows, marks))


def _find_mentioned(
    wanted: AuditQuery, rows: Sequence[Row], marks: Sequence[int]
) -> Steps[list[AccessEntry]]:
    is_wanted = matching(wanted)
    found: set[AccessEntry] = set()  # each once: two followers may have read the same lines
    newest: list[AccessEntry] = []
    for at_most, chain, sequences in _batches(audit_pages.records_in(rows, marks), at_least=wanted.limit):
        if len(newest) == wanted.limit and newest[-1].at > at_most:
            break  # whoever comes now is older
        if len(sequences) > _OFTEN:
            return (yield from by_time(wanted))
        found.update(filter(is_wanted, (yield from _among(chain, sequences))))
        newest = nlargest(wanted.limit, found, key=order)
    return newest


def by_time(wanted: AuditQuery) -> Steps[list[AccessEntry]]:
    """The same, of all entries by their time."""
    since = _FIRST if wanted.since is None else wanted.since
    until = _LAST if wanted.until is None else wanted.until - 1
    if wanted.before is not None:
        until = min(until, wanted.before.at)
    walk = _Walk(wanted, since, until)
    walk.note((yield walk.beginning(_SHEETS_AT_FIRST)))
    if walk.is_done:
        return walk.found
    # A sheet to which somebody adds in between would go from where it was not read yet to where nobody reads any more.
    yield OneMoment()
    at_once = _SHEETS_AT_FIRST * 4
    walk = _Walk(wanted, since, until)
    walk.note((yield walk.beginning(at_once)))
    while not walk.is_done:
        yield Turn()
        at_once = min(at_once * 4, _MOST_SHEETS)
        walk.note((yield walk.further(at_once)))
    return walk.found


class _Walk:
    """A walk through sheets by their time, the newest first."""

    def __init__(self, wanted: AuditQuery, since: int, until: int) -> None:
        self.found: list[AccessEntry] = []
        self.is_done = False
        self._wanted = wanted
        self._is_wanted, self._words = matching(wanted), words_of(wanted)
        self._between = (since, until)
        # Few sheets are wide, and an index knows them: of the others one that begins until then ends soon after.
        self._place: tuple[object, ...] = (min(until, _LAST - SPAN) + SPAN, "\U0010ffff", _LAST)
        self._at_once = 0

    def beginning(self, at_once: int) -> Statement:
        """Wide sheets, all of them, and the first so many others."""
        return self._asked(_WIDE_AND_NARROW, at_once)

    def further(self, at_once: int) -> Statement:
        """So many more of the others."""
        return self._asked(_NARROW, at_once)

    def note(self, rows: Sequence[Row]) -> None:
        """Take the entries of such sheets."""
        narrow = [row for row in rows if not row[4]]
        for row in rows:
            if row[4] or all(word in octets(row[3]) for word in self._words):
                self.found += filter(self._is_wanted, entries_in(row[3]))
        self.found = nlargest(self._wanted.limit, self.found, key=order)
        if narrow:
            self._place = min(row[:3] for row in narrow)
        is_whole = len(self.found) == self._wanted.limit
        self.is_done = len(narrow) < self._at_once or (
            is_whole and self.found[-1].at > integer(self._place[0])
        )

    def _asked(self, sql: str, at_once: int) -> Statement:
        self._at_once = at_once
        return Statement(sql, (*self._between, *self._place, at_once))


_SHEETS = "SELECT latest, chain, first, entries"
_WIDE = f"{_SHEETS}, 1 AS is_wide FROM audit_sheet WHERE latest - earliest > {SPAN} AND latest >= $1 AND earliest <= $2"
_NARROW = (
    f"{_SHEETS}, 0 AS is_wide FROM audit_sheet WHERE latest >= $1 AND earliest <= $2"
    f" AND (latest, chain, first) < ($3, $4, $5) AND latest - earliest <= {SPAN}"
    " ORDER BY latest DESC, chain DESC, first DESC LIMIT $6"
)
_WIDE_AND_NARROW = f"{_WIDE} UNION ALL SELECT * FROM ({_NARROW}) AS narrow"  # noqa: S608


def of_chain(*, chain: str, after: int, limit: int) -> Steps[list[AccessEntry]]:
    """Entries of one chain in its order, those of at most limit records, each with all of its entries."""
    found: list[AccessEntry] = []
    records = 0
    # The sheet that has the next one may begin before it.
    first = "COALESCE((SELECT MAX(first) FROM audit_sheet WHERE chain = $1 AND first <= $2), $2)"
    read_to, at_once = after, min(_SHEETS_AT_FIRST + limit // SHEET_ENTRIES, _MOST_SHEETS)
    while True:
        rows = yield Statement(
            f"SELECT last, entries FROM audit_sheet WHERE chain = $1 AND first >= {first} ORDER BY first LIMIT $3",  # noqa: S608
            (chain, read_to, at_once),
        )
        for entry in chained.from_iterable(entries_in(row[1]) for row in rows):
            if entry.sequence <= read_to:
                continue
            if not found or entry.sequence != found[-1].sequence:
                records += 1
            if records > limit:
                return found
            found.append(entry)
        if len(rows) < at_once:
            return found
        yield Turn()
        read_to = max(read_to, integer(rows[-1][0]))


def last_use(grants: Collection[str]) -> Steps[Mapping[str, int]]:
    """The milliseconds of the newest access by each grant."""
    found: dict[str, int] = {}
    asked = {grant: AuditQuery(grant=grant, limit=1) for grant in sorted({*grants} - {""})}
    marks = {grant: marks_of(wanted) for grant, wanted in asked.items()}
    if not asked:
        return found
    rows = yield from audit_pages.mentions([*chained(*marks.values())], earliest=None, latest=None)
    for grant, wanted in asked.items():
        for entry in (yield from _find_mentioned(wanted, rows, marks[grant])):
            found[grant] = entry.at
        yield Turn()
    return found


def patients_per_window(
    user: str, *, since: int, until: int, window: int, known: Accesses
) -> Steps[Mapping[int, int]]:
    """How many patients a user's permitted accesses were about in each window of so many milliseconds."""
    if not user:
        return {}
    marks = [mark(USER, user)]
    rows = yield from audit_pages.mentions(marks, earliest=since, latest=until - 1)
    seen = set()
    for _, chain, sequences in _batches(audit_pages.records_in(rows, marks), at_least=_AT_ONCE):
        for at, base, patient in (yield from _accesses(user, chain, sequences, known)):
            if since <= at < until:
                seen.add(((until - 1 - at) // window, base, patient))
    return Counter(number for number, _, _ in seen)


def _accesses(user: str, chain: str, sequences: Collection[int], known: Accesses) -> Steps[list[_Access]]:
    """Time, base and patient of a user's permitted accesses among some records.

    A watch asks for the same ones again with each new one: what was read is remembered until it may have changed. That
    another process wrote meanwhile changes nothing: the entries of a record are added together, and stay as they are.
    """
    if len(known) > _MOST_KNOWN:
        known.clear()
    missing: dict[int, list[_Access]] = {each: [] for each in sequences if (user, chain, each) not in known}
    if missing:
        for entry in (yield from _among(chain, missing)):
            if entry.user == user and entry.patient and entry.outcome == "permit":
                missing[entry.sequence].append((entry.at, entry.base, entry.patient))
        known.update({(user, chain, each): found for each, found in missing.items()})
    return [*chained.from_iterable([known[user, chain, each] for each in sequences])]


def _among(chain: str, sequences: Collection[int]) -> Steps[list[AccessEntry]]:
    """The entries of some records of a chain."""
    found: list[AccessEntry] = []
    wanted = sorted(sequences)
    for start in range(0, len(wanted), _RECORDS_AT_ONCE):
        rows = yield Statement(
            "SELECT entries FROM audit_sheet WHERE chain = $1 AND first AMONG"
            " [SELECT (SELECT MAX(first) FROM audit_sheet WHERE chain = $1 AND first <= each.value) FROM EACH($2)]",
            (chain, wanted[start : start + _RECORDS_AT_ONCE]),
        )
        for at in range(0, len(rows), _SHEETS_IN_A_TURN):
            some = rows[at : at + _SHEETS_IN_A_TURN]
            found += chained.from_iterable(entries_of_records(row[0], sequences) for row in some)
            yield Turn()
    return found


def _batches(records: Iterable[Found], *, at_least: int) -> Iterator[Found]:
    """The same records in fewer groups, each of one chain and of so many where there are as many, in the same order."""
    at_most, chain, sequences = 0, "", set[int]()
    for of_latest, of_chain, found in records:
        if sequences and (of_chain != chain or len(sequences) >= at_least):
            yield at_most, chain, sequences
            sequences = set()
        if not sequences:
            at_most, chain = of_latest, of_chain
        sequences = sequences | found
    if sequences:
        yield at_most, chain, sequences

"""The pages of what waits for the officer: an overview, signals of unusual access, and emergency access to review."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

from authz.protocol.request import Answer
from gateway.audit.index.follower import IndexFollower
from gateway.emergencies import review
from gateway.officer.house import OfficerHouse, OfficerVisit

OVERVIEW, SIGNALS, BREAK_GLASS = "/officer", "/officer/signals", "/officer/break-glass"
_MOST_COUNTED = 200
_ON_A_PAGE = 25
_PLACE = re.compile(r"([0-9]{1,15})\.([0-9]{1,6})")
T = TypeVar("T")
_LONGEST_NOTE = 500


class QueuePages:
    """Doors of these pages: each takes a visit and gives a page."""

    def __init__(self, house: OfficerHouse) -> None:
        self._house = house

    async def overview(self, visit: OfficerVisit) -> Answer:
        """GET /officer: what waits, the policies in force, and where the log stands. Nothing about any patient."""
        house, now = self._house, self._house.clock()
        signals = await house.store.signals(only_open=True, limit=_MOST_COUNTED, now=now)
        emergencies = await house.store.emergencies(only_open=True, limit=_MOST_COUNTED, now=now)
        head = await house.store.newest_tree_head()
        engine = house.engine()
        rules = Counter(rule.policy for rule in engine.policies.rules) if engine is not None else Counter()
        return house.shown(
            visit.browser,
            visit.language,
            "overview.html",
            here=OVERVIEW,
            person=visit.account.name,
            signals=len(signals),
            emergencies=len(emergencies),
            policy_hash=None if engine is None else engine.policy_hash,
            policies=sorted(rules.items()),
            chains=sorted((await house.store.audit_heads()).items()),
            head=0 if head is None else head.number,
            behind=await IndexFollower(house.store, house.bases).behind(),
        )

    async def signals(self, visit: OfficerVisit, *, problem: str = "", done: str = "") -> Answer:
        """GET /officer/signals: those that are open, or all of them."""
        house = self._house
        shows_all = visit.fields.get("show", "") == "all"
        place = Place.of(visit)
        rows = await house.store.signals(
            only_open=not shows_all, limit=place.rows, now=house.clock(), until=place.until
        )
        found, older = place.page([(each.at, each) for each in rows])
        asked = {"open": not shows_all, "patients": sorted({each.patient for each in found if each.patient})}
        await house.looks.recorded("signals", asked, by=visit.account.subject, shown=len(found))
        return house.shown(
            visit.browser,
            visit.language,
            "signals.html",
            here=SIGNALS,
            status=400 if problem else 200,
            signals=found,
            shows_all=shows_all,
            first=_address(SIGNALS, shows_all) if place.until is not None else "",
            older=_address(SIGNALS, shows_all, older) if older else "",
            names=house.names(),
            problem=problem,
            done=done,
        )

    async def review_signal(self, visit: OfficerVisit) -> Answer:
        """POST /officer/signals: what was found about one of them."""
        note = noted(visit.fields.get("note", ""))
        if not note:
            return await self.signals(
                visit, problem=visit.language.plain("officer.note_length", most=_LONGEST_NOTE)
            )
        house = self._house
        written = await house.looks.review_signal(
            visit.fields.get("id", ""), by=visit.account.subject, review=note, now=house.clock()
        )
        if not written:
            return await self.signals(visit, problem=visit.language.plain("officer.signal_gone"))
        return await self.signals(visit, done=visit.language.plain("officer.review_done"))

    async def break_glass(self, visit: OfficerVisit, *, problem: str = "", done: str = "") -> Answer:
        """GET /officer/break-glass: emergency access that nobody has reviewed, or all of it."""
        house, now = self._house, self._house.clock()
        shows_all = visit.fields.get("show", "") == "all"
        place = Place.of(visit)
        rows = await house.store.emergencies(
            only_open=not shows_all, now=now, limit=place.rows, until=place.until
        )
        found, older = place.page([(each.started_at, each) for each in rows])
        asked = {"open": not shows_all, "patients": sorted({each.patient for each in found})}
        await house.looks.recorded("break-glass", asked, by=visit.account.subject, shown=len(found))
        return house.shown(
            visit.browser,
            visit.language,
            "break_glass.html",
            here=BREAK_GLASS,
            status=400 if problem else 200,
            emergencies=found,
            now=now,
            shows_all=shows_all,
            first=_address(BREAK_GLASS, shows_all) if place.until is not None else "",
            older=_address(BREAK_GLASS, shows_all, older) if older else "",
            names=house.names(),
            problem=problem,
            done=done,
        )

    async def review_break_glass(self, visit: OfficerVisit) -> Answer:
        """POST /officer/break-glass: what was found about one of them."""
        note = noted(visit.fields.get("note", ""))
        if not note:
            said = visit.language.plain("officer.note_length", most=_LONGEST_NOTE)
            return await self.break_glass(visit, problem=said)
        house = self._house
        written = await review(
            house.store,
            house.audit,
            visit.fields.get("id", ""),
            by=visit.account.subject,
            review=note,
            now=house.clock(),
        )
        if not written:
            said = visit.language.plain("officer.glass_gone")
            return await self.break_glass(visit, problem=said)
        return await self.break_glass(visit, done=visit.language.plain("officer.review_done"))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of a list begins: with those of a moment, without so many of that moment that were shown before.

    A moment names nobody, as the id of a signal might: it stands in an address.
    """

    until: int | None = None
    skipped: int = 0

    @classmethod
    def of(cls, visit: OfficerVisit) -> "Place":
        """The place that an address names; the begin for all else."""
        found = _PLACE.fullmatch(visit.fields.get("before", ""))
        return cls() if found is None else cls(int(found[1]), int(found[2]))

    @property
    def rows(self) -> int:
        """How many rows tell what is on the page, and whether it is the last."""
        return self.skipped + _ON_A_PAGE + 1

    def page(self, rows: Sequence[tuple[int, T]]) -> tuple[list[T], str]:
        """The page of these rows, each with its moment, and where the next one begins; '' after the last."""
        shown = rows[self.skipped : self.skipped + _ON_A_PAGE]
        if len(rows) < self.rows:
            return [row for _, row in shown], ""
        last = shown[-1][0]
        behind = sum(moment == last for moment, _ in rows[: self.skipped + _ON_A_PAGE])
        return [row for _, row in shown], f"{last}.{behind}"


def _address(path: str, shows_all: bool, place: str = "") -> str:
    """The address of a page of a list."""
    asked = ({"show": "all"} if shows_all else {}) | ({"before": place} if place else {})
    return f"{path}?{urlencode(asked)}" if asked else path


def noted(text: str) -> str:
    """A note as one line; empty where it is none."""
    line = " ".join(text.split())
    return line if line.isprintable() and len(line) <= _LONGEST_NOTE else ""

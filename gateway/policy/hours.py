"""Times at which rules hold: hours of the day in a zone, and the days from which to which a policy is valid.

The wall clock of the zone decides. An hour that a change of clocks repeats counts twice, one that it leaves out never
comes. Times are seconds since 1970, as in Environment.now.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from gateway.yaml_source import Place, Problem

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WHOLE_DAY = 24 * 60
_WEEK = 7


@dataclass(frozen=True, slots=True)
class Hours:
    """A window of the day: from begin until before end, in minutes after midnight, on days (0 is Monday).

    A window whose end is not after its begin ends on the next day; days are those on which it begins.
    """

    begin: int
    end: int
    days: frozenset[int]
    zone: ZoneInfo

    @property
    def passes_midnight(self) -> bool:
        """Whether it ends on the day after the one on which it begins."""
        return self.end <= self.begin

    def holds(self, day: int, minute: int) -> bool:
        """Whether a minute of a day lies in it."""
        if not self.passes_midnight:
            return day in self.days and self.begin <= minute < self.end
        since_yesterday = minute < self.end and (day - 1) % _WEEK in self.days
        return since_yesterday or (minute >= self.begin and day in self.days)

    @property
    def minutes(self) -> frozenset[int]:
        """The minutes of the week in it."""
        length = self.end - self.begin + (WHOLE_DAY if self.passes_midnight else 0)
        starts = (day * WHOLE_DAY + self.begin for day in self.days)
        return frozenset(
            (start + minute) % (_WEEK * WHOLE_DAY) for start in starts for minute in range(length)
        )

    def __str__(self) -> str:
        """As it is written in a policy."""
        hours = "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in (self.begin, self.end))
        return f"{hours} {','.join(DAYS[day] for day in sorted(self.days))} {self.zone}"


@dataclass(frozen=True, slots=True)
class Validity:
    """The time in which a policy is valid: from begin until before end, None for without limit. text is for people."""

    begin: int | None
    end: int | None
    text: str
    place: Place

    def holds(self, now: int) -> bool:
        """Whether the policy is valid now. What is not valid is off as a whole, whatever its rules do."""
        return (self.begin is None or self.begin <= now) and (self.end is None or now < self.end)

    def warning(self, now: int) -> Problem | None:
        """That the policy is not valid now, at its place; None where it is."""
        if self.holds(now):
            return None
        if self.end is not None and self.end <= now:
            said = "the policy is expired: none of its rules counts any more, and what they denied is denied no longer"
        else:
            said = (
                "the policy is not valid yet: none of its rules counts, what they are to deny is not denied"
            )
        return self.place.problem(f"{said}; valid {self.text}", warning=True)

    def __str__(self) -> str:
        """As it is written in a policy."""
        return self.text


def in_hours(now: int, hours: Iterable[Hours], *, unknown: bool) -> bool:
    """Whether now lies in one of the windows. unknown is the answer about a time that no calendar knows."""
    try:
        return any(each.holds(*_on_the_wall(each.zone, now // 60)) for each in hours)
    except (ValueError, OverflowError, OSError):
        return unknown


@lru_cache(maxsize=64)
def _on_the_wall(zone: ZoneInfo, minute: int) -> tuple[int, int]:
    """Day of the week and minute of the day that clocks in the zone show. Offsets from UTC are whole minutes today."""
    shown = datetime.fromtimestamp(minute * 60, zone)
    return shown.weekday(), shown.hour * 60 + shown.minute

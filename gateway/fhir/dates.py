"""FHIR dates as intervals of time, and how a search compares them (FHIR R4 2.24.0.1, 3.1.1.4.7).

A date of any precision is the half-open interval of its microseconds: 2024-05 is all of May. A date or time without
an offset is taken as UTC; a Period without an end never ends.
"""

import math
import re
from collections.abc import Callable
from datetime import date
from typing import Any

TYPES = frozenset({"date", "dateTime", "instant", "Period", "Timing"})

_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[-+]\d\d:\d\d)?)?)?)?"
)
_PREFIXED = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?(.*)", re.DOTALL)
_SECOND = 1_000_000
_MINUTE = 60 * _SECOND
_DAY = 24 * 60 * _MINUTE

Interval = tuple[float, float]  # microseconds since year 1; the end is not part of it; may be infinite
Comparison = Callable[[Interval, Interval], bool]


def interval(text: str) -> Interval | None:
    """The time that a FHIR date, dateTime or instant names; None for text that is none of them."""
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    year, month, day = int(match[1]), int(match[2] or 1), int(match[3] or 1)
    try:
        start = date(year, month, day).toordinal() * _DAY
        if match[2] is None:
            return start, start + (366 if _is_leap(year) else 365) * _DAY
        if match[3] is None:
            return start, start + _days_in(year, month) * _DAY
    except ValueError:
        return None
    if match[4] is None:
        return start, start + _DAY
    hour, minute, second = int(match[4]), int(match[5]), int(match[6] or 0)
    offset = _offset(match[8])
    if hour > 23 or minute > 59 or second > 60 or offset is None:
        return None
    start += (hour * 60 + minute - offset) * _MINUTE + second * _SECOND
    if match[6] is None:
        return start, start + _MINUTE
    if match[7] is None:
        return start, start + _SECOND
    digits = match[7][:6]
    step = 10 ** (6 - len(digits))
    start += int(digits) * step
    return start, start + step


def value_interval(value: Any) -> Interval | None:
    """The time that a value of one of TYPES covers, from the first to the last moment; None where it says nothing."""
    if isinstance(value, str):
        return interval(value)
    if not isinstance(value, dict):
        return None
    if "start" in value or "end" in value:
        return _period(value)
    events = value.get("event")
    repeat = value.get("repeat")
    bounds = repeat.get("boundsPeriod") if isinstance(repeat, dict) else None
    moments = (
        [interval(event) for event in events if isinstance(event, str)] if isinstance(events, list) else []
    )
    moments.append(_period(bounds) if isinstance(bounds, dict) else None)
    known = [moment for moment in moments if moment is not None]
    if not known:
        return None
    return min(start for start, _ in known), max(end for _, end in known)


def compile_test(text: str) -> Callable[[Any], bool]:
    """The test of a date parameter's value, e.g. 'ge2024-05'. Raises ValueError for 'ap' and for no date."""
    match = _PREFIXED.fullmatch(text)
    wanted = interval(match[2]) if match else None
    if match is None or wanted is None:
        raise ValueError(f"'{text}' is not a date")
    compare = _COMPARISONS.get(match[1] or "eq")
    if compare is None:
        raise ValueError("'ap' means what each store likes; it cannot be judged")

    def test(value: Any) -> bool:
        covered = value_interval(value)
        return covered is not None and compare(covered, wanted)

    return test


def _within(value: Interval, wanted: Interval) -> bool:
    return wanted[0] <= value[0] and value[1] <= wanted[1]


# FHIR R4 3.1.1.4.7: of a value's interval and the one that is searched
_COMPARISONS: dict[str, Comparison] = {
    "eq": _within,
    "ne": lambda value, wanted: not _within(value, wanted),
    "gt": lambda value, wanted: value[1] > wanted[1],
    "lt": lambda value, wanted: value[0] < wanted[0],
    "ge": lambda value, wanted: value[1] > wanted[1] or _within(value, wanted),
    "le": lambda value, wanted: value[0] < wanted[0] or _within(value, wanted),
    "sa": lambda value, wanted: value[0] >= wanted[1],
    "eb": lambda value, wanted: value[1] <= wanted[0],
}


def _period(value: dict[str, Any]) -> Interval | None:
    start, end = value.get("start"), value.get("end")
    if start is None and end is None:
        return None
    first = _moment(start, (-math.inf, -math.inf))
    last = _moment(end, (math.inf, math.inf))
    return None if first is None or last is None else (first[0], last[1])


def _moment(value: Any, missing: Interval) -> Interval | None:
    if value is None:
        return missing
    return interval(value) if isinstance(value, str) else None


def _offset(text: str | None) -> int | None:
    """Minutes east of UTC; None for an offset that does not exist."""
    if text is None or text == "Z":
        return 0
    hours, minutes = int(text[1:3]), int(text[4:6])
    if hours > 14 or minutes > 59:
        return None
    return (hours * 60 + minutes) * (-1 if text[0] == "-" else 1)


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _days_in(year: int, month: int) -> int:
    if month == 2:
        return 29 if _is_leap(year) else 28
    return 30 if month in (4, 6, 9, 11) else 31

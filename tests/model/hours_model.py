"""Hours and days of a rule, read naively: by the clock on the wall of its zone."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def is_time(when: dict[str, Any], now: int) -> bool:
    """Whether now lies in a window of the rule, by the clocks of its zone; a window over midnight began yesterday."""
    if "zone" not in when:
        return True
    days = when.get("days", DAYS)
    for window in when.get("hours", ["00:00-24:00"]):
        begin, end = (_minutes(text) for text in window.split("-"))
        clock = datetime.fromtimestamp(now, ZoneInfo(when["zone"]))
        today, yesterday = DAYS[clock.weekday()], DAYS[clock.weekday() - 1]
        minute = clock.hour * 60 + clock.minute
        if begin < end:
            if today in days and begin <= minute < end:
                return True
        elif (today in days and minute >= begin) or (yesterday in days and minute < end):
            return True
    return False


def _minutes(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])

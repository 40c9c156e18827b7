"""When acting for somebody ends: days and birthdays, in UTC."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any


def birthday(born: date, age: int) -> date:
    """The day on which somebody becomes so old; of those born on 29 February in other years the day after the 28th."""
    try:
        return born.replace(year=born.year + age)
    except ValueError:
        return date(born.year + age, 3, 1)


def seconds_of(day: date) -> int:
    """The begin of a day, in seconds since 1970."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def read_day(resource: Mapping[str, Any] | None, name: str) -> date | None:
    """A date of a resource, as exact as a day; None for one that is not, or is out of all measure."""
    text = None if resource is None else resource.get(name)
    try:
        found = date.fromisoformat(text) if isinstance(text, str) and len(text) == 10 else None
    except ValueError:
        return None
    return found if found is not None and 1800 <= found.year <= 9800 else None

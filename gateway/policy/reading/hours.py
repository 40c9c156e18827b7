"""Hours in the words of the language: '07:00-20:00', days of the week, and the zone whose clocks are meant."""

import re
from zoneinfo import ZoneInfo, available_timezones

from gateway.policy.hours import DAYS, WHOLE_DAY, Hours
from gateway.policy.reading.reader import Reader
from gateway.yaml_source import Mapping, Node, Scalar, Sequence, did_you_mean

HOURS_KEYS = ("hours", "days", "zone")
_WINDOW = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
_NOT_A_PLACE = frozenset({"localtime", "Factory", "posixrules", "posix", "right"})
_UTC = ZoneInfo("UTC")


def read_hours(
    reader: Reader, body: Mapping, sets: dict[str, tuple[Hours, ...]] | None = None
) -> tuple[Hours, ...] | None:
    """The windows of `hours`, `days` and `zone`; None without them. sets are those that hours may name as '$name'.

    Days without hours are whole days. A set says its own days and zone.
    """
    if not any(key in body for key in HOURS_KEYS):
        return None
    node = body.node("hours")
    own: list[Node] = []
    found: list[Hours] = []
    named = False
    for item in reader.items(node, "hours") if isinstance(node, Sequence | Scalar) else ():
        text = item.text if isinstance(item, Scalar) else ""
        if sets is None or not text.startswith("$"):
            own.append(item)
            continue
        named = True
        if text[1:] not in sets:
            reader.problem(item, f"no set of hours named '{text}'.{did_you_mean(text[1:], sets)}")
        found.extend(sets.get(text[1:], ()))
    if node is not None and not isinstance(node, Sequence | Scalar):
        reader.problem(node, f"hours must be a window such as '07:00-20:00', or a list, found {node.kind}")
    elif node is not None and not own and not named:
        reader.problem(node, "'hours' names nothing: the rule could never match")
    if named and not own:
        for key in ("days", "zone"):
            entry = body.entry(key)
            if entry is not None:
                reader.problem(entry, f"'{key}' says nothing here: a set of hours has its own")
    if own or node is None:
        found.extend(_own(reader, body, own))
    if node is not None:
        _check_overlaps(reader, node, found)
    return tuple(found)


def _own(reader: Reader, body: Mapping, windows: list[Node]) -> list[Hours]:
    """The windows that are written out, each on the days and in the zone that stand beside them."""
    days = _days(reader, body.node("days"))
    zone = _UTC
    if "zone" in body:
        zone = read_zone(reader, body.node("zone")) or _UTC
    else:
        reader.problem(body, "hours and days need the zone whose clocks are meant: 'zone: Europe/Amsterdam'")
    if "hours" not in body:
        if "days" not in body:
            reader.problem(body, "a zone alone says no time: give 'hours' or 'days'")
        return [Hours(0, WHOLE_DAY, days, zone)]
    spans = [span for item in windows if (span := _window(reader, item)) is not None]
    return [Hours(begin, end, days, zone) for begin, end in spans]


def _window(reader: Reader, node: Node) -> tuple[int, int] | None:
    text = reader.text(node, "hours")
    if not text:
        return None
    match = _WINDOW.fullmatch(text)
    if match is None:
        reader.problem(node, f"'{text}' are no hours: write them as 07:00-20:00")
        return None
    hour, minute, last_hour, last_minute = (int(group) for group in match.groups())
    begin, end = hour * 60 + minute, last_hour * 60 + last_minute
    if minute > 59 or last_minute > 59 or begin >= WHOLE_DAY or end > WHOLE_DAY:
        reader.problem(
            node, f"'{text}' names an hour that no clock shows: 00:00 to 23:59, and 24:00 as an end"
        )
        return None
    if begin == end:
        reader.problem(node, f"'{text}' is empty: the rule could never match. A whole day is 00:00-24:00")
        return None
    return begin, end


def _days(reader: Reader, node: Node | None) -> frozenset[int]:
    if node is None:
        return frozenset(range(len(DAYS)))
    words = [reader.word(item, "day", DAYS) for item in reader.items(node, "days")]
    if not words and isinstance(node, Sequence):
        reader.problem(node, "'days' names nothing: the rule could never match")
    return frozenset(DAYS.index(word) for word in words if word)


def read_zone(reader: Reader, node: Node | None) -> ZoneInfo | None:
    """A zone of the IANA time zone database, such as Europe/Amsterdam; None for what is none."""
    text = reader.text(node, "zone")
    if not text or node is None:
        return None
    try:
        if not _ZONE.fullmatch(text) or text.partition("/")[0] in _NOT_A_PLACE:
            raise ValueError
        return ZoneInfo(text)
    except (ValueError, OSError, KeyError):
        known = available_timezones()
        reader.problem(node, f"unknown time zone '{text}'.{did_you_mean(text, known)}")
        return None


def _check_overlaps(reader: Reader, node: Node, windows: list[Hours]) -> None:
    """Note windows of one zone that share a time: one of them says less than it seems to."""
    for number, one in enumerate(windows):
        for other in windows[:number]:
            if one.zone is other.zone and not one.minutes.isdisjoint(other.minutes):
                said = f"hours '{other}' and '{one}' overlap"
                reader.problem(node, said, warning=True)

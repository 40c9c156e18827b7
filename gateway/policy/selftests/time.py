"""When a test in a policy file takes place: `time` of `as`, or a quiet Friday morning on which its policy is valid."""

from collections.abc import Iterable
from datetime import datetime

from gateway.policy.rules import Rule

USUALLY = 1_800_000_000
"""Friday 2027-01-15, 08:00 UTC."""


def time_of(said: object, rules: Iterable[Rule]) -> int:
    """The time of a test, in seconds since 1970. said is its `time`, None without; rules are those of its policy.

    Raises ValueError for what is no time.
    """
    if said is None:
        return _usually(rules)
    try:
        found = datetime.fromisoformat(said) if isinstance(said, str) else None
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError(
            f"time is '{said}', expected a time with its offset such as 2026-03-02T02:00:00+01:00"
        )
    return int(found.timestamp())


def _usually(rules: Iterable[Rule]) -> int:
    valid = next((rule.valid for rule in rules if rule.valid is not None), None)
    if valid is None or valid.holds(USUALLY):
        return USUALLY
    if valid.end is not None and valid.end <= USUALLY:
        return valid.end - 1
    return USUALLY if valid.begin is None else valid.begin

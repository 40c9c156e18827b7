"""What an answer held on its way out, counted."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """What went out and what stayed back, for the audit record."""

    shown: int = 0
    dropped: int = 0
    narrowing_seen: bool | None = None
    rules: set[str] = field(default_factory=set)

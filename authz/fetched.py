"""What comes of a fetch: a whole body, or why there is none."""

from dataclasses import dataclass


class FetchError(Exception):
    """What was asked for could not be had. The text is for the operator, not for callers.

    outcome  'refused', 'unreachable', 'tls', 'slow', 'status', 'type', 'size' or 'malformed'
    """

    def __init__(self, outcome: str, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole body. max_age_seconds is how long its sender calls it fresh, None where it does not say."""

    body: bytes
    max_age_seconds: int | None

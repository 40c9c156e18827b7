"""Records of what a permit obliges to: how often a rule may be used, emergency access, notifications to be sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most so many uses of key (a digest) within seconds, which begin with the first of them."""

    key: bytes
    at_most: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Emergency:
    """Emergency access of one principal to the chart of one patient, under one rule.

    expires_at is when the row goes: long after ends_at, so that it can be reviewed.
    """

    id: str
    rule: str
    issuer: str
    client_id: str
    subject: str
    patient: str
    reason: str
    started_at: int
    ends_at: int
    expires_at: int
    reviewed_at: int | None = None
    reviewed_by: str | None = None
    review: str | None = None


FIRST_PAUSE_SECONDS = 5
"""How long a message waits after its first delivery that failed; after each further one twice as long."""
LONGEST_PAUSE_SECONDS = 3600
"""The longest that it waits."""


@dataclass(frozen=True, slots=True)
class Notification:
    """A message for a receiver of the configuration. attempts counts the deliveries that were begun."""

    id: str
    receiver: str
    content: bytes
    due_at: int
    expires_at: int
    attempts: int = 0


class EffectsStore(Protocol):
    """The part of the Store that keeps them. What holds for every method of a Store holds for these."""

    async def spend(self, limits: Sequence[RateLimit], *, now: int) -> int:
        """Spend one use of every limit, in one transaction: 0.

        Where one of them is used up, nothing is spent: the seconds until it opens again.
        """
        ...

    async def begin_emergency(
        self, record: Emergency, notifications: Sequence[Notification], *, now: int
    ) -> bool:
        """Begin emergency access and put its notifications into the outbox, in one transaction.

        False, and nothing written, when that of the same rule, principal and patient is under way.
        """
        ...

    async def emergencies_of(
        self, *, issuer: str, client_id: str, subject: str, now: int
    ) -> Sequence[Emergency]:
        """The emergency access of a principal that is under way, the oldest first."""
        ...

    async def emergencies(
        self, *, only_open: bool, now: int, limit: int | None = None, until: int | None = None
    ) -> Sequence[Emergency]:
        """Emergency access, the newest first, ids in their order; only_open leaves out what was reviewed.

        With limit so many; with until what began then or earlier.
        """
        ...

    async def ended_emergencies(self, *, now: int, at_most: int) -> Sequence[Emergency]:
        """Emergency access that is over and whose end is not noted."""
        ...

    async def end_emergency(self, id: str, *, now: int) -> bool:
        """Let emergency access be over now; False when it was."""
        ...

    async def note_emergency_end(self, id: str) -> bool:
        """Mark the end as noted: True for the first caller."""
        ...

    async def review_emergency(self, id: str, *, by: str, review: str, now: int) -> bool:
        """Write down a review in one statement; False when there is nothing of that id, or when it was reviewed."""
        ...

    async def put_notifications(self, records: Sequence[Notification]) -> None:
        """Put messages into the outbox, in one transaction."""
        ...

    async def claim_notifications(self, *, now: int, until: int, at_most: int) -> Sequence[Notification]:
        """Messages that are due, each for one caller alone until then; its attempts count this one.

        Due is too what would have to wait for longer than a claim and twice its pause: the clock was set back since, and
        nobody hears of an emergency later by as much.
        """
        ...

    async def postpone_notification(self, id: str, *, due_at: int) -> None: ...
    async def delete_notification(self, id: str) -> bool:
        """Forget a message; False when there was none."""
        ...

    async def expire_notifications(self, *, now: int, at_most: int) -> Sequence[Notification]:
        """Take so many messages out of the outbox that are too old, each for one caller."""
        ...

    async def waiting_notifications(self) -> int:
        """How many messages are in the outbox."""
        ...

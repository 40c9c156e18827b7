"""Signals of unusual access: what a rule found in the index of the audit log, until somebody has reviewed it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from authz.storage.effects import Notification

MOST_RECORDS = 20
"""Records that a signal names; count says how many there were."""


@dataclass(frozen=True, slots=True)
class Signal:
    """What one rule found of one user, and of one patient where it is about one.

    at and last_at are the milliseconds of its first and last record; words say with numbers why the rule holds. The
    other times are seconds; expires_at is when the row goes.
    """

    id: str
    rule: str
    kind: str
    at: int
    last_at: int
    base: str
    patient: str
    user: str
    client: str
    words: str
    records: tuple[tuple[str, int], ...]  # chain and sequence
    count: int
    expires_at: int
    reviewed_at: int | None = None
    reviewed_by: str | None = None
    review: str | None = None


class SignalStore(Protocol):
    """The part of the Store that keeps them. What holds for every method of a Store holds for these."""

    async def put_signals(
        self,
        signals: Sequence[Signal],
        notifications: Mapping[str, Sequence[Notification]],
        *,
        chain: str,
        read_from: int,
        read_to: int,
    ) -> None:
        """Add signals and move the place of who looks for them, in one transaction; nothing where it is elsewhere.

        Of two who looked at the same records from read_from on, the first has found what is in them.

        A signal of an id that is there and not reviewed counts its records on; one that was reviewed is left alone.
        notifications, by id of a signal, go into the outbox with a new one.
        """
        ...

    async def signalled_to(self, chain: str) -> int:
        """The sequence of the last record that was looked at; 0 at the beginning."""
        ...

    async def signals(
        self, *, only_open: bool, limit: int, now: int, until: int | None = None
    ) -> Sequence[Signal]:
        """Signals, the newest first, ids in their order; only_open leaves out what was reviewed.

        With until those of then or earlier.
        """
        ...

    async def signal(self, id: str, *, now: int) -> Signal | None: ...
    async def review_signal(self, id: str, *, by: str, review: str, now: int) -> bool:
        """Write down a review in one statement; False when there is nothing of that id, or when it was reviewed."""
        ...

    async def unnoted_signals(self, *, at_most: int) -> Sequence[Signal]:
        """Signals that have no record in the audit log yet."""
        ...

    async def note_signal(self, id: str) -> None:
        """Mark a signal as recorded."""
        ...

"""How far the audit log was delivered elsewhere: for each feed a place in each chain."""

from collections.abc import Mapping
from typing import Protocol


class AuditFeedStore(Protocol):
    """The part of the Store that keeps it. What holds for every method of a Store holds for these."""

    async def audit_feed(self, feed: str) -> Mapping[str, int]:
        """By the name of a chain, the sequence of the last record that the feed delivered. Empty for a new feed."""
        ...

    async def move_audit_feed(self, feed: str, chain: str, *, expected: int | None, to: int) -> bool:
        """Move the place of a feed in one statement; False when it is not the expected one, None: none yet."""
        ...

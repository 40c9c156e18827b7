"""Single-use claims and counters, with one typed namespace for each thing that may be used once."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from authz.storage.grants import GrantUntil, Redeeming
from authz.storage.interactions import PushedRequest


class Namespace(StrEnum):
    """Namespaces of single-use claims; a key in one never meets the same key in another."""

    DPOP_PROOF = "dpop-proof"  # jkt ‖ jti
    CLIENT_ASSERTION = "client-assertion"  # client_id ‖ jti
    REQUEST_OBJECT = "request-object"  # client_id ‖ jti
    EXPORT_SLOT = "export-slot"  # mount ‖ issuer ‖ client_id ‖ number: given back when the job has ended
    EXPORT_END = "export-end"  # id of a job
    # SHA-256 of mount ‖ search: given back when the write was answered.
    CONDITIONAL_WRITE = "conditional-write"
    EMERGENCY_END = "emergency-end"  # id of emergency access
    AUDIT_SIGNAL = "audit-signal"  # id of a signal
    AUDIT_FEED = "audit-feed"  # name of a feed: given back when the round of deliveries has ended; no housekeeping ends it


class SingleUse(msgspec.Struct, frozen=True):
    """What may be used once and is about to be: a key in a namespace of replay claims, taken until then."""

    namespace: Namespace
    key: bytes
    until: int


Then = PushedRequest | GrantUntil | Redeeming
"""What hangs on the claims of a request."""


class ClaimStore(Protocol):
    """The part of the Store that makes them. What holds for every method of a Store holds for these."""

    async def claim(self, namespace: Namespace, key: bytes, *, until: int, now: int) -> bool:
        """True for the first caller that names this key before `until`, False for every other."""
        ...

    async def claim_in_order(self, uses: Sequence[SingleUse], *, now: int, then: Then | None = None) -> int:
        """Claim each, and stop at the first that was claimed before; how many were won.

        Where all are won, `then` is stored, or redeemed, as its own method would do it. When that raises, the claims may
        have been made and may not have been, and so with `then`.
        """
        ...

    async def release(self, namespace: Namespace, key: bytes) -> None:
        """Give a claim back: the next caller that names this key is a first one. Only for claims of a place."""
        ...

    async def renew(self, namespace: Namespace, key: bytes, *, held_until: int, until: int) -> bool:
        """Let one's own claim of a place end at another moment, in one statement; it is given back where that is now.

        False, and nothing changed, where the claim that is there is not the one that ends at held_until: another's.
        """
        ...

    async def claimed_until(self, namespace: Namespace, key: bytes) -> int | None:
        """When the claim of a place ends, whether that is over or not; None where nobody has one."""
        ...

    async def count(self, key: str, *, window_seconds: int, now: int, by: int = 1) -> int:
        """Add to the counter of key in the window that now is in and return the new value (for rate limits).

        by is -1 to take back what was counted before it was known whether it should count.
        """
        ...

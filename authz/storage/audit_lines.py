"""The audit log as a store keeps it: lines that follow each other, and the head that says where they end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One record of the chain: sequence, digest of the line before, and the canonical JSON."""

    sequence: int
    previous: bytes
    digest: bytes
    line: bytes


class AuditStore(Protocol):
    """The part of the Store that keeps it. What holds for every method of a Store holds for these."""

    async def append_audit(self, lines: Sequence[AuditLine]) -> None:
        """Append to the chain in one transaction, durable when this returns.

        Raises AuditConflict, and writes nothing, when the first line does not follow the newest one of the store.
        """
        ...

    async def extend_audit(self, link: Callable[[tuple[int, bytes] | None], Sequence[AuditLine]]) -> None:
        """Append what link makes behind the newest line, given its sequence and digest, in one transaction.

        Others wait meanwhile, so that nobody is too late again and again; append_audit is quicker where nobody else
        appends. link is called once, and only reckons.
        """
        ...

    async def last_audit(self) -> AuditLine | None: ...
    async def audit_head(self) -> tuple[int, bytes] | None:
        """Sequence and digest of the newest line, as recorded beside the log in the same transaction."""
        ...

    async def audit(self, *, after: int, limit: int) -> Sequence[AuditLine]: ...

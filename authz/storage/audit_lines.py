"""The audit log as a store keeps it: chains of lines that follow each other, each with a head that says where it ends."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol


class AuditLine(NamedTuple):
    """One record of a chain: sequence, digest of the line before, and the canonical JSON. chain is the node's name."""

    sequence: int
    previous: bytes
    digest: bytes
    line: bytes
    chain: str = ""


class AuditStore(Protocol):
    """The part of the Store that keeps it. What holds for every method of a Store holds for these.

    Each chain is numbered from 1 without gaps; chains know nothing of each other. The chain of a store that has only
    one is named ''.
    """

    async def append_audit(self, lines: Sequence[AuditLine]) -> None:
        """Append to the chain of these lines in one transaction, durable when this returns.

        Raises AuditConflict, and writes nothing, when the first line does not follow the newest one of the chain.
        """
        ...

    async def extend_audit(
        self, link: Callable[[tuple[int, bytes] | None], Sequence[AuditLine]], *, chain: str = ""
    ) -> None:
        """Append what link makes behind the newest line, given its sequence and digest, in one transaction.

        Others who append to this chain wait meanwhile, so that nobody is too late again and again; append_audit is
        quicker where nobody else appends. link is called once, and only reckons.
        """
        ...

    async def chains(self) -> Sequence[str]:
        """The names of every chain that has a line or a head, in their order."""
        ...

    async def last_audit(self, chain: str = "") -> AuditLine | None: ...
    async def audit_head(self, chain: str = "") -> tuple[int, bytes] | None:
        """Sequence and digest of the newest line, as recorded beside the log in the same transaction."""
        ...

    async def audit_heads(self) -> Mapping[str, tuple[int, bytes]]:
        """The same of every chain that has a line."""
        ...

    async def audit(self, *, after: int, limit: int, chain: str = "") -> Sequence[AuditLine]: ...
    async def audit_texts(self, *, chain: str, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """The same lines by sequence and canonical JSON, for who asks for no digest: half as dear."""
        ...

"""What a person allows at the consent page, told to whoever keeps the consents of the records that it opens.

This server keeps grants, and what a consent says is the keeper's. It is written with grant and code, all or nothing:
where it cannot be, the app gets no code.
"""

from typing import Protocol

from authz.protocol.tokens import Grant
from authz.storage.consents import ConsentVersion


class GivenConsents(Protocol):
    """Keeps the consents of one resource."""

    async def has_room(self, grant: Grant) -> bool:
        """Whether it can be recorded: what can be in force for one patient has a bound. Raises StoreUnavailable."""
        ...

    def of(self, grant: Grant, client_name: str) -> ConsentVersion | None:
        """What was allowed to the client of that name, to be stored; None where it opens no patient's record."""
        ...

    def stored(self, consent: ConsentVersion) -> None:
        """Take note that it was."""
        ...

"""What a person allows at the consent page, told to whoever keeps the consents of the records that it opens.

This server keeps grants, and no consents. Where the keeper cannot write one down, the app gets no code.
"""

from typing import Protocol

from authz.protocol.tokens import Grant


class GivenConsents(Protocol):
    """Keeps the consents of one resource."""

    async def has_room(self, grant: Grant) -> bool:
        """Whether it can be recorded: what can be in force for one patient has a bound. Raises StoreUnavailable."""
        ...

    async def given(self, grant: Grant, client_name: str) -> None:
        """Record what was allowed to the client of that name. Raises StoreUnavailable."""
        ...

"""What a person allows at the consent page, told to whoever keeps the consents of the records that it opens.

This server keeps grants, and what a consent says is the keeper's. It is written with grant and code, all or nothing:
where it cannot be, the app gets no code.
"""

from typing import Protocol

from authz.protocol.tokens import Grant
from authz.storage.consents import ConsentVersion, Room


class GivenConsents(Protocol):
    """Keeps the consents of one resource."""

    @property
    def usual_room(self) -> Room:
        """What it is held to when it is stored: what can be in force for one patient has a bound."""
        ...

    async def room(self, grant: Grant) -> Room | None:
        """The same where by the count of the store there was no room, which counts some that are over.

        Raises NoRoomLeft where it cannot be recorded, StoreUnavailable.
        """
        ...

    def of(self, grant: Grant, client_name: str) -> ConsentVersion | None:
        """What was allowed to the client of that name, to be stored; None where it opens no patient's record."""
        ...

    def stored(self, consent: ConsentVersion) -> None:
        """Take note that it was."""
        ...

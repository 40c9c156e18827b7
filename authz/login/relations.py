"""Whom the records say that a person represents, beside those of the account: asked of whoever stands before the records."""

from typing import Protocol

from authz.protocol.request import HttpRequest
from authz.settings import Account


class Relations(Protocol):
    """Knows who acts for whom by what the records say today."""

    async def with_related(self, account: Account, request: HttpRequest) -> Account:
        """The account with everybody whom it may act for. Raises FinderUnavailable where the records cannot be reached.

        request is the one at whose page the person is, or that of their app.
        """
        ...


class NoRelations:
    """Of a house that asks no records: the account says it all."""

    async def with_related(self, account: Account, request: HttpRequest) -> Account:
        """The account as it is."""
        return account

"""The start of a person's pages, /account: for whom they act, and the way to everything."""

from collections.abc import Mapping

from authz.account.desk import START, AccountDesk, Door, Here
from authz.protocol.request import Answer


class StartPage:
    """GET /account."""

    def __init__(self, desk: AccountDesk) -> None:
        self._desk = desk

    def routes(self) -> Mapping[str, Mapping[str, Door]]:
        """path → method → door."""
        return {START: {"GET": self._desk.page_door(self.show)}}

    async def show(self, here: Here) -> Answer:
        """What there is to do."""
        return self._desk.page(here, "account.html", START)

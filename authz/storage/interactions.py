"""Records of an authorization on its way: the pushed request, its place among the pages, the browser, the launch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PushedRequest:
    """A pushed authorization request, already validated (RFC 9126)."""

    id: str
    client_id: str
    parameters: Mapping[str, str]
    dpop_jkt: str | None
    expires_at: int


@dataclass(frozen=True, slots=True)
class Interaction:
    """A pushed request on its way through the pages: sign-in, choices, consent. Bound to one browser session."""

    id: str
    request_id: str
    client_id: str
    parameters: Mapping[str, str]
    dpop_jkt: str | None
    session_id: str | None
    expires_at: int
    signed_in: bool = False  # the person signed in on the way through this interaction
    patient: str | None = None  # the record that was chosen
    picked: bool = False  # by a picker: the account does not name it
    encounter: str | None = None  # the visit that was chosen; empty where the person goes on without one


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """A browser, signed in or not yet. subject is None before sign-in; signing in makes a new session.

    begun_as is the id of the session of nobody in whose place it came.
    """

    id: str
    csrf_key: str
    subject: str | None
    authenticated_at: int | None
    amr: tuple[str, ...]
    expires_at: int
    begun_as: str | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch from a record system (SMART App Launch 2.2): for one app, one base and one person; used once."""

    id: str
    client_id: str
    audience: str
    subject: str
    context: Mapping[str, object]
    expires_at: int


class InteractionStore(Protocol):
    """The part of the Store that keeps them. What holds for every method of a Store holds for these."""

    async def put_pushed_request(self, record: PushedRequest) -> None: ...
    async def pushed_request(self, id: str, *, now: int) -> PushedRequest | None: ...
    async def keep_pushed_request(
        self, id: str, *, until: int, now: int, interaction: Interaction | None = None
    ) -> bool:
        """Let the row of a live pushed request live until then, for a person at the pages; False when there is none.

        The record keeps its own expires_at: the request_uri cannot be visited after it. The interaction that it is kept
        for is stored with it, in one transaction, whether the request lives or not.
        """
        ...

    async def put_launch(self, record: Launch) -> None: ...
    async def take_launch(self, id: str, *, client_id: str, now: int) -> Launch | None:
        """The launch, gone with this; None when unknown, used, expired or another app's, which it stays good for."""
        ...

    async def put_interaction(self, record: Interaction) -> None: ...
    async def interaction(self, id: str, *, now: int) -> Interaction | None: ...
    async def delete_interaction(self, id: str) -> None: ...
    async def put_session(self, record: BrowserSession) -> None: ...
    async def session(self, id: str, *, now: int) -> BrowserSession | None: ...
    async def delete_session(self, id: str) -> None: ...
    async def visit(
        self, *, session_id: str, interaction_id: str, now: int
    ) -> tuple[BrowserSession, Interaction] | None:
        """What a page needs: the live session, and the live interaction whose pushed request is live. None without all."""
        ...

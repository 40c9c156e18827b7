"""Records of what was granted: codes, grants, refresh tokens; and what has ended before its time."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from authz.protocol.tokens import Grant
from authz.storage.consents import ConsentVersion, Room


@dataclass(frozen=True, slots=True)
class AuthorizationCode:
    """An authorization code and all that it is bound to (RFC 6749 4.1.2, 7636, 9449 10)."""

    id: str
    grant_id: str
    client_id: str
    redirect_uri: str
    code_challenge: str
    dpop_jkt: str | None
    nonce: str | None
    expires_at: int


class Redemption(StrEnum):
    """What became of an attempt to redeem a code."""

    FIRST = "first"
    AGAIN = "again"


@dataclass(frozen=True, slots=True)
class RedeemedCode:
    """The code's record with whether this was its first use."""

    code: AuthorizationCode
    redemption: Redemption


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token. replaced_at says since when it has a successor.

    jkt is set for public clients only: the thumbprint of the key that it is held to (RFC 9449 5), or of the certificate
    (RFC 8705 4).
    """

    id: str
    grant_id: str
    client_id: str
    scope: tuple[str, ...]
    jkt: str | None
    expires_at: int
    replaced_at: int | None = None


class GrantUntil(msgspec.Struct, frozen=True):
    """A grant to be stored until expires_at, with a new refresh token of it or none."""

    grant: Grant
    expires_at: int
    refresh_token: RefreshToken | None = None


class Redeeming(msgspec.Struct, frozen=True):
    """A code that is to be redeemed.

    judge is told what redeem_code() gives, and of a first use the live grant; what it makes of them is stored, None for
    nothing. The code is used whatever it says. It may be asked more than once, and then the last time counts.
    """

    code_id: str
    judge: Callable[[RedeemedCode | None, Grant | None], GrantUntil | None]


class GrantStore(Protocol):
    """The part of the Store that keeps them. What holds for every method of a Store holds for these."""

    async def complete_authorization(
        self,
        *,
        request_id: str,
        interaction_id: str,
        grant: Grant,
        code: AuthorizationCode,
        now: int,
        consents: Sequence[tuple[ConsentVersion, Room | None]] = (),
    ) -> bool:
        """In one transaction consume the pushed request and its interaction and write grant, code and new consents.

        False, and nothing written, when the pushed request was consumed before or has expired (RFC 9126 4). Raises
        NoRoomLeft, and nothing is written or consumed, when a patient has no room for a consent within what it is held to.
        """
        ...

    async def refuse_authorization(self, *, request_id: str, interaction_id: str, now: int) -> bool:
        """Consume the pushed request and its interaction after a refusal. False when already consumed."""
        ...

    async def redeem_code(self, id: str, *, now: int) -> RedeemedCode | None:
        """Mark the code as used and return it; a code used before comes back as AGAIN until its grant ends.

        None when it never existed or expired unused.
        """
        ...

    async def put_grant(
        self, grant: Grant, *, expires_at: int, refresh_token: RefreshToken | None = None
    ) -> None:
        """Store a grant or its next state, with a new refresh token of it, in one transaction."""
        ...

    async def grant(self, grant_id: str, *, now: int) -> Grant | None:
        """The live grant; None when unknown, expired or revoked."""
        ...

    async def live_grants(self, grant_ids: Collection[str], *, now: int) -> frozenset[str]:
        """Those of these ids whose grants are live; at most a few hundred at once."""
        ...

    async def grants(self, *, subject: str | None, client_id: str | None, now: int) -> Sequence[Grant]:
        """The live grants of a person, of a client, or of both together, the newest first; of all without either."""
        ...

    async def put_refresh_token(self, record: RefreshToken) -> None: ...
    async def refresh_token(self, id: str, *, now: int) -> RefreshToken | None:
        """The live refresh token; None when unknown, expired, or when its grant was revoked."""
        ...

    async def replace_refresh_token(self, id: str, *, by: RefreshToken, now: int, grace_seconds: int) -> bool:
        """Give a refresh token its successor, in one transaction.

        The token itself stays good for grace_seconds after its first replacement: a client that lost the answer asks
        again and gets another successor. False, and nothing written, when the token is unknown or that time is over.
        """
        ...

    async def revoke_grant(self, grant_id: str, *, now: int, keep_until: int) -> bool:
        """End a grant, its refresh tokens and its access tokens. True when it was live before."""
        ...

    async def revoke_token(self, token_id: str, *, now: int, keep_until: int) -> None:
        """End one access token, by its jti."""
        ...

    async def revocations_since(self, sequence: int) -> tuple[int, Sequence[str]]:
        """Revoked grant ids and token ids after sequence, and the newest sequence; for caches on every node."""
        ...

    async def end_grants(self, client_id: str, *, now: int, keep_until: int) -> Sequence[str]:
        """End every live grant of a client as revoke_grant does, in one transaction; the ids of those that were live."""
        ...

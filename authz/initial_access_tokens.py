"""Permissions to register, which an operator makes, lists and withdraws (RFC 7591 1.2, initial access token)."""

from collections.abc import Sequence
from dataclasses import dataclass

from authz.events import ClientChanged
from authz.handles import digest, new_handle
from authz.protocol.scopes import is_known, split_scope
from authz.registry_writing import RegistryError, RegistryWriter
from authz.storage.registrations import InitialAccessToken

_MAX_USES = 1000
_MAX_TOKEN_SECONDS = 400 * 86400


@dataclass(frozen=True, slots=True)
class MadeToken:
    """A new initial access token: the secret, which nobody can read again, and its record."""

    token: str
    record: InitialAccessToken


class InitialAccessTokens(RegistryWriter):
    """The part of the Registry that makes them."""

    async def new_initial_access_token(
        self, *, who: str, why: str, lifetime_seconds: int, uses: int = 1, scope: str | None = None
    ) -> MadeToken:
        """A permission to register: for so long, so often, and for no more than scope where one is given.

        system scopes can be registered only with a token that names them, or by a software statement that does.
        """
        if not 1 <= uses <= _MAX_USES:
            raise RegistryError(f"uses is {uses}, expected 1 to {_MAX_USES}")
        if not 60 <= lifetime_seconds <= _MAX_TOKEN_SECONDS:
            raise RegistryError(f"the lifetime is {lifetime_seconds} s, expected 60 to {_MAX_TOKEN_SECONDS}")
        now, token = self._clock(), new_handle()
        record = InitialAccessToken(
            id=digest(token),
            uses_left=uses,
            scope_ceiling=None if scope is None else _ceiling(scope),
            made_by=who,
            why=why,
            created_at=now,
            expires_at=now + lifetime_seconds,
        )
        await self._store.put_initial_access_token(record)
        self._emit(ClientChanged(None, "token-made", who, why))
        return MadeToken(token, record)

    async def initial_access_tokens(self) -> Sequence[InitialAccessToken]:
        """Every initial access token that can still be used, the oldest first."""
        return await self._store.initial_access_tokens(now=self._clock())

    async def withdraw_initial_access_token(self, id: str, *, who: str, why: str) -> None:
        """End an initial access token, named by the id of its record."""
        if not await self._store.delete_initial_access_token(id):
            raise RegistryError(f"there is no initial access token '{id}'")
        self._emit(ClientChanged(None, "token-withdrawn", who, why))


def _ceiling(scope: str) -> tuple[str, ...]:
    try:
        found = split_scope(scope)
    except ValueError as error:
        raise RegistryError(str(error)) from error
    for text in found:
        if not is_known(text):
            raise RegistryError(f"'{text}' is not a scope: SMART v1 or v2, or openid, launch …")
    if not found:
        raise RegistryError("the scope names nothing")
    return found

"""Local accounts: argon2id, the same work for every answer, and limits that slow a guesser and lock nobody out."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from authz.beside import threads_beside
from authz.networks import network_of
from authz.protocol.openid import PERSONAL_CLAIMS
from authz.settings import Account
from authz.storage.store import Store

_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)  # OWASP's minimum for argon2id
# Of a password of nobody, made once by the hasher above, at its cost.
_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$qgQNM46Q44yrVglrfVpGNg$IPPhvp3jvCsXJbf/YjrL7VRNsUugfysBLcAEaYGARSM"
_MAX_WAITING = 64
_WINDOW_SECONDS = 60


class SignInOutcome(StrEnum):
    """What became of an attempt."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    LIMITED = "limited"


@dataclass(frozen=True, slots=True)
class SignInResult:
    """The outcome, with the account when it was accepted."""

    outcome: SignInOutcome
    account: Account | None = None


def hash_password(password: str) -> str:
    """The argon2id hash of a password, to be kept in the configuration."""
    return _HASHER.hash(password)


def person_of(account: Account) -> dict[str, object]:
    """What is known of a person by claim name (OpenID Connect Core 5.1, SMART App Launch 2.2)."""
    return {"name": account.name} | {n: account.claims[n] for n in PERSONAL_CLAIMS if n in account.claims}


class Accounts:
    """Signs people in by user name and password."""

    def __init__(self, accounts: Mapping[str, Account], store: Store, attempts_per_minute: int) -> None:
        self._accounts = accounts
        self._by_subject = {account.subject: account for account in accounts.values()}
        # Somebody's hash, for names that nobody has: hashes that came from elsewhere may cost more than our own.
        self._decoy = next((account.password_hash for account in accounts.values()), _NOBODY)
        self._store = store
        self._attempts = attempts_per_minute
        self._pool = threads_beside(2, "password")
        self._waiting = 0

    def of_subject(self, subject: str) -> Account | None:
        """The account of a signed-in person; None when it was taken out of the configuration."""
        return self._by_subject.get(subject)

    async def sign_in(self, username: str, password: str, *, peer: str, now: int) -> SignInResult:
        """Check a password. Unknown names cost the same work and get the same answer as wrong passwords."""
        limits = self._limits(username, peer)
        if self._waiting >= _MAX_WAITING or not await self._may_try(limits, now):
            return SignInResult(SignInOutcome.LIMITED)
        account = self._accounts.get(username)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            stored = self._decoy if account is None else account.password_hash
            right = await loop.run_in_executor(self._pool, _verify, stored, password)
        finally:
            self._waiting -= 1
        if account is None or not right:
            return SignInResult(SignInOutcome.REFUSED)
        # A right password was no guess: a whole ward may sign in from one address when the shift begins.
        for key, _ in limits:
            await self._store.count(key, window_seconds=_WINDOW_SECONDS, now=now, by=-1)
        return SignInResult(SignInOutcome.ACCEPTED, account)

    def _limits(self, username: str, peer: str) -> tuple[tuple[str, int], ...]:
        """Tight for one name from one address, wider for an address, widest for a name from wherever."""
        name = sha256(username.encode("utf-8", "replace")).hexdigest()[:32]
        address = network_of(peer)
        return (
            (f"sign-in:{name}:{address}", self._attempts),
            (f"sign-in-address:{address}", self._attempts * 5),
            (f"sign-in-name:{name}", self._attempts * 20),
        )

    async def _may_try(self, limits: tuple[tuple[str, int], ...], now: int) -> bool:
        """Count this attempt, before the password is looked at, as far as the first limit that it exceeds.

        What a narrow limit stops does not reach the wider ones: one address alone can lock nobody out elsewhere.
        """
        for key, limit in limits:
            if await self._store.count(key, window_seconds=_WINDOW_SECONDS, now=now) > limit:
                return False
        return True


def _verify(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (Argon2Error, InvalidHashError):
        return False

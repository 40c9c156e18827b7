"""Where private keys live: sealed in the store, or in a PKCS#11 token. A row of the store says which.

What is published is computed from the private part, or read from the token: a row that somebody else wrote into the
store never becomes a key of ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from authz.keys.sealing import SealedKeys
from authz.protocol.jose import LocalSigner, PrivateKey, Signer, public_jwk
from authz.storage.server_keys import StoredKey


@dataclass(frozen=True, slots=True)
class Made:
    """A new key: what its row holds, and its public JWK."""

    encrypted: bytes
    public_jwk: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Opened:
    """A key that can sign, and its public JWK."""

    signer: Signer
    public_jwk: Mapping[str, object]


class OutsideHome(Protocol):
    """A home of private keys beside the store. Every method raises StoreUnavailable when it does not answer."""

    def holds(self, encrypted: bytes) -> bool:
        """Whether a row with this content names a key of this home."""
        ...

    async def make(self, kid: str, algorithm: str) -> Made:
        """A new key."""
        ...

    async def open_row(self, key: StoredKey) -> Opened:
        """The key that a row names. Raises KeyRingError when it is of another kind."""
        ...

    async def destroy(self, kid: str, encrypted: bytes) -> None:
        """End the private part; nothing happens when it is gone already."""
        ...

    async def check(self) -> None:
        """Raise StoreUnavailable unless it can sign."""
        ...

    async def close(self) -> None: ...


class KeyHomes:
    """The store's sealed keys and, where one is configured, the home outside, in which new keys are then made."""

    def __init__(self, sealed: SealedKeys, outside: OutsideHome | None = None) -> None:
        self.sealed = sealed
        self._outside = outside

    @property
    def takes_in(self) -> bool:
        """Whether a private key may come from a file."""
        return self._outside is None

    def is_outside(self, key: StoredKey) -> bool:
        """Whether the key lives outside the store."""
        return self._outside is not None and self._outside.holds(key.encrypted)

    def is_at_home(self, key: StoredKey) -> bool:
        """Whether the key lives where new ones are made."""
        return self._outside is None or self._outside.holds(key.encrypted)

    async def make(self, kid: str, algorithm: str) -> Made:
        """A new key. Raises KeyRingError, StoreUnavailable."""
        if self._outside is not None:
            return await self._outside.make(kid, algorithm)
        return self.seal(await self.sealed.generate(algorithm), kid, algorithm)

    def seal(self, private: PrivateKey, kid: str, algorithm: str) -> Made:
        """A private key that came from a file."""
        return Made(self.sealed.seal(private, kid), public_jwk(private, kid=kid, algorithm=algorithm))

    async def open(self, key: StoredKey) -> Opened:
        """The key that a row names. Raises KeyRingError, JoseError, StoreUnavailable."""
        if self._outside is not None and self.is_outside(key):
            return await self._outside.open_row(key)
        private = self.sealed.open(key.kid, key.encrypted)
        jwk = public_jwk(private, kid=key.kid, algorithm=key.algorithm)
        return Opened(LocalSigner(key.kid, key.algorithm, private), jwk)

    async def destroy(self, key: StoredKey) -> None:
        """End the private part of a removed key where it does not end with its row."""
        if self._outside is not None and self.is_outside(key):
            await self._outside.destroy(key.kid, key.encrypted)

    async def discard(self, kid: str, made: Made) -> None:
        """End a key that another node was faster with."""
        if self._outside is not None:
            await self._outside.destroy(kid, made.encrypted)

    async def check(self) -> None:
        """Raise StoreUnavailable unless keys can be used."""
        if self._outside is not None:
            await self._outside.check()

    async def close(self) -> None:
        """Let go of the home outside."""
        if self._outside is not None:
            await self._outside.close()

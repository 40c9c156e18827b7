"""One step of a key's life in the store: made by the one of several nodes that comes first, and told once."""

import secrets
from collections.abc import Sequence

from authz.clock import Clock
from authz.events import Emit, KeyChanged
from authz.keys.calendar import Create, Forget, Move, Periods, Step, next_number
from authz.keys.homes import KeyHomes, Made
from authz.protocol.encoding import base64url
from authz.protocol.jose import PrivateKey
from authz.storage.server_keys import StoredKey
from authz.storage.store import Store

_SERIES = "signing-key-series"  # name of the secret that every kid of this store begins with


class KeySteps:
    """Makes steps over one store. Every method raises StoreUnavailable; making and opening raise KeyRingError."""

    def __init__(
        self,
        store: Store,
        homes: KeyHomes,
        *,
        algorithms: Sequence[str],
        periods: Periods,
        clock: Clock,
        emit: Emit,
    ) -> None:
        self.homes = homes
        self.algorithms = tuple(algorithms)
        self.periods = periods
        self.clock = clock
        self._store = store
        self._emit = emit

    async def keys(self) -> Sequence[StoredKey]:
        """Every key, removed ones too, the oldest first."""
        return await self._store.keys()

    async def make(self, step: Step) -> None:
        """Make a step, unless another node was faster."""
        match step:
            case Create():
                await self.create(step.algorithm, step.number, activates_at=step.activates_at)
            case Move():
                await self.move(step.key, step.to_state)
            case Forget():
                await self.homes.destroy(step.key)
                await self._store.delete_key(step.key.kid)

    async def create(self, algorithm: str, number: int, *, activates_at: int) -> str:
        """Make the key of that number, unless another node was faster; its kid."""
        kid = await self._kid(number)
        made = await self.homes.make(kid, algorithm)
        if not await self._put(kid, algorithm, made, activates_at):
            await self.homes.discard(kid, made)
        return kid

    async def take_in(self, private: PrivateKey, algorithm: str, *, activates_at: int) -> str | None:
        """Store a private key that came from a file; its kid. None when another node was faster."""
        kid = await self._kid(next_number(await self.keys()))
        return (
            kid
            if await self._put(kid, algorithm, self.homes.seal(private, kid, algorithm), activates_at)
            else None
        )

    async def move(self, key: StoredKey, to_state: str) -> bool:
        """Change the state of a key. False when it was not in the state that was seen."""
        now = self.clock()
        done = await self._store.move_key(key.kid, from_state=key.state, to_state=to_state, now=now)
        if done:
            self._emit(KeyChanged(key.kid, to_state))
            if to_state == "removed":
                await self.homes.destroy(key)
        return done

    async def reseal(self, key: StoredKey) -> bool:
        """Seal a key anew under the encryption key. False when it rests under that already."""
        encrypted = self.homes.sealed.reseal(key.kid, key.encrypted)
        return encrypted is not None and await self._store.reseal_key(
            key.kid, expected=key.encrypted, encrypted=encrypted
        )

    async def _kid(self, number: int) -> str:
        series = await self._store.secret(_SERIES, secrets.token_bytes(9))
        return f"{base64url(series)}.{number}"

    async def _put(self, kid: str, algorithm: str, made: Made, activates_at: int) -> bool:
        now = self.clock()
        retires_at = activates_at + self.periods.active
        state = "active" if activates_at <= now else "announced"
        stored = await self._store.put_key(
            StoredKey(
                kid=kid,
                algorithm=algorithm,
                state=state,
                encrypted=made.encrypted,
                public_jwk=made.public_jwk,
                created_at=now,
                activates_at=activates_at,
                retires_at=retires_at,
                removes_at=retires_at + self.periods.published_after_retirement,
            )
        )
        if stored:
            self._emit(KeyChanged(kid, state))
        return stored

"""KeyRing: signs with the active keys, knows every published one, and makes the steps that are due."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from authz.clock import Clock
from authz.events import Emit
from authz.keys.calendar import Periods, keys_of_id_tokens, signing_keys, steps_due
from authz.keys.encryption_key import KeyRingError
from authz.keys.homes import KeyHomes, Opened, OutsideHome
from authz.keys.sealing import SealedKeys
from authz.keys.steps import KeySteps
from authz.protocol import jose
from authz.protocol.jose import JoseError, PublicKey, Signer
from authz.storage.server_keys import StoredKey
from authz.storage.store import Store, StoreUnavailable

_MAX_ROUNDS = 8  # steps follow from steps: made, active, the former one retired; a new store needs two

T = TypeVar("T")


class KeyRing:
    """Signs with the active key of each algorithm and knows every published one. Made by open().

    generation grows whenever the set of published keys changes: what was verified with them is to be forgotten.
    """

    def __init__(self, steps: KeySteps) -> None:
        self._steps = steps
        self._turn = asyncio.Lock()  # one tick or change by hand at a time on this node
        self._opened: dict[tuple[str, bytes], Opened] = {}
        self._signers: dict[str, Signer] = {}
        self._of_id_tokens: dict[str, Signer] = {}  # of the algorithms that nothing else is signed with
        self._public: dict[str, PublicKey] = {}
        self._jwks: Mapping[str, object] = {"keys": []}
        self.generation = 0

    @classmethod
    async def open(
        cls,
        store: Store,
        *,
        encryption_key: bytes,
        other_encryption_key: bytes | None = None,
        outside: OutsideHome | None = None,
        algorithms: Sequence[str] = ("ES256",),
        id_token_algorithms: Sequence[str] = (),
        announced_seconds: int = 86400,
        active_seconds: int = 90 * 86400,
        published_after_retirement_seconds: int = 86400,
        clock: Clock,
        emit: Emit,
    ) -> "KeyRing":
        """The ring over this store, with its first keys made when there are none. The first algorithm is the default.

        id_token_algorithms are some of OF_ID_TOKENS: their keys sign ID tokens and nothing else.
        outside is where new keys are made and stay, in place of the store. Raises KeyRingError when a stored key
        cannot be opened, StoreUnavailable.
        """
        steps = KeySteps(
            store,
            KeyHomes(SealedKeys(encryption_key, other=other_encryption_key), outside),
            algorithms=(*algorithms, *id_token_algorithms),
            periods=Periods(announced_seconds, active_seconds, published_after_retirement_seconds),
            clock=clock,
            emit=emit,
        )
        ring = cls(steps)
        async with ring._turn:
            await ring._advance()
        return ring

    async def tick(self) -> None:
        """Make every step that is due, and take in what other nodes did. To be called every few seconds.

        Raises StoreUnavailable; the keys known so far then stay in use.
        """
        async with self._turn:
            try:
                await self._advance()
            except KeyRingError as error:
                raise StoreUnavailable(str(error)) from error

    async def change(self, work: Callable[[KeySteps], Awaitable[T]]) -> T:
        """What work gives, one of by_hand, between two ticks; its changes are in use when this returns."""
        async with self._turn:
            result = await work(self._steps)
            await self._advance()
            return result

    @property
    def algorithms(self) -> Sequence[str]:
        """The algorithms that can be signed with now, the default first."""
        return list(self._signers)

    @property
    def id_token_algorithms(self) -> Sequence[str]:
        """Those that ID tokens can be signed with now."""
        return [*self._signers, *self._of_id_tokens]

    def jwks(self) -> Mapping[str, object]:
        """The JWK Set of every published key (RFC 7517 5)."""
        return self._jwks

    def public_key(self, kid: str) -> PublicKey | None:
        """The published key of that kid."""
        return self._public.get(kid)

    def algorithm_for(self, wanted: str | None) -> str:
        """The algorithm that sign() takes: the wanted one, else the default. Raises StoreUnavailable without a key."""
        algorithm = wanted or next(iter(self._signers), None)
        if algorithm is None or algorithm not in self._signers:
            raise StoreUnavailable(f"no signing key is active{f' for {wanted}' if wanted else ''}")
        return algorithm

    def signer(self) -> Signer:
        """The active key of the default algorithm, for a signature that is no JWT. Raises StoreUnavailable.

        To be asked for each signature: the next one may be another key's.
        """
        return self._signers[self.algorithm_for(None)]

    async def sign(self, claims: Mapping[str, object], *, typ: str, algorithm: str | None = None) -> str:
        """A JWT of claims by the active key of an algorithm, the default without one.

        Raises StoreUnavailable while there is no such key, or when the key does not answer.
        """
        return await jose.sign_jwt(claims, typ=typ, signer=self._signers[self.algorithm_for(algorithm)])

    async def sign_id_token(
        self, claims_for: Callable[[str], Mapping[str, object]], wanted: str | None
    ) -> str:
        """An ID token by the wanted algorithm, the default without one; claims_for makes its claims for that.

        The only door to keys of OF_ID_TOKENS. Raises StoreUnavailable as sign() does.
        """
        signer = self._of_id_tokens.get(wanted or "")
        if signer is None:
            signer = self._signers[self.algorithm_for(wanted)]
        return await jose.sign_jwt(claims_for(signer.algorithm), typ="JWT", signer=signer)

    @property
    def homes(self) -> KeyHomes:
        """Where private keys live, for keys of other purposes that are to live there too."""
        return self._steps.homes

    async def check(self) -> None:
        """Raise StoreUnavailable unless the keys can be used."""
        await self._steps.homes.check()

    async def close(self) -> None:
        """Let go of what the keys are in."""
        await self._steps.homes.close()

    async def _advance(self) -> None:
        steps = self._steps
        keys = await steps.keys()
        for _ in range(_MAX_ROUNDS):
            due = steps_due(
                keys,
                algorithms=steps.algorithms,
                periods=steps.periods,
                now=steps.clock(),
                is_at_home=steps.homes.is_at_home,
            )
            if not due:
                break
            for step in due:
                await steps.make(step)
            keys = await steps.keys()
        await self._load(keys)

    async def _load(self, keys: Sequence[StoredKey]) -> None:
        """Put the keys into use, all or none. Raises KeyRingError, StoreUnavailable."""
        published = [key for key in keys if key.state != "removed"]
        signing = signing_keys(published, self._steps.algorithms)
        if not signing:
            raise StoreUnavailable("no signing key is active")
        opened: dict[tuple[str, bytes], Opened] = {}
        try:
            for key in published:
                place = (key.kid, key.encrypted)
                opened[place] = self._opened.get(place) or await self._steps.homes.open(key)
            if opened.keys() != self._opened.keys():
                jwks = [dict(one.public_jwk) for one in opened.values()]
                self._public = {
                    str(jwk["kid"]): jose.import_public_jwk(jwk, also=jose.OF_ID_TOKENS) for jwk in jwks
                }
                self._jwks = {"keys": jwks}
                self.generation += 1
        except JoseError as error:
            raise KeyRingError(f"a signing key cannot be used: {error}") from error
        self._signers = {name: opened[key.kid, key.encrypted].signer for name, key in signing.items()}
        of_id_tokens = keys_of_id_tokens(published, self._steps.algorithms)
        self._of_id_tokens = {
            name: opened[key.kid, key.encrypted].signer for name, key in of_id_tokens.items()
        }
        self._opened = opened

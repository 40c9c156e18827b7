"""Signing keys in a PKCS#11 token: made there, never extractable, used from a thread of their own.

A row of the store holds the random CKA_ID of its key and nothing secret; a row alone makes no key ours: what is
published is read from the token. A call that fails ends the session. The next one begins the library anew, as a token
that was away or a service that was restarted needs it; until that succeeds nothing is signed (503) and the process is
not ready.
"""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from authz.keys.encryption_key import KeyRingError
from authz.keys.homes import Made, Opened
from authz.storage.server_keys import StoredKey
from authz.storage.store import StoreUnavailable

if TYPE_CHECKING:
    from authz.keys.pkcs11_session import TokenSession

_MARK = b"pkcs11:"
_ID_BYTES = 16
_CALL_SECONDS = 5.0
_MAKE_SECONDS = 120.0  # a token may take its time for an RSA key

T = TypeVar("T")


class Pkcs11Unavailable(StoreUnavailable):
    """The token did not answer, or has lost a key. Nothing was signed."""


class Pkcs11Keys:
    """A home of keys outside the store: one token, whose session only one thread uses. Made by open()."""

    def __init__(self, log_in: Callable[[bool], "TokenSession"], failures: type[Exception]) -> None:
        """log_in makes a session, beginning anew if told so; failures are what its methods raise."""
        self._log_in = log_in
        self._failures = failures
        self._thread = ThreadPoolExecutor(1, "pkcs11")
        self._session: TokenSession | None = None
        self._has_failed = False
        self._used: tuple[str, bytes] | None = None  # the key that signed last, for check()

    @classmethod
    async def open(cls, *, module: str, token: str, pin: str, label: str) -> "Pkcs11Keys":
        """The token of that name, logged in; label is what the labels of our keys begin with.

        Raises KeyRingError without python-pkcs11, StoreUnavailable.
        """
        try:
            library = import_module("authz.keys.pkcs11_session")
        except ImportError as error:
            raise KeyRingError(
                "keys.pkcs11 needs python-pkcs11, which is not installed: pip install 'securus[pkcs11]'"
            ) from error

        def log_in(begin_anew: bool) -> "TokenSession":
            session: TokenSession = library.TokenSession(
                module=module, token=token, pin=pin, label=label, begin_anew=begin_anew
            )
            return session

        keys = cls(log_in, library.PKCS11Error)
        try:
            await keys.check()
        except BaseException:
            await keys.close()
            raise
        return keys

    def holds(self, encrypted: bytes) -> bool:
        """Whether a row with this content names a key of a token."""
        return encrypted.startswith(_MARK) and len(encrypted) == len(_MARK) + _ID_BYTES

    async def make(self, kid: str, algorithm: str) -> Made:
        """A new key pair in the token. Raises KeyRingError, StoreUnavailable."""
        if algorithm not in ("ES256", "PS256", "RS256"):
            raise KeyRingError(f"keys in a PKCS#11 token are for ES256, PS256 or RS256, not {algorithm}")
        id = secrets.token_bytes(_ID_BYTES)
        await self._ask(lambda session: session.generate(kid, id, algorithm), _MAKE_SECONDS)
        return Made(_MARK + id, await self._ask(lambda session: session.public_jwk(kid, id, algorithm)))

    async def open_row(self, key: StoredKey) -> Opened:
        """The key that a row names. Raises KeyRingError when it is of another kind, StoreUnavailable."""
        id = key.encrypted[len(_MARK) :]
        jwk = await self._ask(lambda session: session.public_jwk(key.kid, id, key.algorithm))
        if jwk["alg"] != key.algorithm:
            raise KeyRingError(
                f"the key '{key.kid}' of the PKCS#11 token is for {jwk['alg']}, not {key.algorithm}"
            )
        return Opened(Pkcs11Signer(self, key.kid, key.algorithm, id), jwk)

    async def destroy(self, kid: str, encrypted: bytes) -> None:
        """Delete both halves of a key from the token; nothing happens when they are gone."""
        id = encrypted[len(_MARK) :]
        if self._used == (kid, id):
            self._used = None
        await self._ask(lambda session: session.destroy(kid, id))

    async def sign(self, kid: str, id: bytes, algorithm: str, data: bytes) -> bytes:
        """The JWS signature over data. Raises StoreUnavailable."""
        self._used = (kid, id)
        return await self._ask(lambda session: session.sign(kid, id, algorithm, data))

    async def check(self) -> None:
        """Raise StoreUnavailable unless the token answers and has the key that signed last."""
        used = self._used
        await self._ask(lambda session: None if used is None else session.has(*used))

    async def close(self) -> None:
        """Log out and end the thread; a call that hangs there is not waited for."""
        with suppress(RuntimeError):  # closed before
            self._thread.submit(self._end_session)
        self._thread.shutdown(wait=False)

    async def _ask(self, call: Callable[["TokenSession"], T], seconds: float = _CALL_SECONDS) -> T:
        """What call gives, in the token's thread. Raises StoreUnavailable."""
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._call, call)
        except TimeoutError as error:
            raise Pkcs11Unavailable(f"the PKCS#11 token did not answer within {seconds:g} s") from error
        except (self._failures, RuntimeError) as error:  # RuntimeError is what a thread says that was ended
            text = f"the PKCS#11 token does not do as it is asked: {type(error).__name__}"
            raise Pkcs11Unavailable(text) from error

    def _call(self, call: Callable[["TokenSession"], T]) -> T:
        """Runs in the token's thread."""
        try:
            if self._session is None:
                self._session = self._log_in(self._has_failed)
                self._has_failed = False
            return call(self._session)
        except self._failures:
            self._has_failed = True
            self._end_session()
            raise

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()


@dataclass(frozen=True, slots=True)
class Pkcs11Signer:
    """A Signer whose private key is in a token."""

    keys: Pkcs11Keys
    kid: str
    algorithm: str
    id: bytes

    async def sign(self, data: bytes) -> bytes:
        """The JWS signature over data. Raises StoreUnavailable."""
        return await self.keys.sign(self.kid, self.id, self.algorithm, data)

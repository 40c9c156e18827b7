"""The server's own signing keys: made at first start, encrypted at rest, announced, active, retired, removed.

A new key is published (announced) for a while before it signs, so that everybody who caches our JWKS knows it by
then; a retired key stays published until the last token that it signed has expired. Every step is a conditional
change in the store, and the kid of the next key follows from the keys that are there: any number of nodes may run
tick(), one of them makes each step, and all have the same keys afterwards.

The private part of a key is sealed with AES-256-GCM, its kid as associated data, under a key that is not in the
store. What is published is computed from the opened private part: a row that somebody else wrote into the store
never becomes a key of ours.
"""

import asyncio
import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from authz.clock import Clock
from authz.events import Emit, KeyChanged
from authz.protocol import jose
from authz.protocol.encoding import base64url, base64url_decode
from authz.protocol.jose import JoseError, LocalSigner, PrivateKey, PublicKey, Signer
from authz.storage.store import Store, StoredKey, StoreUnavailable

_PUBLISHED_AFTER_RETIREMENT = 86400  # longer than any token that a key signed, and the clocks of all nodes
_SERIES = "signing-key-series"  # name of the secret that every kid of this store begins with
_NONCE_BYTES = 12


class KeyRingError(Exception):
    """The keys cannot be used: the encryption key is missing, malformed or another one."""


class KeyRing:
    """Signs with the active key and knows every published one. Made by open().

    generation grows whenever the set of published keys changes: what was verified with them is to be forgotten.
    """

    def __init__(
        self,
        store: Store,
        *,
        encryption_key: bytes,
        algorithm: str,
        announced_seconds: int,
        active_seconds: int,
        clock: Clock,
        emit: Emit,
    ) -> None:
        if len(encryption_key) != 32:
            raise KeyRingError(f"the key encryption key has {len(encryption_key)} bytes, expected 32")
        self._store = store
        self._cipher = AESGCM(encryption_key)
        self._algorithm = algorithm
        self._announced_seconds = announced_seconds
        self._active_seconds = active_seconds
        self._clock = clock
        self._emit = emit
        self._turn = asyncio.Lock()  # one tick or rotation at a time on this node
        self._opened: dict[tuple[str, bytes], PrivateKey] = {}
        self._signer: LocalSigner | None = None
        self._public: dict[str, PublicKey] = {}
        self._jwks: Mapping[str, object] = {"keys": []}
        self.generation = 0

    @classmethod
    async def open(
        cls,
        store: Store,
        *,
        encryption_key: bytes,
        algorithm: str = "ES256",
        announced_seconds: int = 86400,
        active_seconds: int = 90 * 86400,
        clock: Clock,
        emit: Emit,
    ) -> "KeyRing":
        """The ring over this store, with its first key made when there is none.

        Raises KeyRingError when a stored key cannot be opened with encryption_key.
        """
        ring = cls(
            store,
            encryption_key=encryption_key,
            algorithm=algorithm,
            announced_seconds=announced_seconds,
            active_seconds=active_seconds,
            clock=clock,
            emit=emit,
        )
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

    async def rotate(self) -> str:
        """Announce a successor now, whatever the calendar says; its kid. It signs after the announced period."""
        async with self._turn:
            now = self._clock()
            kid = await self._create(
                await self._store.keys(), now, activates_at=now + self._announced_seconds
            )
            await self._advance()
            return kid

    def jwks(self) -> Mapping[str, object]:
        """The JWK Set of every published key (RFC 7517 5)."""
        return self._jwks

    def public_key(self, kid: str) -> PublicKey | None:
        """The published key of that kid."""
        return self._public.get(kid)

    def signer(self) -> Signer:
        """The active key, for a signature that is no JWT. Raises StoreUnavailable while there is none.

        To be asked for each signature: the next one may be another key's.
        """
        if self._signer is None:
            raise StoreUnavailable("there is no active signing key")
        return self._signer

    async def sign(self, claims: Mapping[str, object], *, typ: str) -> str:
        """A JWT of claims by the active key. Raises StoreUnavailable while there is none."""
        return await jose.sign_jwt(claims, typ=typ, signer=self.signer())

    async def _advance(self) -> None:
        now = self._clock()
        keys = await self._store.keys()
        if await self._bring_up(keys, now):
            keys = await self._store.keys()
        if await self._take_down(keys, now):
            keys = await self._store.keys()
        self._load(keys)

    async def _bring_up(self, keys: Sequence[StoredKey], now: int) -> bool:
        """Announce and activate. True when something was tried: by us or by a faster node, the keys are others now."""
        active = [key for key in keys if key.state == "active"]
        announced = [key for key in keys if key.state == "announced"]
        if not active and not announced:
            # Nobody has cached our JWKS yet: the very first key signs at once.
            await self._create(keys, now, activates_at=now)
            return True
        if not active:
            # Somebody took the active key away: its successor cannot wait.
            await self._move(_newest(announced), "announced", "active", now)
            return True
        due = [key for key in announced if key.activates_at <= now]
        for key in due:
            await self._move(key, "announced", "active", now)
        newest = _newest(active)
        is_ending = newest.retires_at - self._announced_seconds <= now
        if not announced and (is_ending or newest.algorithm != self._algorithm):
            await self._create(keys, now, activates_at=now + self._announced_seconds)
            return True
        return bool(due)

    async def _take_down(self, keys: Sequence[StoredKey], now: int) -> bool:
        """Retire what has a successor, remove what nobody needs. True when something was tried."""
        active = [key for key in keys if key.state == "active"]
        ended = [key for key in active if key.kid != _newest(active).kid]
        for key in ended:
            await self._move(key, "active", "retired", now)
        dead = [key for key in keys if key.state == "retired" and key.removes_at <= now]
        for key in dead:
            await self._move(key, "retired", "removed", now)
        left = [key for key in keys if key.state == "removed"]
        for key in (*dead, *left):
            await self._store.delete_key(key.kid)
        return bool(ended or dead or left)

    async def _create(self, keys: Sequence[StoredKey], now: int, *, activates_at: int) -> str:
        """Make the key that comes after keys, unless another node was faster; its kid."""
        series = base64url(await self._store.secret(_SERIES, secrets.token_bytes(9)))
        kid = f"{series}.{1 + max((_ordinal(key.kid) for key in keys), default=0)}"
        # An RSA key takes up to a second to make.
        private = await asyncio.to_thread(generate_private_key, self._algorithm)
        retires_at = activates_at + self._active_seconds
        state = "active" if activates_at <= now else "announced"
        made = await self._store.put_key(
            StoredKey(
                kid=kid,
                algorithm=self._algorithm,
                state=state,
                encrypted=self._seal(private, kid),
                public_jwk=jose.public_jwk(private, kid=kid),
                created_at=now,
                activates_at=activates_at,
                retires_at=retires_at,
                removes_at=retires_at + _PUBLISHED_AFTER_RETIREMENT,
            )
        )
        if made:
            self._emit(KeyChanged(kid, state))
        return kid

    async def _move(self, key: StoredKey, from_state: str, to_state: str, now: int) -> None:
        if await self._store.move_key(key.kid, from_state=from_state, to_state=to_state, now=now):
            self._emit(KeyChanged(key.kid, to_state))

    def _load(self, keys: Sequence[StoredKey]) -> None:
        """Put the keys into use, all or none. Raises KeyRingError, StoreUnavailable."""
        published = [key for key in keys if key.state != "removed"]
        active = [key for key in published if key.state == "active"]
        if not active:
            raise StoreUnavailable("no signing key is active")
        opened = {(key.kid, key.encrypted): self._open(key) for key in published}
        signing = _newest(active)
        jwks = [jose.public_jwk(private, kid=kid) for (kid, _), private in opened.items()]
        try:
            signer = LocalSigner(signing.kid, signing.algorithm, opened[signing.kid, signing.encrypted])
            public = {str(jwk["kid"]): jose.import_public_jwk(jwk) for jwk in jwks}
        except JoseError as error:
            raise KeyRingError(f"a signing key cannot be used: {error}") from error
        if opened.keys() != self._opened.keys():
            self._jwks = {"keys": jwks}
            self._public = public
            self.generation += 1
        self._signer, self._opened = signer, opened

    def _seal(self, private: PrivateKey, kid: str) -> bytes:
        content = private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, kid.encode())

    def _open(self, key: StoredKey) -> PrivateKey:
        known = self._opened.get((key.kid, key.encrypted))
        if known is not None:
            return known
        nonce, sealed = key.encrypted[:_NONCE_BYTES], key.encrypted[_NONCE_BYTES:]
        try:
            content = self._cipher.decrypt(nonce, sealed, key.kid.encode())
            private = serialization.load_der_private_key(content, password=None)
        except (InvalidTag, ValueError) as error:
            raise KeyRingError(
                f"the signing key '{key.kid}' cannot be opened with this key encryption key: it was sealed with"
                " another one, or changed in the store"
            ) from error
        if not isinstance(
            private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
        ):
            raise KeyRingError(f"the signing key '{key.kid}' is of a kind that is not supported")
        return private


def _newest(keys: Sequence[StoredKey]) -> StoredKey:
    return max(keys, key=lambda key: (key.activates_at, _ordinal(key.kid)))


def _ordinal(kid: str) -> int:
    number = kid.rpartition(".")[2]
    return int(number) if number.isdecimal() else 0


def generate_private_key(algorithm: str) -> PrivateKey:
    """A new private key for ES256, PS256 (3072 bits) or EdDSA."""
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "PS256":
        return rsa.generate_private_key(public_exponent=65537, key_size=3072)
    if algorithm in ("EdDSA", "Ed25519"):
        return ed25519.Ed25519PrivateKey.generate()
    raise KeyRingError(f"algorithm {algorithm} is not supported: ES256, PS256 or EdDSA is expected")


def load_or_create_encryption_key(path: Path) -> bytes:
    """The 32 bytes in base64 at path; made, readable by the owner only, when the file is missing.

    Raises KeyRingError when the file does not hold such a key, or cannot be read or made.
    """
    try:
        if not path.exists():
            _create_encryption_key(path)
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyRingError(f"the key encryption key cannot be read from {path}: {error}") from error
    return read_encryption_key(text, str(path))


def _create_encryption_key(path: Path) -> None:
    """A new key at path, whole and on the disk when it is seen there; the first of several processes wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, proposal = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with open(descriptor, "wb") as file:
            file.write(base64url(secrets.token_bytes(32)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(proposal, path)
    finally:
        os.unlink(proposal)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        # Keys sealed with it are written next: after a power cut this name must not be missing beside them.
        os.fsync(folder)
    finally:
        os.close(folder)


def read_encryption_key(text: str, where: str) -> bytes:
    """The key in base64 or base64url text. Raises KeyRingError."""
    try:
        key = base64url_decode(text.strip().rstrip("=").replace("+", "-").replace("/", "_"))
    except ValueError as error:
        raise KeyRingError(f"{where} does not hold base64") from error
    if len(key) != 32:
        raise KeyRingError(f"{where} holds {len(key)} bytes, expected 32 in base64")
    return key

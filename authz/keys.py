"""The server's own signing keys: made at first start, encrypted at rest, announced, active, retired, removed.

A new key is published (announced) for a while before it signs, so that everybody who caches our JWKS knows it by
then; a retired key stays published until the last token that it signed has expired. Every step is a conditional
change in the store, so any number of nodes may run tick() and one of them makes each step.
"""

import os
import secrets
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
from authz.protocol.jose import LocalSigner, PrivateKey, PublicKey
from authz.storage.store import Store, StoredKey, StoreUnavailable

_PUBLISHED_AFTER_RETIREMENT = 86400  # longer than any token that a key signed


class KeyRingError(Exception):
    """The keys cannot be used: the encryption key is missing, malformed or another one."""


class KeyRing:
    """Signs with the active key and knows every published one. Made by open()."""

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
        self._signer: LocalSigner | None = None
        self._public: dict[str, PublicKey] = {}
        self._jwks: dict[str, object] = {"keys": []}
        self._seen: tuple[tuple[str, str], ...] = ()
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

        Raises KeyRingError when a stored key cannot be decrypted with encryption_key.
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
        await ring.tick()
        return ring

    async def tick(self) -> None:
        """Make every step that is due: announce a successor, activate it, retire the old one, remove the dead."""
        now = self._clock()
        keys = await self._store.keys()
        changed = False
        active = [k for k in keys if k.state == "active"]
        announced = [k for k in keys if k.state == "announced"]
        if not active and not announced:
            # Nobody has cached our JWKS yet: the very first key signs at once.
            changed |= await self._make(now, activates_at=now)
        elif active and not announced and max(k.retires_at for k in active) - self._announced_seconds <= now:
            changed |= await self._make(now, activates_at=now + self._announced_seconds)
        for key in announced:
            if key.activates_at <= now:
                changed |= await self._move(key, "announced", "active", now)
        keys = await self._store.keys() if changed else keys
        newest = max(
            (k for k in keys if k.state == "active"), key=lambda k: (k.activates_at, k.kid), default=None
        )
        for key in keys:
            if key.state == "active" and newest is not None and key.kid != newest.kid:
                changed |= await self._move(key, "active", "retired", now)
            elif key.state == "retired" and key.removes_at <= now:
                await self._store.delete_key(key.kid)
                self._emit(KeyChanged(key.kid, "removed"))
                changed = True
        self._load(await self._store.keys() if changed else keys)

    async def rotate(self) -> str:
        """Announce a successor now, whatever the calendar says; its kid. It signs after the announced period."""
        now = self._clock()
        kid = await self._create(now, activates_at=now + self._announced_seconds)
        self._load(await self._store.keys())
        return kid

    def jwks(self) -> Mapping[str, object]:
        """The JWK Set of every published key (RFC 7517 5)."""
        return self._jwks

    def public_key(self, kid: str) -> PublicKey | None:
        """The published key of that kid."""
        return self._public.get(kid)

    async def sign(self, claims: Mapping[str, object], *, typ: str) -> str:
        """A JWT of claims by the active key."""
        if self._signer is None:
            raise StoreUnavailable("there is no active signing key")
        return await jose.sign_jwt(claims, typ=typ, signer=self._signer)

    async def _make(self, now: int, *, activates_at: int) -> bool:
        await self._create(now, activates_at=activates_at)
        return True

    async def _create(self, now: int, *, activates_at: int) -> str:
        private = generate_private_key(self._algorithm)
        kid = base64url(secrets.token_bytes(12))
        retires_at = activates_at + self._active_seconds
        state = "active" if activates_at <= now else "announced"
        await self._store.put_key(
            StoredKey(
                kid=kid,
                algorithm=self._algorithm,
                state=state,
                encrypted=self._encrypt(private, kid),
                public_jwk=jose.public_jwk(private, kid=kid),
                created_at=now,
                activates_at=activates_at,
                retires_at=retires_at,
                removes_at=retires_at + _PUBLISHED_AFTER_RETIREMENT,
            )
        )
        self._emit(KeyChanged(kid, state))
        return kid

    async def _move(self, key: StoredKey, from_state: str, to_state: str, now: int) -> bool:
        moved = await self._store.move_key(key.kid, from_state=from_state, to_state=to_state, now=now)
        if moved:
            self._emit(KeyChanged(key.kid, to_state))
        return moved

    def _load(self, stored: Sequence[StoredKey]) -> None:
        seen = tuple((key.kid, key.state) for key in stored)
        if seen == self._seen:
            return
        active = [key for key in stored if key.state == "active"]
        if not active:
            raise StoreUnavailable("no signing key is active")
        newest = max(active, key=lambda key: (key.activates_at, key.kid))
        self._signer = LocalSigner(newest.kid, newest.algorithm, self._decrypt(newest))
        self._public = {key.kid: jose.import_public_jwk(key.public_jwk) for key in stored}
        self._jwks = {"keys": [dict(key.public_jwk) for key in stored]}
        self._seen = seen
        self.generation += 1

    def _encrypt(self, private: PrivateKey, kid: str) -> bytes:
        content = private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        nonce = secrets.token_bytes(12)
        return nonce + self._cipher.encrypt(nonce, content, kid.encode())

    def _decrypt(self, key: StoredKey) -> PrivateKey:
        try:
            content = self._cipher.decrypt(key.encrypted[:12], key.encrypted[12:], key.kid.encode())
        except InvalidTag as error:
            raise KeyRingError(
                f"the signing key {key.kid} was encrypted with another key encryption key"
            ) from error
        private = serialization.load_der_private_key(content, password=None)
        if not isinstance(
            private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
        ):
            raise KeyRingError(f"the signing key {key.kid} is of a kind that is not supported")
        return private


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
    """The 32 bytes in base64url at path; made, readable by the owner only, when the file is missing.

    Raises KeyRingError when the file does not hold such a key.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        proposal = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(proposal, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, base64url(secrets.token_bytes(32)).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with suppress(FileExistsError):
            os.link(proposal, path)  # the first of several processes wins; a half-written key is never seen
        proposal.unlink()
    return read_encryption_key(path.read_text(encoding="ascii", errors="replace"), str(path))


def read_encryption_key(text: str, where: str) -> bytes:
    """The key in base64 or base64url text. Raises KeyRingError."""
    try:
        key = base64url_decode(text.strip().rstrip("=").replace("+", "-").replace("/", "_"))
    except ValueError as error:
        raise KeyRingError(f"{where} does not hold base64") from error
    if len(key) != 32:
        raise KeyRingError(f"{where} holds {len(key)} bytes, expected 32 in base64")
    return key

"""Private keys at rest: AES-256-GCM, the kid as associated data, under a key that is not in the store.

A second encryption key may be given. It opens and never seals: with it the encryption key is changed while several
nodes go on, see docs/keys.md.
"""

import asyncio
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from authz.keys.encryption_key import KeyRingError
from authz.keys.making import generate_private_key
from authz.protocol.jose import PrivateKey

_NONCE_BYTES = 12


class SealedKeys:
    """Seals with the encryption key, opens with it or with the other one."""

    def __init__(self, encryption_key: bytes, *, other: bytes | None = None) -> None:
        """Raises KeyRingError when a key does not have 32 bytes."""
        given = [encryption_key] if other is None else [encryption_key, other]
        for key in given:
            if len(key) != 32:
                raise KeyRingError(f"the key encryption key has {len(key)} bytes, expected 32")
        self._ciphers = [AESGCM(key) for key in given]

    async def generate(self, algorithm: str) -> PrivateKey:
        """A new private key, made in a thread: an RSA key takes up to a second."""
        return await asyncio.to_thread(generate_private_key, algorithm)

    def seal(self, private: PrivateKey, kid: str) -> bytes:
        """The private key, sealed for its row."""
        content = private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._encrypt(content, kid)

    def open(self, kid: str, encrypted: bytes) -> PrivateKey:
        """The private key in a row. Raises KeyRingError."""
        _, content = self._decrypt(kid, encrypted)
        try:
            private = serialization.load_der_private_key(content, password=None)
        except ValueError as error:
            raise KeyRingError(f"the signing key '{kid}' was sealed by us and cannot be read") from error
        if not isinstance(
            private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
        ):
            raise KeyRingError(f"the signing key '{kid}' is of a kind that is not supported")
        return private

    def reseal(self, kid: str, encrypted: bytes) -> bytes | None:
        """The same private key under the encryption key; None when it rests under that already. Raises KeyRingError."""
        number, content = self._decrypt(kid, encrypted)
        return None if number == 0 else self._encrypt(content, kid)

    def _encrypt(self, content: bytes, kid: str) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._ciphers[0].encrypt(nonce, content, kid.encode())

    def _decrypt(self, kid: str, encrypted: bytes) -> tuple[int, bytes]:
        """Which encryption key opened it, and the content."""
        nonce, sealed = encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:]
        for number, cipher in enumerate(self._ciphers):
            try:
                return number, cipher.decrypt(nonce, sealed, kid.encode())
            except (InvalidTag, ValueError):
                continue
        raise KeyRingError(
            f"the signing key '{kid}' cannot be opened with this key encryption key: it was sealed with"
            " another one, or changed in the store"
        )

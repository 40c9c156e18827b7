"""The keys that sign heads and stubs: their own, for nothing else, at home where the server's signing keys are."""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from authz.clock import Clock
from authz.keys.encryption_key import KeyRingError
from authz.keys.homes import KeyHomes, Opened
from authz.protocol import jose
from authz.protocol.encoding import strict_json
from authz.protocol.jose import JoseError, Signer
from authz.storage.audit_seals import AuditKey
from authz.storage.server_keys import StoredKey
from authz.storage.store import Store
from gateway.audit.heads import PublicKeys

_ALGORITHM = "ES256"
_MAX_FILE_BYTES = 256 * 1024


class AuditKeys:
    """The keys over a store. What is public is computed from the private part, not believed of the store."""

    def __init__(self, store: Store, homes: KeyHomes, clock: Clock) -> None:
        self._store = store
        self._homes = homes
        self._clock = clock
        self._opened: dict[tuple[str, bytes], Opened] = {}
        self._newest: Opened | None = None

    async def load(self) -> None:
        """Take in the keys of the store. Raises KeyRingError, StoreUnavailable."""
        opened: dict[tuple[str, bytes], Opened] = {}
        for key in await self._store.audit_keys():
            place = (key.kid, key.encrypted)
            try:
                opened[place] = self._opened.get(place) or await self._homes.open(_as_stored(key))
            except JoseError as error:
                raise KeyRingError(f"the key '{key.kid}' of the audit log cannot be used: {error}") from error
            self._newest = opened[place]
        self._opened = opened

    async def make(self) -> str:
        """Make a key that signs from now on; its kid. Raises KeyRingError, StoreUnavailable."""
        number = len(await self._store.audit_keys()) + 1
        kid = f"audit-{number}-{secrets.token_urlsafe(6)}"
        made = await self._homes.make(kid, _ALGORITHM)
        key = AuditKey(number, kid, _ALGORITHM, made.encrypted, made.public_jwk, self._clock())
        if not await self._store.add_audit_key(key):
            await self._homes.discard(kid, made)  # another node was first
        await self.load()
        return (await self._store.audit_keys())[-1].kid

    async def signer(self) -> Signer:
        """The newest key, made where there is none. Raises KeyRingError, StoreUnavailable."""
        await self.load()
        if self._newest is None:
            await self.make()
        if self._newest is None:
            raise KeyRingError("the key of the audit log cannot be read back")
        return self._newest.signer

    def jwks(self) -> Mapping[str, object]:
        """The JWK Set of every key, for those who verify elsewhere."""
        return {"keys": [dict(each.public_jwk) for each in self._opened.values()]}

    @property
    def public(self) -> PublicKeys:
        """The public keys by kid."""
        return public_keys([dict(each.public_jwk) for each in self._opened.values()])


async def reseal_audit_keys(store: Store, homes: KeyHomes) -> Sequence[str]:
    """Seal the keys anew under the encryption key; the kids of those that rested under the other one."""
    done = []
    for key in await store.audit_keys():
        if homes.is_outside(_as_stored(key)):
            continue
        sealed = homes.sealed.reseal(key.kid, key.encrypted)
        if sealed is not None and await store.reseal_audit_key(
            key.number, expected=key.encrypted, encrypted=sealed
        ):
            done.append(key.kid)
    return done


def public_keys(jwks: Sequence[object]) -> PublicKeys:
    """Public JWKs by kid. Raises KeyRingError."""
    found = {}
    for jwk in jwks:
        if not isinstance(jwk, dict) or not isinstance(jwk.get("kid"), str):
            raise KeyRingError("each key must be a JWK with a kid")
        try:
            found[jwk["kid"]] = jose.import_public_jwk(jwk)
        except JoseError as error:
            raise KeyRingError(f"the key '{jwk['kid']}' cannot be used: {error}") from error
    return found


def read_public_keys(path: Path) -> PublicKeys:
    """The keys in a file: a JWK Set, one JWK, or PEM, which is the key of every kid. Raises KeyRingError, OSError."""
    content = path.read_bytes()
    if len(content) > _MAX_FILE_BYTES:
        raise KeyRingError(f"'{path}' is longer than {_MAX_FILE_BYTES} bytes, a public key is shorter")
    if content.lstrip()[:1] == b"{":
        try:
            value = strict_json(content, max_bytes=_MAX_FILE_BYTES)
        except ValueError as error:
            raise KeyRingError(f"'{path}' is not JSON with one reading") from error
        keys = value.get("keys", [value]) if isinstance(value, dict) else value
        return public_keys(keys if isinstance(keys, list) else [])
    return {"": _read_pem(content, path)}


def _read_pem(content: bytes, path: Path) -> jose.PublicKey:
    try:
        key = serialization.load_pem_public_key(content)
    except ValueError as error:
        raise KeyRingError(f"'{path}' holds no public key: a JWK Set or PEM is expected") from error
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        raise KeyRingError(f"the key in '{path}' is of a kind that is not supported")
    return jose.import_public_jwk(jose.public_jwk_of(key, kid=""))


def _as_stored(key: AuditKey) -> StoredKey:
    return StoredKey(key.kid, key.algorithm, "active", key.encrypted, key.public_jwk, key.created_at, 0, 0, 0)

"""The server's own signing keys and secrets, as a store keeps them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A signing key of the server, encrypted at rest. state: announced | active | retired | removed."""

    kid: str
    algorithm: str
    state: str
    encrypted: bytes
    public_jwk: Mapping[str, object]
    created_at: int
    activates_at: int
    retires_at: int
    removes_at: int


class KeyStore(Protocol):
    """The part of the Store that keeps them. What holds for every method of a Store holds for these."""

    async def put_key(self, key: StoredKey) -> bool:
        """Write a key; False when one with this kid exists."""
        ...

    async def keys(self) -> Sequence[StoredKey]: ...
    async def move_key(self, kid: str, *, from_state: str, to_state: str, now: int) -> bool:
        """Change a key's state in one statement; False when it was not in from_state.

        A key that becomes active or retires does so now, early or late: what follows keeps its distance from that
        (RFC 7517 leaves this to us: what it signed a second ago must still be verified).
        """
        ...

    async def reseal_key(self, kid: str, *, expected: bytes, encrypted: bytes) -> bool:
        """Replace the encrypted part of a key in one statement; False when it was not the expected one."""
        ...

    async def delete_key(self, kid: str) -> None: ...
    async def secret(self, name: str, proposal: bytes) -> bytes:
        """The stored secret of that name; the proposal becomes it when there is none yet. Same for all callers."""
        ...

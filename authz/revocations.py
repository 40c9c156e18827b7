"""What was revoked and may still be in somebody's hands: in memory on every node, read from the store in order."""

from authz.storage.store import Store


class Revocations:
    """Ids of revoked grants and access tokens. Bounded by their number within the life of an access token."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._sequence = 0

    async def refresh(self, store: Store) -> None:
        """Take in what any node revoked since the last call."""
        self._sequence, revoked = await store.revocations_since(self._sequence)
        self._ids.update(revoked)

    def add(self, id: str) -> None:
        """Revoke on this node at once; the store has it already."""
        self._ids.add(id)

    def is_revoked(self, token_id: str, grant_id: str | None) -> bool:
        """Whether the token or its grant was revoked."""
        return token_id in self._ids or (grant_id is not None and grant_id in self._ids)

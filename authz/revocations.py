"""What was revoked and may still be in somebody's hands: in memory on every node, read from the store in order."""

from authz.kept_current import KeptCurrent
from authz.storage.store import Store


class Revocations(KeptCurrent):
    """Ids of revoked grants and access tokens: what was revoked at one node is refused by all within a second."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self._ids: set[str] = set()
        self._added: set[str] = set()
        self._sequence = 0

    async def _read(self, *, whole: bool) -> None:
        if whole:
            self._sequence, revoked = await self._store.revocations_since(0)
            # What this node revoked while the store answered is perhaps not in the answer.
            self._ids = {*revoked, *self._added}
            self._added = set()
        else:
            self._sequence, revoked = await self._store.revocations_since(self._sequence)
            self._ids.update(revoked)

    def add(self, id: str) -> None:
        """Revoke on this node at once; the store has it already."""
        self._ids.add(id)
        self._added.add(id)

    def is_revoked(self, token_id: str, grant_id: str | None) -> bool:
        """Whether the token or its grant was revoked."""
        return token_id in self._ids or (grant_id is not None and grant_id in self._ids)

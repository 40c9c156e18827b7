"""The file that every signed head is appended to, one a line, to be carried to where nobody can change it."""

import os
from pathlib import Path

from authz.storage.audit_seals import TreeHead
from authz.storage.store import Store
from gateway.audit.heads import BadSeal, read_head

_PAGE_HEADS = 500


class HeadFile:
    """Such a file. What was missed while it could not be written follows with the next head."""

    def __init__(self, path: Path, store: Store) -> None:
        self._path = path
        self._store = store
        self._written: int | None = None

    async def append(self, newest: TreeHead) -> None:
        """Append every head up to this one that is not there. Raises OSError, StoreUnavailable."""
        if self._written is None:
            heads = read_heads_file(self._path) if self._path.exists() else {}
            self._written = max(heads, default=0)
        while self._written < newest.number:
            rows = await self._store.tree_heads(after=self._written, limit=_PAGE_HEADS)
            if not rows:
                return
            _append(self._path, b"".join(row.head + b"\n" for row in rows))
            self._written = rows[-1].number


def read_heads_file(path: Path) -> dict[int, bytes]:
    """The heads in such a file by number, not verified yet. A last line that was not written whole does not count.

    Raises BadSeal, OSError.
    """
    found: dict[int, bytes] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        if not line.strip():
            continue
        try:
            head = read_head(line.strip(), None)
        except BadSeal as error:
            raise BadSeal(f"line {number} of '{path}' is no head: {error}") from error
        if found.get(head.number, line.strip()) != line.strip():
            raise BadSeal(f"'{path}' has two heads {head.number}")
        found[head.number] = line.strip()
    return found


def _append(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o640), "r+b") as file:
        whole = file.read().rpartition(b"\n")
        file.seek(len(whole[0]) + len(whole[1]))
        file.truncate()  # a crash left half a line
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

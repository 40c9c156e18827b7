"""AuditEvents in a file, one JSON object a line, put aside when it is full. On the disk before the delivery counts."""

import asyncio
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from gateway.audit.events.codes import Json
from gateway.audit.feeds.destination import DestinationAway, Taken
from gateway.audit_settings import FeedSettings

_TAIL = 64 * 1024
_WRITTEN_IN_ONE_TURN = 25


class FileFeed:
    """A file, and those that were put aside: PATH.1 is the newest of them."""

    def __init__(self, settings: FeedSettings) -> None:
        if settings.path is None:
            raise ValueError("a feed into a file needs its path")
        self._path = settings.path
        self._max_bytes = settings.max_size
        self._kept = settings.kept

    async def deliver(self, events: Sequence[Json]) -> Taken:
        """Append them."""
        lines: list[bytes] = []
        for event in events:
            lines.append(msgspec.json.encode(event) + b"\n")
            if len(lines) % _WRITTEN_IN_ONE_TURN == 0:
                await asyncio.sleep(0)  # requests come first
        try:
            await asyncio.to_thread(self._append, b"".join(lines))
        except OSError as error:
            raise DestinationAway(error.strerror or type(error).__name__) from error
        return Taken()

    async def close(self) -> None:
        """Nothing is held open."""

    def _append(self, lines: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists() and self._path.stat().st_size >= self._max_bytes:
            self._put_aside()
        is_new = not self._path.exists()
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            # Of two who both take the place for theirs for a moment one writes, and the other comes again.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _cut_torn_line(file.fileno())
            file.seek(0, os.SEEK_END)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            _sync_folder(self._path.parent)

    def _put_aside(self) -> None:
        for number in range(self._kept - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                os.replace(older, self._numbered(number + 1))
        os.replace(self._path, self._numbered(1))
        _sync_folder(self._path.parent)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _cut_torn_line(descriptor: int) -> None:
    """Remove what a crash left behind the last whole line: it is delivered again."""
    size = end = os.fstat(descriptor).st_size
    while end > 0:
        begin = max(0, end - _TAIL)
        found = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if found >= 0:
            end = begin + found + 1
            break
        end = begin
    if end != size:
        os.ftruncate(descriptor, end)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder as durable as what they name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The line between supervisor and worker: words, one a line. Its end is the end of the other side, however that died.

A worker says `ready` once it listens; the supervisor says `lead` to the one that does what must be done once.
"""

import asyncio
import socket
from collections.abc import AsyncIterator

READY = "ready"
LEAD = "lead"


class Line:
    """One end of the line. Made by open()."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> "Line":
        """This end, which is closed with the line."""
        reader, writer = await asyncio.open_unix_connection(sock=end)
        return cls(reader, writer)

    def say(self, word: str) -> None:
        """Say a word. One that has nobody to hear it any more is lost, and words() ends."""
        if not self._writer.is_closing():
            self._writer.write(word.encode("ascii") + b"\n")

    async def words(self) -> AsyncIterator[str]:
        """What the other side says, until it is gone."""
        while True:
            try:
                line = await self._reader.readline()
            except (ConnectionError, ValueError):
                return
            if not line.endswith(b"\n"):
                return
            yield line.strip().decode("ascii", "replace")

    def close(self) -> None:
        """Close this end."""
        self._writer.close()

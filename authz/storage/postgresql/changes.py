"""Hearing from other nodes that something changed: one channel, by LISTEN, on a connection of its own.

A notice carries no knowledge: whoever hears it reads the store, as it does twice a second anyway. So a notice that
was lost, sent twice or made up costs half a second or one reading, and nothing else depends on this file.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Any

from authz.storage.postgresql.pool import FAILURES, PostgresqlPool, said

CHANNEL = "securus"
_PULSE_SECONDS = 5.0
_CONNECT_AGAIN_SECONDS = 1.0
_GATHER_SECONDS = 0.01  # notices that come in a burst are one
_log = logging.getLogger("securus.storage")


class ChangeListener:
    """Listens from the first wait() on; close() ends it."""

    def __init__(self, pool: PostgresqlPool) -> None:
        self._pool = pool
        self._heard = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_deaf = False  # and that was said

    async def wait(self) -> None:
        """Return once something was heard since the last return."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._listen())
        heard = self._heard
        await heard.wait()
        await asyncio.sleep(_GATHER_SECONDS)
        # Several may wait: what came since the first of them went on is not theirs to clear.
        if self._heard is heard:
            self._heard = asyncio.Event()

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _listen(self) -> None:
        while True:
            try:
                connection = await self._pool.connect()
                try:
                    await self._hold(connection)
                    self._hears_nothing("the connection was ended")
                finally:
                    connection.terminate()
            except (OSError, ValueError, *FAILURES) as error:
                self._hears_nothing(said(error))
                await asyncio.sleep(_CONNECT_AGAIN_SECONDS)

    async def _hold(self, connection: Any) -> None:
        """Hear, until the connection is lost: TCP alone would not tell for hours."""
        ended = asyncio.Event()
        connection.add_termination_listener(lambda *_: ended.set())
        await connection.add_listener(CHANNEL, lambda *_: self._heard.set())
        if self._is_deaf:
            self._is_deaf = False
            _log.info("notices of changes are heard again")
        self._heard.set()  # something may have changed while nobody listened
        while not ended.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_PULSE_SECONDS):
                    await ended.wait()
                return
            await connection.execute("SELECT 1", timeout=_PULSE_SECONDS)

    def _hears_nothing(self, why: str) -> None:
        """Say so once; nothing is lost but up to half a second for what changes at another node."""
        if not self._is_deaf:
            self._is_deaf = True
            _log.warning("notices of changes are not heard", extra={"cause": why})

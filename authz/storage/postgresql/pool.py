"""The connections of one process to PostgreSQL: bounded, every statement with a time limit, none trusted twice.

A server that is away is found once, by whoever meets it first. From then on every statement is refused at once
instead of waiting for its time to pass, and one task looks every quarter of a second whether the server is back.
A connection that was ended by the server is replaced; one whose answer did not come, or was not waited for, is closed:
nobody can say in which state it is. No statement is sent a second time.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import asyncpg

from authz.storage.postgresql.settings import PostgresqlSettings
from authz.storage.store import StoreUnavailable

_LOOK_AGAIN_SECONDS = 0.25
# The server ends a slow statement itself; after so much more it does not answer at all.
_SERVER_GRACE_SECONDS = 1.0
_LOCK_SHARE = 0.6  # of the time of a statement, for waiting on others; what remains is for the work
# A node that is cut off in a transaction keeps its locks so long: less than the others wait for them, but not so
# short that a process which is out of breath loses what it is at.
_IDLE_SHARE, _LEAST_IDLE_SECONDS = 0.4, 1.0
_MAX_WAITING = 10_000
_log = logging.getLogger("securus.storage")

FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises. OSError and TimeoutError come beside it."""
Row = tuple[Any, ...]


class Transaction:
    """Statements that take effect together. Made by PostgresqlPool.transaction()."""

    def __init__(self, connection: Any, patience_seconds: float) -> None:
        self._connection = connection
        self.patience_seconds = patience_seconds
        self.is_undone = False

    async def rows(self, sql: str, *values: object) -> list[Row]:
        """Every row of one statement."""
        return [
            tuple(row) for row in await self._connection.fetch(sql, *values, timeout=self.patience_seconds)
        ]

    async def row(self, sql: str, *values: object) -> Row | None:
        """The first row of one statement."""
        rows = await self.rows(sql, *values)
        return rows[0] if rows else None

    async def change(self, sql: str, *values: object) -> int:
        """Run one statement; the number of rows that it changed."""
        return _changed(await self._connection.execute(sql, *values, timeout=self.patience_seconds))

    async def change_each(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement with the values of each row, all of them sent before an answer is awaited."""
        await self._connection.executemany(sql, rows, timeout=self.patience_seconds)

    async def script(self, sql: str) -> None:
        """Run several statements without values."""
        await self._connection.execute(sql, timeout=self.patience_seconds)

    def undo(self) -> None:
        """Take everything back at the end instead of committing it."""
        self.is_undone = True


class PostgresqlPool:
    """At most settings.pool connections. Made by open(), for one event loop."""

    def __init__(self, settings: PostgresqlSettings) -> None:
        self._settings = settings
        self._idle: list[Any] = []
        self._places = asyncio.Semaphore(settings.pool)
        self._waiting = 0
        self._away = ""  # why nobody is let through
        self._looking: asyncio.Task[None] | None = None
        self._closed = False
        self.patience_seconds = settings.statement_timeout_seconds + _SERVER_GRACE_SECONDS

    @classmethod
    async def open(cls, settings: PostgresqlSettings) -> "PostgresqlPool":
        """A pool with its first connection. Raises StoreUnavailable."""
        pool = cls(settings)
        try:
            connection = await pool.connect()
        except (OSError, ValueError, *FAILURES) as error:
            raise StoreUnavailable(f"PostgreSQL cannot be reached: {said(error)}") from error
        pool._idle.append(connection)
        encoding = await pool.rows("SELECT current_setting('server_encoding')")
        if encoding != [("UTF8",)]:
            await pool.close()
            raise StoreUnavailable(f"the database is in {encoding[0][0]}, expected one in UTF8")
        return pool

    async def rows(self, sql: str, *values: object) -> list[Row]:
        """Every row of one statement, committed when this returns. Raises StoreUnavailable."""
        if _looks_for_nothing(sql, values):
            return []
        connection = await self._acquire()
        with self._held(connection):
            return [tuple(row) for row in await connection.fetch(sql, *values, timeout=self.patience_seconds)]

    async def row(self, sql: str, *values: object) -> Row | None:
        """The first row of one statement."""
        rows = await self.rows(sql, *values)
        return rows[0] if rows else None

    async def change(self, sql: str, *values: object) -> int:
        """Run one statement; the number of rows that it changed."""
        if _looks_for_nothing(sql, values):
            return 0
        connection = await self._acquire()
        with self._held(connection):
            return _changed(await connection.execute(sql, *values, timeout=self.patience_seconds))

    @asynccontextmanager
    async def transaction(self, begin: str = "BEGIN") -> AsyncIterator[Transaction]:
        """A transaction: committed at the end, rolled back when anything is raised, the commit included.

        begin may say more of it, and take a lock in the same way to the server.
        """
        connection = await self._acquire()
        with self._held(connection):
            transaction = Transaction(connection, self.patience_seconds)
            try:
                await connection.execute(begin, timeout=self.patience_seconds)
                yield transaction
            except (StoreUnavailable, *FAILURES):
                if not connection.is_closed():
                    await connection.execute("ROLLBACK", timeout=self.patience_seconds)
                raise
            wanted = "ROLLBACK" if transaction.is_undone else "COMMIT"
            if await connection.execute(wanted, timeout=self.patience_seconds) != wanted:
                raise StoreUnavailable("a transaction was not committed")

    async def connect(self) -> Any:
        """A connection beside the pool, with its time limits. Raises what asyncpg raises, OSError, TimeoutError."""
        statement = self._settings.statement_timeout_seconds
        idle = max(statement * _IDLE_SHARE, _LEAST_IDLE_SECONDS)
        connection = await asyncpg.connect(
            self._settings.dsn,
            timeout=self._settings.connect_timeout_seconds,
            max_cached_statement_lifetime=0,
            target_session_attrs="read-write",  # never a standby: of several hosts the one that takes writes
            server_settings={
                "application_name": "securus",
                "statement_timeout": str(round(statement * 1000)),
                "lock_timeout": str(round(statement * _LOCK_SHARE * 1000)),
                "idle_in_transaction_session_timeout": str(round(idle * 1000)),
                "default_transaction_isolation": "read committed",
                "jit": "off",
            },
        )
        try:
            # What was acknowledged survives a crash of the server, whatever its default is.
            await connection.execute(
                "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
                timeout=self._settings.connect_timeout_seconds,
            )
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def close(self) -> None:
        """Close every connection; every later call raises StoreUnavailable."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        while self._idle:
            connection = self._idle.pop()
            try:
                await connection.close(timeout=1.0)
            except (OSError, *FAILURES):
                connection.terminate()

    async def _acquire(self) -> Any:
        self._refuse_when_away()
        await self._take_place()
        try:
            self._refuse_when_away()
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    return connection
            return await self._connect()
        except BaseException:
            self._places.release()
            raise

    async def _take_place(self) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        if self._waiting >= _MAX_WAITING:
            raise StoreUnavailable(f"{_MAX_WAITING} statements wait for a connection")
        self._waiting += 1
        try:
            async with asyncio.timeout(self.patience_seconds):
                await self._places.acquire()
        except TimeoutError as error:
            raise StoreUnavailable(f"all {self._settings.pool} connections to PostgreSQL are busy") from error
        finally:
            self._waiting -= 1

    async def _connect(self) -> Any:
        try:
            return await self.connect()
        except (ValueError, *FAILURES) as error:
            if _is_away(error):
                self._went_away(said(error))
            raise StoreUnavailable(f"PostgreSQL refuses a connection: {said(error)}") from error
        except OSError as error:
            self._went_away(said(error))
            raise StoreUnavailable(f"PostgreSQL cannot be reached: {said(error)}") from error

    @contextmanager
    def _held(self, connection: Any) -> Iterator[None]:
        """Translate what is raised, and give the connection back, or end it where its state is not known."""
        try:
            yield
        except asyncpg.ReadOnlySQLTransactionError as error:  # the primary has become a standby
            self._forget_idle()
            connection.terminate()
            raise StoreUnavailable(said(error)) from error
        except FAILURES as error:
            raise StoreUnavailable(said(error)) from error
        except TimeoutError as error:
            connection.terminate()
            self._went_away(f"no answer within {self.patience_seconds:g} s")
            raise StoreUnavailable(
                f"PostgreSQL gives no answer within {self.patience_seconds:g} s"
            ) from error
        except OSError as error:
            connection.terminate()
            raise StoreUnavailable(said(error)) from error
        except StoreUnavailable:
            raise
        except BaseException:  # also when the caller was cancelled in the middle of a statement
            connection.terminate()
            raise
        finally:
            if self._closed:
                connection.terminate()
            elif not connection.is_closed():
                self._idle.append(connection)
            self._places.release()

    def _refuse_when_away(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._away:
            raise StoreUnavailable(f"PostgreSQL is away: {self._away}")

    def _went_away(self, why: str) -> None:
        """Refuse everybody from now on, until a new connection succeeds."""
        self._forget_idle()
        if self._away or self._closed:
            return
        self._away = why
        _log.error("the store is away", extra={"cause": why})
        self._looking = asyncio.get_running_loop().create_task(self._look_again())

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            try:
                connection = await self.connect()
            except (OSError, ValueError, *FAILURES) as error:
                self._away = said(error)
                continue
            connection.terminate()  # it has no place in the pool
            self._away = ""
            _log.info("the store is back")
            return

    def _forget_idle(self) -> None:
        """Close what is idle: it leads to the same server, and each would have to fail by itself."""
        while self._idle:
            self._idle.pop().terminate()


def _looks_for_nothing(sql: str, values: tuple[object, ...]) -> bool:
    """Whether it looks for a text with a zero byte, which no column can hold. To store one is refused."""
    return not sql.startswith("INSERT") and any(isinstance(v, str) and "\0" in v for v in values)


def _is_away(error: Exception) -> bool:
    """Whether the server is starting, stopping or gone, rather than refusing this one connection."""
    return isinstance(
        error,
        asyncpg.CannotConnectNowError
        | asyncpg.PostgresConnectionError
        | asyncpg.TargetServerAttributeNotMatched,
    )


def said(error: Exception) -> str:
    """The error without DETAIL and HINT, which may repeat what was to be stored."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = str(error.args[0]) if error.args and isinstance(error, asyncpg.PostgresError) else str(error)
    return text.splitlines()[0] if text else type(error).__name__


def _changed(status: str) -> int:
    """The number of rows in a command tag such as INSERT 0 1 or DELETE 3."""
    count = status.rpartition(" ")[2]
    return int(count) if count.isdigit() else 0

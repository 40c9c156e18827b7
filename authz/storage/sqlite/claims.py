"""Single-use claims in SQLite: those of one turn of the event loop share one commit, and one page.

What may be used once within minutes stands in replay_claim in the order in which it was claimed. Whether a key was
used, a process knows from the rows that it has read; its own new ones go behind the newest row, by a statement that
adds nothing when another process has added a row meanwhile. Then it reads that first, and so it goes on until it is
alone again. So a claim is still one atomic step among all processes, and nobody is told before it is committed. A commit
costs about 20 µs, one more claim in it 3.

A request that spends several keys, and stores a row that hangs on them, has all of it in that one commit: a key is
claimed when those before it are won, the row is written when all are.

Claims of places and deeds are few; they stand in claim, by their key.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence

from authz.storage.claims import Namespace, SingleUse
from authz.storage.replay import REPLAY, UsedKeys
from authz.storage.sqlite.connection import SqliteConnection
from authz.storage.store import StoreUnavailable

_AT_ONCE = 100  # claims in one commit: less than a millisecond
_NEVER_READ = 0  # the first row has number 1
# An expired row with the same key is taken over in the same statement.
_CLAIM_PLACE = (
    "INSERT INTO claim (namespace, key, expires_at) VALUES (?1, ?2, ?3)"
    " ON CONFLICT (namespace, key) DO UPDATE SET expires_at = ?3 WHERE claim.expires_at <= ?4"
)
_BEHIND = " WHERE (SELECT MAX(sequence) FROM replay_claim) = ?1"
_APPEND_ONE = f"INSERT INTO replay_claim SELECT ?1 + 1, ?2, ?3, ?4{_BEHIND}"
_APPEND = (
    "INSERT INTO replay_claim SELECT ?1 + column1, column2, column3, column4 FROM (VALUES {rows})"  # noqa: S608
    + _BEHIND
)
_READ = "SELECT sequence, namespace, key, expires_at FROM replay_claim WHERE sequence > ? ORDER BY sequence"
# From the oldest on as far as all have expired: there is no index that each claim would have to write to.
_EXPIRED = (
    "SELECT sequence FROM replay_claim WHERE namespace <> '' AND sequence < COALESCE((SELECT sequence FROM replay_claim"
    " WHERE expires_at > ?1 ORDER BY sequence LIMIT 1), (SELECT MAX(sequence) FROM replay_claim))"
    " ORDER BY sequence LIMIT ?2"
)
_EMPTY_NEWEST = (
    "UPDATE replay_claim SET namespace = '', key = x'', expires_at = 0 WHERE expires_at <= ? AND namespace <> ''"
    " AND sequence = (SELECT MAX(sequence) FROM replay_claim)"
)


Write = Callable[[sqlite3.Connection], None]
"""Writes in the transaction that it is given."""


class _Use:
    __slots__ = ("key", "mark", "namespace", "until")

    def __init__(self, namespace: str, key: bytes, until: int) -> None:
        self.namespace = namespace
        self.key = key
        self.mark = UsedKeys.mark(namespace, key)
        self.until = until


class _Request:
    """Keys to be claimed in this order, and what is written when all are won."""

    __slots__ = ("fresh", "now", "uses", "won", "write")

    def __init__(self, uses: Sequence[_Use], write: Write | None, now: int, won: asyncio.Future[int]) -> None:
        self.uses = uses
        self.write = write
        self.now = now
        self.won = won
        self.fresh = 0  # so many of its keys are free, from the first one on


class SqliteClaims:
    """Makes claims over one connection."""

    def __init__(self, database: SqliteConnection) -> None:
        self._database = database
        self._waiting: list[_Request] = []
        self._used = UsedKeys()
        self._newest = _NEVER_READ  # the newest row of replay_claim that this process knows
        self._is_shared = False  # another process claimed between our last two commits, and will have again

    async def claim(self, namespace: Namespace, key: bytes, *, until: int, now: int) -> bool:
        """True for the first that names this key before until. Raises StoreUnavailable: nothing was claimed."""
        if namespace not in REPLAY:
            return self._database.change(_CLAIM_PLACE, str(namespace), key, until, now) == 1
        return await self._ask((_Use(namespace.value, key, until),), None, now) == 1

    async def claim_in_order(self, uses: Sequence[SingleUse], write: Write | None, *, now: int) -> int:
        """Claim each, up to one that is not free, and write when all are won; how many were won.

        What write does is taken back, and done again alone, where one beside it fails. Raises StoreUnavailable: nothing
        was claimed and nothing written.
        """
        return await self._ask([_Use(use.namespace.value, use.key, use.until) for use in uses], write, now)

    async def _ask(self, uses: Sequence[_Use], write: Write | None, now: int) -> int:
        loop = asyncio.get_running_loop()
        request = _Request(uses, write, now, loop.create_future())
        self._waiting.append(request)
        if len(self._waiting) == 1:
            # In the next turn: what else this turn has to claim comes along.
            loop.call_soon(self._make)
        return await request.won

    def remove_expired(self, *, now: int, at_most: int) -> int:
        """Delete at most so many expired rows, the oldest first."""
        with self._database.transaction() as connection:
            expired = connection.execute(_EXPIRED, (now, at_most)).fetchall()
            if expired:
                connection.execute("DELETE FROM replay_claim WHERE sequence <= ?", (expired[-1][0],))
            emptied = 0
            if len(expired) < at_most:
                emptied = connection.execute(_EMPTY_NEWEST, (now,)).rowcount
        return len(expired) + emptied

    def _make(self) -> None:
        requests, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._make)
        try:
            self._commit(requests)
        except Exception as error:
            # A row that cannot be written must not cost the others their claims; a store that is away does.
            if len(requests) > 1 and not isinstance(error.__cause__, sqlite3.OperationalError):
                for request in requests:
                    self._make_alone(request)
                return
            for request in requests:
                _fail(request, error)
            return
        for request in requests:
            _tell(request)

    def _make_alone(self, request: _Request) -> None:
        try:
            self._commit([request])
        except Exception as error:
            _fail(request, error)
        else:
            _tell(request)

    def _commit(self, requests: Sequence[_Request]) -> None:
        """Claim what is free, and write the rows that hang on it; all of it is committed when this returns."""
        fresh = self._fresh(requests)
        writing = [request for request in requests if request.write is not None]
        if writing:
            with self._database.transaction() as connection:
                if fresh and (
                    self._is_shared
                    or not self._append(lambda sql, *values: connection.execute(sql, values).rowcount, fresh)
                ):
                    fresh = self._append_anew(connection, requests)
                for request in writing:
                    if request.write is not None and request.fresh == len(request.uses):
                        request.write(connection)
        elif fresh and (self._is_shared or not self._append(self._database.change, fresh)):
            with self._database.transaction() as connection:
                fresh = self._append_anew(connection, requests)
        if fresh:
            self._newest += len(fresh)
            self._used.remember([(use.mark, use.until) for use in fresh], requests[0].now)

    def _append_anew(self, connection: sqlite3.Connection, requests: Sequence[_Request]) -> Sequence[_Use]:
        """Read what others have claimed, and write what is free then; those uses."""
        self._read(connection, requests[0].now)
        fresh = self._fresh(requests)
        connection.executemany(
            "INSERT INTO replay_claim VALUES (?, ?, ?, ?)",
            [
                (number, use.namespace, use.key, use.until)
                for number, use in enumerate(fresh, self._newest + 1)
            ],
        )
        return fresh

    def _fresh(self, requests: Sequence[_Request]) -> Sequence[_Use]:
        """The keys that are free, as far as is known here; of two with one key the first, of each request up to one
        that is not."""
        fresh: dict[int, _Use] = {}
        for request in requests:
            request.fresh = 0
            for use in request.uses:
                if use.until <= request.now or use.mark in fresh or self._used.is_used(use.mark, request.now):
                    break  # one that is over before it begins could be told to nobody
                fresh[use.mark] = use
                request.fresh += 1
        return list(fresh.values())

    def _append(self, change: Callable[..., int], fresh: Sequence[_Use]) -> int:
        """Write them behind the newest row that is known; 0 and nothing written when that is not the newest."""
        if len(fresh) == 1:
            (use,) = fresh
            return change(_APPEND_ONE, self._newest, use.namespace, use.key, use.until)
        values: list[object] = [self._newest]
        for number, use in enumerate(fresh, start=1):
            values += (number, use.namespace, use.key, use.until)
        rows = ", ".join(["(?, ?, ?, ?)"] * len(fresh))
        return change(_APPEND.format(rows=rows), *values)

    def _read(self, connection: sqlite3.Connection, now: int) -> None:
        """Learn what others have claimed. The write lock is held: the last row is the newest."""
        rows = connection.execute(_READ, (self._newest,)).fetchall()
        self._is_shared = bool(rows)
        if rows:
            uses = [
                (UsedKeys.mark(namespace, key), until) for _, namespace, key, until in rows if until > now
            ]
            self._used.remember(uses, now)
            self._newest = rows[-1][0]


def _tell(request: _Request) -> None:
    if not request.won.done():  # whoever went away has made its claim all the same
        request.won.set_result(request.fresh)


def _fail(request: _Request, error: Exception) -> None:
    if not request.won.done():  # an error of each one's own: the traceback is written into it
        request.won.set_exception(StoreUnavailable(f"the claim cannot be made: {error}"))

"""Single-use claims in SQLite: those of one turn of the event loop share one commit, and one page.

What may be used once within minutes stands in replay_claim in the order in which it was claimed. Whether a key was
used, a process knows from the rows that it has read; its own new ones go behind the newest row, by a statement that
adds nothing when another process has added a row meanwhile. Then it reads that first. So a claim is still one atomic
step among all processes, and nobody is told before it is committed. A commit costs about 20 µs, one more claim in it 3.

Claims of places and deeds are few; they stand in claim, by their key.
"""

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence

from authz.storage.replay import REPLAY, UsedKeys
from authz.storage.sqlite.connection import SqliteConnection
from authz.storage.store import Namespace, StoreUnavailable

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
_READ = "SELECT namespace, key, expires_at FROM replay_claim WHERE sequence > ? AND expires_at > ?"
_NEWEST = "SELECT MAX(sequence) FROM replay_claim"
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


class _Claim:
    __slots__ = ("key", "mark", "namespace", "now", "until", "won")

    def __init__(
        self, namespace: str, key: bytes, mark: int, until: int, now: int, won: asyncio.Future[bool]
    ) -> None:
        self.namespace = namespace
        self.key = key
        self.mark = mark
        self.until = until
        self.now = now
        self.won = won


class SqliteClaims:
    """Makes claims over one connection."""

    def __init__(self, database: SqliteConnection) -> None:
        self._database = database
        self._waiting: list[_Claim] = []
        self._used = UsedKeys()
        self._newest = _NEVER_READ  # the newest row of replay_claim that this process knows

    async def claim(self, namespace: Namespace, key: bytes, *, until: int, now: int) -> bool:
        """True for the first that names this key before until. Raises StoreUnavailable: nothing was claimed."""
        if namespace not in REPLAY:
            return self._database.change(_CLAIM_PLACE, str(namespace), key, until, now) == 1
        loop = asyncio.get_running_loop()
        word = namespace.value
        claim = _Claim(word, key, self._used.mark(word, key), until, now, loop.create_future())
        self._waiting.append(claim)
        if len(self._waiting) == 1:
            # In the next turn: what else this turn has to claim comes along.
            loop.call_soon(self._make)
        return await claim.won

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
        claims, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._make)
        try:
            won = self._made(claims)
        except Exception as error:
            for claim in claims:
                if not claim.won.done():  # an error of each one's own: the traceback is written into it
                    claim.won.set_exception(StoreUnavailable(f"the claim cannot be made: {error}"))
            return
        for claim in claims:
            if not claim.won.done():  # whoever went away has made its claim all the same
                claim.won.set_result(won.get(claim.mark) is claim)

    def _made(self, claims: Sequence[_Claim]) -> Mapping[int, _Claim]:
        """Those of the claims that are won, by their marks. They are committed."""
        fresh = self._fresh(claims)
        if fresh and self._append(list(fresh.values())) == 0:  # another process was here
            with self._database.transaction() as connection:
                self._read(connection, claims[0].now)
                fresh = self._fresh(claims)
                connection.executemany(
                    "INSERT INTO replay_claim VALUES (?, ?, ?, ?)",
                    [
                        (number, claim.namespace, claim.key, claim.until)
                        for number, claim in enumerate(fresh.values(), self._newest + 1)
                    ],
                )
        if fresh:
            self._newest += len(fresh)
            self._used.remember([(claim.mark, claim.until) for claim in fresh.values()], claims[0].now)
        return fresh

    def _fresh(self, claims: Sequence[_Claim]) -> Mapping[int, _Claim]:
        """Those whose key is free, as far as is known here; of two with one key the first."""
        fresh: dict[int, _Claim] = {}
        for claim in claims:
            if claim.mark not in fresh and not self._used.is_used(claim.mark, claim.now):
                fresh[claim.mark] = claim
        return fresh

    def _append(self, fresh: Sequence[_Claim]) -> int:
        """Write them behind the newest row that is known; 0 and nothing written when that is not the newest."""
        if len(fresh) == 1:
            (claim,) = fresh
            return self._database.change(_APPEND_ONE, self._newest, claim.namespace, claim.key, claim.until)
        values: list[object] = [self._newest]
        for number, claim in enumerate(fresh, start=1):
            values += (number, claim.namespace, claim.key, claim.until)
        rows = ", ".join(["(?, ?, ?, ?)"] * len(fresh))
        return self._database.change(_APPEND.format(rows=rows), *values)

    def _read(self, connection: sqlite3.Connection, now: int) -> None:
        """Learn what others have claimed. The write lock is held: the last row is the newest."""
        rows = connection.execute(_READ, (self._newest, now)).fetchall()
        self._used.remember([(self._used.mark(namespace, key), until) for namespace, key, until in rows], now)
        self._newest = connection.execute(_NEWEST).fetchone()[0]

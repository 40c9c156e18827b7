"""Signing tree heads beside the requests: every so many records, every so many seconds, and at the end.

Any number of nodes may run it. The one that signed last goes on; another one takes over when records stay uncovered
for three periods, or when the newest head is as old: processes that never live so long must not leave all unsigned.
A head is added under the number behind the newest, so two never are in force together. A chain that is not whole is
not signed: the operator hears of it.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from authz.keys.encryption_key import KeyRingError
from authz.protocol.encoding import base64url
from authz.storage.audit_seals import TreeHead
from authz.storage.store import Store, StoreUnavailable
from gateway.audit.following import ChainBroken, Follower
from gateway.audit.heads import BadSeal, Head, digest_of, read_head, sign_head
from gateway.audit.keys import AuditKeys
from gateway.audit.log import AuditLog
from gateway.quiet import Moment, any_moment

Deliver = Callable[[TreeHead], Awaitable[None]]
_PERIODS_UNTIL_TAKEN_OVER = 3
_log = logging.getLogger("securus.audit")


@dataclass(frozen=True, slots=True)
class Often:
    """How often a head is signed: when so many records are uncovered, or one is for so many seconds."""

    records: int = 1000
    seconds: float = 60.0


class Checkpoints:
    """Signs the heads of a store's chains."""

    def __init__(
        self,
        *,
        store: Store,
        log: AuditLog,
        keys: AuditKeys,
        often: Often,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        deliver: Sequence[Deliver] = (),
        covered: Callable[[float], None] | None = None,
        whole: Callable[[bool], None] | None = None,
        moment: Moment = any_moment,
    ) -> None:
        """covered is told the time at which no record was uncovered, whole whether the chains are.

        What is read for a head is read at moments that suit.
        """
        self._store = store
        self._log = log
        self._keys = keys
        self._often = often
        self._clock = clock
        self._monotonic = monotonic
        self._deliver = deliver
        self._covered = covered
        self._whole = whole
        self._follower = Follower(store, moment)
        self._number = -1  # of the newest head that is known; -1 before the first look
        self._highest = 0
        self._previous = b""
        self._signed_at = 0.0  # what the newest head says of its time
        self._since = 0.0  # since when, in monotonic seconds, a record is uncovered
        self._leads = False
        self._complained = ""

    @property
    def leads(self) -> bool:
        """Whether this process signed last."""
        return self._leads

    async def round(self) -> None:
        """Sign a head where one is due. Raises StoreUnavailable, AuditUnavailable."""
        await self._attempt(at_once=False)

    async def finish(self) -> None:
        """Sign what is uncovered, where this process is the one that signs. Raises as round() does."""
        if self._leads:
            await self._attempt(at_once=True)

    async def _attempt(self, *, at_once: bool) -> None:
        try:
            await self._look()
            if not self._leads and not self._must_take_over():
                return
            is_all = await self._follower.follow()
        except (ChainBroken, BadSeal) as error:
            self._say(is_whole=False)
            if str(error) != self._complained:  # once, not every second
                _log.error("the audit log is not whole and is not signed", extra={"cause": str(error)})
            self._complained = str(error)
            self._number = -1  # looked at anew next time: the operator may have put it right
            return
        except KeyRingError as error:
            raise StoreUnavailable(str(error)) from error
        self._say(is_whole=True)
        self._complained = ""
        now, news = self._monotonic(), self._follower.news
        if not news:
            self._since = now
            if self._covered is not None:
                self._covered(self._clock())
        elif at_once or news >= self._often.records or now - self._since >= self._often.seconds or not is_all:
            await self._sign()

    async def _look(self) -> None:
        """Take in the newest head, where it is another node's. Raises ChainBroken, BadSeal, KeyRingError."""
        newest = await self._store.newest_tree_head()
        number = 0 if newest is None else newest.number
        if number == self._number:
            return
        if number < self._highest:
            raise ChainBroken(f"head {self._highest} is gone: the newest is {number}")
        await self._keys.load()
        head = None if newest is None else read_head(newest.head, self._keys.public)
        self._follower.begin(head, b"" if newest is None else newest.frontier)
        self._leads = False
        self._number = self._highest = number
        self._previous = b"" if newest is None else digest_of(newest.head)
        self._signed_at = 0.0 if head is None else datetime.fromisoformat(head.at).timestamp()
        self._since = self._monotonic()

    def _must_take_over(self) -> bool:
        """Whether to sign where another node has so far: it has not for long, or nobody did."""
        if self._number == 0:
            return True
        waited = max(self._monotonic() - self._since, self._clock() - self._signed_at)
        return waited >= _PERIODS_UNTIL_TAKEN_OVER * self._often.seconds

    async def _sign(self) -> None:
        at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        states = self._follower.states()
        head = Head(self._number + 1, at.replace("+00:00", "Z"), self._previous, states)
        try:
            signer = await self._keys.signer()
            sealed = await sign_head(head, signer)
        except KeyRingError as error:
            raise StoreUnavailable(str(error)) from error
        row = TreeHead(head.number, sealed, self._follower.frontier())
        if not await self._store.add_tree_head(row):
            self._leads = False
            return  # another node was first: its head is looked at next time
        self._number = self._highest = head.number
        self._previous, self._leads = digest_of(sealed), True
        self._follower.covered()
        self._since = self._monotonic()
        said = {
            "event": "audit-head",
            "head": head.number,
            "digest": base64url(self._previous),
            "kid": signer.kid,
        }
        for deliver in self._deliver:
            await deliver(row)
        await self._log.record(said)

    def _say(self, *, is_whole: bool) -> None:
        if self._whole is not None:
            self._whole(is_whole)

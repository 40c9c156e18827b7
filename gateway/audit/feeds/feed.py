"""One feed: the records of every chain to its destination, in their order, each at least once, with a place that lasts.

The place moves after the destination took the records: who ends in between delivers them again, and the ids of the
events tell. A destination that is away is asked again later and later. A record that it refuses while it takes others
is put on record as refused (`audit-feed-refused`) and passed by, so that it does not hold up the rest; where it
refuses everything, nothing is passed by: that is a fault of its own, or of ours, for the operator to mend.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from authz.clock import Clock
from authz.storage.audit_lines import AuditLine
from authz.storage.store import Store
from gateway.audit.events.codes import Json
from gateway.audit.events.mapping import audit_events
from gateway.audit.events.record import Recorder
from gateway.audit.feeds.destination import Destination, DestinationAway
from gateway.audit_settings import FeedSettings

REFUSED = "audit-feed-refused"
_IS_REFUSAL = f'"event":"{REFUSED}"'.encode()  # what a caller wrote has its quotes escaped
_FIRST_PAUSE_SECONDS = 1
_LONGEST_PAUSE_SECONDS = 300
_ROUND_RECORDS = 5000  # then others get a turn
_TRANSLATED_IN_ONE_TURN = 8  # records: less than a millisecond, as the same loop answers requests
_TRIES_ALONE = 5  # of a record that is refused and has no other beside it
_log = logging.getLogger("securus.audit")
Note = Callable[[Mapping[str, object]], Awaitable[None]]


def pause_seconds(failures: int) -> int:
    """How long to wait after so many failures in a row: 1 s, 2 s, 4 s … five minutes."""
    return int(min(_FIRST_PAUSE_SECONDS * 2 ** min(max(failures, 1) - 1, 20), _LONGEST_PAUSE_SECONDS))


@dataclass(frozen=True, slots=True)
class _Made:
    """A record and what it became; problem says why it became nothing."""

    sequence: int
    events: Sequence[Json]
    is_refusal: bool = False
    problem: str = ""


class Feed:
    """A feed. count is told 'delivered', 'failed' or 'refused' and of how many records."""

    def __init__(
        self,
        settings: FeedSettings,
        destination: Destination,
        *,
        store: Store,
        recorder: Recorder,
        note: Note,
        count: Callable[[str, int], None],
        clock: Clock,
    ) -> None:
        self.settings = settings
        self._destination = destination
        self._store = store
        self._recorder = recorder
        self._note = note
        self._count = count
        self._clock = clock
        self._failures = 0
        self._failed_at = self._due_at = 0
        self._refused_alone: tuple[str, int, int] = ("", 0, 0)  # chain, sequence, how often
        self._has_taken = False  # the destination took something since a record was passed by alone

    async def begin(self) -> None:
        """Take a place in every chain where this feed has none yet. Raises StoreUnavailable."""
        if await self._store.audit_feed(self.settings.name):
            return
        heads = await self._store.audit_heads()
        for chain in {"", *heads}:
            at = heads.get(chain, (0, b""))[0]
            to = 0 if self.settings.from_beginning else at
            await self._store.move_audit_feed(self.settings.name, chain, expected=None, to=to)

    async def deliver(self) -> None:
        """One round over all chains, unless a pause after a failure lasts. Raises StoreUnavailable, AuditUnavailable."""
        # A clock that was set back since says nothing of pauses.
        if self._failed_at <= self._clock() < self._due_at:
            return
        places = await self._store.audit_feed(self.settings.name)
        try:
            for chain, (head, _) in sorted((await self._store.audit_heads()).items()):
                if head > places.get(chain, 0):
                    await self._chain(chain, places.get(chain))
        except DestinationAway as error:
            self._failures += 1
            self._failed_at = self._clock()
            self._due_at = self._failed_at + pause_seconds(self._failures)
            self._count("failed", 1)
            _log.warning(
                "an audit feed does not take records",
                extra={"detail": self.settings.name, "cause": str(error), "count": self._failures},
            )
        else:
            self._failures = 0

    async def close(self) -> None:
        """Close the connection to the destination."""
        await self._destination.close()

    async def _chain(self, chain: str, place: int | None) -> None:
        done = 0
        while done < _ROUND_RECORDS:
            lines = await self._store.audit(after=place or 0, limit=self.settings.at_once, chain=chain)
            if not lines:
                return
            made: list[_Made] = []
            for line in lines:
                made.append(self._made(line, chain))
                if len(made) % _TRANSLATED_IN_ONE_TURN == 0:
                    await asyncio.sleep(0)
            # Who stood still meanwhile, for so long that another has the place of this feed, finds its lines delivered.
            if (await self._store.audit_feed(self.settings.name)).get(chain) != place:
                return
            await self._records(chain, made)
            to = lines[-1].sequence
            if not await self._store.move_audit_feed(self.settings.name, chain, expected=place, to=to):
                return  # another process delivers this feed: it knows better where it is
            self._count("delivered", len(lines))
            place, done = to, done + len(lines)

    def _made(self, line: AuditLine, chain: str) -> _Made:
        try:
            events = audit_events(line.line, self._recorder, chain=chain)
        except ValueError:  # 'securus audit verify' finds it too; the records behind it are not held up
            return _Made(line.sequence, (), problem="the record cannot be read")
        return _Made(line.sequence, events, _IS_REFUSAL in line.line)

    async def _records(self, chain: str, made: Sequence[_Made]) -> None:
        events = [event for each in made for event in each.events]
        taken = await self._destination.deliver(events) if events else None
        refused = {} if taken is None else taken.refused
        wrong = {each.sequence: why for each in made if (why := each.problem or _why(each, refused))}
        is_all = bool(wrong) and len(wrong) == len(made)
        if is_all and not self._may_pass(chain, made):
            raise DestinationAway(
                f"every one of {len(made)} records is refused: {next(iter(wrong.values()))}"
            )
        self._has_taken = not is_all
        for each in made:
            if each.sequence in wrong:
                await self._pass_by(chain, each, wrong[each.sequence])

    def _may_pass(self, chain: str, made: Sequence[_Made]) -> bool:
        """Whether a record that is refused without any beside it was tried often enough, by one who takes others."""
        if len(made) > 1 or not self._has_taken:
            return False
        before = self._refused_alone
        times = before[2] + 1 if before[:2] == (chain, made[0].sequence) else 1
        self._refused_alone = (chain, made[0].sequence, times)
        return times >= _TRIES_ALONE

    async def _pass_by(self, chain: str, each: _Made, why: str) -> None:
        """Put it on record that this record is not at the destination; not of such a record itself, without end."""
        self._count("refused", 1)
        _log.error(
            "an audit feed refused a record", extra={"detail": self.settings.name, "count": each.sequence}
        )
        if not each.is_refusal:
            said = {"feed": self.settings.name, "chain": chain, "sequence": each.sequence, "detail": why}
            await self._note({"event": REFUSED, **said})


def _why(each: _Made, refused: Mapping[str, str]) -> str:
    return next((refused[str(event["id"])] for event in each.events if str(event["id"]) in refused), "")

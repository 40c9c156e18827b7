"""How far feeds lag, and whether writes must wait for them: what cannot leave the house must not grow without end."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from authz.clock import Clock
from authz.storage.audit_lines import AuditLine
from authz.storage.store import Store
from gateway.audit_settings import FeedSettings


@dataclass(frozen=True, slots=True)
class Lag:
    """What a feed has not delivered: how many records, and how many seconds ago the oldest of them was written."""

    records: int = 0
    seconds: float = 0.0


async def lag_of(store: Store, settings: FeedSettings, *, now: float) -> Lag:
    """The lag of a feed. Raises StoreUnavailable."""
    heads, places = await store.audit_heads(), await store.audit_feed(settings.name)
    if not places:
        return Lag()  # it is new, and takes its place with the first round
    records, oldest = 0, now
    for chain, (head, _) in heads.items():
        place = places.get(chain, 0)
        if head > place:
            records += head - place
            lines = await store.audit(after=place, limit=1, chain=chain)
            oldest = min(oldest, *(_at(line, now) for line in lines), now)
    return Lag(records, max(0.0, now - oldest))


def _at(line: AuditLine, now: float) -> float:
    """When a record was written; now where it does not say: verify() finds that."""
    try:
        return datetime.fromisoformat(str(json.loads(line.line)["at"])).timestamp()
    except (ValueError, KeyError, TypeError, RecursionError):
        return now


def is_too_far(settings: FeedSettings, lag: Lag) -> bool:
    """Whether the feed lags further than writes may go on."""
    too_many = settings.refuse_after_records is not None and lag.records > settings.refuse_after_records
    return too_many or (settings.refuse_after is not None and lag.seconds > settings.refuse_after)


class Backlog:
    """Whether writes are refused, as it was found last, in this process."""

    def __init__(self, store: Store, feeds: Sequence[FeedSettings], clock: Clock) -> None:
        self._store = store
        self._feeds = feeds
        self._clock = clock
        self.lags: dict[str, Lag] = {}
        self.is_full = False

    async def look(self) -> None:
        """Find out. Raises StoreUnavailable; what was found before holds on."""
        now = self._clock()
        self.lags = {each.name: await lag_of(self._store, each, now=now) for each in self._feeds}
        self.is_full = any(is_too_far(each, self.lags[each.name]) for each in self._feeds)

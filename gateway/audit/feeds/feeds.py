"""All feeds of a configuration: delivered by one process at a time, watched by every one."""

import logging
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from authz.clock import Clock
from authz.storage.store import Store
from gateway.audit.events.record import Recorder
from gateway.audit.feeds.backlog import Backlog
from gateway.audit.feeds.destination import Destination
from gateway.audit.feeds.feed import Feed
from gateway.audit.feeds.lease import Place
from gateway.audit.log import AuditLog
from gateway.audit.recorder import recorder_of
from gateway.audit_settings import FeedKind, FeedSettings
from gateway.settings import GatewaySettings
from gateway.telemetry import Metrics

_SECONDS = 1.0
Repeat = Callable[[Callable[[], Awaitable[None]], float], None]
"""Has work done again and again, with so many seconds between."""
_log = logging.getLogger("securus.audit")


class Feeds:
    """The feeds. Nothing where the configuration has none."""

    def __init__(
        self,
        feeds: tuple[FeedSettings, ...],
        *,
        store: Store,
        recorder: Recorder,
        audit: AuditLog,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._backlog = Backlog(store, feeds, clock)
        self._was_full = False
        self._leads = False
        self._feeds = [
            Feed(
                settings,
                _destination(settings, recorder),
                store=store,
                recorder=recorder,
                note=audit.record,
                count=self._counter(settings.name),
                clock=clock,
            )
            for settings in feeds
        ]

    def may_write(self) -> bool:
        """Whether writes to FHIR bases go on: False where a feed lags too far."""
        return not self._backlog.is_full

    async def open(self, repeat: Repeat) -> None:
        """Take the places of new feeds, find out how far the others lag, and keep watching. Raises StoreUnavailable."""
        for feed in self._feeds:
            await feed.begin()
        if self._feeds:
            await self._watch()
            repeat(self._watch, _SECONDS)

    def lead(self, repeat: Repeat) -> None:
        """Deliver from now on."""
        self._leads = True
        for feed in self._feeds:
            repeat(self._round(feed), _SECONDS)

    async def close(self) -> None:
        """Close the connections to the destinations."""
        for feed in self._feeds:
            await feed.close()

    async def _watch(self) -> None:
        await self._backlog.look()
        for name, lag in self._backlog.lags.items() if self._leads else ():  # workers' gauges are added up
            self._metrics.audit_feed_lag.labels(name).set(lag.records)
            self._metrics.audit_feed_age.labels(name).set(lag.seconds)
        if self._backlog.is_full != self._was_full:
            self._was_full = self._backlog.is_full
            if self._was_full:
                _log.error("an audit feed lags too far: writes are refused")
            else:
                _log.info("the audit feeds have caught up: writes go on")

    def _round(self, feed: Feed) -> Callable[[], Awaitable[None]]:
        place = Place(self._store, feed.settings.name, self._clock)

        async def deliver() -> None:
            await place.while_held(feed.deliver)

        return deliver

    def _counter(self, name: str) -> Callable[[str, int], None]:
        def count(outcome: str, records: int) -> None:
            self._metrics.audit_feed_records.labels(name, outcome).inc(records)

        return count


async def open_feeds(
    settings: GatewaySettings, store: Store, audit: AuditLog, metrics: Metrics, clock: Clock, repeat: Repeat
) -> Feeds:
    """The feeds of the configuration, watched from now on. Raises StoreUnavailable."""
    recorder = recorder_of(settings)
    feeds = Feeds(
        settings.audit.feeds, store=store, recorder=recorder, audit=audit, metrics=metrics, clock=clock
    )
    await feeds.open(repeat)
    return feeds


def _destination(settings: FeedSettings, recorder: Recorder) -> Destination:
    """Where a feed goes. Only the kind that is configured is imported."""
    match settings.kind:
        case FeedKind.FHIR:
            from gateway.audit.feeds.fhir_feed import FhirFeed

            return FhirFeed(settings)
        case FeedKind.SYSLOG:
            from gateway.audit.feeds.syslog_feed import SyslogFeed

            return SyslogFeed(settings, urlsplit(recorder.issuer).hostname or "")
        case FeedKind.FILE:
            from gateway.audit.feeds.file_feed import FileFeed

            return FileFeed(settings)

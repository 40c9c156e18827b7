"""The outbox: messages of `then: notify`, written before the answer goes out, delivered beside the requests.

A message is claimed by one process at a time and stays in the store until its receiver answered with 2xx. What fails
is tried again, later each time; what is seven days old is given up, with a record in the audit log. A receiver may
get a message twice, when a process ended between its answer and our note of it: `id` tells.
"""

import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from authz.clock import Clock
from authz.fetch import Fetcher
from authz.fetched import FetchError
from authz.storage.effects import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Notification
from authz.storage.store import Store
from gateway.audit.log import AuditLog
from gateway.settings import GatewaySettings, Receiver
from gateway.telemetry import Metrics

# URL, body, Authorization header; raises FetchError
Post = Callable[[str, bytes, str | None], Awaitable[None]]

_LIFETIME_SECONDS = 7 * 86400
_CLAIMED_SECONDS = 90  # more than twenty deliveries can take
_AT_ONCE = 20
_log = logging.getLogger("securus.notifications")


def message(receiver: str, said: Mapping[str, object], *, now: int) -> Notification:
    """A message for the outbox. said holds names and ids, as the audit record has them, and no text of a person."""
    id_ = secrets.token_urlsafe(16)
    at = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    content = json.dumps({"id": id_, "at": at, **said}, ensure_ascii=False, sort_keys=True).encode()
    return Notification(id_, receiver, content, due_at=now, expires_at=now + _LIFETIME_SECONDS)


def pause_seconds(attempts: int) -> int:
    """How long to wait after so many deliveries that failed: 5 s, 10 s, 20 s … one hour."""
    return int(min(FIRST_PAUSE_SECONDS * 2 ** min(max(attempts, 1) - 1, 20), LONGEST_PAUSE_SECONDS))


class Outbox:
    """Delivers what is in the outbox of the store."""

    def __init__(
        self,
        *,
        store: Store,
        receivers: Mapping[str, Receiver],
        post: Post,
        audit: AuditLog,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._store = store
        self._receivers = receivers
        self._post = post
        self._audit = audit
        self._metrics = metrics
        self._clock = clock

    async def deliver(self) -> None:
        """One round over what is due. Raises StoreUnavailable, AuditUnavailable."""
        waiting = await self._store.waiting_notifications()
        self._metrics.notifications_waiting.set(waiting)
        if not waiting:
            return
        now = self._clock()
        for old in await self._store.expire_notifications(now=now, at_most=_AT_ONCE):
            self._count(old.receiver, "expired")
            _log.error(
                "a notification was never delivered", extra={"detail": self._name(old), "count": old.attempts}
            )
            said = {"event": "notification-expired", "notification": old.id, "receiver": old.receiver}
            await self._audit.record({**said, "attempts": old.attempts})
        due = await self._store.claim_notifications(now=now, until=now + _CLAIMED_SECONDS, at_most=_AT_ONCE)
        for each in due:
            try:
                await self._send(each)
            except FetchError as error:
                self._count(each.receiver, "failed")
                _log.warning(
                    "a notification was not delivered",
                    extra={"detail": self._name(each), "cause": str(error)},
                )
                await self._store.postpone_notification(
                    each.id, due_at=self._clock() + pause_seconds(each.attempts)
                )
                continue
            await self._store.delete_notification(each.id)
            self._count(each.receiver, "delivered")
        self._metrics.notifications_waiting.set(await self._store.waiting_notifications())

    async def _send(self, notification: Notification) -> None:
        receiver = self._receivers.get(notification.receiver)
        if receiver is None:
            raise FetchError("refused", "the configuration has no such receiver any more")
        if receiver.url is None:
            said = json.loads(notification.content)
            # Whom it was about stays in the audit log: the log of the process names no person.
            extra = {"detail": said.get("event"), "interaction_id": said.get("interaction_id")}
            extra["rule"] = " ".join(said.get("rules", ()))
            _log.warning("notification for %s", notification.receiver, extra=extra)
            return
        bearer = None if receiver.bearer is None else f"Bearer {receiver.bearer}"
        await self._post(receiver.url, notification.content, bearer)

    def _name(self, notification: Notification) -> str:
        known = notification.receiver in self._receivers
        return notification.receiver if known else "a receiver that is not configured"

    def _count(self, receiver: str, outcome: str) -> None:
        known = receiver if receiver in self._receivers else "other"
        self._metrics.notifications.labels(known, outcome).inc()


def outbox_of(
    settings: GatewaySettings, fetcher: Fetcher, store: Store, audit: AuditLog, metrics: Metrics, clock: Clock
) -> Outbox:
    """The outbox whose messages go out by the guarded client."""

    async def post(url: str, body: bytes, authorization: str | None) -> None:
        await fetcher.post(url, body, media_type="application/json", authorization=authorization)

    return Outbox(
        store=store, receivers=settings.notifications, post=post, audit=audit, metrics=metrics, clock=clock
    )

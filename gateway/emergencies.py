"""The end of emergency access: recorded once it is over, by one process of all that share a store."""

from authz.storage.claims import Namespace
from authz.storage.effects import Emergency
from authz.storage.store import Store
from gateway.audit.log import AuditLog

_AT_ONCE = 50
_CLAIMED_SECONDS = 60


def described(emergency: Emergency) -> dict[str, object]:
    """Emergency access as it stands in records."""
    return {
        "id": emergency.id,
        "rule": emergency.rule,
        "issuer": emergency.issuer,
        "client": emergency.client_id,
        "subject": emergency.subject,
        "patient": emergency.patient,
        "reason": emergency.reason,
        "started_at": emergency.started_at,
        "ends_at": emergency.ends_at,
    }


async def review(store: Store, audit: AuditLog, id: str, *, by: str, review: str, now: int) -> bool:
    """Write down what a review found, in the store and the log; False where it is reviewed or nothing is there.

    Raises StoreUnavailable, AuditUnavailable.
    """
    done = await store.review_emergency(id, by=by, review=review, now=now)
    if done:
        await audit.record({"event": "break-glass-review", "emergency": id, "by": by, "review": review})
    return done


async def note_ends(store: Store, audit: AuditLog, *, now: int) -> None:
    """Record what is over. Raises StoreUnavailable, AuditUnavailable.

    The record comes first and the mark after it: a process that ends in between leaves the end to be recorded again,
    never unrecorded.
    """
    for each in await store.ended_emergencies(now=now, at_most=_AT_ONCE):
        until = now + _CLAIMED_SECONDS
        if await store.claim(Namespace.EMERGENCY_END, each.id.encode(), until=until, now=now):
            await audit.record({"event": "break-glass-stop", "audit": "full", "emergency": described(each)})
            await store.note_emergency_end(each.id)

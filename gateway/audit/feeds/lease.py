"""The place of the one process that delivers a feed: held for half a minute, and renewed while it is at work.

Who is killed leaves it, and another goes on within that time. Who cannot renew it stops before it ends: from then on
another may be at work. A process that stood still for longer, and comes back, finds with its next renewal that its place
is gone; what it delivered until then is delivered twice and never lost, since places in the log move by comparison.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from authz.clock import Clock
from authz.storage.store import Namespace, Store, StoreUnavailable

LEASE_SECONDS = 30
RENEWED_AFTER_SECONDS = 7.5
_PATIENCE_SECONDS = 2.0  # for the store, at each renewal
_log = logging.getLogger("securus.audit")


async def while_held(
    store: Store,
    name: str,
    clock: Clock,
    work: Callable[[], Awaitable[None]],
    *,
    renewed_after_seconds: float = RENEWED_AFTER_SECONDS,
) -> None:
    """Do the work in the place of the feed of that name, unless another process has it; ended where the place is lost.

    Raises what the work raises, and StoreUnavailable where the place cannot be asked for.
    """
    key, now = name.encode(), clock()
    until = now + LEASE_SECONDS
    if not await store.claim(Namespace.AUDIT_FEED, key, until=until, now=now):
        return
    working = asyncio.ensure_future(work())
    try:
        while not (await asyncio.wait({working}, timeout=renewed_after_seconds))[0]:
            ends = clock() + LEASE_SECONDS
            is_held = await _renewed(store, key, held_until=until, until=ends)
            if is_held:
                until = ends
            elif is_held is False or clock() + renewed_after_seconds + _PATIENCE_SECONDS >= until:
                _log.warning("an audit feed is left to another process", extra={"detail": name})
                break
        else:
            await working
    finally:
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
        with suppress(StoreUnavailable):
            await store.renew(Namespace.AUDIT_FEED, key, held_until=until, until=clock())


async def _renewed(store: Store, key: bytes, *, held_until: int, until: int) -> bool | None:
    """Whether the place is still ours, and is from now on until then; None where nobody can say."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await store.renew(Namespace.AUDIT_FEED, key, held_until=held_until, until=until)
    except (StoreUnavailable, TimeoutError):
        return None

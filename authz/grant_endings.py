"""Grants ended by an administrator or by the person: those of a person, of a client, or of both together (I2).

And those that give way to a new one of the same app and person.
"""

import asyncio
from collections.abc import Container, Sequence

from authz.events import Emit, GrantRevoked
from authz.protocol.tokens import Grant
from authz.revocations import Revocations
from authz.storage.store import Store

_AT_ONCE = 20  # grants that are ended before others have their turn
_KEPT = 10  # grants of one app, person and record
NODES_SECONDS = 60  # clocks of our own nodes differ by less


async def end_grant(
    store: Store,
    grant_id: str,
    *,
    now: int,
    access_token_seconds: int,
    who: str,
    why: str,
    emit: Emit,
    revocations: Revocations | None,
    reason: str,
) -> None:
    """End one grant with all its tokens: here at once, within a second on every other node. Raises StoreUnavailable."""
    grant = await store.grant(grant_id, now=now)
    await store.revoke_grant(grant_id, now=now, keep_until=now + access_token_seconds + NODES_SECONDS)
    if revocations is not None:
        revocations.add(grant_id)
    if grant is not None:
        emit(GrantRevoked(grant_id, grant.client_id, reason, who, why))


async def end_grants(
    store: Store,
    *,
    subject: str | None,
    client_id: str | None,
    now: int,
    access_token_seconds: int,
    who: str,
    why: str,
    emit: Emit,
    revocations: Revocations | None = None,
    reason: str = "administrator",
    only: frozenset[str] | None = None,
) -> Sequence[Grant]:
    """End the live grants with all their tokens; those that were ended here.

    only are the ids of those that may be ended at all, every one without it.

    At once on the node whose revocations are given, within a second on every other. A grant that is ended by somebody
    else meanwhile is not told twice. Raises ValueError when neither subject nor client_id is given, StoreUnavailable.
    """
    if subject is None and client_id is None:
        raise ValueError("the grants of whom? subject or client_id must be given")
    ended = []
    for number, grant in enumerate(
        await store.grants(subject=subject, client_id=client_id, now=now), start=1
    ):
        if only is not None and grant.grant_id not in only:
            continue
        live = await store.revoke_grant(
            grant.grant_id, now=now, keep_until=now + access_token_seconds + NODES_SECONDS
        )
        if revocations is not None:
            revocations.add(grant.grant_id)
        if live:
            ended.append(grant)
            emit(GrantRevoked(grant.grant_id, grant.client_id, reason, who, why))
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)  # a store may answer without a wait, and a client may have very many
    return ended


async def end_oldest_grants(
    store: Store,
    beside: Grant,
    *,
    audiences: Container[str],
    older_than: int,
    now: int,
    access_token_seconds: int,
    emit: Emit,
    revocations: Revocations,
) -> bool:
    """Make room for a grant: end the oldest of those by which the same person let the same app into the same record.

    All but the ten newest, and one at least; of those alone that are for one of these audiences and were made before
    older_than, so that no app loses a code that is on its way to it. Whether there was one. Raises StoreUnavailable.
    """
    before = [
        each.grant_id
        for each in await store.grants(subject=beside.subject, client_id=beside.client_id, now=now)
        if each.context.get("patient") == beside.context.get("patient")
        and each.created_at < older_than
        and any(name in audiences for name in each.audience)
    ]
    if not before:
        return False
    await end_grants(
        store,
        subject=beside.subject,
        client_id=beside.client_id,
        now=now,
        access_token_seconds=access_token_seconds,
        who=beside.subject,
        why="the app was let in anew, and the record has no room for more consents",
        emit=emit,
        revocations=revocations,
        reason="replaced",
        only=frozenset(before[min(_KEPT, len(before) - 1) :]),  # the newest stand first
    )
    return True

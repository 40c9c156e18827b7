"""A process that works on the store until it is killed, and tells on its standard output what it was acknowledged.

Run as `python -m tests.support.doomed DATABASE NAME`. Each line is a verb and an id; `trying` verbs come before the
deed and say that its outcome may be open, the others come after the store acknowledged it.
"""

import asyncio
import os
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

from authz.storage.claims import Namespace
from authz.storage.grants import Redemption
from authz.storage.sqlite import connection as sqlite_connection
from authz.storage.sqlite.store import open_store
from authz.storage.store import Store
from gateway.audit.log import AuditLog
from tests.support.store_contract import CODE, GRANT, NOW, PUSHED, REFRESH

LATER = NOW + 90 * 86400


def say(verb: str, id: str) -> None:
    """One write to the pipe, so that it is there whole whenever the process dies."""
    os.write(1, f"{verb} {id}\n".encode())


async def live(store: Store, log: AuditLog, name: str) -> None:
    """Do everything that must not be lost, for ever."""
    for number in count():
        id = f"{name}.{number}"
        await store.put_grant(replace(GRANT, grant_id=id), expires_at=LATER)
        say("grant", id)
        await store.put_refresh_token(replace(REFRESH, id=id, grant_id=id))
        say("refresh", id)
        assert await store.claim(Namespace.DPOP_PROOF, id.encode(), until=LATER, now=NOW)
        say("claim", id)
        await store.put_pushed_request(replace(PUSHED, id=id))
        say("pushed", id)
        await asyncio.gather(*(log.record({"event": "access", "n": f"{id}.{part}"}) for part in range(3)))
        for part in range(3):
            say("audit", f"{id}.{part}")
        if number % 2:
            say("trying-complete", id)
            grant = replace(GRANT, grant_id=f"code.{id}")
            code = replace(CODE, id=id, grant_id=grant.grant_id, expires_at=LATER)
            done = await store.complete_authorization(
                request_id=id, interaction_id="", grant=grant, code=code, now=NOW
            )
            assert done
            say("completed", id)
        if number % 4 == 3:
            say("trying-redeem", id)
            redeemed = await store.redeem_code(id, now=NOW)
            assert redeemed is not None
            assert redeemed.redemption is Redemption.FIRST
            say("redeemed", id)
        if number % 3 == 2:
            say("trying-revoke", id)
            assert await store.revoke_grant(id, now=NOW, keep_until=LATER)
            say("revoked", id)
            await store.revoke_token(f"token.{id}", now=NOW, keep_until=LATER)
            say("revoked-token", id)


async def main() -> None:
    """Work until killed."""
    sqlite_connection._FOLD_IN_AFTER_CHANGES = 40  # so that many deaths fall into a checkpoint
    store = await open_store(Path(sys.argv[1]))
    log = await AuditLog.open(store, lambda: NOW)
    say("ready", sys.argv[2])
    await live(store, log, sys.argv[2])


if __name__ == "__main__":
    asyncio.run(main())

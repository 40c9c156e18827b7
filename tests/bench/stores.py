"""python -m tests.bench.stores: what claims, audit records and notices cost in each store, on this machine.

PostgreSQL is a private server without waiting for the disk; --fsync lets it wait. CPU is that of this process alone.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from authz.storage.claims import Namespace
from authz.storage.opening import open_storage
from authz.storage.settings import StoreSettings
from authz.storage.store import Store
from gateway.audit.log import AuditLog
from gateway.audit.verification import verify
from tests.support import postgresql
from tests.support.postgresql import private_server

_NOW = 1_800_000_000
_AT_ONCE = (1, 8, 64, 256)
_CLAIMS = 12_800
_NODES = ((1, 64), (2, 64), (4, 32))
_RECORDS = 50  # of each request at each node
_NOTICES = 100


async def _spent(work: Callable[[int], Awaitable[None]], *, lanes: int, each: int, things: int = 1) -> str:
    """Do work, which does so many things at once, so many times in each lane; what one thing cost."""

    async def lane() -> None:
        for number in range(each):
            await work(number)

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(lanes)))
    cpu, wall, done = time.process_time() - cpu, time.perf_counter() - wall, lanes * each * things
    return (
        f"{cpu / done * 1e6:6.1f} us CPU, {done / wall:7.0f} a second, each takes {wall / each * 1e3:6.2f} ms"
    )


async def _claims(storage: StoreSettings) -> None:
    store, numbers = await open_storage(storage), iter(range(10**9))

    async def claim(_: int) -> None:
        won = await store.claim(Namespace.DPOP_PROOF, b"%064d" % next(numbers), until=_NOW + 60, now=_NOW)
        if not won:
            raise AssertionError("a fresh key was refused")

    for lanes in _AT_ONCE:
        print(
            f"  claims, {lanes:3} at once: {await _spent(claim, lanes=lanes, each=_CLAIMS // max(lanes, 8))}"
        )
    await store.close()


async def _records(storage: StoreSettings) -> None:
    for nodes, lanes in _NODES:
        stores = [await open_storage(storage) for _ in range(nodes)]
        logs = [await AuditLog.open(store, time.time) for store in stores]

        async def record(number: int, logs: list[AuditLog] = logs) -> None:
            await asyncio.gather(
                *(log.record({"event": "access", "status": 200, "number": number}) for log in logs)
            )

        print(
            f"  records, {nodes} nodes × {lanes:2}: {await _spent(record, lanes=lanes, each=_RECORDS, things=nodes)}"
        )
        if not (await verify(stores[0])).whole:
            raise AssertionError("the chain is broken")
        for store in stores:
            await store.close()


async def _notices(storage: StoreSettings) -> None:
    here, there = await open_storage(storage), await open_storage(storage)
    await here.wait_for_change(at_most_seconds=5)
    took = sorted([await _notice(here, there, number) for number in range(_NOTICES)])
    print(
        f"  from a revocation until it is heard: {took[_NOTICES // 2] * 1e3:.1f} ms, at most {took[-1] * 1e3:.1f}"
    )
    await here.close()
    await there.close()


async def _notice(here: Store, there: Store, number: int) -> float:
    started = time.perf_counter()
    heard = asyncio.ensure_future(here.wait_for_change(at_most_seconds=5))
    await asyncio.sleep(0)
    await there.revoke_token(f"token{number}", now=_NOW, keep_until=_NOW + 60)
    await heard
    return time.perf_counter() - started


def main() -> None:
    """Measure both stores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fsync", action="store_true", help="PostgreSQL waits for the disk at each commit")
    if parser.parse_args().fsync:
        postgresql._SETTINGS.update({"fsync": "on", "full_page_writes": "on"})
    with tempfile.TemporaryDirectory(prefix="securus-bench-") as folder:
        print("SQLite")
        storage = StoreSettings(path=str(Path(folder) / "securus.db"))
        uvloop.run(_claims(storage))
        uvloop.run(_records(storage))
    with private_server() as server:
        print("PostgreSQL")
        database = asyncio.run(server.new_database())
        storage = StoreSettings("postgresql", "", postgresql=server.settings(database))
        uvloop.run(_claims(storage))
        uvloop.run(_records(storage))
        uvloop.run(_notices(storage))


if __name__ == "__main__":
    main()

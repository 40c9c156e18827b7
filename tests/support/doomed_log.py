"""A process that records, signs and retires until it is killed or its disk is full, and tells what was acknowledged.

Run as `python -m tests.support.doomed_log DATABASE FIRST [BYTES]`: numbers of records begin at FIRST; no file of it may
become longer than BYTES. Each record is a day after the one before.
"""

import asyncio
import os
import resource
import sys
from itertools import count
from pathlib import Path

from authz.storage.sqlite.store import open_store
from gateway.audit.checkpoints import Often
from gateway.audit.log import AuditUnavailable
from gateway.audit.retention import Retention
from tests.support.sealed_log import sealed_log

DAY = 86400
KEPT_DAYS = 60


def say(verb: str, number: int) -> None:
    """One write to the pipe, so that it is there whole whenever the process dies."""
    os.write(1, f"{verb} {number}\n".encode())


async def main() -> None:
    """Work until killed."""
    first = int(sys.argv[2])
    if len(sys.argv) > 3:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), hard))
    store = await open_store(Path(sys.argv[1]))
    world = await sealed_log(store, often=Often(records=3, seconds=60))
    world.clocks.pass_(first * DAY)
    world.checkpoints._number = -1
    keeper = Retention(
        store=store,
        log=world.logs[""],
        keys=world.keys,
        period_seconds=KEPT_DAYS * DAY,
        clock=lambda: world.clocks.wall,
        monotonic=lambda: world.clocks.steady,
    )
    for number in count(first):
        world.clocks.pass_(DAY)
        try:
            await world.logs[""].record({"event": "access", "n": number})
            say("recorded", number)
        except AuditUnavailable:
            say("refused", number)
            return
        await world.checkpoints.round()
        if number % 7 == 0:
            await keeper.round()


if __name__ == "__main__":
    asyncio.run(main())

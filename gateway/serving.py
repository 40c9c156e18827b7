"""The gateway as a process: ready when it listens, SIGHUP reloads it, SIGTERM and SIGINT drain it."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable

from gateway.app import Gateway
from gateway.settings import GatewaySettings

_log = logging.getLogger("securus.app")


async def serve(
    settings: GatewaySettings, *, ready: Callable[[], None] | None = None, stop: asyncio.Event | None = None
) -> None:
    """Run until SIGTERM or SIGINT (or stop is set), then drain. SIGHUP reloads certificates and policies."""
    stopping = stop or asyncio.Event()
    gateway = await Gateway.open(settings)
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(gateway.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    gc.freeze()  # what start-up made stays: the collector need not walk it again
    _log.info("ready")
    if ready is not None:
        ready()
    try:
        await stopping.wait()
        _log.info("draining")
    finally:
        await gateway.close()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)

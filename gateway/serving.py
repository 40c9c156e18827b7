"""The gateway as a process: ready when it listens, SIGHUP reloads it, SIGTERM and SIGINT drain it.

A worker is such a process too. It hears from its supervisor that it leads, and ends when the supervisor is gone.
"""

import asyncio
import gc
import logging
import shutil
import signal
import socket
import sys
from collections.abc import Callable

from gateway.app import Gateway
from gateway.settings import GatewaySettings
from gateway.terminal import Terminal
from gateway.workers.line import LEAD, READY, Line
from gateway.workers.worker import Worker

_log = logging.getLogger("securus.app")


def collect_seldom() -> None:
    """Let the collector of cycles pass over what start-up made, which stays, and look at the rest less often.

    Requests leave hardly a cycle behind: to look for some after every 700 objects took a tenth of their time.
    """
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 20, 20)


def take_over_soon() -> None:
    """Have a thread of ours give the interpreter up within half a millisecond when the event loop wants it.

    It may keep it for five by default. Documents are put into XML and policies are loaded in threads: beside one, a
    request waited up to 10 ms, and so does none now.
    """
    sys.setswitchinterval(0.0005)


async def serve(
    settings: GatewaySettings,
    *,
    ready: Callable[[], None] | None = None,
    stop: asyncio.Event | None = None,
    worker: Worker | None = None,
) -> None:
    """Run until SIGTERM or SIGINT (or stop is set), then drain. SIGHUP reloads certificates and policies.

    Where SIGHUP says that the terminal is gone from which the process was started, it drains.
    """
    stopping = stop or asyncio.Event()
    terminal = Terminal()
    gateway = await Gateway.open(settings, worker=worker)
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def hang_up() -> None:
        if terminal.is_gone():
            stopping.set()
            return
        task = loop.create_task(gateway.reload())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    collect_seldom()
    take_over_soon()
    obeying = None if worker is None else loop.create_task(_obey(worker, gateway, stopping))
    _log.info("ready" if worker is None else "worker ready")
    if ready is not None:
        ready()
    try:
        await stopping.wait()
        _log.info("draining")
    finally:
        await gateway.close()
        if obeying is not None:
            obeying.cancel()
            await asyncio.wait({obeying})
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def _obey(worker: Worker, gateway: Gateway, stopping: asyncio.Event) -> None:
    """Do what the supervisor says, until it is gone: nobody would start this worker again, or end it."""
    line = await Line.open(socket.socket(fileno=worker.line))
    try:
        line.say(READY)
        async for word in line.words():
            if word == LEAD:
                gateway.lead()
    finally:
        line.close()
    if not stopping.is_set():
        _log.error("the supervisor is gone")
        shutil.rmtree(worker.folder, ignore_errors=True)
    stopping.set()

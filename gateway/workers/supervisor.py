"""The supervisor of several workers: starts them, starts one again that died, passes signals on, ends with them.

It answers no request but those of operators. The workers share each listener by SO_REUSEPORT, so that one that died
takes no new connection; the first is started alone, so that what is wrong is told once, and a new store is made once.
"""

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from gateway.operators_listener import OperatorsListener
from gateway.settings import GatewaySettings
from gateway.telemetry import Metrics
from gateway.terminal import Terminal
from gateway.workers.line import LEAD, READY, Line
from gateway.workers.together import Together
from gateway.workers.worker import Worker

OK, REFUSED = 0, 1
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 30.0
_WELL_SECONDS = 60.0  # a worker that lived so long begins with the first pause again
_MOST_FAILURES = 5  # in a row, while nobody else is ready
_END_SECONDS = 10.0  # beyond the drain time, for what waits for the audit log
_log = logging.getLogger("securus.workers")


class Slot:
    """The place of one worker, whichever process has it now."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self.folder = folder
        self.process: asyncio.subprocess.Process | None = None
        self.line: Line | None = None  # from when its worker says that it listens, until that ends
        self.ready_at = 0.0
        self.has_begun = False
        self.must_reload = False
        self.failures = 0

    @property
    def is_ready(self) -> bool:
        """Whether its worker listens."""
        return self.line is not None

    @property
    def pid(self) -> int | None:
        """The process, None between two."""
        return None if self.process is None else self.process.pid

    @property
    def socket(self) -> Path:
        """Where its worker answers us."""
        return Worker(self.number, -1, self.folder).socket

    def signal(self, number: int) -> None:
        """Send a signal to its process, if there is one."""
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    def pause_seconds(self) -> float:
        """How long to wait before the next start: 0.25 s, 0.5 s, 1 s … 30 s."""
        return float(min(_FIRST_PAUSE_SECONDS * 2 ** min(self.failures - 1, 10), _LONGEST_PAUSE_SECONDS))


class Supervisor:
    """Runs the workers. Made for one run()."""

    def __init__(self, settings: GatewaySettings, *, count: int, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._slots = [Slot(number, folder) for number in range(count)]
        self._leading: Slot | None = None
        self._stopping = asyncio.Event()
        self._first_began = asyncio.Event()
        self._failure: str | None = None
        self._was_ready = False
        self._metrics = Metrics()
        self._together = Together(
            self._slots,
            leading=lambda: self._leading,
            all_began=lambda: all(slot.has_begun for slot in self._slots),
            is_draining=self._stopping.is_set,
            metrics=self._metrics,
            hangs=self._kill,
        )

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until no worker can be started; the exit code. Raises OSError."""
        loop = asyncio.get_running_loop()
        terminal = Terminal()

        def hang_up() -> None:
            if terminal.is_gone():
                self._stopping.set()
            else:
                self._reload()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, hang_up)
        operators = OperatorsListener(self._settings.limits, self._together.answer)
        operations = self._settings.operations
        try:
            await operators.open(operations.address, operations.port)
            asking = asyncio.create_task(self._together.keep_asking())
            keeping = [asyncio.create_task(self._keep(slot)) for slot in self._slots]
            await self._stopping.wait()
            _log.info("draining")
            await self._end(keeping)
            asking.cancel()
        finally:
            for slot in self._slots:
                slot.signal(signal.SIGKILL)
            await operators.close()
            await self._together.close()
        if self._failure is not None:
            _log.error(self._failure)
            return REFUSED
        return OK

    async def _end(self, keeping: list[asyncio.Task[None]]) -> None:
        """Let every worker drain; what does not end in time is killed."""
        for slot in self._slots:
            slot.signal(signal.SIGTERM)
        _, late = await asyncio.wait(keeping, timeout=self._settings.limits.drain + _END_SECONDS)
        for slot in self._slots:
            slot.signal(signal.SIGKILL)
        if late:
            _log.error("workers did not end in time", extra={"count": len(late)})
            await asyncio.wait(late)

    def _reload(self) -> None:
        """Pass SIGHUP on; who is just starting may have read older files, and cannot be told yet."""
        for slot in self._slots:
            if slot.is_ready:
                slot.signal(signal.SIGHUP)
            else:
                slot.must_reload = True

    def _kill(self, number: int) -> None:
        """End a worker that does not answer; it is started again like one that ended by itself."""
        _log.error("a worker hangs and is killed", extra={"worker": number})
        self._slots[number].signal(signal.SIGKILL)

    async def _keep(self, slot: Slot) -> None:
        """Keep a worker running in this place until we end."""
        if slot.number:
            await _either(self._first_began, self._stopping)
        while not self._stopping.is_set():
            try:
                code = await self._live(slot)
            except OSError as error:
                code = error.errno or REFUSED
                _log.error("a worker cannot be started", extra={"worker": slot.number, "cause": str(error)})
            if self._stopping.is_set():
                return
            self._judge(slot, code)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), slot.pause_seconds())

    def _judge(self, slot: Slot, code: int) -> None:
        """Note that a worker ended by itself, and give up where that is hopeless."""
        lived_well = slot.ready_at and time.monotonic() - slot.ready_at >= _WELL_SECONDS
        slot.failures = 1 if lived_well else slot.failures + 1
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._metrics.worker_ends.inc()
        _log.error("a worker ended", extra={"worker": slot.number, "cause": how, "count": slot.failures})
        if not slot.has_begun:
            self._give_up(f"worker {slot.number} could not start: {how}")
        elif slot.failures > _MOST_FAILURES and not any(each.is_ready for each in self._slots):
            self._give_up(f"worker {slot.number} ended {slot.failures} times in a row, and no other is ready")

    def _give_up(self, why: str) -> None:
        self._failure = self._failure or why
        self._stopping.set()

    async def _live(self, slot: Slot) -> int:
        """One life of a worker, from its start to its end; its exit code, negative after a signal."""
        ours, theirs = socket.socketpair()
        slot.ready_at, slot.must_reload = 0.0, False
        try:
            worker = Worker(slot.number, theirs.fileno(), self._folder)
            slot.process = await asyncio.create_subprocess_exec(
                *_command(self._settings.file, worker),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # what a terminal sends comes to us alone, and once
                env=os.environ | {"PYTHONPATH": _path()},
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        line = await Line.open(ours)
        hearing = asyncio.create_task(self._hear(slot, line))
        if self._stopping.is_set():
            slot.signal(signal.SIGTERM)
        try:
            return await slot.process.wait()
        finally:
            hearing.cancel()
            slot.process, slot.line = None, None
            line.close()
            if self._leading is slot:
                self._leading = None
                self._choose()
            await self._together.end(slot.number)

    async def _hear(self, slot: Slot, line: Line) -> None:
        async for word in line.words():
            if word != READY:
                continue
            slot.line, slot.has_begun, slot.ready_at = line, True, time.monotonic()
            if slot.must_reload:
                slot.signal(signal.SIGHUP)
            self._first_began.set()
            self._choose()
            if not self._was_ready and all(each.has_begun for each in self._slots):
                self._was_ready = True
                _log.info("ready", extra={"count": len(self._slots)})

    def _choose(self) -> None:
        """Where nobody leads, let the first that is ready do so."""
        if self._leading is not None or self._stopping.is_set():
            return
        for slot in self._slots:
            if slot.line is not None:
                self._leading = slot
                slot.line.say(LEAD)
                _log.info("a worker leads", extra={"worker": slot.number})
                return


async def supervise(settings: GatewaySettings, *, count: int) -> int:
    """Run so many workers on this configuration until we are ended; the exit code. Raises OSError."""
    folder = Path(tempfile.mkdtemp(prefix="securus-"))  # 0700
    try:
        Worker(0, -1, folder).configuration.write_bytes(settings.file.read_bytes())
        return await Supervisor(settings, count=count, folder=folder).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _command(configuration: Path, worker: Worker) -> list[str]:
    """The same command line; -P keeps modules of the working directory out, of which _path() needs none."""
    serve = ["serve", "-c", str(configuration), "--as-worker", worker.argument]
    return [sys.executable, "-P", "-m", "gateway", *serve]


def _path() -> str:
    """The path of modules with the folder that this program runs from at its front."""
    own = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join([own, *filter(None, [os.environ.get("PYTHONPATH")])])


async def _either(*events: asyncio.Event) -> None:
    """Wait until one of them is set."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()

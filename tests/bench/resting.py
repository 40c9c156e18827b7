"""What a gateway costs that answers nobody: start, memory, and a thousand connections that are silent."""

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from gateway.demo import world
from tests.bench.processes import Subject
from tests.bench.reads import nonce_of
from tests.bench.rows import Measured, row
from tests.bench.servers import PATIENT_PATH, Place, Securus

_IDLE = 1_000
_REST_SECONDS = 20  # CPU is counted in hundredths of a second


def rows(place: Place, gateway: Securus, runs: int) -> list[dict[str, Any]]:
    """The rows of a gateway at rest."""
    return [_start(place, runs), _idle(gateway)]


def _start(place: Place, runs: int) -> dict[str, Any]:
    """From exec to ready, with the demonstration's policies, a store and code that were used before.

    Python keeps what it compiled beside the sources, as pip leaves it. Where the environment forbids that, every start
    would be measured with the compilation of all sources, which a server does once.
    """
    ports = world.Ports(world.free_port(), world.free_port(), world.free_port(), place.store)
    folder = place.folder / "start"
    world.build(folder, ports)
    command = [sys.executable, "-m", "gateway", "serve", "-c", str(folder / "gateway.yaml")]
    environment = os.environ | {
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
    }
    seen = []
    for _ in range(1 + max(3, runs)):
        began = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )
        try:
            _ready(process, ports.operations)
            took = time.perf_counter() - began
            subject = Subject("start", process, ports.public)
            seen.append(Measured(subject.cpu_seconds() * 1e6, 0, took * 1e3, 0, subject.peak_megabytes()))
        finally:
            process.terminate()
            process.wait(30)
    note = "from exec to ready: CPU µs of the whole start, p50 is wall time, memory at rest"
    return row("start", "securus", seen[1:], note)


def _ready(process: "subprocess.Popen[bytes]", port: int) -> None:
    for _ in range(2_000):
        if process.poll() is not None:
            raise RuntimeError("the gateway did not start")
        with contextlib.suppress(OSError, urllib.error.URLError):
            if urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).status == 200:
                return
        time.sleep(0.005)
    raise RuntimeError("the gateway was not ready in time")


def _idle(gateway: Securus) -> dict[str, Any]:
    """A thousand connections that sent one request and are kept: CPU of a second of them, and memory of each."""
    subject = gateway.subject
    before = _resident(subject)
    request = (
        f"GET {PATIENT_PATH} HTTP/1.1\r\nHost: 127.0.0.1:{subject.port}\r\nAuthorization: DPoP x\r\n\r\n"
    )
    with contextlib.ExitStack() as stack:
        for _ in range(_IDLE):
            connection = stack.enter_context(
                socket.create_connection(("127.0.0.1", subject.port), timeout=10)
            )
            connection.sendall(request.encode())
            connection.recv(65536)
        grown = _resident(subject) - before
        _quiet(subject)
        used, began = subject.cpu_seconds(), time.perf_counter()
        time.sleep(_REST_SECONDS)
        seconds = time.perf_counter() - began
        busy = (subject.cpu_seconds() - used) / seconds * 1e6
        answers = statistics.median(_answer_time(subject) for _ in range(20))
    note = f"{_IDLE} connections: CPU µs a second, {grown * 1024 / _IDLE:.1f} KB of memory each; p50 is another's answer"
    return row("idle-1000", "securus", [Measured(busy, 0, answers * 1e3, 0, _resident(subject))], note)


def _quiet(subject: Subject) -> None:
    """Wait, two minutes at most, until records of what was asked are indexed and signed: work of requests, not of rest."""
    busiest = 0.01  # of a second; one tick of the clock that counts CPU
    for _ in range(60):
        used = subject.cpu_seconds()
        time.sleep(2)
        if subject.cpu_seconds() - used <= busiest:
            return


def _answer_time(subject: Subject) -> float:
    began = time.perf_counter()
    nonce_of(subject.port, PATIENT_PATH)
    return time.perf_counter() - began


def _resident(subject: Subject) -> float:
    """Resident memory now, in megabytes."""
    total = 0
    for pid in subject.pids():
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        total += int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])
    return total / 1024

"""How several workers end, together: by SIGTERM, with their supervisor, with a terminal; and how they do not begin."""

import asyncio
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.demo import world
from tests.support.processes import GatewayProcess
from tests.support.workers import counted, start_workers, workers_of
from tests.support.workers_load import Load, alive, own_chart, patient_store, until

pytestmark = [
    pytest.mark.asyncio(loop_scope="function"),
    pytest.mark.process,
    pytest.mark.xdist_group("workers"),
]


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    gateway = await start_workers(tmp_path)
    yield gateway
    await gateway.stop()


async def test_SIGTERM_under_load_loses_no_request_that_a_worker_has_taken(running: GatewayProcess) -> None:
    async with running.session("portal-dpop") as app, patient_store(running) as store:
        token = await own_chart(running, app)
        store.asked, store.seconds = 0, 0.2
        load = Load(running, app, token, callers=20)
        await load.grow(60)
        pids = [worker["pid"] for worker in await workers_of(running)]
        running.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.process.wait(), 20) == 0
        await load.stop()
        assert load.statuses.keys() == {200, 0}
        assert store.asked == load.statuses[200]  # what reached the store was answered, whole
        assert not any(map(alive, pids))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_no_worker_outlives_its_supervisor(running: GatewayProcess, how: signal.Signals) -> None:
    pids = [worker["pid"] for worker in await workers_of(running)]
    folder = socket_folder(pids[0])
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o777 == 0o700
    running.send_signal(how)
    await running.process.wait()

    async def are_gone() -> bool:
        return not any(map(alive, pids))

    await until(are_gone)
    assert not folder.exists()


def socket_folder(pid: int) -> Path:
    """The folder of the workers' sockets, from the command line of one."""
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return Path(arguments[arguments.index(b"--as-worker") + 1].decode().split(":", 2)[2])


async def test_the_supervisor_is_not_ready_before_every_worker_is(tmp_path: Path) -> None:
    running = await start_workers(tmp_path, count=3)
    try:
        messages = [line["message"] for line in running.log]
        assert messages.count("worker ready") == 3
        assert messages.index("ready") > max(n for n, m in enumerate(messages) if m == "worker ready")
        assert await counted(running, "securus_workers") == 3
        for path in ("/upstreams", "/report?format=json"):
            assert (await running.operations(path))[0] == 200
        assert (await running.operations("/samples"))[0] == 404
    finally:
        assert await running.stop() == 0


async def serve(folder: Path, *more: str, change: Callable[[dict[str, Any]], None] | None = None) -> Any:
    """`securus serve --workers 2` until it ends: exit code, stderr."""
    ports = world.Ports(*(world.free_port() for _ in range(4)))
    facts = await asyncio.to_thread(world.build, folder, ports)
    if change is not None:
        change(facts)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "serve", "-c", facts["config"], "--workers", "2", *more,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, errors.decode()


async def test_a_worker_that_cannot_start_ends_all_and_says_why_once(tmp_path: Path) -> None:
    def spoil(facts: dict[str, Any]) -> None:
        (tmp_path / "policies" / "99-spoiled.yaml").write_text("policy: spoiled\nrules: [{rul: x}]\n")

    code, errors = await serve(tmp_path, change=spoil)
    assert code == 1
    assert errors.count("99-spoiled.yaml:") == errors.count("error: ") >= 1
    assert "worker 0 could not start: exit code 1" in errors


async def test_a_port_that_is_taken_ends_all(tmp_path: Path) -> None:
    holding = socket.socket()

    def take(facts: dict[str, Any]) -> None:
        holding.bind(("127.0.0.1", int(facts["issuer"].rpartition(":")[2])))
        holding.listen()

    with holding:
        code, errors = await serve(tmp_path, change=take)
    assert code == 1
    assert "address already in use" in errors


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_it_ends_with_the_terminal_that_it_was_started_from(tmp_path: Path, workers: str) -> None:
    """A terminal that is closed sends SIGHUP, as does who wants a reload: only the first of them ends us."""
    ports = world.Ports(*(world.free_port() for _ in range(4)))
    facts = await asyncio.to_thread(world.build, tmp_path, ports)
    log = tmp_path / "gateway.log"
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "gateway", "serve", "-c", facts["config"], "--workers", workers]
    # A shell that has the terminal, as in a window; it ends by SIGHUP and passes it on.
    shell = ["setsid", "--ctty", "sh", "-c", f"{' '.join(command)} 2>{log}; :"]
    process = subprocess.Popen(shell, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)

    async def says(message: str) -> bool:
        return f'"message": "{message}"' in (log.read_text() if log.exists() else "")

    try:
        await until(lambda: says("ready"))
        (pid,) = children(process.pid)
        os.kill(pid, signal.SIGHUP)
        await until(lambda: says("policies reloaded"))
        assert alive(pid)
        workers_alive = children(pid)
        os.close(master)
        master = -1

        async def is_gone() -> bool:
            return not any(map(alive, [pid, *workers_alive]))

        await until(is_gone)
    finally:
        if master >= 0:
            os.close(master)
        process.kill()
        process.wait()


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

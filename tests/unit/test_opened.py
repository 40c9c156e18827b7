"""A fixture or a test that fails half way leaves nothing open, and so no later test fails for it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.support.opened import closed_if_it_fails

ROOT = Path(__file__).parents[2]
HALF_WAY = """
import asyncio, gc, sys
import aiohttp, pytest, pytest_asyncio
from aiohttp import web
from gateway.app import Gateway
from tests.support.gateway import start_gateway, stop_gateway

@pytest_asyncio.fixture
async def gateway(tmp_path):
    running = await start_gateway(tmp_path)
    raise RuntimeError("half way")
    yield running
    await stop_gateway(running)

async def test_with_a_fixture_that_fails(gateway):
    pass

def test_innocent_1():
    gc.collect()

async def test_that_fails(tmp_path):
    running = await start_gateway(tmp_path)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    session = aiohttp.ClientSession()
    raise RuntimeError("half way")

def test_innocent_2():
    gc.collect()
"""


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


async def open_both() -> tuple[web.ServerRunner, aiohttp.ClientSession]:
    runner = web.ServerRunner(web.Server(lambda request: None))  # type: ignore[arg-type,return-value]
    await runner.setup()
    return runner, aiohttp.ClientSession()


def test_what_was_opened_before_a_failure_is_closed(loop: asyncio.AbstractEventLoop) -> None:
    found = []

    def fail() -> None:
        with closed_if_it_fails():
            found.append(loop.run_until_complete(open_both()))
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    runner, session = found[0]
    assert runner.server is None
    assert session.closed


def test_what_was_opened_by_who_succeeds_stays_open_also_where_somebody_else_fails(
    loop: asyncio.AbstractEventLoop,
) -> None:
    found = []

    def fail() -> None:
        with closed_if_it_fails():
            with closed_if_it_fails():
                found.append(loop.run_until_complete(open_both()))
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    runner, session = found[0]
    assert runner.server is not None
    assert not session.closed
    loop.run_until_complete(runner.cleanup())
    loop.run_until_complete(session.close())


@pytest.mark.process
def test_no_later_test_fails_for_one_that_failed_half_way(tmp_path: Path) -> None:
    hooks = "pytest_collection_finish, pytest_fixture_setup, pytest_runtest_call"
    (tmp_path / "conftest.py").write_text(f"from tests.conftest import {hooks}\n")
    (tmp_path / "test_half_way.py").write_text(HALF_WAY)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nfilterwarnings = error\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "1 failed, 2 passed, 1 error" in done.stdout, done.stdout

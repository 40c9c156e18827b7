"""What a fixture or a test opens, so that one that fails half way leaves nothing open.

A fixture closes behind its `yield`, which it never reaches when it fails before. What it had opened then ends whenever
the collector comes to it, in the middle of a later test that has nothing to do with it, and fails that one: an unclosed
socket is a warning, and warnings are errors. So gateways, servers, sessions and processes are noted as they are opened,
and closed in the place of whoever fails. A fixture that succeeds closes what it opened by itself; if it forgets to,
that is seen as ever.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any

import aiohttp
from aiohttp import web_runner

_CLOSE_SECONDS = 30
_opened: list[tuple[asyncio.AbstractEventLoop, Callable[[], bool], Callable[[], Awaitable[object]]]] = []
_watched: set[str] = set()


def watch() -> None:
    """Note what is opened from now on; gateways where their module is there."""
    if "aiohttp" not in _watched:
        _watched.add("aiohttp")
        _watch_runners()
        _watch_sessions()
        _watch_processes()
    module = sys.modules.get("gateway.app")
    if module is not None and "gateway" not in _watched:
        _watched.add("gateway")
        _watch_gateways(module.Gateway)


@contextmanager
def closed_if_it_fails() -> Iterator[None]:
    """Close what is opened while this lasts, if it raises; the last first."""
    mark = len(_opened)
    try:
        yield
    except BaseException:
        for loop, is_open, close in reversed(_opened[mark:]):
            if is_open() and not loop.is_closed() and not loop.is_running():
                with suppress(Exception):  # what failed is told, and not what came of it
                    loop.run_until_complete(asyncio.wait_for(close(), _CLOSE_SECONDS))
        raise
    finally:
        del _opened[mark:]


def _note(is_open: Callable[[], bool], close: Callable[[], Awaitable[object]]) -> None:
    with suppress(RuntimeError):  # without a loop
        _opened.append((asyncio.get_running_loop(), is_open, close))


def _watch_runners() -> None:
    runner: Any = web_runner.BaseRunner
    setup = runner.setup

    @wraps(setup)
    async def noted(self: Any) -> None:
        _note(lambda: self.server is not None, self.cleanup)
        await setup(self)

    runner.setup = noted


def _watch_sessions() -> None:
    session: Any = aiohttp.ClientSession
    made = session.__init__

    @wraps(made)
    def noted(self: Any, *args: Any, **options: Any) -> None:
        made(self, *args, **options)
        _note(lambda: not self.closed, self.close)

    session.__init__ = noted


def _watch_processes() -> None:
    begin = asyncio.create_subprocess_exec

    @wraps(begin)
    async def noted(*args: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await begin(*args, **options)

        async def end() -> None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()

        _note(lambda: process.returncode is None, end)
        return process

    asyncio.create_subprocess_exec = noted


def _watch_gateways(gateway: Any) -> None:
    begin, end = gateway.open.__func__, gateway.close
    closed: set[int] = set()

    @wraps(begin)
    async def opened(cls: Any, *args: Any, **options: Any) -> Any:
        made = await begin(cls, *args, **options)
        closed.discard(id(made))
        _note(lambda: id(made) not in closed, made.close)
        return made

    @wraps(end)
    async def ended(self: Any) -> None:
        closed.add(id(self))
        await end(self)

    gateway.open, gateway.close = classmethod(opened), ended

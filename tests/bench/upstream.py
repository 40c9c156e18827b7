"""CPU of one request to a store and its answer of 2 KB, by our client and by aiohttp's, alternating in one run.

`python -m tests.bench.upstream`: the store is an nginx on the other core; process time of this process alone.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import uvloop

from gateway.demo.world import free_port
from gateway.proxy.upstream import UpstreamClient
from gateway.settings import Upstream
from tests.bench import processes

_SENT = {
    "accept-language": "de", "x-forwarded-for": "127.0.0.1", "x-request-id": "0b9bd9a5-5fd7-4e37-a5c0-4a1f9a2f6e51",
    "accept": "application/fhir+json", "accept-encoding": "identity", "prefer": "handling=strict",
}  # fmt: skip
_STORE = """
  server {
    LISTEN;
    location / { default_type application/fhir+json; add_header ETag 'W/"1"'; return 200 '%s'; }
  }
"""
_AT_ONCE = 16
Ask = Callable[[], Awaitable[bytes]]


def main() -> None:
    """Print microseconds of CPU of each client: median, least and most over the runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--requests", type=int, default=16_000)
    options = parser.parse_args()
    os.sched_setaffinity(0, {0})
    with tempfile.TemporaryDirectory(prefix="securus-bench-") as folder:
        port = free_port()
        command = processes.nginx(Path(folder), "store", port, _STORE % ("x" * 1600))
        with processes.running("store", command, port, Path(folder), {1}):
            uvloop.run(_measured(f"http://127.0.0.1:{port}", options.runs, options.requests))


async def _measured(base: str, runs: int, requests: int) -> None:
    client = UpstreamClient(Upstream("s", "fhir-r4", "/s", base, base, frozenset()), lambda seconds: None)
    await client.open()
    session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)

    async def ours() -> bytes:
        answer = await client.send("GET", "Patient/A", _SENT)
        content = await answer.read(2**20)
        answer.close()
        return content

    async def theirs() -> bytes:
        async with session.get(f"{base}/Patient/A", headers=_SENT, allow_redirects=False) as response:
            return await response.read()

    seen: dict[str, list[float]] = {"securus": [], "aiohttp": []}
    for _ in range(runs):
        for name, ask in (("securus", ours), ("aiohttp", theirs)):
            seen[name].append(await _cpu(ask, requests))
    for name, found in seen.items():
        print(f"{name:8} {statistics.median(found):6.1f} µs  ({min(found):.1f} to {max(found):.1f})")
    await client.close()
    await session.close()


async def _cpu(ask: Ask, requests: int) -> float:
    async def some() -> None:
        for _ in range(requests // _AT_ONCE):
            if len(await ask()) != 1600:
                raise RuntimeError("the answer is another")

    await asyncio.gather(*(some() for _ in range(_AT_ONCE)))
    before = time.process_time()
    await asyncio.gather(*(some() for _ in range(_AT_ONCE)))
    return (time.process_time() - before) / requests * 1e6


if __name__ == "__main__":
    main()

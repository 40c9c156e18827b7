"""CPU of one request read and one answer of 2 KB written, by the front and by aiohttp's server, alternating in one run.

`python -m tests.bench.front`: the caller is wrk on the other core; process time of this process alone. Both read the
request by authz.http; nothing is checked or asked of a store.
"""

import argparse
import asyncio
import os
import re
import statistics
import time

import uvloop
from aiohttp import web

from authz.protocol.request import Answer, HttpRequest
from gateway.demo.world import free_port
from gateway.wire.front import Front
from gateway.wire.peers import Peer
from tests.support.wire import read_request, service

_BODY = b"x" * 2048
_HEADERS = (
    ("Content-Type", "application/fhir+json; charset=utf-8"), ("ETag", 'W/"1"'), ("Cache-Control", "no-store, private"),
    ("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT"), ("Vary", "Authorization, DPoP, Accept"),
    ("X-Content-Type-Options", "nosniff"), ("x-fapi-interaction-id", "0b9bd9a5-5fd7-4e37-a5c0-4a1f9a2f6e51"),
)  # fmt: skip
_SENT = [f"Authorization: DPoP {'a' * 700}", f"DPoP: {'b' * 600}", "Accept: application/fhir+json"]


def main() -> None:
    """Print microseconds of CPU of each server: median, least and most over the runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args()
    os.sched_setaffinity(0, {0})
    uvloop.run(_measured(options.runs, options.seconds))


async def _measured(runs: int, seconds: int) -> None:
    ours, theirs = free_port(), free_port()
    front = Front(service(_answer))
    await front.open("127.0.0.1", ours, None)
    runner = web.ServerRunner(web.Server(_answer_of_aiohttp, access_log=None, auto_decompress=False))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", theirs, backlog=1024).start()
    seen: dict[str, list[float]] = {"securus": [], "aiohttp": []}
    for _ in range(runs):
        for name, port in (("securus", ours), ("aiohttp", theirs)):
            seen[name].append(await _cpu(port, seconds))
    for name, found in seen.items():
        print(f"{name:8} {statistics.median(found):6.1f} µs  ({min(found):.1f} to {max(found):.1f})")
    await front.close(1.0)
    await runner.cleanup()


async def _answer(_: HttpRequest) -> Answer:
    return Answer(200, _HEADERS, _BODY)


async def _answer_of_aiohttp(raw: web.BaseRequest) -> web.StreamResponse:
    read_request(raw.method, raw.path_qs, list(raw.raw_headers), Peer(raw.remote or ""), None)
    response = web.Response(status=200, body=_BODY)
    for name, value in _HEADERS:
        response.headers.add(name, value)
    return response


async def _cpu(port: int, seconds: int) -> float:
    sent = [word for header in _SENT for word in ("-H", header)]
    url = f"http://127.0.0.1:{port}/fhir/r4/Patient/1"
    command = ["taskset", "-c", "1", "wrk", "-t1", "-c16", f"-d{seconds}", *sent, url]
    before = time.process_time()
    load = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await load.communicate()
    used = time.process_time() - before
    answered = re.search(rb"(\d+) requests in", out)
    if answered is None or b"Non-2xx" in out:
        raise RuntimeError(out.decode())
    return used / int(answered[1]) * 1e6


if __name__ == "__main__":
    main()

"""What operators see of several workers as one, and what becomes of one that does not answer."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import ClientTimeout, web

from authz.protocol.request import HttpRequest
from gateway.operators_listener import SAMPLES
from gateway.telemetry import Metrics
from gateway.workers import together, totals
from gateway.workers.together import Together


@dataclass
class FakeWorker:
    """A worker that answers at its socket, or is silent."""

    number: int
    socket: Path
    is_ready: bool = True
    pid: int | None = 4711
    problems: list[str] = field(default_factory=list)
    is_silent: bool = False
    goes_on: asyncio.Event | None = None
    metrics: Metrics = field(default_factory=Metrics)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """As the worker's own operations do."""
        if self.is_silent:
            return web.Response(status=500)
        if request.path == SAMPLES:
            return web.Response(body=totals.written(totals.families(self.metrics.registry)))
        if request.path == "/readyz":
            return web.json_response({"problems": self.problems, "policies": "abc"})
        if self.goes_on is not None:
            await self.goes_on.wait()
        return web.Response(text=f"{self.number} {request.method} {request.path_qs}", headers={"X-Own": "1"})


class Bench:
    """Workers behind a Together, with a clock in hand."""

    def __init__(self, workers: list[FakeWorker]) -> None:
        self.workers = workers
        self.now = 0.0
        self.hung: list[int] = []
        self.began = True
        self.draining = False
        self.leading: FakeWorker | None = workers[0]
        self.together = Together(
            workers,
            leading=lambda: self.leading,
            all_began=lambda: self.began,
            is_draining=lambda: self.draining,
            metrics=Metrics(),
            hangs=self.hung.append,
            steady=lambda: self.now,
        )

    async def ask(self, path: str) -> tuple[int, str]:
        """An operator's request."""
        where, _, query = path.partition("?")
        answer = await self.together.answer(
            HttpRequest("GET", where, query, f"http://localhost{where}", "http://localhost", {}, "127.0.0.1")
        )
        assert isinstance(answer.body, bytes)
        return answer.status, answer.body.decode()

    async def readiness(self) -> tuple[int, list[str]]:
        """Status and problems."""
        status, text = await self.ask("/readyz")
        return status, json.loads(text)["problems"]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    workers = [FakeWorker(number, tmp_path / f"{number}.sock") for number in range(2)]
    runners = []
    for worker in workers:
        runner = web.ServerRunner(web.Server(worker.answer), shutdown_timeout=1)
        await runner.setup()
        await web.UnixSite(runner, str(worker.socket)).start()
        runners.append(runner)
    bench = Bench(workers)
    yield bench
    await bench.together.close()
    for runner in runners:
        await runner.cleanup()


async def test_it_is_ready_once_all_began_and_while_one_is_ready(bench: Bench) -> None:
    bench.began = False
    assert await bench.readiness() == (503, ["not every worker has begun"])
    bench.began = True
    assert await bench.readiness() == (200, [])
    bench.workers[1].is_ready = False
    assert await bench.readiness() == (200, [])
    bench.workers[0].is_ready = False
    assert await bench.readiness() == (503, ["no worker is ready"])


async def test_each_worker_is_listed_in_its_place_with_what_it_is_at(bench: Bench) -> None:
    bench.workers[0].is_ready = False
    bench.workers[1].problems.append("draining")
    _, text = await bench.ask("/readyz")
    assert json.loads(text)["workers"] == [
        {"number": 0, "pid": 4711, "status": "starting", "policies": None},
        {"number": 1, "pid": 4711, "status": "not ready", "policies": "abc"},
    ]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda b: b.workers[1].problems.append("the store does not answer"), "the store does not answer"),
        (lambda b: setattr(b.workers[1], "is_silent", True), "worker 1 does not answer"),
        (lambda b: setattr(b, "draining", True), "draining"),
    ],
)
async def test_what_is_wrong_in_one_worker_is_said(
    bench: Bench, spoil: Callable[[Bench], None], problem: str
) -> None:
    spoil(bench)
    assert await bench.readiness() == (503, [problem])


async def test_a_worker_that_is_silent_keeps_what_it_told_and_is_ended_after_half_a_minute(
    bench: Bench,
) -> None:
    for worker in bench.workers:
        worker.metrics.audit_events.inc(3)
    assert "securus_audit_events_total 6.0" in (await bench.ask("/metrics"))[1]
    bench.workers[1].is_silent = True
    for bench.now in (10, 29):
        assert "securus_audit_events_total 6.0" in (await bench.ask("/metrics"))[1]
        assert bench.hung == []
    bench.now = 30
    await bench.ask("/metrics")
    assert bench.hung == [1]
    await bench.together.end(1)
    bench.workers[1].is_ready = False
    assert "securus_audit_events_total 6.0" in (await bench.ask("/metrics"))[1]


async def test_a_worker_that_drains_longer_than_half_a_minute_is_let_drain(bench: Bench) -> None:
    await bench.ask("/metrics")
    bench.workers[1].is_silent = bench.draining = True
    bench.now = 100
    await bench.ask("/metrics")
    assert bench.hung == []


async def test_a_worker_that_is_new_in_its_place_has_half_a_minute_of_its_own(bench: Bench) -> None:
    await bench.ask("/metrics")
    await bench.together.end(1)
    bench.workers[1].is_silent = True
    bench.now = 100
    await bench.ask("/metrics")
    assert bench.hung == []


async def test_other_paths_are_answered_by_the_worker_that_leads_and_inner_ones_by_nobody(
    bench: Bench,
) -> None:
    assert await bench.ask("/upstreams?x=1") == (200, "0 GET /upstreams?x=1")
    bench.leading = bench.workers[1]
    assert await bench.ask("/report") == (200, "1 GET /report")
    bench.leading = None
    assert (await bench.ask("/report"))[0] == 503
    assert (await bench.ask(SAMPLES))[0] == 404
    assert await bench.ask("/healthz") == (200, '{"status": "ok"}')


async def test_a_worker_that_leads_and_does_not_answer_is_503_and_the_log_says_why(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(together, "_LONG_TIMEOUT", ClientTimeout(total=0.05))
    bench.workers[0].goes_on = asyncio.Event()
    assert (await bench.ask("/report"))[0] == 503
    bench.workers[0].goes_on.set()
    bench.leading = bench.workers[1]
    bench.workers[1].socket.unlink()
    assert (await bench.ask("/report"))[0] == 503
    slow, gone = [vars(record) for record in caplog.records if record.name == "securus.workers"]
    assert (slow["worker"], slow["cause"]) == (0, "not within a minute")
    assert gone["worker"] == 1
    assert "No such file" in gone["cause"]


async def test_operators_who_ask_at_once_never_see_a_counter_fall(bench: Bench) -> None:
    seen = []

    async def count() -> None:
        for _ in range(20):
            bench.workers[0].metrics.audit_events.inc()
            _, text = await bench.ask("/metrics")
            line = next(line for line in text.splitlines() if line.startswith("securus_audit_events_total"))
            seen.append(float(line.split()[1]))

    await asyncio.gather(*(count() for _ in range(4)))
    assert seen == sorted(seen)

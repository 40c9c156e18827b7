"""Load on several workers: a store that counts, callers that read, and what they wait for."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from gateway.demo import world
from gateway.demo.client import Session
from tests.support.processes import GatewayProcess
from tests.support.workers import alone, get

PATIENT = {"resourceType": "Patient", "id": world.PATIENT, "name": [{"family": "McLaughlin"}]}


class Store:
    """A store with one patient. asked counts its requests; each is answered after so many seconds."""

    def __init__(self) -> None:
        self.asked = 0
        self.seconds = 0.0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The patient, after a while."""
        if request.path.startswith("/fhir/Patient/"):
            self.asked += 1
        await asyncio.sleep(self.seconds)
        return web.Response(text=json.dumps(PATIENT), headers={"Content-Type": "application/fhir+json"})


@asynccontextmanager
async def patient_store(running: GatewayProcess, store: Store | None = None) -> AsyncIterator[Store]:
    """The store behind the gateway."""
    store = store or Store()
    runner = web.ServerRunner(web.Server(store.handle, access_log=None), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", running.ports.upstream).start()
    try:
        yield store
    finally:
        await runner.cleanup()


async def until(true: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> float:
    """Wait until something is so; how long it took."""
    started = time.monotonic()
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(0.02)
    return time.monotonic() - started


def alive(pid: int) -> bool:
    """Whether a process is there that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def patient_url(running: GatewayProcess) -> str:
    return f"{running.facts['fhir_base']}/Patient/{world.PATIENT}"


async def own_chart(running: GatewayProcess, app: Session) -> str:
    """A token for the chart of its patient; the nonces of both places are known afterwards."""
    issued = await running.token_of(app, "stephen", "launch/patient patient/*.rs")
    token = str(issued["access_token"])
    assert (await app.get(patient_url(running), token)).status == 200
    return token


class Load:
    """Reads by many callers, each on a connection of its own, until told to stop. Each answer is whole or none."""

    def __init__(self, running: GatewayProcess, app: Session, token: str, *, callers: int = 6) -> None:
        self._running = running
        self._app = app
        self._token = token
        self._stop = asyncio.Event()
        self.statuses = Counter[int]()
        self._tasks = [asyncio.create_task(self._call()) for _ in range(callers)]

    async def _call(self) -> None:
        while not self._stop.is_set():
            request = reading(self._running, self._app, self._token, ("Connection", "close"))
            reply = await alone(self._running, request)
            assert reply.status != 200 or reply.json == PATIENT
            self.statuses[reply.status] += 1
            if not reply.status:
                await asyncio.sleep(0.01)

    async def grow(self, by: int) -> None:
        """Wait until so many more were answered."""
        aim = self.statuses[200] + by

        async def enough() -> bool:
            return self.statuses[200] >= aim

        await until(enough, 60)

    async def stop(self) -> None:
        """Let each caller finish."""
        self._stop.set()
        await asyncio.gather(*self._tasks)


def reading(running: GatewayProcess, app: Session, token: str, *more: tuple[str, str]) -> bytes:
    """A read of the own chart with a fresh proof, as bytes."""
    url = patient_url(running)
    return get(url, [("Authorization", f"DPoP {token}"), ("DPoP", app.proof("GET", url, token)), *more])

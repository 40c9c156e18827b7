"""Reads and writes at a gateway whose every answer must be on record, and the judgement over its log afterwards."""

import asyncio
import json
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiohttp import web

from gateway.demo import client, world
from gateway.demo.client import Session
from tests.support.cluster import learn
from tests.support.nodes import securus
from tests.support.processes import GatewayProcess
from tests.support.workers import alone
from tests.support.workers_load import PATIENT, reading, until

_CLOSE = ("Connection", "close")
_PAUSE_SECONDS = 0.02
_UNRECORDED = frozenset({"audit-unavailable", "store-unavailable"})
"""Refusals of one who cannot write records: there may be one, or none."""
_LAB = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]
}


@dataclass(frozen=True)
class Said:
    """One answer, or none (status 0)."""

    interaction: str
    verb: str
    status: int
    reason: str | None


@dataclass
class Written:
    """A store with one patient, that takes results. received are those that came, by their notes."""

    received: list[str] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The patient, or the result as it is stored."""
        headers = {"Content-Type": "application/fhir+json"}
        if request.method != "POST":
            return web.Response(text=json.dumps(PATIENT), headers=headers)
        body = json.loads(await request.read())
        self.received.append(body["note"][0]["text"])
        stored = {**body, "id": str(uuid.uuid4()), "meta": {"versionId": "1"}}
        headers["Location"] = f"{request.path}/{stored['id']}/_history/1"
        return web.Response(status=201, text=json.dumps(stored), headers=headers)


@asynccontextmanager
async def writable_store(running: GatewayProcess) -> AsyncIterator[Written]:
    """The store behind the gateway."""
    store = Written()
    runner = web.ServerRunner(web.Server(store.handle, access_log=None), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", running.ports.upstream).start()
    try:
        yield store
    finally:
        await runner.cleanup()


class Moved:
    """The clock of callers, beside the machine's."""

    def __init__(self, monkeypatch: Any) -> None:
        self.seconds = 0.0
        clock = SimpleNamespace(**{**vars(time), "time": lambda: time.time() + self.seconds})
        monkeypatch.setattr(client, "time", clock)


class RecordedLoad:
    """Callers that read a chart and file results, each request under an id of its own, until stop()."""

    def __init__(self, running: GatewayProcess, app: Session, lab: Session, *, callers: int = 3) -> None:
        self.running = running
        self._apps = {"GET": app, "POST": lab}
        self._tokens: dict[str, str] = {}
        self._stop = asyncio.Event()
        self._callers = callers
        self._tasks: list[asyncio.Task[None]] = []
        self.said: list[Said] = []

    async def sign_in(self) -> None:
        """New tokens, asked for until they are given."""

        async def given() -> bool:
            try:
                issued = await self.running.token_of(
                    self._apps["GET"], "stephen", "launch/patient patient/*.rs"
                )
                lab = await self.running.own_token(self._apps["POST"], "system/Observation.c")
            except AssertionError:
                return False
            self._tokens = {"GET": str(issued["access_token"]), "POST": lab}
            return True

        await until(given, 60)

    async def begin(self) -> None:
        """Sign in, and let the callers call."""
        await self.sign_in()
        self._tasks = [
            asyncio.create_task(self._call(verb)) for verb in ("GET", "POST") for _ in range(self._callers)
        ]

    async def _call(self, verb: str) -> None:
        app = self._apps[verb]
        while not self._stop.is_set():
            interaction = str(uuid.uuid4())
            make = self._read if verb == "GET" else self._write
            reply = await alone(self.running, make(app, self._tokens[verb], interaction))
            self.said.append(Said(interaction, verb, reply.status, reply.reason if reply.status else None))
            if reply.status:
                learn(app, "gateway", [reply])
            await asyncio.sleep(_PAUSE_SECONDS)

    def _read(self, app: Session, token: str, interaction: str) -> bytes:
        return reading(self.running, app, token, ("x-fapi-interaction-id", interaction), _CLOSE)

    def _write(self, app: Session, token: str, interaction: str) -> bytes:
        url = f"{self.running.facts['fhir_base']}/Observation"
        result = {
            "resourceType": "Observation",
            "status": "final",
            "category": [_LAB],
            "code": {"text": "a result"},
            "subject": {"reference": f"Patient/{world.PATIENT}"},
            "note": [{"text": interaction}],
        }
        body = json.dumps(result).encode()
        lines = (
            "POST /fhir/r4/Observation HTTP/1.1",
            f"Host: localhost:{self.running.ports.public}",
            f"Authorization: DPoP {token}",
            f"DPoP: {app.proof('POST', url, token)}",
            f"x-fapi-interaction-id: {interaction}",
            "Content-Type: application/fhir+json",
            "Connection: close",
            f"Content-Length: {len(body)}",
        )
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def grow(self, verb: str, is_wanted: Callable[[int], bool], by: int) -> None:
        """Wait until so many more requests with this method were answered with such a status."""
        begun = len(self.said)

        async def enough() -> bool:
            for task in self._tasks:
                if task.done():
                    task.result()
            return sum(each.verb == verb and is_wanted(each.status) for each in self.said[begun:]) >= by

        try:
            await until(enough, 60)
        except TimeoutError:
            heard = Counter((each.verb, each.status, each.reason) for each in self.said[begun:])
            raise AssertionError(f"{verb} was answered {heard}") from None

    async def serves(self, by: int = 10) -> None:
        """Wait until reads and writes pass."""
        await self.grow("GET", lambda status: status == 200, by)
        await self.grow("POST", lambda status: status == 201, by)

    async def refuses(self, status: int, by: int = 5) -> None:
        """Wait until reads and writes are refused with this status."""
        await self.grow("GET", lambda said: said == status, by)
        await self.grow("POST", lambda said: said == status, by)

    async def stop(self) -> None:
        """Let each caller finish."""
        self._stop.set()
        await asyncio.gather(*self._tasks)


async def judge(load: RecordedLoad, store: Written, database: Path) -> None:
    """Every answer has its record once; nothing was written that was not on record before; the log is whole."""
    records = records_of(database)
    accesses: dict[str, list[int]] = {}
    for record in records:
        if record["event"] == "access":
            accesses.setdefault(str(record["interaction_id"]), []).append(int(record["status"]))
    for each in load.said:
        found = accesses.get(each.interaction, [])
        if each.status == 0 or each.reason in _UNRECORDED:
            assert len(found) <= 1, each
        else:
            assert found == [each.status], (each, found)
    assert max(map(len, accesses.values())) == 1
    begun = Counter(record["interaction_id"] for record in records if record["event"] == "write-begins")
    assert all(begun[note] == 1 for note in store.received)
    assert len(set(store.received)) == len(store.received)
    assert {each.interaction for each in load.said if each.status == 201} <= set(store.received)
    assert (await securus(load.running, "audit", "verify"))["whole"]


def records_of(database: Path) -> list[dict[str, Any]]:
    """Every audit record of a store that others may be writing to."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
        rows = opened.execute("SELECT line FROM audit ORDER BY sequence").fetchall()
    return [json.loads(row[0]) for row in rows]

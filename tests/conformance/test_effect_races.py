"""One rate, one emergency access, one delivery: counted once in all processes that share a store.

Three processes with a gateway's own parts each do the same at the same moment: what a permit obliges to, and the outbox.
"""

import asyncio
import json
import multiprocessing
import time
from collections import Counter
from multiprocessing.connection import Connection
from typing import Any

import pytest

from authz.protocol.tokens import caller_of
from authz.storage.opening import open_storage
from authz.storage.settings import StoreSettings
from gateway.audit.log import AuditLog
from gateway.audit.verification import verify
from gateway.emergencies import note_ends
from gateway.fhir.outcome import FhirError
from gateway.notifications import Outbox, message
from gateway.policy.decision import Environment, Permit
from gateway.proxy.obligations import Obliged
from gateway.proxy.trail import Trail
from gateway.settings import Receiver
from gateway.telemetry import Metrics
from tests.support.authorization_server import http_request
from tests.support.policies import ISSUER, NOW, ask, engine

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("races")]
PROCESSES = 3
TRIES = 30  # of each process
RULES = (
    "rule: find, effect: permit, who: {role: [physician]}, may: [search], resources: [Organization], shared: true,"
    " then: {rate: 40/h}",
    "rule: glass, effect: permit, who: {context: user, role: [physician], purpose: [BTG]}, may: [read],"
    " resources: [Patient], break_glass: {one_patient: true, lasts: 60m}, then: {notify: [office]}",
)
REASON = "unconscious in bay 4"


class Lane:
    """What one process does. Each method is asked for by name over its pipe."""

    def __init__(self, store: Any, audit: AuditLog, number: int) -> None:
        self._store, self._audit = store, audit
        self._engine = engine(*RULES)
        self._obliged = Obliged(route="fhir", store=store, audit=audit, metrics=Metrics(), clock=lambda: NOW)
        claims = {
            "iss": ISSUER, "sub": "dr1", "aud": "https://gw.example/fhir/r4", "client_id": "app", "iat": NOW,
            "exp": NOW + 300, "jti": f"t{number}", "scope": "user/*.rs", "cnf": {"jkt": "x" * 43},
            "realm": {"roles": ["physician"]}, "purpose_of_use": ["BTG"],
        }  # fmt: skip
        self._caller = caller_of(claims, issuer=ISSUER)

    async def _ask(self, text: str) -> str:
        """'' for what goes on, else the reason of the refusal."""
        http = http_request("GET", "/fhir/r4/x", headers=[("x-break-glass-reason", REASON)])
        trail = Trail(http, "id", 0.0)
        trail.asked = asked = ask(text)
        emergency = await self._obliged.emergency(http, trail, self._caller, self._engine)
        decision = self._engine.decide(
            asked, self._caller, Environment(NOW, "192.0.2.1", emergency=emergency)
        )
        assert isinstance(decision, Permit), decision
        try:
            await self._obliged.meet(trail, decision, self._caller)
        except FhirError as error:
            return str(error.reason)
        return "" if trail.emergency is None else trail.emergency.id

    async def spend(self) -> list[str]:
        """Use the rule with a rate."""
        return [await self._ask("GET /Organization?name=x") for _ in range(TRIES)]

    async def open(self) -> list[str]:
        """Open the charts of ten patients; the ids of the access."""
        return [await self._ask(f"GET /Patient/p{number}") for number in range(10)]

    async def note(self) -> list[str]:
        """Record what is over."""
        await note_ends(self._store, self._audit, now=NOW + 3600)
        return []

    async def deliver(self) -> list[str]:
        """Deliver what is in the outbox; the ids that were posted."""
        posted: list[str] = []

        async def post(url: str, body: bytes, authorization: str | None) -> None:
            posted.append(json.loads(body)["id"])
            await asyncio.sleep(0)

        outbox = Outbox(
            store=self._store,
            receivers={"office": Receiver("https://office.example/")},
            post=post,
            audit=self._audit,
            metrics=Metrics(),
            clock=lambda: NOW,
        )
        for _ in range(5):
            await outbox.deliver()
        return posted


def _process(storage: StoreSettings, number: int, pipe: Connection) -> None:
    async def run() -> None:
        store = await open_storage(storage)
        lane = Lane(store, await AuditLog.open(store, time.time), number)
        pipe.send("ready")
        while (name := pipe.recv()) is not None:
            pipe.send(await getattr(lane, name)())
        await store.close()

    asyncio.run(run())


def all_do(pipes: list[Connection], name: str) -> list[str]:
    """What all of them found, together."""
    for pipe in pipes:
        pipe.send(name)
    found = []
    for pipe in pipes:
        assert pipe.poll(60)
        found += pipe.recv()
    return found


def test_what_permits_oblige_to_is_done_once_by_all_processes_together(storage: StoreSettings) -> None:
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for number in range(PROCESSES):
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_process, args=(storage, number, theirs))
        process.start()
        processes.append(process)
        pipes.append(ours)
    try:
        assert all(pipe.poll(60) and pipe.recv() == "ready" for pipe in pipes)
        assert Counter(all_do(pipes, "spend")) == {"": 40, "rate-exceeded": PROCESSES * TRIES - 40}
        sessions = Counter(all_do(pipes, "open"))
        assert len(sessions) == 10  # each process goes by the same access
        assert set(sessions.values()) == {PROCESSES}
        all_do(pipes, "note")
        asyncio.run(_put(storage))
        posted = Counter(all_do(pipes, "deliver"))
        assert set(posted.values()) == {1}
        assert len(posted) == 10 + 50
        events = asyncio.run(_events(storage))
        assert events == {"break-glass-start": 10, "break-glass-stop": 10}
    finally:
        for pipe, process in zip(pipes, processes, strict=True):
            pipe.send(None)
            process.join(30)
            pipe.close()


async def _put(storage: StoreSettings) -> None:
    store = await open_storage(storage)
    await store.put_notifications([message("office", {"event": "access"}, now=NOW) for _ in range(50)])
    await store.close()


async def _events(storage: StoreSettings) -> Counter[str]:
    store = await open_storage(storage)
    assert (await verify(store)).whole
    found = Counter(json.loads(line.line)["event"] for line in await store.audit(after=0, limit=1000))
    await store.close()
    return found

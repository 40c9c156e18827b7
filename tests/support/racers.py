"""Several processes with an authorization server each over one store, which answer at the same moment.

What a test sends them was read by authz.http in the test's own process, so that a race is about the store alone.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from authz.events import Event
from authz.keys import KeyRing
from authz.protocol.clients import Client
from authz.protocol.errors import OAuthError
from authz.protocol.request import Answer, HttpRequest
from authz.server import AuthorizationServer
from authz.settings import Account, AuthorizationSettings
from authz.storage.opening import open_storage
from authz.storage.settings import StoreSettings
from tests.support.authorization_server import FHIR, FHIR_MTLS, SETTINGS, Reply, World

_START_SECONDS = 0.004  # so long all have to arrive at the starting line
_WAIT_SECONDS = 60


@dataclass(frozen=True)
class Entry:
    """What a racer is given: the settings and registrations of its server."""

    storage: StoreSettings
    settings: AuthorizationSettings
    clients: Mapping[str, Client]
    accounts: Mapping[str, Account]


class Racers:
    """The processes."""

    def __init__(self, world: World, lanes: Sequence[tuple[BaseProcess, Connection]]) -> None:
        self._world = world
        self._lanes = lanes

    def together(self, requests: Sequence[HttpRequest]) -> list[Reply]:
        """The answers of as many processes as there are requests, all handled at one moment."""
        return [Reply(answer) for answer in self._all("handle", requests)]

    def callers(self, requests: Sequence[HttpRequest]) -> list[str]:
        """For each request to the FHIR mount, at one moment: '' where a caller is seen, else the refusal."""
        return [str(refusal) for refusal in self._all("authenticate", requests)]

    def refresh(self) -> None:
        """Each takes in what the others revoked, as every node does twice a second."""
        self._all("refresh", [None] * len(self._lanes))

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._lanes)

    def _all(self, verb: str, requests: Sequence[HttpRequest | None]) -> list[Any]:
        now, at = self._world.clock.now, time.monotonic() + _START_SECONDS
        running = list(zip(self._lanes, requests, strict=False))
        assert len(running) == len(requests), "more requests than racers"
        for (_, pipe), request in running:
            pipe.send((verb, at, now, request))
        return [_received(process, pipe) for (process, pipe), _ in running]


@contextmanager
def racers(world: World, *, count: int = 4, **settings: Any) -> Iterator[Racers]:
    """So many processes over the store of world, with its clients and accounts."""
    anchored = replace(SETTINGS, certificate_anchors=(world.authority.der,), **settings)
    entry = Entry(world.storage, anchored, dict(world.clients), dict(world.accounts))
    spawn = multiprocessing.get_context("spawn")
    lanes = []
    try:
        for _ in range(count):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_run, args=(entry, theirs))
            process.start()
            theirs.close()  # so that the death of the process ends a recv() of ours
            lanes.append((process, ours))
        for process, pipe in lanes:
            assert _received(process, pipe) == "ready"
        yield Racers(world, lanes)
    finally:
        for process, pipe in lanes:
            pipe.close()
            process.join(_WAIT_SECONDS)
            if process.is_alive():
                process.kill()


def _received(process: BaseProcess, pipe: Connection) -> Any:
    assert pipe.poll(_WAIT_SECONDS), f"the process {process.pid} does not answer"
    return pipe.recv()


def _run(entry: Entry, pipe: Connection) -> None:
    asyncio.run(_serve(entry, pipe))


async def _serve(entry: Entry, pipe: Connection) -> None:
    now = 0
    events: list[Event] = []
    store = await open_storage(entry.storage)
    keys = await KeyRing.open(store, encryption_key=b"k" * 32, clock=lambda: now, emit=events.append)
    server = await AuthorizationServer.open(
        settings=entry.settings,
        store=store,
        keys=keys,
        clients=entry.clients,
        accounts=entry.accounts,
        emit=events.append,
        clock=lambda: now,
        grantable=lambda text: True,
    )
    pipe.send("ready")
    while True:
        try:
            verb, at, now, request = pipe.recv()
        except EOFError:
            await store.close()
            return
        while time.monotonic() < at:
            pass  # the clock is one for all processes of a machine
        pipe.send(await _answer(server, verb, request))


async def _answer(server: AuthorizationServer, verb: str, request: HttpRequest) -> Answer | str:
    if verb == "refresh":
        await server.refresh()
        return ""
    if verb == "handle":
        answer = await server.handle(request)
        assert answer is not None
        return answer
    try:
        await server.resource_server.authenticate(request, audience=frozenset({FHIR, FHIR_MTLS}))
    except OAuthError as error:
        return str(error)
    return ""

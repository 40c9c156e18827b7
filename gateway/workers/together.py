"""What operators see of all workers as one: readiness, metrics added up; the rest is asked of the worker that leads."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector

from authz.protocol.request import Answer, HttpRequest, RequestError
from gateway.operators_listener import METRICS_TYPE, PATHS, SAMPLES, TEXT, json_said
from gateway.telemetry import Metrics
from gateway.workers import totals
from gateway.workers.totals import Totals

_POLL_SECONDS = 2.0  # so much of what a worker counted is lost at most when it is killed
_HANGS_SECONDS = 30.0
_TIMEOUT = ClientTimeout(total=5.0)
_LONG_TIMEOUT = ClientTimeout(total=60.0)
_MAX_BODY = 1024 * 1024
_log = logging.getLogger("securus.workers")


class Colleague(Protocol):
    """A worker as it is asked: is_ready once it listened for the first time, until it ended."""

    @property
    def number(self) -> int: ...
    @property
    def is_ready(self) -> bool: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def socket(self) -> Path: ...


class Together:
    """Answers on the operations listener for all workers. leading gives the one that leads, None before there is one."""

    def __init__(
        self,
        colleagues: Sequence[Colleague],
        *,
        leading: Callable[[], Colleague | None],
        all_began: Callable[[], bool],
        is_draining: Callable[[], bool],
        metrics: Metrics,
        hangs: Callable[[int], None],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """hangs is told the number of a worker that is ready and has not answered for half a minute."""
        self._hangs = hangs
        self._steady = steady
        self._heard: dict[int, float] = {}
        self._colleagues = colleagues
        self._leading = leading
        self._all_began = all_began
        self._is_draining = is_draining
        self._metrics = metrics
        self._totals = Totals()
        self._asking = asyncio.Lock()  # an older answer must not take the place of a newer one
        self._sessions = {
            each.number: ClientSession(connector=UnixConnector(str(each.socket)), timeout=_TIMEOUT)
            for each in colleagues
        }

    async def answer(self, request: HttpRequest) -> Answer:
        """The answer to a request of an operator."""
        match request.path:
            case "/metrics":
                await self._ask_all()
                text = self._totals.text(totals.families(self._metrics.registry))
                return Answer(200, METRICS_TYPE, text)
            case "/healthz":
                return json_said(200, {"status": "ok"})
            case "/readyz":
                return await self._readiness()
            case path if path == SAMPLES:
                return Answer(404, TEXT, PATHS.encode())
            case _:
                return await self._passed_on(request)

    async def keep_asking(self) -> None:
        """Take in what the workers counted, again and again, so that little is lost with one. Does not end."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            await self._ask_all()

    async def end(self, number: int) -> None:
        """A worker is gone: what it counted stays."""
        async with self._asking:
            self._totals.end(number)
            self._heard.pop(number, None)

    async def close(self) -> None:
        """Close the connections to the workers."""
        for session in self._sessions.values():
            await session.close()

    async def _ask_all(self) -> None:
        async with self._asking:
            await asyncio.gather(*(self._ask(each) for each in self._ready()))
            now = self._steady()
            # Who drains answers us no more, and has as long as the configuration gives.
            for each in () if self._is_draining() else self._ready():
                # Its share of new connections goes to it as long as it listens, and waits there for ever.
                if now - self._heard.setdefault(each.number, now) >= _HANGS_SECONDS:
                    self._hangs(each.number)

    async def _ask(self, each: Colleague) -> None:
        # One that does not answer now keeps what it told last: no counter may fall.
        with suppress(ClientError, OSError, TimeoutError, ValueError):
            async with self._sessions[each.number].get(f"http://worker{SAMPLES}") as response:
                self._totals.note(each.number, totals.read(await response.read()))
                self._heard[each.number] = self._steady()

    def _ready(self) -> list[Colleague]:
        return [each for each in self._colleagues if each.is_ready]

    async def _readiness(self) -> Answer:
        ready = self._ready()
        answers = await asyncio.gather(*(self._said(each) for each in ready))
        said = {each.number: answer for each, answer in zip(ready, answers, strict=True)}
        problems: list[str] = ["draining"] if self._is_draining() else []
        if not self._all_began():
            problems.append("not every worker has begun")
        elif not ready:
            problems.append("no worker is ready")
        workers: list[dict[str, object]] = []
        for each in self._colleagues:
            found, policies = said.get(each.number, ([], None))
            problems += found
            status = "starting" if each.number not in said else "not ready" if found else "ready"
            workers.append({"number": each.number, "pid": each.pid, "status": status, "policies": policies})
        body = {
            "status": "not ready" if problems else "ready",
            "problems": list(dict.fromkeys(problems)),
            "workers": workers,
        }
        return json_said(503 if problems else 200, body)

    async def _said(self, each: Colleague) -> tuple[list[str], object]:
        """The problems that a worker has, and the digest of its policies."""
        try:
            async with self._sessions[each.number].get("http://worker/readyz") as response:
                said = json.loads(await response.read())
                return [str(problem) for problem in said["problems"]], said["policies"]
        except (ClientError, OSError, TimeoutError, ValueError):
            return [f"worker {each.number} does not answer"], None

    async def _passed_on(self, request: HttpRequest) -> Answer:
        leading, query = self._leading(), f"?{request.query}" if request.query else ""
        if leading is None:
            return json_said(503, {"error": "no worker is ready"})
        try:
            content = await request.body.read(_MAX_BODY)
        except RequestError as error:
            return json_said(error.status, {"error": error.description})
        try:
            async with self._sessions[leading.number].request(
                request.method,
                f"http://worker{request.path}{query}",
                headers=_kept(request.headers.items(), _ASKED),
                data=content or None,
                timeout=_LONG_TIMEOUT,
            ) as response:
                kept = _kept(response.headers.items(), None)
                return Answer(response.status, tuple(kept.items()), await response.read())
        except (ClientError, OSError, TimeoutError) as error:
            cause = "not within a minute" if isinstance(error, TimeoutError) else str(error)
            _log.error("a worker does not answer", extra={"worker": leading.number, "cause": cause})
            return json_said(503, {"error": "the worker that leads does not answer"})


_ASKED = frozenset({"accept", "content-type", "x-request-id"})
_OF_THE_CONNECTION = frozenset({"connection", "content-length", "date", "server", "transfer-encoding"})


def _kept(headers: Iterable[tuple[str, str]], names: frozenset[str] | None) -> dict[str, str]:
    """The headers of these names; without any, all that do not belong to the connection."""
    return {
        name: value
        for name, value in headers
        if (name.lower() in names if names is not None else name.lower() not in _OF_THE_CONNECTION)
    }

"""The operations listener: health, readiness, metrics, the report, the probes of stores, access evaluation.

It is for operators and their systems, on an address of its own; nothing that callers of FHIR send arrives here.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import parse_qs

from authz.clock import Clock
from authz.keys import KeyRing
from authz.protocol.clients import Client
from authz.protocol.request import Answer, HttpRequest
from authz.server import AuthorizationServer
from authz.storage.store import Store, StoreUnavailable
from gateway.operators_listener import EVALUATIONS, METRICS_TYPE, PATHS, SAMPLES, TEXT, json_said
from gateway.proxy.engine_holder import EngineHolder
from gateway.proxy.lookups.knowledge import Lookups
from gateway.proxy.probing import UpstreamProbes
from gateway.report.evidence import gather
from gateway.report.report import Report, make
from gateway.settings import GatewaySettings
from gateway.telemetry import Metrics
from gateway.workers import totals

_log = logging.getLogger("securus.operations")


class Operations:
    """What operators may ask of the process: settings are those of now, is_draining whether it is about to end."""

    def __init__(
        self,
        *,
        settings: Callable[[], GatewaySettings],
        store: Store,
        keys: KeyRing,
        authorization: AuthorizationServer,
        engines: EngineHolder,
        probes: UpstreamProbes,
        metrics: Metrics,
        clock: Clock,
        is_draining: Callable[[], bool],
        lookups: Mapping[str, Lookups],
        is_leading: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._store = store
        self._keys = keys
        self._authorization = authorization
        self._engines = engines
        self._probes = probes
        self._metrics = metrics
        self._clock = clock
        self._is_draining = is_draining
        self._lookups = lookups
        self._is_leading = is_leading
        self._unmet: list[str] = []

    async def answer(self, request: HttpRequest) -> Answer:
        """The answer to a request on the operations listener."""
        match request.path:
            case "/metrics":
                return Answer(200, METRICS_TYPE, self._metrics.text())
            case "/healthz":
                return json_said(200, {"status": "ok"})
            case "/readyz":
                problems = await self._problems()
                engine = self._engines.engine
                said = {
                    "status": "not ready" if problems else "ready",
                    "problems": problems,
                    "policies": None if engine is None else engine.policy_hash,
                }
                return json_said(503 if problems else 200, said)
            case "/report":
                return await self._show_report(request)
            case "/upstreams":
                return json_said(200, self._probes.as_json())
            case path if path.startswith(EVALUATIONS):
                from gateway import evaluations  # where somebody asks for one

                return await evaluations.answer(
                    request, self._engines.engine, now=self._clock(), lookups=self._lookups
                )
            case _:
                return Answer(404, TEXT, PATHS.encode())

    async def answer_supervisor(self, request: HttpRequest) -> Answer:
        """The answer to a request of our supervisor: as to an operator, and the metrics as he adds them up."""
        if request.path == SAMPLES:
            return Answer(200, body=totals.written(totals.families(self._metrics.registry)))
        return await self.answer(request)

    async def hold_to_profiles(self) -> None:
        """A server that does not meet a profile that it declares is not ready, and says which rule.

        Clients of the registry are left out: no application that registers itself ends the service for others.
        """
        self._unmet = [
            f"{row.rule.clause} is not met by {row.subject}: {row.finding.why} ({row.rule.id})"
            for row in (await self._report()).unmet
        ]
        for problem in self._unmet:
            _log.error("a declared profile is not met", extra={"cause": problem})

    async def _report(self, registered: Sequence[Client] = ()) -> Report:
        """What the specifications ask of this server, held against what it has now; files are read again."""
        jwks, now = self._keys.jwks(), self._clock()
        return make(
            await asyncio.to_thread(gather, self._settings(), now=now, jwks=jwks, registered=registered)
        )

    async def _show_report(self, request: HttpRequest) -> Answer:
        from gateway.report import page  # where somebody looks at it

        configured = {client.client_id for client in self._settings().clients}
        clients = await self._authorization.clients.everyone()
        report = await self._report([client for client in clients if client.client_id not in configured])
        headers = tuple(page.HEADERS.items())
        if parse_qs(request.query).get("format") == ["json"]:
            content = json.dumps(report.as_json(), ensure_ascii=False).encode()
            return Answer(200, (("Content-Type", "application/json"), *headers), content)
        html = ("Content-Type", "text/html; charset=utf-8")
        return Answer(200, (html, *headers), page.page(report).encode())

    async def _problems(self) -> list[str]:
        found = []
        if self._is_draining():
            found.append("draining")
        if self._engines.engine is None:
            found.append("no policy is in force")
        found.extend(self._unmet)
        if self._is_leading():  # the others do not probe
            found.extend(self._probes.problems())
        try:
            await self._store.check()
        except StoreUnavailable as error:
            _log.error("the store does not answer", extra={"cause": str(error)})
            found.append("the store does not answer")
        try:
            await self._keys.check()
        except StoreUnavailable as error:
            _log.error("the signing keys do not answer", extra={"cause": str(error)})
            found.append("the signing keys do not answer")
        return found

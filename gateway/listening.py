"""The listeners of the process: opened once, told of new certificates, and drained before it ends."""

import asyncio
import logging
import ssl

from authz.client_directory import ClientDirectory
from gateway import tls
from gateway.descriptors import bounds_of
from gateway.listener import Face
from gateway.operators_listener import OperatorsListener
from gateway.settings import GatewaySettings
from gateway.telemetry import Metrics
from gateway.wire.places import Places
from gateway.wire.service import Handler
from gateway.workers.worker import Worker

_log = logging.getLogger("securus.app")


class Listening:
    """The faces of a gateway, and the door for its operators. A worker shares its listeners with the others."""

    def __init__(self, settings: GatewaySettings, worker: Worker | None) -> None:
        self._settings = settings
        self._worker = worker
        self._faces: list[Face] = []
        self._operators: OperatorsListener | None = None
        self._tls: dict[str, tls.ListenerTls] = {}
        self._trusted_generation = -1
        self._places: Places | None = None

    async def open(self, handle: Handler, clients: ClientDirectory, metrics: Metrics) -> None:
        """Listen, with the certificates of these clients trusted. Raises OSError."""
        bounds = bounds_of(self._settings)
        places = Places(bounds, counted=lambda why: metrics.turned_away.labels(why).inc())
        self._places = places
        metrics.connections.set_function(lambda: places.taken)
        handshakes = places.handshakes
        metrics.handshakes.labels("waiting").set_function(lambda: handshakes.waiting)
        metrics.handshakes.labels("under_way").set_function(lambda: handshakes.under_way)
        metrics.connections_at_most.set(bounds.connections)
        for listener in self._settings.listeners:
            trusted = clients.with_own_certificates()
            context = tls.server_context(listener, trusted)
            if context is not None:
                self._tls[listener.name] = tls.ListenerTls(listener, context, trusted)
            face = Face(listener, self._settings.limits, handle, places)
            self._faces.append(face)
            await face.open(context, shared=self._worker is not None)
            _log.info("listening", extra={"listener": listener.name, "port": listener.port})

    def end_a_body(self) -> bool:
        """End the request whose body is overdue first, so that another may begin; whether there was one."""
        return self._places is not None and self._places.end_a_body()

    async def open_for_operators(self, handle: Handler) -> None:
        """Listen for operators, or for the supervisor of a worker. Raises OSError."""
        self._operators = OperatorsListener(self._settings.limits, handle)
        if self._worker is None:
            await self._operators.open(self._settings.operations.address, self._settings.operations.port)
        else:
            await self._operators.open_file(self._worker.socket)

    def trust(self, clients: ClientDirectory) -> None:
        """Let through the certificates of clients as they are now; what cannot be changed stays, and is told."""
        generation = clients.generation
        if generation == self._trusted_generation:
            return
        trusted = clients.with_own_certificates()
        for name, running in self._tls.items():
            try:
                if running.trust(trusted):
                    _log.info("client certificates changed", extra={"listener": name})
            except (OSError, ssl.SSLError) as error:
                _log.error("client certificates not changed", extra={"listener": name, "cause": str(error)})
                return
        self._trusted_generation = generation

    def reload(self) -> None:
        """Read the certificates of listeners again; what is wrong keeps the old ones and says so."""
        for name, running in self._tls.items():
            try:
                running.reload()
                _log.info("certificate reloaded", extra={"listener": name})
            except (OSError, ssl.SSLError) as error:
                _log.error("certificate not reloaded", extra={"listener": name, "cause": str(error)})

    async def stop(self, seconds: float) -> None:
        """Take no more, and let the answers in work end within so many seconds. Operators are still answered."""
        for face in self._faces:
            face.drain()
        if self._operators is not None:
            self._operators.take_no_more()
        await asyncio.gather(*(face.close(seconds) for face in self._faces))

    async def close(self) -> None:
        """Answer operators no more."""
        if self._operators is not None:
            await self._operators.close()

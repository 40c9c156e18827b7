"""The listener for operators, or that of a worker for its supervisor: plain HTTP, served by the front as all others are.

One strict reading for every byte that comes in: there is no second HTTP server in the process.
"""

import json
from pathlib import Path

from authz.http import NO_STORE, ListenerFace
from authz.protocol.request import Answer
from gateway.listener import service_of
from gateway.settings import Limits
from gateway.wire.front import Front
from gateway.wire.service import Handler

SAMPLES, EVALUATIONS = "/samples", "/access/v1/"
"""Where a worker tells its supervisor what it counted, and where decisions are asked for."""
METRICS_TYPE = (("Content-Type", "text/plain; version=0.0.4"),)
TEXT = (("Content-Type", "text/plain; charset=utf-8"),)
PATHS = "/metrics, /healthz, /readyz, /report, /upstreams and /access/v1/ are here\n"
_CLOSE_SECONDS = 1.0
_FACE = ListenerFace(origin="http://localhost")  # nothing that is answered here names where it was asked


class OperatorsListener:
    """Hands what operators ask to the handler. Opened once, at an address or at a socket file."""

    def __init__(self, limits: Limits, handler: Handler) -> None:
        self._front = Front(service_of(_FACE, limits, handler))

    async def open(self, address: str, port: int) -> None:
        """Listen. Raises OSError."""
        await self._front.open(address, port, None)

    async def open_file(self, path: Path) -> None:
        """Listen at a socket file, whose folder says who may connect. Raises OSError."""
        await self._front.open_file(path)

    def take_no_more(self) -> None:
        """Take no more connections; those that are there are answered."""
        self._front.take_no_more()

    async def close(self) -> None:
        """Let the answers in work end, for a second at most, and close every connection."""
        await self._front.close(_CLOSE_SECONDS)


def json_said(status: int, value: object) -> Answer:
    """An answer of JSON, spaced for those who read it."""
    headers = (("Content-Type", "application/json; charset=utf-8"), *NO_STORE)
    return Answer(status, headers, json.dumps(value).encode())

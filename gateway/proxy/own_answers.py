"""Answers of our own where the passage expects those of a store."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from gateway.fhir import resource
from gateway.proxy import headers
from gateway.proxy.upstream import UpstreamAnswer


class OwnAnswer(UpstreamAnswer):
    """A whole answer without a connection behind it."""

    __slots__ = ("_body",)

    def __init__(self, status: int, said: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = said
        self._body = body

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body."""
        return self._body

    async def stream(self) -> AsyncIterator[bytes]:
        """The body in one piece."""
        yield self._body

    def close(self) -> None:
        """There is no connection."""

    def __del__(self) -> None:
        """There is no connection."""


def own_resource(value: Mapping[str, Any], status: int = 200, **said: str) -> OwnAnswer:
    """A FHIR resource as a store would give it; said are further headers."""
    return OwnAnswer(status, {"content-type": headers.FHIR_JSON, **said}, resource.write_resource(value))


def own_refusal(status: int, diagnostics: str) -> OwnAnswer:
    """An OperationOutcome as a store would give it."""
    issue = {
        "severity": "error",
        "code": "not-found" if status == 404 else "not-supported",
        "diagnostics": diagnostics,
    }
    return own_resource({"resourceType": "OperationOutcome", "issue": [issue]}, status)

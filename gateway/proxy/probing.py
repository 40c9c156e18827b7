"""The probes of all stores of a process: made in the background at start, and again while a store is not right."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from gateway.proxy.probe import ProbeResult, probe
from gateway.proxy.upstream import UpstreamClient
from gateway.settings import Probe

_AGAIN_SECONDS = 30.0
_log = logging.getLogger("securus.upstream")


class UpstreamProbes:
    """What is known of the stores by asking them. criteria gives the search parameters of the policies in force."""

    def __init__(
        self, clients: Sequence[UpstreamClient], criteria: Callable[[], Mapping[str, frozenset[str]]]
    ) -> None:
        self._clients = [client for client in clients if client.upstream.probe is not Probe.OFF]
        self._criteria = criteria
        self._results: dict[str, ProbeResult] = {}

    async def keep(self) -> None:
        """Probe every store now, and those that are not right again every 30 s. Does not end."""
        while True:
            await self.run()
            await asyncio.sleep(_AGAIN_SECONDS)

    async def run(self) -> None:
        """Probe the stores that are not known to be right, all at once."""
        due = [client for client in self._clients if not self._is_right(client)]
        for result in await asyncio.gather(*(probe(client, self._criteria()) for client in due)):
            if result != self._results.get(result.upstream):
                _tell(result)
            self._results[result.upstream] = result

    def problems(self) -> list[str]:
        """Why the gateway is not ready: a store with 'probe: required' that is not known to be right."""
        return [
            f"the store '{client.upstream.name}' is not as its profile says, or not probed yet"
            for client in self._clients
            if client.upstream.probe is Probe.REQUIRED and not self._is_right(client)
        ]

    def as_json(self) -> list[dict[str, object]]:
        """The newest result of every store that is probed."""
        return [result.as_json() for _, result in sorted(self._results.items())]

    def _is_right(self, client: UpstreamClient) -> bool:
        result = self._results.get(client.upstream.name)
        return result is not None and result.is_right


def _tell(result: ProbeResult) -> None:
    fields = {"route": result.upstream, "version": f"{result.software}, FHIR {result.fhir_version}"}
    if result.fhir_version:
        _log.info("a store was probed", extra=fields)
    for finding in result.findings:
        level = logging.WARNING if result.is_right else logging.ERROR
        _log.log(
            level, "a store is not as expected", extra={"route": result.upstream, "cause": finding.message}
        )

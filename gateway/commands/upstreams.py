"""securus upstream …"""

import argparse
import asyncio
import logging

from gateway.commands.answers import OK, REFUSED, add_group, add_verb, say
from gateway.commands.opened import settings_of
from gateway.commands.verbs import VERBS
from gateway.policies_folder import load_policies, policy_files
from gateway.policy.reading.criteria_used import criteria_used
from gateway.proxy.probe import ProbeResult, probe
from gateway.proxy.upstream import UpstreamClient
from gateway.settings import GatewaySettings


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    group = add_group(verbs, "upstream", VERBS["upstream"].help)
    add_verb(group, "probe", "ask every store what it can do, and hold that against its profile", _probe)


def _probe(options: argparse.Namespace) -> int:
    causes = _Causes()
    log = logging.getLogger("securus.upstream")
    log.addHandler(causes)
    try:
        settings = settings_of(options)
        results = asyncio.run(_results(settings))
    finally:
        log.removeHandler(causes)
    bases = {upstream.name: upstream.base for upstream in settings.upstreams}
    lines = []
    for result in results:
        right = "right" if result.is_right else "not right"
        said = f"{result.software or 'unnamed software'}, FHIR {result.fhir_version or 'unknown'}"
        lines.append(
            f"{result.upstream} at {bases[result.upstream]}: {right} for the profile {result.profile}: {said}"
        )
        lines += [f"  {finding.level}: {finding.message}" for finding in result.findings]
        lines += [f"  because: {cause}" for cause in dict.fromkeys(causes.of(result.upstream))]
    say(options, [result.as_json() for result in results], lines)
    return OK if all(result.is_right for result in results) else REFUSED


class _Causes(logging.Handler):
    """What the log says of stores while they are asked: callers are told no more than that one cannot be."""

    def __init__(self) -> None:
        super().__init__()
        self._said: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        said = vars(record)
        self._said.append((str(said.get("route", "")), str(said.get("cause", record.getMessage()))))

    def of(self, upstream: str) -> list[str]:
        """What was said of this one."""
        return [cause for route, cause in self._said if route == upstream]


async def _results(settings: GatewaySettings) -> list[ProbeResult]:
    criteria = criteria_used(load_policies(policy_files(settings.policies)))
    found = []
    for upstream in settings.upstreams:
        client = UpstreamClient(upstream, lambda seconds: None)
        await client.open()
        try:
            found.append(await probe(client, criteria))
        finally:
            await client.close()
    return found

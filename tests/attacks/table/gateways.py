"""The gateways of the worlds of a table: each is started when a row asks for it, once, and all are stopped at the end."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from gateway.fhir.search import OPENABLE
from gateway.settings import UpstreamProfile
from tests.attacks.table.worlds import CALLERS, DEFINITIONS, wide_world
from tests.support.gateway import PRINCIPALS, RunningGateway, start_gateway, stop_gateway

Open = Callable[[str], Awaitable[RunningGateway]]
"""Gives the gateway of a world by its name."""
_ABLE = UpstreamProfile(opened_parameters=OPENABLE)
"""The store carries out all that a policy can open: what is refused is refused by the policies."""


@asynccontextmanager
async def gateways_of(policies: Mapping[str, str], folders: pytest.TempPathFactory) -> AsyncIterator[Open]:
    """Opens the gateways of worlds, whose policies these are by their names."""
    opened: dict[str, RunningGateway] = {}

    async def open_(name: str) -> RunningGateway:
        if name not in opened:
            folder = folders.mktemp(name)
            of_world = folder / "policies"
            of_world.mkdir()
            (of_world / "00-definitions.yaml").write_text(DEFINITIONS)
            (of_world / f"{name}.yaml").write_text(policies[name])
            opened[name] = await start_gateway(folder, policies=of_world, profile=_ABLE)
            opened[name].upstream.made = wide_world
        return opened[name]

    PRINCIPALS.update(CALLERS)
    yield open_
    for running in opened.values():
        await stop_gateway(running)

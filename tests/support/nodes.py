"""Several gateway processes with one configuration and one store, as behind a load balancer: each on ports of its own."""

import asyncio
import json
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.demo import world
from tests.support.processes import PROGRAM, GatewayProcess, serve, start_process


class Node(GatewayProcess):
    """A gateway process whose public addresses are those of the first: its sessions find it by port."""

    def connector(self, context: ssl.SSLContext) -> aiohttp.TCPConnector:
        """Connections to this node whatever port an address says; Host and htu stay those of the address."""
        return aiohttp.TCPConnector(ssl=context, resolver=_ToPort(self.ports.public))


class _ToPort(AbstractResolver):
    def __init__(self, port: int) -> None:
        self._port = port

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = ResolveResult(
            hostname=host, host="127.0.0.1", port=self._port, family=socket.AF_INET, proto=0, flags=0
        )
        return [found]

    async def close(self) -> None:
        return None


async def start_nodes(
    folder: Path,
    count: int,
    change: Callable[[dict[str, Any]], None],
    own: Callable[[dict[str, Any], int], None] = lambda document, number: None,
    policies: dict[str, str] | None = None,
    by: Callable[[int], Sequence[str]] = lambda number: PROGRAM,
) -> list[GatewayProcess]:
    """So many nodes; the first answers at the addresses of the configuration. Whoever asks stops them.

    own changes what only one of them has, the first being number 0; by is the command of each that stands for `securus`.
    """

    def changed(document: dict[str, Any]) -> None:
        change(document)
        own(document, 0)

    first = await start_process(folder, change=changed, policies=policies, by=by(0))
    nodes = [first]
    try:
        for number in range(1, count):
            nodes.append(await _another(first, number, own, by(number)))
    except BaseException:
        await stop_nodes(nodes)
        raise
    return nodes


async def stop_nodes(nodes: list[GatewayProcess]) -> None:
    """End every node."""
    for node in nodes:
        await node.stop(signal.SIGKILL)


async def start_again(stopped: GatewayProcess, change: Callable[[dict[str, Any]], None]) -> GatewayProcess:
    """The same gateway with a changed configuration, on its own ports."""
    config = Path(stopped.facts["config"])
    document = yaml.safe_load(config.read_text())
    change(document)
    config.write_text(json.dumps(document))
    return await serve(stopped.facts, stopped.folder, stopped.ports)


async def securus(node: GatewayProcess, *arguments: str) -> Any:
    """What a verb prints as JSON, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, "--json", "-c", node.facts["config"],
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, (out, err)
    return json.loads(out)


async def restarted(ended: GatewayProcess) -> GatewayProcess:
    """A process in the place of one that has ended: with its configuration, on its ports."""
    name = Path(ended.facts["config"]).stem
    return await serve(ended.facts, ended.folder, ended.ports, name, type(ended))


async def _another(
    first: GatewayProcess, number: int, own: Callable[[dict[str, Any], int], None], by: Sequence[str]
) -> GatewayProcess:
    ports = world.Ports(*(world.free_port() for _ in range(3)), first.ports.upstream)
    document = yaml.safe_load(Path(first.facts["config"]).read_text())
    for name, port in (("public", ports.public), ("mtls", ports.mtls), ("operations", ports.operations)):
        document["listen"][name]["port"] = port
    own(document, number)
    config = first.folder / f"node-{number}.yaml"
    config.write_text(json.dumps(document))
    facts = {**first.facts, "config": str(config), "ops_base": f"http://127.0.0.1:{ports.operations}"}
    return await serve(facts, first.folder, ports, f"node-{number}", Node, by)

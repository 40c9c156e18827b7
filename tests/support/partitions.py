"""Three nodes, each in a network namespace of its own, over one PostgreSQL and one Valkey with TLS beside them."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from gateway.demo import world
from gateway.demo.authority import Authority
from tests.support.cluster import NODES, Cluster
from tests.support.namespaces import Namespace, namespaces
from tests.support.nodes import Node, stop_nodes
from tests.support.postgresql import private_server
from tests.support.processes import GatewayProcess, serve
from tests.support.tcp_proxy import tcp_proxy
from tests.support.valkey import secured_valkey_server
from tests.support.workers_load import patient_store

_EVERYWHERE = "0.0.0.0"
_PATIENCE = "5s"  # nodes whose every byte goes through proxies in the process of the tests, on a busy machine


@asynccontextmanager
async def nodes_in_namespaces(folder: Path) -> AsyncIterator[tuple[Cluster, list[Namespace]]]:
    """The cluster, ready, and where its nodes are. Skips where no namespace can be made."""
    async with AsyncExitStack() as stack:
        places = stack.enter_context(namespaces(NODES))
        server = stack.enter_context(private_server())
        database = await server.new_database()
        authority = Authority.new("Authority of the cache")
        (folder / "cache.pem").write_bytes(authority.pem)
        cache = stack.enter_context(
            secured_valkey_server(authority, folder, [place.behind for place in places])
        )
        ports = world.Ports(*(world.free_port() for _ in range(4)))
        facts = world.build(folder, ports)
        nodes: list[GatewayProcess] = []
        stack.push_async_callback(stop_nodes, nodes)
        for place in places:
            store = await stack.enter_async_context(tcp_proxy(server.port, at=(place.behind, 0)))
            claims = await stack.enter_async_context(tcp_proxy(cache.port, at=(place.behind, 0)))
            charts = await stack.enter_async_context(tcp_proxy(ports.upstream, at=(place.front, 0)))
            dsn = server.dsn(database).replace(f"127.0.0.1:{server.port}", f"{place.behind}:{store.port}")
            own = ports if not nodes else world.Ports(*(world.free_port() for _ in range(3)), ports.upstream)
            for port in (own.public, own.operations):
                await stack.enter_async_context(tcp_proxy(port, host=place.node, at=("127.0.0.1", port)))
            document = yaml.safe_load(Path(facts["config"]).read_text())
            _listen(document, own)
            (folder / f"postgresql-{place.number}.dsn").write_text(dsn + "\n")
            _keep(document, f"postgresql-{place.number}.dsn", f"valkeys://{place.behind}:{claims.port}/0")
            document["upstreams"]["fhir"]["base"] = f"http://{place.front}:{charts.port}/fhir"
            config = folder / f"node-{place.number}.yaml"
            config.write_text(json.dumps(document))
            mine = {**facts, "config": str(config), "ops_base": f"http://127.0.0.1:{own.operations}"}
            by = place.within(sys.executable, "-m", "gateway")
            nodes.append(await serve(mine, folder, own, config.stem, Node, by))
        # A verb of the command line runs beside us, and reaches the store directly.
        (folder / "beside.dsn").write_text(server.dsn(database) + "\n")
        document["storage"]["postgresql"]["dsn"] = {"file": "beside.dsn"}
        document["storage"].pop("valkey")
        beside = folder / "beside.yaml"
        beside.write_text(json.dumps(document))
        nodes[0].facts["config"] = str(beside)
        answering = await stack.enter_async_context(patient_store(nodes[0]))
        yield Cluster(nodes, [], server, database, answering, []), places


def _listen(document: dict[str, Any], ports: world.Ports) -> None:
    for name, port in (("public", ports.public), ("mtls", ports.mtls), ("operations", ports.operations)):
        document["listen"][name] |= {"address": _EVERYWHERE, "port": port}


def _keep(document: dict[str, Any], dsn: str, cache: str) -> None:
    document["storage"] = {
        "postgresql": {"dsn": {"file": dsn}, "statement_timeout": _PATIENCE},
        "valkey": {"url": cache, "timeout": _PATIENCE, "certificate_authorities": {"file": "cache.pem"}},
    }
    document["authorization"]["lifetimes"] = {
        "access_token": "3600s",
        "dpop_proof": "300s",
        "dpop_nonce": "3600s",
    }
    document["authorization"]["sign_in_attempts"] = "1000/min"

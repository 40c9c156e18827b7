"""Three nodes over one PostgreSQL server of their own, each with a proxy of its own between it and the server.

A caller may go to any node: addresses are those of the first, and a connection leads where the test wants.
"""

import asyncio
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from gateway.demo.client import Person, Session, _Forms
from tests.support.gateway import Reply, parse_reply
from tests.support.nodes import start_nodes, stop_nodes
from tests.support.postgresql import PrivateServer, private_server
from tests.support.processes import PROGRAM, GatewayProcess
from tests.support.tcp_proxy import TcpProxy, tcp_proxy
from tests.support.valkey import ValkeyServer
from tests.support.workers import Connection
from tests.support.workers_load import Store, patient_store

NODES = 3
ROUNDS = int(os.environ.get("SECURUS_RACES", "0"))
"""How many times each thing is raced for; 0 is as often as a quick run can."""
SCOPE = "launch/patient patient/*.rs offline_access"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
CLOSE = ("Connection", "close")
_ANSWER_SECONDS = 60


@dataclass
class Cluster:
    """The nodes, the proxy of each to the server, the server, and the store of charts behind them.

    caches are the proxies of each to Valkey, where there is one.
    """

    nodes: list[GatewayProcess]
    proxies: list[TcpProxy]
    server: PrivateServer
    database: str
    charts: Store
    caches: list[TcpProxy]

    async def audit(self) -> list[dict[str, Any]]:
        """Every audit record, as the server has it."""
        rows = await self.server.run("SELECT line FROM audit ORDER BY sequence", self.database)
        return [json.loads(row[0]) for row in rows]


@asynccontextmanager
async def three_nodes(
    folder: Path,
    change: Callable[[dict[str, Any]], None] = lambda document: None,
    *,
    policies: dict[str, str] | None = None,
    charts: Store | None = None,
    valkey: ValkeyServer | None = None,
    by: Callable[[int], Sequence[str]] = lambda number: PROGRAM,
) -> AsyncIterator[Cluster]:
    """The cluster, ready. change is made to the configuration of all, which have these policies as well.

    by is the command of each node that stands for `securus`.
    """
    async with AsyncExitStack() as stack:
        server = stack.enter_context(private_server())
        database = await server.new_database()
        caches = []
        if valkey is not None:
            caches = [await stack.enter_async_context(tcp_proxy(valkey.port)) for _ in range(NODES)]
        proxies = [await stack.enter_async_context(tcp_proxy(server.port)) for _ in range(NODES)]
        for number, proxy in enumerate(proxies):
            address = server.dsn(database).replace(f":{server.port}/", f":{proxy.port}/")
            (folder / f"postgresql-{number}.dsn").write_text(address + "\n")

        def all_have(document: dict[str, Any]) -> None:
            document["storage"] = {"postgresql": {"statement_timeout": "2s"}}
            document["authorization"]["lifetimes"] = {
                "access_token": "3600s",
                "dpop_proof": "300s",
                "dpop_nonce": "3600s",
            }
            document["authorization"]["sign_in_attempts"] = "1000/min"
            change(document)

        def own(document: dict[str, Any], number: int) -> None:
            document["storage"]["postgresql"]["dsn"] = {"file": f"postgresql-{number}.dsn"}
            if caches:
                url = f"valkey://127.0.0.1:{caches[number].port}/0"
                document["storage"]["valkey"] = {"url": url, "timeout": "1s"}

        nodes = await start_nodes(folder, NODES, all_have, own, policies, by)
        try:
            async with patient_store(nodes[0], charts) as answering:
                yield Cluster(nodes, proxies, server, database, answering, caches)
        finally:
            await stop_nodes(nodes)


async def connect(node: GatewayProcess) -> Connection:
    """A TLS connection to this node."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", node.ports.public, ssl=_context(node), server_hostname="localhost"
    )
    return Connection(reader, writer, node.process.pid)


@asynccontextmanager
async def one_to_each(nodes: list[GatewayProcess]) -> AsyncIterator[list[Connection]]:
    """A connection to each node, for many requests."""
    found: list[Connection] = []
    try:
        for node in nodes:
            found.append(await connect(node))
        yield found
    finally:
        for connection in found:
            await connection.close()


async def ask(node: GatewayProcess, request: bytes) -> Reply | None:
    """The answer to a request on a connection of its own; None where not one byte came. Half an answer is an error."""
    raw = b""
    writer = None
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", node.ports.public, ssl=_context(node), server_hostname="localhost"
        )
        writer.write(request)
        async with asyncio.timeout(_ANSWER_SECONDS):
            while piece := await reader.read(65536):
                raw += piece
    except TimeoutError:
        raise AssertionError(f"no end of an answer within {_ANSWER_SECONDS} s") from None
    except OSError:
        pass
    finally:
        if writer is not None:
            writer.transport.abort()
    if not raw:
        return None
    reply = parse_reply(raw)
    length = reply.header("content-length")
    whole = reply.has_last_chunk if length is None else len(reply.body) == int(length)
    assert whole, raw
    return reply


def learn(app: Session, place: str, replies: list[Reply]) -> None:
    """Use the newest nonce that the nodes gave."""
    for reply in replies:
        nonce = reply.header("dpop-nonce")
        if nonce is not None:
            app.nonces[place] = nonce


def assertion_of(app: Session) -> dict[str, str]:
    """The parameters by which the app authenticates, once."""
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": app._assertion()}


async def races(count: int, lanes: int, run: Callable[[int, int], Awaitable[None]]) -> float:
    """Run so many races in so many lanes, each with the number of its lane and its own; how many a second."""
    numbers = iter(range(count))
    started = time.monotonic()

    async def lane(own: int) -> None:
        for number in numbers:
            await run(own, number)

    async with asyncio.TaskGroup() as group:
        for own in range(lanes):
            group.create_task(lane(own))
    return count / (time.monotonic() - started)


class Visitor(Person):
    """A person at a browser who can stop before a button is pressed."""

    async def consent_page(self, url: str, username: str, password: str) -> tuple[str, list[tuple[str, str]]]:
        """Sign in where it is asked for; address and fields of the consent form, with allow pressed."""
        location, page = await self._open("GET", url, None)
        for _ in range(4):
            assert location is None, location
            form = _Forms()
            form.feed(page)
            if "allow" in form.buttons:
                return urljoin(url, form.action), [*form.fields, form.buttons["allow"]]
            filled = {"username": username, "password": password}
            fields = [(name, filled.get(name, value)) for name, value in form.fields]
            fields.append(form.buttons["login"])
            location, page = await self._open("POST", urljoin(url, form.action), fields)
        raise AssertionError("no consent page")

    async def end_access(self, issuer: str, client_id: str, username: str, password: str) -> None:
        """End every access of an app on the page of the own grants."""
        url = f"{issuer}/account/grants"
        _, page = await self._open("GET", url, None)
        form = _Forms()
        form.feed(page)
        if "password" in dict(form.fields):
            filled = {"username": username, "password": password}
            fields = [(name, filled.get(name, value)) for name, value in form.fields]
            _, page = await self._open("POST", urljoin(url, form.action), [*fields, form.buttons["login"]])
            form = _Forms()
            form.feed(page)
        token = dict(form.fields)["form_token"]
        fields = [("form_token", token), ("client", client_id), ("action", "revoke")]
        _, page = await self._open("POST", url, fields)
        assert 'id="ended"' in page, page

    @property
    def cookie(self) -> tuple[str, str]:
        """The header with the cookies of this browser."""
        return "Cookie", "; ".join(f"{name}={value}" for name, value in self._cookies.items())


def said(what: str, numbers: Mapping[str, object]) -> None:
    """Print what was measured."""
    print(f"{what}: {', '.join(f'{name} {value}' for name, value in numbers.items())}")


_contexts: dict[str, ssl.SSLContext] = {}


def _context(node: GatewayProcess) -> ssl.SSLContext:
    path = node.facts["ca_certificate"]
    if path not in _contexts:
        _contexts[path] = ssl.create_default_context(cafile=path)
    return _contexts[path]

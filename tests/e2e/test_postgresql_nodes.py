"""Two gateway processes over one PostgreSQL: what one gives the other takes, what one ends is ended at the other."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.demo import world
from gateway.demo.client import Person, Reply, Session
from gateway.demo.fhir_server import SampleServer
from gateway.demo.fhir_store import SampleStore, sample_resources
from tests.support.nodes import securus, start_nodes, stop_nodes
from tests.support.postgresql import PrivateServer, private_server
from tests.support.processes import GatewayProcess

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("postgresql-nodes"),
]
SCOPE = "launch/patient patient/*.rs offline_access"


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateServer]:
    """A server of this module's own: a test stops it."""
    with private_server() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes(
    server: PrivateServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[GatewayProcess]]:
    folder = tmp_path_factory.mktemp("nodes")
    database = await server.new_database()
    (folder / "postgresql.dsn").write_text(server.dsn(database) + "\n")

    def change(document: dict[str, Any]) -> None:
        document["storage"] = {"postgresql": {"dsn": {"file": "postgresql.dsn"}, "statement_timeout": "1s"}}
        document["keys"]["announced_for"] = "60s"

    def own(document: dict[str, Any], number: int) -> None:
        document["audit"] = {"node": f"node-{number}", "heads": {"records": 5, "every": "1s"}}

    started = await start_nodes(folder, 2, change, own)
    upstream = SampleServer(
        SampleStore.of(sample_resources()), f"http://127.0.0.1:{started[0].ports.upstream}/fhir"
    )
    runner = web.ServerRunner(web.Server(upstream.handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", started[0].ports.upstream).start()
    yield started
    await runner.cleanup()
    await stop_nodes(started)


async def read(node: GatewayProcess, app: Session, token: str) -> Reply:
    """The patient's own record, asked of this node by that app's keys."""
    async with node.session("portal-dpop") as here:
        here.proof_key = app.proof_key
        return await here.get(f"{node.facts['fhir_base']}/Patient/{world.PATIENT}", token)


async def becomes(node: GatewayProcess, app: Session, token: str, status: int) -> bool:
    """Whether reads get that status within ten looks, a tenth of a second apart."""
    for _ in range(10):
        if (await read(node, app, token)).status == status:
            return True
        await asyncio.sleep(0.1)
    return False


async def test_a_flow_wanders_between_the_nodes_and_its_token_is_good_at_both(
    nodes: list[GatewayProcess],
) -> None:
    first, second = nodes
    user = next(user for user in first.facts["users"] if user["username"] == "stephen")
    async with first.session("portal-dpop") as app, second.session("portal-dpop") as other:
        await app.discover()
        await other.discover()
        other.proof_key = app.proof_key
        pushed, verifier, _ = await app.push(world.REDIRECT_URI, SCOPE)
        url = app.authorization_url(pushed.json["request_uri"])
        answer = await Person(other.http).authorize(url, "stephen", user["password"])
        issued = await app.redeem(answer["code"], verifier, world.REDIRECT_URI)
        assert issued.status == 200, issued.body
        token = issued.json["access_token"]
        for node in nodes:
            found = await read(node, app, token)
            assert (found.status, found.json["id"]) == (200, world.PATIENT)
        refreshed = await other.post(
            other.endpoint("token_endpoint"),
            {"grant_type": "refresh_token", "refresh_token": issued.json["refresh_token"]},
        )
        assert refreshed.status == 200
        # A3: the second use of the code, at the other node, ends what came of the first.
        again = await other.redeem(answer["code"], verifier, world.REDIRECT_URI)
        assert (again.status, again.json["error"]) == (400, "invalid_grant")
        for node in nodes:
            assert await becomes(node, app, token, 401)
            assert await becomes(node, app, refreshed.json["access_token"], 401)


async def test_I2_what_is_revoked_or_suspended_at_one_node_or_by_a_verb_ends_at_every_node(
    nodes: list[GatewayProcess],
) -> None:
    first, second = nodes
    async with first.session("portal-dpop") as app, first.session("portal-dpop-2") as other:
        tokens = [(await first.token_of(app, "stephen", SCOPE))["access_token"] for _ in range(2)]
        assert (await read(second, app, tokens[0])).status == 200
        await app.post(app.endpoint("revocation_endpoint"), {"token": tokens[0]})
        assert await becomes(second, app, tokens[0], 401)
        assert (await read(second, app, tokens[1])).status == 200
        await securus(second, "user", "revoke-grants", "stephen", "--client", app.client_id, "--why", "lost")
        for node in nodes:
            assert await becomes(node, app, tokens[1], 401)
        token = (await first.token_of(other, "stephen", SCOPE))["access_token"]
        assert (await read(second, other, token)).status == 200
        await securus(first, "client", "suspend", other.client_id, "--why", "broken in")
        for node in nodes:
            assert await becomes(node, other, token, 401)


async def test_a_key_that_an_operator_announces_is_published_by_every_node(
    nodes: list[GatewayProcess],
) -> None:
    made = await securus(nodes[0], "key", "rotate")
    for node in nodes:
        async with node.session("portal-dpop") as app:
            url = (await app.discover())["jwks_uri"]
            for _ in range(10):
                kids = {key["kid"] for key in (await app.send("GET", url)).json["keys"]}
                if made["kid"] in kids:
                    break
                await asyncio.sleep(0.1)
            assert made["kid"] in kids


async def test_while_postgresql_is_away_nothing_passes_and_afterwards_everything_does(
    nodes: list[GatewayProcess], server: PrivateServer
) -> None:
    first, _ = nodes
    async with first.session("portal-dpop") as app:
        token = (await first.token_of(app, "stephen", SCOPE))["access_token"]
        for stopped in (True, False):
            if stopped:
                server.stop()
                for node in nodes:
                    assert (await read(node, app, token)).status == 503
                    assert (await node.operations("/readyz"))[0] == 503
                    assert (await node.operations("/healthz"))[0] == 200
                server.start()
            else:
                with server.frozen():
                    for node in nodes:
                        assert (await read(node, app, token)).status == 503
            for node in nodes:
                async with asyncio.timeout(30):
                    while (await read(node, app, token)).status != 200:
                        await asyncio.sleep(0.1)


async def test_each_node_wrote_a_chain_of_its_own_and_one_signed_both(
    nodes: list[GatewayProcess],
) -> None:
    found = await securus(nodes[0], "audit", "verify")
    assert found["whole"], found
    assert found["records"] > 20
    async with asyncio.timeout(30):
        while set((await securus(nodes[1], "audit", "head"))["records"]) != {"node-0", "node-1"}:
            await asyncio.sleep(0.1)
    found = await securus(nodes[1], "audit", "verify")
    assert (found["whole"], found["heads"] > 0) == (True, True), found

"""A running gateway whose gateway.yaml names a client's key set by URL."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from gateway.demo.client import Key
from tests.support.key_server import KeyServer, key_server
from tests.support.processes import GatewayProcess, start_process

pytestmark = [
    pytest.mark.asyncio(loop_scope="function"),
    pytest.mark.process,
    pytest.mark.xdist_group("administration"),
]
UNAVAILABLE = (
    "the key set of the client could not be had: see that its URL answers, or register keys by value"
)
ASKED = {"grant_type": "client_credentials", "scope": "system/Organization.rs"}


async def answer_of_token_endpoint(running: GatewayProcess) -> dict[str, Any]:
    """What the client resource-server is told when it asks for a token."""
    async with running.session("resource-server") as app:
        await app.discover()
        found: dict[str, Any] = (await app.post(app.endpoint("token_endpoint"), ASKED)).json
        return found


async def started(folder: Path, keys: KeyServer, *, allow: list[str], own: bool = False) -> GatewayProcess:
    """A gateway that knows the keys of resource-server by URL: that of the key server, or one of its own."""
    (folder / "keys-ca.pem").write_text(keys.authority)

    def change(document: dict[str, Any]) -> None:
        client = next(c for c in document["clients"] if c["client_id"] == "resource-server")
        url = document["public_url"] + "/jwks" if own else f"https://127.0.0.1:{keys.port}/jwks.json"
        client["jwks"] = {"url": url}
        document["fetch"] = {"allow": allow, "certificate_authorities": {"file": "keys-ca.pem"}}

    running = await start_process(folder, change=change)
    (private,) = next(c for c in running.facts["clients"] if c["name"] == "resource-server")["jwks"]["keys"]
    keys.publish(Key.of_jwk(private).public)
    return running


async def test_I3_keys_are_fetched_from_an_address_that_is_listed(tmp_path: Path) -> None:
    async with key_server(tmp_path) as keys:
        running = await started(tmp_path, keys, allow=["127.0.0.1"])
        try:
            assert "access_token" in await answer_of_token_endpoint(running)
            assert len(keys.seen) == 1
            text = (await running.operations("/metrics"))[1]
            assert 'securus_key_set_fetches_total{outcome="fetched"} 1.0' in text
            (record,) = [line for line in running.audit() if line["event"] == "key-set-fetched"]
            assert (record["outcome"], record["changed"]) == ("fetched", True)
        finally:
            await running.stop(signal.SIGKILL)


@pytest.mark.parametrize(("allow", "own"), [([], False), (["127.0.0.0/8", "::1", "localhost"], True)])
async def test_I3_neither_a_private_address_nor_its_own_listener_is_asked(
    tmp_path: Path, allow: list[str], own: bool
) -> None:
    async with key_server(tmp_path) as keys:
        running = await started(tmp_path, keys, allow=allow, own=own)
        try:
            told = await answer_of_token_endpoint(running)
            assert told == {"error": "invalid_client", "error_description": UNAVAILABLE}
            assert keys.seen == []
            (record,) = [line for line in running.audit() if line["event"] == "key-set-fetched"]
            assert record["outcome"] == "refused"
            assert json.dumps(record).count("own" if own else "not a public address") == 1
        finally:
            await running.stop(signal.SIGKILL)

"""A client of the registry at the running gateway: its certificate in the handshake, its tokens at the FHIR mount."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.gateway import RunningGateway, start_gateway, stop_gateway
from tests.support.registration import WHO
from tests.unit.test_listener_tls import Peer


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    gateway = await start_gateway(tmp_path)
    yield gateway
    await stop_gateway(gateway)


def document(peer: Peer) -> dict[str, Any]:
    return {
        "client_name": "Laboratory",
        "token_endpoint_auth_method": "self_signed_tls_client_auth",
        "grant_types": ["client_credentials"],
        "scope": "system/*.rs",
        "tls_client_certificate_bound_access_tokens": True,
        "jwks": {"keys": [dict(key) for key in peer.client().jwks]},
    }


async def token_answer(running: RunningGateway, peer: Peer, client_id: str) -> dict[str, Any]:
    """What the token endpoint says to a client with that certificate; empty when the handshake is refused."""
    form = urlencode({"grant_type": "client_credentials", "client_id": client_id}).encode()
    context = ssl.create_default_context(cafile=str(running.folder / "ca.pem"))
    context.load_cert_chain(peer.file)
    reader, writer = await asyncio.open_connection("localhost", running.mtls_port, ssl=context)
    head = (
        f"POST /token HTTP/1.1\r\nHost: localhost:{running.mtls_port}\r\nConnection: close\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n\r\n"
    )
    try:
        writer.write(head.encode() + form)
        answer = await asyncio.wait_for(reader.read(), 20)
    except (ssl.SSLError, ConnectionError):
        return {}
    finally:
        writer.close()
    found = json.loads(answer.partition(b"\r\n\r\n")[2]) if answer else {}
    assert isinstance(found, dict)
    return found


async def test_a_registered_certificate_works_without_a_restart_and_until_it_is_suspended(
    running: RunningGateway,
) -> None:
    peer, registry = Peer(running.folder, "laboratory"), running.gateway.authorization.registry
    made = await registry.add(document(peer), **WHO, approved=False)
    client_id = made.registration.client_id
    await running.gateway._refresh()
    assert await token_answer(running, peer, client_id) == {}
    await registry.approve(client_id, **WHO)
    await running.gateway._refresh()
    assert (await token_answer(running, peer, client_id))["token_type"] == "Bearer"
    await registry.suspend(client_id, **WHO)
    await running.gateway._refresh()
    assert await token_answer(running, peer, client_id) == {}
    told = [record for record in await running.audit() if record.get("event") == "client-changed"]
    assert [record["what"] for record in told] == ["registered", "approved", "suspended"]
    assert {record["who"] for record in told} == {"alice"}
    assert b'securus_client_changes_total{what="suspended"} 1.0' in running.gateway.metrics.text()


async def test_a_token_of_a_suspended_client_is_401_at_the_gateway_at_once(running: RunningGateway) -> None:
    peer, registry = Peer(running.folder, "laboratory"), running.gateway.authorization.registry
    made = await registry.add(document(peer), **WHO, approved=True)
    token = await running.token("lab", client_id=made.registration.client_id)
    assert (await running.fhir("GET", "/Observation/x", token=token)).status != 401
    await registry.suspend(made.registration.client_id, **WHO)
    refused = await running.fhir("GET", "/Observation/x", token=token)
    assert refused.status == 401
    challenge = refused.header("www-authenticate") or ""
    assert 'error="invalid_token", error_description="the client is suspended"' in challenge
    unknown = await running.token("lab")
    assert (await running.fhir("GET", "/Observation/x", token=unknown)).status != 401

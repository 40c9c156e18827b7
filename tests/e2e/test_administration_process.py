"""Administration of a gateway that runs: by the command line beside it, and over HTTP."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.demo import world
from gateway.demo.client import Session
from tests.support.nodes import securus
from tests.support.processes import GatewayProcess, start_process

pytestmark = [
    pytest.mark.asyncio(loop_scope="function"),
    pytest.mark.process,
    pytest.mark.xdist_group("administration"),
]
SCOPE = "launch/patient patient/*.rs"


def _with_administrator(document: dict[str, Any]) -> None:
    """The client resource-server administers too."""
    client = next(c for c in document["clients"] if c["client_id"] == "resource-server")
    client["scope"] = "securus/admin"


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    gateway = await start_process(tmp_path, change=_with_administrator)
    yield gateway
    await gateway.stop(signal.SIGKILL)


async def soon_refused(running: GatewayProcess, app: Session, token: str) -> bool:
    """Whether the gateway refuses the token within ten looks, a tenth of a second apart."""
    url = f"{running.facts['fhir_base']}/Patient/{world.PATIENT}"
    for _ in range(10):
        if (await app.get(url, token)).status == 401:
            return True
        await asyncio.sleep(0.1)
    return False


async def accepted(running: GatewayProcess, app: Session, token: str) -> bool:
    """Whether the gateway takes the token; there is no store behind it, so 502 is as far as it goes."""
    reply = await app.get(f"{running.facts['fhir_base']}/Patient/{world.PATIENT}", token)
    return reply.status not in (401, 403)


async def test_I2_what_an_operator_revokes_or_suspends_beside_it_ends_at_the_running_gateway(
    running: GatewayProcess,
) -> None:
    async with running.session("portal-dpop") as app, running.session("portal-dpop-2") as other:
        token = (await running.token_of(app, "stephen", SCOPE))["access_token"]
        second = (await running.token_of(other, "stephen", SCOPE))["access_token"]
        assert await accepted(running, app, token)
        (ended,) = await securus(
            running, "user", "revoke-grants", "stephen", "--client", app.client_id, "--why", "lost phone"
        )
        assert ended["client_id"] == app.client_id
        assert await soon_refused(running, app, token)
        assert await accepted(running, other, second)
        await securus(running, "client", "suspend", other.client_id, "--why", "broken in")
        assert await soon_refused(running, other, second)
        refused, _, _ = await other.push(world.REDIRECT_URI, SCOPE)
        assert refused.json["error"] == "invalid_client"
        await securus(running, "client", "reactivate", other.client_id, "--why", "mended")
        for _ in range(100):
            pushed, _, _ = await other.push(world.REDIRECT_URI, SCOPE)
            if pushed.status == 201:
                break
            await asyncio.sleep(0.1)
        assert pushed.status == 201
    whole = await securus(running, "audit", "verify")
    assert whole["whole"] is True
    told = [(line["event"], line["why"]) for line in running.audit() if line.get("why")]
    assert ("grant-revoked", "lost phone") in told
    assert ("client-changed", "broken in") in told


async def test_an_administrator_over_HTTP_sees_and_ends_grants(running: GatewayProcess) -> None:
    issuer = running.facts["issuer"]
    async with running.session("portal-dpop") as app, running.session("resource-server") as admin:
        token = (await running.token_of(app, "stephen", SCOPE))["access_token"]
        own = await running.own_token(admin, "securus/admin")
        seen = await admin.get(f"{issuer}/admin/grants?client_id={app.client_id}", own)
        assert seen.status == 200, seen.body
        assert [grant["client_id"] for grant in seen.json["grants"]] == [app.client_id]
        headers = {
            "Authorization": f"DPoP {own}",
            "DPoP": admin.proof("DELETE", f"{issuer}/admin/grants", own),
        }
        url = f"{issuer}/admin/grants?client_id={app.client_id}&why=lost+phone"
        assert (await admin.send("DELETE", url, headers)).status == 200
        assert not await accepted(running, app, token)  # at once
        assert (await admin.get(f"{issuer}/admin/clients", token)).status == 401

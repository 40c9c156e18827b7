"""From SQLite to PostgreSQL as an operator does it: copy while the gateway works, finish, restart on the new store."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.demo import world
from gateway.demo.client import Session
from tests.support.nodes import securus, start_again
from tests.support.postgresql import PrivateServer
from tests.support.processes import GatewayProcess, start_process

pytestmark = [
    pytest.mark.asyncio(loop_scope="function"),
    pytest.mark.process,
    pytest.mark.xdist_group("postgresql-nodes"),
]
SCOPE = "launch/patient patient/*.rs offline_access"


async def copy(folder: Path, *more: str) -> Any:
    """What `securus db copy` says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "db", "copy", "--json", *more,
        "--from", f"sqlite:{folder / 'securus.db'}", "--to", f"postgresql:{folder / 'postgresql.dsn'}",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, (out, err)
    return json.loads(out)


async def status(running: GatewayProcess, app: Session, token: str) -> int:
    """Of a read with the token; there is no FHIR store behind the gateway, so 502 is as far as it goes."""
    return (await app.get(f"{running.facts['fhir_base']}/Patient/{world.PATIENT}", token)).status


async def test_what_was_granted_stays_granted_and_what_was_ended_stays_ended(
    postgresql: PrivateServer, tmp_path: Path
) -> None:
    running = await start_process(tmp_path)
    try:
        (tmp_path / "postgresql.dsn").write_text(postgresql.dsn(await postgresql.new_database()))
        async with running.session("portal-dpop") as app:
            ended, kept = [await running.token_of(app, "stephen", SCOPE) for _ in range(2)]
            assert not (await copy(tmp_path))["finished"]
            # The gateway works on meanwhile: what happens now is in the second pass.
            late = await running.token_of(app, "stephen", SCOPE)
            await app.post(app.endpoint("revocation_endpoint"), {"token": ended["refresh_token"]})
            assert await status(running, app, ended["access_token"]) == 401
            assert await status(running, app, late["access_token"]) == 502
            records = len(running.audit())
            assert (await copy(tmp_path, "--finish"))["finished"]
            assert await status(running, app, kept["access_token"]) == 503
            assert (await running.operations("/readyz"))[0] == 503
            await running.stop()

            def moved(document: dict[str, Any]) -> None:
                document["storage"] = {"postgresql": {"dsn": {"file": "postgresql.dsn"}}}

            running = await start_again(running, moved)
            for tokens in (kept, late):
                assert await status(running, app, tokens["access_token"]) == 502
            assert await status(running, app, ended["access_token"]) == 401
            url = app.endpoint("token_endpoint")
            for tokens, expected in ((kept, 200), (late, 200), (ended, 400)):
                form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
                assert (await app.post(url, form)).status == expected
            verified = await securus(running, "audit", "verify")
            assert verified["whole"]
            assert verified["records"] > records
    finally:
        await running.stop(signal.SIGKILL)

"""`securus key …` beside a gateway that runs: it takes in what was changed with its next round."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization

from authz.keys import generate_private_key
from tests.support.processes import GatewayProcess, start_process
from tests.support.token import LABEL, MISSING, MODULE, PIN, make_token

pytestmark = [
    pytest.mark.asyncio(loop_scope="function"),
    pytest.mark.process,
    pytest.mark.xdist_group("key-commands"),
]
SCOPE = "system/Observation.rs"


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    gateway = await start_process(tmp_path)
    yield gateway
    await gateway.stop(signal.SIGKILL)


async def securus(running: GatewayProcess, *arguments: str, code: int = 0) -> Any:
    """What `securus key ARGUMENTS --json` says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "key", *arguments, "--json", "-c", running.facts["config"],
        stdout=asyncio.subprocess.PIPE, env=os.environ,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == code, out
    return json.loads(out)


async def published(running: GatewayProcess) -> dict[str, Any]:
    """The published keys by kid."""
    async with running.session("portal-dpop") as app:
        reply = await app.send("GET", running.facts["issuer"] + "/jwks")
    return {key["kid"]: key for key in reply.json["keys"]}


async def until(condition: Callable[[], Any]) -> Any:
    """What condition gives as soon as it is true."""
    for _ in range(600):
        found = await condition()
        if found:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError("it never came")


async def new_token(running: GatewayProcess) -> str:
    async with running.session("lab-backend") as app:
        return await running.own_token(app, SCOPE)


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


async def accepted(running: GatewayProcess, token: str) -> bool:
    """Whether introspection calls the token active."""
    async with running.session("lab-backend") as app:
        await app.discover()
        reply = await app.post(app.endpoint("introspection_endpoint"), {"token": token})
    assert reply.status == 200, reply.body
    return bool(reply.json["active"])


async def test_a_compromised_key_is_replaced_and_what_it_signed_fails_while_the_gateway_runs(
    running: GatewayProcess,
) -> None:
    [compromised] = await published(running)
    token = await new_token(running)
    assert kid_of(token) == compromised
    assert await accepted(running, token)
    refused = await securus(running, "retire", compromised, "--remove", code=1)
    assert refused["error"].startswith(f"'{compromised}' is the only key that signs ES256")

    successor = (await securus(running, "rotate", "--now"))["kid"]
    ended = await securus(running, "retire", compromised, "--remove")
    assert ended == {"kid": compromised, "state": "removed", "successor": successor}

    async def is_gone() -> bool:
        return list(await published(running)) == [successor]

    await until(is_gone)
    assert not await accepted(running, token)
    assert kid_of(await new_token(running)) == successor
    told = [(line["kid"], line["state"]) for line in running.audit() if line["event"] == "key-changed"]
    assert told[-3:] == [(successor, "announced"), (successor, "active"), (compromised, "removed")]


async def test_a_running_gateway_signs_with_an_imported_key_and_still_accepts_the_former_one(
    running: GatewayProcess, tmp_path: Path
) -> None:
    file = tmp_path / "own.pem"
    file.write_bytes(
        generate_private_key("ES256").private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    old = await new_token(running)
    imported = (await securus(running, "import", str(file), "--now"))["kid"]

    async def signs() -> bool:
        return kid_of(await new_token(running)) == imported

    await until(signs)
    assert await accepted(running, old)
    states = {row["kid"]: row["state"] for row in await securus(running, "list")}
    assert states == {kid_of(old): "retired", imported: "active"}


@pytest.mark.skipif(MISSING, reason="needs softhsm2")
async def test_a_gateway_whose_keys_are_in_a_PKCS11_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = make_token(tmp_path / "token")
    for name, value in token.environment.items():
        monkeypatch.setenv(name, value)

    def change(document: dict[str, Any]) -> None:
        (tmp_path / "gateway" / "pin").write_text(PIN)
        document.setdefault("keys", {"encryption_key": {"file": "key-encryption.key"}})
        document["keys"]["pkcs11"] = {"module": str(MODULE), "token": LABEL, "pin": {"file": "pin"}}

    running = await start_process(tmp_path / "gateway", change=change)
    try:
        signed = await new_token(running)
        jwk = (await published(running))[kid_of(signed)]
        checks = {"verify_aud": False}
        claims = jwt.decode(signed, jwt.PyJWK(jwk).key, ["ES256"], checks)
        assert (claims["iss"], claims["scope"]) == (running.facts["issuer"], SCOPE)
        assert await accepted(running, signed)

        token.hide()
        assert (await running.operations("/readyz"))[0] == 503
        async with running.session("lab-backend") as app:
            await app.discover()
            url = app.endpoint("token_endpoint")
            reply = await app.post(url, {"grant_type": "client_credentials", "scope": SCOPE})
            assert (reply.status, reply.json["error"]) == (503, "temporarily_unavailable")
        assert PIN not in (running.folder / "gateway.log").read_text()
        token.show()

        async def is_ready() -> bool:
            return (await running.operations("/readyz"))[0] == 200

        await until(is_ready)
        assert kid_of(await new_token(running)) == kid_of(signed)

        successor = (await securus(running, "rotate", "--now"))["kid"]

        async def signs() -> bool:
            return kid_of(await new_token(running)) == successor

        await until(signs)
        assert await accepted(running, signed)
    finally:
        await running.stop(signal.SIGKILL)

"""npm http-message-signatures, and Node's HTTP client with its trailers, verify what the gateway signs."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.settings import ResponseSignatures
from tests.support.gateway import MOUNT, RunningGateway, start_gateway, stop_gateway
from tests.support.long_bundle import long_bundle

HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("signatures"),
    pytest.mark.skipif(
        "CI" not in os.environ
        and (
            shutil.which("node") is None or not (HERE / "node_modules" / "http-message-signatures").is_dir()
        ),
        reason="needs Node.js and `npm ci` in tests/interop",
    ),
]


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["ES256", "EdDSA", "PS256"])
async def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    running = await start_gateway(
        tmp_path_factory.mktemp("signatures"),
        signing_algorithm=request.param,
        response_signatures=ResponseSignatures.ON,
    )
    yield running
    await stop_gateway(running)


async def seen(gateway: RunningGateway, method: str, path: str, *, signed_in: bool = True) -> dict[str, Any]:
    """What Node's client and the library made of an answer."""
    token = await gateway.token()
    url = gateway.origin + MOUNT + path
    proof = gateway.proof(method, url.partition("?")[0], token)
    headers = {"authorization": f"DPoP {token}", "dpop": proof} if signed_in else {}
    file = gateway.folder / "asked.json"
    jwks_uri, ca = gateway.origin + "/jwks", str(gateway.folder / "ca.pem")
    asked = {"url": url, "method": method, "headers": headers, "jwks_uri": jwks_uri, "ca": ca}
    file.write_text(json.dumps(asked))
    process = await asyncio.create_subprocess_exec(
        "node", str(HERE / "http_signatures.mjs"), str(file),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/Patient/A", 200),
        ("HEAD", "/Patient/A", 200),
        ("GET", "/Observation?code=http%3A%2F%2Floinc.org%7C1234-5", 200),
        ("GET", "/Patient/nobody", 404),
        ("DELETE", "/metadata", 405),
    ],
)
async def test_another_implementation_verifies_whole_answers(
    gateway: RunningGateway, method: str, path: str, status: int
) -> None:
    gateway.upstream.reset()
    found = await seen(gateway, method, path)
    assert (found["status"], found["trailers"], found["right"]) == (status, [], True)
    assert (found["other_body"], found["other_request"], found["other_status"]) == (False, False, False)


async def test_another_implementation_verifies_a_refused_token(gateway: RunningGateway) -> None:
    found = await seen(gateway, "GET", "/Patient/A", signed_in=False)
    assert (found["status"], found["right"], found["other_request"]) == (401, True, False)


async def test_another_implementation_verifies_a_long_bundle_by_its_trailers(gateway: RunningGateway) -> None:
    gateway.upstream.answer = long_bundle(gateway, 20)
    found = await seen(gateway, "GET", "/Observation?code=x")
    gateway.upstream.reset()
    assert found["status"] == 200
    assert found["bytes"] > 2_000_000
    assert found["announced"] == "Content-Digest, Signature-Input, Signature"
    assert found["trailers"] == ["content-digest", "signature-input", "signature"]
    assert found["right"] is True
    assert (found["other_body"], found["other_request"], found["other_status"]) == (False, False, False)

"""Client libraries that we did not write do the whole flow, from metadata alone, against `securus demo`."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.demo.world import OTHER_PATIENT, PATIENT
from tests.support.processes import Demonstration, start_demonstration

HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("demo"),
    pytest.mark.skipif(
        "CI" not in os.environ
        and (shutil.which("node") is None or not (HERE / "node_modules" / "openid-client").is_dir()),
        reason="needs Node.js and `npm ci` in tests/interop",
    ),
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demonstration]:
    running = await start_demonstration(tmp_path_factory.mktemp("demo"))
    yield running
    await running.stop()


async def play(demo: Demonstration, script: str, client: str, username: str = "") -> dict[str, Any]:
    """What a script saw."""
    process = await asyncio.create_subprocess_exec(
        "node", str(HERE / script), str(demo.file), client, username,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"NODE_EXTRA_CA_CERTS": demo.facts["ca_certificate"]},
    )  # fmt: skip
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    seen: dict[str, Any] = json.loads(out)
    return seen


@pytest.mark.parametrize("client", ["portal-dpop", "portal-dpop-2", "portal-mtls", "portal-mtls-2"])
async def test_openid_client_signs_a_patient_in_and_reads_the_own_record_only(
    demo: Demonstration, client: str
) -> None:
    seen = await play(demo, "openid_client.mjs", client, "stephen")
    assert seen["issuer"] == demo.facts["issuer"]
    assert seen["authorization_parameters"] == ["client_id", "request_uri"]
    assert seen["answer_parameters"] == ["code", "iss", "state"]
    assert seen["token_type"].lower() == ("bearer" if "mtls" in client else "dpop")
    assert (seen["patient"], seen["expires_in"]) == (PATIENT, 300)
    assert seen["own"] == {"status": 200, "id": PATIENT}
    assert seen["search"] == {"status": 200, "entries": 5, "subjects": [f"Patient/{PATIENT}"]}
    assert seen["other"] == {"status": 404}
    assert seen["refreshed"] == {"status": 200, "id": PATIENT}


async def test_openid_client_signs_its_requests_and_checks_our_signed_answers(demo: Demonstration) -> None:
    seen = await play(demo, "openid_client.mjs", "portal-signed", "stephen")
    assert seen["authorization_parameters"] == ["client_id", "request_uri"]
    assert seen["answer_parameters"] == ["response"]
    assert (seen["patient"], seen["own"]) == (PATIENT, {"status": 200, "id": PATIENT})
    assert seen["refreshed"] == {"status": 200, "id": PATIENT}


async def test_openid_client_introspects_and_revokes(demo: Demonstration) -> None:
    seen = await play(demo, "openid_client.mjs", "portal-dpop", "stephen")
    assert seen["introspected"] == {"active": True, "client_id": "portal-dpop", "after": False}


@pytest.mark.parametrize("client", ["portal-dpop", "portal-mtls"])
async def test_openid_client_signs_a_physician_in_and_reads_every_record(
    demo: Demonstration, client: str
) -> None:
    seen = await play(demo, "openid_client.mjs", client, "dr.allen")
    assert (seen["own"]["status"], seen["other"]["status"]) == (200, 200)
    assert seen["search"]["status"] == 200


async def test_openid_client_gets_the_laboratory_a_token_of_its_own(demo: Demonstration) -> None:
    seen = await play(demo, "openid_client.mjs", "lab-backend")
    assert seen["token_type"].lower() == "dpop"
    assert seen["search"]["status"] == 200
    assert (seen["own"]["status"], seen["other"]["status"]) == (403, 403)


async def test_openid_client_gets_the_exchange_a_certificate_bound_token(demo: Demonstration) -> None:
    seen = await play(demo, "openid_client.mjs", "exchange-mtls")
    assert seen["token_type"].lower() == "bearer"
    assert (seen["own"]["status"], seen["search"]["status"]) == (403, 403)


@pytest.mark.parametrize("client", ["portal-dpop", "portal-mtls"])
async def test_oauth4webapi_does_the_flow_step_by_step(demo: Demonstration, client: str) -> None:
    seen = await play(demo, "oauth4webapi.mjs", client, "antony")
    assert seen["challenges"] == (["par", "resource"] if client == "portal-dpop" else [])
    assert (seen["patient"], seen["own"], seen["other"]) == (OTHER_PATIENT, 200, 404)
    assert seen["denied"] == {"error": "access_denied", "iss": demo.facts["issuer"]}
    assert seen["revoked"] == 401

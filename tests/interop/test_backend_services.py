"""Backend services of SMART App Launch 2.2, played by openid-client: keys by value and by URL, then a bulk export."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.demo.world import OTHER_PATIENT, PATIENT
from tests.interop.test_client_matrix import needs_node
from tests.support.key_server import KeyServer, key_server
from tests.support.smart import jwk_384
from tests.support.smart_site import BACKEND_SCOPE, SmartSite, start_smart_site

HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("backend-services"),
    pytest.mark.asyncio(loop_scope="module"),
    needs_node,
]
WARD = [f"Patient/{id}" for id in sorted((PATIENT, OTHER_PATIENT))]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keys(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KeyServer]:
    async with key_server(tmp_path_factory.mktemp("keys")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(keys: KeyServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SmartSite]:
    folder = tmp_path_factory.mktemp("backends")
    (folder / "keys-ca.pem").write_text(keys.authority)

    def change(document: dict[str, Any]) -> None:
        backend = next(client for client in document["clients"] if client["client_id"] == "backend")
        by_url = {"client_id": "backend-url", "jwks": {"url": f"https://127.0.0.1:{keys.port}/jwks.json"}}
        document["clients"].append({**backend, **by_url})
        document["fetch"] = {"allow": ["127.0.0.1"], "certificate_authorities": {"file": "keys-ca.pem"}}

    running = await start_smart_site(folder, change=change)
    keys.publish(*(jwk_384(key, algorithm) for algorithm, key in running.keys.items()))
    yield running
    await running.stop()


async def play(site: SmartSite, folder: Path, client_id: str, algorithm: str, **more: Any) -> dict[str, Any]:
    """What the backend saw."""
    settings = {
        "client_id": client_id,
        "jwk": site.private_jwk(algorithm),
        "fhir_base": site.base,
        "scope": BACKEND_SCOPE,
        "group": "ward",
        **more,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    process = await asyncio.create_subprocess_exec(
        "node", str(HERE / "backend_services.mjs"), str(folder / "settings.json"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"NODE_EXTRA_CA_CERTS": site.gateway.facts["ca_certificate"]},
    )  # fmt: skip
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    seen: dict[str, Any] = json.loads(out)
    return seen


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
@pytest.mark.parametrize("client_id", ["backend", "backend-url"])
async def test_a_backend_gets_a_token_and_exports_its_group(
    site: SmartSite, tmp_path: Path, client_id: str, algorithm: str
) -> None:
    seen = await play(site, tmp_path, client_id, algorithm)
    assert "client-confidential-asymmetric" in seen["capabilities"]
    assert {"RS384", "ES384"} <= set(seen["algorithms"])
    assert (seen["token_type"].lower(), seen["expires_in"]) == ("bearer", 300)
    assert (seen["scope"], seen["refresh"]) == (BACKEND_SCOPE, None)
    assert seen["search"] == [200, 2]
    assert seen["beyond"] == 403
    assert seen["without_token"] == 401
    assert seen["begun"] == [202, True]
    assert seen["waits"]
    assert all(seen["waits"])
    assert seen["status"] == [200, "application/json"]
    assert {"transactionTime", "request", "requiresAccessToken", "output", "error"} <= set(
        seen["manifest"]["members"]
    )
    assert (seen["manifest"]["requiresAccessToken"], seen["manifest"]["here"]) == (True, True)
    assert set(seen["files"]) == {"Patient", "Observation"}
    for kind, file in seen["files"].items():
        assert file == {
            "without_token": 401,
            "status": 200,
            "type": "application/fhir+ndjson",
            "types": [kind],
            "patients": WARD,
        }
    assert seen["ended"] == 202
    assert seen["after"] == [404, "OperationOutcome"]


async def test_keys_by_URL_may_be_named_as_jku(site: SmartSite, keys: KeyServer, tmp_path: Path) -> None:
    url = f"https://127.0.0.1:{keys.port}/jwks.json"
    assert (await play(site, tmp_path, "backend-url", "ES384", jku=url))["begun"] == [202, True]
    fetched = len(keys.seen)
    refused = await play(site, tmp_path, "backend-url", "ES384", jku=f"{url}?other")
    assert refused["refused"] == "invalid_client"
    assert len(keys.seen) == fetched


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"audience": "https://elsewhere.example/token"}, "invalid_client"),
        ({"lifetime": 900}, "invalid_client"),
        ({"scope": "system/*.rs"}, "invalid_scope"),
        ({"client_id": "nobody"}, "invalid_client"),
    ],
)
async def test_a_backend_is_told_what_is_wrong(
    site: SmartSite, tmp_path: Path, changes: dict[str, Any], error: str
) -> None:
    seen = await play(site, tmp_path, **({"client_id": "backend", "algorithm": "RS384"} | changes))
    assert seen["refused"] == error
    assert seen["description"]

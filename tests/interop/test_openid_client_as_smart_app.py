"""npm openid-client as an app of each SMART profile, with an ID token by RS256 that it verifies."""

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
from tests.support.smart_site import REDIRECT_URI, SmartSite, start_smart_site

HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("openid-client-smart"),
    pytest.mark.asyncio(loop_scope="module"),
    needs_node,
]
APPS = ["app-public", "app-dpop", "app-secret", "app-keys"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SmartSite]:
    running = await start_smart_site(tmp_path_factory.mktemp("smart"))
    yield running
    await running.stop()


async def play(site: SmartSite, folder: Path, client_id: str, username: str, **more: Any) -> dict[str, Any]:
    """What the app saw."""
    settings = {
        "issuer": site.issuer,
        "fhir_base": site.base,
        "client_id": client_id,
        "secret": site.secret if client_id == "app-secret" else None,
        "jwk": site.private_jwk("ES384") if client_id == "app-keys" else None,
        "bound": client_id == "app-dpop",
        "redirect_uri": REDIRECT_URI,
        "scope": "openid fhirUser offline_access launch/patient patient/*.rs",
        "user": site.user(username),
        **more,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    process = await asyncio.create_subprocess_exec(
        "node", str(HERE / "smart_launch.mjs"), str(folder / "settings.json"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"NODE_EXTRA_CA_CERTS": site.gateway.facts["ca_certificate"]},
    )  # fmt: skip
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    seen: dict[str, Any] = json.loads(out)
    return seen


@pytest.mark.parametrize("client_id", APPS)
async def test_a_standalone_launch_ends_with_an_ID_token_by_RS256(
    site: SmartSite, tmp_path: Path, client_id: str
) -> None:
    seen = await play(site, tmp_path, client_id, "stephen")
    subject, user = site.user("stephen")["subject"], f"Patient/{PATIENT}"
    assert seen == {
        "alg": "RS256",
        "sub": subject,
        "fhirUser": user,
        "token_type": "dpop" if client_id == "app-dpop" else "bearer",
        "patient": PATIENT,
        "encounter": None,
        "own": [200, PATIENT],
        "userinfo": [subject, user],
        "renewed": [subject, 200, PATIENT],
        "revoked": [401],
    }


@pytest.mark.parametrize("client_id", APPS)
async def test_a_launch_from_the_record_system_brings_its_context(
    site: SmartSite, tmp_path: Path, client_id: str
) -> None:
    made = await site.launch(client_id, "dr.allen", patient=OTHER_PATIENT, encounter="e-1")
    scope = "openid fhirUser offline_access launch patient/*.rs"
    seen = await play(site, tmp_path, client_id, "dr.allen", launch=made["launch"], scope=scope)
    assert (seen["patient"], seen["encounter"]) == (OTHER_PATIENT, "e-1")
    assert seen["own"] == [200, OTHER_PATIENT]
    assert seen["fhirUser"] == site.user("dr.allen")["fhirUser"]
    assert seen["revoked"] == [401]

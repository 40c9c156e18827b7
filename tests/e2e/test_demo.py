"""`securus demo`: the flow that is worth showing, and the file that tools rely on."""

import asyncio
import json
import re
import ssl
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from cryptography import x509

from gateway.cda.header_reader import header_of
from gateway.demo.client import Session
from gateway.demo.document_store import sample_documents
from gateway.demo.stage import session_of
from tests.support.processes import Demonstration, start_demonstration

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.process, pytest.mark.xdist_group("demo")]
TOBACCO = b"8517006"  # SNOMED CT, former smoker: what the restricted section of the summary says
CLIENTS = {
    "portal-dpop": "private_key_jwt",
    "portal-dpop-2": "private_key_jwt",
    "portal-mtls": "tls_client_auth",
    "portal-mtls-2": "tls_client_auth",
    "portal-signed": "private_key_jwt",
    "resource-server": "private_key_jwt",
    "lab-backend": "private_key_jwt",
    "exchange-mtls": "tls_client_auth",
    "pharmacy-dpop": "private_key_jwt",
    "laboratory-mtls": "tls_client_auth",
    "smart-app": "none",
    "smart-backend": "private_key_jwt",
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demonstration]:
    running = await start_demonstration(tmp_path_factory.mktemp("demo"))
    yield running
    await running.stop()


async def own_token(app: Session) -> str:
    await app.discover()
    reply = await app.post(app.endpoint("token_endpoint"), {"grant_type": "client_credentials"})
    assert reply.status == 200, reply.body
    return str(reply.json["access_token"])


def run_once(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", "demo", "--once", "--state", str(folder), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


async def test_once_shows_every_step_right_and_exits_0(demo: Demonstration, tmp_path: Path) -> None:
    port = str(int(demo.facts["issuer"].rpartition(":")[2]) + 100)
    done = await asyncio.to_thread(run_once, tmp_path, "--port", port)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = re.findall(r"^ ?(\d+)\. ", done.stdout, re.M)
    assert len(steps) >= 13
    assert done.stdout.count("✓") == len(steps)
    assert "✗" not in done.stdout
    for said in (
        "pushes its request",
        "same proof a second time is refused",
        "stolen token",
        "without its key",
        "A partner hospital retrieves the summary",
        "a patient who did not agree",
        "A pharmacy fetches the list of medications",
        "A laboratory outside the hospital sends a report",
        "in the name of another laboratory",
    ):
        assert said in done.stdout


async def test_a_port_in_use_is_told_and_exits_1(demo: Demonstration, tmp_path: Path) -> None:
    port = demo.facts["issuer"].rpartition(":")[2]
    done = await asyncio.to_thread(run_once, tmp_path, "--port", port)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"securus demo: port {port} of 127.0.0.1 is in use, perhaps by another demonstration: --port chooses another\n"
    )
    assert not list(tmp_path.iterdir())  # which may be the files of the other


async def test_demo_json_is_what_the_contract_says(demo: Demonstration) -> None:
    facts = demo.facts
    assert stat.S_IMODE(demo.file.stat().st_mode) == 0o600
    for name in ("issuer", "fhir_base", "fhir_base_mtls", "cda_base"):
        assert facts[name].startswith("https://localhost:")
    assert Path(facts["ca_certificate"]).is_file()
    assert Path(facts["config"]).is_file()
    x509.load_pem_x509_certificate(Path(facts["ca_certificate"]).read_bytes())
    clients = {client["name"]: client for client in facts["clients"]}
    assert {name: c["token_endpoint_auth_method"] for name, c in clients.items()} == CLIENTS
    for client in clients.values():
        method = client["token_endpoint_auth_method"]
        assert (client["certificate"] is not None) == (method == "tls_client_auth")
        assert (client["jwks"] is not None) == (method == "private_key_jwt")
        if method == "private_key_jwt":
            assert {"kty", "crv", "x", "y", "d", "kid"} <= client["jwks"]["keys"][0].keys()
        if client["name"].startswith("portal"):
            assert "https://localhost.example/callback" in client["redirect_uris"]
    roles = [role for user in facts["users"] for role in user["roles"]]
    assert sorted(roles) == ["administrator", "nurse", "patient", "patient", "physician", "privacy-officer"]
    for document in facts["documents"]:
        assert document["url"].startswith(facts["cda_base"] + "/")
    said = [(each["confidentiality"], each["exchange_mtls_may_read"]) for each in facts["documents"]]
    assert {("N", True), ("N", False), ("R", False)} <= set(said)


async def test_the_exchange_reads_those_documents_that_demo_json_says(demo: Demonstration) -> None:
    async with session_of(demo.facts, "exchange-mtls") as app:
        token = await own_token(app)
        for document in demo.facts["documents"]:
            reply = await app.get(document["url_mtls"], token)
            assert reply.status == (200 if document["exchange_mtls_may_read"] else 404), document
            if reply.status == 200:
                header = header_of(reply.body)
                assert header is not None
                assert header.confidentiality is not None
                assert header.confidentiality.code == document["confidentiality"]


async def test_the_summary_goes_out_without_its_restricted_section(demo: Demonstration) -> None:
    original = sample_documents()["stephen-summary"]
    assert TOBACCO in original
    async with session_of(demo.facts, "exchange-mtls") as app:
        url = next(d["url_mtls"] for d in demo.facts["documents"] if d["url"].endswith("stephen-summary"))
        reply = await app.get(url, await own_token(app))
    assert reply.status == 200
    assert TOBACCO not in reply.body
    assert b"<title>MEDICATIONS</title>" in reply.body


async def test_a_copied_token_of_the_exchange_opens_no_document(demo: Demonstration) -> None:
    async with session_of(demo.facts, "exchange-mtls") as app, session_of(demo.facts, "portal-mtls") as thief:
        token = await own_token(app)
        for document in demo.facts["documents"]:
            assert (await thief.get(document["url_mtls"], token)).status == 401
            assert (await app.get(document["url"], token)).status == 401  # without the certificate


async def test_the_documents_agree_with_the_people_whom_they_name(demo: Demonstration) -> None:
    async with aiohttp.ClientSession() as http:
        for document in demo.facts["documents"]:
            header = header_of(sample_documents()[document["url"].rpartition("/")[2]])
            assert header is not None
            async with http.get(
                f"{demo.facts['upstream_fhir_base']}/Patient/{document['patient']}"
            ) as response:
                known = {each["value"] for each in (await response.json())["identifier"]}
            assert {each.extension for each in header.record_targets[0]} <= known


async def test_the_people_of_the_demonstration_exist_in_the_sample_store(demo: Demonstration) -> None:
    async with aiohttp.ClientSession() as http:
        for user in demo.facts["users"]:
            url = f"{demo.facts['upstream_fhir_base']}/{user['fhirUser']}"
            async with http.get(url) as response:
                assert response.status == 200, url


async def test_its_addresses_answer(demo: Demonstration) -> None:
    context = ssl.create_default_context(cafile=demo.facts["ca_certificate"])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
        for path in ("oauth-authorization-server", "openid-configuration"):
            async with http.get(f"{demo.facts['issuer']}/.well-known/{path}") as response:
                assert (response.status, (await response.json())["issuer"]) == (200, demo.facts["issuer"])
        for path in ("/.well-known/smart-configuration", "/metadata"):
            async with http.get(demo.facts["fhir_base"] + path) as response:
                assert response.status == 200
        async with http.get(
            f"{demo.facts['issuer']}/.well-known/oauth-protected-resource/fhir/r4"
        ) as response:
            assert (await response.json())["resource"] == demo.facts["fhir_base"]
        for path in ("/metrics", "/healthz", "/readyz"):
            async with http.get(demo.facts["ops_base"] + path) as response:
                assert response.status == 200


async def test_its_configuration_passes_the_check(demo: Demonstration) -> None:
    command = [sys.executable, "-m", "gateway", "check", "--json", "-c", demo.facts["config"]]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["ok"], found["warnings"]) == (True, [])
    assert found["rules"] > 0
    assert found["tests"] > 0


async def test_its_audit_log_is_whole_while_it_serves(demo: Demonstration) -> None:
    command = [sys.executable, "-m", "gateway", "audit", "verify", "-c", demo.facts["config"]]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_interrupting_it_ends_everything_it_started(tmp_path: Path) -> None:
    running = await start_demonstration(tmp_path)
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
    assert len(children) == 2
    assert await running.stop() == 0
    assert [child for child in children if Path(f"/proc/{child}").exists()] == []

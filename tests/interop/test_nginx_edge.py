"""nginx ends TLS in front of Securus, with the configuration that we ship: both bindings work, and nobody can pretend.

C12: the certificate of a client behind a proxy comes in a header that only the proxy may set.
"""

import asyncio
import contextlib
import os
import shutil
import ssl
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.demo import world
from tests.support.processes import GatewayProcess, start_process

AFTER = "https://portal.example/signed-out"
ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("edge"),
    pytest.mark.skipif("CI" not in os.environ and shutil.which("nginx") is None, reason="needs nginx"),
]


@dataclass
class Edge:
    """A gateway behind nginx. inner are the ports that nginx alone should reach."""

    gateway: GatewayProcess
    inner_public: int
    inner_mtls: int


def shipped(gateway: GatewayProcess, inner_public: int, inner_mtls: int) -> str:
    """deploy/nginx.conf with the names, files and ports of this test, in a whole configuration."""
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    for old, new in (
        ("server 127.0.0.1:8443", f"server 127.0.0.1:{inner_public}"),
        ("server 127.0.0.1:8445", f"server 127.0.0.1:{inner_mtls}"),
        ("listen 443 ssl", f"listen 127.0.0.1:{gateway.ports.public} ssl"),
        ("listen 8444 ssl", f"listen 127.0.0.1:{gateway.ports.mtls} ssl"),
        ("server_name fhir.hospital.example", "server_name localhost"),
        ("server_name mtls.fhir.hospital.example", "server_name localhost"),
        ("/etc/securus/tls.crt", str(gateway.folder / "server.pem")),
        ("/etc/securus/tls.key", str(gateway.folder / "server.key")),
    ):
        assert old in text, old
        text = text.replace(old, new)
    home = gateway.folder / "nginx"
    temporary = "\n".join(
        f"{kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off; master_process off; pid {home}/pid; error_log {home}/error.log;\n"
        f"events {{ worker_connections 256; }}\nhttp {{\n{temporary}\naccess_log off;\n{text}\n}}\n"
    )


async def patient(request: web.BaseRequest) -> web.StreamResponse:
    id_ = request.path.rpartition("/")[2]
    body = f'{{"resourceType":"Patient","id":"{id_}"}}'
    return web.Response(text=body, headers={"Content-Type": "application/fhir+json"})


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    folder = tmp_path_factory.mktemp("edge")
    inner_public, inner_mtls = world.free_port(), world.free_port()

    def change(document: dict[str, Any]) -> None:
        proxies = {"addresses": ["127.0.0.1/32"]}
        header = {"client_certificate": {"header": "X-Client-Cert", "form": "nginx"}}
        document["listen"]["public"] = {
            "address": "127.0.0.1",
            "port": inner_public,
            "trusted_proxies": proxies,
        }
        document["listen"]["mtls"] = {
            "address": "127.0.0.1",
            "port": inner_mtls,
            "trusted_proxies": {**proxies, **header},
            "client_certificate_anchors": {"file": "ca.pem"},
        }
        (portal,) = (each for each in document["clients"] if each["client_id"] == "portal-dpop")
        portal["post_logout_redirect_uris"] = [AFTER]

    gateway = await start_process(folder, change=change)
    store = web.ServerRunner(web.Server(patient, access_log=None), shutdown_timeout=1)
    await store.setup()
    await web.TCPSite(store, "127.0.0.1", gateway.ports.upstream).start()
    (folder / "nginx").mkdir()
    conf = folder / "nginx.conf"
    conf.write_text(shipped(gateway, inner_public, inner_mtls))
    process = await asyncio.create_subprocess_exec(
        "nginx", "-p", str(folder / "nginx"), "-c", str(conf), stderr=asyncio.subprocess.DEVNULL
    )
    for _ in range(100):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.ports.mtls)
            writer.close()
            break
        assert process.returncode is None, (folder / "nginx" / "error.log").read_text()
        await asyncio.sleep(0.05)
    yield Edge(gateway, inner_public, inner_mtls)
    process.terminate()
    await process.wait()
    await gateway.stop()
    await store.cleanup()


async def test_C12_a_certificate_bound_token_is_earned_and_used_through_nginx(edge: Edge) -> None:
    own = f"{edge.gateway.facts['fhir_base_mtls']}/Patient/{world.PATIENT}"
    async with edge.gateway.session("portal-mtls") as app:
        issued = await edge.gateway.token_of(app, "stephen", "launch/patient patient/*.rs")
        assert issued["token_type"] == "Bearer"
        assert (await app.get(own, issued["access_token"])).status == 200
    async with edge.gateway.session("portal-mtls-2") as thief:
        stolen = await thief.get(own, issued["access_token"])
        assert (stolen.status, stolen.headers["www-authenticate"].split(",")[0]) == (
            401,
            'Bearer error="invalid_token"',
        )
    async with edge.gateway.session("portal-dpop") as bare:
        reply = await bare.send("GET", own, {"Authorization": f"Bearer {issued['access_token']}"})
        assert reply.status == 401


async def test_D7_a_proof_names_the_public_address_though_nginx_speaks_plain_HTTP_inside(edge: Edge) -> None:
    async with edge.gateway.session("portal-dpop") as app:
        issued = await edge.gateway.token_of(app, "stephen", "launch/patient patient/*.rs")
        base = edge.gateway.facts["fhir_base"]
        assert (await app.get(f"{base}/Patient/{world.PATIENT}", issued["access_token"])).status == 200


async def test_an_answer_with_a_long_state_passes_nginx(edge: Edge) -> None:
    """nginx takes 4 KiB of a head, unless it is told otherwise, and answers 502 to the rest."""
    state = "s" * 4000
    asked = urlencode({"client_id": "portal-dpop", "post_logout_redirect_uri": AFTER, "state": state})
    async with edge.gateway.session("portal-dpop") as app:
        reply = await app.send("GET", f"{edge.gateway.facts['issuer']}/logout?{asked}", {})
    assert (reply.status, reply.headers["location"]) == (303, f"{AFTER}?state={state}")


async def test_C12_a_client_cannot_send_the_header_of_the_proxy(edge: Edge) -> None:
    certificate = quote((edge.gateway.folder / "portal-mtls.pem").read_text(), safe="")
    async with edge.gateway.session("portal-mtls") as app:
        issued = await edge.gateway.token_of(app, "stephen", "launch/patient patient/*.rs")
    forged = {"X-Client-Cert": certificate, "Authorization": f"Bearer {issued['access_token']}"}
    async with edge.gateway.session("portal-mtls-2") as thief:
        for base in ("fhir_base_mtls", "fhir_base"):
            url = f"{edge.gateway.facts[base]}/Patient/{world.PATIENT}"
            assert (await thief.send("GET", url, forged)).status == 401


async def test_C12_the_header_of_somebody_who_is_not_the_proxy_is_not_believed(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        for name in ("public", "mtls"):
            listener = document["listen"][name]
            del listener["tls"]
            listener["trusted_proxies"] = {"addresses": ["192.0.2.1/32"]}
        document["listen"]["mtls"]["trusted_proxies"]["client_certificate"] = {
            "header": "X-Client-Cert",
            "form": "nginx",
        }

    gateway = await start_process(tmp_path, change=change)
    try:
        certificate = quote((tmp_path / "portal-mtls.pem").read_text(), safe="")
        form = {"client_id": "portal-mtls", "grant_type": "refresh_token", "refresh_token": "x"}
        async with (
            aiohttp.ClientSession() as http,
            http.post(
                f"http://127.0.0.1:{gateway.ports.mtls}/token",
                data=form,
                headers={"X-Client-Cert": certificate},
            ) as response,
        ):
            said = await response.json()
            assert (response.status, said["error"]) == (400, "invalid_client")
            assert "no certificate was sent" in said["error_description"]
    finally:
        await gateway.stop()


async def test_the_address_in_the_audit_log_is_the_clients_as_nginx_saw_it(edge: Edge) -> None:
    forged = {"X-Forwarded-For": "203.0.113.9", "Authorization": "DPoP x"}
    async with edge.gateway.session("portal-dpop") as app:
        await app.send("GET", f"{edge.gateway.facts['fhir_base']}/Patient/x", forged)
    assert edge.gateway.audit()[-1]["peer"] == "127.0.0.1"


async def test_T1_the_shipped_edge_speaks_no_TLS_below_1_2(edge: Edge) -> None:
    context = ssl.create_default_context(cafile=edge.gateway.facts["ca_certificate"])
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        await asyncio.open_connection("localhost", edge.gateway.ports.public, ssl=context)

"""What an operator relies on: readiness, metrics, logs without secrets and PHI, drain on SIGTERM, reload on SIGHUP."""

import asyncio
import json
import os
import re
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography import x509

from gateway.demo import world
from gateway.demo.authority import Authority
from tests.support.processes import GatewayProcess, start_process
from tests.support.world import SECRET

pytestmark = [
    pytest.mark.asyncio(loop_scope="function"),
    pytest.mark.process,
    pytest.mark.xdist_group("operations"),
]
METRICS = (
    "securus_requests_total", "securus_request_seconds_bucket", "securus_upstream_seconds_bucket",
    "securus_refusals_total", "securus_policy_decisions_total", "securus_tokens_issued_total",
    "securus_dpop_proofs_total", "securus_replay_store_seconds_bucket", "securus_audit_events_total",
    "securus_inflight_requests", "securus_narrowing_ignored_total",
)  # fmt: skip


class Store:
    """A store with one patient; a search waits for `go` between its two entries."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a read at once, a search slowly."""
        fhir = {"Content-Type": "application/fhir+json"}
        if request.path.startswith("/fhir/Patient/"):
            patient = {"resourceType": "Patient", "id": world.PATIENT, "name": [{"family": SECRET}]}
            return web.Response(text=json.dumps(patient), headers=fhir)
        response = web.StreamResponse(headers=fhir)
        await response.prepare(request)
        link = json.dumps([{"relation": "self", "url": str(request.url)}])
        filling = "x" * 300_000
        entry = json.dumps(
            {
                "resource": {
                    "resourceType": "Observation",
                    "id": "o1",
                    "status": "final",
                    "code": {"text": filling},
                    "subject": {"reference": f"Patient/{world.PATIENT}"},
                }
            }
        )
        await response.write(
            f'{{"resourceType":"Bundle","type":"searchset","link":{link},"entry":[{entry},'.encode()
        )
        self.asked.set()
        await self.go.wait()
        await response.write(f"{entry}]}}".encode())
        await response.write_eof()
        return response


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    gateway = await start_process(tmp_path)
    yield gateway
    await gateway.stop(signal.SIGKILL)


@pytest_asyncio.fixture
async def store(running: GatewayProcess) -> AsyncIterator[Store]:
    store = Store()
    runner = web.ServerRunner(web.Server(store.handle, access_log=None), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", running.ports.upstream).start()
    yield store
    store.go.set()
    await runner.cleanup()


async def test_the_metrics_of_the_contract_are_there_and_count(running: GatewayProcess, store: Store) -> None:
    async with running.session("portal-dpop") as app:
        issued = await running.token_of(app, "stephen", "launch/patient patient/*.rs")
        reply = await app.get(f"{running.facts['fhir_base']}/Patient/{world.PATIENT}", issued["access_token"])
        assert reply.status == 200
        await app.get(f"{running.facts['fhir_base']}/Patient/{world.OTHER_PATIENT}", issued["access_token"])
    status, text = await running.operations("/metrics")
    assert status == 200
    for name in METRICS:
        assert re.search(rf"^{name}[{{ ]", text, re.M), name

    def value(pattern: str) -> float:
        found = re.search(rf"^{pattern} (\S+)$", text, re.M)
        assert found is not None, pattern
        return float(found[1])

    assert value(r'securus_requests_total\{interaction="read",outcome="2xx",route="fhir"\}') == 1
    assert value(r'securus_requests_total\{interaction="read",outcome="4xx",route="fhir"\}') == 2
    assert value(r'securus_tokens_issued_total\{grant="authorization_code"\}') == 1
    assert value(r'securus_dpop_proofs_total\{outcome="nonce"\}') == 2
    assert value(r"securus_replay_store_seconds_count") == value(
        r'securus_dpop_proofs_total\{outcome="accepted"\}'
    )
    assert value(r"securus_audit_events_total") == len(running.audit())
    decision = r'\{effect="permit",policy="patient-own-record",rule="see-own-chart"\}'
    assert value(r"securus_policy_decisions_total" + decision) == 1
    assert value(r"securus_inflight_requests") == 0


async def test_health_and_readiness_are_told_apart(running: GatewayProcess, store: Store) -> None:
    assert (await running.operations("/healthz"))[0] == 200
    status, text = await running.operations("/readyz")
    said = json.loads(text)
    assert (status, said["status"], said["problems"]) == (200, "ready", [])
    assert re.fullmatch(r"[0-9a-f]{16,}", said["policies"])
    assert (await running.operations("/anything"))[0] == 404


async def test_the_public_listener_shows_no_operations(running: GatewayProcess, store: Store) -> None:
    async with running.session("portal-dpop") as app:
        for path in ("/metrics", "/healthz", "/readyz"):
            assert (await app.send("GET", running.facts["issuer"] + path)).status == 404


async def test_logs_are_JSON_lines_without_secrets_and_PHI(running: GatewayProcess, store: Store) -> None:
    store.go.set()
    secrets_seen = [world.PATIENT, world.OTHER_PATIENT, SECRET]
    async with running.session("portal-dpop") as app:
        issued = await running.token_of(app, "stephen", "offline_access launch/patient patient/*.rs")
        secrets_seen += [issued["access_token"], issued["refresh_token"]]
        base = running.facts["fhir_base"]
        await app.get(f"{base}/Patient/{world.PATIENT}", issued["access_token"])
        await app.get(f"{base}/Patient/{world.OTHER_PATIENT}", issued["access_token"])
        await app.get(f"{base}/Patient?name={SECRET}", issued["access_token"])
        await app.send("GET", f"{base}/Observation?code={SECRET}", {"Authorization": "DPoP " + "x" * 50})
        await app.post(
            f"{running.facts['issuer']}/token", {"grant_type": "authorization_code", "code": "c" * 43}
        )
        await app.get(f"{base}/Observation", issued["access_token"])
    await running.stop()
    secrets_seen += [user["password"] for user in running.facts["users"]]
    log = (running.folder / "gateway.log").read_text()
    assert {"listening", "ready", "draining"} <= {line["message"] for line in running.log}
    for secret in secrets_seen:
        assert secret not in log


async def test_a_request_in_flight_at_SIGTERM_gets_its_whole_answer_and_new_ones_none(
    running: GatewayProcess, store: Store
) -> None:
    async with running.session("portal-dpop") as app:
        issued = await running.token_of(app, "stephen", "launch/patient patient/*.rs")
        token, url = issued["access_token"], f"{running.facts['fhir_base']}/Observation"
        await app.get(f"{running.facts['fhir_base']}/Patient/{world.PATIENT}", token)
        slow = asyncio.create_task(app.get(url, token))
        await asyncio.wait_for(store.asked.wait(), 10)
        running.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        assert running.process.returncode is None
        async with running.session("portal-dpop") as other:
            with pytest.raises(aiohttp.ClientConnectorError):
                await other.send("GET", running.facts["issuer"] + "/jwks")
        store.go.set()
        reply = await asyncio.wait_for(slow, 20)
        assert (reply.status, len(reply.json["entry"])) == (200, 2)
    assert await asyncio.wait_for(running.process.wait(), 20) == 0
    events = [(line["event"], line.get("ended")) for line in running.audit()]
    assert events[-1] == ("delivered", "complete")


async def presented(running: GatewayProcess) -> int:
    """The serial number of the certificate that the public listener presents."""
    context = ssl.create_default_context(cafile=running.facts["ca_certificate"])
    _, writer = await asyncio.open_connection("localhost", running.ports.public, ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(der).serial_number


def renew(running: GatewayProcess) -> int:
    """A new certificate of the same authority in the file of the old one; its serial number."""
    authority = Authority.new("Another CA")
    ca = Path(running.facts["ca_certificate"])
    ca.write_bytes(ca.read_bytes() + authority.pem)
    certificate = running.folder / "server.pem"
    authority.issue(certificate, running.folder / "server.key", "localhost", server=True)
    return x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number


async def until(running: GatewayProcess, message: str) -> dict[str, Any]:
    """The log line with this message, once it is there."""
    for _ in range(100):
        for line in running.log:
            if line["message"] == message:
                return line
        await asyncio.sleep(0.05)
    raise AssertionError(f"never logged: {message}")


async def test_SIGHUP_puts_a_renewed_certificate_in_place_and_keeps_open_connections(
    running: GatewayProcess, store: Store
) -> None:
    async with running.session("portal-dpop") as app:
        assert (await app.send("GET", running.facts["issuer"] + "/jwks")).status == 200
        old, new = await presented(running), renew(running)
        running.send_signal(signal.SIGHUP)
        await until(running, "certificate reloaded")
        assert await presented(running) == new != old
        assert (await app.send("GET", running.facts["issuer"] + "/jwks")).status == 200


async def test_a_broken_certificate_at_SIGHUP_keeps_the_old_one_and_says_so(
    running: GatewayProcess, store: Store
) -> None:
    old = await presented(running)
    (running.folder / "server.pem").write_text("no certificate")
    running.send_signal(signal.SIGHUP)
    assert (await until(running, "certificate not reloaded"))["level"] == "error"
    assert await presented(running) == old


async def test_SIGHUP_reloads_policies_all_or_nothing(running: GatewayProcess, store: Store) -> None:
    async with running.session("portal-dpop") as app:
        issued = await running.token_of(app, "stephen", "launch/patient patient/*.rs")
        url = f"{running.facts['fhir_base']}/Patient/{world.PATIENT}"
        assert (await app.get(url, issued["access_token"])).status == 200
        own = running.folder / "policies" / "10-patient-own-record.yaml"
        whole = own.read_text()
        own.write_text(whole.replace("may: [read, vread, history-instance, search]", "may: [search]", 1))
        running.send_signal(signal.SIGHUP)
        line = await until(running, "policies not reloaded, the old ones stay in force")
        assert "test '" in line["cause"]
        assert (await app.get(url, issued["access_token"])).status == 200
        own.unlink()
        running.send_signal(signal.SIGHUP)
        await until(running, "policies reloaded")
        assert (await app.get(url, issued["access_token"])).status == 403


async def test_a_misspelled_setting_stops_the_start_and_is_named_with_its_place(tmp_path: Path) -> None:
    ports = world.Ports(*(world.free_port() for _ in range(4)))
    facts = await asyncio.to_thread(world.build, tmp_path, ports)
    config = Path(facts["config"])
    config.write_text(config.read_text().replace("public_url", "publicurl", 1))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "serve", "-c", str(config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=os.environ,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert re.search(
        rf"^{re.escape(str(config))}:\d+:\d+: error: .*publicurl.*public_url", out.decode(), re.M
    )

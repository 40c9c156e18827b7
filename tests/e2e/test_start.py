"""What is imported by the time that a server is ready, or a light command done: what a feature needs comes with it.

Every module is read, checked and kept by every worker. What only some configurations, some requests or other commands
need is imported in the function that opens it. One import at the top of a file that is on the way undoes that for all.
"""

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Collection
from pathlib import Path

import pytest

from gateway.demo import world

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("start")]

PROGRAM = """
import atexit, sys
from gateway.cli import main
atexit.register(lambda: print("imported:", *sorted(sys.modules)))
sys.exit(main(sys.argv[1:]))
"""
OF_A_FEATURE = {
    "aiohttp": "the HTTP client of fetches, FHIR feeds and the supervisor; it makes two TLS contexts when imported",
    "asyncpg": "the store in PostgreSQL",
    "authz.fetch_exchange": "the first fetch",
    "authz.storage.postgresql.store": "the store in PostgreSQL",
    "authz.storage.valkey": "replay and rates in Valkey",
    "gateway.audit.feeds.fhir_feed": "a feed to a FHIR base",
    "gateway.audit.feeds.file_feed": "a feed to a file",
    "gateway.audit.feeds.syslog_feed": "a feed to syslog",
    "gateway.commands.policies": "other commands",
    "gateway.demo": "the demonstration",
    "gateway.document_services.mhd": "documents behind MHD",
    "gateway.document_services.xds.service": "documents behind XDS.b",
    "gateway.evaluations": "questions to the access evaluation API",
    "gateway.policy.inquiries.authzen": "questions to the access evaluation API",
    "gateway.policy.inquiries.replay": "questions about policies",
    "gateway.proxy.answers.signed_answers": "signatures of answers",
    "gateway.report.page": "the report as a page",
    "gateway.workers.supervisor": "several workers; it serves nobody itself",
    "jinja2": "pages for people, compiled when the first is shown",
    "lxml": "nothing but tests",
    "pkcs11": "keys in a security module",
    "redis": "replay and rates in Valkey",
}
"""Packages and modules that a server with one worker and a SQLite store goes without → what they are for."""
OF_A_SERVER = {
    **OF_A_FEATURE,
    "authz.server": "the authorization server",
    "authz.storage.sqlite": "the store",
    "gateway.app": "the gateway",
    "gateway.config": "the configuration",
    "gateway.proxy": "the proxy",
    "gateway.wire": "the listeners",
    "prometheus_client": "metrics",
    "sqlite3": "the store",
    "uvloop": "the loop of a server",
}


def found(output: str, unwanted: Collection[str]) -> list[str]:
    """Which of these packages and modules were imported."""
    line = next(line for line in output.splitlines() if line.startswith("imported: "))
    there = line.split()[1:]
    assert "gateway.cli" in there
    return [name for name in unwanted if any(each == name or each.startswith(name + ".") for each in there)]


def test_a_server_imports_nothing_of_features_that_it_does_not_have(tmp_path: Path) -> None:
    ports = world.Ports(*(world.free_port() for _ in range(4)))
    world.build(tmp_path / "world", ports)
    command = [sys.executable, "-c", PROGRAM, "serve", "-c", str(tmp_path / "world" / "gateway.yaml")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            assert process.poll() is None, process.communicate()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{ports.operations}/readyz") as answer:
                    assert answer.status == 200
                break
            except urllib.error.URLError:
                time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
    assert found(output, OF_A_FEATURE) == []


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (
            ["--help"],
            {**OF_A_SERVER, "gateway.policy": "policies", "asyncio": "a server", "yaml": "policies"},
        ),
        (
            ["policy", "test", "policies"],
            OF_A_SERVER.keys() - {"gateway.commands.policies"},
        ),
    ],
    ids=["help", "policy-test"],
)
def test_a_light_command_imports_nothing_of_the_server(
    arguments: list[str], unwanted: Collection[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert found(done.stdout, unwanted) == []

"""Reads by mutual TLS: the token is bound to the certificate of the connection, which both sides end themselves."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from authz.protocol import certificates
from tests.bench import keys
from tests.bench.cases import Load, get
from tests.bench.processes import Subject
from tests.bench.rows import Measured, row
from tests.bench.servers import OTHER_CORE, PATIENT_PATH, Place, Securus, nginx_with_certificates

_CLIENT = "portal-mtls"
_CHECKS = (
    "TLS 1.3 with client certificate, its thumbprint in the token, scopes, policies, durable audit record"
)


def rows(place: Place, gateway: Securus, load: Load) -> list[dict[str, Any]]:
    """The rows of reads by certificate."""
    der = x509.load_pem_x509_certificate((gateway.folder / f"{_CLIENT}.pem").read_bytes())
    bound = {"x5t#S256": certificates.thumbprint(der.public_bytes(Encoding.DER))}
    claims = keys.claims_of(gateway.settings, bound, _CLIENT)
    token = asyncio.run(keys.token_of_the_server(gateway.settings, claims))
    started = nginx_with_certificates(place, gateway.folder)
    nginx = Subject("nginx", started.process, started.port)
    contenders = (
        (gateway.mtls, [f"Authorization: Bearer {token}"], _CHECKS),
        (nginx, [], "TLS 1.3 with client certificate checked, proxy_pass, nothing else"),
    )
    seen: dict[str, list[Measured]] = {subject.name: [] for subject, _, _ in contenders}
    for _ in range(load.runs):
        for subject, headers, _ in contenders:
            request = get(subject.port, PATIENT_PATH, headers)
            seen[subject.name].append(_run(subject, request, gateway.folder, load))
    return [row("mtls-read-2k", subject.name, seen[subject.name], note) for subject, _, note in contenders]


def _run(subject: Subject, request: bytes, folder: Path, load: Load) -> Measured:
    (folder / "request.bin").write_bytes(request)
    command = [
        "taskset", "-c", str(OTHER_CORE), sys.executable, "-m", "tests.bench.tls_load", str(subject.port),
        str(folder), _CLIENT, str(load.connections), str(load.seconds),
    ]  # fmt: skip
    before = subject.cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    used = subject.cpu_seconds() - before
    if done.returncode != 0:
        raise RuntimeError(f"{subject.name}: {done.stderr}")
    requests, seconds, p50, p99 = map(float, done.stdout.split())
    return Measured(used / requests * 1e6, requests / seconds, p50, p99, subject.peak_megabytes())

"""`make bench`: CPU and rate of a DPoP-checked 2 KB read, beside nginx without checks, alternating in one run.

Writes bench.json and prints a table. Without TLS on both sides, subject on one core, store and load on the other.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from authz.clock import system_clock
from authz.protocol.encoding import base64url
from authz.storage.sqlite import open_store
from gateway.config import document as config
from gateway.demo import world
from gateway.demo.client import Key
from gateway.settings import GatewaySettings
from gateway.signing_keys import open_key_ring
from tests.bench import in_process, load, subjects
from tests.bench.subjects import Subject

SUBJECT_CORE, OTHER_CORE = 0, 1
_PATH = f"/fhir/r4/Patient/{world.PATIENT}"
_CHECKS = "access token, DPoP proof with nonce, replay claim, scopes, policies, durable audit record"
_STORE = """
  server {{
    LISTEN;
    location / {{ default_type application/fhir+json; return 200 '{patient}'; }}
  }}
"""
_PROXY = """
  upstream store {{ server 127.0.0.1:{store}; keepalive 64; }}
  server {{
    LISTEN;
    location / {{ proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://store; }}
  }}
"""


def main() -> int:
    """Run the benchmark; 0 when every request was answered as it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    options = parser.parse_args()
    missing = [name for name in ("wrk", "nginx", "openssl", "taskset") if shutil.which(name) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return 1
    if (os.cpu_count() or 1) < 2:
        print("needs two cores: one for the subject, one for store and load", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="securus-bench-") as folder, ExitStack() as stack:
        rows = _read_2k(Path(folder), stack, options)
    rows.append(_verify_limit())
    rows += in_process.rows(options.runs)
    options.out.write_text(json.dumps({"machine": _machine(), "rows": rows}, indent=2) + "\n")
    _print(rows)
    return 0


def _read_2k(folder: Path, stack: ExitStack, options: argparse.Namespace) -> list[dict[str, Any]]:
    patient = _patient()
    store, proxy = world.free_port(), world.free_port()
    ports = world.Ports(world.free_port(), world.free_port(), world.free_port(), store)
    world.build(folder / "securus", ports)
    settings = _plain_listener(folder / "securus" / "gateway.yaml")
    for name, port, location, core in (
        ("store", store, _STORE.format(patient=patient.decode()), OTHER_CORE),
        ("nginx", proxy, _PROXY.format(store=store), SUBJECT_CORE),
    ):
        command = subjects.nginx(folder, name, port, location)
        started = stack.enter_context(subjects.running(name, command, port, folder, core))
        if name == "nginx":
            nginx = started
    command = [sys.executable, "-m", "gateway", "serve", "-c", str(settings.file)]
    securus = stack.enter_context(subjects.running("securus", command, ports.public, folder, SUBJECT_CORE))
    key = Key.new()
    token = asyncio.run(_token(settings, key))
    expected = len(patient)
    seen: dict[str, list[dict[str, float]]] = {"securus": [], "nginx": []}
    for _ in range(options.runs):
        for subject in (securus, nginx):
            prepared = (
                _proven(subject, settings, key, token, 12_000 * options.seconds)
                if subject is securus
                else [_request(subject.port, [])] * 2
            )
            seen[subject.name].append(_measure(subject, folder, prepared, options, expected))
    return [
        _row("dpop-read-2k", "securus", seen["securus"], _CHECKS),
        _row("dpop-read-2k", "nginx", seen["nginx"], "proxy_pass with upstream keep-alive, no checks"),
    ]


def _measure(
    subject: Subject, folder: Path, prepared: list[bytes], options: argparse.Namespace, expected: int
) -> dict[str, float]:
    _check(subject, prepared.pop(), expected)
    before = subject.cpu_seconds()
    result = load.run(
        folder,
        subject.port,
        prepared,
        again=subject.name == "nginx",
        seconds=options.seconds,
        connections=options.connections,
        core=OTHER_CORE,
    )
    used = subject.cpu_seconds() - before
    if result.errors:
        raise RuntimeError(f"{subject.name}: {result.errors} of {result.requests} requests failed")
    return {
        "cpu_us": used / result.requests * 1e6,
        "requests_per_second": result.per_second,
        "p50_ms": result.p50_ms,
        "p99_ms": result.p99_ms,
        "peak_rss_mb": subject.peak_megabytes(),
    }


def _check(subject: Subject, request: bytes, expected: int) -> None:
    """One prepared request must bring the whole resource, or the numbers mean nothing. Raises RuntimeError."""
    with socket.create_connection(("127.0.0.1", subject.port), timeout=10) as connection:
        connection.sendall(request)
        got = b""
        while (end := got.find(b"\r\n\r\n")) < 0 or len(got) < end + 4 + expected:
            piece = connection.recv(65536)
            if not piece:
                break
            got += piece
            if b" 200 " not in got[:20]:
                break
    if b" 200 " not in got[:20]:
        raise RuntimeError(f"{subject.name} answered {got.decode('latin-1')}")


def _patient() -> bytes:
    """A synthetic Patient of 2 KB."""
    patient: dict[str, Any] = {
        "resourceType": "Patient",
        "id": world.PATIENT,
        "meta": {"versionId": "1", "lastUpdated": "2026-01-02T03:04:05Z"},
        "name": [{"family": "McLaughlin", "given": ["Stephen"]}],
        "gender": "male",
        "address": [],
    }
    while len(json.dumps(patient)) < 2048:
        patient["address"].append({"line": ["1 Example Street"], "city": "Boston", "state": "MA"})
    return json.dumps(patient, separators=(",", ":")).encode()


def _plain_listener(file: Path) -> GatewaySettings:
    """The demonstration's settings with a public listener behind a proxy that ends TLS, as in many hospitals."""
    document = yaml.safe_load(file.read_text())
    public = document["listen"]["public"]
    del public["tls"]
    public["trusted_proxies"] = {"addresses": ["127.0.0.1/32"]}
    file.write_text(yaml.safe_dump(document))
    return config.load(file, os.environ)


async def _token(settings: GatewaySettings, key: Key) -> str:
    """A token of the server's own key, as its token endpoint would give it to a patient's portal."""
    store = await open_store(Path(settings.storage.path), settings.storage.options)
    try:
        authorization = settings.authorization
        keys = await open_key_ring(settings, store, clock=system_clock, emit=lambda event: None)
        now = system_clock()
        canonical = json.dumps(dict(sorted(key.public.items())), separators=(",", ":")).encode()
        claims: dict[str, Any] = {
            "iss": authorization.issuer,
            "sub": "bench",
            "aud": settings.upstreams[0].identifier,
            "client_id": "portal-dpop",
            "iat": now,
            "exp": now + 3600,
            "jti": secrets.token_urlsafe(24),
            "grant_id": "bench",
            "scope": "patient/*.rs",
            "patient": world.PATIENT,
            "fhirUser": f"Patient/{world.PATIENT}",
            "cnf": {"jkt": base64url(sha256(canonical).digest())},
        }
        return await keys.sign(claims, typ="at+jwt")
    finally:
        await store.close()


def _request(port: int, headers: list[str]) -> bytes:
    lines = [f"GET {_PATH} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Accept: application/fhir+json", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def _proven(subject: Subject, settings: GatewaySettings, key: Key, token: str, count: int) -> list[bytes]:
    """So many requests, each with a proof of its own and the nonce in force."""
    authorization = f"Authorization: DPoP {token}"
    asked = subprocess.run(
        ["curl", "-s", "-i", "-H", "Authorization: DPoP x", f"http://127.0.0.1:{subject.port}{_PATH}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    nonce = re.search(r"^dpop-nonce: (\S+)", asked.stdout, re.M | re.I)
    if nonce is None:
        raise RuntimeError(f"no nonce: {asked.stdout}")
    claims = {
        "htm": "GET",
        "htu": settings.authorization.issuer + _PATH,
        "nonce": nonce[1],
        "ath": base64url(sha256(token.encode()).digest()),
        "iat": int(time.time()),
    }
    header = {"typ": "dpop+jwt", "jwk": key.public}
    return [
        _request(
            subject.port,
            [authorization, f"DPoP: {key.sign({**claims, 'jti': secrets.token_urlsafe(16)}, header)}"],
        )
        for _ in range(count)
    ]


def _verify_limit() -> dict[str, Any]:
    """What one ES256 verification costs OpenSSL: no checked hop can be cheaper than a plain one and this."""
    done = subprocess.run(
        ["openssl", "speed", "-seconds", "2", "-mr", "ecdsap256"], capture_output=True, text=True, check=True
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("+F4:"))
    verify = float(line.split(":")[-1])
    rate = verify if verify > 1 else 1 / verify
    row = _row(
        "dpop-read-2k",
        "openssl-es256-verify",
        [{"cpu_us": 1e6 / rate, "requests_per_second": rate}],
        "one ES256 verification",
    )
    return row  # fmt: skip


def _row(case: str, subject: str, runs: list[dict[str, float]], note: str) -> dict[str, Any]:
    names = ("cpu_us", "requests_per_second", "p50_ms", "p99_ms", "peak_rss_mb")
    medians = {name: round(statistics.median(run.get(name, 0.0) for run in runs), 3) for name in names}
    return {"case": case, "subject": subject, **medians, "runs": len(runs), "note": note}


def _machine() -> dict[str, Any]:
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    return {
        "cpu": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _print(rows: list[dict[str, Any]]) -> None:
    print(f"{'case':24} {'subject':22} {'CPU µs':>8} {'req/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'MB':>7} runs")
    for row in rows:
        print(
            f"{row['case']:24} {row['subject']:22} {row['cpu_us']:8.1f} {row['requests_per_second']:9.0f}"
            f" {row['p50_ms']:8.2f} {row['p99_ms']:8.2f} {row['peak_rss_mb']:7.0f} {row['runs']:4}"
        )


if __name__ == "__main__":
    sys.exit(main())

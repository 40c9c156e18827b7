"""A raw body of a gigabyte, as content of a Binary: down and up, beside nginx; CPU, throughput, growth of memory."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gateway.demo import world
from gateway.demo.client import Key
from tests.bench import keys, processes
from tests.bench.keys import Caller
from tests.bench.processes import Subject
from tests.bench.reads import nonce_of
from tests.bench.rows import Measured, row
from tests.bench.servers import OTHER_CORE, Place, Securus, nginx_without_checks, securus

SIZE = 10**9
MEDIA_TYPE = "application/dicom"
_CLIENT = "lab-backend"
_SCOPE = "system/Binary.cr"
_MOST_RUNS = 3
_READ, _CREATE = "/fhir/r4/Binary/scan", "/fhir/r4/Binary"
_SCANS = """
policy: scans
version: 1
owner: benchmark
status: enforce
text: The laboratory files scans and reads them.
rules:
  - rule: scans
    effect: permit
    who: {context: system, org: laboratory}
    may: [read, create]
    resources: [Binary]
    shared: true
    because: a scan belongs to a result
tests:
  - test: scans are filed
    as: {context: system, org: laboratory}
    request: POST /Binary
    expect: {decision: permit, rule: scans}
"""


def rows(place: Place, runs: int) -> list[dict[str, Any]]:
    """The rows of both ways. cpu_us is of a gigabyte, and the rate counts megabytes."""
    file = place.folder / "scan.dcm"
    with file.open("wb") as out:
        out.truncate(SIZE)
    count = max(1, min(runs, _MOST_RUNS))
    return [*_down(place, file, count), *_up(place, file, count)]


def _down(place: Place, file: Path, runs: int) -> list[dict[str, Any]]:
    binary = place.folder / "scan.json"
    binary.write_text(json.dumps({"resourceType": "Binary", "id": "scan", "contentType": MEDIA_TYPE}))
    # The store tells one version of both: what is judged is what goes out.
    same = "etag off; add_header ETag 'W/\"1\"';"
    block = f"""
  map $http_accept $kind {{ default content; ~fhir resource; }}
  server {{
    LISTEN;
    location ~ /Binary/scan$ {{ rewrite ^ /$kind last; }}
    location = /content {{ internal; default_type {MEDIA_TYPE}; {same} alias {file}; }}
    location = /resource {{ internal; default_type application/fhir+json; {same} alias {binary}; }}
  }}
"""
    port = world.free_port()
    place.start("scans", processes.nginx(place.folder, "scans", port, block), port, (OTHER_CORE,))
    return _compared(place, "stream-1g-down", port, runs, ["-o", "/dev/null"], "GET", _READ)


def _up(place: Place, file: Path, runs: int) -> list[dict[str, Any]]:
    port = world.free_port()
    place.start("sink", [sys.executable, "-m", "tests.bench.sink", str(port)], port, (OTHER_CORE,))
    sent = ["-X", "POST", "-T", str(file), "-H", f"Content-Type: {MEDIA_TYPE}", "-H", "Expect:"]
    return _compared(place, "stream-1g-up", port, runs, sent, "POST", _CREATE)


def _compared(
    place: Place, case: str, store: int, runs: int, options: list[str], method: str, path: str
) -> list[dict[str, Any]]:
    """A transfer through each in turn; the first of the gateway is not counted, so that what grows later is growth."""
    behind = Place(place.folder / case, place.stack, store, {})
    behind.folder.mkdir()
    gateway, nginx = (
        securus(behind, change=_change, policies={"90-scans.yaml": _SCANS}),
        nginx_without_checks(behind),
    )
    caller = _caller(gateway)

    def of_the_gateway() -> Measured:
        nonce = nonce_of(gateway.subject.port, path)
        headers = caller.headers(method, gateway.issuer + path, nonce)
        return _transfer(gateway.subject, path, options, headers)

    resting = of_the_gateway().peak_rss_mb
    seen: dict[str, list[Measured]] = {"securus": [], "nginx": []}
    for _ in range(runs):
        seen["securus"].append(of_the_gateway())
        seen["nginx"].append(_transfer(nginx, path, options, ["Accept: */*"]))
    grown = max(run.peak_rss_mb for run in seen["securus"]) - resting
    note = "a Binary's content; CPU of a gigabyte, rate in MB/s"
    return [
        row(
            case,
            "securus",
            seen["securus"],
            f"{note}; memory grew by {grown:.0f} MB; checked, judged, on record",
        ),
        row(case, "nginx", seen["nginx"], "the same through proxy_pass, not buffered"),
    ]


def _change(document: dict[str, Any]) -> None:
    lab = next(client for client in document["clients"] if client["client_id"] == _CLIENT)
    lab["scope"] += f" {_SCOPE}"


def _caller(gateway: Securus) -> Caller:
    key = Key.new()
    claims = keys.claims_of(gateway.settings, {"jkt": keys.thumbprint(key)}, _CLIENT)
    of_a_person = ("patient", "fhirUser")
    system = {name: value for name, value in claims.items() if name not in of_a_person}
    system |= {"sub": _CLIENT, "scope": _SCOPE, "organization": "laboratory", "purpose_of_use": ["TREAT"]}
    return Caller(key, asyncio.run(keys.token_of_the_server(gateway.settings, system)))


def _transfer(subject: Subject, path: str, options: list[str], headers: list[str]) -> Measured:
    """One transfer. Raises RuntimeError for one that is not whole."""
    command = ["taskset", "-c", str(OTHER_CORE), "curl", "-s", *options]
    command += ["-w", "%{http_code} %{size_download} %{size_upload}"]
    for header in headers:
        command += ["-H", header]
    before, began = subject.cpu_seconds(), time.perf_counter()
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{subject.port}{path}"], capture_output=True, text=True, check=True
    )
    took, used = time.perf_counter() - began, subject.cpu_seconds() - before
    status, down, up = done.stdout.rsplit(maxsplit=2)
    if status not in ("200", "201") or int(down) + int(up) < SIZE:
        raise RuntimeError(f"{subject.name}: {done.stdout}, expected {SIZE} bytes")
    of_a_gigabyte = SIZE / 1e9
    return Measured(
        used / of_a_gigabyte * 1e6, SIZE / 1e6 / took, took * 1e3, took * 1e3, subject.peak_megabytes()
    )

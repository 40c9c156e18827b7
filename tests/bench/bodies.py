"""A Bundle of a gigabyte on its way down, judged entry by entry: CPU, throughput, and how much memory grows.

There is no such case upwards: a resource that is to be stored is judged whole, so that it ends at `max_resource`. Raw
content goes both ways in streams.py.
"""

import asyncio
import json
import subprocess
import time
from typing import Any

from gateway.demo import world
from gateway.demo.client import Key
from tests.bench import keys, processes
from tests.bench.in_process import observation
from tests.bench.keys import Caller
from tests.bench.processes import Subject
from tests.bench.reads import nonce_of
from tests.bench.rows import Measured, row
from tests.bench.servers import OTHER_CORE, SEARCH_PATH, Place, nginx_without_checks, securus

_ENTRIES = 1_000_000


def rows(place: Place, runs: int) -> list[dict[str, Any]]:
    """The rows of a search Bundle of a gigabyte, filtered entry by entry; cpu_us is of a gigabyte, and the rate counts
    megabytes."""
    store = world.free_port()
    file = place.folder / "large.json"
    size = _write(place, store)
    block = f"""
  server {{
    LISTEN;
    location = /fhir/Observation {{ default_type application/fhir+json; alias {file}; }}
    location = {SEARCH_PATH} {{ default_type application/fhir+json; alias {file}; }}
  }}
"""
    place.start(
        "large-store", processes.nginx(place.folder, "large-store", store, block), store, (OTHER_CORE,)
    )
    behind = Place(place.folder / "large", place.stack, store, {})
    behind.folder.mkdir()
    gateway, nginx = securus(behind, "securus"), nginx_without_checks(behind)
    key = Key.new()
    claims = keys.claims_of(gateway.settings, {"jkt": keys.thumbprint(key)})
    caller = Caller(key, asyncio.run(keys.token_of_the_server(gateway.settings, claims)))
    seen: dict[str, list[Measured]] = {"securus": [], "nginx": []}
    grown = []
    for _ in range(max(1, min(runs, 3))):
        nonce = nonce_of(gateway.subject.port, SEARCH_PATH)
        headers = caller.headers("GET", gateway.issuer + SEARCH_PATH, nonce)
        resting = gateway.subject.peak_megabytes()
        seen["securus"].append(_down(gateway.subject, headers, size))
        grown.append(gateway.subject.peak_megabytes() - resting)
        seen["nginx"].append(_down(nginx, [], size))
    file.unlink()
    note = f"{size / 1e6:.0f} MB in {_ENTRIES} entries, each judged; CPU of a gigabyte, rate in MB/s"
    return [
        row("bundle-down-1g", "securus", seen["securus"], f"{note}; memory grew by {max(grown):.0f} MB"),
        row("bundle-down-1g", "nginx", seen["nginx"], "the same through proxy_pass"),
    ]


def _write(place: Place, store: int) -> int:
    base, subject = f"http://127.0.0.1:{store}/fhir", f"Patient/{world.PATIENT}"
    link = [{"relation": "self", "url": f"{base}/Observation?subject={subject.replace('/', '%2F')}"}]
    head = json.dumps({"resourceType": "Bundle", "type": "searchset", "link": link}, separators=(",", ":"))
    size = 0
    with (place.folder / "large.json").open("wb") as out:
        size += out.write(head[:-1].encode() + b',"entry":[')
        for n in range(_ENTRIES):
            entry = {
                "fullUrl": f"{base}/Observation/o{n}",
                "resource": {**observation(n), "subject": {"reference": subject}},
                "search": {"mode": "match"},
            }
            text = json.dumps(entry, separators=(",", ":")).encode()
            size += out.write(text if n == 0 else b"," + text)
        size += out.write(b"]}")
    return size


def _down(subject: Subject, headers: list[str], size: int) -> Measured:
    """One download. Raises RuntimeError for one that is not whole."""
    command = [
        "taskset",
        "-c",
        str(OTHER_CORE),
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{size_download}",
    ]
    for header in headers:
        command += ["-H", header]
    before, began = subject.cpu_seconds(), time.perf_counter()
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{subject.port}{SEARCH_PATH}"],
        capture_output=True,
        text=True,
        check=True,
    )
    took, used = time.perf_counter() - began, subject.cpu_seconds() - before
    status, got = done.stdout.split()
    if status != "200" or int(got) < size * 0.9:
        raise RuntimeError(f"{subject.name}: {done.stdout}, expected {size} bytes")
    gigabytes = int(got) / 1e9
    return Measured(
        used / gigabytes * 1e6, gigabytes * 1e3 / took, took * 1e3, took * 1e3, subject.peak_megabytes()
    )

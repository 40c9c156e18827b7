"""The subjects of the cases, started: the store behind them, the gateway, nginx without checks."""

import json
import os
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from gateway.config import document as config
from gateway.demo import world
from gateway.settings import GatewaySettings
from tests.bench import processes
from tests.bench.in_process import observation
from tests.bench.processes import Subject

SUBJECT_CORE, OTHER_CORE = 0, 1
BOTH_CORES = frozenset({SUBJECT_CORE, 2 if (os.cpu_count() or 1) > 3 else OTHER_CORE})
"""Where two workers run: on a machine of two cores one of them shares its own with store and load."""
PATIENT_PATH = f"/fhir/r4/Patient/{world.PATIENT}"
LARGE_PATH = "/fhir/r4/Observation/large"
SEARCH_PATH = "/fhir/r4/Observation"


@dataclass(frozen=True)
class Place:
    """Where a benchmark runs: its folder, what it started, the port of the store and what the store holds."""

    folder: Path
    stack: ExitStack
    store: int
    bodies: dict[str, bytes]

    def start(
        self, name: str, command: list[str], port: int, cores: Collection[int] = (SUBJECT_CORE,)
    ) -> Subject:
        """Start a server; it ends with the benchmark."""
        return self.stack.enter_context(processes.running(name, command, port, self.folder, cores))


def open_place(folder: Path, stack: ExitStack) -> Place:
    """The folder with a store of static files behind nginx, on the other core."""
    store = world.free_port()
    bodies = {
        PATIENT_PATH: patient(2048),
        LARGE_PATH: large_observation(100 * 1024),
        SEARCH_PATH: bundle(store, 1_100),
    }
    files = folder / "files"
    files.mkdir()
    locations = ""
    for number, (path, body) in enumerate(bodies.items()):
        (files / f"{number}.json").write_bytes(body)
        for at in (path, path.replace("/fhir/r4", "/fhir")):
            locations += f"    location = {at} {{ default_type application/fhir+json; alias {files}/{number}.json; }}\n"
    place = Place(folder, stack, store, bodies)
    block = f"  open_file_cache max=10;\n  server {{\n    LISTEN;\n{locations}  }}\n"
    place.start("store", processes.nginx(folder, "store", store, block), store, (OTHER_CORE,))
    return place


def nginx_without_checks(place: Place) -> Subject:
    """proxy_pass with upstream keep-alive: what the hop alone costs."""
    port = world.free_port()
    block = f"""
  upstream store {{ server 127.0.0.1:{place.store}; keepalive 64; }}
  server {{
    LISTEN;
    location / {{
      proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://store; proxy_buffers 32 64k;
      client_max_body_size 0; proxy_request_buffering off;
    }}
  }}
"""
    return place.start("nginx", processes.nginx(place.folder, "nginx", port, block), port)


def nginx_with_certificates(place: Place, certificates: Path) -> Subject:
    """The same behind TLS with client certificates that are checked."""
    port = world.free_port()
    block = f"""
  upstream store {{ server 127.0.0.1:{place.store}; keepalive 64; }}
  server {{
    LISTEN ssl;
    ssl_certificate {certificates}/server.pem;
    ssl_certificate_key {certificates}/server.key;
    ssl_client_certificate {certificates}/ca.pem;
    ssl_verify_client on;
    location / {{ proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://store; }}
  }}
"""
    return place.start("nginx-mtls", processes.nginx(place.folder, "nginx-mtls", port, block), port)


@dataclass(frozen=True)
class Securus:
    """A gateway of the demonstration's world: its settings, its process, and where it listens."""

    settings: GatewaySettings
    subject: Subject
    mtls: Subject
    folder: Path

    @property
    def issuer(self) -> str:
        """The public address."""
        return self.settings.authorization.issuer


def securus(
    place: Place,
    name: str = "securus",
    *,
    workers: int = 1,
    change: Callable[[dict[str, Any]], None] = lambda document: None,
    policies: Mapping[str, str] = MappingProxyType({}),
    fill: Callable[[Path], None] = lambda database: None,
) -> Securus:
    """The gateway with a public listener behind a proxy that ends TLS, as in many hospitals, and one with mutual TLS.

    change is made to its configuration; it has these policies as well, by the names of their files. fill writes into
    its database before it starts.
    """
    ports = world.Ports(world.free_port(), world.free_port(), world.free_port(), place.store)
    folder = place.folder / name
    world.build(folder, ports)
    for file, text in policies.items():
        (folder / "policies" / file).write_text(text)
    settings = _plain_listener(folder / "gateway.yaml", change)
    fill(Path(settings.storage.path))
    command = [sys.executable, "-m", "gateway", "serve", "-c", str(settings.file)]
    if workers > 1:
        command += ["--workers", str(workers)]
    started = place.start(name, command, ports.public, BOTH_CORES if workers > 1 else (SUBJECT_CORE,))
    return Securus(settings, started, Subject(name, started.process, ports.mtls), folder)


def _plain_listener(file: Path, change: Callable[[dict[str, Any]], None]) -> GatewaySettings:
    document = yaml.safe_load(file.read_text())
    public = document["listen"]["public"]
    del public["tls"]
    public["trusted_proxies"] = {"addresses": ["127.0.0.1/32"]}
    change(document)
    file.write_text(yaml.safe_dump(document))
    return config.load(file, os.environ)


def patient(size: int) -> bytes:
    """A synthetic Patient of so many bytes at least."""
    value: dict[str, Any] = {
        "resourceType": "Patient",
        "id": world.PATIENT,
        "meta": {"versionId": "1", "lastUpdated": "2026-01-02T03:04:05Z"},
        "name": [{"family": "McLaughlin", "given": ["Stephen"]}],
        "gender": "male",
        "address": [],
    }
    while len(json.dumps(value)) < size:
        value["address"].append({"line": ["1 Example Street"], "city": "Boston", "state": "MA"})
    return json.dumps(value, separators=(",", ":")).encode()


def large_observation(size: int) -> bytes:
    """An Observation of the patient with so many bytes of components."""
    value: dict[str, Any] = {**observation(1), "id": "large", "component": []}
    value["subject"] = {"reference": f"Patient/{world.PATIENT}"}
    code = {"coding": [{"system": "http://loinc.org", "code": "4548-4", "display": "Hemoglobin A1c"}]}
    one = {"code": code, "valueQuantity": {"value": 6.5, "unit": "%"}}
    value["component"] = [one] * (size // len(json.dumps(one, separators=(",", ":"))) + 1)
    return json.dumps(value, separators=(",", ":")).encode()


def bundle(store: int, entries: int) -> bytes:
    """A search Bundle of the patient's observations: about a kilobyte an entry."""
    base, subject = f"http://127.0.0.1:{store}/fhir", f"Patient/{world.PATIENT}"
    found = [
        {
            "fullUrl": f"{base}/Observation/o{n}",
            "resource": {**observation(n), "subject": {"reference": subject}},
            "search": {"mode": "match"},
        }
        for n in range(entries)
    ]
    link = [{"relation": "self", "url": f"{base}/Observation?subject={subject.replace('/', '%2F')}"}]
    value = {"resourceType": "Bundle", "type": "searchset", "link": link, "entry": found}
    return json.dumps(value, separators=(",", ":")).encode()

"""FHIR engines that others wrote, as processes on loopback: Medplum's router and HAPI FHIR's JPA store.

Both take the resources on standard input, print 'ready' when every one is stored, and end with standard input.
"""

import http.client
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.demo.fhir_store import sample_resources
from gateway.demo.world import free_port
from tests.support.missing import missing

INTEROP = Path(__file__).parents[1] / "interop"
HAPI = INTEROP / "hapi"
ANNA = "1ae0605d-e5b8-4d6d-a96d-c93dcbd57e06"
BERT = "616eaeb2-a67a-44e5-a7e6-9bbd85e47c5c"
SECRET = "SECRET-OF-BERT"

_START_SECONDS = 180
_UNREACHABLE = (
    "Could not resolve",
    "could not be resolved",
    "Could not transfer",
    "Unknown host",
    "offline mode",
)


class EngineMissing(Exception):
    """The engine cannot run on this machine; why."""


@dataclass(frozen=True)
class Engine:
    """A running engine."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def origin(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base(self) -> str:
        """Its FHIR base URL."""
        return f"{self.origin}/fhir"

    def put(self, resource: dict[str, Any]) -> int:
        """Store a resource under its id, past any gateway; the status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            place = f"/fhir/{resource['resourceType']}/{resource['id']}"
            headers = {"Content-Type": "application/fhir+json"}
            connection.request("PUT", place, json.dumps(resource), headers)
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status in (200, 201), said[:500]
            return answer.status
        finally:
            connection.close()

    def stop(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def running_engine(name: str, log: Path) -> Iterator[Engine]:
    """The engine of this name, for as long as this lasts. Where it cannot run the test is skipped and says why."""
    try:
        engine = start_engine(name, log)
    except EngineMissing as why:
        pytest.skip(str(why))
    try:
        yield engine
    finally:
        engine.stop()


def start_engine(name: str, log: Path) -> Engine:
    """The engine of this name, with two patients in it. Raises EngineMissing, AssertionError when it does not start."""
    port = free_port()
    command = {"medplum": _medplum, "hapi": _hapi}[name]()
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*command, str(port)],
            cwd=INTEROP,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    engine = Engine(name, port, process)
    assert process.stdin is not None
    assert process.stdout is not None
    impatience = threading.Timer(_START_SECONDS, process.kill)
    impatience.start()
    try:
        for resource in resources(engine.base):
            process.stdin.write(orjson.dumps(resource) + b"\n")
        process.stdin.write(b"\n")
        process.stdin.flush()
        said = process.stdout.readline()  # ends at the end of the process, too
    except BrokenPipeError:
        said = b""
    finally:
        impatience.cancel()
    if said.strip() != b"ready":
        engine.stop()
        raise AssertionError(f"{name} did not start: {log.read_text(errors='replace')[-2000:]}")
    return engine


def _medplum() -> list[str]:
    node = shutil.which("node")
    if node is None:
        missing("Medplum needs node")
    if not (INTEROP / "node_modules" / "@medplum" / "fhir-router").is_dir():
        missing("Medplum is not installed: npm ci in tests/interop")
    return [node, "medplum_server.mjs"]


def _hapi() -> list[str]:
    options = ["-Xmx1g", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    options += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
    return hapi_program("HapiServer", options)


def hapi_program(name: str, options: list[str]) -> list[str]:
    """The command of a program of tests/interop/hapi, built when that can be done. Raises EngineMissing."""
    java, maven = shutil.which("java"), shutil.which("mvn")
    if java is None:
        raise EngineMissing("HAPI FHIR needs java")
    if not _is_built():
        if os.environ.get("CI"):
            raise EngineMissing(
                "HAPI FHIR is not built, and is not built in CI: mvn -q package in tests/interop/hapi"
            )
        if maven is None:
            raise EngineMissing("HAPI FHIR needs mvn to be built")
        built = subprocess.run(
            [maven, "-q", "-B", "package"], cwd=HAPI, capture_output=True, text=True, timeout=900
        )
        if built.returncode and any(sign in built.stdout for sign in _UNREACHABLE):
            raise EngineMissing("HAPI FHIR is on no Maven repository that can be reached")
        assert built.returncode == 0, built.stdout[-2000:]
    return [java, *options, "-cp", f"{HAPI}/target/classes:{HAPI}/target/lib/*", name]


def _is_built() -> bool:
    """Whether what Maven made is there and no older than its sources."""
    made = HAPI / "target" / "hapi-server-1.jar"
    if not made.is_file() or not (HAPI / "target" / "lib").is_dir():
        return False
    sources = (HAPI / "pom.xml", *(HAPI / "src").iterdir())
    return all(source.stat().st_mtime <= made.stat().st_mtime for source in sources)


def resources(base: str) -> list[dict[str, Any]]:
    """Two synthetic patients with all that is theirs, the directory, and cases of our own; versions in order."""
    sample = sample_resources()
    found = [
        resource
        for resource in sample
        if resource["resourceType"] in ("Practitioner", "Organization") or owner(resource) in (ANNA, BERT)
    ]
    care_giver = next(resource["id"] for resource in found if resource["resourceType"] == "Practitioner")
    return found + _cases(base, f"{base}/Practitioner/{care_giver}")


def _cases(base: str, care_giver: str) -> Iterable[dict[str, Any]]:
    code = {"coding": [{"system": "http://loinc.org", "code": "8302-2"}], "text": SECRET}
    observation = {"resourceType": "Observation", "status": "final", "code": code}
    anna, bert = {"reference": f"Patient/{ANNA}"}, {"reference": f"Patient/{BERT}"}
    return [
        # Entered for the wrong patient, then put right: the first version is still Bert's.
        {**observation, "id": "moved", "subject": bert},
        {**observation, "id": "moved", "subject": anna, "code": {"text": "moved to Anna"}},
        # Anna is in it, but it is not hers.
        {**observation, "id": "about-bert", "subject": bert, "performer": [anna]},
        # The store's own address, in places.
        {
            **observation,
            "id": "addresses",
            "subject": anna,
            "code": {"text": "addresses"},
            "performer": [{"reference": care_giver}],
        },
        {
            "resourceType": "DiagnosticReport",
            "id": "addresses",
            "status": "final",
            "code": {"text": "addresses"},
            "subject": anna,
            "presentedForm": [{"contentType": "text/plain", "url": f"{base}/Binary/1"}],
        },
    ]


def owner(resource: dict[str, Any]) -> str | None:
    """The id of the patient whose resource this is; None for nobody's."""
    if resource["resourceType"] == "Patient":
        return str(resource["id"])
    for name in ("subject", "patient"):
        reference = str(resource.get(name, {}).get("reference", ""))
        if reference.startswith("Patient/"):
            return reference.removeprefix("Patient/")
    return None

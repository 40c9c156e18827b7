"""HAPI FHIR's parsers, which we did not write, read our XML and write XML that we read; the XSD of R4 takes ours."""

import base64
import json
import subprocess
from collections.abc import Iterable
from random import Random
from typing import Any

import pytest

from gateway.demo.fhir_store import sample_resources
from gateway.fhir.definitions import RESOURCE_TYPES
from gateway.fhir.resource import parse_json, write_resource
from gateway.fhir.xml_reading import parse_resource_xml
from gateway.fhir.xml_writing import write_resource_xml
from tests.support.engines import EngineMissing, hapi_program
from tests.support.random_resources import RandomResources

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("hapi")]
Resource = dict[str, Any]


@pytest.fixture(scope="module")
def command() -> list[str]:
    try:
        return hapi_program("HapiXml", ["-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=off"])
    except EngineMissing as missing:
        pytest.skip(str(missing))


def told(command: list[str], word: str, contents: Iterable[bytes]) -> list[tuple[str, bytes]]:
    lines = [f"{word} {base64.b64encode(content).decode()}" for content in contents]
    found = subprocess.run(
        command, input="\n".join(lines).encode(), capture_output=True, timeout=300, check=True
    )
    answers = [line.split(b" ") for line in found.stdout.splitlines()]
    assert len(answers) == len(lines), found.stderr[-2000:]
    return [(answer.decode(), base64.b64decode(content)) for answer, content in answers]


def samples() -> list[Resource]:
    """Of each type a few, since the first of a patient is as good as the hundredth."""
    kept: dict[str, list[Resource]] = {}
    for resource in sample_resources():
        kept.setdefault(resource["resourceType"], []).append(resource)
    chosen = [resource for found in kept.values() for resource in found[:20]]
    return [parse_json(json.dumps(resource).encode()) for resource in chosen]


def random_ones() -> list[Resource]:
    random = Random(20)
    made = RandomResources(random, well_formed=True)
    return [made.resource(type_) for type_ in sorted(RESOURCE_TYPES) for _ in range(3)]


@pytest.mark.parametrize("resources", [samples, random_ones], ids=["samples", "random"])
def test_hapi_reads_our_xml_as_what_it_was(command: list[str], resources: Any) -> None:
    held = resources()
    for value, (word, content) in zip(held, told(command, "xml", map(write_resource_xml, held)), strict=True):
        assert word == "ok", (content, value)
        assert parse_json(content) == value


@pytest.mark.parametrize("resources", [samples, random_ones], ids=["samples", "random"])
def test_we_read_hapis_xml_as_what_it_was(command: list[str], resources: Any) -> None:
    held = resources()
    for value, (word, content) in zip(held, told(command, "json", map(write_resource, held)), strict=True):
        assert word == "ok", (content, value)
        assert parse_resource_xml(content) == value


def test_our_xml_is_valid_by_the_schema_of_r4(command: list[str]) -> None:
    held = samples()
    for value, (word, content) in zip(
        held, told(command, "schema", map(write_resource_xml, held)), strict=True
    ):
        assert word == "ok", (content, value)
    late = b'<Patient xmlns="http://hl7.org/fhir"><gender value="male"/><active value="true"/></Patient>'
    assert [word for word, _ in told(command, "schema", [late])] == ["error"]

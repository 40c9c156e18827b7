"""Transactions in front of FHIR engines that we did not write: all of it happens, or nothing."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.config.profiles import shipped
from tests.interop.test_fhir_engines import CLAIMS, ENGINES, Setting, engine
from tests.support.engines import ANNA, BERT, Engine, resources
from tests.support.gateway import MOUNT, Reply, policies_with, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.process]
__all__ = ["engine"]  # the fixture
POLICY = """
policy: bundles
version: 1
owner: tests
status: enforce
text: A patient keeps the own diary, many pages at once.
rules:
  - rule: own-diary
    effect: permit
    who: {context: patient}
    may: [read, search, create, update, patch, delete, batch, transaction]
    resources: [Observation]
    where: {compartment: {patient: "{token.patient}", membership: subject}}
    conditional: {keys: [identifier], system: urn:diary}
    because: a patient keeps the own diary
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def setting(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Setting]:
    folder = tmp_path_factory.mktemp("bundles")
    running = await start_gateway(
        folder,
        policies=policies_with(folder, "90-bundles.yaml", POLICY),
        base=engine.base,
        profile=shipped(engine.name),
    )
    yield Setting(engine, running, resources(engine.base))
    await stop_gateway(running)


def page(number: str, patient: str = ANNA, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "preliminary",
        "code": {"text": "diary"},
        "identifier": [{"system": "urn:diary", "value": number}],
        "subject": {"reference": f"Patient/{patient}"},
    } | more


def entry(
    method: str, url: str, resource: Any = None, name: str | None = None, **request: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {"request": {"method": method, "url": url, **request}}
    return (
        found
        | ({} if resource is None else {"resource": resource})
        | ({} if name is None else {"fullUrl": name})
    )


async def send(setting: Setting, kind: str, *entries: Any, prefer: str = "return=minimal") -> Reply:
    body = json.dumps({"resourceType": "Bundle", "type": kind, "entry": entries}).encode()
    token = await setting.gateway.token("pA-rw", **CLAIMS)
    headers = [("Content-Type", "application/fhir+json"), ("Prefer", prefer)]
    reply = await setting.gateway.fhir("POST", "/", token=token, headers=headers, body=body)
    for word in (f":{setting.engine.port}", "HAPI", "edplum"):
        assert word.encode() not in reply.raw, word
    return reply


def places(setting: Setting, reply: Reply) -> list[str]:
    base = f"{setting.gateway.origin}{MOUNT}"
    return [
        each["response"]["location"].removeprefix(base).split("/_history")[0] for each in reply.json["entry"]
    ]


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
async def test_a_transaction_is_carried_out_wholly_and_judged_before(setting: Setting) -> None:
    made = await send(
        setting,
        "transaction",
        entry("POST", "Observation", page("a"), "urn:uuid:7c0ee0c2-41d5-4b4e-8f0f-000000000001"),
        entry("POST", "Observation", page("b", derivedFrom=[
            {"reference": "urn:uuid:7c0ee0c2-41d5-4b4e-8f0f-000000000001"}])),
        prefer="return=representation",
    )  # fmt: skip
    assert made.status == 200, made.raw[:800]
    assert made.json["type"] == "transaction-response"
    first, second = places(setting, made)
    assert (await setting.direct(second))["derivedFrom"] == [{"reference": first[1:]}]
    shown = [each["resource"]["identifier"][0]["value"] for each in made.json["entry"] if "resource" in each]
    assert shown in (["a", "b"], [])
    patch = json.dumps([{"op": "replace", "path": "/status", "value": "amended"}]).encode()
    coded = {"resourceType": "Binary", "contentType": "application/json-patch+json",
             "data": base64.b64encode(patch).decode()}  # fmt: skip
    changed = await send(
        setting,
        "transaction",
        entry("PATCH", first[1:], coded),
        entry("PUT", "Observation?identifier=urn:diary|b", page("b", status="final")),
        entry("POST", "Observation", page("a"), ifNoneExist="identifier=urn:diary|a"),
        entry("GET", first[1:]),
    )
    assert changed.status == 200, changed.raw[:800]
    assert [each["response"]["status"] for each in changed.json["entry"]] == ["200", "200", "200", "200"]
    assert changed.json["entry"][3]["resource"]["status"] == "amended"
    assert (await setting.direct(first))["status"] == "amended"
    assert (await setting.direct(second))["status"] == "final"
    gone = await send(
        setting, "transaction", entry("DELETE", second[1:]), entry("POST", "Observation", page("c"))
    )
    assert [each["response"]["status"] for each in gone.json["entry"]] == ["204", "201"], gone.raw[:800]


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
async def test_one_refused_entry_keeps_all_of_them_out_of_the_engine(setting: Setting) -> None:
    before = await setting.direct("/Observation?identifier=urn:diary|never&_summary=count")
    for other in (
        entry("POST", "Observation", page("never", BERT)),
        entry("PUT", "Observation/about-bert", page("never") | {"id": "about-bert"}),
        entry("GET", "Observation/about-bert"),
        entry("DELETE", "Observation/about-bert"),
        entry("GET", f"Patient/{BERT}"),
    ):
        reply = await send(setting, "transaction", entry("POST", "Observation", page("never")), other)
        assert reply.status == 403, reply.raw[:800]
        assert reply.json["issue"][0]["expression"] == ["Bundle.entry[1]"]
    after = await setting.direct("/Observation?identifier=urn:diary|never&_summary=count")
    assert (before["total"], after["total"]) == (0, 0)


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
async def test_entries_of_a_batch_are_answered_one_by_one(setting: Setting) -> None:
    reply = await send(
        setting,
        "batch",
        entry("GET", "Observation?code=nothing"),
        entry("GET", "Observation/about-bert"),
        entry("POST", "Observation", page("batch")),
        entry("POST", "Observation", page("batch", BERT)),
    )
    assert reply.status == 200, reply.raw[:800]
    assert [each["response"]["status"] for each in reply.json["entry"]] == ["200", "404", "201", "403"]

"""The sample FHIR server of the demonstration does what FHIR R4 says, as far as it says that it does."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest_asyncio
from aiohttp import web

from gateway.demo.fhir_server import SampleServer
from gateway.demo.fhir_store import SampleStore, sample_resources
from gateway.demo.world import OTHER_PATIENT, PATIENT, free_port

Answer = tuple[int, Any, dict[str, str]]


class Store:
    """A client of the sample server."""

    def __init__(self, http: aiohttp.ClientSession, base: str) -> None:
        self.http = http
        self.base = base

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        url = path if path.startswith("http") else f"{self.base}{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else json.dumps(body)
        async with self.http.request(method, url, data=data, headers=named) as response:
            content = await response.read()
            value = json.loads(content) if content else None
            return response.status, value, {n.lower(): v for n, v in response.headers.items()}


@pytest_asyncio.fixture
async def store() -> AsyncIterator[Store]:
    port = free_port()
    server = SampleServer(SampleStore.of(sample_resources()), f"http://127.0.0.1:{port}/fhir")
    runner = web.ServerRunner(web.Server(server.handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    async with aiohttp.ClientSession() as http:
        yield Store(http, server.base)
    await runner.cleanup()


def note(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, **more}


async def test_it_holds_several_patients_and_says_what_it_can(store: Store) -> None:
    status, found, _ = await store("GET", "/Patient")
    assert (status, found["total"]) == (200, 6)
    _, capability, _ = await store("GET", "/metadata")
    assert {"Patient", "Observation"} <= {r["type"] for r in capability["rest"][0]["resource"]}


async def test_read_vread_and_history(store: Store) -> None:
    status, first, headers = await store("GET", f"/Patient/{PATIENT}")
    assert (status, headers["etag"]) == (200, 'W/"1"')
    await store("PUT", f"/Patient/{PATIENT}", {**first, "active": True})
    assert (await store("GET", f"/Patient/{PATIENT}/_history/1"))[1] == first
    _, history, _ = await store("GET", f"/Patient/{PATIENT}/_history")
    assert [e["response"]["etag"] for e in history["entry"]] == ['W/"2"', 'W/"1"']
    assert (await store("GET", f"/Patient/{PATIENT}/_history/3"))[0] == 404


async def test_a_search_by_common_parameters(store: Store) -> None:
    _, found, _ = await store("GET", f"/Observation?subject=Patient/{PATIENT}&category=laboratory&_count=5")
    assert found["total"] > 5
    for entry in found["entry"]:
        assert entry["resource"]["subject"]["reference"] == f"Patient/{PATIENT}"
    assert (await store("GET", "/Observation?no-such=1"))[0] == 400
    _, by_form, _ = await store("GET", f"/Patient?_id={PATIENT},{OTHER_PATIENT}")
    assert by_form["total"] == 2


async def test_pages_hold_every_match_once(store: Store) -> None:
    _, page, _ = await store("GET", f"/Observation?subject=Patient/{PATIENT}&_count=40&_sort=-date")
    total, seen = page["total"], []
    while True:
        seen += [entry["resource"]["id"] for entry in page["entry"]]
        following = [link["url"] for link in page["link"] if link["relation"] == "next"]
        if not following:
            break
        _, page, _ = await store("GET", following[0])
    assert len(seen) == len(set(seen)) == total > 40


async def test_includes_are_marked_as_such(store: Store) -> None:
    _, found, _ = await store(
        "GET", f"/Observation?subject=Patient/{PATIENT}&_count=2&_include=Observation:subject"
    )
    modes = {e["resource"]["resourceType"]: e["search"]["mode"] for e in found["entry"]}
    assert modes == {"Observation": "match", "Patient": "include"}
    _, reverse, _ = await store("GET", f"/Patient?_id={PATIENT}&_revinclude=Condition:subject")
    assert {"match", "include"} == {e["search"]["mode"] for e in reverse["entry"]}


async def test_create_gives_an_id_and_a_place(store: Store) -> None:
    status, made, headers = await store("POST", "/Observation", note(id="mine"))
    assert (status, made["meta"]["versionId"]) == (201, "1")
    assert made["id"] != "mine"
    assert headers["location"] == f"{store.base}/Observation/{made['id']}/_history/1"


async def test_If_Match_guards_updates_patches_and_deletes(store: Store) -> None:
    _, made, _ = await store("POST", "/Observation", note())
    path, stale = f"/Observation/{made['id']}", 'W/"7"'
    assert (await store("PUT", path, made, If_Match=stale))[0] == 412
    status, second, _ = await store("PUT", path, {**made, "status": "amended"}, If_Match='W/"1"')
    assert (status, second["meta"]["versionId"]) == (200, "2")
    change = [{"op": "replace", "path": "/status", "value": "corrected"}]
    assert (await store("PATCH", path, change, If_Match=stale))[0] == 412
    assert (await store("PATCH", path, change, If_Match='W/"2"'))[1]["status"] == "corrected"
    assert (await store("PUT", path, made, If_None_Match="*"))[0] == 412
    assert (await store("PUT", f"{path}-2", {**made, "id": f"{made['id']}-2"}, If_None_Match="*"))[0] == 201
    assert (await store("DELETE", path, If_Match=stale))[0] == 412
    assert (await store("DELETE", path))[0] == 204
    assert (await store("GET", path))[0] == 410


def bundle(kind: str, *entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


async def test_a_batch_answers_each_entry_for_itself(store: Store) -> None:
    good = {"request": {"method": "GET", "url": f"Patient/{PATIENT}"}}
    bad = {"request": {"method": "GET", "url": "Patient/nobody"}}
    _, answer, _ = await store("POST", "/", bundle("batch", bad, good))
    assert [e["response"]["status"] for e in answer["entry"]] == ["404", "200"]


async def test_a_transaction_resolves_its_own_references(store: Store) -> None:
    urn = "urn:uuid:6f1c1c1e-5d7c-4a0b-9d43-8f4f6a2f7c11"
    patient = {
        "fullUrl": urn,
        "request": {"method": "POST", "url": "Patient"},
        "resource": {"resourceType": "Patient"},
    }
    result = {
        "request": {"method": "POST", "url": "Observation"},
        "resource": note(subject={"reference": urn}),
    }
    status, answer, _ = await store("POST", "/", bundle("transaction", patient, result))
    made, filed = (entry["resource"] for entry in answer["entry"])
    assert (status, filed["subject"]["reference"]) == (200, f"Patient/{made['id']}")


async def test_a_transaction_is_stored_whole_or_not_at_all(store: Store) -> None:
    before = (await store("GET", "/Observation?_count=1"))[1]["total"]
    good = {"request": {"method": "POST", "url": "Observation"}, "resource": note()}
    change = {"request": {"method": "DELETE", "url": f"Patient/{PATIENT}"}}
    bad = {
        "request": {"method": "PUT", "url": f"Patient/{OTHER_PATIENT}", "ifMatch": 'W/"9"'},
        "resource": {"resourceType": "Patient", "id": OTHER_PATIENT},
    }
    assert (await store("POST", "/", bundle("transaction", good, change, bad)))[0] == 412
    assert (await store("GET", "/Observation?_count=1"))[1]["total"] == before
    assert (await store("GET", f"/Patient/{PATIENT}"))[0] == 200

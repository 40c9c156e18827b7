"""Tokens with authorization details (RFC 9396) against the whole gateway: every way around a detail is tried.

Tokens are made with the server's own key, so that a test says exactly what a token carries.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.gateway import MOUNT, RunningGateway, start_gateway, stop_gateway

ARCHIVE = "/fhir/archive"
FORM = [("Content-Type", "application/x-www-form-urlencoded")]
FHIR_JSON = [("Content-Type", "application/fhir+json")]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    running = await start_gateway(tmp_path, second_mount=ARCHIVE)
    yield running
    await stop_gateway(running)


def detail(**members: Any) -> dict[str, Any]:
    return {"type": "fhir-access", **members}


async def token(gateway: RunningGateway, *details: Any, who: str = "pA-r", **claims: Any) -> str:
    return await gateway.token(who, authorization_details=list(details), **claims)


async def test_scopes_and_details_must_both_allow(gateway: RunningGateway) -> None:
    reading = await token(gateway, detail(actions=["read"], datatypes=["Observation"]))
    assert (await gateway.fhir("GET", "/Observation/a1", token=reading)).status == 200
    refused = await gateway.fhir("GET", "/Patient/A", token=reading)
    assert (refused.status, refused.reason) == (403, "details-insufficient")
    narrow = await token(gateway, detail(), scope="patient/Patient.r")
    refused = await gateway.fhir("GET", "/Observation/a1", token=narrow)
    assert (refused.status, refused.reason) == (403, "scope-insufficient")


WAYS: list[tuple[str, str, list[tuple[str, str]], bytes]] = [
    ("GET", "/Patient/A", [], b""),
    ("GET", "/Patient/A/_history/1", [], b""),
    ("GET", "/Patient/A/_history", [], b""),
    ("GET", "/Patient", [], b""),
    ("GET", "/Patient?_id=A", [], b""),
    ("POST", "/Patient/_search", FORM, b"_id=A"),
    ("POST", "/Patient/_search?_id=A", FORM, b""),
    ("GET", "/Patient/A/Condition", [], b""),
    ("GET", "/Observation/a1/_history/1", [], b""),
    ("GET", "/Observation/a1/_history", [], b""),
    ("HEAD", "/Patient/A", [], b""),
]


@pytest.mark.parametrize(("method", "path", "headers", "body"), WAYS)
async def test_no_path_reaches_what_the_detail_does_not_name(
    gateway: RunningGateway, method: str, path: str, headers: list[tuple[str, str]], body: bytes
) -> None:
    held = await token(gateway, detail(actions=["read", "search"], datatypes=["Observation"]))
    refused = await gateway.fhir(method, path, token=held, headers=headers, body=body)
    assert refused.status == 403
    assert method == "HEAD" or refused.reason == "details-insufficient"
    assert gateway.upstream.requests == []


async def test_a_search_by_form_needs_the_action_too(gateway: RunningGateway) -> None:
    reading = await token(gateway, detail(actions=["read"]))
    refused = await gateway.fhir(
        "POST", "/Observation/_search", token=reading, headers=FORM, body=b"code=4548-4"
    )
    assert (refused.status, refused.reason) == (403, "details-insufficient")
    finding = await token(gateway, detail(actions=["search"]))
    found = await gateway.fhir(
        "POST", "/Observation/_search", token=finding, headers=FORM, body=b"code=4548-4"
    )
    assert found.status == 200


async def test_a_create_needs_the_action_and_shows_nothing_without_a_read(gateway: RunningGateway) -> None:
    body = json.dumps({"resourceType": "Observation", "status": "final"}).encode()
    held = await token(gateway, detail(actions=["read", "search"]), who="dr1")
    refused = await gateway.fhir("POST", "/Observation", token=held, headers=FHIR_JSON, body=body)
    assert (refused.status, refused.reason) == (403, "details-insufficient")
    assert gateway.upstream.requests == []


@pytest.mark.parametrize("other", ["Patient/A", "Condition/x", "Bundle/x"])
async def test_a_store_that_answers_with_another_type_is_not_believed(
    gateway: RunningGateway, other: str
) -> None:
    type_, _, id_ = other.partition("/")
    gateway.upstream.resources["Observation/a1"] = {
        "resourceType": type_,
        "id": id_,
        "subject": {"reference": "Patient/A"},
    }
    held = await token(gateway, detail(datatypes=["Observation"]))
    assert (await gateway.fhir("GET", "/Observation/a1", token=held)).status == 404
    found = await gateway.fhir("GET", "/Observation", token=held)
    assert all(entry["resource"]["resourceType"] == "Observation" for entry in found.json.get("entry", []))


@pytest.mark.parametrize(
    "datatypes", [["*"], "*", [], ["Observation*"], ["any"], None, {"*": 1}, ["patient"]]
)
async def test_a_wildcard_is_no_datatype(gateway: RunningGateway, datatypes: Any) -> None:
    held = await token(gateway, detail(datatypes=datatypes))
    refused = await gateway.fhir("GET", "/Patient/A", token=held)
    assert (refused.status, refused.reason) == (403, "details-insufficient")


async def test_a_detail_for_another_location_opens_nothing_here(gateway: RunningGateway) -> None:
    here, there = gateway.origin + MOUNT, gateway.origin + ARCHIVE
    held = await token(gateway, detail(locations=[there]), aud=[here, there])
    refused = await gateway.fhir("GET", "/Patient/A", token=held)
    assert (refused.status, refused.reason) == (403, "details-insufficient")
    assert (await gateway.fhir("GET", "/Patient/A", token=held, mount=ARCHIVE)).status == 200


async def test_a_location_does_not_replace_the_audience(gateway: RunningGateway) -> None:
    there = gateway.origin + ARCHIVE
    held = await token(gateway, detail(locations=[there]))
    refused = await gateway.fhir("GET", "/Patient/A", token=held, mount=ARCHIVE)
    assert (refused.status, refused.reason) == (401, "token-invalid")


@pytest.mark.parametrize("location", ["", "/", "/fhir", "/fhir/r4/", "/fhir/r4/Patient", "/FHIR/R4"])
async def test_a_location_that_only_looks_like_the_mount_is_another(
    gateway: RunningGateway, location: str
) -> None:
    held = await token(gateway, detail(locations=[gateway.origin + location]))
    assert (await gateway.fhir("GET", "/Patient/A", token=held)).reason == "details-insufficient"


@pytest.mark.parametrize(
    "details",
    [[], None, "x", [{"type": "payment"}], [detail(), {"type": "payment"}], [detail(privileges=["x"])]],
)
async def test_details_that_are_not_enforced_here_are_refused(gateway: RunningGateway, details: Any) -> None:
    held = await gateway.token("pA-r", authorization_details=details)
    refused = await gateway.fhir("GET", "/Patient/A", token=held)
    assert (refused.status, refused.reason) == (403, "details-unknown")
    assert gateway.upstream.requests == []


async def test_a_page_link_opens_for_no_narrower_token(gateway: RunningGateway) -> None:
    """The link belongs to the grant; the next token of the grant may be narrower (RFC 9396 6)."""
    entry = {"resource": gateway.upstream.resources["Observation/a1"], "search": {"mode": "match"}}

    async def first_page(request: Any) -> Any:
        base = gateway.upstream.base
        url = f"{base}/Observation?{request.query_string}"
        links = [{"relation": "self", "url": url}, {"relation": "next", "url": f"{base}/Observation?page=2"}]
        value = {"resourceType": "Bundle", "type": "searchset", "link": links, "entry": [entry]}
        return web.json_response(value, content_type="application/fhir+json")

    gateway.upstream.answer = first_page
    page = (await gateway.fhir("GET", "/Observation", token=await token(gateway, detail()))).json
    url = next(link["url"] for link in page["link"] if link["relation"] == "next")
    target = url.removeprefix(gateway.origin + MOUNT)
    gateway.upstream.answer = None
    narrower = await token(gateway, detail(datatypes=["Condition"]))
    refused = await gateway.fhir("GET", target, token=narrower)
    assert (refused.status, refused.reason) == (403, "details-insufficient")
    assert (await gateway.fhir("GET", target, token=await token(gateway, detail()))).status == 200


async def test_the_refusal_is_on_record(gateway: RunningGateway) -> None:
    held = await token(gateway, detail(datatypes=["Condition"]))
    await gateway.fhir("GET", "/Patient/A", token=held)
    record = (await gateway.audit())[-1]
    assert record["reason"] == "details-insufficient"
    assert "no authorization detail gives read of Patient" in record["explanation"]

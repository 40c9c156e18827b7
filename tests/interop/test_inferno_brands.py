"""Inferno's group on user-access brands: the bundle that discovery names, and that what it says is there.

A test an id of the SMART App Launch kit 2.2 with what that test asserts; inferno_checks.tsv says where each id stands.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.inferno import Inferno, inferno_at

pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("inferno-brands"),
    pytest.mark.asyncio(loop_scope="module"),
]
BRANDS: dict[str, Any] = {
    "updated": "2026-01-31T09:00:00Z",
    "developer_url": "https://developers.hospital.example",
    "list": [
        {
            "id": "hospital",
            "name": "Example Hospital",
            "primary": True,
            "website": "https://www.hospital.example",
            "identifiers": [{"value": "https://hospital.example"}],
            "portals": [
                {"name": "Portal", "url": "https://portal.hospital.example", "description": "For patients."}
            ],
        },
        {
            "id": "eye-clinic",
            "name": "Eye Clinic",
            "website": "https://eyes.example",
            "part_of": "hospital",
            "endpoints": ["fhir"],
        },
    ],
}
Resource = dict[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inferno(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Inferno]:
    def change(document: dict[str, Any]) -> None:
        document["brands"] = BRANDS

    async with inferno_at(tmp_path_factory.mktemp("brands"), change=change) as tester:
        yield tester


async def bundle(inferno: Inferno) -> Resource:
    url = (await inferno.well_known()).json["user_access_brand_bundle"]
    reply = await inferno.send("GET", url, headers={"Accept": "application/json, application/fhir+json"})
    assert reply.status == 200
    found: Resource = reply.json
    return found


async def of_type(inferno: Inferno, type_: str) -> dict[str, Resource]:
    """The resources of a type by 'Type/id', and by their full URL."""
    found: dict[str, Resource] = {}
    for entry in (await bundle(inferno))["entry"]:
        if entry["resource"]["resourceType"] == type_:
            found[f"{type_}/{entry['resource']['id']}"] = entry["resource"]
    assert found
    return found


def named(resource: Resource) -> set[str]:
    """The endpoints that a brand references, its portals' among them, as 'Endpoint/id'."""
    places = [resource, *resource.get("extension", [])]
    text = {str(each["reference"]) for place in places for each in place.get("endpoint", [])}
    return {"/".join(reference.split("/")[-2:]) for reference in text}


async def test_inferno_smart_access_brands_retrieve_bundle(inferno: Inferno) -> None:
    url = (await inferno.well_known()).json["user_access_brand_bundle"]
    reply = await inferno.send("GET", url, headers={"Origin": "https://inferno.example"})
    assert (reply.status, reply.json["resourceType"]) == (200, "Bundle")
    assert reply.headers["access-control-allow-origin"] in ("*", "https://inferno.example")


async def test_inferno_smart_access_brands_valid_bundle(inferno: Inferno) -> None:
    found = await bundle(inferno)
    assert (found["type"], found["timestamp"]) == ("collection", BRANDS["updated"])
    urls = [entry["fullUrl"] for entry in found["entry"]]
    assert len(urls) == len(set(urls))
    assert {entry["resource"]["resourceType"] for entry in found["entry"]} == {"Organization", "Endpoint"}


async def test_inferno_smart_access_brands_valid_endpoints(inferno: Inferno) -> None:
    brands = await of_type(inferno, "Organization")
    endpoints = await of_type(inferno, "Endpoint")
    assert set().union(*(named(brand) for brand in brands.values())) == set(endpoints)
    for endpoint in endpoints.values():
        assert endpoint["status"] == "active"
        assert endpoint["connectionType"]["code"] == "hl7-fhir-rest"
        assert endpoint["payloadType"]
        assert endpoint["contact"]


async def test_inferno_smart_access_brands_valid_endpoint_urls(inferno: Inferno) -> None:
    addresses = [endpoint["address"] for endpoint in (await of_type(inferno, "Endpoint")).values()]
    assert addresses == [inferno.site.base]
    for address in addresses:
        reply = await inferno.fhir(f"{address}/metadata")
        assert (reply.status, reply.json["resourceType"]) == (200, "CapabilityStatement")


async def test_inferno_smart_access_brands_valid_brands(inferno: Inferno) -> None:
    brands = await of_type(inferno, "Organization")
    endpoints = await of_type(inferno, "Endpoint")
    primary = (await inferno.well_known()).json["user_access_brand_identifier"]
    assert primary["value"] == "https://hospital.example"
    matching = []
    for name, brand in brands.items():
        assert brand["name"]
        assert brand["active"] is True
        assert [each["value"] for each in brand["telecom"] if each["system"] == "url"]
        assert named(brand) <= set(endpoints)
        above = brand.get("partOf", {}).get("reference", name)
        assert "/".join(above.split("/")[-2:]) in brands
        if any(each["value"] == primary["value"] for each in brand.get("identifier", [])):
            matching.append(named(brand))
    assert matching == [set(endpoints)]

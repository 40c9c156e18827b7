"""User-access brands (SMART App Launch 2.2 @387 to @437): the bundle, discovery, and configuration."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fhirclient.models.bundle import Bundle as FhirClientBundle

from gateway.config.document import ConfigErrors, load
from tests.support.authorization_server import World, open_world
from tests.support.gateway import start_gateway, stop_gateway
from tests.unit.test_config import CONFIGURATION, Write, write

__all__ = ["write"]  # the fixture

SMART = "/.well-known/smart-configuration"
PATH = "/brands.json"
BRANDS = """\
brands:
  updated: 2027-01-31T09:00:00Z
  developer_url: https://developers.hospital.example
  list:
    - id: hospital
      name: Example Hospital
      primary: true
      aliases: [The Old Infirmary]
      website: https://www.hospital.example
      identifiers:
        - value: https://hospital.example
        - {system: "http://hl7.org/fhir/sid/us-npi", value: "1144221847"}
      categories: [prov]
      logo: https://hospital.example/logo.svg
      logo_license: https://hospital.example/licence
      addresses:
        - {line: [1 Main Street], city: Boston, state: MA, postal_code: "02111", country: US}
        - {postal_code: "02139", country: US}
      portals:
        - name: Example Portal
          description: For our **patients**.
          url: https://portal.hospital.example
          logo: data:image/svg+xml;base64,PHN2Zy8+
          logo_license: https://hospital.example/licence
    - id: eye-clinic
      name: Eye Clinic
      updated: 2027-02-01T09:00:00+01:00
      website: asked-declined
      identifiers: [{value: https://eyes.example}]
      part_of: hospital
      endpoints: [fhir]
      portals:
        - {name: asked-unknown, url: asked-unknown}
"""


def published(write: Write, text: str = BRANDS) -> Any:
    """What the configuration publishes."""
    return load(write(CONFIGURATION + text), {}).authorization.brands


def problem(write: Write, old: str, new: str) -> str:
    """The one problem of the section with a text replaced."""
    assert BRANDS.count(old) >= 1, old
    with pytest.raises(ConfigErrors) as caught:
        load(write(CONFIGURATION + BRANDS.replace(old, new, 1)), {})
    (found,) = caught.value.problems
    return str(found)


@pytest.fixture
def bundle(write: Write) -> Any:
    """The bundle, as it goes over the wire."""
    return json.loads(json.dumps(published(write).bundle))


@pytest.fixture
async def world(tmp_path: Path, write: Write) -> AsyncIterator[World]:
    async with open_world(tmp_path, brands=published(write)) as opened:
        yield opened


def resources(bundle: Any, kind: str) -> dict[str, Any]:
    """The resources of a type, by id."""
    return {
        entry["resource"]["id"]: entry["resource"]
        for entry in bundle["entry"]
        if entry["resource"]["resourceType"] == kind
    }


def extension(element: Any, name: str) -> list[Any]:
    """The extensions of an element whose URL ends so."""
    return [each for each in element.get("extension", []) if each["url"].rpartition("/")[2] == name]


# What is published


def test_the_bundle_is_FHIR_R4_for_a_library_that_is_strict(bundle: Any) -> None:
    read = FhirClientBundle(bundle, strict=True)
    assert [(e.resource.resource_type, e.resource.id) for e in read.entry] == [
        ("Organization", "hospital"),
        ("Organization", "eye-clinic"),
        ("Endpoint", "fhir"),
    ]
    assert read.as_json()["timestamp"] == bundle["timestamp"]


def test_SMART_398_418_the_bundle_is_a_collection_with_the_instant_of_its_last_change(bundle: Any) -> None:
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "collection")
    assert bundle["timestamp"] == "2027-01-31T09:00:00Z"
    assert bundle["meta"]["lastUpdated"] == bundle["timestamp"]


def test_SMART_399_419_each_brand_may_have_an_instant_of_its_own(bundle: Any) -> None:
    brands = resources(bundle, "Organization")
    assert brands["hospital"]["meta"]["lastUpdated"] == "2027-01-31T09:00:00Z"
    assert brands["eye-clinic"]["meta"]["lastUpdated"] == "2027-02-01T09:00:00+01:00"


def test_SMART_396_417_the_primary_brand_references_every_FHIR_base_and_nothing_that_is_not_there(
    bundle: Any,
) -> None:
    (base,) = resources(bundle, "Endpoint").values()
    assert base["address"] == "https://fhir.example/fhir/r4"
    assert base["status"] == "active"
    assert base["connectionType"]["code"] == "hl7-fhir-rest"
    assert base["payloadType"][0]["coding"][0]["code"] == "none"
    assert base["contact"] == [{"system": "url", "value": "https://developers.hospital.example"}]
    assert extension(base, "endpoint-fhir-version")[0]["valueCode"] == "4.0.1"
    primary = resources(bundle, "Organization")["hospital"]
    assert primary["endpoint"] == [{"reference": f"Endpoint/{base['id']}"}]
    urls = {entry["fullUrl"] for entry in bundle["entry"]}
    text = json.dumps(bundle)
    for part in text.split('"reference": "')[1:]:
        assert f"https://fhir.example/{part.partition(chr(34))[0]}" in urls
    assert len(urls) == len(bundle["entry"])


def test_SMART_402_403_436_every_element_that_must_be_supported_is_the_hospitals_to_say(bundle: Any) -> None:
    brand = resources(bundle, "Organization")["hospital"]
    assert brand["name"] == "Example Hospital"
    assert brand["alias"] == ["The Old Infirmary"]
    assert brand["telecom"] == [{"system": "url", "value": "https://www.hospital.example"}]
    assert brand["identifier"] == [
        {"system": "urn:ietf:rfc:3986", "value": "https://hospital.example"},
        {"system": "http://hl7.org/fhir/sid/us-npi", "value": "1144221847"},
    ]
    assert brand["type"][0]["coding"][0]["code"] == "prov"
    assert brand["address"][0] == {
        "line": ["1 Main Street"], "city": "Boston", "state": "MA", "postalCode": "02111", "country": "US",
    }  # fmt: skip
    assert brand["address"][1] == {"postalCode": "02139", "country": "US"}
    (logos,) = extension(brand, "organization-brand")
    assert {each["url"]: each["valueUrl"] for each in logos["extension"]} == {
        "brandLogo": "https://hospital.example/logo.svg",
        "brandLogoLicense": "https://hospital.example/licence",
    }
    (portal,) = extension(brand, "organization-portal")
    said = {each["url"]: each for each in portal["extension"]}
    assert said["portalName"]["valueString"] == "Example Portal"
    assert said["portalDescription"]["valueMarkdown"] == "For our **patients**."
    assert said["portalUrl"]["valueUrl"] == "https://portal.hospital.example"
    assert said["portalLogo"]["valueUrl"].startswith("data:image/")
    assert said["portalEndpoint"]["valueReference"] == {"reference": "Endpoint/fhir"}


def test_SMART_397_brands_stand_in_a_hierarchy(bundle: Any) -> None:
    clinic = resources(bundle, "Organization")["eye-clinic"]
    assert clinic["partOf"] == {"reference": "Organization/hospital"}
    assert clinic["endpoint"] == [{"reference": "Endpoint/fhir"}]


def test_SMART_404_405_437_what_a_brand_did_not_say_has_one_of_two_reasons(write: Write, bundle: Any) -> None:
    clinic = resources(bundle, "Organization")["eye-clinic"]
    (website,) = clinic["telecom"]
    assert "value" not in website
    assert website["_value"]["extension"] == [
        {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "asked-declined"}
    ]
    (portal,) = extension(clinic, "organization-portal")
    said = {each["url"]: each for each in portal["extension"]}
    assert said["portalUrl"]["_valueUrl"]["extension"][0]["valueCode"] == "asked-unknown"
    assert said["portalName"]["_valueString"]["extension"][0]["valueCode"] == "asked-unknown"
    assert "is no https URL, or one of asked-declined, asked-unknown" in problem(
        write, "website: asked-declined", "website: unknown"
    )


# How it is found and read


async def test_SMART_387_406_discovery_links_to_the_bundle_at_every_FHIR_base(world: World) -> None:
    for path in (SMART, f"/fhir/r4{SMART}"):
        found = (await world.get(path)).json
        assert found["user_access_brand_bundle"] == "https://fhir.example/brands.json"
    reply = await world.get(PATH)
    assert reply.status == 200
    assert reply.header("content-type") == "application/fhir+json"
    assert json.loads(reply.text)["resourceType"] == "Bundle"


async def test_SMART_388_410_432_the_identifier_in_discovery_is_of_exactly_one_brand(
    world: World, write: Write
) -> None:
    identifier = (await world.get(SMART)).json["user_access_brand_identifier"]
    assert identifier == {"system": "urn:ietf:rfc:3986", "value": "https://hospital.example"}
    brands = resources(json.loads((await world.get(PATH)).text), "Organization").values()
    assert [brand["id"] for brand in brands if identifier in brand["identifier"]] == ["hospital"]
    assert "it must name one alone" in problem(write, "https://eyes.example", "https://hospital.example")
    without = "      identifiers:\n        - value: https://hospital.example\n"
    without += '        - {system: "http://hl7.org/fhir/sid/us-npi", value: "1144221847"}\n'
    assert "has no identifiers" in problem(write, without, "")


async def test_SMART_401_424_a_weak_entity_tag_spares_fetching_it_again(world: World) -> None:
    first = await world.get(PATH)
    tag = first.header("etag") or ""
    assert tag.startswith('W/"')
    assert first.header("cache-control") == "max-age=3600"
    for known in (tag, tag.removeprefix("W/"), f'"x", {tag}'):
        again = await world.get(PATH, headers=[("if-none-match", known)])
        assert (again.status, again.text) == (304, "")
        assert again.header("etag") == tag
    assert (await world.get(PATH, headers=[("if-none-match", 'W/"x"')])).status == 200


async def test_SMART_400_423_every_page_may_read_the_bundle_and_ask_with_an_entity_tag(
    tmp_path: Path, write: Write
) -> None:
    running = await start_gateway(tmp_path, brands=published(write))
    origin = ("Origin", "https://app.example")
    try:
        reply = await running.send("GET", PATH, [origin])
        assert reply.status == 200
        assert reply.header("Access-Control-Allow-Origin") == "*"
        asked = [origin, ("Access-Control-Request-Method", "GET")]
        preflight = await running.send(
            "OPTIONS", PATH, [*asked, ("Access-Control-Request-Headers", "if-none-match")]
        )
        assert preflight.header("Access-Control-Allow-Origin") == "*"
        assert "if-none-match" in (preflight.header("Access-Control-Allow-Headers") or "").split(", ")
    finally:
        await stop_gateway(running)


async def test_without_the_section_nothing_is_published(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        assert not [name for name in (await world.get(SMART)).json if name.startswith("user_access")]
        assert not world.server.serves(PATH)


async def test_SMART_408_a_bundle_that_somebody_else_publishes_is_linked(
    tmp_path: Path, write: Write
) -> None:
    text = "brands:\n  url: https://vendor.example/brands.json\n  identifier: {value: https://hospital.example}\n"
    async with open_world(tmp_path, brands=published(write, text)) as world:
        found = (await world.get(SMART)).json
        assert found["user_access_brand_bundle"] == "https://vendor.example/brands.json"
        assert found["user_access_brand_identifier"]["value"] == "https://hospital.example"
        assert not world.server.serves(PATH)


# How it is configured


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("2027-01-31T09:00:00Z", "2027-01-31", "is no instant, expected for example 2027-01-31T09:00:00Z"),
        ("primary: true", "primary: false", "brands.list has 0 primary brands, expected one"),
        ("part_of: hospital", "part_of: hopsital", "there is no other brand 'hopsital'"),
        ("part_of: hospital", "part_of: eye-clinic", "there is no other brand 'eye-clinic'"),
        ("endpoints: [fhir]", "endpoints: [fihr]", "Did you mean 'fhir'?"),
        ("id: eye-clinic", "id: eye clinic", "must have 1 to 64 of A-Z a-z 0-9 - ."),
        ("value: https://eyes.example", "value: eyes.example", "is no https URL, as identifiers of urn:ietf:rfc:3986 are"),
        ("categories: [prov]", "categories: [hospital]", "categories names 'hospital', expected prov or"),
        ("logo: https://hospital.example/logo.svg", "logo: javascript:alert(1)", "is no https URL"),
        ("{postal_code: \"02139\", country: US}", "{country: US}", "must name a place"),
        ("  developer_url: https://developers.hospital.example\n", "", "developer_url is missing"),
        ("      primary: true\n", "      primary: true\n      endpoints: []\n", "references every FHIR upstream"),
        ("id: eye-clinic", "id: hospital", "the brand 'hospital' is there twice"),
        ("website: https://www", "web_site: https://www", "has no key 'web_site'"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_section_is_told(write: Write, old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        load(write(CONFIGURATION + BRANDS.replace(old, new, 1)), {})
    assert any(said in str(found) for found in caught.value.problems), caught.value.problems

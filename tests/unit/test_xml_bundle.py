"""A Bundle goes from JSON to XML as it passes: order, first entries before the last, nothing held but one entry."""

import json
import re
import tracemalloc
from typing import Any

import pytest

from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.resource import parse_json
from gateway.fhir.xml_bundle import BundleXml, with_suffix
from gateway.fhir.xml_reading import parse_resource_xml

LINK = [
    {"relation": "self", "url": "https://x/Patient"},
    {"relation": "next", "url": "https://x/Patient?_page=t"},
]


def entry(number: int) -> dict[str, Any]:
    return {
        "fullUrl": f"https://x/Patient/{number}",
        "resource": {"resourceType": "Patient", "id": str(number)},
    }


def bundle(**members: Any) -> bytes:
    return json.dumps({"resourceType": "Bundle", "type": "searchset", **members}).encode()


def fed(content: bytes, size: int, **options: Any) -> bytes:
    writer = BundleXml(**options)
    parts = [writer.feed(content[start : start + size]) for start in range(0, len(content), size)]
    return b"".join([*parts, writer.finish()])


@pytest.mark.parametrize("size", [1, 2, 7, 100, 100_000])
@pytest.mark.parametrize(
    "members",
    [
        {"link": LINK, "total": 3, "entry": [entry(1), entry(2), entry(3)]},
        {"entry": [entry(1), entry(2)], "total": 2, "link": LINK},
        {"entry": [], "link": LINK} | {"id": "b", "timestamp": "2026-01-01T00:00:00Z"},
        {"link": LINK},
        {"entry": [entry(1)]},
        {"link": LINK, "signature": {"who": {"reference": "Device/x"}}, "entry": [entry(1)]},
    ],
    ids=["links first", "links last", "no entries", "no entry member", "no links", "signature first"],
)
def test_the_bundle_is_the_same_in_whatever_order_and_pieces_it_came(
    members: dict[str, Any], size: int
) -> None:
    content = bundle(**members)
    expected = parse_json(content)
    if expected.get("entry") == []:
        del expected["entry"]  # XML has no empty array, and FHIR R4 2.6.2 has none in JSON
    assert parse_resource_xml(fed(content, size)) == expected


@pytest.mark.parametrize("size", [3, 10_000])
def test_every_decimal_keeps_its_text_in_whatever_form_the_store_writes(size: int) -> None:
    texts = [
        "1.5",
        "0.1",
        "1e-7",
        "1E-7",
        "6.30",
        "123456789.125",
        "-0.0",
        "1e22",
        "12345678901234567890.5",
        "7",
    ]
    entries = ",".join(
        f'{{"fullUrl":"u:{number}","resource":{{"resourceType":"Observation","valueQuantity":{{"value":{text}}}}}}}'
        for number, text in enumerate(texts)
    )
    link = json.dumps(LINK, separators=(",", ":"))
    content = f'{{"resourceType":"Bundle","type":"searchset","link":{link},"entry":[{entries}]}}'.encode()
    xml = fed(content, size)
    assert re.findall(rb'<value value="([^"]+)"/>', xml) == [text.encode() for text in texts]
    assert parse_resource_xml(xml) == parse_json(content)


def test_the_first_entry_is_out_before_the_second_is_in() -> None:
    content = bundle(link=LINK, entry=[entry(1), entry(2)])
    writer = BundleXml()
    cut = content.index(b'{"fullUrl": "https://x/Patient/2"')
    out = writer.feed(content[:cut])
    assert b"Patient/1" in out
    assert b"</entry>" in out
    assert b"Patient/2" not in out


def test_of_a_long_bundle_one_entry_is_held() -> None:
    one = json.dumps({"resource": {"resourceType": "Patient", "name": [{"family": "x" * 5000}]}}).encode()
    writer, made = BundleXml(), 0
    writer.feed(bundle(link=LINK)[:-1] + b',"entry":[')
    tracemalloc.start()
    try:
        for number in range(1000):
            made += len(writer.feed((b"," if number else b"") + one))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    made += len(writer.feed(b"]}") + writer.finish())
    assert made > 5_000_000
    assert peak < 200_000


def test_links_behind_many_entries_are_refused_while_nothing_is_out() -> None:
    content = bundle(entry=[entry(number) for number in range(100)], link=LINK)
    with pytest.raises(FhirError, match="links behind the entries") as refused:
        fed(content, 1000, max_held_bytes=2000)
    assert refused.value.reason is Reason.NOT_ACCEPTABLE
    writer = BundleXml(max_held_bytes=2000)
    assert writer.feed(content[:1500]) == b""


def test_a_total_that_comes_too_late_is_left_out_and_nothing_else() -> None:
    value = parse_resource_xml(fed(bundle(link=LINK, entry=[entry(1)], total=1), 10))
    assert "total" not in value
    with pytest.raises(FhirError) as refused:
        fed(bundle(link=LINK, entry=[entry(1)], identifier={"value": "x"}), 10)
    assert refused.value.reason is Reason.UPSTREAM_INVALID


def test_members_that_r4_does_not_know_are_refused() -> None:
    with pytest.raises(FhirError) as refused:
        fed(bundle(link=LINK, issues=[1], entry=[entry(1)]), 100)
    assert refused.value.reason is Reason.NOT_ACCEPTABLE
    with pytest.raises(FhirError):
        fed(bundle(link=LINK, entry=[entry(1)], issues=[1]), 100)


def test_a_page_is_asked_for_in_the_same_way() -> None:
    assert with_suffix(LINK, "&_format=xml") == [
        LINK[0],
        {"relation": "next", "url": "https://x/Patient?_page=t&_format=xml"},
    ]
    assert with_suffix(LINK, "") is LINK
    value = parse_resource_xml(fed(bundle(link=LINK, entry=[entry(1)]), 10, page_suffix="&_format=xml"))
    assert value["link"][1]["url"].endswith("?_page=t&_format=xml")

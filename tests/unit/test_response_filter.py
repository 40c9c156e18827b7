"""What a Bundle may say of itself on its way out: totals only when proven, links of the store under either name."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Verdict
from gateway.proxy.answers.response_filter import BundleFilter
from gateway.proxy.answers.tally import Tally

STORE = "http://store:8080/fhir"
PUBLIC = "https://gateway.example/fhir/r4"
ADDED = ("subject=Patient/A",)
PROOF = {"relation": "self", "url": f"{STORE}/Observation?_count=5&subject=Patient%2FA"}
SILENT = {"relation": "self", "url": f"{STORE}/Observation/_search"}
ENTRY = {"resource": {"resourceType": "Observation", "id": "a1"}, "search": {"mode": "match"}}


async def filtered(
    members: dict[str, Any], *, added: tuple[str, ...] = ADDED, exact: bool = True
) -> dict[str, Any]:
    async def chunks() -> AsyncIterator[bytes]:
        for byte in json.dumps({"resourceType": "Bundle", "type": "searchset", **members}).encode():
            yield bytes([byte])

    passing = BundleFilter(
        judges={"Observation": lambda resource: Verdict(True, (), None)},
        upstream=STORE,
        public=PUBLIC,
        kind="searchset",
        added=added,
        exact=exact,
        self_url=f"{PUBLIC}/Observation",
        seal=lambda target: f"sealed:{target}",
        tally=Tally(),
    )
    out: dict[str, Any] = json.loads(b"".join([piece async for piece in passing.run(chunks())]))
    return out


async def test_a_total_passes_once_the_self_link_shows_our_criteria_in_either_order() -> None:
    before = await filtered({"total": 7, "link": [PROOF], "entry": [ENTRY]})
    after = await filtered({"link": [PROOF], "entry": [ENTRY], "total": 7})
    assert before["total"] == after["total"] == 7
    assert len(before["entry"]) == len(after["entry"]) == 1


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"total": 69, "entry": [ENTRY]}, id="no link, total first"),
        pytest.param({"entry": [ENTRY], "total": 69}, id="no link, total last"),
        pytest.param({"total": 69, "link": [], "entry": [ENTRY]}, id="no self link"),
        pytest.param({"total": 69, "link": [SILENT], "entry": [ENTRY]}, id="silent self link"),
    ],
)
async def test_a_total_that_may_count_everybody_stays_behind(members: dict[str, Any]) -> None:
    out = await filtered(members)
    assert "total" not in out
    assert len(out["entry"]) == 1


async def test_a_total_passes_where_nothing_had_to_be_added() -> None:
    assert (await filtered({"total": 7, "entry": [ENTRY]}, added=()))["total"] == 7
    assert "total" not in await filtered({"total": 7, "link": [PROOF]}, exact=False)


@pytest.mark.parametrize(
    "url",
    [
        f"{STORE}/Observation",
        f"{STORE}/Observation?subject=Patient/B",
        f"{STORE}/Observation/_search?status=final",
        "http://[",
    ],
)
async def test_a_self_link_without_our_criteria_is_a_refusal(url: str) -> None:
    with pytest.raises(FhirError) as refused:
        await filtered({"total": 69, "link": [{"relation": "self", "url": url}], "entry": [ENTRY]})
    assert refused.value.reason is Reason.NARROWING_IGNORED


@pytest.mark.parametrize("base", [STORE, PUBLIC])
async def test_a_page_link_is_sealed_under_the_stores_own_and_under_the_public_address(base: str) -> None:
    pages = [
        {"relation": "next", "url": f"{base}?_getpages=1"},
        {"relation": "previous", "url": "https://elsewhere.example/fhir?_getpages=1"},
    ]
    out = await filtered({"link": [PROOF, *pages], "entry": [ENTRY]})
    assert out["link"] == [
        {"relation": "self", "url": f"{PUBLIC}/Observation"},
        {"relation": "next", "url": "sealed:?_getpages=1"},
    ]


async def test_what_was_judged_of_a_chunk_that_cannot_be_read_counts_as_nothing_shown() -> None:
    """The chunk does not go out, so the record must not say that its entries did."""
    tally = Tally()
    entry = json.dumps(ENTRY, separators=(",", ":"))
    begin = '{"resourceType":"Bundle","type":"searchset","entry":[' + f"{entry},{entry},"

    async def chunks() -> AsyncIterator[bytes]:
        yield begin.encode()
        yield f'{entry},{entry},{entry},{{"resource":}}'.encode()

    passing = BundleFilter(
        judges={"Observation": lambda resource: Verdict(True, (), None)}, upstream=STORE, public=PUBLIC,
        kind="searchset", added=(), exact=True, self_url="x", seal=lambda target: None, tally=tally,
    )  # fmt: skip
    with pytest.raises(FhirError):
        _ = [piece async for piece in passing.run(chunks())]
    assert tally.shown == 2

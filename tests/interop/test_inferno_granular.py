"""Granular scopes as Inferno's US Core kit means them: what was found with whole types, cut to the scopes, no less.

lib/us_core_test_kit/granular_scope_*.rb: every search is made with resource-level scopes first, then by GET and by
POST with granular ones; an answer is refused whole, or holds exactly the earlier results that the scopes cover.
"""

import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from gateway.demo.client import Reply
from gateway.demo.world import OTHER_PATIENT, PATIENT
from tests.support.inferno import ENCOUNTER, SYMMETRIC, Inferno, Launch, inferno_at

pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("inferno-granular"),
    pytest.mark.asyncio(loop_scope="module"),
]
_HL7 = "http://terminology.hl7.org/CodeSystem"
_US_CORE = "http://hl7.org/fhir/us/core/CodeSystem"
CATEGORIES = {
    "encounter-diagnosis": ("Condition", f"{_HL7}/condition-category"),
    "problem-list-item": ("Condition", f"{_HL7}/condition-category"),
    "health-concern": ("Condition", f"{_US_CORE}/condition-category"),
    "laboratory": ("Observation", f"{_HL7}/observation-category"),
    "social-history": ("Observation", f"{_HL7}/observation-category"),
    "vital-signs": ("Observation", f"{_HL7}/observation-category"),
    "survey": ("Observation", f"{_HL7}/observation-category"),
    "sdoh": ("Observation", f"{_US_CORE}/us-core-category"),
}
FIRST = ("encounter-diagnosis", "health-concern", "laboratory", "social-history")
SECOND = ("problem-list-item", "vital-signs", "survey", "sdoh")
TYPES = ("Condition", "Observation")
Resource = dict[str, Any]


def scope_of(code: str) -> str:
    type_, system = CATEGORIES[code]
    return f"patient/{type_}.rs?category={system}|{code}"


def _made(id: str, patient: str, codes: Iterable[str]) -> Resource:
    codes = list(codes)
    type_ = CATEGORIES[codes[0]][0]
    resource: Resource = {
        "resourceType": type_,
        "id": id,
        "subject": {"reference": f"Patient/{patient}"},
        "category": [{"coding": [{"system": CATEGORIES[code][1], "code": code}]} for code in codes],
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "160903007"}]},
        "encounter": {"reference": f"Encounter/{ENCOUNTER}"},
    }
    if type_ == "Observation":
        return resource | {"status": "final", "effectiveDateTime": "2020-02-03T04:05:06Z"}
    clinical = {"system": f"{_HL7}/condition-clinical", "code": "active"}
    times = {"onsetDateTime": "2020-02-03", "recordedDate": "2020-02-03", "abatementDateTime": "2021-02-03"}
    return resource | times | {"clinicalStatus": {"coding": [clinical]}}


def more() -> list[Resource]:
    """Of each category one for both patients; and such as have two, of which one scope covers one."""
    found = [
        _made(f"{code}-{n}", who, [code])
        for code in CATEGORIES
        for n, who in enumerate((PATIENT, OTHER_PATIENT))
    ]
    found.append(_made("two-conditions", PATIENT, ["encounter-diagnosis", "problem-list-item"]))
    found.append(_made("two-observations", PATIENT, ["social-history", "sdoh"]))
    return found


@dataclass
class Found:
    """The outcome of one search: its status, and what all its pages held."""

    status: int
    resources: list[Resource]

    @property
    def ids(self) -> list[str]:
        return sorted(resource["id"] for resource in self.resources)


@dataclass
class Tokens:
    """A token for whole types, and one for each group of categories."""

    whole: str
    granular: dict[tuple[str, ...], str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inferno(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Inferno]:
    async with inferno_at(tmp_path_factory.mktemp("inferno"), resources=more()) as tester:
        yield tester


async def granted(inferno: Inferno, scopes: Iterable[str]) -> tuple[str, str]:
    """Token and granted scope of a launch for these."""
    launch = Launch(SYMMETRIC, " ".join(["launch/patient", "patient/Patient.rs", *scopes]))
    answer = await launch.arrive(inferno, "stephen")
    told = (await launch.redeem(inferno, answer["code"])).json
    return told["access_token"], told["scope"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tokens(inferno: Inferno) -> Tokens:
    whole, _ = await granted(inferno, (f"patient/{type_}.rs" for type_ in TYPES))
    groups = {group: (await granted(inferno, map(scope_of, group)))[0] for group in (FIRST, SECOND)}
    return Tokens(whole, groups)


async def asked(inferno: Inferno, type_: str, query: dict[str, str], token: str, method: str) -> Reply:
    if method == "GET":
        return await inferno.fhir(f"/{type_}?{urlencode(query)}", token)
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/fhir+json"}
    return await inferno.send("POST", f"{inferno.site.base}/{type_}/_search", headers=headers, form=query)


async def searched(
    inferno: Inferno, type_: str, query: dict[str, str], token: str, method: str = "GET"
) -> Found:
    """All pages; the address of the next is fetched letter by letter, and must not redirect."""
    reply = await asked(inferno, type_, query | {"_count": "5"}, token, method)
    if reply.status != 200:
        assert reply.json["resourceType"] == "OperationOutcome"
        return Found(reply.status, [])
    found: list[Resource] = []
    for _ in range(40):
        assert reply.status == 200, reply.body
        bundle = reply.json
        found += [
            entry["resource"]
            for entry in bundle.get("entry", [])
            if entry["resource"]["resourceType"] == type_
        ]
        url = next((link["url"] for link in bundle.get("link", []) if link["relation"] == "next"), None)
        if url is None:
            return Found(200, found)
        reply = await inferno.fhir(url, token)
    raise AssertionError("the pages do not end")


def covered(resource: Resource, group: Iterable[str]) -> bool:
    """Whether one of the granular scopes covers it, read as the kit reads them."""
    own = {(c["system"], c["code"]) for each in resource.get("category", []) for c in each["coding"]}
    return any(
        (CATEGORIES[code][1], code) in own
        for code in group
        if CATEGORIES[code][0] == resource["resourceType"]
    )


def queries(type_: str) -> list[dict[str, str]]:
    """The searches of the kit for this type."""
    codes = [(system, code) for code, (each, system) in CATEGORIES.items() if each == type_]
    patient = {"patient": PATIENT}
    found = [
        patient,
        patient | {"_lastUpdated": "ge2000-01-01"},
        patient | {"code": "http://snomed.info/sct|160903007"},
    ]
    found += [patient | {"category": f"{system}|{code}"} for system, code in codes]
    found += [patient | {"category": code} for _, code in codes]
    if type_ == "Observation":
        found.append(patient | {"code": "http://loinc.org|8302-2", "date": "ge2010-01-01"})
        found += [patient | {"category": f"{s}|{c}", "date": "ge2010-01-01"} for s, c in codes]
        return found + [patient | {"category": f"{s}|{c}", "status": "final"} for s, c in codes]
    found += [patient | {"clinical-status": f"{_HL7}/condition-clinical|active"}]
    found += [patient | {name: "ge1990-01-01"} for name in ("onset-date", "recorded-date", "abatement-date")]
    found += [patient | {"category": f"{s}|{c}", "encounter": f"Encounter/{ENCOUNTER}"} for s, c in codes]
    return found + [patient | {"category": f"{s}|{c}", "clinical-status": "active"} for s, c in codes]


CASES = [
    pytest.param(type_, query, id=f"{type_}-{urlencode(query).split('&', 1)[-1]}")
    for type_ in TYPES
    for query in queries(type_)
]


@pytest.mark.parametrize("group", [FIRST, SECOND], ids=["first", "second"])
async def test_inferno_us_core_granted_granular_scopes(inferno: Inferno, group: tuple[str, ...]) -> None:
    """Also g10_us_core_smart_fine_grained_scopes: the very strings that were asked, and no whole type beside them."""
    _, scope = await granted(inferno, map(scope_of, group))
    texts = set(scope.split(" "))
    assert {scope_of(code) for code in group} <= texts
    whole = re.compile(r"patient/(Condition|Observation|\*)\.[a-z*]+")
    assert not [text for text in texts if whole.fullmatch(text)]


@pytest.mark.parametrize("group", [FIRST, SECOND], ids=["first", "second"])
@pytest.mark.parametrize(("type_", "query"), CASES)
async def test_inferno_us_core_granular_scope_search_tests(
    inferno: Inferno, tokens: Tokens, type_: str, query: dict[str, str], group: tuple[str, ...]
) -> None:
    before = await searched(inferno, type_, query, tokens.whole)
    assert before.status == 200
    expected = sorted(resource["id"] for resource in before.resources if covered(resource, group))
    in_scope = any(query.get("category") == f"{CATEGORIES[code][1]}|{code}" for code in group)
    for method in ("GET", "POST"):
        after = await searched(inferno, type_, query, tokens.granular[group], method)
        assert all(covered(resource, group) for resource in after.resources)
        if in_scope or after.ids:
            assert after.ids == expected
        else:
            assert after.status in (200, 403)


async def test_the_searches_of_the_kit_find_something_to_cut(inferno: Inferno, tokens: Tokens) -> None:
    """What the tests above rest on: there is something of every category, something without, and several pages."""
    for type_ in TYPES:
        found = await searched(inferno, type_, {"patient": PATIENT}, tokens.whole)
        assert len(found.resources) > 5
        for group in (FIRST, SECOND):
            cut = [resource for resource in found.resources if covered(resource, group)]
            assert 0 < len(cut) < len(found.resources)


@pytest.mark.parametrize("group", [FIRST, SECOND], ids=["first", "second"])
async def test_inferno_us_core_granular_scope_read_tests(
    inferno: Inferno, tokens: Tokens, group: tuple[str, ...]
) -> None:
    for type_ in TYPES:
        for resource in (await searched(inferno, type_, {"patient": PATIENT}, tokens.whole)).resources:
            read = await inferno.fhir(f"/{type_}/{resource['id']}", tokens.granular[group])
            if covered(resource, group):
                assert (read.status, read.json["resourceType"]) == (200, type_)
            else:
                assert read.status in (403, 404)
                assert read.json["resourceType"] == "OperationOutcome"


async def test_inferno_us_core_smart_well_known_capabilities(inferno: Inferno) -> None:
    found = (await inferno.well_known()).json
    assert any("/" in scope for scope in found["scopes_supported"])
    assert found["introspection_endpoint"]


async def test_a_granular_scope_reaches_no_other_patient(inferno: Inferno, tokens: Tokens) -> None:
    for code, (type_, _) in CATEGORIES.items():
        group = FIRST if code in FIRST else SECOND
        assert (await inferno.fhir(f"/{type_}/{code}-0", tokens.granular[group])).status == 200
        assert (await inferno.fhir(f"/{type_}/{code}-1", tokens.granular[group])).status in (403, 404)

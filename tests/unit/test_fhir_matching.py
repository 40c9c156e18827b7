"""gateway.fhir.matching, dates and quantities: criteria judged on a resource mean what a search means."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from gateway.fhir.matching import CriteriaError, compile_criteria
from gateway.fhir.resource import DECODER

LOINC = "http://loinc.org"
OBSERVATION = {
    "resourceType": "Observation",
    "id": "a1",
    "meta": {
        "tag": [{"system": "urn:tags", "code": "t"}],
        "security": [{"system": "urn:labels", "code": "R"}],
        "profile": ["http://example.org/profile|1"],
        "lastUpdated": "2024-05-31T10:00:00.123Z",
    },
    "status": "final",
    "category": [
        {"coding": [{"system": "urn:cat", "code": "laboratory"}]},
        {"coding": [{"code": "no-system"}], "text": "text"},
    ],
    "code": {"coding": [{"system": LOINC, "code": "4548-4"}, {"system": "urn:x", "code": "a|b,c"}]},
    "subject": {"reference": "Patient/A/_history/3"},
    "performer": [{"reference": "https://store/fhir/Practitioner/dr1"}, {"display": "x"}],
    "effectiveDateTime": "2024-05-31",
    "valueString": "Zoë Müller",
    "identifier": [{"system": "urn:mrn", "value": "7"}],
}


def _matches(query: str, resource: dict[str, Any] = OBSERVATION) -> bool:
    bases = frozenset({"https://store/fhir"})
    sent = quote(query, safe="=&:|\\,/%+")
    return compile_criteria(resource["resourceType"], sent, bases=bases).matches(resource)


@pytest.mark.parametrize(
    "query",
    [
        "category=laboratory",
        "category=urn:cat|laboratory",
        "category=urn:cat|",
        "category=|no-system",
        "category=x,laboratory",
        "category=laboratory&status=final",
        "category:not=x",
        "category:missing=false",
        "method:missing=true",
        r"code=urn:x|a\|b\,c",
        "status=final",
        "identifier=urn:mrn|7",
        "_id=a1",
        "_tag=urn:tags|t",
        "_security=R",
        "_profile=http://example.org/profile|1",
        "_lastUpdated=ge2024-05",
        "_lastUpdated=2024-05-31",
        "subject=Patient/A",
        "subject=A",
        "subject:Patient=A",
        "patient=A",
        "performer=Practitioner/dr1",
        "performer=https://store/fhir/Practitioner/dr1",
        "date=2024-05",
        "date=2024-05-31",
        "date=ge2024-05-31",
        "date=lt2024-06",
        "date=ne2023",
        "date=sa2024-05-30",
        "date=eb2024-06-01",
        "value-string=zoe mu",
        "value-string:contains=MULLER",
        "value-string:exact=Zoë Müller",
    ],
)
def test_a_criterion_that_the_resource_meets(query: str) -> None:
    assert _matches(query)


@pytest.mark.parametrize(
    "query",
    [
        "category=Laboratory",
        "category=urn:other|laboratory",
        "category=|laboratory",
        "category=urn:other|",
        "category=laboratory&status=amended",
        "category:not=laboratory",
        "category:missing=true",
        "category=text",
        "code=urn:x|a",
        "_id=A1",
        "_tag=urn:tags|other",
        "_profile=http://example.org/profile",
        "subject=Patient/B",
        "subject=Group/A",
        "subject=a",
        "performer=https://elsewhere/fhir/Practitioner/dr1",
        "date=2024-05-30",
        "date=2024-05-31T10:00",
        "date=gt2024-05-31",
        "date=gt2024-05",
        "date=ne2024",
        "date=sa2024-05-31",
        "value-string=Müller",
        "value-string:exact=zoë müller",
        "value-string=x,y",
    ],
)
def test_a_criterion_that_the_resource_does_not_meet(query: str) -> None:
    assert not _matches(query)


def test_criteria_are_of_one_type() -> None:
    assert not compile_criteria("Observation", "_id=a1").matches(OBSERVATION | {"resourceType": "Condition"})


@pytest.mark.parametrize(
    ("period", "query", "expected"),
    [
        ({"start": "2024-01-01", "end": "2024-03-31"}, "date=2024", True),
        ({"start": "2024-01-01"}, "date=2024", False),
        ({"start": "2024-01-01"}, "date=gt2030", True),
        ({"end": "2024-01-01"}, "date=lt1900", True),
        ({"start": "2024-01-01"}, "date=sa2023", True),
        ({}, "date=gt1900", False),
        ({"start": "nonsense"}, "date=gt1900", False),
        ({"start": 5}, "date=gt2100", False),
    ],
)
def test_a_period_is_everything_between_its_ends(period: dict[str, Any], query: str, expected: bool) -> None:
    resource = {"resourceType": "Observation", "effectivePeriod": period}
    assert _matches(query, resource) is expected


def test_a_timing_covers_its_events_and_bounds() -> None:
    timing = {
        "event": ["2024-02-01", "2024-04-01"],
        "repeat": {"boundsPeriod": {"start": "2024-01-01", "end": "2024-02"}},
    }
    resource = {"resourceType": "Observation", "effectiveTiming": timing}
    assert _matches("date=2024", resource)
    assert not _matches("date=2024-02", resource)
    assert not _matches("date=gt1900", resource | {"effectiveTiming": {"code": {"text": "daily"}}})


@pytest.mark.parametrize(
    ("instant", "query", "expected"),
    [
        ("2024-05-31T23:30:00-02:00", "date=2024-06-01", True),
        ("2024-05-31T23:30:00-02:00", "date=2024-05-31", False),
        ("2024-05-31T10:00:00Z", "date=2024-05-31T10:00:00Z", True),
        ("2024-05-31T10:00:00Z", "date=eq2024-05-31T12:00:00%2B02:00", True),
        ("2024-05-31T10:00:00.5Z", "date=gt2024-05-31T10:00:00.25Z", True),
        ("2016-12-31T23:59:60Z", "date=ge2016-12-31", True),
        ("9999-12-31", "date=9999", True),
        ("2023-02-29", "date=ge1900", False),
        ("2024-02-29", "date=2024-02", True),
        ("2024-05-31T25:00:00Z", "date=ge1900", False),
    ],
)
def test_times_are_compared_as_moments(instant: str, query: str, expected: bool) -> None:
    resource = {"resourceType": "Observation", "effectiveDateTime": instant}
    assert _matches(query, resource) is expected


@pytest.mark.parametrize(
    ("value", "query", "expected"),
    [
        ('{"value": 100}', "quantity=100", True),
        ('{"value": 99.5}', "quantity=100", True),
        ('{"value": 100.5}', "quantity=100", False),
        ('{"value": 100.4}', "quantity=100.0", False),
        ('{"value": 100}', "quantity=1e2", True),
        ('{"value": 5.0, "unit": "mg"}', "quantity=5||mg", True),
        ('{"value": 5.0, "system": "urn:u", "code": "mg"}', "quantity=5|urn:u|mg", True),
        ('{"value": 5.0, "system": "urn:v", "code": "mg"}', "quantity=5|urn:u|mg", False),
        ('{"value": 5.1}', "quantity=gt5.1", False),
        ('{"value": 5.10001}', "quantity=gt5.1", True),
        ('{"value": 5.1}', "quantity=ge5.1", True),
        ('{"value": 5.1}', "quantity=le5.1", True),
        ('{"value": 5.1}', "quantity=lt5.2", True),
        ('{"value": 5.1}', "quantity=ne5.1", False),
        ('{"value": 5.1}', "quantity=sa5", True),
        ('{"value": 5.1}', "quantity=eb6", True),
        ('{"value": 5, "comparator": "<"}', "quantity=lt1", True),
        ('{"value": 5, "comparator": ">"}', "quantity=gt100", True),
        ('{"value": 5, "comparator": "<"}', "quantity=5", False),
        ('{"value": 5, "comparator": "odd"}', "quantity=gt1", False),
        ('{"value": "5"}', "quantity=5", False),
        ('{"value": true}', "quantity=1", False),
        ('{"value": 0.1000000000000000000000000000000000000001}', "quantity=gt0.1", True),
        ("{}", "quantity=5", False),
    ],
)
def test_quantities_are_compared_exactly(value: str, query: str, expected: bool) -> None:
    charge = DECODER.decode(f'{{"resourceType": "ChargeItem", "quantity": {value}}}')
    assert _matches(query, charge) is expected


def test_numbers_are_compared_exactly() -> None:
    risk = DECODER.decode('{"resourceType": "RiskAssessment", "prediction": [{"probabilityDecimal": 0.80}]}')
    with pytest.raises(CriteriaError, match="Range"):
        _matches("probability=0.8", risk)
    encounter = {"resourceType": "MolecularSequence", "variant": [{"start": 5}]}
    assert _matches("variant-start=5", encounter)
    assert not _matches("variant-start=gt5", encounter)


@pytest.mark.parametrize(
    ("type", "query", "why"),
    [
        ("Observation", "categroy=x", "Did you mean 'category'"),
        ("Observation", "", "no criteria"),
        ("Observation", "category", "empty value"),
        ("Observation", "subject.name=x", "chain"),
        ("Observation", "_has:Observation:subject:code=x", "no search parameter '_has'"),
        ("Observation", "_text=x", "cannot be judged"),
        ("Observation", "_count=1", "no search parameter"),
        ("Observation", "code:in=http://x", "closed"),
        ("Observation", "code:text=x", "closed"),
        ("Observation", "subject:identifier=a|b", "logical"),
        ("Observation", "subject=Nothing/1", "must be"),
        ("Observation", "subject=Patient/A/_history/1", "must be"),
        ("Observation", "status=http://x|final", "plain text"),
        ("Observation", "code=|", "neither"),
        ("Observation", "date=ap2024", "ap"),
        ("ChargeItem", "quantity=ap5", "ap"),
        ("Observation", "code-value-quantity=x$5", "composite"),
        ("Observation", "value-quantity=5", "SampledData"),
        ("Patient", "deceased=true", "cannot be judged"),
        ("Location", "near=1|2", "special"),
        ("Nothing", "_id=a", "not a FHIR R4 resource type"),
        ("Observation", "code=%zz", "query"),
        ("Observation", r"code=a\x", "backslash"),
    ],
)
def test_what_cannot_be_judged_exactly_is_refused_at_once(type: str, query: str, why: str) -> None:
    with pytest.raises(CriteriaError, match=why):
        compile_criteria(type, query)


@pytest.mark.parametrize(
    "damage",
    [
        {"category": "laboratory"},
        {"category": {"coding": "laboratory"}},
        {"category": [{"coding": [{"code": ["laboratory"]}]}]},
        {"category": [{"coding": [{"code": {"a": 1}, "system": []}]}]},
        {"category": [{"coding": ["laboratory", None, 5]}]},
        {"category": 5},
        {"category": None},
    ],
)
def test_a_malformed_resource_is_judged_without_an_accident(damage: dict[str, Any]) -> None:
    wanted = damage == {"category": "laboratory"}
    assert _matches("category=laboratory", OBSERVATION | damage) is wanted
    assert not _matches("category=urn:cat|laboratory", OBSERVATION | damage)
    assert _matches("category:not=other", json.loads(json.dumps(OBSERVATION | damage)))


def test_names_and_addresses_match_by_any_part() -> None:
    patient = {
        "resourceType": "Patient",
        "name": [{"family": "Van Gogh", "given": ["Vincent", "Willem"]}],
        "address": [{"city": "Zürich", "line": ["Weg 1"]}],
        "active": True,
        "telecom": [{"system": "phone", "value": "123"}, {"system": "email", "value": "a@b"}],
    }
    for query in (
        "name=van g",
        "name=will",
        "address=zurich",
        "family=VAN",
        "active=true",
        "phone=123",
        "address=weg",
    ):
        assert _matches(query, patient), query
    for query in ("name=gogh", "family=vincent", "active=false", "phone=a@b", "email=123"):
        assert not _matches(query, patient), query


def test_the_terms_of_criteria_are_those_of_a_search() -> None:
    terms = compile_criteria("Observation", "category=laboratory&status=final,amended").terms
    assert [(term.code, term.values) for term in terms] == [
        ("category", ("laboratory",)),
        ("status", ("final", "amended")),
    ]

"""Attack groups A, B and the names of group D against the reading of requests alone, without a server.

What is refused is refused with the status and reason of the case; what is a request stays the one that was meant: its
only form towards the store is compared as text.
"""

import pytest

from gateway.fhir.outcome import FhirError
from gateway.fhir.request import parse
from gateway.fhir.request_target import upstream_target
from tests.attacks.table import section_a, section_b
from tests.attacks.table.rows import Row

_READ = (
    "ambiguous-path",
    "unknown-route",
    "unknown-type",
    "method-not-allowed",
    "unknown-parameter",
    "invalid-parameter",
)
CASES = [
    row
    for row in (*section_a.ROWS, *section_b.ROWS)
    if row.reason in _READ and not row.ask.body and not row.ask.place.startswith("/fhir")
]


def _parse(method: str, target: str) -> str:
    path, _, query = target.partition("?")
    return upstream_target(parse(method, path, query))


@pytest.mark.parametrize("row", CASES, ids=lambda row: row.id)
def test_a_shape_with_two_readings_is_refused(row: Row) -> None:
    with pytest.raises(FhirError) as refusal:
        _parse(row.ask.method, row.ask.place)
    assert refusal.value.status in row.status
    assert row.reason == str(refusal.value.reason)


OBSERVATION = "/Observation?"
GROUP_D = {
    "D58": (r"subject=Patient/A\,Patient/B", "Observation?subject=Patient%2FA%5C%2CPatient%2FB"),
    "D56": ("subject=Patient/A,Patient/B", "Observation?subject=Patient%2FA%2CPatient%2FB"),
    "D60a": ("subject=A", "Observation?subject=A"),
    "D60b": ("subject:Patient=A", "Observation?subject:Patient=A"),
    "D60c": ("subject._id=A", "Observation?subject._id=A"),
    "D60d": ("subject:identifier=mrn|B", "Observation?subject:identifier=mrn%7CB"),
    "D61a": ("subject:not=Patient/A", "400 unknown-parameter"),
    "D61b": ("subject:missing=true", "Observation?subject:missing=true"),
    "D62": ("subject:mdm=Patient/A", "400 unknown-parameter"),
    # Read whole; refused where no policy opens them, which is for the attack table to show.
    "D64": (
        "subject=Patient/A&_filter=(subject%20eq%20Patient/B)",
        "Observation?subject=Patient%2FA&_filter=subject%20eq%20Patient%2FB",
    ),
    "D64a": ("_filter=subject.name%20co%20x", "403 unsupported-parameter"),
    "D64b": ("_filter=subject", "400 invalid-parameter"),
    "D65": ("_query=everything-for&patient=B", "403 unsupported-parameter"),
    "D66": ("_list=mix", "Observation?_list=mix"),
    "D66a": ("_list=$current-problems", "403 unsupported-parameter"),
    "D68a": ("_text=HIV", "Observation?_text=HIV"),
    "D68b": ("_content=HIV", "Observation?_content=HIV"),
    "D70a": ("_security=R", "403 unsupported-parameter"),
    "D70b": ("_security:not=R", "403 unsupported-parameter"),
    "D72a": ("code:in=http://evil/ValueSet/x", "403 unsupported-parameter"),
    "D72b": ("code:below=x", "403 unsupported-parameter"),
    "D72c": ("code:text=x", "403 unsupported-parameter"),
    "D72d": ("code:contains=x", "400 unknown-parameter"),
    "D73": (
        "patient=Patient/A%26subject=Patient/B",
        "Observation?patient=Patient%2FA%26subject%3DPatient%2FB",
    ),
    "D73e": ("code=x&", "Observation?code=x"),
    "D73f": ("&code=x&&status=final&", "Observation?code=x&status=final"),
    "D73g": ("&", "Observation"),
    "D73h": ("code=x&=y", "400 ambiguous-query"),
    "D73i": ("date=ge2024-05-31T10:00:00+02:00", "Observation?date=ge2024-05-31T10%3A00%3A00%2B02%3A00"),
    "D73j": (
        "date=2024-05-31T10:00+02:00,2024-06-01T10:00:00.5+02:00",
        "Observation?date=2024-05-31T10%3A00%2B02%3A00%2C2024-06-01T10%3A00%3A00.5%2B02%3A00",
    ),
    "D73k": (
        "encounter.date=ge2024-05-31T10:00:00+02:00",
        "Observation?encounter.date=ge2024-05-31T10%3A00%3A00%2B02%3A00",
    ),
    "D73l": ("date=ge2024-05-31T10:00:00++02:00", "400 invalid-parameter"),
    "D73m": ("date=ge2024-05-31+02:00", "400 invalid-parameter"),
    "D73n": ("value-string=10:00+02:00", "Observation?value-string=10%3A00%2002%3A00"),
    "D74a": ("patient=A;subject=B", "400 ambiguous-query"),
    "D74b": ("patient=A%00", "400 ambiguous-query"),
    "D74c": ("patient[]=A", "400 ambiguous-query"),
    "D74d": ("patient%5B%5D=A", "400 unknown-parameter"),
    "D74e": ("patient+=A", "400 unknown-parameter"),
    "D74f": ("patient=%zz", "400 ambiguous-query"),
    "D74g": ("patient=%c0%af", "400 ambiguous-query"),
    "D74h": ("=A", "400 ambiguous-query"),
    "D74i": ("Category=x", "400 unknown-parameter"),
    "D74j": ("patient%3Amissing=true", "Observation?patient:missing=true"),
    "D74k": ("patient=&category=x", "400 invalid-parameter"),
    "D74l": ("patient", "400 invalid-parameter"),
    "D76": ("unknown-param=1", "400 unknown-parameter"),
    "D81": (
        "patient=A&_include=Observation:performer",
        "Observation?patient=A&_include=Observation%3Aperformer",
    ),
    "D82a": ("_include=*", "403 unsupported-parameter"),
    "D82b": ("_revinclude=*", "403 unsupported-parameter"),
    "D82c": ("_include:iterate=Observation:*", "403 unsupported-parameter"),
    "D85": ("_has:Observation:performer:patient=B", "400 unknown-parameter"),
    "D89": ("subject:Patient.identifier=x", "Observation?subject:Patient.identifier=x"),
    "D90": ("patient=A&focus:Patient.name=B", "Observation?patient=A&focus:Patient.name=B"),
    "D97a": ("_graph=x", "403 unsupported-parameter"),
    "D97c": ("_include=Observation:nonexistent", "400 unknown-parameter"),
    "D97d": ("_include=Encounter:subject", "400 invalid-parameter"),
    "D97e": ("_include:recurse=Observation:performer", "400 unknown-parameter"),
    "D97f": ("subject:Practitioner.name=x", "400 unknown-parameter"),
    "D97g": ("code.name=x", "400 unknown-parameter"),
    "D97h": ("encounter.part-of.part-of.part-of.status=x", "403 unsupported-parameter"),
    "D97k": ("focus.subject.subject.nonsense=x", "400 ambiguous-query"),
    "D97l": ("subject.subject.subject.subject.name=x", "400 unknown-parameter"),
    "D97i": ("subject:Patient._security=R", "403 unsupported-parameter"),
    "D97j": ("&".join(["_include=Observation:performer"] * 11), "400 invalid-parameter"),
    "D97b": ("_contains=x", "400 unknown-parameter"),
    "D98": ("_summary=count", "Observation?_summary=count"),
    "D102a": ("_count=0", "Observation?_summary=count"),
    "D102g": ("_count=000", "Observation?_summary=count"),
    "D102h": ("_count=0&_count=5", "400 ambiguous-query"),
    "D102i": ("_count=0&_summary=true", "400 ambiguous-query"),
    "D102b": ("_count=-1", "400 invalid-parameter"),
    "D102c": ("_count=999999", "Observation?_count=200"),
    "D102d": ("_count=abc", "400 invalid-parameter"),
    "D102e": ("_count=1&_count=2", "400 ambiguous-query"),
    "D104": ("_summary=text", "Observation"),
    "D105": ("_elements=Patient.name", "Observation"),
    "D106": ("_elements:exclude=subject", "400 unknown-parameter"),
    "D112": ("_total=estimate", "Observation?_total=estimate"),
    "D66x": ("_sort=subject.name", "403 unsupported-parameter"),
    "D68c": ("_contained=true", "403 unsupported-parameter"),
    "D93": ("includesCt=x", "400 unknown-parameter"),
    "D61c": ("_getpages=x", "400 unknown-parameter"),
    "P265a": ("_format=html/json", "406 not-acceptable"),
    "P265b": ("_format=json&_format=xml", "400 ambiguous-query"),
    "P265c": ("_format=json&_format=json", "400 ambiguous-query"),
    "P265d": ("_format=application/fhir%2Bjson&category=x", "Observation?category=x"),
}


@pytest.mark.parametrize(("query", "expected"), GROUP_D.values(), ids=GROUP_D)
def test_a_query_is_read_whole_or_refused(query: str, expected: str) -> None:
    try:
        found = _parse("GET", OBSERVATION + query)
    except FhirError as refusal:
        found = f"{refusal.status} {refusal.reason}"
    assert found == expected


@pytest.mark.parametrize(
    "query",
    [
        "_elements:exclude=subject",
        "_summary=count",
        "_total=accurate",
        "_include=Patient:link",
        "_narrative=suppress",
        "_method=DELETE",
        "__debug=policy",
        "subject=Patient/A",
        "x",
    ],
)
def test_D126_a_read_takes_a_fixed_list_of_parameters(query: str) -> None:
    with pytest.raises(FhirError) as refusal:
        _parse("GET", "/Patient/A?" + query)
    assert refusal.value.status in (400, 403)
    assert _parse("GET", "/Patient/A?_format=json&_pretty=true&_elements=name") == "Patient/A"

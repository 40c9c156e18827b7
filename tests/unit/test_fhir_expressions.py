"""Statements: three-valued, resolved at load, and never true by what is missing."""

from typing import Any

import pytest

from gateway.fhir.expressions import StatementError, Subject, compile_statement, mentions_before
from gateway.fhir.resource import Number

OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "meta": {"source": "urn:h1:lis"},
    "status": "final",
    "subject": {"reference": "Patient/A"},
    "issued": "2024-05-31",
    "valueQuantity": {"value": Number("181.50"), "unit": "cm"},
    "identifier": [{"value": "1"}, {"value": "2"}],
    "code": {"coding": [{"system": "http://loinc.org", "code": "x"}], "text": "it's"},
}
CLAIMS = {"user": "Practitioner/dr1", "roles": ["physician"]}
BEFORE = {**OBSERVATION, "status": "preliminary"}


def truth(
    text: str, type_: str = "Observation", *, before: Any = BEFORE, resource: Any = None
) -> bool | None:
    statement = compile_statement(text, type_, claims=CLAIMS)
    return statement(Subject(resource or OBSERVATION, before, CLAIMS))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("meta.source = 'urn:h1:lis'", True),
        ("meta.source = 'urn:h1:other'", False),
        ("Observation.status = 'final'", True),
        ("%after.status = 'final'", True),
        ("%before.status = 'final'", False),
        ("%before.subject.reference = subject.reference", True),
        ("status != %before.status", True),
        ("note.exists()", False),
        ("note.empty()", True),
        ("value.exists() and status = 'final'", True),
        ("note.exists() or status = 'final'", True),
        ("not(status = 'final')", False),
        ("(status = 'x' or status = 'final') and not(note.exists())", True),
        ("value.ofType(Quantity).value >= 181.5", True),
        ("value.ofType(Quantity).value < 181", False),
        ("value.ofType(Quantity).value = 181.5", True),
        ("issued >= '2024-01-01'", True),
        ("code.text = 'it\\'s'", True),
        ("%token.user = 'Practitioner/dr1'", True),
        ("%token.roles = 'physician'", True),
        ("'a' = 'a'", True),
    ],
)
def test_a_statement_is_as_true_as_it_reads(text: str, expected: bool) -> None:
    assert truth(text) is expected


@pytest.mark.parametrize(
    "text",
    [
        "note.text = 'x'",
        "note.text != 'x'",
        "status = note.text",
        "not(note.text = 'x')",
        "note.text = 'x' and status = 'final'",
        "note.text = 'x' or status = 'x'",
        "issued >= '2024'",
        "identifier.value > '1'",
        "status",
        "status < 3",
    ],
)
def test_what_cannot_be_said_is_neither_true_nor_false(text: str) -> None:
    assert truth(text) is None


def test_several_values_equal_nothing() -> None:
    assert truth("identifier.value = '1'") is False
    assert truth("identifier.value != '1'") is True


def test_false_beats_empty_and_true_beats_empty() -> None:
    assert truth("note.text = 'x' and status = 'x'") is False
    assert truth("note.text = 'x' or status = 'final'") is True


def test_a_statement_about_another_type_says_nothing_against_this_one() -> None:
    assert truth("MedicationRequest.requester.reference = %token.user") is True
    request = {"resourceType": "MedicationRequest", "requester": {"reference": "Practitioner/dr2"}}
    assert (
        truth("MedicationRequest.requester.reference = %token.user", "MedicationRequest", resource=request)
        is False
    )


def test_without_a_version_before_nothing_is_known_of_it() -> None:
    assert truth("%before.status = 'final'", before=None) is None
    assert mentions_before("%before.status = 'final'")
    assert not mentions_before("status = 'final'")


def test_a_claim_that_the_token_does_not_have_is_empty() -> None:
    statement = compile_statement("%token.org = 'h1'", "Observation", claims=("org",))
    assert statement(Subject(OBSERVATION, None, {})) is None


@pytest.mark.parametrize(
    "text",
    [
        "stat = 'final'",
        "status = 'final",
        "status = ",
        "= 'final'",
        "status == 'final'",
        "status = 'a' 'b'",
        "(status = 'a'",
        "%token.nobody = 'x'",
        "%nothing.status = 'x'",
        "%before = 'x'",
        "'a'",
        "3",
        "",
        "status.matches('x') = true",
        "status = 'a' xor status = 'b'",
        "Observation.colour = 'x'",
        "Patient.colour = 'x'",
        "(" * 30 + "status = 'a'" + ")" * 30,
        "status = '" + "x" * 1001 + "'",
    ],
)
def test_what_is_not_of_this_part_of_FHIRPath_is_refused_at_load(text: str) -> None:
    with pytest.raises(StatementError):
        compile_statement(text, "Observation", claims=CLAIMS)

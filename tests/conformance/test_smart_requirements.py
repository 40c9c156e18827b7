"""The ledger of SMART App Launch 2.2: each of its 265 requirements of a server, and what becomes of it here.

The numbers are those of the requirements that HL7 publishes (hl7.fhir.uv.smart-app-launch_2.2.0@N). A row is met by a
test that it names, does not apply for a reason that it gives, or is open.
"""

from pathlib import Path

import pytest

from tests.support.ledger import names_of_tests

_FILE = Path(__file__).with_name("smart_requirements.tsv")
_LEVELS = {"SHALL": 167, "SHALL NOT": 5, "SHOULD": 45, "SHOULD NOT": 3, "MAY": 43, "DEPRECATED": 2}
_OPEN_AT_MOST = 0
"""How many rows are open. It only falls: whoever closes one lowers it."""

ROWS = [line.split("\t") for line in _FILE.read_text(encoding="utf-8").splitlines()]


def test_every_requirement_is_there_once():
    assert ROWS[0] == ["id", "level", "in short", "status", "evidence"]
    ids = [int(row[0]) for row in ROWS[1:]]
    assert len(ids) == 265
    assert ids == sorted(set(ids))
    assert (ids[0], ids[-1]) == (14, 439)
    found = {level: sum(row[1] == level for row in ROWS[1:]) for level in _LEVELS}
    assert found == _LEVELS


@pytest.mark.parametrize("row", ROWS[1:], ids=lambda row: row[0])
def test_a_row_says_what_becomes_of_it(row: list[str]):
    assert len(row) == 5
    _, _, words, status, evidence = row
    assert words
    assert evidence
    assert status in ("met", "not applicable", "open")
    assert (status == "met") == evidence.startswith("test_")


def test_the_tests_that_are_named_exist():
    assert {row[4] for row in ROWS[1:] if row[3] == "met"} <= set(names_of_tests())


def test_the_number_of_open_rows_only_falls():
    still = [row[0] for row in ROWS[1:] if row[3] == "open"]
    print(f"open: {len(still)} of 265: {' '.join(still)}")
    assert len(still) == _OPEN_AT_MOST, f"open now: {len(still)}; lower _OPEN_AT_MOST when it fell"

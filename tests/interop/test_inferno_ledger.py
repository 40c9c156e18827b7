"""The ledger of Inferno's kits: each check of a server about authorization, and what becomes of it here.

Inferno itself needs Ruby and some twenty gems; its tests are requests and claims about the answers, made again here by
test_inferno_*.py. A row is met by the tests that it names, or does not apply for a reason that it gives.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ledger import names_of_tests

HERE = Path(__file__).parent
ROWS = [line.split("\t") for line in (HERE / "inferno_checks.tsv").read_text(encoding="utf-8").splitlines()]


def _checks_made_again() -> Iterator[tuple[str, str]]:
    """Name, and name with docstring, of each test that stands for a check."""
    for file in sorted(HERE.glob("test_inferno_*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_inferno_"):
                yield node.name, f"{node.name} {ast.get_docstring(node) or ''}"


SAID = dict(_checks_made_again())


def test_every_check_is_there_once():
    assert ROWS[0] == ["kit", "id", "status", "evidence"]
    checks = [row[1] for row in ROWS[1:]]
    assert len(checks) == len(set(checks)) == 99
    assert {row[0] for row in ROWS[1:]} == {"smart", "certification", "us core", "bulk data"}


@pytest.mark.parametrize("row", ROWS[1:], ids=lambda row: row[1])
def test_a_check_says_what_becomes_of_it(row: list[str]):
    _, check, status, evidence = row
    assert status in ("met", "not applicable")
    assert (status == "met") == evidence.startswith("test_")
    if status != "met":
        return
    for name in evidence.split(" "):
        assert name not in SAID or check in SAID[name]


def test_the_tests_that_are_named_exist():
    named = {name for row in ROWS[1:] if row[2] == "met" for name in row[3].split(" ")}
    assert named <= set(names_of_tests())


def test_every_test_of_a_check_stands_in_the_ledger():
    named = {name for row in ROWS[1:] for name in row[3].split(" ")}
    assert set(SAID) <= named

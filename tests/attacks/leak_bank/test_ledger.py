"""The ledger of the leak bank: each of its questions is asked, by one request, in a Bundle or by a test elsewhere."""

import ast
import re
from pathlib import Path

import pytest

from tests.attacks.leak_bank import BUNDLES, ROWS
from tests.attacks.leak_bank.elsewhere import ELSEWHERE

ROOT = Path(__file__).parents[3]
QUESTIONS = {
    int(line[:3]): line[4:] for line in (Path(__file__).parent / "questions.txt").read_text().splitlines()
}
_ID = re.compile(r"LK-([0-9]{3})[a-z]?-[A-Za-z0-9_-]+")


def number(id_: str) -> int:
    match = _ID.fullmatch(id_)
    assert match is not None, id_
    return int(match[1])


def test_the_bank_has_90_questions() -> None:
    assert len(QUESTIONS) == 90
    assert list(QUESTIONS) == sorted(QUESTIONS)


def test_questions_are_named_by_their_number_and_no_name_is_used_twice() -> None:
    names = [row.id for row in (*ROWS, *BUNDLES)]
    assert len(names) == len(set(names)), sorted({name for name in names if names.count(name) > 1})


def test_every_question_is_asked() -> None:
    asked = {number(row.id) for row in (*ROWS, *BUNDLES)} | ELSEWHERE.keys()
    assert QUESTIONS.keys() - asked == set()
    assert asked - QUESTIONS.keys() == set()


def test_every_question_says_what_is_shown_or_what_the_store_is_asked() -> None:
    for row in (*ROWS, *BUNDLES):
        assert row.sent is not None or row.shows is not None or row.status[0] >= 400 or row.holds, row.id


@pytest.mark.parametrize("question", ELSEWHERE)
def test_a_test_that_is_named_exists(question: int) -> None:
    for place in ELSEWHERE[question]:
        file, _, name = place.partition("::")
        functions = ast.FunctionDef | ast.AsyncFunctionDef
        tree = ast.parse((ROOT / file).read_bytes())
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, functions)}, place

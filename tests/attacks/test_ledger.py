"""Every case of the attack list is shown somewhere: by a row of the table or by another test; none is forgotten.

The list numbers its cases with gaps. Its numbers and our own short titles stand in table/numbers.txt.
"""

import ast
import re
from pathlib import Path

import pytest

from tests.attacks.table import ROWS
from tests.attacks.table.elsewhere import ELSEWHERE

ROOT = Path(__file__).parents[2]
NUMBERS = {
    int(number): (section, title)
    for section, number, title in (
        line.split(" ") for line in (Path(__file__).parent / "table" / "numbers.txt").read_text().splitlines()
    )
}
_ID = re.compile(r"([A-V])-([0-9]{3})[a-z]?-[A-Za-z0-9_-]+")


def _number(id_: str) -> int:
    match = _ID.fullmatch(id_)
    assert match is not None, id_
    assert NUMBERS[int(match[2])][0] == match[1], id_
    return int(match[2])


def test_the_list_has_261_numbers_in_22_sections() -> None:
    assert len(NUMBERS) == 261
    assert list(NUMBERS) == sorted(NUMBERS)
    assert "".join(dict.fromkeys(section for section, _ in NUMBERS.values())) == "ABCDEFGHIJKLMNOPQRSTUV"


def test_rows_are_named_by_their_case_and_no_name_is_used_twice() -> None:
    names = [row.id for row in ROWS]
    assert len(names) == len(set(names)), sorted({name for name in names if names.count(name) > 1})
    for name in names:
        _number(name)


def test_every_number_is_shown_by_a_row_or_by_a_test() -> None:
    shown = {_number(row.id) for row in ROWS} | ELSEWHERE.keys()
    assert NUMBERS.keys() - shown == set()
    assert shown - NUMBERS.keys() == set()


@pytest.mark.parametrize("number", ELSEWHERE)
def test_a_test_that_is_named_exists(number: int) -> None:
    for place in ELSEWHERE[number]:
        file, _, name = place.partition("::")
        tree = ast.parse((ROOT / file).read_bytes())
        functions = ast.FunctionDef | ast.AsyncFunctionDef
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, functions)}, place

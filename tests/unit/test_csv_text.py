"""Tables as CSV: lines and quotes of RFC 4180, and no formula."""

import pytest

from authz.csv_text import csv_text


def test_rfc4180_lines_and_quotes() -> None:
    assert csv_text(("a", "b"), [("1", 'x,"y"')]) == 'a,b\r\n1,"x,""y"""\r\n'


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_cell_is_a_formula(begins: str) -> None:
    assert csv_text(("a",), [(f"{begins}x",)]).replace('"', "") == f"a\r\n'{begins}x\r\n"


def test_what_is_no_formula_stays() -> None:
    assert csv_text(("a",), [("x=1",)]) == "a\r\nx=1\r\n"

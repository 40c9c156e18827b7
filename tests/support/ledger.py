"""The names of all tests, for ledgers that say what is shown where."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]


def names_of_tests(*, without: frozenset[str] = frozenset()) -> Iterator[str]:
    """The name of every test function, read without importing the files; not of those in the folders or files without."""
    for file in sorted(TESTS.rglob("test_*.py")):
        if not without.isdisjoint((file.parent.name, file.stem)):
            continue
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield node.name

"""What became of each module of the OpenID Foundation's suite: a row a module, a column a plan."""

from pathlib import Path

FILE = Path(__file__).parents[1] / "interop" / "openid_suite.tsv"
ABSENT = "-"
"""In the cell of a module that a plan does not have."""


def results() -> dict[str, dict[str, str]]:
    """The results by plan, then by module."""
    first, *rows = [line.split("\t") for line in FILE.read_text(encoding="utf-8").splitlines()]
    return {
        plan: {row[0]: row[number] for row in rows if row[number] != ABSENT}
        for number, plan in enumerate(first[1:], 1)
    }


def summary(of: dict[str, dict[str, str]], module: str, plans: list[str]) -> str:
    """What became of a module in these plans, in words: `passed (8)`."""
    found = [of[plan][module] for plan in plans if module in of[plan]]
    return ", ".join(f"{result.lower()} ({found.count(result)})" for result in sorted(set(found)))

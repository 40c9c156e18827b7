"""securus audit signals | review: what they print, what they write down, and their exit codes."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from authz.storage.sqlite.store import open_store
from tests.support.audit_index_contract import SIGNAL
from tests.unit.test_cli import folder, run  # noqa: F401 - fixtures

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def opened(folder: Path) -> None:  # noqa: F811
    """A store with two signals."""
    ends = int(time.time()) + 86400

    async def write() -> None:
        store = await open_store(folder / "securus.db")
        two = [
            replace(SIGNAL, expires_at=ends),
            replace(SIGNAL, id="s2", at=SIGNAL.at + 1, count=1, expires_at=ends),
        ]
        await store.put_signals(two, {}, chain="", read_from=0, read_to=8)
        await store.close()

    asyncio.run(write())


def listed(run: Run, *arguments: str) -> Any:  # noqa: F811
    code, out, err = run("audit", "signals", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_the_list_says_which_rule_whose_access_and_why(run: Run, opened: None) -> None:  # noqa: F811
    newest, oldest = listed(run)
    assert [newest["id"], oldest["id"]] == ["s2", "signal"]
    assert oldest["words"] == "anna saw Patient/A, who is on the list of rule vip-list"
    assert oldest["records"] == [{"chain": "", "sequence": 7}, {"chain": "node-2", "sequence": 8}]
    line = run("audit", "signals")[1].splitlines()[1].split("\t")
    assert line[2:5] == ["vip-list", "anna", "2 accesses"]
    assert line[-1] == "not reviewed"


def test_a_review_is_written_down_once_and_is_in_the_audit_log(run: Run, opened: None) -> None:  # noqa: F811
    assert run("audit", "review", "signal", "--why", "on duty", "--by", "olga")[0] == 0
    code, out, err = run("audit", "review", "signal", "--why", "again", "--by", "otto")
    assert code == 1
    assert "no signal 'signal' that is not reviewed yet" in out + err
    assert [each["id"] for each in listed(run, "--open")] == ["s2"]
    assert [each["reviewed_by"] for each in listed(run)] == [None, "olga"]
    records = [json.loads(line) for line in run("audit", "export")[1].splitlines()]
    (review,) = [each for each in records if each["event"] == "signal-review"]
    assert (review["by"], review["review"], review["patient"]) == ("olga", "on duty", "A")
    looks = [each for each in records if each["event"] == "audit-read" and each["what"] == "signals"]
    assert [each["query"]["patients"] for each in looks] == [["A"], ["A"]]

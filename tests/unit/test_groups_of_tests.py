"""Tests of one group run in one process, one after the other: what they start is there once, and in nobody's way."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process
TESTS = """
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("group")


@pytest.mark.parametrize("number", range(8))
def test_it(number, worker_id):
    Path(__file__).with_name(f"{worker_id}.ran").touch()
"""


def test_two_processes_share_no_group(tmp_path: Path) -> None:
    """pytest and pytest-xdist are locked by themselves, and a pair that does not fit says nothing of it."""
    (tmp_path / "test_group.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "--dist",
        "loadgroup",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run([*command, tmp_path], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "8 passed" in done.stdout, done.stdout + done.stderr
    assert len(list(tmp_path.glob("*.ran"))) == 1

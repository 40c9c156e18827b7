"""A machine without a program that tests need: they are skipped and say so, and in CI, where all must run, they fail."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import chromium, engines, postgresql, valkey

TESTS: dict[str, tuple[Callable[[], object], str]] = {
    "postgresql": (postgresql.require_programs, "PostgreSQL is not installed"),
    "valkey": (lambda: valkey.valkey_server().__enter__(), "no redis-server is installed"),
    "medplum": (engines._medplum, "Medplum needs node"),
    "chromium": (
        lambda: chromium.chromium(Path("profile"), Path("server.pem")).__enter__(),
        "Chromium is not installed",
    ),
}


@pytest.mark.parametrize("program", TESTS)
@pytest.mark.parametrize(
    ("ci", "outcome"),
    [("", pytest.skip.Exception), ("true", pytest.fail.Exception), ("1", pytest.fail.Exception)],
)
def test_a_test_without_its_program_is_skipped_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(postgresql, "programs", lambda: None)
    monkeypatch.setattr(chromium, "BROWSER", tmp_path / "chromium")
    run, said = TESTS[program]
    with pytest.raises(outcome, match=said):
        run()

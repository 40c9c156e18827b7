"""What the guides for writers of policies show is what happens."""

import json
import re
import shlex
from pathlib import Path

import pytest

from gateway.cli import main

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs/policy-tutorial.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```yaml\n(.*?)```", TUTORIAL, re.S))
TOOLS = (ROOT / "docs/policy-tools.md").read_text(encoding="utf-8")

RECORD = {
    "event": "access", "seq": 1, "at": "2026-11-28T05:37:57.800Z", "decision": "permit", "peer": "192.0.2.1",
    "request": {"canonical": "GET /Patient/A"},
    "caller": {
        "issuer": "https://gw.example", "subject": "ann", "client": "portal", "token": "t", "scope": "patient/*.rs",
        "binding": "dpop", "key": "x" * 43, "patient": "A", "claims": {"patient": ["A"]},
    },
}  # fmt: skip


def commands(guide: str) -> list[str]:
    """The command lines that a guide shows."""
    return [line for block in re.findall(r"```sh\n(.*?)```", guide, re.S) for line in block.splitlines()]


@pytest.mark.parametrize("command", commands(TOOLS))
def test_the_commands_of_the_tools_guide_work(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policies").symlink_to(ROOT / "policies")
    (tmp_path / "audit.ndjson").write_text(json.dumps(RECORD))
    monkeypatch.chdir(tmp_path)
    program, *arguments = shlex.split(command)
    assert program == "securus"
    assert main(arguments) == 0, capsys.readouterr()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader of the tutorial put its files."""
    (tmp_path / "policies").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_tutorial_shows_every_yaml_as_a_file() -> None:
    assert len(FILES) == TUTORIAL.count("```yaml") == 6


@pytest.mark.parametrize("command", commands(TUTORIAL))
def test_the_commands_of_the_tutorial_work(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *arguments = shlex.split(command)
    assert program == "securus"
    assert main(arguments) == 0, capsys.readouterr()
    if arguments[1] == "explain":
        assert "added: subject=Patient/ann\n" in capsys.readouterr().out


def test_after_its_second_step_the_tutorial_is_right_already(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("01-care-teams", "20-staff", "30-nurses", "40-mental-health"):
        (folder / f"policies/{name}.yaml").unlink()
    assert main(["policy", "test", "--strict", "policies"]) == 0
    assert "1 of 1 rules are shown from both sides\n2 passed, 0 failed\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("who", "outcome"), [("{not: [guest]}", "does not match"), ("[physician]", "does not match")]
)
def test_a_claim_that_is_not_there_opens_nothing_as_the_tutorial_says(
    who: str, outcome: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "policies/20-staff.yaml"
    path.write_text(path.read_text().replace("role: [physician]", f"role: {who}", 1))
    assert (
        main(["policy", "explain", "GET /Condition/1", "--as", "context: user", "--policies", "policies"])
        == 0
    )
    assert f"permit staff/physicians-see-charts: {outcome}" in capsys.readouterr().out

"""What the guides for writers of policies show is what happens."""

import re
import shlex
from pathlib import Path

import pytest

from gateway.cli import main

ROOT = Path(__file__).parents[2]
TOOLS = (ROOT / "docs/policy-tools.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", TOOLS, re.S) for line in block.splitlines() if line
]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_tools_guide_work(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    program, *arguments = shlex.split(command)
    assert program == "securus"
    assert main(arguments) == 0, capsys.readouterr()

"""Every command and every file of README.md, run in its order in a fresh folder."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.processes import three_free_ports

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)```", re.S)

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("readme")]


def script(port: int) -> str:
    """The README as one shell script; the ports moved to free ones, make told to run the flow once."""
    lines = ["set -eu", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for block in _BLOCK.finditer(README):
        text = block["text"]
        for number, place in (("8443", port), ("9090", port + 2)):
            text = text.replace(number, str(place))
        if block["file"] is not None:
            # The commands have moved into site/ by then.
            lines.append(f"cat > {block['file'].removeprefix('site/')} <<'END-OF-FILE'\n{text}END-OF-FILE")
        elif block["kind"] == "sh" and not text.startswith("make "):
            lines.append(text)
    return "\n".join(lines)


def test_its_commands_do_what_it_says(tmp_path: Path) -> None:
    for name in (".venv", "policies"):
        (tmp_path / name).symlink_to(ROOT / name)
    port = three_free_ports()
    done = subprocess.run(
        ["bash", "-c", script(port)], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for said in (
        "configuration, ",
        '"status": "ready"',
        f"https://localhost:{port}/par",
        "passed, 0 failed",
        '{"status": "ok"}',
        "the chain is whole",
        "active",
        "announced ",
        "portal\t",
        '"username": "ada"',
    ):
        assert said in done.stdout, said
    assert '"message": "policies reloaded"' in done.stderr
    assert "not reloaded" not in done.stderr


def test_make_demo_works(tmp_path: Path) -> None:
    options = f"--once --state {tmp_path} --port {three_free_ports()}"
    done = subprocess.run(
        ["make", "-C", str(ROOT), "demo", f"DEMO={options}"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake (\w+)", README))))
def test_every_make_target_it_names_exists(target: str) -> None:
    done = subprocess.run(
        ["make", "-C", str(ROOT), "-n", target], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("named", "is_made_anew"), [("echo Python 3.99.0", True), ("false", True), (sys.executable, False)]
)
def test_the_environment_is_made_anew_where_another_python_is_named(named: str, is_made_anew: bool) -> None:
    """A run of the tests under PYTHON is never one under what was there before."""
    done = subprocess.run(
        ["make", "-C", str(ROOT), "-n", "setup", f"PYTHON={named}", f"VENV={sys.prefix}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert ('test -z "other"' in done.stdout) is is_made_anew


def test_its_links_and_folders_exist() -> None:
    named = re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r"^\| `([\w/]+)/` \|", README, re.M)
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_its_table_names_every_dependency_and_no_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = sorted(re.split(r"[<>=]", text)[0] for text in project["dependencies"])
    table = README.split("## Dependencies")[1].split("## Map")[0]
    assert re.findall(r"^\| ([a-z0-9-]+) \|", table, re.M) == wanted

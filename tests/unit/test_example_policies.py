"""The example policies of a hospital load together, their own tests hold, and the broken one is told every mistake."""

from pathlib import Path

import pytest

from gateway.cli import main

EXAMPLES = Path(__file__).parents[1] / "data" / "example_policies"
FILES = sorted(path.name for path in EXAMPLES.glob("[1-9]*.yaml"))


def test_all_of_them_are_put_in_force_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test", str(EXAMPLES)]) == 0
    assert capsys.readouterr().out.endswith("18 passed, 0 failed\n")


@pytest.mark.parametrize("name", ["01-guardrails.yaml", *FILES])
def test_the_tests_of_each_hold_with_the_others_in_force(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "test", str(EXAMPLES / name)]) == 0, capsys.readouterr().out
    count = (EXAMPLES / name).read_text().count("  - test: ")
    assert count > 0
    assert capsys.readouterr().out.endswith(f"{count} passed, 0 failed\n")


def test_every_mistake_is_told_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test", str(EXAMPLES / "broken")]) == 1
    told = [line.partition("broken.yaml:")[2] for line in capsys.readouterr().err.splitlines()]
    for expected in (
        "9:17: error: unknown interaction 'serach'. Did you mean 'search'?",
        "10:17: error: unknown resource type 'Observatoin'. Did you mean 'Observation'?",
        "12:28: error: Observation has no search parameter 'categroy'. Did you mean 'category'?",
        "18:11: error: rule name 'one' is used twice (first in line 7)",
        "21:17: error: no set of types named '$unknown-set'.",
        "22:21: error: Patient has no element 'birthdate'. Did you mean 'birthDate'?",
    ):
        assert expected in told
    assert any(line.startswith("17:26: error: Task is not in the Patient compartment") for line in told)


def test_the_permission_of_all_of_them_names_what_it_cannot_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "export", str(EXAMPLES)]) == 0
    told = capsys.readouterr().err
    for word in ("consent", "break_glass", "hours", "labels", "fhirpath", "binary", "rate", "shadow"):
        used = any(f"{word}:" in path.read_text() for path in EXAMPLES.glob("*.yaml"))
        assert not used or word in told, word

"""Twenty ways to use the command line wrongly, as somebody new to it would: each is told, with what was meant."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from gateway.cli import main

WRONG = {
    "": "the following arguments are required: VERB",
    "help": "'securus --help' says what each does",
    "serv": "Did you mean 'serve'?",
    "Check": "Did you mean 'check'?",
    "keys list": "Did you mean 'key'?",
    "breakglass list": "Did you mean 'break-glass'?",
    "--config gateway.yaml serve": "Its file is named behind the verb: '-c gateway.yaml'",
    "policy": "securus policy: error: the following arguments are required: VERB",
    "policy tset": "there is no 'tset' here: explain, diff, replay, export, test. Did you mean 'test'?",
    "policy help": "'securus policy --help' says what each does",
    "client aprove portal": "Did you mean 'approve'?",
    "client suspend portal": "the following arguments are required: --why",
    "check gateway.yaml": "unrecognized arguments: gateway.yaml. Did you mean '-c gateway.yaml'?",
    "serve gateway.yml": "Did you mean '-c gateway.yml'?",
    "check --confg gateway.yaml": "Did you mean '--config'?",
    "check --jsn": "unrecognized arguments: --jsn. Did you mean '--json'?",
    "serve --port 80": "unrecognized arguments: --port 80.",
    "serve --workers 0": "'0' is not a number from 1 to 64",
    "serve --workers": "expected one argument",
    "audit verify now": "securus audit verify: error: unrecognized arguments: now.",
    "user hash secret": "unrecognized arguments: secret.",
    "demo --port 70000": "argument --port: '70000' is not a port from 1 to 65533",
    "demo --port https": "argument --port: 'https' is not a port from 1 to 65533",
    "db copy --from here": "argument --from: expected sqlite:PATH",
}


@pytest.mark.parametrize("said", WRONG)
def test_wrong_usage_is_exit_code_2_and_told_in_the_words_of_the_verb(
    said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(said.split())
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (2, "")
    assert WRONG[said] in told.err
    usage = re.match(r"usage: (securus(?: [a-z][a-z-]+)*)", told.err)
    assert usage is not None
    assert f"\n{usage[1]}: error: " in told.err  # usage and error are of one verb


def test_the_version_is_told_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"securus {version('securus')}\n"


@pytest.mark.parametrize("verb", ["test", "export"])
def test_policies_that_are_not_there_and_folders_without_any_are_two_things(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["policy", verb, str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err == f"securus: there is no {tmp_path / 'nowhere'}\n"
    assert main(["policy", verb, str(tmp_path / "empty")]) == 1
    assert capsys.readouterr().err == f"securus: {tmp_path / 'empty'} holds no policy files (*.yaml)\n"

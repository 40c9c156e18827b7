"""The policy set of a folder, for the verbs that ask it something."""

import argparse
from pathlib import Path

from gateway.commands.answers import failed, problems
from gateway.policies_folder import policy_files
from gateway.policy import language
from gateway.policy.rules import PolicySet


def none_in(path: Path) -> str:
    """Why no policy files were found there."""
    return f"{path} holds no policy files (*.yaml)" if path.exists() else f"there is no {path}"


def policy_set(options: argparse.Namespace, folder: Path) -> PolicySet | None:
    """The policies of a folder, their tests not run; None where they cannot be read, and it is printed why."""
    files = policy_files(folder)
    if not files:
        failed(options, none_in(folder))
        return None
    try:
        return language.load(files)
    except language.PolicyErrors as error:
        problems(options, error.problems)
        return None

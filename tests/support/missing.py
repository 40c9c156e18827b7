"""What a test needs and the machine has not: the test is skipped and says so, and where all of them must run it fails."""

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip the running test, because of what; in CI fail it."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)

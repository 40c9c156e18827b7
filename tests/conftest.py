"""What all tests share: names that are the same in every worker process, a server for those that ask, and an order:
who fails leaves nothing open."""

import asyncio
import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from authz.storage.settings import StoreSettings
from tests.support import opened
from tests.support.postgresql import PrivateServer, private_server

# No test asserts a time. In CI the same examples are tried each time; elsewhere each run looks further.
hypothesis.settings.register_profile("securus", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("securus")

_FRESH = re.compile(r" object at 0x[0-9a-f]+|[\w+/=%-]{40,}")  # an address, a key, a certificate


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """A dict, list or text is named by what it holds, and bytes by pytest, unless that may differ between processes."""
    if isinstance(val, bytes):
        return argname if _FRESH.search(val.decode("latin-1")) else None
    if not isinstance(val, dict | list | tuple | str):
        return None
    text = val if isinstance(val, str) else repr(val)
    if _FRESH.search(text) or not text.isprintable() or len(text) > 100:
        return argname
    return text


def pytest_collection_finish() -> None:
    """From now on it is noted what is opened: every module that a test needs is there."""
    opened.watch()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, object, object]:
    """A fixture that fails closes what it opened."""
    with opened.closed_if_it_fails():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """So does a test."""
    with opened.closed_if_it_fails():
        return (yield)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PrivateServer]:
    """A PostgreSQL server of these tests' own; where there is none the test is skipped, and fails in CI."""
    with private_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreSettings]:
    """A store of every kind, with nothing in it."""
    if request.param == "sqlite":
        yield StoreSettings(path=str(tmp_path / "securus.db"))
        return
    server: PrivateServer = request.getfixturevalue("postgresql")
    database = asyncio.run(server.new_database())
    yield StoreSettings("postgresql", "", postgresql=server.settings(database, pool=8))
    asyncio.run(server.drop(database))

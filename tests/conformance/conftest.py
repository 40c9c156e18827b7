"""What the tests over variants share: one server with a client of every variant, and the app of this one."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.authorization_server import World
from tests.support.variants import Variant, VariantApp, open_variants


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def matrix(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The server of a module's tests. Its clock goes forward only."""
    async with open_variants(tmp_path_factory.mktemp("matrix")) as world:
        yield world


@pytest.fixture
def app(matrix: World, variant: Variant) -> VariantApp:
    """The software of the variant that the test runs for."""
    return VariantApp(matrix, variant)

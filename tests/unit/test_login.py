"""Sign-in: guessing, forged forms, cookies, sessions and what the pages show of what they are sent."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support.authorization_server import Person, Reply, World, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def sign_in_page(world: World, person: Person, **changes: str) -> Reply:
    """The sign-in form of a new request."""
    pushed = await world.app().push(**changes)
    query = urlencode({"client_id": "portal", "request_uri": pushed.json["request_uri"]})
    page = await person.visit(f"/authorize?{query}")
    assert 'name="password"' in page.text
    return page


async def test_browsers_name_their_origin_with_our_own_forms(world: World) -> None:
    """Under no-referrer they send `Origin: null` instead (Fetch 3.2), which is what a forged form sends too."""
    page = await sign_in_page(world, Person(world))
    assert page.header("referrer-policy") == "same-origin"

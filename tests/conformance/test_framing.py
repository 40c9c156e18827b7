"""Pages in a frame of the record system (SMART App Launch 2.2, EHR launch): by nobody, unless the operator names who may."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support.authorization_server import PASSWORD, Person, Reply, World, open_world

EHR = "https://ehr.hospital.example"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, frame_ancestors=(EHR, "https://portal.hospital.example")) as opened:
        yield opened


def ancestors(page: Reply) -> str:
    """Who may frame a page, by its content policy."""
    policy = page.header("content-security-policy") or ""
    (found,) = [part for part in policy.split("; ") if part.startswith("frame-ancestors ")]
    return found.removeprefix("frame-ancestors ")


async def pages_of(world: World) -> list[Reply]:
    """The pages that somebody sees on the way to the consent, and the one for an error."""
    person = Person(world)
    pushed = await world.app().push()
    asked = {"client_id": "portal", "request_uri": pushed.json["request_uri"]}
    sign_in = await person.visit(f"/authorize?{urlencode(asked)}")
    wrong = await person.submit(sign_in, username=person.account.username, password="wrong")
    consent = await person.submit(sign_in, username=person.account.username, password=PASSWORD)
    return [sign_in, wrong, consent, await person.visit("/authorize")]


async def test_S_A15_the_record_systems_that_are_named_may_frame_the_pages_of_an_authorization(
    world: World,
) -> None:
    for page in await pages_of(world):
        assert ancestors(page) == f"{EHR} https://portal.hospital.example"
        assert page.header("x-frame-options") is None
        assert "default-src 'none'" in (page.header("content-security-policy") or "")
        assert page.header("cache-control") == "no-store"


async def test_S_A15_without_a_name_nobody_may(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        for page in await pages_of(world):
            assert ancestors(page) == "'none'"
            assert page.header("x-frame-options") == "DENY"


async def test_S_A15_pages_beside_an_authorization_stay_out_of_every_frame(world: World) -> None:
    for path in ("/logout", "/account/grants"):
        page = await Person(world).visit(path)
        assert ancestors(page) == "'none'"
        assert page.header("x-frame-options") == "DENY"

"""What a person leaves of the scopes at the consent page (SMART App Launch 2.2 @79, @145, S-A13): never more than asked."""

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from authz.protocol.narrowing import narrowed, parts_of
from authz.protocol.scopes import covered, parse_scope
from gateway.policy.scope_layer import grantable
from tests.support.authorization_server import (
    ANNA,
    PASSWORD,
    Person,
    Reply,
    World,
    answer_of,
    claims_of,
    open_world,
)
from tests.support.smart import SmartApp, smart_world

OBSERVATIONS, CONDITIONS = "patient/Observation.rs", "patient/Condition.rs"
LABORATORY = f"{OBSERVATIONS}?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
VITALS = f"{OBSERVATIONS}?category=http://terminology.hl7.org/CodeSystem/observation-category|vital-signs"
CONCERNS = f"{CONDITIONS}?category=http://hl7.org/fhir/us/core/CodeSystem/condition-category|health-concern"
ASKED = f"launch/patient {OBSERVATIONS} {CONDITIONS} patient/Patient.r offline_access"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield await smart_world(opened)


async def consent_page(world: World, scope: str = ASKED) -> tuple[SmartApp, Person, Reply]:
    app, person = SmartApp(world, "smart-secret"), Person(world)
    page = await app.ask(person, scope=scope)
    return app, person, await person.submit(page, username=ANNA.username, password=PASSWORD)


async def allow(
    world: World, person: Person, page: Reply, scope: list[str], only: list[str] | None = None
) -> Reply:
    """The form of the consent page with these boxes ticked."""
    hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text)
    pairs = [
        *((name, unescape(value)) for name, value in hidden),
        *(("scope", s) for s in scope),
        *(("only", s) for s in only or []),
    ]
    body = urlencode([*pairs, ("action", "allow")]).encode()
    return await world.post("/consent", body, headers=person._headers())


async def granted(world: World, scope: list[str], only: list[str] | None = None) -> dict[str, Any]:
    app, person, page = await consent_page(world)
    reply = await app.redeem(answer_of(await allow(world, person, page, scope, only))["code"])
    assert reply.status == 200, reply.text
    return reply.json


async def test_each_scope_has_a_box_and_parts_are_offered_unticked(world: World):
    _, _, page = await consent_page(world)
    boxes = re.findall(
        r'<input type="checkbox" name="(\w+)" id="([^"]+)" value="([^"]+)"( checked)?', page.text
    )
    whole = [unescape(value) for name, _, value, checked in boxes if name == "scope" and checked]
    assert whole == ASKED.split()
    parts = [unescape(value) for name, _, value, checked in boxes if name == "only" and not checked]
    assert len(parts) == 8
    assert len(boxes) == 13
    assert {LABORATORY, VITALS, CONCERNS} <= set(parts)
    assert "Only laboratory results" in page.text


async def test_g10_of_whole_types_only_chosen_categories_are_granted(world: World):
    answer = await granted(world, ["launch/patient", "patient/Patient.r"], [LABORATORY, CONCERNS])
    assert answer["scope"] == f"launch/patient {LABORATORY} {CONCERNS} patient/Patient.r"
    assert claims_of(answer["access_token"])["scope"] == answer["scope"]
    assert answer["patient"] == "A"


async def test_a_chosen_part_counts_though_the_whole_is_still_ticked(world: World):
    answer = await granted(world, ASKED.split(), [LABORATORY, VITALS])
    expected = f"launch/patient {LABORATORY} {VITALS} {CONDITIONS} patient/Patient.r offline_access"
    assert answer["scope"] == expected


async def test_offline_access_can_be_unticked_and_leaves_no_refresh_token(world: World):
    answer = await granted(world, [s for s in ASKED.split() if s != "offline_access"])
    assert "refresh_token" not in answer
    assert "refresh_token" in await granted(world, ASKED.split())


async def test_a_refreshed_token_is_no_wider_than_what_was_left(world: World):
    answer = await granted(world, ["launch/patient", "offline_access"], [LABORATORY])
    app = SmartApp(world, "smart-secret")
    again = await app.refresh(answer["refresh_token"])
    assert again.json["scope"] == f"launch/patient {LABORATORY} offline_access"
    wider = await app.refresh(answer["refresh_token"], scope=OBSERVATIONS)
    assert wider.refusal == (400, "invalid_scope")


@pytest.mark.parametrize(
    ("scope", "only"),
    [
        (["patient/*.cruds"], []),
        (["user/Observation.rs", "openid"], []),
        ([], [f"{OBSERVATIONS}?category=laboratory"]),
        ([], [LABORATORY.replace(".rs", ".cruds")]),
        ([], [LABORATORY.replace("patient/", "user/")]),
        ([], [LABORATORY.replace("laboratory", "exam")]),
        ([], [OBSERVATIONS, "patient/*.rs", "offline_access"]),
        (["launch"], ["launch/encounter"]),
    ],
)
async def test_a_forged_form_widens_nothing(world: World, scope: list[str], only: list[str]):
    _, person, page = await consent_page(world)
    assert answer_of(await allow(world, person, page, scope, only))["error"] == "access_denied"
    answer = await granted(world, ["patient/Patient.r", *scope], only)
    assert answer["scope"] == "patient/Patient.r"


async def test_narrower_consent_is_not_silently_widened_by_prompt_none(world: World):
    app, person, page = await consent_page(world)
    await allow(world, person, page, ["launch/patient"], [LABORATORY])
    reply = await app.ask(person, scope=ASKED, prompt="none")
    assert answer_of(reply)["error"] == "consent_required"


@pytest.mark.parametrize(
    "text",
    [
        "patient/Observation.read",  # version 1 has no form for it
        "patient/*.rs",
        "patient/Patient.rs",
        LABORATORY,
        "openid",
        "nonsense",
    ],
)
def test_no_parts_where_there_are_none(text: str):
    assert parts_of(text, [text], grantable) == ()


def test_no_parts_beside_a_wider_scope():
    assert parts_of(OBSERVATIONS, [OBSERVATIONS, "patient/*.rs"], grantable) == ()
    assert parts_of(OBSERVATIONS, [OBSERVATIONS, "user/*.rs"], grantable)


def test_only_parts_that_the_gateway_can_enforce_are_offered():
    assert parts_of(OBSERVATIONS, [OBSERVATIONS], lambda text: "laboratory" in text) == (LABORATORY,)


@pytest.mark.parametrize("type_", ["Observation", "Condition", "DocumentReference"])
@pytest.mark.parametrize("letters", ["r", "rs", "cruds", "u"])
@pytest.mark.parametrize("context", ["patient", "user"])
def test_every_part_is_a_scope_that_the_whole_covers_and_the_gateway_enforces(
    context: str, letters: str, type_: str
):
    whole = f"{context}/{type_}.{letters}"
    parts = parts_of(whole, [whole], lambda text: True)
    assert parts
    for part in parts:
        assert parse_scope(part) is not None
        assert grantable(part)
        assert covered(part, [whole])
        assert not covered(whole, [part])
        assert narrowed([whole], [], [part], grantable) == (part,)


def test_a_part_is_not_undone_by_the_same_data_under_fewer_letters():
    asked = [OBSERVATIONS, "patient/Observation.r", "patient/Observation.c", CONDITIONS]
    left = narrowed(asked, asked, [LABORATORY], grantable)
    assert left == (LABORATORY, "patient/Observation.c", CONDITIONS)


def test_a_part_that_was_asked_for_as_well_is_said_once():
    asked = [OBSERVATIONS, LABORATORY, VITALS]
    assert narrowed(asked, asked, [LABORATORY], grantable) == (LABORATORY, VITALS)

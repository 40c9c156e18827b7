"""Rich authorization requests (RFC 9396), from PAR to introspection."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from authz.protocol.authorization_details import DetailType, is_covered
from gateway.policy.details_layer import FHIR_ACCESS
from tests.support.authorization_server import (
    CDA,
    FHIR,
    FHIR_MTLS,
    App,
    Person,
    Reply,
    World,
    answer_of,
    claims_of,
    open_world,
)

LAB = DetailType(
    "lab-results", frozenset({"read", "search"}), frozenset({"Observation", "DiagnosticReport"}), "Results"
)
TYPES = {kind.name: kind for kind in (FHIR_ACCESS, LAB)}
OBSERVATIONS: dict[str, Any] = {
    "type": "fhir-access",
    "actions": ["read", "search"],
    "datatypes": ["Observation", "Condition"],
    "locations": [FHIR],
}
REGISTERED = ("portal", "portal-mtls", "portal-signed", "lab")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, detail_types=(FHIR_ACCESS, LAB)) as opened:
        for name in REGISTERED:
            client = opened.clients[name]
            opened.clients[name] = replace(client, authorization_details_types=("fhir-access",))
        yield opened


def said(*details: dict[str, Any]) -> str:
    return json.dumps(details)


def without(name: str) -> dict[str, Any]:
    return {member: value for member, value in OBSERVATIONS.items() if member != name}


async def tokens(app: App, *details: dict[str, Any], redeemed: dict[str, str] | None = None) -> Reply:
    """The token response to a request for these details, through the pages."""
    pushed = await app.push(authorization_details=said(*details)) if details else await app.push()
    assert pushed.status == 201, pushed.text
    person = Person(app.world)
    page = await person.sign_in(pushed, app.client_id)
    return await app.redeem(answer_of(await person.consent(page))["code"], **(redeemed or {}))


def granted(reply: Reply) -> object:
    """The details of a token response, which are those of its token."""
    assert reply.status == 200, reply.text
    details = reply.json.get("authorization_details")
    assert claims_of(reply.json["access_token"]).get("authorization_details") == details
    return details


# 2, 5: what is asked for


async def test_2_details_of_a_registered_type_are_taken(world: World) -> None:
    assert (await world.app().push(authorization_details=said(OBSERVATIONS))).status == 201
    assert (await world.app().push(authorization_details=said({"type": "fhir-access"}))).status == 201


@pytest.mark.parametrize(
    "details",
    [
        "x",
        "{}",
        "[]",
        "[7]",
        "null",
        "[[]]",
        said({}),
        said({"type": "payment"}),
        said({"type": ["fhir-access"]}),
        said({"type": "FHIR-access"}),
        '[{"type": "fhir-access", "type": "fhir-access"}]',
        said(OBSERVATIONS | {"privileges": ["admin"]}),
        said(OBSERVATIONS | {"identifier": "Patient/A"}),
        said(OBSERVATIONS | {"actions": ["*"]}),
        said(OBSERVATIONS | {"datatypes": ["*"]}),
        said(OBSERVATIONS | {"datatypes": ["Observation", "observation"]}),
        said(OBSERVATIONS | {"datatypes": [""]}),
        said(OBSERVATIONS | {"actions": []}),
        said(OBSERVATIONS | {"actions": "read"}),
        said(OBSERVATIONS | {"actions": None}),
        said(OBSERVATIONS | {"actions": [["read"]]}),
        said(OBSERVATIONS | {"locations": ["https://other.example/fhir"]}),
        said(OBSERVATIONS | {"locations": []}),
        said(OBSERVATIONS, {"type": "payment"}),
        said(*[OBSERVATIONS] * 9),
        said(OBSERVATIONS | {"actions": ["read"] * 65}),
        "[" + " " * 4096 + "]",
    ],
)
async def test_5_anything_else_is_refused_at_PAR(world: World, details: str) -> None:
    reply = await world.app().push(authorization_details=details)
    assert reply.refusal == (400, "invalid_authorization_details")


@pytest.mark.parametrize("client", ["portal-2", "key-and-certificate"])
async def test_10_a_client_that_is_not_registered_for_the_type_is_refused(world: World, client: str) -> None:
    reply = await world.app(client).push(authorization_details=said(OBSERVATIONS))
    assert reply.refusal == (400, "invalid_authorization_details")
    assert "not registered" in reply.json["error_description"]


async def test_10_a_client_is_registered_for_single_types(world: World) -> None:
    details = said(OBSERVATIONS, {"type": "lab-results"})
    reply = await world.app().push(authorization_details=details)
    assert reply.refusal == (400, "invalid_authorization_details")


async def test_10_the_types_are_announced(world: World) -> None:
    path = "/.well-known/oauth-authorization-server"
    assert (await world.get(path)).json["authorization_details_types_supported"] == [
        "fhir-access",
        "lab-results",
    ]
    resource = (await world.get("/.well-known/oauth-protected-resource/fhir/r4")).json
    assert resource["authorization_details_types_supported"] == ["fhir-access", "lab-results"]  # RFC 9728 2


async def test_4_a_request_object_carries_details_as_an_array_or_as_their_text(world: World) -> None:
    app = world.app()
    for details in ([OBSERVATIONS], said(OBSERVATIONS)):
        pushed = await app.push_signed(authorization_details=details)
        person = Person(world)
        page = await person.sign_in(pushed, app.client_id)
        reply = await app.redeem(answer_of(await person.consent(page))["code"])
        assert granted(reply) == [OBSERVATIONS]


@pytest.mark.parametrize("details", [[], [{"type": "payment"}], {}, [OBSERVATIONS | {"datatypes": ["*"]}]])
async def test_4_details_in_a_request_object_are_held_to_the_same_rules(world: World, details: Any) -> None:
    reply = await world.app().push_signed(authorization_details=details)
    assert reply.refusal == (400, "invalid_authorization_details")


async def test_4_details_beside_a_request_object_do_not_count(world: World) -> None:
    app = world.app()
    form = {"request": app.request_object(), "authorization_details": said(OBSERVATIONS)}
    pushed = await world.post("/par", form | app.credentials())
    person = Person(world)
    page = await person.sign_in(pushed, app.client_id)
    assert granted(await app.redeem(answer_of(await person.consent(page))["code"])) is None


# 3: consent


async def test_3_the_person_is_told_in_plain_words(world: World) -> None:
    details = said(OBSERVATIONS, {"type": "fhir-access", "actions": ["create", "update"]})
    page = await Person(world).sign_in(await world.app().push(authorization_details=details))
    text = unescape(page.text)
    results, diagnoses = "results and measurements", "diagnoses and health problems"
    assert f"Health data: see and search {results} and {diagnoses} at {FHIR}" in text
    assert "Health data: add to and change every kind of record" in text


async def test_3_without_details_the_page_says_nothing_of_them(world: World) -> None:
    page = await Person(world).sign_in(await world.app().push())
    assert 'id="details"' not in page.text


# 7: the token response; 9: the token; 9.2: introspection


async def test_7_the_token_response_and_the_token_say_what_was_granted(world: World) -> None:
    assert granted(await tokens(world.app(), OBSERVATIONS)) == [OBSERVATIONS]


async def test_7_without_details_there_is_no_member(world: World) -> None:
    assert granted(await tokens(world.app())) is None


async def test_7_locations_are_told_by_the_identifier_of_the_resource(world: World) -> None:
    reply = await tokens(world.app(), OBSERVATIONS | {"locations": [FHIR_MTLS, FHIR]})
    assert granted(reply) == [OBSERVATIONS]


async def test_9_2_introspection_tells_the_details_of_both_tokens(world: World) -> None:
    reply = await tokens(world.app(), OBSERVATIONS)
    for kind in ("access_token", "refresh_token"):
        told = await world.app("resource-server").post("/introspect", {"token": reply.json[kind]})
        assert told.json["authorization_details"] == [OBSERVATIONS]


async def test_details_never_replace_scopes(world: World) -> None:
    """A request for details alone gets the scopes that the client is registered for, as without details."""
    reply = await tokens(world.app(), OBSERVATIONS)
    assert reply.json["scope"] == "fhirUser offline_access launch/patient patient/*.rs"


# 6: the token request


async def refreshed(app: App, first: Reply, *details: dict[str, Any]) -> Reply:
    changes = {"authorization_details": said(*details)} if details else {}
    return await app.refresh(first.json["refresh_token"], **changes)


NARROWER = [
    without("x") | {"actions": ["read"]},
    without("x") | {"datatypes": ["Condition"]},
    OBSERVATIONS,
]


@pytest.mark.parametrize("detail", NARROWER)
async def test_6_a_token_request_narrows_the_token_and_not_the_grant(
    world: World, detail: dict[str, Any]
) -> None:
    app = world.app()
    first = await tokens(app, OBSERVATIONS, redeemed={"authorization_details": said(detail)})
    assert granted(first) == [detail]
    assert granted(await refreshed(app, first, detail)) == [detail]
    assert granted(await refreshed(app, first)) == [OBSERVATIONS]


WIDER = [
    without("actions"),
    without("datatypes"),
    without("locations"),
    OBSERVATIONS | {"actions": ["read", "search", "create"]},
    OBSERVATIONS | {"actions": ["vread"]},
    OBSERVATIONS | {"datatypes": ["Patient"]},
    OBSERVATIONS | {"locations": [FHIR, CDA]},
    OBSERVATIONS | {"locations": [CDA]},
    {"type": "fhir-access"},
]


@pytest.mark.parametrize("detail", WIDER)
async def test_6_a_token_request_that_widens_is_refused(world: World, detail: dict[str, Any]) -> None:
    app = world.app()
    refusal = (400, "invalid_authorization_details")
    first = await tokens(app, OBSERVATIONS)
    assert (await refreshed(app, first, detail)).refusal == refusal
    assert (await refreshed(app, first, OBSERVATIONS, detail)).refusal == refusal
    widened = {"authorization_details": said(detail)}
    assert (await tokens(app, OBSERVATIONS, redeemed=widened)).refusal == refusal


async def test_6_a_grant_without_details_covers_none(world: World) -> None:
    app = world.app()
    first = await tokens(app)
    assert (await refreshed(app, first, OBSERVATIONS)).refusal == (400, "invalid_authorization_details")


async def test_6_the_actions_of_one_detail_do_not_meet_the_datatypes_of_another(world: World) -> None:
    app = world.app()
    reading = {"type": "fhir-access", "actions": ["read"], "datatypes": ["Observation"]}
    writing = {"type": "fhir-access", "actions": ["create"], "datatypes": ["Condition"]}
    first = await tokens(app, reading, writing)
    crossed = {"type": "fhir-access", "actions": ["create"], "datatypes": ["Observation"]}
    assert (await refreshed(app, first, crossed)).refusal == (400, "invalid_authorization_details")
    assert granted(await refreshed(app, first, writing)) == [writing]


def test_6_what_two_details_allow_together_is_covered() -> None:
    observations = {"type": "fhir-access", "actions": ["read"], "datatypes": ["Observation"]}
    conditions = observations | {"datatypes": ["Condition"]}
    both = observations | {"datatypes": ["Observation", "Condition"]}
    assert is_covered([both], [observations, conditions], TYPES)
    assert not is_covered([both], [observations], TYPES)


def test_6_one_type_does_not_cover_another() -> None:
    assert not is_covered([{"type": "lab-results"}], [{"type": "fhir-access"}], TYPES)
    assert is_covered([{"type": "lab-results"}], [{"type": "lab-results"}], TYPES)
    assert not is_covered([{"type": "payment"}], [{"type": "payment"}], TYPES)


async def test_a_type_that_the_client_lost_ends_what_it_carried(world: World) -> None:
    """Left out, the details would leave a token of the scopes alone: more than the person allowed."""
    app = world.app()
    first = await tokens(app, OBSERVATIONS)
    portal = replace(world.clients["portal"], authorization_details_types=())
    again = await world.reopen(clients=world.clients | {"portal": portal}, detail_types=(FHIR_ACCESS,))
    app.world = again
    assert (await refreshed(app, first)).refusal == (400, "invalid_grant")


async def test_a_type_that_is_not_offered_any_more_ends_what_it_carried(world: World) -> None:
    app = world.app()
    first = await tokens(app, OBSERVATIONS)
    app.world = await world.reopen(detail_types=(LAB,))
    assert (await refreshed(app, first)).refusal == (400, "invalid_grant")


# Client credentials


async def test_client_credentials_carry_details_of_a_client_that_is_registered(world: World) -> None:
    lab = world.app("lab")
    reply = await lab.own_token(authorization_details=said(OBSERVATIONS))
    assert granted(reply) == [OBSERVATIONS]
    reply = await lab.own_token(authorization_details=said(OBSERVATIONS | {"datatypes": ["*"]}))
    assert reply.refusal == (400, "invalid_authorization_details")


async def test_client_credentials_carry_no_details_of_another_client(world: World) -> None:
    reply = await world.app("resource-server").own_token(authorization_details=said(OBSERVATIONS))
    assert reply.refusal == (400, "invalid_authorization_details")


# prompt=none


async def silent(world: World, person: Person, *details: dict[str, Any]) -> dict[str, str]:
    changes = {"authorization_details": said(*details)} if details else {}
    pushed = await world.app().push(prompt="none", **changes)
    return answer_of(await person.sign_in(pushed))


async def test_prompt_none_gives_details_that_were_granted_and_no_wider_ones(world: World) -> None:
    person = Person(world)
    page = await person.sign_in(await world.app().push(authorization_details=said(OBSERVATIONS)))
    await person.consent(page)
    assert "code" in await silent(world, person, OBSERVATIONS)
    assert "code" in await silent(world, person, OBSERVATIONS | {"actions": ["read"]})
    for wider in WIDER:
        assert (await silent(world, person, wider))["error"] == "consent_required"


async def test_prompt_none_without_details_is_wider_than_a_grant_with_them(world: World) -> None:
    person = Person(world)
    page = await person.sign_in(await world.app().push(authorization_details=said(OBSERVATIONS)))
    await person.consent(page)
    assert (await silent(world, person))["error"] == "consent_required"


async def test_prompt_none_with_details_after_a_grant_without_asks_again(world: World) -> None:
    person = Person(world)
    await person.consent(await person.sign_in(await world.app().push()))
    assert (await silent(world, person, OBSERVATIONS))["error"] == "consent_required"

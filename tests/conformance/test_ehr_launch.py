"""Launches from a record system (SMART App Launch 2.2): who makes them, what they are good for, what the app is told."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from authz.events import ContextLaunched
from authz.settings import Account
from tests.support.authorization_server import (
    ANNA,
    CDA,
    FHIR,
    PASSWORD,
    Person,
    World,
    answer_of,
    claims_of,
    open_world,
)
from tests.support.jose import ABSENT
from tests.support.smart import EVERY, Ehr, SmartApp, smart_world

SCOPE = "launch patient/*.rs"
DOCTOR = Account(
    username="doctor",
    subject="d0c7",
    password_hash=ANNA.password_hash,
    name="Doctor House",
    claims={"fhirUser": "Practitioner/D", "roles": ["physician"]},
)
EVERYTHING: dict[str, Any] = {
    "patient": "A",
    "encounter": "E-1",
    "fhirContext": [
        {"reference": "ImagingStudy/1"},
        {"reference": "ImagingStudy/2", "role": "https://ehr.example/role/compare"},
        {"canonical": "https://ehr.example/Questionnaire/q|1.0", "type": "Questionnaire"},
        {"identifier": {"system": "urn:oid:1.2", "value": "7"}, "type": "Task", "role": "launch"},
        {"reference": "Patient/B", "role": "https://ehr.example/role/compare"},
    ],
    "need_patient_banner": False,
    "intent": "reconcile-medications",
    "smart_style_url": "https://ehr.example/styles/v1.json",
    "tenant": "hospital-7",
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        accounts = {a.username: a for a in (ANNA, DOCTOR)}
        yield await smart_world(opened, launches=True, accounts=accounts)


async def handle(world: World, **members: Any) -> str:
    made = await Ehr(world).launch(**members)
    assert made.status == 201, made.text
    return str(made.json["launch"])


async def told(
    world: World, *, scope: str = SCOPE, client_id: str = "smart-app", **members: Any
) -> dict[str, Any]:
    """The token response of a launch with this context."""
    app = SmartApp(world, client_id)
    launch = await handle(world, client_id=client_id, **members)
    reply = await app.redeem(await app.launch(Person(world), scope=scope, launch=launch))
    assert reply.status == 200, reply.text
    return reply.json


async def error_of(world: World, **changes: Any) -> str:
    """The error that the app gets at once."""
    reply = await world.get("/authorize", query=urlencode(SmartApp(world).asking(**changes)))
    return answer_of(reply)["error"]


# Who makes a launch


async def test_a_record_system_gets_a_handle_for_one_app_one_base_and_one_person(world: World):
    made = await Ehr(world).launch()
    assert made.status == 201
    assert made.json["iss"] == FHIR
    assert made.json["expires_in"] == 300
    assert len(made.json["launch"]) == 43
    assert made.header("cache-control") == "no-store"
    (event,) = [e for e in world.events if isinstance(e, ContextLaunched)]
    assert (event.by, event.client_id, event.subject) == ("ehr", "smart-app", ANNA.subject)


async def test_a_launch_needs_a_bound_token_with_the_scope(world: World):
    other = await Ehr(world).token("system/Patient.r")
    assert (await Ehr(world).launch(token=other)).status in (401, 403)
    ehr = Ehr(world)
    token = await ehr.token("system/Patient.r")
    refused = await ehr.launch(token=token)
    assert refused.status == 403
    assert refused.json["error"] == "insufficient_scope"
    assert (await world.send(ehr.app.reading("x", "/launch"))).status == 405
    bare = await world.post("/launch", b"{}", headers=[])
    assert bare.status == 401
    assert bare.header("www-authenticate")


async def test_a_client_without_the_scope_cannot_ask_for_it(world: World):
    app = world.app("ehr-without")
    assert (await app.own_token(scope="securus/launch")).refusal == (400, "invalid_scope")
    assert await error_of(world, scope="securus/launch") == "invalid_scope"


async def test_a_record_system_that_lost_the_scope_launches_nothing(world: World):
    ehr = Ehr(world)
    token = await ehr.token()
    less = replace(world.clients["ehr"], scope=("system/Patient.r",))
    later = Ehr(await world.reopen(clients={**world.clients, "ehr": less}))
    later.app.dpop_key = ehr.app.dpop_key
    assert (await later.launch(token=token)).status == 403


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"client_id": "portal"},  # not registered for the scope launch
        {"client_id": "smart-backend"},
        {"client_id": ABSENT},
        {"aud": "https://elsewhere.example/fhir"},
        {"aud": ABSENT},
        {"user": "nobody"},
        {"user": ABSENT},
        {"patient": "B"},  # Anna's record is another
        {"patient": "Patient/A"},
        {"patient": 7},
        {"encounter": "Encounter/1"},
        {"need_patient_banner": "true"},
        {"need_patient_banner": 1},
        {"intent": ""},
        {"intent": "a\nb"},
        {"tenant": "x" * 257},
        {"smart_style_url": "http://ehr.example/style.json"},
        {"smart_style_url": "javascript:alert(1)"},
        {"pacient": "A"},
        {"fhirContext": {"reference": "Task/1"}},
        {"fhirContext": ["Task/1"]},
        {"fhirContext": [{}]},
        {"fhirContext": [{"type": "Task"}]},
        {"fhirContext": [{"reference": "https://ehr.example/Task/1"}]},
        {"fhirContext": [{"reference": "Task/1", "role": ""}]},
        {"fhirContext": [{"reference": "Task/1", "role": "compare"}]},
        {"fhirContext": [{"reference": "Patient/B"}]},
        {"fhirContext": [{"reference": "Encounter/1", "role": "launch"}]},
        {"fhirContext": [{"identifier": {"value": "1"}, "type": "Patient"}]},
        {"fhirContext": [{"identifier": "1"}]},
        {"fhirContext": [{"reference": "Task/1", "more": 1}]},
        {"fhirContext": [{"reference": f"Task/{n}"} for n in range(17)]},
        {"fhirContext": [{"canonical": "https://e.example/" + "x" * 2048}]},
    ],
)
async def test_a_launch_that_is_not_right_is_not_made(world: World, changes: dict[str, Any]):
    refused = await Ehr(world).launch(**changes)
    assert refused.refusal == (400, "invalid_request")


# What a handle is good for


async def test_S_A03_a_handle_is_good_once(world: World):
    launch = await handle(world)
    app = SmartApp(world)
    assert (await app.redeem(await app.launch(Person(world), scope=SCOPE, launch=launch))).status == 200
    assert await error_of(world, scope=SCOPE, launch=launch) == "invalid_request"


async def test_S_A03_of_many_requests_with_one_handle_one_is_taken(world: World):
    launch = await handle(world)
    query = urlencode(SmartApp(world).asking(scope=SCOPE, launch=launch))
    replies = [await world.get("/authorize", query=query) for _ in range(5)]
    assert sum((r.header("location") or "").startswith("/sign-in") for r in replies) == 1


async def test_S_A03_a_handle_lives_five_minutes(world: World):
    launch = await handle(world)
    world.clock.now += 300
    assert await error_of(world, scope=SCOPE, launch=launch) == "invalid_request"


async def test_S_A03_a_handle_is_for_its_app_and_stays_good_for_it(world: World):
    launch = await handle(world)
    other = SmartApp(world, "smart-held").asking(scope=SCOPE, launch=launch)
    assert answer_of(await world.get("/authorize", query=urlencode(other)))["error"] == "invalid_request"
    app = SmartApp(world)
    assert (await app.redeem(await app.launch(Person(world), scope=SCOPE, launch=launch))).json[
        "patient"
    ] == "A"


@pytest.mark.parametrize("launch", ["x", "x" * 43, "a+b", "%00"])
async def test_S_A03_a_handle_that_nobody_made_is_invalid_request(world: World, launch: str):
    assert await error_of(world, scope=SCOPE, launch=launch) == "invalid_request"


async def test_a_handle_without_the_scope_launch_is_refused(world: World):
    assert await error_of(world, scope="patient/*.rs", launch=await handle(world)) == "invalid_request"


async def test_a_wrong_request_does_not_use_the_handle_up(world: World):
    launch = await handle(world)
    assert await error_of(world, scope=SCOPE, launch=launch, code_challenge=ABSENT) == "invalid_request"
    app = SmartApp(world)
    assert (await app.redeem(await app.launch(Person(world), scope=SCOPE, launch=launch))).status == 200


async def test_no_app_can_send_a_context_of_its_own(world: World):
    made_up = '{"patient": "B", "user": "3c9ae2f0", "encounter": "E"}'
    app = SmartApp(world)
    code = await app.launch(Person(world), scope=SCOPE, launch_context=made_up)
    answer = (await app.redeem(code)).json
    assert answer["patient"] == "A"
    assert "encounter" not in answer
    assert answer["scope"] == "patient/*.rs"
    pushed = await app.post("/par", app.asking(scope=SCOPE, launch_context=made_up))
    page = await Person(world).sign_in(pushed, "smart-app")
    assert "E-1" not in page.text


@pytest.mark.parametrize(
    "said", ["x", "[]", "null", "{", '{"patient":"B"}', '{"encounter":5,"user":[]}', "\N{SNOWMAN}"]
)
async def test_what_an_app_says_under_the_name_of_the_context_is_not_even_looked_at(world: World, said: str):
    app, portal, signing = SmartApp(world), world.app("portal"), world.app("portal-signed")
    plain = await world.get("/authorize", query=urlencode(app.asking(launch_context=said)))
    assert (plain.header("location") or "").startswith("/sign-in")
    assert (await world.post("/authorize", app.asking(launch_context=said))).status == 303
    assert (await portal.push(launch_context=said)).status == 201
    assert (await signing.push_signed(launch_context=said)).status == 201
    # A scope that only a launch gives is not grantable by it either.
    alone = await portal.push(launch_context=said, scope="launch/encounter")
    assert alone.refusal == (await portal.push(scope="launch/encounter")).refusal


async def test_another_person_than_the_one_of_the_launch_gets_no_code(world: World):
    launch = await handle(world)
    person = Person(world, DOCTOR)
    page = await SmartApp(world).ask(person, scope=SCOPE, launch=launch)
    reply = await person.submit(page, username="doctor", password=PASSWORD)
    answer = answer_of(reply)
    assert answer["error"] == "login_required"
    assert "code" not in answer


async def test_a_person_who_is_signed_in_is_asked_again_when_the_launch_is_somebody_elses(world: World):
    person = Person(world)
    await SmartApp(world).launch(person)
    page = await SmartApp(world).ask(
        person, scope=SCOPE, launch=await handle(world, user=DOCTOR.subject, patient="B")
    )
    assert 'name="password"' in page.text


# What the app is told


async def test_the_app_is_told_the_whole_context_beside_its_token(world: World):
    answer = await told(world, scope="launch patient/*.rs openid fhirUser", **EVERYTHING)
    assert {name: answer[name] for name in EVERYTHING} == EVERYTHING
    assert answer["scope"] == "launch patient/*.rs openid fhirUser"
    assert answer["need_patient_banner"] is False


async def test_introspection_tells_the_context_too(world: World):
    answer = await told(world, **EVERYTHING)
    asking = world.app("resource-server")
    found = (await asking.post("/introspect", {"token": answer["access_token"]})).json
    assert {name: found[name] for name in EVERYTHING} == EVERYTHING


async def test_a_refreshed_answer_tells_the_context_again(world: World):
    scope = "launch patient/*.rs offline_access"
    answer = await told(world, scope=scope, client_id="smart-secret", **EVERYTHING)
    app = SmartApp(world, "smart-secret")
    for more in ({}, {"scope": scope}):
        again = (await app.refresh(answer["refresh_token"], **more)).json
        assert {name: again[name] for name in EVERYTHING} == EVERYTHING
        assert again["scope"] == scope


async def test_launch_encounter_is_granted_where_there_is_an_encounter(world: World):
    scope = "launch launch/encounter patient/*.rs"
    assert (await told(world, scope=scope, encounter="E-1"))["scope"] == scope
    assert (await told(world, scope=scope))["scope"] == "launch patient/*.rs"


async def test_a_token_of_a_launch_is_for_the_base_that_the_app_was_launched_for(world: World):
    app = SmartApp(world)
    both = {"resource": [CDA, FHIR], "launch": await handle(world, patient="A")}
    reply = await app.redeem(await app.launch(Person(world), scope=SCOPE, **both))
    assert claims_of(reply.json["access_token"])["aud"] == FHIR


async def test_without_a_launch_the_scope_launch_is_left_out(world: World):
    app = SmartApp(world)
    answer = (await app.redeem(await app.launch(Person(world), scope=SCOPE))).json
    assert answer["scope"] == "patient/*.rs"


async def test_a_clinician_works_with_the_record_that_is_open(world: World):
    launch = await handle(world, user=DOCTOR.subject, patient="B", client_id="smart-secret")
    app, person = SmartApp(world, "smart-secret"), Person(world, DOCTOR)
    page = await app.ask(person, scope="launch patient/*.rs offline_access", launch=launch)
    page = await person.submit(page, username="doctor", password=PASSWORD)
    assert 'name="patient"' not in page.text
    assert "B" in page.text
    answer = (await app.redeem(answer_of(await person.consent(page))["code"])).json
    assert answer["patient"] == "B"
    assert claims_of(answer["access_token"])["patient"] == "B"
    assert (await app.refresh(answer["refresh_token"])).json["patient"] == "B"


async def test_a_clinician_without_a_launch_cannot_take_any_record(world: World):
    app, person = SmartApp(world, "smart-secret"), Person(world, DOCTOR)
    page = await app.ask(person, scope="patient/*.rs")
    reply = await person.submit(page, username="doctor", password=PASSWORD)
    assert answer_of(reply)["error"] == "access_denied"


async def test_a_record_of_the_launch_cannot_be_changed_at_the_pages(world: World):
    launch = await handle(world, user=DOCTOR.subject, patient="B")
    person = Person(world, DOCTOR)
    page = await SmartApp(world).ask(person, scope=SCOPE, launch=launch)
    page = await person.submit(page, username="doctor", password=PASSWORD)
    hidden = {name: value for name, value in _hidden(page.text)}
    reply = await world.post("/patient", hidden | {"patient": "C"}, headers=person._headers())
    assert reply.status == 400
    assert answer_of(await person.consent(page))["code"]


async def test_a_patient_who_lost_the_record_gets_no_refreshed_token(world: World):
    answer = await told(world, scope="launch patient/*.rs offline_access", client_id="smart-secret")
    moved = replace(ANNA, patient="Z")
    later = await world.reopen(accounts={"anna": moved}, profiles=EVERY)
    refused = await SmartApp(later, "smart-secret").refresh(answer["refresh_token"])
    assert refused.refusal == (400, "invalid_grant")


async def test_the_person_may_keep_the_context_from_the_app(world: World):
    launch = await handle(world, **EVERYTHING)
    app, person = SmartApp(world), Person(world)
    page = await app.ask(person, scope=SCOPE, launch=launch)
    page = await person.submit(page, username=ANNA.username, password=PASSWORD)
    form = dict(_hidden(page.text)) | {"scope": "patient/*.rs", "action": "allow"}
    answer = answer_of(await world.post("/consent", form, headers=person._headers()))
    found = (await app.redeem(answer["code"])).json
    assert found["scope"] == "patient/*.rs"
    assert found["patient"] == "A"
    assert not found.keys() & (EVERYTHING.keys() - {"patient"})


async def test_the_capabilities_of_launches_are_told_where_a_record_system_may_make_them(world: World):
    path = "/.well-known/smart-configuration"
    said = {"launch-ehr", "context-ehr-patient", "context-ehr-encounter", "context-banner", "context-style"}
    found = (await world.get(path)).json
    assert said <= set(found["capabilities"])
    assert "securus/launch" not in found["scopes_supported"]
    without = await world.reopen(clients={n: c for n, c in world.clients.items() if n != "ehr"})
    assert not said & set((await without.get(path)).json["capabilities"])


async def test_launches_work_with_pushed_requests_of_FAPI_clients(world: World):
    portal = replace(world.clients["portal"], scope=(*world.clients["portal"].scope, "launch"))
    both = await world.reopen(clients={**world.clients, "portal": portal}, profiles=EVERY)
    launch = await handle(both, client_id="portal")
    app, person = both.app(), Person(both)
    pushed = await app.push(scope="launch patient/*.rs", launch=launch)
    assert pushed.status == 201
    assert (await app.push(scope="launch patient/*.rs", launch=launch)).refusal == (400, "invalid_request")
    code = answer_of(await person.consent(await person.sign_in(pushed)))["code"]
    answer = (await app.redeem(code)).json
    assert answer["token_type"] == "DPoP"
    assert answer["scope"] == "launch patient/*.rs"


def _hidden(text: str) -> list[tuple[str, str]]:
    return re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', text)

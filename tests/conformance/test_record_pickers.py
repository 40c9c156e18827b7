"""The pickers of patients and visits (SMART App Launch 2.2 @167): who finds whom, and what becomes of the choice."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from authz.protocol.clients import BindingKind
from authz.settings import Account
from tests.support.authorization_server import (
    ANNA,
    CDA,
    FHIR,
    PASSWORD,
    Person,
    Reply,
    World,
    answer_of,
    claims_of,
    open_world,
)
from tests.support.finding import FinderInMemory, with_picker
from tests.support.smart import EVERY, SmartApp, smart_world

DOCTOR = Account(
    username="doctor",
    subject="d0c7",
    password_hash=ANNA.password_hash,
    name="Doctor House",
    claims={"fhirUser": "Practitioner/D", "roles": ["physician"]},
)
GUARDIAN = replace(
    DOCTOR, username="mother", subject="m0m", name="Mother", claims={"fhirUser": "RelatedPerson/M"}
)
NURSE = replace(
    DOCTOR, username="nurse", subject="nur5e", name="Nurse", patients=(("A", "Anna of the ward"),)
)
ACCOUNTS = {a.username: a for a in (ANNA, DOCTOR, GUARDIAN, NURSE)}
SCOPE = "launch/patient patient/*.rs offline_access"
VISIT = "launch/patient launch/encounter patient/*.rs offline_access"


@pytest.fixture
def finder() -> FinderInMemory:
    return FinderInMemory(
        {
            "d0c7": {"A", "B", "E-1", "E-2"},
            "m0m": {"B", "E-2"},
            "nur5e": {"B"},
            ANNA.subject: {"A", "B", "E-1"},
        }
    )


@pytest.fixture
async def world(tmp_path: Path, finder: FinderInMemory) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield await smart_world(opened, accounts=ACCOUNTS, **with_picker(finder))


async def asked(
    world: World, account: Account = DOCTOR, scope: str = SCOPE, app: str = "smart-secret", **more: Any
) -> tuple[SmartApp, Person, Reply]:
    """As far as the page after the sign-in."""
    person, client = Person(world, account), SmartApp(world, app)
    page = await client.ask(person, scope=scope, **more)
    return client, person, await person.submit(page, username=account.username, password=PASSWORD)


def forms(page: Reply) -> list[str]:
    return re.findall(r"<form.*?</form>", page.text, re.DOTALL)


def hidden(page: Reply) -> dict[str, str]:
    """The hidden fields of a page, by the names of the form that chooses."""
    found = re.findall(r'<input type="hidden" name="(?:search_)?([^"]+)" value="([^"]*)"', page.text)
    return dict(found)


async def sent(person: Person, page: Reply, **fields: str) -> Reply:
    return await person.submit(page, **fields)


async def tokens(app: SmartApp, person: Person, page: Reply) -> dict[str, Any]:
    """The token response, once the person allows all."""
    reply = await app.redeem(answer_of(await person.consent(page))["code"])
    assert reply.status == 200, reply.text
    return reply.json


async def picked(
    world: World, account: Account = DOCTOR, patient: str = "B", **more: Any
) -> tuple[SmartApp, Person, Reply]:
    """As far as the page after the choice of a patient."""
    app, person, page = await asked(world, account, **more)
    return app, person, await sent(person, page, action="select", patient=patient)


# Patients


async def test_staff_find_a_patient_by_name_and_the_app_gets_that_record(
    world: World, finder: FinderInMemory
):
    app, person, page = await asked(world)
    assert page.status == 200
    assert 'name="query"' in page.text
    assert 'name="patient"' not in page.text  # nobody is shown before somebody asks
    assert finder.asked == []
    found = await sent(person, page, action="search", query="bert")
    assert "Bert Other, born 2 May 1981" in found.text
    assert "Anna" not in found.text
    assert found.header("cache-control") == "no-store"
    consent = await sent(person, found, action="select", patient="B")
    assert "Bert Other, born 2 May 1981" in consent.text
    answer = await tokens(app, person, consent)
    assert answer["patient"] == "B"
    assert answer["scope"] == SCOPE
    assert claims_of(answer["access_token"])["patient"] == "B"
    introspected = (
        await world.app("resource-server").post("/introspect", {"token": answer["access_token"]})
    ).json
    assert introspected["patient"] == "B"


async def test_a_question_is_asked_as_the_person_and_for_the_app(world: World, finder: FinderInMemory):
    _, person, page = await asked(world, app="smart-held")
    await sent(person, page, action="search", query="bert")
    ((asker, what),) = finder.asked
    assert what == "search bert"
    caller = asker.caller
    assert (caller.subject, caller.client_id, caller.scope) == ("d0c7", "smart-held", ("user/Patient.rs",))
    assert caller.claims["fhirUser"] == "Practitioner/D"
    assert caller.claims["roles"] == ["physician"]
    assert caller.claims["auth_time"] == world.clock.now
    assert "patient" not in caller.claims
    assert caller.binding.kind is BindingKind.DPOP  # as the token that the app will get


async def test_an_app_whose_tokens_are_bound_to_no_key_is_said_to_be_one(
    world: World, finder: FinderInMemory
):
    _, person, page = await asked(world, app="smart-app")
    await sent(person, page, action="search", query="bert")
    assert finder.asked[0][0].caller.binding.kind is BindingKind.NONE
    assert finder.asked[0][0].caller.claims["unbound"] is True


@pytest.mark.parametrize("chosen", ["C", "Z", "", "../B", "A B", "Patient/B", "b"])
async def test_a_forged_choice_is_refused(world: World, chosen: str):
    _, person, page = await asked(world)
    refused = await sent(person, page, action="select", patient=chosen)
    assert refused.status == 400
    assert 'id="error"' in refused.text
    assert chosen not in refused.text or not chosen or chosen in ("C", "b", "Z")
    again = await person.visit(f"/consent?interaction={hidden(page)['interaction']}")
    assert 'name="query"' in again.text  # still nobody is chosen


async def test_an_answer_about_another_patient_is_no_answer(world: World, finder: FinderInMemory):
    async def another(asker: object, id: str) -> object:
        return replace((await FinderInMemory({"d0c7": {"A"}}).patient(asker, "A")), id="A")  # type: ignore

    finder.patient = another  # type: ignore[assignment,method-assign]
    _, person, page = await asked(world)
    assert (await sent(person, page, action="select", patient="B")).status == 400


async def test_nothing_is_found_of_people_whom_the_person_may_not_see(world: World):
    _, person, page = await asked(world)
    found = await sent(person, page, action="search", query="carl")
    assert 'id="nothing-found"' in found.text
    assert "Carl Hidden" not in found.text


async def test_whoever_may_not_search_is_told_so(world: World, finder: FinderInMemory):
    finder.refuses = True
    _, person, page = await asked(world)
    refused = await sent(person, page, action="search", query="anna")
    assert refused.status == 403
    assert "You may not search for patients here" in refused.text


@pytest.mark.parametrize("words", ["", "a", " a ", "x" * 101])
async def test_a_search_has_2_to_100_characters(world: World, finder: FinderInMemory, words: str):
    _, person, page = await asked(world)
    reply = await sent(person, page, action="search", query=words)
    assert reply.status == 400
    assert 'id="problem"' in reply.text
    assert finder.asked == []


async def test_words_come_back_as_text_and_never_as_markup(world: World):
    _, person, page = await asked(world)
    reply = await sent(person, page, action="search", query='"><b>x')
    assert "<b>" not in reply.text
    assert 'value="&#34;&gt;&lt;b&gt;x"' in reply.text


async def test_words_never_stand_in_an_address(world: World):
    _, person, page = await asked(world)
    await sent(person, page, action="search", query="bert")
    interaction = hidden(page)["interaction"]
    refused = await world.get(
        "/patient", query=f"interaction={interaction}&action=search&query=bert", headers=person._headers()
    )
    assert "Bert" not in refused.text


async def test_searches_are_counted_by_person(world: World, finder: FinderInMemory):
    finder.searches_per_minute = 3
    _, person, page = await asked(world)
    for _ in range(3):
        assert (await sent(person, page, action="search", query="bert")).status == 200
    waits = await sent(person, page, action="search", query="bert")
    assert waits.status == 429
    assert waits.header("retry-after") == "60"
    guessed = await sent(person, page, action="select", patient="B")
    assert guessed.status == 429  # a guess of an id is a question too
    world.clock.now += 60
    assert (await sent(person, page, action="search", query="bert")).status == 200


async def test_a_page_filled_in_whole_says_nothing_twice(world: World):
    app, person, page = await asked(world, NURSE)
    found = re.findall(r'<input type="hidden" name="([^"]+)"', page.text)
    assert len(forms(page)) == 2
    assert len(found) == len(set(found)) == 4
    consent = await sent(person, page, action="select", patient="A", query="")
    assert (await tokens(app, person, consent))["patient"] == "A"


@pytest.mark.parametrize("action", ["search", "select"])
async def test_a_form_without_its_token_asks_nothing(world: World, finder: FinderInMemory, action: str):
    _, person, page = await asked(world)
    form = hidden(page) | {"form_token": "x", "action": action, "query": "bert", "patient": "B"}
    assert (await world.post("/patient", form, headers=person._headers())).status == 403
    good = hidden(page) | {"action": action, "query": "bert", "patient": "B"}
    headers = [*person._headers(), ("origin", "https://evil.example")]
    assert (await world.post("/patient", good, headers=headers)).status == 403
    assert (await world.post("/patient", good)).status == 400  # another browser
    assert finder.asked == []


async def test_records_that_cannot_be_reached_are_said_to_be(world: World, finder: FinderInMemory):
    _, person, page = await asked(world)
    finder.is_down = True
    for fields in ({"action": "search", "query": "bert"}, {"action": "select", "patient": "B"}):
        down = await sent(person, page, **fields)
        assert down.status == 503
        assert "cannot be reached now" in down.text


async def test_a_choice_is_looked_at_again_at_the_consent_page(world: World, finder: FinderInMemory):
    _, person, consent = await picked(world)
    finder.sees["d0c7"] = {"A"}
    again = await person.visit(f"/consent?interaction={hidden(consent)['interaction']}")
    assert again.status == 400
    assert "Bert" not in again.text


async def test_another_person_at_the_same_visit_chooses_anew(world: World):
    _, person, consent = await picked(world)
    page = await sent(person, consent, action="other")
    page = await person.submit(page, username="mother", password=PASSWORD)
    assert 'name="query"' in page.text
    assert "Bert" not in page.text


async def test_the_ward_of_the_account_stands_first_and_others_can_be_searched(
    world: World, finder: FinderInMemory
):
    app, person, page = await asked(world, NURSE)
    assert "Anna of the ward" in page.text
    assert 'name="query"' in page.text
    consent = await sent(person, page, action="select", patient="A")
    assert finder.asked == []  # the account vouches for its own list
    assert (await tokens(app, person, consent))["patient"] == "A"
    app, person, page = await asked(world, NURSE)
    found = await sent(person, page, action="search", query="bert")
    assert "Bert Other" in found.text


async def test_a_person_with_an_own_record_speaks_for_that_alone(world: World, finder: FinderInMemory):
    app, person, page = await asked(world, ANNA)
    assert 'name="query"' not in page.text
    form = hidden(page) | {"action": "select", "patient": "B"}
    refused = await world.post("/patient", form, headers=person._headers())
    assert refused.status == 400
    assert (await tokens(app, person, page))["patient"] == "A"
    assert finder.asked == []


async def test_a_guardian_with_one_child_needs_not_choose_where_all_are_listed(
    world: World, finder: FinderInMemory
):
    finder.lists_at_once = True
    app, person, consent = await asked(world, GUARDIAN)
    assert "Record of <strong>Bert Other" in consent.text
    assert (await tokens(app, person, consent))["patient"] == "B"


async def test_several_are_listed_at_once_where_they_fit_and_else_none(world: World, finder: FinderInMemory):
    finder.lists_at_once = True
    _, _, page = await asked(world)
    assert page.text.count('name="patient"') == 2
    finder.is_whole = False
    _, _, page = await asked(world)
    assert page.text.count('name="patient"') == 0
    assert 'name="query"' in page.text


async def test_without_a_picker_all_is_as_it_was(world: World, finder: FinderInMemory):
    without = await world.reopen(profiles=EVERY)
    _, _, reply = await asked(without)
    assert answer_of(reply)["error"] == "access_denied"
    _, _, consent = await asked(without, NURSE)
    assert "Anna of the ward" in consent.text
    assert finder.asked == []


async def test_a_picker_is_for_its_own_resource(world: World):
    elsewhere = {"aud": "https://as.example/cda"}
    _, _, reply = await asked(world, **elsewhere)
    assert answer_of(reply)["error"] == "access_denied"


# After the choice


async def test_a_refresh_keeps_the_patient_and_looks_again(world: World, finder: FinderInMemory):
    app, person, consent = await picked(world)
    answer = await tokens(app, person, consent)
    finder.asked.clear()
    again = await app.refresh(answer["refresh_token"])
    assert again.json["patient"] == "B"
    ((asker, what),) = finder.asked
    assert what == "read B"
    assert (asker.caller.subject, asker.caller.scope) == ("d0c7", ("user/Patient.rs",))


async def test_whoever_may_not_see_the_patient_any_more_gets_no_refreshed_token(
    world: World, finder: FinderInMemory
):
    app, person, consent = await picked(world)
    answer = await tokens(app, person, consent)
    finder.sees["d0c7"] = set()
    assert (await app.refresh(answer["refresh_token"])).refusal == (400, "invalid_grant")
    finder.sees["d0c7"] = {"B"}
    assert (await app.refresh(answer["refresh_token"])).json["patient"] == "B"
    finder.is_down = True
    assert (await app.refresh(answer["refresh_token"])).refusal == (503, "temporarily_unavailable")


async def test_an_account_that_became_a_patients_has_nothing_picked(world: World, finder: FinderInMemory):
    app, person, consent = await picked(world)
    answer = await tokens(app, person, consent)
    accounts = {**ACCOUNTS, "doctor": replace(DOCTOR, patient="Z")}
    later = await world.reopen(accounts=accounts, profiles=EVERY, **with_picker(finder))
    refused = await SmartApp(later, "smart-secret").refresh(answer["refresh_token"])
    assert refused.refusal == (400, "invalid_grant")


async def test_a_picker_that_was_switched_off_refreshes_nothing_that_was_picked(world: World):
    app, person, consent = await picked(world)
    answer = await tokens(app, person, consent)
    later = await world.reopen(profiles=EVERY)
    refused = await SmartApp(later, "smart-secret").refresh(answer["refresh_token"])
    assert refused.refusal == (400, "invalid_grant")


async def test_prompt_none_takes_an_earlier_choice_that_still_holds(world: World, finder: FinderInMemory):
    app, person, consent = await picked(world)
    await tokens(app, person, consent)
    code = answer_of(await app.ask(person, scope=SCOPE, prompt="none"))["code"]
    assert (await app.redeem(code)).json["patient"] == "B"
    finder.sees["d0c7"] = set()
    reply = await app.ask(person, scope=SCOPE, prompt="none")
    assert answer_of(reply)["error"] == "consent_required"
    finder.is_down = True
    reply = await app.ask(person, scope=SCOPE, prompt="none")
    assert answer_of(reply)["error"] == "temporarily_unavailable"


# Visits


async def test_S_L03_a_visit_is_chosen_and_told(world: World):
    app, person, page = await picked(world, scope=VISIT)
    assert "Which visit?" in page.text
    assert "Check-up, 5 March 2026, 11:00" in page.text
    assert "Hidden visit" not in page.text
    consent = await sent(person, page, action="select", encounter="E-2")
    assert "Visit: <strong>Check-up, 5 March 2026, 11:00" in consent.text
    answer = await tokens(app, person, consent)
    assert (answer["patient"], answer["encounter"], answer["scope"]) == ("B", "E-2", VISIT)
    assert claims_of(answer["access_token"])["encounter"] == "E-2"
    told = (await world.app("resource-server").post("/introspect", {"token": answer["access_token"]})).json
    assert (told["patient"], told["encounter"]) == ("B", "E-2")
    again = (await app.refresh(answer["refresh_token"])).json
    assert (again["patient"], again["encounter"]) == ("B", "E-2")


@pytest.mark.parametrize("chosen", ["E-1", "E-3", "E-9", "", "../E-2"])
async def test_a_forged_visit_is_refused(world: World, chosen: str):
    _, person, page = await picked(world, scope=VISIT)
    refused = await sent(person, page, action="select", encounter=chosen)
    assert refused.status == 400
    again = await person.visit(f"/consent?interaction={hidden(page)['interaction']}")
    assert "Which visit?" in again.text


async def test_whoever_goes_on_without_a_visit_does_not_grant_the_scope(world: World):
    app, person, page = await picked(world, scope=VISIT)
    consent = await sent(person, page, action="without")
    assert "launch/encounter" not in consent.text
    answer = await tokens(app, person, consent)
    assert "encounter" not in answer
    assert answer["scope"] == SCOPE


async def test_without_a_visit_and_nothing_else_asked_for_nothing_is_granted(world: World):
    _, person, page = await picked(world, scope="launch/encounter")
    assert answer_of(await sent(person, page, action="without"))["error"] == "access_denied"
    _, person, page = await picked(world, scope="launch/encounter")
    assert answer_of(await sent(person, page, action="cancel"))["error"] == "access_denied"


async def test_the_scope_launch_encounter_alone_tells_the_visit_and_not_the_patient(world: World):
    app, person, page = await picked(world, scope="launch/encounter user/Observation.rs")
    answer = await tokens(app, person, await sent(person, page, action="select", encounter="E-2"))
    assert answer["encounter"] == "E-2"
    assert "patient" not in answer


async def test_another_patient_needs_another_visit(world: World):
    _, person, page = await picked(world, scope=VISIT)
    await sent(person, page, action="select", encounter="E-2")
    form = hidden(page) | {"action": "select", "patient": "A"}
    page = await person._follow(await world.post("/patient", form, headers=person._headers()))
    assert "Emergency visit" in page.text
    assert "Check-up" not in page.text


async def test_a_patient_chooses_a_visit_of_the_own_record_as_the_patient(
    world: World, finder: FinderInMemory
):
    app, person, page = await asked(world, ANNA, scope=VISIT)
    assert "Emergency visit" in page.text
    asker, _ = finder.asked[-1]
    assert asker.caller.scope == ("patient/Encounter.rs", "patient/Patient.rs")
    assert asker.caller.claims["patient"] == "A"
    answer = await tokens(app, person, await sent(person, page, action="select", encounter="E-1"))
    assert (answer["patient"], answer["encounter"]) == ("A", "E-1")
    again = (await app.refresh(answer["refresh_token"])).json
    assert again["encounter"] == "E-1"


async def test_a_form_of_the_visits_needs_its_token(world: World):
    _, person, page = await picked(world, scope=VISIT)
    form = hidden(page) | {"form_token": "x", "action": "select", "encounter": "E-2"}
    assert (await world.post("/encounter", form, headers=person._headers())).status == 403


async def test_a_visit_that_nobody_asked_for_cannot_be_chosen(world: World):
    _, person, page = await picked(world)
    form = hidden(page) | {"action": "select", "encounter": "E-2"}
    assert (await world.post("/encounter", form, headers=person._headers())).status == 400


async def test_a_visit_is_left_out_where_there_is_no_picker(world: World):
    without = await world.reopen(profiles=EVERY)
    app, person, page = await asked(without, NURSE, scope=VISIT)
    assert (await tokens(app, person, page))["scope"] == SCOPE


async def test_the_capability_is_told_where_a_visit_can_be_chosen(world: World):
    path = "/.well-known/smart-configuration"
    assert "context-standalone-encounter" in (await world.get(path)).json["capabilities"]
    without = await world.reopen()
    assert "context-standalone-encounter" not in (await without.get(path)).json["capabilities"]


async def test_an_unticked_visit_is_not_told(world: World):
    app, person, page = await picked(world, scope=VISIT)
    consent = await sent(person, page, action="select", encounter="E-2")
    form = hidden(consent) | {"scope": "patient/*.rs", "action": "allow"}
    code = answer_of(await world.post("/consent", form, headers=person._headers()))["code"]
    answer = (await app.redeem(code)).json
    assert answer["patient"] == "B"
    assert "encounter" not in answer
    assert unescape(answer["scope"]) == "patient/*.rs"


async def test_a_token_with_a_picked_record_is_for_the_resource_where_it_was_picked(world: World):
    both = {"resource": [FHIR, CDA]}
    app, person, consent = await picked(world, **both)
    answer = await tokens(app, person, consent)
    assert claims_of(answer["access_token"])["aud"] == FHIR
    code = answer_of(await app.ask(person, scope=SCOPE, prompt="none", **both))["code"]
    assert claims_of((await app.redeem(code)).json["access_token"])["aud"] == FHIR


async def test_a_choice_that_was_lost_at_the_consent_page_allows_nothing(
    world: World, finder: FinderInMemory
):
    _, person, consent = await picked(world)
    finder.sees["d0c7"] = {"A"}
    refused = await person.consent(consent)
    assert refused.status == 400
    assert refused.header("location") is None


async def test_what_is_allowed_is_what_the_page_showed(world: World):
    _, person, page = await asked(world)
    shown = await sent(person, page, action="select", patient="B")
    assert "Bert Other" in shown.text
    await sent(person, page, action="select", patient="A")  # in another tab
    refused = await person.consent(shown)
    assert refused.status == 400
    assert "Another record" in refused.text


async def test_prompt_none_for_another_base_is_not_covered_by_what_was_picked(world: World):
    app, person, consent = await picked(world, scope="launch/encounter user/Observation.rs")
    await tokens(app, person, await sent(person, consent, action="select", encounter="E-2"))
    reply = await app.ask(person, scope="user/Observation.rs", aud=CDA, prompt="none")
    assert answer_of(reply)["error"] == "consent_required"

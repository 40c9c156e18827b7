"""What is allowed to an app at the consent page is a consent of the patient, and each of the two ends with the other."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from authz.protocol.tokens import Grant
from authz.storage.consents import ConsentVersion, NoRoomLeft, Room
from authz.storage.store import Store, StoreUnavailable
from gateway.consent_service.grants import SCOPE_URL, GrantConsents, settled
from gateway.consent_service.room import MOST_CONSENTS
from gateway.consent_service.rules import advice, check_consent
from gateway.consent_service.versions import next_version
from tests.support.authorization_server import (
    ANNA,
    FHIR,
    ISSUER,
    REDIRECT_URI,
    Person,
    Reply,
    World,
    answer_of,
    open_world,
)
from tests.support.consent_desk import at_desk, consent, start_desk
from tests.support.gateway import RunningGateway, stop_gateway
from tests.support.store_contract import GRANT


class Keeper:
    """Keeps the consents of FHIR in the world's own store, once that is there."""

    world: World | None = None
    fails = False

    @property
    def usual_room(self) -> Room:
        """As GivenConsents."""
        return self._consents().usual_room

    async def room(self, grant: Grant) -> Room | None:
        """As GivenConsents."""
        return await self._consents().room(grant)

    def of(self, grant: Grant, client_name: str) -> ConsentVersion | None:
        """As GivenConsents."""
        if self.fails:
            raise StoreUnavailable("the store is away")
        return self._consents().of(grant, client_name)

    def stored(self, consent: ConsentVersion) -> None:
        """As GivenConsents."""
        self._consents().stored(consent)

    def _consents(self) -> GrantConsents:
        assert self.world is not None
        return GrantConsents(base=FHIR, issuer=ISSUER, store=self.world.store, clock=self.world.clock)


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
async def world(tmp_path: Path, keeper: Keeper) -> AsyncIterator[World]:
    async with open_world(tmp_path, given={FHIR: keeper}) as opened:
        keeper.world = opened
        yield opened


async def kept(world: World) -> tuple[ConsentVersion, dict[str, Any]]:
    (found,) = await settled(world.store, await world.store.consents_of(FHIR, ["A"]), world.clock())
    return found, json.loads(found.resource)


async def allowed(world: World) -> tuple[Any, Reply]:
    app, person = world.app(), Person(world)
    return app, await person.consent(await person.sign_in(await app.push()))


async def test_what_a_person_allows_is_recorded_as_a_consent_of_the_patient(world: World) -> None:
    app, reply = await allowed(world)
    tokens = await app.redeem(answer_of(reply)["code"])
    assert tokens.status == 200
    version, value = await kept(world)
    assert (version.version, version.status, version.recorded_by) == (1, "active", ANNA.subject)
    assert version.grant_id is not None
    assert await world.store.grant(version.grant_id, now=world.clock()) is not None
    check_consent(value)
    assert value["provision"]["type"] == "permit"
    (actor,) = value["provision"]["actor"]
    assert actor["reference"]["identifier"] == {"system": ISSUER, "value": "portal"}
    assert actor["reference"]["display"] == world.clients["portal"].name
    assert "class" not in value["provision"]  # patient/*.rs
    scopes = [each["valueString"] for each in value["extension"] if each["url"] == SCOPE_URL]
    assert sorted(scopes) == sorted(tokens.json["scope"].split())
    assert set(advice(value)) <= {"organization is missing", "source is missing", "performer is missing"}


async def test_who_refuses_gives_no_consent(world: World) -> None:
    app, person = world.app(), Person(world)
    await person.consent(await person.sign_in(await app.push()), action="deny")
    assert await world.store.consents_of(FHIR, ["A"]) == []


async def test_without_its_consent_an_app_gets_no_code(world: World, keeper: Keeper) -> None:
    keeper.fails = True
    _, reply = await allowed(world)
    assert reply.status == 503
    assert REDIRECT_URI not in (reply.header("location") or "")


async def filled(world: World, *, grant_id: str | None = None, leaving: int = 0) -> None:
    """So many consents about the patient as there can be, but for some."""
    for number in range(MOST_CONSENTS - leaving):
        made = next_version(
            consent(), None, base=FHIR, id=f"c{number}", now=world.clock(), by="desk", grant_id=grant_id
        )
        assert await world.store.add_consent(made)


async def test_where_there_is_no_room_for_its_consent_an_app_gets_no_code_and_the_person_hears_why(
    world: World,
) -> None:
    await filled(world)
    _, reply = await allowed(world)
    assert reply.status == 409
    assert "as many consents about this record as there can be" in reply.text
    assert REDIRECT_URI not in (reply.header("location") or "")
    assert await world.store.grants(subject=None, client_id=None, now=world.clock()) == []
    assert len(await world.store.consents_of(FHIR, ["A"])) == MOST_CONSENTS


async def test_of_those_who_allow_at_the_same_moment_as_many_get_a_code_as_there_is_room(
    world: World, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is told that there is room before the first has taken it."""
    await filled(world, leaving=2)
    asked = asyncio.Barrier(4)
    room = keeper.room

    async def at_once(grant: Grant) -> Room | None:
        found = await room(grant)
        await asked.wait()
        return found

    monkeypatch.setattr(keeper, "room", at_once)
    async with asyncio.timeout(20):
        replies = [reply for _, reply in await asyncio.gather(*(allowed(world) for _ in range(4)))]
    assert sorted(reply.status for reply in replies) == [303, 303, 409, 409]
    assert len(await world.store.consents_of(FHIR, ["A"])) == MOST_CONSENTS
    assert len(await world.store.grants(subject=None, client_id=None, now=world.clock())) == 2


async def test_an_app_that_is_let_in_anew_has_its_own_oldest_grant_give_way_where_there_is_no_room(
    world: World,
) -> None:
    """Else a patient whose app signs in anew each day is left without it after two hundred days."""
    first, reply = await allowed(world)
    before = await first.redeem(answer_of(reply)["code"])
    world.clock.now += 3600
    second, reply = await allowed(world)
    assert (await second.redeem(answer_of(reply)["code"])).status == 200
    world.clock.now += 3600
    await filled(world, leaving=2)
    app, reply = await allowed(world)
    tokens = await app.redeem(answer_of(reply)["code"])
    assert tokens.status == 200
    await first.learn_nonce()
    ended = await first.post(
        "/token", {"grant_type": "refresh_token", "refresh_token": before.json["refresh_token"]}
    )
    assert (ended.status, ended.json["error"]) == (400, "invalid_grant")
    live = await world.store.grants(subject=None, client_id=None, now=world.clock())
    assert len(live) == 2
    newest = await settled(world.store, await world.store.consents_of(FHIR, ["A"]), world.clock())
    assert sorted(each.status for each in newest) == ["active"] * MOST_CONSENTS + ["inactive"]
    (over,) = [each for each in newest if each.status == "inactive"]
    assert over.recorded_by == ANNA.subject
    assert over.grant_id not in {grant.grant_id for grant in live}


async def test_an_app_of_very_many_grants_keeps_its_ten_newest_beside_the_new_one(world: World) -> None:
    for _ in range(12):
        await allowed(world)
        # As if the code of each had been redeemed for a refresh token.
        for grant in await world.store.grants(subject=None, client_id=None, now=world.clock()):
            await world.store.put_grant(grant, expires_at=world.clock() + 90 * 86400)
        world.clock.now += 3600
    await filled(world, leaving=12)
    _, reply = await allowed(world)
    assert reply.status == 303
    assert len(await world.store.grants(subject=None, client_id=None, now=world.clock())) == 11


async def test_grants_of_another_app_person_or_record_give_way_to_nobody(world: World) -> None:
    for strange in (
        {"client_id": "another-app"},
        {"subject": "another-person"},
        {"context": {"patient": "C"}},
        {"audience": ("https://elsewhere.example/fhir",)},
    ):
        usual = {
            "subject": ANNA.subject,
            "client_id": "portal",
            "context": {"patient": "A"},
            "audience": (FHIR,),
        }
        other = replace(GRANT, grant_id=f"of-{next(iter(strange))}", **{**usual, **strange, "created_at": 1})
        await world.store.put_grant(other, expires_at=world.clock() + 90 * 86400)
    await filled(world)
    _, reply = await allowed(world)
    assert reply.status == 409
    assert len(await world.store.grants(subject=None, client_id=None, now=world.clock())) == 4


@pytest.mark.parametrize(
    "person", ["Practitioner/dr1", "PractitionerRole/dr1-ward", f"{FHIR}/Practitioner/dr1"]
)
async def test_who_treats_a_patient_and_lets_an_app_in_says_nothing_for_the_patient(
    world: World, person: str
) -> None:
    grant = replace(GRANT, context={"patient": "A"}, claims={"fhirUser": person})
    consents = GrantConsents(base=FHIR, issuer=ISSUER, store=world.store, clock=world.clock)
    assert consents.of(grant, "An app") is None
    assert consents.of(replace(grant, claims={"fhirUser": "Patient/A"}), "An app") is not None
    await filled(world)
    with pytest.raises(NoRoomLeft):
        await consents.room(replace(grant, claims={"fhirUser": "Patient/A"}))
    assert await consents.room(grant) is None  # nobody who treats the patient is left without data


async def test_consents_whose_grants_have_ended_take_no_room(world: World) -> None:
    await filled(world, grant_id="it-ended")
    app, reply = await allowed(world)
    assert (await app.redeem(answer_of(reply)["code"])).status == 200


async def test_a_consent_lives_as_long_as_its_grant_and_ends_with_it(world: World) -> None:
    app, reply = await allowed(world)
    tokens = await app.redeem(answer_of(reply)["code"])
    world.clock.now += 30 * 86400  # longer than any access token
    version, _ = await kept(world)
    assert (version.version, version.status) == (1, "active")
    await app.learn_nonce()
    ended = await app.post("/revoke", {"token": tokens.json["refresh_token"]})
    assert ended.status == 200, ended.text
    version, value = await kept(world)
    assert (version.version, version.status) == (2, "inactive")
    assert value["provision"]["period"]["end"]
    history = await world.store.consent_history(FHIR, version.id)
    assert [each.status for each in history] == ["inactive", "active"]
    assert (await kept(world))[0].version == 2  # written down once


@pytest.mark.parametrize(
    ("scope", "types"),
    [
        (("patient/Observation.rs?category=laboratory", "patient/Condition.r"), ["Condition", "Observation"]),
        (("patient/Observation.rs", "patient/*.r"), None),
        (("user/Observation.rs", "patient/Patient.r"), ["Patient"]),
    ],
)
async def test_a_consent_names_the_types_that_were_allowed(
    world: World, keeper: Keeper, scope: tuple[str, ...], types: list[str] | None
) -> None:
    version = keeper.of(replace(GRANT, scope=scope), "App")
    assert version is not None
    provision = json.loads(version.resource)["provision"]
    assert ([each["code"] for each in provision["class"]] if "class" in provision else None) == types


@pytest.mark.parametrize("context", [{}, {"patient": "../B"}, {"patient": 7}])
async def test_without_a_patient_there_is_no_consent(
    world: World, keeper: Keeper, context: Mapping[str, object]
) -> None:
    assert keeper.of(replace(GRANT, context=context), "App") is None


# At the gateway


async def given_at(gateway: RunningGateway, grant_id: str) -> tuple[str, Store]:
    """The id of the consent of a live grant."""
    store, base = gateway.gateway.store, f"{gateway.origin}/fhir/r4"
    now = gateway.gateway.clock()
    grant = replace(GRANT, grant_id=grant_id, client_id="client-pA-r", created_at=now)
    await store.put_grant(grant, expires_at=now + 600)
    keeper = GrantConsents(base=base, issuer=gateway.origin, store=store, clock=gateway.gateway.clock)
    found = keeper.of(grant, "App")
    assert found is not None
    assert await store.add_consent(found)
    return found.id, store


async def test_to_revoke_the_consent_ends_the_grant_and_to_end_the_grant_the_consent(tmp_path: Path) -> None:
    gateway = await start_desk(tmp_path)
    try:
        id_, store = await given_at(gateway, "one")
        app = {"who": "pA-r", "grant_id": "one", "client_id": "client-pA-r"}
        read = await at_desk(gateway, "GET", f"/Consent/{id_}", **app)
        assert (read.status, read.json["status"]) == (200, "active"), read.raw
        amended = await at_desk(gateway, "PUT", f"/Consent/{id_}", read.json | {"dateTime": "2020"})
        assert (amended.status, amended.reason) == (409, "consent-status")
        revoked = await at_desk(gateway, "PUT", f"/Consent/{id_}", read.json | {"status": "inactive"})
        assert revoked.status == 200, revoked.raw
        assert await store.grant("one", now=gateway.gateway.clock()) is None
        refused = await at_desk(gateway, "GET", f"/Consent/{id_}", **app)
        assert (refused.status, refused.reason) == (401, "token-invalid")
        assert {"grant-revoked"} <= {str(each.get("event")) for each in await gateway.audit()}

        other, _ = await given_at(gateway, "two")
        await store.revoke_grant("two", now=gateway.gateway.clock(), keep_until=gateway.gateway.clock() + 600)
        ended = await at_desk(gateway, "GET", f"/Consent/{other}")
        assert (ended.json["status"], ended.json["meta"]["versionId"]) == ("inactive", "2")
        found = await at_desk(gateway, "GET", "/Consent?patient=A&status=active")
        assert other not in [each["resource"]["id"] for each in found.json.get("entry", [])]
    finally:
        await stop_gateway(gateway)


async def test_who_reads_between_the_end_of_the_grant_and_that_of_the_consent_hinders_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start_desk(tmp_path)
    try:
        id_, store = await given_at(gateway, "one")
        read = await at_desk(gateway, "GET", f"/Consent/{id_}")
        add, now = store.add_consent, gateway.gateway.clock()

        async def after_another(version: ConsentVersion, **named: Any) -> bool:
            if version.version == 2 and version.recorded_by == "dr1":
                assert await store.grant("one", now=now) is None
                newest = await store.consent(version.base, id_)
                assert newest is not None
                await settled(store, [newest], now)
            return await add(version)

        monkeypatch.setattr(store, "add_consent", after_another)
        revoked = await at_desk(gateway, "PUT", f"/Consent/{id_}", read.json | {"status": "inactive"})
        assert (revoked.status, revoked.json["meta"]["versionId"]) == (200, "3"), revoked.raw
        history = await store.consent_history(f"{gateway.origin}/fhir/r4", id_)
        said = [(each.version, each.status, each.recorded_by) for each in history]
        assert said[0] == (3, "inactive", "dr1")
        assert [status for _, status, _ in said] == ["inactive", "inactive", "active"]
    finally:
        await stop_gateway(gateway)

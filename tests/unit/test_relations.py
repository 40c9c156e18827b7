"""Who acts for whom by RelatedPersons: only what is this person's, in force, in a known relationship, and ends by itself."""

from dataclasses import replace
from typing import Any

import pytest

from authz.login.finding import Asker, FinderUnavailable
from authz.settings import Representation
from gateway.account.relations import RelatedPersonsAt
from gateway.account_settings import RelatedPersons
from tests.support.authorization_server import ANNA, FHIR, ISSUER, NOW, Clock, http_request

SYSTEM = "urn:h1:persons"
MARIA = replace(ANNA, patient=None, claims={"roles": ["guardian"]}, related_person="maria-7")
SETTINGS = RelatedPersons(SYSTEM, 18, frozenset({"see", "revoke"}))
REQUEST = http_request("GET", "/account")
KIM = {"resourceType": "Patient", "id": "K", "name": [{"text": "Kim Own"}], "birthDate": "2015-03-04"}


def related(**members: Any) -> dict[str, Any]:
    """Maria as the mother of Kim; None leaves a member out."""
    found = {
        "resourceType": "RelatedPerson",
        "id": "r1",
        "active": True,
        "identifier": [{"system": SYSTEM, "value": "maria-7"}],
        "patient": {"reference": "Patient/K"},
        "relationship": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": "MTH"}]}
        ],
    } | members
    return {name: value for name, value in found.items() if value is not None}


class RecordsInMemory:
    """gateway.account.relations.Records."""

    def __init__(self, *found: object, patient: object = KIM) -> None:
        self.found = list(found)
        self.patient = patient
        self.asked: list[tuple[Asker, str]] = []
        self.is_down = False

    async def resources(self, asker: Asker, type_: str, form: str) -> list[Any]:
        self.asked.append((asker, f"{type_}?{form}"))
        if self.is_down:
            raise FinderUnavailable
        return self.found

    async def resource(self, asker: Asker, type_: str, id_: str) -> Any:
        self.asked.append((asker, f"{type_}/{id_}"))
        return self.patient


def at(records: RecordsInMemory, clock: Clock | None = None) -> RelatedPersonsAt:
    return RelatedPersonsAt(
        SETTINGS, base=FHIR, issuer=ISSUER, records=lambda: records, clock=clock or Clock()
    )


async def represented(*found: object, patient: object = KIM) -> tuple[Representation, ...]:
    records = RecordsInMemory(*found, patient=patient)
    return (await at(records).with_related(MARIA, REQUEST)).represents


async def test_a_mother_by_the_records_acts_as_far_as_is_configured_until_the_child_is_of_age() -> None:
    (found,) = await represented(related())
    assert found == Representation(
        "K", "Kim Own", "MTH", frozenset({"see", "revoke"}), 1_993_507_200
    )  # 2033-03-04


async def test_the_records_are_asked_as_this_person_by_the_identifier_and_nothing_wider() -> None:
    records = RecordsInMemory(related())
    await at(records).with_related(MARIA, REQUEST)
    asker, asked = records.asked[0]
    assert asked == "RelatedPerson?identifier=urn%3Ah1%3Apersons%7Cmaria-7&active=true&_count=20"
    assert asker.caller.subject == MARIA.subject
    assert asker.caller.scope == ("user/RelatedPerson.rs", "user/Patient.rs")
    assert asker.caller.claims["roles"] == ["guardian"]
    assert records.asked[1][1] == "Patient/K"


@pytest.mark.parametrize(
    "members",
    [
        {"identifier": [{"system": SYSTEM, "value": "maria-8"}]},
        {"identifier": [{"system": "urn:other", "value": "maria-7"}]},
        {"identifier": None},
        {"identifier": "maria-7"},
        {"active": False},
        {"active": None},
        {"period": {"end": "2026-12-31"}},
        {"period": {"start": "2027-02-01"}},
        {"period": {"end": "soon"}},
        {"period": "x"},
        {"patient": None},
        {"patient": {"reference": "Patient/K/../L"}},
        {"patient": {"reference": "https://elsewhere.example/fhir/Patient/K"}},
        {"patient": {"reference": "Group/K"}},
        {"relationship": None},
        {"relationship": [{"coding": [{"system": "urn:other", "code": "MTH"}]}]},
        {"relationship": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": "NBOR"}]}]},
        {"modifierExtension": [{"url": "urn:x", "valueBoolean": True}]},
        {"resourceType": "Person"},
    ],
)  # fmt: skip
async def test_what_is_not_surely_so_lets_nobody_act(members: dict[str, Any]) -> None:
    assert await represented(related(**members)) == ()


@pytest.mark.parametrize(
    "patient",
    [
        None,
        {name: value for name, value in KIM.items() if name != "birthDate"},
        KIM | {"birthDate": "2015"},
        KIM | {"birthDate": "2015-02-30"},
        KIM | {"id": "L"},
    ],
)
async def test_a_patient_who_may_not_be_seen_or_has_no_birthday_is_not_acted_for(patient: object) -> None:
    assert await represented(related(), patient=patient) == ()


async def test_a_period_that_holds_and_a_reference_at_the_base_are_good() -> None:
    found = await represented(
        related(period={"start": "2020-01-01"}, patient={"reference": f"{FHIR}/Patient/K"})
    )
    assert [each.patient for each in found] == ["K"]


async def test_the_account_itself_counts_before_the_records() -> None:
    own = Representation("K", "Kim", "GUARD", ends_at=NOW + 9)
    account = replace(MARIA, represents=(own,))
    found = await at(RecordsInMemory(related())).with_related(account, REQUEST)
    assert found.represents == (own,)


async def test_an_account_that_names_no_person_is_not_asked_about() -> None:
    records = RecordsInMemory(related())
    assert await at(records).with_related(ANNA, REQUEST) is ANNA
    assert records.asked == []


async def test_it_is_asked_again_after_half_a_minute_and_what_was_taken_away_is_gone() -> None:
    clock, records = Clock(), RecordsInMemory(related())
    relations = at(records, clock)
    await relations.with_related(MARIA, REQUEST)
    records.found = []
    clock.now += 29
    assert len((await relations.with_related(MARIA, REQUEST)).represents) == 1
    clock.now += 1
    assert (await relations.with_related(MARIA, REQUEST)).represents == ()


async def test_records_that_cannot_be_reached_are_told_as_such() -> None:
    records = RecordsInMemory()
    records.is_down = True
    with pytest.raises(FinderUnavailable):
        await at(records).with_related(MARIA, REQUEST)

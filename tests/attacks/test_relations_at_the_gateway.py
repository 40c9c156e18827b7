"""Acting by RelatedPersons through a running gateway: policies decide whom a guardian finds, never another's child."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.account.relations import CLIENT, RelatedPersonsAt
from gateway.account_settings import RelatedPersons
from tests.attacks.test_pickers import GUARDIANS, WARDS
from tests.support.authorization_server import ANNA, http_request
from tests.support.gateway import MOUNT, RunningGateway, policies_with, start_gateway, stop_gateway

SYSTEM = "urn:h1:persons"
MOTHER = replace(
    ANNA,
    patient=None,
    claims={"fhirUser": "RelatedPerson/m", "roles": ["guardian"], "person": "m0m"},
    related_person="m0m",
)


def related(id_: str, patient: str, value: str) -> dict[str, Any]:
    """A RelatedPerson who is the mother of a patient."""
    code = {"system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": "MTH"}
    return {
        "resourceType": "RelatedPerson",
        "id": id_,
        "active": True,
        "identifier": [{"system": SYSTEM, "value": value}],
        "patient": {"reference": f"Patient/{patient}"},
        "relationship": [{"coding": [code]}],
    }


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    text = GUARDIANS.replace("resources: [Patient]", "resources: [Patient, RelatedPerson]")
    policies = policies_with(tmp_path, "50-guardians.yaml", text)
    (policies / "05-wards.yaml").write_text(WARDS)
    started = await start_gateway(tmp_path, policies=policies)
    own = started.upstream.resources
    own["Patient/A"] |= {"birthDate": "2020-05-01"}
    own["Patient/B"] |= {"birthDate": "2021-05-01"}
    own["RelatedPerson/m"] = related("m", "A", "m0m")
    own["RelatedPerson/x"] = related("x", "B", "another")
    yield started
    await stop_gateway(started)


async def represented(running: RunningGateway, **changes: Any) -> list[tuple[str, str]]:
    """Whom the account acts for."""
    base = running.origin + MOUNT
    relations = RelatedPersonsAt(
        RelatedPersons(SYSTEM, 18, frozenset({"see"})),
        base=base,
        issuer=running.origin,
        records=lambda: running.gateway._records[base],
        clock=running.gateway.clock,
    )
    page = http_request(
        "GET", "/account", headers=[("cookie", "__Host-securus=secret")], origin=running.origin
    )
    found = await relations.with_related(replace(MOTHER, **changes), page)
    return [(each.patient, each.relationship) for each in found.represents]


async def test_a_guardian_acts_for_the_child_of_theirs_that_the_policies_let_them_see(
    running: RunningGateway,
) -> None:
    assert await represented(running) == [("A", "MTH")]


async def test_a_store_that_answers_with_everybody_gives_nobody_elses_child(running: RunningGateway) -> None:
    assert await represented(running, related_person="another") == []
    assert await represented(running, related_person="nobody") == []


async def test_whom_no_rule_lets_see_related_persons_acts_for_nobody(running: RunningGateway) -> None:
    assert await represented(running, claims={"roles": ["visitor"], "person": "m0m"}) == []


async def test_every_question_is_recorded_as_one_of_the_pages(running: RunningGateway) -> None:
    await represented(running)
    asked = [record for record in await running.audit() if record.get("caller", {}).get("client") == CLIENT]
    assert [record["interaction"] for record in asked] == ["search", "read"]
    assert {record["caller"]["subject"] for record in asked} == {MOTHER.subject}

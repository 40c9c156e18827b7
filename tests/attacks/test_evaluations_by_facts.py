"""Access evaluation asks for facts and consents as a request does, within the same bounds, and shows nothing of them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession, web

from tests.attacks.test_facts_and_consents import CONSENTS, asked, condition, consent, policies, put, team
from tests.support.gateway import MOUNT, RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("evaluations-by-facts")]
PHYSICIAN = {
    "type": "user",
    "id": "dr1",
    "properties": {"roles": ["physician"], "fhirUser": "Practitioner/dr1"},
}
RESEARCHER = {"type": "user", "id": "dr1", "properties": {"roles": ["researcher"]}}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("evaluations")
    running = await start_gateway(folder, policies=policies(folder), consents=CONSENTS, answer_timeout=2.0)
    running.upstream.reset()
    put(running, team("t1", "A"), consent("c1"))
    yield running
    await stop_gateway(running)


def question(subject: dict[str, Any], resource: dict[str, Any], **context: str) -> dict[str, Any]:
    named = {"type": resource["resourceType"], "id": resource["id"], "properties": resource}
    return {"subject": subject, "action": {"name": "read"}, "resource": named, "context": context}


async def evaluated(gateway: RunningGateway, body: dict[str, Any], at: str = "evaluation") -> tuple[int, Any]:
    gateway.upstream.requests.clear()
    url = f"http://127.0.0.1:{gateway.operations_port}/access/v1/{at}"
    async with ClientSession() as session, session.post(url, json=body) as answer:
        return answer.status, await answer.json() if answer.status == 200 else await answer.text()


PATIENTS = [{"resourceType": "Patient", "id": id_} for id_ in ("A", "B")]


async def test_a_list_of_patients_decides_as_at_a_request(gateway: RunningGateway) -> None:
    for patient, decision in zip(PATIENTS, (True, False), strict=True):
        status, found = await evaluated(gateway, question(PHYSICIAN, patient))
        assert (status, found["decision"]) == (200, decision)
    status, found = await evaluated(gateway, question(PHYSICIAN, PATIENTS[0], mount=MOUNT))
    assert found["decision"] is True
    assert found["context"]["deciding_rules"] == ["lists/charts-of-my-patients"]
    assert set(asked(gateway)) <= {"GET /fhir/CareTeam"}


async def test_consents_of_many_questions_are_asked_together(gateway: RunningGateway) -> None:
    put(gateway, condition("k-a", "A"), condition("k-b", "B"))
    questions = [question(RESEARCHER, condition(f"k-{p.lower()}", p)) for p in ("A", "B", "A")]
    status, found = await evaluated(gateway, {"evaluations": questions}, "evaluations")
    assert status == 200
    assert [each["decision"] for each in found["evaluations"]] == [True, False, True]
    assert asked(gateway) == ["GET /fhir/Consent"]


async def test_the_consents_that_the_context_asks_for_are_told_and_decide(gateway: RunningGateway) -> None:
    asking = {"scope": "research", "actor": ["urn:study:dm2"], "purpose": ["HRESCH"]}
    resource = condition("k-a", "A")
    for actor, decision, said in (("urn:study:dm2", True, "permit"), ("urn:other", False, "no-consent")):
        body = question(RESEARCHER, resource)
        body["context"] = {"consent": {**asking, "actor": [actor]}}
        status, found = await evaluated(gateway, body)
        consent_ = found["context"]["consent"]
        assert (status, found["decision"], consent_["decision"]) == (200, decision, said)
    assert consent_["provisions"] == []
    status, found = await evaluated(gateway, question(RESEARCHER, resource))
    assert [(each["consent"], each["provision"]) for each in found["context"]["provisions"]] == [
        ("c1", "provision")
    ]
    status, found = await evaluated(gateway, question(PHYSICIAN, PATIENTS[0]))
    assert "provisions" not in found["context"]
    put(gateway, consent("c1", provision={"type": "permit", "dataPeriod": {"start": "2020"}}))
    open_ = {**question(PHYSICIAN, PATIENTS[0]), "context": {"consent": asking}}
    open_["resource"] = {"type": "Patient", "id": "A"}
    status, found = await evaluated(gateway, open_)
    consent_ = found["context"]["consent"]
    assert (found["decision"], consent_["decision"], consent_["depends_on_resource"]) == (
        False,
        "permit",
        True,
    )
    assert consent_["obligations"][0]["limits"] == {"dataPeriod": {"start": "2020"}}
    assert consent_["obligations"][0]["action"] == "only"
    put(gateway, consent("c1"))
    for wrong in ({"patient": "B"}, {"who": "x"}, {"actor": "x"}, {"scope": ""}, {"patient": "A B"}):
        status, text = await evaluated(
            gateway, {**question(RESEARCHER, resource), "context": {"consent": wrong}}
        )
        assert (status, "context.consent" in text) == (400, True)


async def test_what_cannot_be_had_opens_nothing(gateway: RunningGateway) -> None:
    async def failing(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=500)

    gateway.upstream.answer = failing
    try:
        status, found = await evaluated(gateway, question(RESEARCHER, condition("k-a", "A")))
        assert (status, found["decision"]) == (200, False)
    finally:
        gateway.upstream.answer = None


async def test_a_mount_that_is_not_there_is_told(gateway: RunningGateway) -> None:
    wrong: list[tuple[Any, str]] = [
        ("/fhir", f"context.mount must be one of {MOUNT}\n"),
        (5, "context.mount must be the path"),
    ]
    for mount, said in wrong:
        status, text = await evaluated(gateway, question(PHYSICIAN, PATIENTS[0], mount=mount))
        assert status == 400
        assert text.startswith(said)
        assert asked(gateway) == []


async def test_of_two_stores_none_is_asked_unless_it_is_named(tmp_path: Path) -> None:
    gateway = await start_gateway(tmp_path, policies=policies(tmp_path), second_mount="/archive")
    try:
        gateway.upstream.reset()
        put(gateway, team("t1", "A"))
        status, found = await evaluated(gateway, question(PHYSICIAN, PATIENTS[0]))
        assert (status, found["decision"], asked(gateway)) == (200, False, [])
        status, found = await evaluated(gateway, question(PHYSICIAN, PATIENTS[0], mount="/archive"))
        assert (found["decision"], asked(gateway)) == (True, ["GET /fhir/CareTeam"])
    finally:
        await stop_gateway(gateway)

"""Decisions of consents for other systems: the FHIR operation, and the CDS Hook by the shapes of its callers.

CDS Hooks 2.0 (discovery, request, card), and the request and response of the LEAP consent decision service.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.consents.consent import SCOPES, ConsentReading, ConsentSource
from gateway.fhir.labels import ACT_CODE, CONFIDENTIALITY, ORDER
from gateway.settings import ConsentSettings
from tests.support.five import JSON, attack
from tests.support.gateway import MOUNT, Reply, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("conformance")]

POLICY = """
policy: deciding
version: 1
owner: tests
status: enforce
text: Another system of the hospital asks for decisions.
rules:
  - rule: asks
    effect: permit
    who: {context: user, role: physician}
    may: [search, "operation:Patient/$consent-decision"]
    resources: [Patient]
    where: {ids: [A]}
    because: Documents are sent by consent.
"""
SETTINGS = ConsentSettings(
    ConsentSource(tags=frozenset({("urn:t", "desk")}), verified=False),
    keep=0,
    reading=ConsentReading(unlabelled=ORDER.index("N")),
)
HOOK = "/cds-services/patient-consent-consult"
TYPES = "http://hl7.org/fhir/resource-types"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("deciding")
    policies = policies_with(folder, "90-deciding.yaml", POLICY)
    running = await start_gateway(folder, policies=policies, consents=SETTINGS)
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()
    own = gateway.upstream.resources["Patient/A"]
    own["identifier"] = [{"system": "urn:mrn", "value": "4711"}]


def put(gateway: RunningGateway, provision: dict[str, Any], **more: Any) -> None:
    gateway.upstream.resources["Consent/c1"] = {
        "resourceType": "Consent",
        "id": "c1",
        "meta": {"versionId": "4", "tag": [{"system": "urn:t", "code": "desk"}]},
        "status": "active",
        "scope": {"coding": [{"system": SCOPES, "code": "patient-privacy"}]},
        "patient": {"reference": "Patient/A"},
        "provision": provision,
    } | more


def labels(*codes: str) -> list[dict[str, str]]:
    return [{"system": CONFIDENTIALITY if code in ORDER else ACT_CODE, "code": code} for code in codes]


# The operation


async def decide(gateway: RunningGateway, *said: dict[str, Any], patient: str = "A") -> Reply:
    body = json.dumps({"resourceType": "Parameters", "parameter": list(said)}).encode()
    return await attack(
        gateway, "POST", f"/Patient/{patient}/$consent-decision", who="dr1", headers=[JSON], body=body
    )


def values(reply: Reply, name: str) -> list[Any]:
    assert reply.status == 200, reply.raw[:500]
    assert reply.json["resourceType"] == "Parameters"
    found = [each for each in reply.json["parameter"] if each["name"] == name]
    return [next(value for key, value in each.items() if key != "name") for each in found]


def actor(reference: str) -> dict[str, Any]:
    return {"name": "actor", "valueReference": {"reference": reference}}


async def test_the_operation_tells_what_consents_say_and_by_which_provision(gateway: RunningGateway) -> None:
    nobody = await decide(gateway, actor("Practitioner/p"))
    assert (values(nobody, "decision"), values(nobody, "reason")) == (["no-consent"], ["silent"])
    put(
        gateway,
        {
            "type": "deny",
            "provision": [{"type": "permit", "actor": [{"reference": {"reference": "Practitioner/p"}}]}],
        },
    )
    reply = await decide(gateway, actor("Practitioner/p"), {"name": "purpose", "valueCode": "TREAT"})
    assert values(reply, "decision") == ["permit"]
    assert values(reply, "depends-on-resource") == [False]
    parts = {part["name"]: part for part in values(reply, "consent")[0]}
    assert parts["reference"]["valueReference"] == {"reference": "Consent/c1/_history/4"}
    assert parts["provision"]["valueString"] == "provision.provision[0]"
    assert values(await decide(gateway, actor("Practitioner/q")), "decision") == ["deny"]
    by_identifier = {"name": "actor", "valueIdentifier": {"system": "urn:c", "value": "app"}}
    assert values(await decide(gateway, by_identifier), "decision") == ["deny"]
    record = (await gateway.audit())[-1]
    assert (record["operation"], record["consents"]) == ("consent-decision", ["c1"])
    assert record["provisions"][0]["provision"] == "provision"


async def test_the_operation_tells_what_hangs_on_the_resource_and_decides_on_one(
    gateway: RunningGateway,
) -> None:
    put(
        gateway,
        {
            "type": "permit",
            "provision": [{"type": "deny", "securityLabel": labels("R"), "dataPeriod": {"start": "2020"}}],
        },
    )
    reply = await decide(gateway, {"name": "type", "valueCode": "Observation"})
    assert (values(reply, "decision"), values(reply, "depends-on-resource")) == (["permit"], [True])
    (obligation,) = values(reply, "obligation")
    assert {"name": "action", "valueCode": "hide"} in obligation
    assert {"name": "securityLabel", "valueCoding": labels("R")[0]} in obligation
    assert {"name": "dataPeriod", "valuePeriod": {"start": "2020"}} in obligation
    for codes, decision in ((("R",), "deny"), (("N",), "permit")):
        one = {
            "resourceType": "Observation",
            "id": "o",
            "meta": {"security": labels(*codes)},
            "subject": {"reference": "Patient/A"},
            "effectiveDateTime": "2024-05-01",
        }
        found = await decide(gateway, {"name": "resource", "resource": one})
        assert (values(found, "decision"), values(found, "depends-on-resource")) == ([decision], [False])


@pytest.mark.parametrize(
    ("parameter", "reason"),
    [
        ({"name": "who", "valueString": "x"}, "unsupported-parameter"),
        ({"name": "actor", "valueReference": {"display": "x"}}, "invalid-parameter"),
        ({"name": "purpose", "valueString": "TREAT"}, "invalid-parameter"),
        ({"name": "type", "valueCode": "Sugar"}, "invalid-parameter"),
        ({"name": "resource", "valueString": "x"}, "invalid-parameter"),
        (
            {
                "name": "resource",
                "resource": {"resourceType": "Observation", "subject": {"reference": "Patient/B"}},
            },
            "invalid-parameter",
        ),
    ],
)
async def test_the_operation_refuses_what_it_does_not_take(
    gateway: RunningGateway, parameter: dict[str, Any], reason: str
) -> None:
    reply = await decide(gateway, parameter)
    assert (reply.status, reply.reason) == (403 if reason == "unsupported-parameter" else 400, reason)
    twice = await decide(gateway, *[{"name": "scope", "valueCode": "research"}] * 2)
    assert twice.reason == "invalid-parameter"
    assert (await decide(gateway)).status == 200


async def test_the_operation_is_for_whom_policies_let_ask_about_whom_they_let_see(
    gateway: RunningGateway,
) -> None:
    hidden, unknown = await decide(gateway, patient="B"), await decide(gateway, patient="nobody")
    assert (hidden.status, hidden.reason) == (unknown.status, unknown.reason) == (404, "not-found")
    token = await gateway.token("dr1", roles=["nurse"])
    other = await attack(gateway, "POST", "/Patient/A/$consent-decision", token=token, sent=[])
    assert (other.status, other.reason) == (403, "interaction-closed")
    by_get = await attack(gateway, "GET", "/Patient/A/$consent-decision", who="dr1", sent=[])
    assert by_get.status == 403
    plain = await attack(gateway, "POST", "/Patient/A/$consent-decision", who="dr1")
    assert values(plain, "decision") == ["no-consent"]


# The CDS Hook


def call(**context: Any) -> dict[str, Any]:
    """A call as LEAP's documentation has it."""
    return {
        "hook": "patient-consent-consult",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {
            "patientId": [{"system": "urn:mrn", "value": "4711"}],
            "category": [{"system": SCOPES, "code": "patient-privacy"}],
            "purposeOfUse": ["TREAT"],
            "actor": [{"system": "urn:ietf:rfc:3986", "value": "2.16.840.1.113883.20.5"}],
        }
        | context,
    }


async def consult(gateway: RunningGateway, body: Any, *, token: str | None = None, **claims: Any) -> Reply:
    token = token or await gateway.token("dr1", **claims)
    sent = [
        ("Authorization", f"DPoP {token}"),
        ("DPoP", gateway.proof("POST", gateway.origin + HOOK, token)),
        ("Content-Type", "application/json"),
    ]
    return await gateway.send("POST", HOOK, sent, json.dumps(body).encode())


def card_of(reply: Reply) -> dict[str, Any]:
    """The one card, held to the response schema."""
    assert reply.status == 200, reply.raw[:500]
    (card,) = reply.json["cards"]
    assert set(card) == {"summary", "detail", "indicator", "source", "extension"}
    assert card["indicator"] in ("info", "warning", "critical")
    assert set(card["source"]) == {"label", "url"}
    extension = card["extension"]
    assert extension["decision"] == card["summary"]
    assert extension["decision"] in ("CONSENT_PERMIT", "CONSENT_DENY", "NO_CONSENT")
    for each in extension["obligations"]:
        assert each["id"] == {"system": ACT_CODE, "code": "REDACT"}
        assert set(each["parameters"]) <= {"codes", "exceptAnyOfCodes"}
        for codes in each["parameters"].values():
            assert codes
            assert all(set(code) == {"system", "code"} for code in codes)
    assert len(card["summary"]) < 140  # CDS Hooks 2.0: a card's summary
    assert isinstance(card, dict)
    return card


async def test_discovery_lists_the_service(gateway: RunningGateway) -> None:
    reply = await gateway.send("GET", "/cds-services")
    assert reply.status == 200
    (service,) = reply.json["services"]
    assert (service["id"], service["hook"]) == ("patient-consent-consult", "patient-consent-consult")
    assert service["description"]
    assert (await gateway.send("POST", "/cds-services")).status == 405
    assert (await gateway.send("GET", HOOK)).status == 405
    assert (await gateway.send("POST", "/cds-services/other")).status == 404


@pytest.mark.parametrize(
    ("provision", "decision", "indicator"),
    [
        ({"type": "permit"}, "CONSENT_PERMIT", "info"),
        ({"type": "deny"}, "CONSENT_DENY", "critical"),
        ({"type": "permit", "purpose": [{"code": "HRESCH"}]}, "NO_CONSENT", "warning"),
        (
            {"type": "permit", "actor": [{"reference": {"identifier": {"value": "2.16.840.1.113883.20.5"}}}]},
            "CONSENT_PERMIT",
            "info",
        ),
        (
            {"type": "deny", "actor": [{"reference": {"identifier": {"value": "2.16.840.1.113883.20.5"}}}]},
            "CONSENT_DENY",
            "critical",
        ),
    ],
)
async def test_a_card_tells_what_consents_say(
    gateway: RunningGateway, provision: dict[str, Any], decision: str, indicator: str
) -> None:
    put(gateway, provision)
    card = card_of(await consult(gateway, call()))
    assert (card["summary"], card["indicator"]) == (decision, indicator)
    based_on = card["extension"].get("basedOn")
    assert based_on == (None if decision == "NO_CONSENT" else f"{gateway.origin}{MOUNT}/Consent/c1")
    assert card["extension"]["obligations"] == []
    by_id = card_of(await consult(gateway, call(patientId="A")))
    by_url = card_of(
        await consult(gateway, call(patientId=[{"system": gateway.origin + MOUNT, "value": "A"}]))
    )
    assert by_id == by_url == card


@pytest.mark.parametrize(
    ("provision", "obligations"),
    [
        (
            {"type": "permit", "provision": [{"type": "deny", "securityLabel": labels("R")}]},
            [{"codes": labels("R", "V")}],
        ),
        (
            {"type": "permit", "provision": [{"type": "deny", "securityLabel": labels("PSY")}]},
            [{"codes": labels("PSY")}],
        ),
        ({"type": "permit", "securityLabel": labels("N")}, [{"exceptAnyOfCodes": labels("N")}]),
        (
            {
                "type": "permit",
                "provision": [{"type": "deny", "class": [{"system": TYPES, "code": "Condition"}]}],
            },
            [{"codes": [{"system": TYPES, "code": "Condition"}]}],
        ),
        # What codes cannot say is not permitted by a card.
        ({"type": "permit", "dataPeriod": {"start": "2020"}}, None),
        ({"type": "permit", "provision": [{"type": "deny", "dataPeriod": {"start": "2020"}}]}, None),
        ({"type": "permit", "securityLabel": labels("N"), "dataPeriod": {"start": "2020"}}, None),
    ],
)
async def test_a_card_names_what_must_be_redacted(
    gateway: RunningGateway, provision: dict[str, Any], obligations: list[dict[str, Any]] | None
) -> None:
    put(gateway, provision)
    card = card_of(await consult(gateway, call()))
    assert card["summary"] == ("CONSENT_DENY" if obligations is None else "CONSENT_PERMIT")
    assert [each["parameters"] for each in card["extension"]["obligations"]] == (obligations or [])


async def test_of_several_classes_each_must_be_permitted(gateway: RunningGateway) -> None:
    put(gateway, {"type": "permit", "class": [{"system": TYPES, "code": "Condition"}]})
    one, other = {"system": TYPES, "code": "Condition"}, {"system": TYPES, "value": "Observation"}
    for classes, decision in (
        ([one], "CONSENT_PERMIT"),
        ([other], "NO_CONSENT"),
        ([one, other], "NO_CONSENT"),
    ):
        assert card_of(await consult(gateway, call(**{"class": classes})))["summary"] == decision
    older = call(scope="research")
    del older["context"]["category"]
    assert card_of(await consult(gateway, older))["summary"] == "NO_CONSENT"


async def test_a_patient_whom_the_caller_does_not_find_has_no_consent(gateway: RunningGateway) -> None:
    put(gateway, {"type": "permit"})
    for value in (SECRET, "9999"):  # the identifier of a stranger, and of nobody
        card = card_of(await consult(gateway, call(patientId=[{"system": "urn:mrn", "value": value}])))
        assert card["summary"] == "NO_CONSENT"
    # By its id too: the answers to one who is hidden and to one who is not there are the same.
    stranger = await consult(gateway, call(patientId="B"))
    nobody = await consult(gateway, call(patientId="nobody"))
    assert card_of(stranger) == card_of(nobody)
    assert card_of(nobody)["summary"] == "NO_CONSENT"
    assert SECRET.encode() not in stranger.raw


@pytest.mark.parametrize("patient", ["A", "B", "nobody"])
async def test_who_may_ask_about_nobody_is_refused_whoever_is_named(
    gateway: RunningGateway, patient: str
) -> None:
    refused = await consult(gateway, call(patientId=patient), roles=["nurse"])
    assert (refused.status, refused.json["error"]) == (403, "refused")


@pytest.mark.parametrize(
    "body",
    [
        {},
        call() | {"hook": "patient-view"},
        call() | {"hookInstance": ""},
        call() | {"context": []},
        call(patientId=[]),
        call(patientId=[{"system": "urn:mrn"}]),
        call(patientId="A/B"),
        call(purposeOfUse=[7]),
        call(actor=["x"]),
        call(**{"class": [{"system": "urn:other", "code": "x"}]}),
        call(category=[{"code": "x"}] * 11),
        call() | {"fhirServer": "https://elsewhere.example/fhir"},
    ],
)
async def test_a_call_that_is_none_is_400(gateway: RunningGateway, body: dict[str, Any]) -> None:
    reply = await consult(gateway, body)
    assert (reply.status, reply.json["error"]) == (400, "bad_request"), reply.raw[:500]
    assert (await consult(gateway, call())).status == 200


async def test_a_call_needs_a_token_whose_policies_let_it_ask(gateway: RunningGateway) -> None:
    put(gateway, {"type": "permit"})
    nobody = await gateway.send(
        "POST", HOOK, [("Content-Type", "application/json")], json.dumps(call()).encode()
    )
    assert nobody.status == 401
    assert nobody.header("WWW-Authenticate")
    elsewhere = await consult(gateway, call(), aud="https://elsewhere.example/fhir")
    assert elsewhere.status == 401
    nurse = await consult(gateway, call(patientId="A"), roles=["nurse"])
    assert nurse.status == 403
    token = await gateway.token("dr1")
    text = await gateway.send(
        "POST",
        HOOK,
        [
            ("Authorization", f"DPoP {token}"),
            ("DPoP", gateway.proof("POST", gateway.origin + HOOK, token)),
            ("Content-Type", "text/plain"),
        ],
        b"{}",
    )
    assert text.status == 415


async def test_a_call_is_on_record_with_the_consent_that_answered(gateway: RunningGateway) -> None:
    put(gateway, {"type": "permit"})
    before = len(await gateway.audit())
    card_of(await consult(gateway, call()))
    records = [each for each in (await gateway.audit())[before:] if each.get("event") == "access"]
    assert [record["interaction"] for record in records] == ["search", "operation"]
    assert records[1]["provisions"][0] == {
        "consent": "c1", "version": "4", "provision": "provision", "decision": "permit", "why": "provision"
    }  # fmt: skip
    assert records[1]["caller"]["client"] == "client-dr1"


async def test_consents_that_cannot_be_had_are_503_and_no_card(gateway: RunningGateway) -> None:
    put(gateway, {"type": "permit"})
    resources = gateway.upstream.resources

    async def failing(request: web.BaseRequest) -> web.StreamResponse:
        if "/Consent" in request.path:
            return web.Response(status=500)
        return web.json_response(resources["Patient/A"], content_type="application/fhir+json")

    gateway.upstream.answer = failing
    reply = await consult(gateway, call(patientId="A"))
    assert (reply.status, reply.json["error"]) == (503, "unavailable")
    gateway.upstream.answer = None
    assert (await consult(gateway, call(patientId="A"))).status == 200

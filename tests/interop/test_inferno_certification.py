"""Inferno's certification kit, 45 CFR 170.315(g)(10): what it asks of authorization beyond the SMART kit.

A test an id of the kit with what that test asserts; inferno_checks.tsv says where each id stands.
"""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.demo.world import OTHER_PATIENT, PATIENT
from tests.support.inferno import (
    ASYMMETRIC,
    ENCOUNTER,
    PUBLIC,
    STANDALONE,
    SYMMETRIC,
    Browser,
    Inferno,
    Launch,
    Registration,
    Runs,
    inferno_at,
    launched,
)

pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("inferno-certification"),
    pytest.mark.asyncio(loop_scope="module"),
]
APPS = {"public": PUBLIC, "symmetric": SYMMETRIC, "asymmetric": ASYMMETRIC}
each_app = pytest.mark.parametrize("app", APPS.values(), ids=APPS)
GRANTED = ("Condition", "Observation", "Patient")
TYPES = (
    "AllergyIntolerance", "CarePlan", "CareTeam", "Condition", "Coverage", "DiagnosticReport", "DocumentReference",
    "Encounter", "Goal", "Immunization", "MedicationRequest", "Observation", "Procedure", "RelatedPerson",
    "ServiceRequest", "Specimen",
)  # fmt: skip
REQUIRED = {
    "launch-ehr", "launch-standalone", "authorize-post", "client-public", "client-confidential-symmetric",
    "client-confidential-asymmetric", "context-banner", "context-style", "context-ehr-patient",
    "context-ehr-encounter", "context-standalone-patient", "permission-offline", "permission-patient",
    "permission-user", "permission-v1", "permission-v2",
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inferno(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Inferno]:
    async with inferno_at(tmp_path_factory.mktemp("inferno")) as tester:
        yield tester


@pytest.fixture(scope="module")
def runs(inferno: Inferno) -> Runs:
    return Runs(inferno)


async def test_inferno_g10_smart_well_known_capabilities(inferno: Inferno) -> None:
    assert set((await inferno.well_known()).json["capabilities"]) >= REQUIRED


@pytest.mark.parametrize("kind", ["standalone", "ehr"])
async def test_inferno_g10_smart_scopes(runs: Runs, kind: str) -> None:
    run = await runs.of(PUBLIC, "GET", kind)
    for text in (run.asked.scope, run.told["scope"]):
        scopes = text.split(" ")
        assert {"openid", "fhirUser", "offline_access"} <= set(scopes)
        assert {"launch", "launch/patient"} & set(scopes)
        resources = [scope for scope in scopes if "/" in scope and not scope.startswith("launch/")]
        assert resources
        assert all(re.fullmatch(r"(patient|user)/(\*|[A-Za-z]+)\.rs", scope) for scope in resources)


async def test_inferno_g10_unauthorized_access(inferno: Inferno) -> None:
    assert (await inferno.fhir(f"/Patient/{PATIENT}")).status == 401


@each_app
@pytest.mark.parametrize("kind", ["standalone", "ehr"])
async def test_inferno_g10_patient_context(runs: Runs, app: Registration, kind: str) -> None:
    """The launches of g10_public_standalone_launch, g10_public_standalone_launch_stu2_2, g10_ehr_patient_launch,
    g10_ehr_patient_launch_stu2_2 and g10_asymmetric_launch.
    """
    told = (await runs.of(app, "GET", kind)).told
    read = await runs.inferno.fhir(f"/Patient/{told['patient']}", told["access_token"])
    assert (read.status, read.json["resourceType"]) == (200, "Patient")


@each_app
async def test_inferno_g10_encounter_context(runs: Runs, app: Registration) -> None:
    told = (await runs.of(app, "GET", "ehr")).told
    assert told["encounter"] == ENCOUNTER
    read = await runs.inferno.fhir(f"/Encounter/{told['encounter']}", told["access_token"])
    assert (read.status, read.json["resourceType"]) == (200, "Encounter")


async def test_inferno_g10_smart_style_url_and_g10_smart_need_patient_banner(runs: Runs) -> None:
    told = (await runs.of(PUBLIC, "GET", "ehr")).told
    style = await runs.inferno.send("GET", told["smart_style_url"])
    assert style.status == 200
    assert isinstance(style.json, dict)
    assert told["need_patient_banner"] is True


@each_app
async def test_inferno_g10_invalid_token_refresh(inferno: Inferno, app: Registration) -> None:
    form: dict[str, str | None] = {"grant_type": "refresh_token", "refresh_token": "INVALID_REFRESH_TOKEN"}
    reply = await inferno.token(app, form)
    assert (reply.status, reply.json["error"]) == (400, "invalid_grant")


async def test_inferno_g10_smart_asymmetric_token_refresh(runs: Runs) -> None:
    run = await runs.of(ASYMMETRIC, "GET", "standalone")
    assert run.refreshed.status == 200
    read = await runs.inferno.fhir(f"/Patient/{PATIENT}", run.refreshed.json["access_token"])
    assert read.status == 200


async def limited(inferno: Inferno) -> tuple[str, str]:
    """Token and scope of a launch whose person leaves out every type but three."""
    asked = "launch/patient openid fhirUser offline_access " + " ".join(
        f"patient/{t}.rs" for t in (*TYPES, "Patient")
    )
    launch = Launch(PUBLIC, asked)
    left_out = {f"patient/{t}.rs" for t in TYPES if t not in GRANTED}
    answer = await launch.arrive(inferno, "stephen", without=left_out)
    told = (await launch.redeem(inferno, answer["code"])).json
    return told["access_token"], told["scope"]


async def test_inferno_g10_limited_scope_grant_and_g10_restricted_resource_type_access(
    inferno: Inferno,
) -> None:
    token, scope = await limited(inferno)
    resources = {each for each in scope.split(" ") if each.startswith("patient/")}
    assert resources == {f"patient/{type_}.rs" for type_ in GRANTED}
    for type_ in TYPES:
        found = await inferno.fhir(f"/{type_}?patient={PATIENT}", token)
        assert found.status == (200 if type_ in GRANTED else 403), type_


async def test_inferno_g10_unrestricted_resource_type_access(runs: Runs) -> None:
    token = (await runs.of(PUBLIC, "GET", "standalone")).told["access_token"]
    for type_ in TYPES:
        found = await runs.inferno.fhir(f"/{type_}?patient={PATIENT}", token)
        assert found.status == 200, (type_, found.body)
    other = await runs.inferno.fhir(f"/Observation?patient={OTHER_PATIENT}", token)
    assert other.status == 200
    assert not other.json.get("entry")


@each_app
async def test_inferno_g10_token_revocation(inferno: Inferno, app: Registration) -> None:
    told = (await launched(inferno, app, STANDALONE, "stephen")).narrowed.json
    assert (await inferno.fhir(f"/Patient/{PATIENT}", told["access_token"])).status == 200
    said, headers = inferno.credentials(app)
    url = (await inferno.well_known()).json["revocation_endpoint"]
    form = said | {"token": told["refresh_token"]}
    assert (await inferno.send("POST", url, headers=headers, form=form)).status == 200
    assert (await inferno.fhir(f"/Patient/{PATIENT}", told["access_token"])).status == 401
    again: dict[str, str | None] = {"grant_type": "refresh_token", "refresh_token": told["refresh_token"]}
    assert (await inferno.token(app, again)).status == 400


async def test_inferno_g10_smart_invalid_aud(inferno: Inferno) -> None:
    """The tester attests that no code reached the app."""
    launch = Launch(PUBLIC, STANDALONE, changes={"aud": "https://inferno.healthit.gov/invalid_aud"})
    answer = await launch.arrive(inferno, "stephen")
    assert "code" not in answer
    assert answer["error"] == "invalid_target"


async def test_inferno_g10_smart_invalid_token_request(inferno: Inferno) -> None:
    launch = Launch(PUBLIC, STANDALONE)
    bad_code = await launch.redeem(inferno, "BAD_CODE")
    assert (bad_code.status, bad_code.json["error"]) == (400, "invalid_grant")
    code = (await launch.arrive(inferno, "stephen"))["code"]
    bad_client = await launch.redeem(inferno, code, client_id="BAD_CLIENT_ID")
    assert bad_client.status in (400, 401)
    assert bad_client.json["error"] == "invalid_client"
    assert (await launch.redeem(inferno, code)).status == 200


@pytest.mark.parametrize(
    "name", ["no_verifier", "blank_code_verifier", "bad_code_verifier", "plain_code_verifier"]
)
async def test_inferno_smart_no_verifier_token_request_and_the_like(inferno: Inferno, name: str) -> None:
    """smart_no_verifier_token_request, smart_blank_code_verifier_token_request, smart_bad_code_verifier_token_request,
    smart_plain_code_verifier_token_request.
    """
    launch = Launch(PUBLIC, STANDALONE)
    code = (await launch.arrive(inferno, "stephen"))["code"]
    challenge = launch.parameters(inferno.site.base)["code_challenge"]
    sent = {"no_verifier": None, "blank_code_verifier": "", "plain_code_verifier": challenge}
    reply = await launch.redeem(inferno, code, code_verifier=sent.get(name, "BAD" * 20))
    assert reply.status == 400
    assert reply.json["error"] in ("invalid_grant", "invalid_request")
    assert "access_token" not in reply.json


@pytest.mark.parametrize("method", ["plain", ""])
async def test_inferno_g10_smart_invalid_pkce_method_gets_no_code(inferno: Inferno, method: str) -> None:
    launch = Launch(PUBLIC, STANDALONE, changes={"code_challenge_method": method})
    answer = await launch.arrive(inferno, "stephen")
    assert answer["error"] == "invalid_request"
    assert "code" not in answer


async def test_inferno_g10_smart_v1_scopes(inferno: Inferno) -> None:
    asked = "launch/patient openid fhirUser offline_access patient/Patient.read patient/Observation.read"
    told = (await launched(inferno, PUBLIC, asked, "stephen")).told
    assert set(told["scope"].split(" ")) == set(asked.split(" "))
    assert (await inferno.fhir(f"/Patient/{PATIENT}", told["access_token"])).status == 200
    assert (await inferno.fhir("/Observation?_count=1", told["access_token"])).status == 200
    assert (await inferno.fhir("/Condition?_count=1", told["access_token"])).status == 403


async def test_inferno_g10_smart_granular_scope_selection(inferno: Inferno) -> None:
    """The app asks for whole types, and the person picks parts of them."""
    category = "http://terminology.hl7.org/CodeSystem"
    only = [
        f"patient/Condition.rs?category={category}/condition-category|problem-list-item",
        f"patient/Observation.rs?category={category}/observation-category|vital-signs",
    ]
    launch = Launch(PUBLIC, "launch/patient patient/Patient.rs patient/Condition.rs patient/Observation.rs")
    answer = await launch.arrive(inferno, "stephen", only=only)
    told = (await launch.redeem(inferno, answer["code"])).json
    scopes = told["scope"].split(" ")
    for type_ in ("Condition", "Observation"):
        of_type = [scope for scope in scopes if scope.startswith(f"patient/{type_}.")]
        assert of_type
        assert all(re.fullmatch(rf"patient/{type_}\.(\*|c?ru?d?s?)\?.+=.+", scope) for scope in of_type)
    assert any(scope.startswith("patient/Patient.r") for scope in scopes)
    found = (await inferno.fhir("/Observation?_count=50", told["access_token"])).json["entry"]
    codes = {entry["resource"]["category"][0]["coding"][0]["code"] for entry in found}
    assert codes == {"vital-signs"}


async def test_inferno_visual_inspection_of_what_the_person_is_told(inferno: Inferno) -> None:
    """What the tester looks at: every scope in words, offline access among them."""
    browser = Browser(inferno, "stephen")
    asked = Launch(PUBLIC, STANDALONE).parameters(inferno.site.base)
    url = (await inferno.well_known()).json["authorization_endpoint"]
    await browser.answer("POST", url, list(asked.items()), press="deny")
    page = browser.pages[-1]
    for scope in ("offline_access", "patient/*.rs", "launch/patient"):
        assert f'value="{scope}"' in page, scope
    words = dict(re.findall(r'value="([^"]+)" checked.*?<label[^>]*>([^<]+)</label>', page, re.S))
    assert len(set(words.values())) == len(words)
    assert not set(words) & set(words.values())  # words, not the scope again

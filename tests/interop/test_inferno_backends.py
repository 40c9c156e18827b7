"""Inferno without people: backend services and introspection of the SMART kit 2.2, and the Bulk Data kit 2.0.

A test an id of the kits with what that test asserts; inferno_checks.tsv says where each id stands.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.demo.client import Reply
from gateway.demo.world import OTHER_PATIENT, PATIENT
from tests.support.inferno import (
    BACKEND,
    PUBLIC,
    SYMMETRIC,
    Inferno,
    Registration,
    Runs,
    inferno_at,
    read_part,
)
from tests.support.smart_site import BACKEND_SCOPE

pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("inferno-backends"),
    pytest.mark.asyncio(loop_scope="module"),
]
ASYNCHRONOUS = {"Prefer": "respond-async"}
KICK_OFF = "/Group/ward/$export"
FORM: dict[str, str | None] = {"grant_type": "client_credentials", "scope": BACKEND_SCOPE}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inferno(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Inferno]:
    async with inferno_at(tmp_path_factory.mktemp("inferno")) as tester:
        yield tester


@pytest.fixture(scope="module")
def runs(inferno: Inferno) -> Runs:
    return Runs(inferno)


# Backend services


@pytest.mark.parametrize("name", ["invalid_grant_type", "password", ""])
async def test_inferno_smart_backend_services_invalid_grant_type(inferno: Inferno, name: str) -> None:
    reply = await inferno.token(BACKEND, FORM | {"grant_type": name})
    assert reply.status == 400
    assert reply.json["error"] in ("unsupported_grant_type", "invalid_request")


@pytest.mark.parametrize("kind", ["not_a_type", None])
async def test_inferno_smart_backend_services_invalid_client_assertion(
    inferno: Inferno, kind: str | None
) -> None:
    reply = await inferno.token(BACKEND, FORM | {"client_assertion_type": kind})
    assert reply.status in (400, 401)
    assert reply.json["error"] == "invalid_client"


async def test_inferno_smart_backend_services_invalid_jwt(inferno: Inferno) -> None:
    """The kit sends its bad assertion type again here; what it means to send is a bad JWT."""
    good, _ = inferno.credentials(BACKEND)
    header, claims, signature = good["client_assertion"].split(".")
    other, _ = inferno.credentials(BACKEND, jti="another")
    now = int(time.time())
    bad = [
        "not-a-jwt",
        f"{header}.{claims}.",
        f"{header}.{claims}.{other['client_assertion'].split('.')[2]}",
        f"{header}.{claims}.{signature}x",
        *(
            inferno.credentials(BACKEND, **changes)[0]["client_assertion"]
            for changes in (
                {"exp": now - 60},
                {"exp": now + 3600},
                {"aud": "https://elsewhere.example/token"},
                {"iss": "another"},
                {"sub": "another"},
                {"header": {"kid": "unknown"}},
                {"header": {"alg": "none"}},
                {"header": {"alg": "ES384"}},
            )
        ),
    ]
    for assertion in bad:
        reply = await inferno.token(BACKEND, FORM | {"client_assertion": assertion})
        assert reply.status in (400, 401), assertion
        assert reply.json["error"] == "invalid_client", assertion


async def test_inferno_smart_backend_services_auth_request_success(inferno: Inferno) -> None:
    assert (await inferno.token(BACKEND, FORM)).status == 200


async def test_inferno_smart_backend_services_auth_response_body(inferno: Inferno) -> None:
    told = (await inferno.token(BACKEND, FORM)).json
    assert told["access_token"]
    assert told["token_type"].casefold() == "bearer"
    assert 0 < told["expires_in"] <= 300
    assert told["scope"] == BACKEND_SCOPE
    assert "refresh_token" not in told


async def test_inferno_bulk_data_authorization_of_the_certification_kit(inferno: Inferno) -> None:
    """multi_patient_api: an assertion is good once, and what it opens is what its scopes say."""
    said, headers = inferno.credentials(BACKEND)
    url = (await inferno.well_known()).json["token_endpoint"]
    form = {name: value for name, value in FORM.items() if value is not None} | said
    assert (await inferno.send("POST", url, headers=headers, form=form)).status == 200
    again = await inferno.send("POST", url, headers=headers, form=form)
    assert again.json["error"] == "invalid_client"


# Introspection


async def introspected(inferno: Inferno, token: str, way: str) -> Reply:
    """The answer to a resource server: by its credentials, or by a token of its own, as the tester gives them."""
    if way == "credentials":
        async with inferno.site.gateway.session("resource-server") as asker:
            await asker.discover()
            return await asker.post(asker.endpoint("introspection_endpoint"), {"token": token})
    form = {"grant_type": "client_credentials", "scope": "securus/introspect"}
    own = (await inferno.token(Registration("imaging", "ES384"), form)).json["access_token"]
    url = (await inferno.well_known()).json["introspection_endpoint"]
    return await inferno.send("POST", url, headers={"Authorization": f"Bearer {own}"}, form={"token": token})


@pytest.mark.parametrize("way", ["credentials", "token"])
@pytest.mark.parametrize("kind", ["standalone", "ehr"])
@pytest.mark.parametrize("app", [PUBLIC, SYMMETRIC], ids=["public", "symmetric"])
async def test_inferno_introspection_request_and_introspection_response_of_an_active_token(
    runs: Runs, app: Registration, kind: str, way: str
) -> None:
    """Also g10_token_introspection."""
    told = (await runs.of(app, "GET", kind)).told
    reply = await introspected(runs.inferno, told["access_token"], way)
    assert reply.status == 200
    said = reply.json
    assert said["active"] is True
    assert said["client_id"] == app.client_id
    assert set(said["scope"].split(" ")) == set(told["scope"].split(" "))
    assert type(said["exp"]) is int
    assert said["exp"] >= time.time() - 600
    context = ("patient", "encounter", "need_patient_banner", "smart_style_url", "fhirContext")
    assert {name: said.get(name) for name in context} == {name: told.get(name) for name in context}
    assert said["iss"] == read_part(told["id_token"], 1)["iss"]
    assert said["sub"] == read_part(told["id_token"], 1)["sub"]
    assert said["fhirUser"] == read_part(told["id_token"], 1)["fhirUser"]


@pytest.mark.parametrize("way", ["credentials", "token"])
@pytest.mark.parametrize("token", ["invalid_token_value", "a.b.c"])
async def test_inferno_introspection_request_and_introspection_response_of_an_invalid_token(
    inferno: Inferno, token: str, way: str
) -> None:
    reply = await introspected(inferno, token, way)
    assert (reply.status, reply.json) == (200, {"active": False})


# Bulk data


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def token(inferno: Inferno) -> str:
    return str((await inferno.token(BACKEND, FORM)).json["access_token"])


async def begun(inferno: Inferno, token: str, query: str = "") -> Reply:
    return await inferno.fhir(f"{KICK_OFF}{query}", token, **ASYNCHRONOUS)


async def finished(inferno: Inferno, job: str, token: str) -> Reply:
    """The status when it is no longer 202; Retry-After is honoured."""
    for _ in range(20):
        reply = await inferno.fhir(job, token, Accept="application/json")
        if reply.status != 202:
            return reply
        assert int(reply.headers["retry-after"]) >= 0
        await asyncio.sleep(min(int(reply.headers["retry-after"]), 1))
    raise AssertionError("the export does not end")


async def ended(inferno: Inferno, job: str, token: str) -> Reply:
    return await inferno.send("DELETE", job, headers={"Authorization": f"Bearer {token}"})


async def test_inferno_bulk_data_group_export_operation_support(inferno: Inferno) -> None:
    (rest,) = (await inferno.fhir("/metadata")).json["rest"]
    (group,) = (each for each in rest["resource"] if each["type"] == "Group")
    assert [each["name"] for each in group["operation"]] == ["export"]


async def test_inferno_bulk_data_no_auth_reject(inferno: Inferno) -> None:
    assert (await inferno.fhir(KICK_OFF, **ASYNCHRONOUS)).status == 401


async def test_inferno_bulk_data_kick_off_status_check_output_check_and_ndjson_download(
    inferno: Inferno, token: str
) -> None:
    """bulk_data_group_export of the certification kit is these: bulk_data_kick_off, bulk_data_status_check,
    bulk_data_output_check, bulk_data_ndjson_download, bulk_data_multiple_patients; of bulk_data_valid_resources what a
    gateway answers for, that each line is a resource of its type.
    """
    started = await begun(inferno, token)
    assert started.status == 202, started.body
    job = started.headers["content-location"]
    assert job.startswith(inferno.site.base + "/")
    done = await finished(inferno, job, token)
    assert done.status == 200
    assert done.headers["content-type"].startswith("application/json")
    manifest = done.json
    assert {"transactionTime", "request", "requiresAccessToken", "output", "error"} <= set(manifest)
    assert manifest["output"]
    seen: dict[str, list[Any]] = {}
    for each in manifest["output"]:
        assert {"type", "url"} <= set(each)
        assert manifest["requiresAccessToken"] is True
        assert (await inferno.fhir(each["url"])).status == 401
        file = await inferno.fhir(each["url"], token, Accept="application/fhir+ndjson")
        assert file.status == 200
        assert file.headers["content-type"].startswith("application/fhir+ndjson")
        lines = [json.loads(line) for line in file.body.splitlines()]
        assert all(line["resourceType"] == each["type"] and line["id"] for line in lines)
        seen.setdefault(each["type"], []).extend(lines)
    assert {patient["id"] for patient in seen["Patient"]} == {PATIENT, OTHER_PATIENT}
    assert seen["Observation"]
    assert (await ended(inferno, job, token)).status == 202


async def test_inferno_bulk_data_export_cancel_and_bulk_data_poll_cancelled_export(
    inferno: Inferno, token: str
) -> None:
    """Also bulk_data_export_cancel_stu2 and g10_bulk_export_cancel."""
    job = (await begun(inferno, token)).headers["content-location"]
    assert (await ended(inferno, job, token)).status == 202
    gone = await inferno.fhir(job, token)
    assert (gone.status, gone.json["resourceType"]) == (404, "OperationOutcome")


@pytest.mark.parametrize("name", ["application/fhir%2Bndjson", "application/ndjson", "ndjson"])
async def test_inferno_output_format_in_export_response(inferno: Inferno, token: str, name: str) -> None:
    started = await begun(inferno, token, f"?_outputFormat={name}")
    assert started.status == 202, started.body
    assert (await ended(inferno, started.headers["content-location"], token)).status == 202


async def test_inferno_since_in_export_response(inferno: Inferno, token: str) -> None:
    """Also g10_since_in_export_response."""
    started = await begun(inferno, token, "?_since=2020-01-01T00:00:00Z")
    assert started.status == 202, started.body
    assert (await ended(inferno, started.headers["content-location"], token)).status == 202

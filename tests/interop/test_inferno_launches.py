"""Inferno's SMART App Launch kit 2.2: discovery, standalone and EHR launch, token response, refresh, CORS.

A test an id of the kit (smart_stu2_2) with what that test asserts; inferno_checks.tsv says where each id stands.
"""

from collections.abc import AsyncIterator
from itertools import product
from typing import Any

import pytest
import pytest_asyncio

from gateway.demo.client import Reply
from gateway.demo.world import PATIENT
from tests.support.inferno import (
    ASYMMETRIC,
    ASYMMETRIC_RSA,
    ORIGIN,
    PUBLIC,
    SYMMETRIC,
    Inferno,
    Launch,
    Registration,
    Runs,
    inferno_at,
)

pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("inferno-launches"),
    pytest.mark.asyncio(loop_scope="module"),
]
APPS = {"public": PUBLIC, "symmetric": SYMMETRIC, "ES384": ASYMMETRIC, "RS384": ASYMMETRIC_RSA}
RUNS = [
    pytest.param(APPS[name], method, kind, id=f"{name}-{method}-{kind}")
    for name, method, kind in product(APPS, ("GET", "POST"), ("standalone", "ehr"))
]
each_run = pytest.mark.parametrize(("app", "method", "kind"), RUNS)
STRANGE_ORIGIN = "https://inferno.example"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inferno(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Inferno]:
    async with inferno_at(tmp_path_factory.mktemp("inferno")) as tester:
        yield tester


@pytest.fixture(scope="module")
def runs(inferno: Inferno) -> Runs:
    return Runs(inferno)


def allows(reply: Reply, origin: str) -> bool:
    """Whether a page of this origin may read the answer."""
    return reply.headers.get("access-control-allow-origin") in ("*", origin)


# Discovery


@pytest.mark.parametrize("accept", ["application/json", "text/html", "application/fhir+xml"])
async def test_inferno_well_known_endpoint(inferno: Inferno, accept: str) -> None:
    reply = await inferno.well_known(Accept=accept)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("application/json")
    assert isinstance(reply.json, dict)


async def test_inferno_well_known_capabilities_stu2(inferno: Inferno) -> None:
    found = (await inferno.well_known()).json
    for name in ("authorization_endpoint", "token_endpoint"):
        assert found[name].startswith("https://"), name
    for name in ("capabilities", "grant_types_supported", "code_challenge_methods_supported"):
        assert found[name], name
        assert all(isinstance(each, str) and each for each in found[name]), name
    assert "S256" in found["code_challenge_methods_supported"]
    assert "plain" not in found["code_challenge_methods_supported"]
    assert {"launch-ehr", "launch-standalone", "authorize-post"} <= set(found["capabilities"])
    if "sso-openid-connect" in found["capabilities"]:
        assert found["issuer"].startswith("https://")
        assert found["jwks_uri"].startswith("https://")
    else:
        assert "issuer" not in found


async def test_inferno_smart_cors_well_known_endpoint(inferno: Inferno) -> None:
    assert allows(await inferno.well_known(Origin=STRANGE_ORIGIN), STRANGE_ORIGIN)


async def test_inferno_smart_cors_metadata_request(inferno: Inferno) -> None:
    reply = await inferno.fhir("/metadata", Origin=STRANGE_ORIGIN)
    assert reply.status == 200
    assert allows(reply, STRANGE_ORIGIN)
    assert reply.json["rest"][0]["security"]["cors"] is True


async def test_inferno_stu1_oauth_uris_in_the_capability_statement(inferno: Inferno) -> None:
    """Test01 of the group for STU1: /metadata has both addresses, and they are those of the well-known document."""
    (rest,) = (await inferno.fhir("/metadata")).json["rest"]
    (uris,) = (each for each in rest["security"]["extension"] if each["url"].endswith("/oauth-uris"))
    told = {each["url"]: each["valueUri"] for each in uris["extension"]}
    found = (await inferno.well_known()).json
    assert told["authorize"] == found["authorization_endpoint"]
    assert told["token"] == found["token_endpoint"]


# Launch


@pytest.mark.parametrize("app", APPS.values(), ids=APPS)
async def test_inferno_smart_app_launch_and_smart_launch_received(
    inferno: Inferno, runs: Runs, app: Registration
) -> None:
    """What the record system sends the browser with: iss is the FHIR base, launch is opaque and of URL characters."""
    made = await inferno.site.launch(app.client_id, "dr.allen", **runs.context())
    assert made["iss"] == inferno.site.base
    assert made["launch"]
    assert set(made["launch"]) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@each_run
async def test_inferno_smart_app_redirect_stu2_2(
    runs: Runs, app: Registration, method: str, kind: str
) -> None:
    run = await runs.of(app, method, kind)
    asked = run.asked.parameters(runs.inferno.site.base)
    assert {"aud", "state", "code_challenge", "code_challenge_method"} <= set(asked)
    assert ("launch" in asked) == (kind == "ehr")
    assert run.answer["state"] == asked["state"]


@each_run
async def test_inferno_smart_code_received(runs: Runs, app: Registration, method: str, kind: str) -> None:
    answer = (await runs.of(app, method, kind)).answer
    assert answer["code"]
    assert "error" not in answer


# Token


@each_run
async def test_inferno_smart_token_exchange_stu2_2(
    runs: Runs, app: Registration, method: str, kind: str
) -> None:
    exchanged = (await runs.of(app, method, kind)).exchanged
    assert exchanged.status == 200, exchanged.body


@each_run
async def test_inferno_smart_token_response_body_stu2_2(
    runs: Runs, app: Registration, method: str, kind: str
) -> None:
    told = (await runs.of(app, method, kind)).told
    for name in ("access_token", "token_type", "scope", "id_token", "refresh_token", "patient"):
        assert isinstance(told[name], str), name
        assert told[name], name
    assert told["token_type"].casefold() == "bearer"
    assert type(told["expires_in"]) is int
    assert 0 < told["expires_in"] <= 3600
    for each in told.get("fhirContext", []):
        assert {"reference", "canonical", "identifier"} & set(each)
        assert each.get("role", "launch")
        of_launch = str(each.get("reference", "")).split("/")[0] in ("Patient", "Encounter")
        assert not of_launch or each.get("role", "launch") != "launch"
    assert ("fhirContext" in told) == (kind == "ehr")


@each_run
async def test_inferno_smart_token_response_headers(
    runs: Runs, app: Registration, method: str, kind: str
) -> None:
    run = await runs.of(app, method, kind)
    for reply in (run.exchanged, run.refreshed, run.narrowed):
        assert "no-store" in reply.headers["cache-control"]
        assert "no-cache" in reply.headers["pragma"]


@pytest.mark.parametrize("kind", ["standalone", "ehr"])
async def test_inferno_smart_cors_token_exchange(runs: Runs, kind: str) -> None:
    run = await runs.of(PUBLIC, "GET", kind)
    for reply in (run.exchanged, run.refreshed):
        assert allows(reply, ORIGIN)
    refused = await run.asked.redeem(runs.inferno, "a code of nobody")
    assert refused.status == 400
    assert allows(refused, ORIGIN)  # an app in a browser must be able to read why


# Refresh


@each_run
async def test_inferno_smart_token_refresh_stu2(
    runs: Runs, app: Registration, method: str, kind: str
) -> None:
    run = await runs.of(app, method, kind)
    assert run.refreshed.status == 200, run.refreshed.body
    assert run.narrowed.status == 200, run.narrowed.body
    used = await runs.inferno.fhir(f"/Patient/{PATIENT}", run.refreshed.json["access_token"])
    assert used.status == 200


@each_run
async def test_inferno_smart_token_refresh_body(
    runs: Runs, app: Registration, method: str, kind: str
) -> None:
    run = await runs.of(app, method, kind)
    earlier = set(run.told["scope"].split(" "))
    for reply in (run.refreshed, run.narrowed):
        told: dict[str, Any] = reply.json
        assert told["access_token"]
        assert told["access_token"] != run.told["access_token"]
        assert told["token_type"].casefold() == "bearer"
        assert type(told["expires_in"]) is int
        assert set(told["scope"].split(" ")) <= earlier
    assert run.narrowed.json["scope"] == run.narrowed_to


async def test_a_launch_with_an_address_that_is_not_registered_reaches_no_app(inferno: Inferno) -> None:
    """What the tester itself rests on: a launch that must fail does."""
    changes = {"redirect_uri": "https://app.example/elsewhere"}
    url = (await inferno.well_known()).json["authorization_endpoint"]
    asked = Launch(PUBLIC, "patient/*.rs", changes=changes).parameters(inferno.site.base)
    reply = await inferno.send("POST", url, form=asked)
    assert (reply.status, reply.headers.get("location")) == (400, None)

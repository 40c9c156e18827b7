"""Inferno's group on OpenID Connect: an ID token by RS256, verified with what the server publishes, and fhirUser read.

A test an id of the SMART App Launch kit 2.2 with what that test asserts; inferno_checks.tsv says where each id stands.
"""

import time
from collections.abc import AsyncIterator
from itertools import product
from typing import Any

import jwt
import pytest
import pytest_asyncio

from tests.support.inferno import (
    ASYMMETRIC,
    ORIGIN,
    PUBLIC,
    SYMMETRIC,
    Inferno,
    Launched,
    Registration,
    Runs,
    inferno_at,
    read_part,
)

pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("inferno-openid"),
    pytest.mark.asyncio(loop_scope="module"),
]
APPS = {"public": PUBLIC, "symmetric": SYMMETRIC, "asymmetric": ASYMMETRIC}
each_run = pytest.mark.parametrize(
    ("app", "kind"),
    [
        pytest.param(APPS[name], kind, id=f"{name}-{kind}")
        for name, kind in product(APPS, ("standalone", "ehr"))
    ],
)
TYPES = ("Patient", "Practitioner", "RelatedPerson", "Person")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inferno(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Inferno]:
    async with inferno_at(tmp_path_factory.mktemp("inferno")) as tester:
        yield tester


@pytest.fixture(scope="module")
def runs(inferno: Inferno) -> Runs:
    return Runs(inferno)


async def configuration(inferno: Inferno, run: Launched) -> dict[str, Any]:
    issuer = read_part(run.told["id_token"], 1)["iss"]
    reply = await inferno.send("GET", f"{issuer}/.well-known/openid-configuration")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("application/json")
    found: dict[str, Any] = reply.json
    return found


async def keys(inferno: Inferno, run: Launched) -> list[dict[str, Any]]:
    reply = await inferno.send("GET", (await configuration(inferno, run))["jwks_uri"])
    assert reply.status == 200
    found: list[dict[str, Any]] = reply.json["keys"]
    return found


async def test_inferno_g10_sso_openid_connect_is_a_capability(inferno: Inferno) -> None:
    """The last of g10_smart_well_known_capabilities; with it issuer and jwks_uri are required."""
    found = (await inferno.well_known()).json
    assert "sso-openid-connect" in found["capabilities"]
    assert found["issuer"] == inferno.site.issuer
    assert found["jwks_uri"].startswith("https://")


@each_run
async def test_inferno_smart_openid_decode_id_token(runs: Runs, app: Registration, kind: str) -> None:
    told = (await runs.of(app, "GET", kind)).told
    assert len(told["id_token"].split(".")) == 3
    assert read_part(told["id_token"], 1)["sub"]


async def test_inferno_smart_openid_retrieve_configuration(runs: Runs) -> None:
    run = await runs.of(PUBLIC, "GET", "standalone")
    assert (await configuration(runs.inferno, run))["issuer"] == runs.inferno.site.issuer


async def test_inferno_smart_openid_required_configuration_fields(runs: Runs) -> None:
    run = await runs.of(PUBLIC, "GET", "standalone")
    found = await configuration(runs.inferno, run)
    assert found["issuer"] == read_part(run.told["id_token"], 1)["iss"]
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        assert found[name].startswith("https://")
    assert found["response_types_supported"] == ["code"]
    assert found["subject_types_supported"]
    assert "RS256" in found["id_token_signing_alg_values_supported"]


async def test_inferno_smart_openid_retrieve_jwks(runs: Runs) -> None:
    found = [
        key
        for key in await keys(runs.inferno, await runs.of(PUBLIC, "GET", "standalone"))
        if key["kty"] == "RSA"
    ]
    assert found
    for key in found:
        assert jwt.PyJWK(key, "RS256").key
        assert not {"d", "p", "q"} & set(key)


@each_run
async def test_inferno_smart_openid_token_header(runs: Runs, app: Registration, kind: str) -> None:
    run = await runs.of(app, "GET", kind)
    header = read_part(run.told["id_token"], 0)
    assert header["alg"] == "RS256"
    assert [key["kid"] for key in await keys(runs.inferno, run)].count(header["kid"]) == 1


@each_run
async def test_inferno_smart_openid_token_payload(runs: Runs, app: Registration, kind: str) -> None:
    """Also g10_public_launch_id_token. The token of a refresh is verified too."""
    run = await runs.of(app, "GET", kind)
    for text in (run.told["id_token"], run.refreshed.json["id_token"]):
        kid = read_part(text, 0)["kid"]
        (key,) = (key for key in await keys(runs.inferno, run) if key["kid"] == kid)
        needed = {"require": ["iss", "sub", "aud", "exp", "iat"]}
        claims = jwt.decode(
            text,
            jwt.PyJWK(key, "RS256"),
            ["RS256"],
            needed,
            audience=app.client_id,
            issuer=runs.inferno.site.issuer,
        )
        assert claims["sub"].isascii()
        assert 0 < len(claims["sub"]) < 256
        assert claims["iat"] <= time.time() + 5 < claims["exp"]


@each_run
async def test_inferno_smart_openid_fhir_user_claim(runs: Runs, app: Registration, kind: str) -> None:
    run = await runs.of(app, "GET", kind)
    named = read_part(run.told["id_token"], 1)["fhirUser"]
    type_ = named.split("/")[-2]
    assert type_ in TYPES
    path = named if named.startswith("https:") else f"/{named}"
    read = await runs.inferno.fhir(path, run.told["access_token"])
    assert (read.status, read.json["resourceType"]) == (200, type_)


@pytest.mark.parametrize("kind", ["standalone", "ehr"])
async def test_inferno_smart_cors_openid_fhir_user_claim(runs: Runs, kind: str) -> None:
    run = await runs.of(PUBLIC, "GET", kind)
    named = read_part(run.told["id_token"], 1)["fhirUser"]
    read = await runs.inferno.fhir(f"/{named}", run.told["access_token"], Origin=ORIGIN)
    assert read.status == 200
    assert read.headers["access-control-allow-origin"] in ("*", ORIGIN)

"""Attack group Q: tokens, scopes and claims that try to say more than was granted."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from authz.protocol.certificates import thumbprint
from gateway.demo.client import Key
from tests.support.gateway import MOUNT, RunningGateway, start_gateway, stop_gateway
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    running = await start_gateway(tmp_path_factory.mktemp("attacks-q"))
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()


def certificate_thumbprint(path: Path) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return thumbprint(x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER))


@pytest.mark.parametrize(
    ("scope", "read", "search"),
    [
        ("patient/Observation.read", 200, 200),
        ("patient/Observation.rs", 200, 200),
        ("patient/Observation.r", 200, 403),
        ("patient/Observation.s", 403, 200),
        ("patient/Observation.write", 403, 403),
        ("patient/Observation.cud", 403, 403),
        ("patient/Observation.*", 200, 200),
        ("patient/*.cruds", 200, 200),
        ("patient/Condition.rs", 403, 403),
        ("patient/Observation.r patient/Condition.s", 200, 403),
    ],
)
async def test_Q280_letters_give_what_they_say(
    gateway: RunningGateway, scope: str, read: int, search: int
) -> None:
    token = await gateway.token("pA-r", scope=scope)
    assert (await gateway.fhir("GET", "/Observation/a1", token=token)).status == read
    assert (await gateway.fhir("GET", "/Observation", token=token)).status == search


@pytest.mark.parametrize("path", ["/Observation/a-vitals", "/Observation/a-vitals/_history/1"])
async def test_Q281_a_granular_scope_holds_on_reads(gateway: RunningGateway, path: str) -> None:
    token = await gateway.token("pA-r", scope="patient/Observation.rs?category=laboratory")
    assert (await gateway.fhir("GET", path, token=token)).status == 404
    assert (await gateway.fhir("GET", path.replace("a-vitals", "a1"), token=token)).status == 200


async def test_Q281_a_granular_scope_holds_on_histories_and_searches(gateway: RunningGateway) -> None:
    token = await gateway.token("pA-r", scope="patient/Observation.rs?category=laboratory")
    history = await gateway.fhir("GET", "/Observation/a-vitals/_history", token=token)
    assert history.status == 404
    found = await gateway.fhir("GET", "/Observation", token=token)
    assert [e["resource"]["id"] for e in found.json["entry"]] == ["a1"]
    assert "category=laboratory" in gateway.upstream.requests[-1].target


async def test_Q281_letters_and_filters_of_two_scopes_are_not_joined(gateway: RunningGateway) -> None:
    scope = "patient/Observation.r?category=laboratory patient/Observation.s?category=vital-signs"
    token = await gateway.token("pA-r", scope=scope)
    assert (await gateway.fhir("GET", "/Observation/a1", token=token)).status == 200
    assert (await gateway.fhir("GET", "/Observation/a-vitals", token=token)).status == 404
    found = await gateway.fhir("GET", "/Observation", token=token)
    assert [e["resource"]["id"] for e in found.json["entry"]] == ["a-vitals"]


@pytest.mark.parametrize(
    "roles", ["physician", {"physician": True}, [["physician"]], 1, ["Physician"], ["", "nurse "]]
)
async def test_Q284_a_role_claim_of_another_type_is_no_role(gateway: RunningGateway, roles: object) -> None:
    token = await gateway.token("dr1", roles=roles)
    reply = await gateway.fhir("GET", "/Observation/a1", token=token)
    assert (reply.status, reply.reason) == (403, "no-permit")


async def test_Q284_the_twin_with_a_role_succeeds(gateway: RunningGateway) -> None:
    assert (await gateway.fhir("GET", "/Observation/a1", who="dr1")).status == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example"},
        {"iss": ...},
        {"aud": "https://other.example/fhir"},
        {"aud": ...},
        {"aud": []},
    ],
)
async def test_Q285_Q292_another_issuer_or_audience_is_401(
    gateway: RunningGateway, claims: dict[str, Any]
) -> None:
    token = await gateway.token("pA-r", **claims)
    reply = await gateway.fhir("GET", "/Patient/A", token=token)
    assert (reply.status, reply.reason) == (401, "token-invalid")
    assert gateway.upstream.requests == []


@pytest.mark.parametrize(
    "fhir_user", ["Patient/B", "https://other.example/fhir/Patient/A", "{base}/Patient/B", 7, ["Patient/A"]]
)
async def test_Q286_a_person_who_is_not_the_patient_is_refused(
    gateway: RunningGateway, fhir_user: object
) -> None:
    said = fhir_user.replace("{base}", gateway.origin + MOUNT) if isinstance(fhir_user, str) else fhir_user
    token = await gateway.token("pA-r", fhirUser=said)
    reply = await gateway.fhir("GET", "/Patient/A", token=token)
    assert (reply.status, reply.reason) == (403, "no-patient-context")


async def test_Q286_the_own_absolute_reference_is_accepted(gateway: RunningGateway) -> None:
    token = await gateway.token("pA-r", fhirUser=f"{gateway.origin}{MOUNT}/Patient/A")
    assert (await gateway.fhir("GET", "/Patient/A", token=token)).status == 200


async def test_Q288_a_proof_for_another_url_or_method_is_refused_and_says_what_was_expected(
    gateway: RunningGateway,
) -> None:
    reply = await gateway.fhir("GET", "/Patient/A", proof_path=MOUNT + "/Patient/B")
    assert (reply.status, reply.reason) == (401, "proof-invalid")
    challenge = reply.header("WWW-Authenticate") or ""
    assert challenge.startswith("DPoP ")
    assert 'error="invalid_dpop_proof"' in challenge
    assert f"expected {gateway.origin}{MOUNT}/Patient/A" in challenge
    token = await gateway.token("pA-r")
    url = gateway.origin + MOUNT + "/Patient/A"
    other = [("Authorization", f"DPoP {token}"), ("DPoP", gateway.proof("POST", url, token))]
    assert (await gateway.send("GET", MOUNT + "/Patient/A", other)).status == 401
    assert gateway.upstream.requests == []


async def test_Q288_a_proof_is_good_once(gateway: RunningGateway) -> None:
    token = await gateway.token("pA-r")
    url = gateway.origin + MOUNT + "/Patient/A"
    headers = [("Authorization", f"DPoP {token}"), ("DPoP", gateway.proof("GET", url, token))]
    replies = await asyncio.gather(*(gateway.send("GET", MOUNT + "/Patient/A", headers) for _ in range(12)))
    assert sorted(reply.status for reply in replies) == [200] + [401] * 11
    assert len(gateway.upstream.requests) == 1


async def test_Q288_a_proof_for_another_token_is_refused(gateway: RunningGateway) -> None:
    token, other = await gateway.token("pA-r"), await gateway.token("pA-r")
    url = gateway.origin + MOUNT + "/Patient/A"
    headers = [("Authorization", f"DPoP {token}"), ("DPoP", gateway.proof("GET", url, other))]
    assert (await gateway.send("GET", MOUNT + "/Patient/A", headers)).reason == "proof-invalid"


async def test_Q289_a_stolen_token_without_its_key_is_refused(gateway: RunningGateway) -> None:
    token = await gateway.token("pA-r")
    own, gateway.key = gateway.key, Key.new()
    reply = await gateway.fhir("GET", "/Patient/A", token=token)
    gateway.key = own
    assert (reply.status, reply.reason) == (401, "proof-invalid")
    assert gateway.upstream.requests == []


async def test_Q289_a_bound_token_is_no_bearer_token(gateway: RunningGateway) -> None:
    token = await gateway.token("pA-r")
    for headers in (
        [("Authorization", f"Bearer {token}")],
        [("Authorization", f"DPoP {token}")],
        [("Authorization", f"BEARER {token}"), ("DPoP", "x")],
    ):
        reply = await gateway.send("GET", MOUNT + "/Patient/A", headers)
        assert reply.status == 401, headers
    assert gateway.upstream.requests == []


async def test_Q289_a_certificate_bound_token_needs_its_certificate_on_every_request(
    gateway: RunningGateway,
) -> None:
    own, other = gateway.folder / "own.pem", gateway.folder / "other.pem"
    token = await gateway.token("pA-r", mtls=certificate_thumbprint(own))
    bearer = [("Authorization", f"Bearer {token}")]
    path, port = MOUNT + "/Patient/A", gateway.mtls_port
    assert (await gateway.send("GET", path, bearer, port=port, certificate=own)).status == 200
    assert (await gateway.send("GET", path, bearer, port=port, certificate=other)).status == 401
    assert (await gateway.send("GET", path, bearer, port=port)).status == 401
    assert (await gateway.send("GET", path, bearer)).status == 401
    forged = [*bearer, ("X-Client-Cert", own.read_text().replace("\n", "")), ("Client-Cert", ":AAAA:")]
    assert (await gateway.send("GET", path, forged)).status == 401
    assert len(gateway.upstream.requests) == 1


async def test_Q290_an_expired_token_is_refused_even_when_it_was_seen_before(gateway: RunningGateway) -> None:
    now = gateway.gateway.clock()
    token = await gateway.token("pA-r", exp=now + 2)
    assert (await gateway.fhir("GET", "/Patient/A", token=token)).status == 200
    real, server = gateway.gateway.clock, gateway.gateway.authorization.resource_server
    server._clock = lambda: real() + 3  # time passes for the resource server only
    try:
        reply = await gateway.fhir("GET", "/Patient/A", token=token)
    finally:
        server._clock = real
    assert (reply.status, reply.reason) == (401, "token-invalid")


async def test_a_revoked_token_and_a_revoked_grant_end_at_once(gateway: RunningGateway) -> None:
    token = await gateway.token("pA-r", grant_id="grant-to-revoke")
    assert (await gateway.fhir("GET", "/Patient/A", token=token)).status == 200
    now = gateway.gateway.clock()
    await gateway.gateway.store.revoke_grant("grant-to-revoke", now=now, keep_until=now + 600)
    await gateway.gateway.authorization.refresh()
    assert (await gateway.fhir("GET", "/Patient/A", token=token)).status == 401


async def test_a_token_in_the_query_is_refused(gateway: RunningGateway) -> None:
    token = await gateway.token("pA-r")
    reply = await gateway.send("GET", f"{MOUNT}/Patient/A?access_token={token}")
    assert reply.status in (400, 401)
    assert token.encode() not in reply.raw


async def test_a_token_whose_signature_was_changed_is_refused(gateway: RunningGateway) -> None:
    token = await gateway.token("pA-r")
    head, claims, signature = token.split(".")
    for broken in (
        f"{head}.{claims}.{signature[:-4]}AAAA",
        f"{head}.{claims}.",
        f"{head}.{claims}",
        "x",
        f"{token}x",
    ):
        assert (await gateway.fhir("GET", "/Patient/A", token=broken)).status in (400, 401)
    assert gateway.upstream.requests == []


async def test_no_answer_of_this_group_ever_held_the_marker(gateway: RunningGateway) -> None:
    for path in (
        "/Patient/B",
        "/Observation/b1",
        "/Observation/ab",
        "/Observation",
        "/Observation/b1/_history/1",
    ):
        reply = await gateway.fhir("GET", path)
        assert SECRET.encode() not in reply.raw

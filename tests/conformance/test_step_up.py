"""Step-up authentication (RFC 9470): the challenge of the gateway, what the authorization server does with it, and both."""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from authz.protocol import openid
from authz.protocol.certificates import thumbprint
from authz.protocol.encoding import base64url
from gateway.app import Gateway
from gateway.config.document import load
from gateway.demo import client as demo
from gateway.demo import world as demonstration
from tests.support.authorization_server import (
    PASSWORD,
    Person,
    Reply,
    World,
    answer_of,
    claims_of,
    open_world,
)
from tests.support.gateway import MOUNT, ROOT, RunningGateway, start_gateway, stop_gateway
from tests.support.hostile_upstream import HostileUpstream

ACR = "urn:securus:acr:password"
KEY = "urn:example:security-key"
SCOPE = "openid fhirUser offline_access launch/patient patient/*.rs"
RULES = f"""\
policy: fresh
version: 1
owner: security
status: enforce
text: Charts are for people who signed in lately.
rules:
  - rule: signed-in-lately
    effect: require
    who: {{context: [patient, user], acr: "{ACR}"}}
    when: {{signed_in_within: 10m}}
    may: [any]
    resources: [Patient]
    because: A browser that was left open opens no chart.
tests:
  - test: an old sign-in is a challenge
    as: {{context: patient, patient: A, acr: "{ACR}", signed_in: 11m}}
    request: GET /Patient/A
    expect: {{decision: deny, status: 401, reason: step-up-required, rule: signed-in-lately, max_age: 600}}
"""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


def asks_for_password(page: Reply) -> bool:
    return 'name="password"' in page.text


async def visit(world: World, person: Person, **changes: str) -> Reply:
    """The page that a person comes to who is sent by the portal."""
    pushed = await world.app().push(**{"scope": SCOPE} | changes)
    assert pushed.status == 201, pushed.text
    query = f"client_id=portal&request_uri={pushed.json['request_uri']}"
    return await person.visit(f"/authorize?{query}")


async def sign_in(person: Person, page: Reply) -> Reply:
    return await person.submit(page, username="anna", password=PASSWORD)


async def tokens(world: World, person: Person, page: Reply) -> dict[str, Any]:
    reply = await world.app().redeem(answer_of(await person.consent(page))["code"])
    assert reply.status == 200, reply.text
    return reply.json


@pytest.fixture
async def person(world: World) -> Person:
    """Somebody who signed in a hundred seconds ago."""
    known = Person(world)
    await sign_in(known, await visit(world, known))
    world.clock.now += 100
    return known


# 4: the authorization server honours acr_values and max_age


@pytest.mark.parametrize(
    ("max_age", "again"), [("101", False), ("100", False), ("99", True), ("1", True), ("0", True)]
)
async def test_4_max_age_asks_whoever_signed_in_before(
    world: World, person: Person, max_age: str, again: bool
) -> None:
    assert asks_for_password(await visit(world, person, max_age=max_age)) is again


async def test_4_max_age_zero_asks_in_the_second_of_the_last_sign_in(world: World) -> None:
    person = Person(world)
    await sign_in(person, await visit(world, person))
    assert asks_for_password(await visit(world, person, max_age="0"))


async def test_4_prompt_login_asks_for_a_real_new_sign_in(world: World, person: Person) -> None:
    page = await visit(world, person, prompt="login")
    assert asks_for_password(page)
    wrong = await person.submit(page, username="anna", password="wrong")
    assert asks_for_password(wrong)
    claims = claims_of((await tokens(world, person, await sign_in(person, wrong)))["access_token"])
    assert claims["auth_time"] == world.clock.now


@pytest.mark.parametrize("asked", [{"max_age": "10"}, {"prompt": "login"}, {"max_age": "0"}])
async def test_4_the_consent_page_is_no_way_around_the_sign_in(
    world: World, person: Person, asked: dict[str, str]
) -> None:
    page = await visit(world, person, **asked)
    handle = re.search(r'name="interaction" value="([^"]+)"', page.text)
    assert handle
    for path in ("/consent", "/patient"):
        reply = await person.visit(f"{path}?interaction={handle[1]}")
        assert reply.status == 400
        assert 'id="error"' in reply.text


async def test_4_whoever_does_not_sign_in_again_gives_nothing(world: World, person: Person) -> None:
    page = await visit(world, person, max_age="10")
    answer = answer_of(await person.submit(page, action="cancel"))
    assert answer["error"] == "access_denied"


async def test_4_acr_values_that_the_sign_in_has_ask_for_no_other(world: World, person: Person) -> None:
    assert not asks_for_password(await visit(world, person, acr_values=f"urn:other {ACR}"))


async def test_4_acr_values_that_nobody_reaches_are_voluntary(world: World, person: Person) -> None:
    page = await visit(world, person, acr_values="urn:other")
    assert claims_of((await tokens(world, person, page))["access_token"])["acr"] == ACR


@pytest.mark.parametrize("name", ["max_age", "acr_values"])
async def test_4_an_empty_parameter_counts_as_not_sent(world: World, person: Person, name: str) -> None:
    assert not asks_for_password(await visit(world, person, **{name: ""}))


@pytest.mark.parametrize("max_age", ["-1", "x", "1.5", "1e3", "10000000000", " 1"])
async def test_4_a_max_age_that_is_no_number_of_seconds_is_refused_at_PAR(world: World, max_age: str) -> None:
    assert (await world.app().push(max_age=max_age)).refusal == (400, "invalid_request")


@pytest.fixture
def security_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second way to sign in exists; the people of these tests do not use it."""
    monkeypatch.setattr(openid, "SIGN_INS", {**openid.SIGN_INS, KEY: frozenset({"pwd", "hwk"})})
    monkeypatch.setattr("authz.doors.SIGN_INS", openid.SIGN_INS)


def test_the_acr_is_that_of_the_strongest_way_that_was_used(security_keys: None) -> None:
    assert openid.acr_of(("pwd",)) == ACR
    assert openid.acr_of(("hwk", "pwd")) == KEY
    assert openid.acr_of(("hwk",)) is None
    assert openid.acr_of(()) is None


@pytest.mark.usefixtures("security_keys")
async def test_4_acr_values_of_another_way_ask_for_a_new_sign_in(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        person = Person(world)
        await sign_in(person, await visit(world, person))
        page = await visit(world, person, acr_values=KEY)
        assert asks_for_password(page)
        issued = await tokens(world, person, await sign_in(person, page))
        assert claims_of(issued["access_token"])["acr"] == ACR  # voluntary: told as it is
        assert (
            answer_of(await visit(world, person, acr_values=KEY, prompt="none"))["error"] == "login_required"
        )


@pytest.mark.usefixtures("security_keys")
async def test_5_an_essential_acr_that_was_not_reached_gives_no_code(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        person = Person(world)
        claims = json.dumps({"id_token": {"acr": {"essential": True, "value": KEY}}})
        page = await sign_in(person, await visit(world, person, claims=claims))
        answer = answer_of(await person.consent(page))
        assert answer["error"] == "unmet_authentication_requirements"
        assert answer["state"] == "s-1"
        either = json.dumps({"id_token": {"acr": {"essential": True, "values": [KEY, ACR]}}})
        assert "code" in answer_of(await person.consent(await visit(world, person, claims=either)))


# 6: auth_time and acr in tokens and introspection


async def test_6_tokens_and_introspection_tell_when_and_how(world: World) -> None:
    person = Person(world)
    page = await sign_in(person, await visit(world, person, max_age="600", acr_values=ACR))
    signed_in_at = world.clock.now
    world.clock.now += 30
    issued = await tokens(world, person, page)
    wanted = {"auth_time": signed_in_at, "acr": ACR}
    for name in ("access_token", "id_token"):
        claims = claims_of(issued[name])
        assert {member: claims[member] for member in wanted} == wanted
    for name in ("access_token", "refresh_token"):
        told = (await world.app("resource-server").post("/introspect", {"token": issued[name]})).json
        assert {member: told[member] for member in wanted} == wanted


async def test_6_a_refreshed_token_is_from_the_same_old_sign_in(world: World) -> None:
    person, app = Person(world), world.app()
    issued = await tokens(world, person, await sign_in(person, await visit(world, person)))
    signed_in_at = world.clock.now
    world.clock.now += 1000
    again = await app.refresh(issued["refresh_token"])
    assert claims_of(again.json["access_token"])["auth_time"] == signed_in_at


async def test_the_sign_in_of_one_browser_is_not_that_of_another(world: World) -> None:
    """Two sessions of one person side by side: what is fresh in one is old in the other."""
    old, fresh = Person(world), Person(world)
    await sign_in(old, await visit(world, old))
    begun = world.clock.now
    world.clock.now += 1000
    page = await sign_in(fresh, await visit(world, fresh, max_age="60"))
    assert claims_of((await tokens(world, fresh, page))["access_token"])["auth_time"] == begun + 1000
    assert asks_for_password(await visit(world, old, max_age="60"))
    assert answer_of(await visit(world, old, max_age="60", prompt="none"))["error"] == "login_required"
    issued = await tokens(world, old, await visit(world, old))
    assert claims_of(issued["access_token"])["auth_time"] == begun
    assert not asks_for_password(await visit(world, fresh, max_age="60"))


async def test_a_visit_of_the_old_session_is_not_finished_in_the_fresh_one(world: World) -> None:
    old, fresh = Person(world), Person(world)
    await sign_in(old, await visit(world, old))
    world.clock.now += 1000
    page = await visit(world, old, max_age="60")
    await sign_in(fresh, await visit(world, fresh))
    old.cookie, kept = fresh.cookie, old.cookie
    assert (await sign_in(old, page)).status == 400
    old.cookie = kept
    assert not asks_for_password(await sign_in(old, page))


# 3: the challenge of the gateway


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    folder = tmp_path / "policies"
    folder.mkdir()
    for path in (ROOT / "policies").glob("*.yaml"):
        (folder / path.name).write_text(path.read_text())
    (folder / "90-fresh.yaml").write_text(RULES)
    running = await start_gateway(tmp_path, policies=folder)
    yield running
    await stop_gateway(running)


def challenge_of(header: str | None) -> tuple[str, dict[str, str]]:
    """Scheme and parameters of a WWW-Authenticate header with one challenge."""
    scheme, _, rest = (header or "").partition(" ")
    found = re.findall(r'([a-z_]+)="([^"]*)"(?:, |$)', rest)
    assert ", ".join(f'{name}="{value}"' for name, value in found) == rest
    assert len(dict(found)) == len(found)
    return scheme, dict(found)


async def test_3_an_old_sign_in_is_401_with_what_to_ask_for(gateway: RunningGateway) -> None:
    now = gateway.gateway.clock()
    token = await gateway.token("pA-r", auth_time=now - 3600, acr=ACR)
    reply = await gateway.fhir("GET", "/Patient/A", token=token)
    assert (reply.status, reply.reason) == (401, "step-up-required")
    scheme, said = challenge_of(reply.header("www-authenticate"))
    assert scheme == "DPoP"
    assert said["error"] == "insufficient_user_authentication"
    assert (said["acr_values"], said["max_age"]) == (ACR, "600")
    assert said["error_description"] == f"this access needs a sign-in by one of {ACR}, at most 600 s ago"
    assert said["resource_metadata"].endswith(f"/.well-known/oauth-protected-resource{MOUNT}")
    assert "ES256" in said["algs"].split()
    assert [name.lower() for name, _ in reply.headers].count("dpop-nonce") == 1
    assert gateway.upstream.requests == []
    record = (await gateway.audit())[-1]
    assert (record["reason"], record["rules"]) == ("step-up-required", ["fresh/signed-in-lately"])


@pytest.mark.parametrize(
    "claims",
    [{}, {"acr": ACR}, {"auth_time": 0, "acr": ACR}, {"acr": "urn:other"}, {"auth_time": 10**11, "acr": ACR}],
)
@pytest.mark.parametrize(
    "path", ["/Patient/A", "/Patient/A/_history/1", "/Patient/A/_history", "/Patient?_id=A"]
)
async def test_3_case_306_what_is_missing_never_satisfies(
    gateway: RunningGateway, claims: dict[str, Any], path: str
) -> None:
    token = await gateway.token("pA-r", **claims)
    reply = await gateway.fhir("GET", path, token=token)
    assert (reply.status, reply.reason) == (401, "step-up-required")
    assert gateway.upstream.requests == []


async def test_3_a_fresh_sign_in_passes_and_other_types_never_ask(gateway: RunningGateway) -> None:
    token = await gateway.token("pA-r", auth_time=gateway.gateway.clock(), acr=ACR)
    assert (await gateway.fhir("GET", "/Patient/A", token=token)).status == 200
    old = await gateway.token("pA-r", auth_time=0, acr=ACR)
    assert (await gateway.fhir("GET", "/Observation/a1", token=old)).status == 200


async def test_3_by_mutual_TLS_the_challenge_is_Bearer(gateway: RunningGateway) -> None:
    certificate = gateway.folder / "own.pem"
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    token = await gateway.token("pA-r", mtls=thumbprint(der), auth_time=0, acr=ACR)
    headers = [("Authorization", f"Bearer {token}")]
    target = f"{MOUNT}/Patient/A"
    reply = await gateway.send("GET", target, headers, port=gateway.mtls_port, certificate=certificate)
    scheme, said = challenge_of(reply.header("www-authenticate"))
    assert (reply.status, scheme) == (401, "Bearer")
    assert (said["error"], said["max_age"]) == ("insufficient_user_authentication", "600")
    assert "algs" not in said
    assert reply.header("dpop-nonce") is None


async def test_3_what_is_closed_anyway_sends_nobody_to_sign_in(gateway: RunningGateway) -> None:
    token = await gateway.token("pA-r", scope="patient/Observation.rs")
    reply = await gateway.fhir("GET", "/Patient/A", token=token)
    assert (reply.status, reply.reason) == (403, "scope-insufficient")
    system = await gateway.token("lab")
    reply = await gateway.fhir("GET", "/Patient/A", token=system)
    assert (reply.status, reply.reason) == (403, "no-permit")


# RFC 6750 3.1: what another token would open


async def test_RFC6750_3_1_a_scope_that_is_missing_is_told_as_a_challenge(gateway: RunningGateway) -> None:
    token = await gateway.token("pA-r", scope="patient/Observation.rs")
    reply = await gateway.fhir("GET", "/Patient/A", token=token)
    scheme, said = challenge_of(reply.header("www-authenticate"))
    assert (reply.status, reply.reason, scheme) == (403, "scope-insufficient", "DPoP")
    assert said["error"] == "insufficient_scope"
    assert said["resource_metadata"].endswith(f"/.well-known/oauth-protected-resource{MOUNT}")
    assert len([name for name, _ in reply.headers if name.lower() == "dpop-nonce"]) <= 1


async def test_RFC6750_3_1_what_no_scope_would_open_has_no_challenge(gateway: RunningGateway) -> None:
    closed = await gateway.fhir("GET", "/Patient/A", token=await gateway.token("lab"))
    fresh = await gateway.token("pA-r", auth_time=gateway.gateway.clock(), acr=ACR)
    hidden = await gateway.fhir("GET", "/Patient/B", token=fresh)
    for reply in (closed, hidden):
        assert reply.status in (403, 404)
        assert reply.header("www-authenticate") is None


# Both ends: refused, authorized again with the parameters of the challenge, read


@dataclass
class Hospital:
    """A whole gateway in this process with the demonstration's people and apps, and a store behind it."""

    gateway: Gateway
    facts: dict[str, Any]
    upstream: HostileUpstream
    http: aiohttp.ClientSession

    def user(self, username: str) -> dict[str, Any]:
        found: dict[str, Any] = next(u for u in self.facts["users"] if u["username"] == username)
        return found

    def app(self, name: str) -> demo.Session:
        registered = next(client for client in self.facts["clients"] if client["name"] == name)
        key = demo.Key.of_jwk(registered["jwks"]["keys"][0])
        return demo.Session(self.http, self.facts["issuer"], name, key, demo.Key.new())

    async def age(self, person: demo.Person, seconds: int) -> None:
        """Let a person's sign-in have been so long ago, in the server's own record of the browser."""
        handle = person._cookies["__Host-securus"]
        now = self.gateway.clock()
        session = await self.gateway.store.session(base64url(sha256(handle.encode()).digest()), now=now)
        assert session is not None
        await self.gateway.store.put_session(replace(session, authenticated_at=now - seconds))


@pytest.fixture
async def hospital(tmp_path: Path) -> AsyncIterator[Hospital]:
    ports = demonstration.Ports(*(demonstration.free_port() for _ in range(4)))
    facts = await asyncio.to_thread(demonstration.build, tmp_path, ports)
    (tmp_path / "policies" / "90-fresh.yaml").write_text(RULES)
    upstream = HostileUpstream(ports.upstream)
    patient = {"resourceType": "Patient", "id": demonstration.PATIENT, "meta": {"versionId": "1"}}
    upstream.resources = {f"Patient/{demonstration.PATIENT}": patient}
    await upstream.start()
    gateway = await Gateway.open(load(Path(facts["config"]), {}))
    context = ssl.create_default_context(cafile=facts["ca_certificate"])
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context), cookie_jar=aiohttp.DummyCookieJar()
    ) as http:
        yield Hospital(gateway, facts, upstream, http)
    await gateway.close()
    await upstream.stop()


async def authorize(hospital: Hospital, app: demo.Session, person: demo.Person, **more: str) -> str:
    """An access token, through the pages, as a client library gets it."""
    pushed, verifier, _ = await app.push(demonstration.REDIRECT_URI, SCOPE, **more)
    assert pushed.status == 201, pushed.body
    password = hospital.user("stephen")["password"]
    url = app.authorization_url(pushed.json["request_uri"])
    answer = await person.authorize(url, "stephen", password)
    issued = await app.redeem(answer["code"], verifier, demonstration.REDIRECT_URI)
    assert issued.status == 200, issued.body
    return str(issued.json["access_token"])


async def test_a_refused_read_passes_once_the_person_signed_in_as_the_challenge_says(
    hospital: Hospital,
) -> None:
    app, person = hospital.app("portal-dpop"), demo.Person(hospital.http)
    await app.discover()
    chart = f"{hospital.facts['fhir_base']}/Patient/{demonstration.PATIENT}"
    first = await authorize(hospital, app, person)
    assert (await app.get(chart, first)).status == 200
    await hospital.age(person, 3600)

    person.pages.clear()
    old = await authorize(hospital, app, person)
    assert "login" not in person.pages  # the browser is still signed in: single sign-on
    refused = await app.get(chart, old)
    assert refused.status == 401
    scheme, said = challenge_of(refused.headers["www-authenticate"])
    assert (scheme, said["error"]) == ("DPoP", "insufficient_user_authentication")

    person.pages.clear()
    asked = {name: said[name] for name in ("acr_values", "max_age")}
    fresh = await authorize(hospital, app, person, **asked)
    assert person.pages[0] == "login"
    assert (await app.get(chart, fresh)).status == 200
    assert (await app.get(chart, old)).status == 401  # another's sign-in is not this token's

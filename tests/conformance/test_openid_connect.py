"""OpenID Connect: K5 of the FAPI 2.0 checklist, OpenID Connect Core, RP-Initiated Logout."""

import base64
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest

from authz.protocol.clients import SubjectType
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.openid import Subjects
from authz.settings import Account
from tests.support.authorization_server import (
    ANNA,
    FHIR,
    ISSUER,
    MTLS_ORIGIN,
    PASSWORD,
    REDIRECT_URI,
    App,
    Person,
    Reply,
    World,
    answer_of,
    http_request,
    open_world,
)
from tests.support.jose import make_jws

SCOPE = "openid fhirUser offline_access launch/patient patient/*.rs"
AFTER = "https://portal.example/signed-out"
BOB = Account("bob", "b0b", ANNA.password_hash, "Bob Other", {"fhirUser": "Patient/C"}, "C")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        opened.clients["portal"] = replace(
            opened.clients["portal"], post_logout_redirect_uris=(AFTER, f"{AFTER}?a=b")
        )
        for name in ("portal", "portal-2", "portal-mtls", "portal-signed"):
            client = opened.clients[name]
            opened.clients[name] = replace(client, scope=(*client.scope, "profile"))
        yield await opened.reopen(accounts={"anna": ANNA, "bob": BOB})


def claims_of(world: World, token: str, audience: str = "portal") -> dict[str, Any]:
    """The claims of an ID token, checked by a library of somebody else."""
    header = jwt.get_unverified_header(token)
    jwk = next(key for key in world.keys.jwks()["keys"] if key["kid"] == header["kid"])
    checks = {"verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "sub"]}
    found: dict[str, Any] = jwt.decode(
        token, jwt.PyJWK(jwk).key, [header["alg"]], checks, audience=audience, issuer=ISSUER
    )
    return found


async def signed_in(
    world: World, client_id: str = "portal", person: Person | None = None, **changes: Any
) -> tuple[App, dict[str, Any]]:
    """Tokens of the whole flow, through the pages."""
    app = world.app(client_id)
    pushed = await app.push(**{"scope": SCOPE} | changes)
    assert pushed.status == 201, pushed.text
    person = person or Person(world)
    page = await person.sign_in(pushed, client_id)
    reply = await app.redeem(answer_of(await person.consent(page))["code"])
    assert reply.status == 200, reply.text
    return app, reply.json


async def userinfo(app: App, token: str, **headers: str) -> Reply:
    request = app.reading(token, "/userinfo")
    more = [(name, value) for name, value in request.headers.items()] + list(headers.items())
    return await app.world.send(
        http_request("GET", "/userinfo", headers=more, origin=app.origin, certificate=app.certificate)
    )


# ID token


async def test_K5_an_ID_token_says_who_signed_in_when_and_how(world: World) -> None:
    _, tokens = await signed_in(world, nonce="n-1")
    claims = claims_of(world, tokens["id_token"])
    assert claims["sub"] == ANNA.subject
    assert (claims["nonce"], claims["auth_time"]) == ("n-1", world.clock.now)
    assert (claims["acr"], claims["amr"]) == ("urn:securus:acr:password", ["pwd"])
    assert 0 < claims["exp"] - claims["iat"] <= 3600
    half = sha256(tokens["access_token"].encode()).digest()[:16]
    assert claims["at_hash"] == base64.urlsafe_b64encode(half).rstrip(b"=").decode()
    assert jwt.get_unverified_header(tokens["id_token"])["kid"]


async def test_K5_nonce_only_if_sent(world: World) -> None:
    _, tokens = await signed_in(world)
    assert "nonce" not in claims_of(world, tokens["id_token"])


async def test_K5_a_nonce_of_512_characters_comes_back_intact(world: World) -> None:
    nonce = "n" * 512
    _, tokens = await signed_in(world, nonce=nonce)
    assert claims_of(world, tokens["id_token"])["nonce"] == nonce


async def test_without_openid_in_scope_there_is_no_ID_token(world: World) -> None:
    _, tokens = await signed_in(world, scope=SCOPE.removeprefix("openid "))
    assert "id_token" not in tokens


async def test_K5_nothing_personal_that_nobody_asked_for(world: World) -> None:
    _, tokens = await signed_in(world, scope="openid offline_access launch/patient patient/*.rs")
    protocol = {"iss", "sub", "aud", "iat", "exp", "at_hash", "auth_time", "acr", "amr"}
    assert set(claims_of(world, tokens["id_token"])) == protocol
    _, tokens = await signed_in(world, scope=f"{SCOPE} profile")
    assert set(claims_of(world, tokens["id_token"])) == protocol | {"fhirUser"}


async def test_K5_the_claims_parameter_is_honoured(world: World) -> None:
    asked = {"id_token": {"name": None, "auth_time": {"essential": True}, "shoe_size": None}}
    _, tokens = await signed_in(world, claims=json.dumps(asked))
    claims = claims_of(world, tokens["id_token"])
    assert claims["name"] == "Anna Own"
    assert "shoe_size" not in claims


@pytest.mark.parametrize(
    "claims",
    [
        "x",
        "[]",
        '{"id_token": []}',
        '{"userinfo": {"name": 7}}',
        '{"id_token": {}, "id_token": {}}',
        "{" * 5000,
    ],
)
async def test_K5_a_claims_parameter_that_cannot_be_read_is_refused_at_PAR(world: World, claims: str) -> None:
    assert (await world.app().push(claims=claims)).refusal == (400, "invalid_request")


async def test_K5_an_essential_acr_that_nobody_reaches_is_refused_at_PAR(world: World) -> None:
    asked = {"id_token": {"acr": {"essential": True, "values": ["urn:other"]}}}
    reply = await world.app().push(claims=json.dumps(asked))
    assert reply.refusal == (400, "unmet_authentication_requirements")
    asked["id_token"]["acr"]["values"].append("urn:securus:acr:password")
    assert (await world.app().push(claims=json.dumps(asked))).status == 201
    assert (await world.app().push(acr_values="urn:other")).status == 201  # voluntary (Core 3.1.2.1)


async def test_a_refreshed_ID_token_names_the_same_sign_in_without_a_nonce(world: World) -> None:
    app, tokens = await signed_in(world, nonce="n-1")
    first = claims_of(world, tokens["id_token"])
    world.clock.now += 100
    again = claims_of(world, (await app.refresh(tokens["refresh_token"])).json["id_token"])
    assert "nonce" not in again
    for name in ("iss", "sub", "aud", "auth_time"):
        assert again[name] == first[name]
    assert again["iat"] == first["iat"] + 100


async def test_an_ID_token_opens_nothing(world: World) -> None:
    app, tokens = await signed_in(world)
    reply = await userinfo(app, tokens["id_token"])
    assert (reply.status, reply.json["error"]) == (401, "invalid_token")


# Subjects


async def test_a_pairwise_subject_differs_between_sectors_and_is_the_same_within_one(world: World) -> None:
    elsewhere = "https://other.example/cb"
    clients = dict(world.clients)
    for name in ("portal", "portal-2", "portal-mtls"):
        clients[name] = replace(clients[name], subject_type=SubjectType.PAIRWISE)
    clients["portal-mtls"] = replace(clients["portal-mtls"], redirect_uris=(elsewhere,))
    again = await world.reopen(clients=clients)
    app, tokens = await signed_in(again, "portal")
    _, same = await signed_in(again, "portal-2")
    assert (await again.app("portal-mtls").push(redirect_uri=elsewhere, scope=SCOPE)).status == 201
    subject = claims_of(again, tokens["id_token"])["sub"]
    assert subject != ANNA.subject
    assert claims_of(again, same["id_token"], "portal-2")["sub"] == subject
    assert (await userinfo(app, tokens["access_token"])).json["sub"] == subject
    assert json.loads(base64.urlsafe_b64decode(tokens["access_token"].split(".")[1] + "=="))["sub"] == subject
    one, other = (Subjects(b"s").of(clients[name], "x") for name in ("portal", "portal-mtls"))
    assert one != other


def test_OIDC_8_1_apps_of_devices_have_no_sector_in_common(world: World) -> None:
    """Every native app may be at the loopback address, and a scheme of its own has no host at all."""
    addresses = [
        ("http://127.0.0.1/a", "http://127.0.0.1/b"), ("http://[::1]:8000/a",), ("com.example.chart:/callback",),
        ("com.example.chart://callback",), ("https://127.0.0.1/callback",), ("https://[::1]/callback",),
    ]  # fmt: skip
    for uris in addresses:
        app = replace(world.clients["portal"], redirect_uris=uris, subject_type=SubjectType.PAIRWISE)
        one, other = (
            Subjects(b"s").of(replace(app, client_id=name, redirect_uris=uris), "x") for name in ("a", "b")
        )
        assert one != other, uris


async def test_a_pairwise_subject_can_be_refreshed(world: World) -> None:
    clients = world.clients | {"portal": replace(world.clients["portal"], subject_type=SubjectType.PAIRWISE)}
    again = await world.reopen(clients=clients)
    app, tokens = await signed_in(again)
    refreshed = await app.refresh(tokens["refresh_token"])
    assert claims_of(again, refreshed.json["id_token"])["sub"] == claims_of(again, tokens["id_token"])["sub"]


async def test_a_pairwise_client_never_learns_another_name_of_the_person(world: World) -> None:
    """OpenID Connect Core 8: by introspection of its refresh token neither, where no claim of ours is signed."""
    clients = world.clients | {"portal": replace(world.clients["portal"], subject_type=SubjectType.PAIRWISE)}
    again = await world.reopen(clients=clients)
    app, tokens = await signed_in(again)
    named = claims_of(again, tokens["id_token"])["sub"]
    assert named != ANNA.subject
    for token in (tokens["refresh_token"], tokens["access_token"]):
        said = (await app.post("/introspect", {"token": token})).json
        assert (said["active"], said["sub"]) == (True, named)
        assert ANNA.subject not in json.dumps(said)
    asking = again.app("resource-server")
    assert (await asking.post("/introspect", {"token": tokens["refresh_token"]})).json["sub"] == named


# Userinfo


async def test_userinfo_says_what_scopes_and_claims_asked_for(world: World) -> None:
    app, tokens = await signed_in(world)
    assert (await userinfo(app, tokens["access_token"])).json == {
        "sub": ANNA.subject,
        "fhirUser": "Patient/A",
    }
    app, tokens = await signed_in(world, scope="openid profile launch/patient patient/*.rs")
    assert (await userinfo(app, tokens["access_token"])).json == {"sub": ANNA.subject, "name": "Anna Own"}
    asked = json.dumps({"userinfo": {"name": {"essential": True}}})
    app, tokens = await signed_in(world, scope="openid launch/patient patient/*.rs", claims=asked)
    said = await userinfo(app, tokens["access_token"])
    assert said.json == {"sub": ANNA.subject, "name": "Anna Own"}
    assert said.header("cache-control") == "no-store"


async def test_userinfo_is_signed_on_demand(world: World) -> None:
    app, tokens = await signed_in(world)
    reply = await userinfo(app, tokens["access_token"], accept="application/jwt")
    assert (reply.status, reply.header("content-type")) == (200, "application/jwt")
    jwk = world.keys.jwks()["keys"][0]
    said = jwt.decode(reply.text, jwt.PyJWK(jwk).key, ["ES256"], audience="portal", issuer=ISSUER)
    assert said["sub"] == ANNA.subject


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        ("application/json, application/jwt", "application/json"),
        ("application/jwt;q=0.5, application/json", "application/json"),
        ("*/*", "application/json"),
        ("Application/JWT;q=1, text/plain", "application/jwt"),
    ],
)
async def test_userinfo_is_json_for_those_who_take_both(world: World, accept: str, answered: str) -> None:
    """OpenID Connect Core 5.3.2: openid-client names both types, and a client that never asked for signatures is one."""
    app, tokens = await signed_in(world)
    reply = await userinfo(app, tokens["access_token"], accept=accept)
    assert (reply.status, reply.header("content-type")) == (200, answered)


async def test_userinfo_wants_the_key_of_the_token(world: World) -> None:
    _, tokens = await signed_in(world)
    bare = [("authorization", f"DPoP {tokens['access_token']}")]
    reply = await world.get("/userinfo", headers=bare)
    assert (reply.status, reply.header("www-authenticate").split()[0]) == (401, "DPoP")  # type: ignore[union-attr]
    assert (await world.get("/userinfo")).status == 401


async def test_userinfo_wants_the_scope_openid(world: World) -> None:
    app, tokens = await signed_in(world, scope=SCOPE.removeprefix("openid "))
    reply = await userinfo(app, tokens["access_token"])
    assert (reply.status, reply.json["error"]) == (403, "insufficient_scope")
    assert 'scope="openid"' in (reply.header("www-authenticate") or "")


async def test_userinfo_answers_certificates_at_the_alias(world: World) -> None:
    app, tokens = await signed_in(world, "portal-mtls")
    assert (await userinfo(app, tokens["access_token"])).json["sub"] == ANNA.subject
    assert app.origin == MTLS_ORIGIN


async def test_userinfo_of_a_revoked_grant_is_401(world: World) -> None:
    app, tokens = await signed_in(world)
    await app.post("/revoke", {"token": tokens["refresh_token"]})
    assert (await userinfo(app, tokens["access_token"])).status == 401


# prompt, hints


async def visit(world: World, person: Person, **changes: Any) -> Reply:
    pushed = await world.app().push(**{"scope": SCOPE} | changes)
    assert pushed.status == 201, pushed.text
    query = urlencode({"client_id": "portal", "request_uri": pushed.json["request_uri"]})
    return await person.visit(f"/authorize?{query}")


async def test_prompt_none_without_a_sign_in_is_login_required(world: World) -> None:
    answer = answer_of(await visit(world, Person(world), prompt="none"))
    assert (answer["error"], answer["state"], answer["iss"]) == ("login_required", "s-1", ISSUER)


async def test_prompt_none_of_somebody_who_was_never_asked_is_consent_required(world: World) -> None:
    person = Person(world)
    await person.sign_in(await world.app("portal-2").push(), "portal-2")
    assert answer_of(await visit(world, person, prompt="none"))["error"] == "consent_required"


async def test_prompt_none_gives_what_was_granted_before_and_no_more(world: World) -> None:
    person = Person(world)
    app, _ = await signed_in(world, person=person)
    answer = answer_of(await visit(world, person, prompt="none", scope="openid patient/*.rs"))
    reply = await app.redeem(answer["code"])
    assert (reply.status, reply.json["patient"]) == (200, "A")
    more = answer_of(await visit(world, person, prompt="none", scope="openid user/Observation.rs"))
    assert more["error"] == "consent_required"


async def test_prompt_none_is_not_for_a_sign_in_that_is_too_old(world: World) -> None:
    person = Person(world)
    await signed_in(world, person=person)
    world.clock.now += 100
    assert answer_of(await visit(world, person, prompt="none", max_age="99"))["error"] == "login_required"


async def test_prompt_none_uses_the_pushed_request_up(world: World) -> None:
    pushed = await world.app().push(scope=SCOPE, prompt="none")
    query = urlencode({"client_id": "portal", "request_uri": pushed.json["request_uri"]})
    person = Person(world)
    assert (await person.visit(f"/authorize?{query}")).status == 303
    assert (await person.visit(f"/authorize?{query}")).status == 400


async def test_login_hint_fills_the_form_and_is_escaped(world: World) -> None:
    page = await visit(world, Person(world), login_hint='anna"><script>')
    assert 'value="anna&#34;&gt;&lt;script&gt;"' in page.text


def of_subject(*values: str, name: str = "") -> str:
    """A claims request for an ID token of one of these people."""
    asked: dict[str, object] = {"value": values[0]} if name == "value" else {"values": list(values)}
    return json.dumps({"id_token": {"sub": asked}})


async def test_OIDC_5_5_1_a_sub_that_is_asked_for_by_value_is_of_the_person_or_nobody_gets_a_token(
    world: World,
) -> None:
    person = Person(world)
    await signed_in(world, person=person)
    for claims in (of_subject(ANNA.subject, name="value"), of_subject("x", ANNA.subject)):
        page = await visit(world, person, claims=claims)
        assert 'id="allow"' in page.text
    for claims in (of_subject(BOB.subject, name="value"), of_subject("x", BOB.subject), of_subject()):
        page = await visit(world, person, claims=claims)
        assert 'name="password"' in page.text  # another one is meant: who is here signs in again, or Bob does
        refused = answer_of(await person.submit(page, username="anna", password=PASSWORD))
        assert refused["error"] == "login_required"
        assert "code" not in refused


async def test_OIDC_5_5_1_without_pages_another_sub_is_login_required(world: World) -> None:
    person = Person(world)
    await signed_in(world, person=person)
    asked = of_subject(BOB.subject, name="value")
    answer = answer_of(await visit(world, person, claims=asked, prompt="none"))
    assert answer["error"] == "login_required"
    same = of_subject(ANNA.subject, name="value")
    assert "code" in answer_of(await visit(world, person, claims=same, prompt="none"))


async def test_OIDC_5_5_1_the_sub_that_is_asked_for_is_the_one_that_the_client_knows(world: World) -> None:
    clients = world.clients | {"portal": replace(world.clients["portal"], subject_type=SubjectType.PAIRWISE)}
    again, person = await world.reopen(clients=clients), Person(world)
    person.world = again
    _, tokens = await signed_in(again, person=person)
    named = claims_of(again, tokens["id_token"])["sub"]
    assert 'id="allow"' in (await visit(again, person, claims=of_subject(named, name="value"))).text
    page = await visit(again, person, claims=of_subject(ANNA.subject, name="value"))
    assert 'name="password"' in page.text


@pytest.mark.parametrize("asked", [None, {}, {"essential": True}])
async def test_OIDC_5_5_1_a_sub_without_a_value_is_anybodys(world: World, asked: object) -> None:
    person = Person(world)
    await signed_in(world, person=person)
    page = await visit(world, person, claims=json.dumps({"id_token": {"sub": asked}}))
    assert 'id="allow"' in page.text


async def test_id_token_hint_of_the_person_goes_straight_on_and_of_another_asks(world: World) -> None:
    person = Person(world)
    _, tokens = await signed_in(world, person=person)
    page = await visit(world, person, id_token_hint=tokens["id_token"])
    assert 'id="allow"' in page.text
    other = Person(world, BOB)
    _, foreign = await signed_in(world, person=other, scope="openid launch/patient patient/*.rs")
    page = await visit(world, person, id_token_hint=foreign["id_token"])
    assert 'name="password"' in page.text
    answer = answer_of(await person.submit(page, username="anna", password=PASSWORD))
    assert answer["error"] == "login_required"


@pytest.mark.parametrize("hint", ["x", "a.b.c"])
async def test_a_hint_that_is_no_ID_token_of_ours_is_refused_at_PAR(world: World, hint: str) -> None:
    assert (await world.app().push(id_token_hint=hint)).refusal == (400, "invalid_request")


async def test_an_access_token_or_a_strangers_token_is_no_hint(world: World) -> None:
    _, tokens = await signed_in(world)
    forged = make_jws(world.private["portal"], {"alg": "ES256", "typ": "JWT"}, {"iss": ISSUER, "sub": "x"})
    for hint in (tokens["access_token"], forged):
        assert (await world.app().push(id_token_hint=hint)).refusal == (400, "invalid_request")


# RP-initiated logout


async def logout(world: World, person: Person, **asked: str) -> Reply:
    return await person.visit(f"/logout?{urlencode(asked)}")


async def is_signed_in(world: World, person: Person) -> bool:
    return 'name="password"' not in (await visit(world, person)).text


async def test_logout_with_a_hint_ends_the_session_and_leads_back(world: World) -> None:
    person = Person(world)
    _, tokens = await signed_in(world, person=person)
    reply = await logout(
        world, person, id_token_hint=tokens["id_token"], post_logout_redirect_uri=AFTER, state="s&2"
    )
    assert reply.status == 303
    target = urlsplit(reply.header("location") or "")
    assert (target.netloc, target.path) == ("portal.example", "/signed-out")
    assert parse_qs(target.query) == {"state": ["s&2"]}
    assert "Max-Age=0" in (reply.header("set-cookie") or "")
    person.cookie = None
    assert not await is_signed_in(world, person)


async def test_logout_takes_the_session_away_even_when_the_browser_keeps_the_cookie(world: World) -> None:
    person = Person(world)
    _, tokens = await signed_in(world, person=person)
    kept = person.cookie
    await logout(world, person, id_token_hint=tokens["id_token"])
    person.cookie = kept
    assert not await is_signed_in(world, person)


async def test_logout_without_proof_asks_first(world: World) -> None:
    person = Person(world)
    await signed_in(world, person=person)
    page = await logout(world, person, client_id="portal", post_logout_redirect_uri=AFTER)
    assert 'id="logout"' in page.text
    assert await is_signed_in(world, person)
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
    form = {name: unescape(value) for name, value in hidden.items()}
    forged = await world.post(
        "/logout", form | {"form_token": "x"}, headers=[("cookie", person.cookie or "")]
    )
    assert 'id="logout"' in forged.text
    done = await world.post("/logout", form, headers=[("cookie", person.cookie or "")])
    assert (done.status, done.header("location")) == (303, AFTER)


@pytest.mark.parametrize("back", ["https://evil.example/", f"{AFTER}/x", "javascript:alert(1)"])
async def test_logout_leads_to_registered_addresses_only(world: World, back: str) -> None:
    person = Person(world)
    _, tokens = await signed_in(world, person=person)
    reply = await logout(world, person, id_token_hint=tokens["id_token"], post_logout_redirect_uri=back)
    assert reply.status == 400
    assert await is_signed_in(world, person)
    assert (await logout(world, person, post_logout_redirect_uri=AFTER)).status == 400  # whose is it?


async def test_logout_with_a_damaged_hint_is_an_error_page(world: World) -> None:
    person = Person(world)
    _, tokens = await signed_in(world, person=person)
    reply = await logout(world, person, id_token_hint=tokens["id_token"][:-4] + "AAAA")
    assert reply.status == 400
    assert await is_signed_in(world, person)


async def test_logout_of_nobody_says_that_it_is_done(world: World) -> None:
    assert 'id="signed-out"' in (await logout(world, Person(world))).text


# Grants


async def managing(world: World) -> tuple[App, World]:
    scopes = ("grant_management_query", "grant_management_revoke")
    client = world.clients["portal"]
    clients = world.clients | {
        "portal": replace(
            client,
            scope=(*client.scope, *scopes),
            grant_types=client.grant_types | world.clients["lab"].grant_types,
        )
    }
    again = await world.reopen(clients=clients)
    return again.app(), again


async def call(app: App, method: str, path: str, token: str) -> Reply:
    nonces = app.world.server.resource_server
    refusal = OAuthError(ErrorCode.USE_DPOP_NONCE, "as if refused")
    nonce = dict(nonces.challenge(refusal, http_request("GET", path)))["DPoP-Nonce"]
    proof = app.proof(path, method=method, nonce=nonce, access_token=token)
    headers = [("authorization", f"DPoP {token}"), ("dpop", proof)]
    return await app.world.send(http_request(method, path, headers=headers))


async def test_a_client_sees_and_ends_its_grant(world: World) -> None:
    app, again = await managing(world)
    holder, tokens = await signed_in(again, grant_management_action="create")
    path = f"/grants/{tokens['grant_id']}"
    own = (await app.own_token(scope="grant_management_query grant_management_revoke")).json["access_token"]
    said = (await call(app, "GET", path, own)).json
    assert said["scopes"] == [{"scope": tokens["scope"], "resources": [FHIR]}]
    assert (await call(app, "DELETE", path, own)).status == 204
    assert (await holder.refresh(tokens["refresh_token"])).refusal == (400, "invalid_grant")
    assert (await userinfo(holder, tokens["access_token"])).status == 401
    assert (await call(app, "GET", path, own)).status == 404


async def test_a_grant_is_for_its_own_client_and_the_right_scope(world: World) -> None:
    app, again = await managing(world)
    _, tokens = await signed_in(again, "portal-2", grant_management_action="create")
    own = (await app.own_token(scope="grant_management_query")).json["access_token"]
    assert (await call(app, "GET", f"/grants/{tokens['grant_id']}", own)).status == 404
    reply = await call(app, "DELETE", f"/grants/{tokens['grant_id']}", own)
    assert (reply.status, reply.json["error"]) == (403, "insufficient_scope")
    assert (await world.get("/grants/x")).status == 401


async def test_the_id_of_a_grant_is_told_to_those_who_ask(world: World) -> None:
    _, tokens = await signed_in(world)
    assert "grant_id" not in tokens
    for action in ("merge", "replace", "x"):
        reply = await world.app().push(grant_management_action=action)
        assert reply.refusal == (400, "invalid_request")


async def test_the_scopes_of_grant_management_are_not_for_people(world: World) -> None:
    app, _ = await managing(world)
    assert (await app.push(scope="grant_management_query")).refusal == (400, "invalid_scope")
    assert app.registered.redirect_uris[0] == REDIRECT_URI

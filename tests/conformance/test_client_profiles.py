"""The profiles of SMART App Launch 2.2 clients: what each may leave, and that the others may leave nothing."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from authz.protocol.client_profiles import PROFILES
from authz.protocol.clients import BindingKind, ProfileName
from authz.protocol.errors import ErrorCode, OAuthError
from authz.settings import Lifetimes
from tests.support.authorization_server import (
    FHIR,
    ISSUER,
    MTLS_ORIGIN,
    REDIRECT_URI,
    VERIFIER,
    Person,
    Reply,
    World,
    answer_of,
    claims_of,
    http_request,
    open_world,
)
from tests.support.jose import ABSENT, make_jws
from tests.support.smart import EVERY, P384, RSA, SECRET, SmartApp, assertion_384, basic, clients, smart_world

APPS = ["smart-app", "smart-secret", "smart-keys"]
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@pytest.fixture
async def fapi(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def world(fapi: World) -> World:
    return await smart_world(fapi)


# What is off by default


async def test_C9_while_a_profile_is_off_its_clients_do_not_exist(fapi: World):
    off = await smart_world(fapi, profiles=frozenset({ProfileName.FAPI2}))
    for client_id in clients():
        app = SmartApp(off, client_id)
        refused = await app.post("/token", {"grant_type": "authorization_code", "code": "x"})
        assert refused.json["error"] == "invalid_client"
    page = await SmartApp(off).ask(Person(off))
    assert page.status == 400
    assert "pushed authorization requests only" in page.text
    form = await off.post("/authorize", SmartApp(off).asking())
    assert (form.status, 'id="error"' in form.text) == (400, True)


async def test_P10_a_FAPI_client_pushes_whatever_else_is_on(world: World):
    app = SmartApp(world, "portal")
    for page in (await app.ask(Person(world)), await world.post("/authorize", app.asking())):
        assert page.status == 400
        assert 'id="error"' in page.text
        assert "request_uri is missing" in page.text
        assert page.header("location") is None


async def test_K1_a_FAPI_client_gets_no_token_without_a_key_whatever_else_is_on(world: World):
    app = world.app()
    refused = await app.redeem(await app.code(), proof=None)
    assert refused.refusal == (400, "invalid_dpop_proof")


def test_only_the_profiles_of_SMART_leave_anything():
    strict = PROFILES[ProfileName.FAPI2]
    assert strict.pushed_requests_required
    assert strict.sender_constrained_required
    assert not strict.token_url_audience_allowed
    assert not strict.signing_algorithms & {"RS384", "ES384", "RS256", "none"}
    assert set(PROFILES) == EVERY


# Whole ways


@pytest.mark.parametrize("client_id", APPS)
async def test_a_launch_of_each_profile_gives_a_token_that_opens_the_record(world: World, client_id: str):
    app = SmartApp(world, client_id)
    answer = (await app.redeem(await app.launch(Person(world)))).json
    assert answer["token_type"] == "Bearer"
    assert answer["patient"] == "A"
    assert answer["scope"] == "launch/patient patient/*.rs"
    assert 0 < answer["expires_in"] <= 300
    caller = (await app.read(answer["access_token"])).caller
    assert caller.client_id == client_id
    assert caller.binding.kind is BindingKind.NONE
    assert caller.audience == (FHIR,)


async def test_a_public_app_goes_the_whole_way_of_a_standalone_launch(world: World):
    app, person = SmartApp(world), Person(world)
    page = await app.ask(person)
    assert 'name="password"' in page.text
    answer = await app.redeem(
        await app.launch(person, scope="launch/patient openid fhirUser patient/Observation.read")
    )
    assert answer.status == 200
    assert answer.json["scope"] == "launch/patient openid fhirUser patient/Observation.read"
    assert claims_of(answer.json["id_token"])["aud"] == "smart-app"
    assert "refresh_token" not in answer.json


async def test_a_plain_request_comes_by_GET_or_by_POST(world: World):
    app = SmartApp(world)
    form = await world.post("/authorize", app.asking())
    assert form.headers("set-cookie") == []
    way = form.header("location") or ""
    assert parse_qs(urlsplit(way).query).keys() == {"client_id", "request_uri"}
    for reply in (
        await world.get("/authorize", query=urlencode(app.asking())),
        await world.get("/authorize", query=urlsplit(way).query),
    ):
        assert reply.status == 303
        assert (reply.header("location") or "").startswith("/sign-in?interaction=")
        assert "state" not in (reply.header("location") or "")


async def test_P9_beside_a_pushed_request_nothing_is_read_whatever_else_is_on(world: World):
    app = world.app()
    pushed = await app.push()
    query = urlencode({"client_id": "portal", "request_uri": pushed.json["request_uri"]})
    for more in ("state=a&state=b", "scope=%0a", "client_secret=x"):
        reply = await world.get("/authorize", query=f"{query}&{more}")
        assert (reply.header("location") or "").startswith("/sign-in?interaction="), more


@pytest.mark.parametrize("mode", ["fragment", "form_post", "web_message", "query.JWT", "none"])
async def test_a_response_mode_that_is_not_offered_is_refused_in_one_that_the_app_can_read(
    world: World, mode: str
):
    """OAuth 2.0 Multiple Response Type Encoding 2.1: the default is the query."""
    answer = answer_of(await SmartApp(world).ask(Person(world), response_mode=mode))
    assert answer["error"] == "invalid_request"
    assert (answer["state"], answer["iss"]) == ("s-1", "https://as.example")


async def test_a_client_may_push_what_it_need_not_push(world: World):
    app = SmartApp(world)
    pushed = await app.post("/par", app.asking())
    assert pushed.status == 201
    page = await Person(world).sign_in(pushed, "smart-app")
    assert "Growth chart" in page.text


async def test_a_scope_comes_back_byte_for_byte(world: World):
    app = SmartApp(world)
    asked = "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
    asked += " patient/Observation.read launch/patient"
    assert (await app.redeem(await app.launch(Person(world), scope=asked))).json["scope"] == asked


# Plain requests that are wrong


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": ABSENT},
        {"client_id": "nobody"},
        {"client_id": ABSENT},
    ],
)
async def test_A1_an_app_or_address_that_is_not_known_gets_a_page(world: World, changes: dict[str, Any]):
    for method in ("GET", "POST"):
        form = SmartApp(world).asking(**changes)
        reply = await (
            world.get("/authorize", query=urlencode(form))
            if method == "GET"
            else world.post("/authorize", form)
        )
        assert reply.status == 400
        assert reply.header("location") is None
        assert 'id="error-description"' in reply.text


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"aud": "https://elsewhere.example/fhir"}, "invalid_target"),
        ({"aud": ABSENT}, "invalid_request"),
        ({"state": ABSENT}, "invalid_request"),
        ({"code_challenge": ABSENT}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": ABSENT}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "system/*.rs"}, "invalid_scope"),
        ({"scope": "patient/Observation.sr"}, "invalid_scope"),
        ({"request": "a.b.c"}, "request_not_supported"),
    ],
)
async def test_A5_any_other_mistake_is_told_to_the_app(world: World, changes: dict[str, Any], error: str):
    reply = await world.get("/authorize", query=urlencode(SmartApp(world).asking(**changes)))
    assert (reply.header("location") or "").startswith(REDIRECT_URI)
    answer = answer_of(reply)
    assert answer["error"] == error
    assert "code" not in answer
    assert answer.get("state") == (None if "state" in changes else "s-1")


async def test_P14_a_parameter_that_is_sent_twice_is_a_page(world: World):
    query = urlencode(SmartApp(world).asking()) + "&scope=openid"
    reply = await world.get("/authorize", query=query)
    assert reply.status == 400
    assert reply.header("location") is None


async def test_a_code_of_a_plain_request_is_used_once_with_its_verifier(world: World):
    app, person = SmartApp(world), Person(world)
    wrong = await app.redeem(await app.launch(person), code_verifier="w" * 43)
    assert wrong.refusal == (400, "invalid_grant")
    code = await app.launch(person)
    first = (await app.redeem(code)).json
    assert (await app.redeem(code)).refusal == (400, "invalid_grant")
    with pytest.raises(OAuthError, match="revoked"):
        await app.read(first["access_token"])


@pytest.mark.parametrize("client_id", APPS)
async def test_RFC6749_4_1_3_who_need_not_push_says_again_where_the_code_came(world: World, client_id: str):
    """The address of a request that was not pushed is the browser's word: PKCE alone does not say where its code went."""
    app = SmartApp(world, client_id)
    code = await app.launch(Person(world))
    assert (await app.redeem(code, redirect_uri=ABSENT)).refusal == (400, "invalid_request")
    assert (await app.redeem(code)).status == 200  # nothing was used up by the mistake
    code = await app.launch(Person(world))
    other = await app.redeem(code, redirect_uri=f"{REDIRECT_URI}?tenant=a%20b")
    assert other.refusal == (400, "invalid_grant")


async def test_OAuth_2_1_4_1_3_who_pushed_need_not_say_it_again(world: World):
    app = world.app()
    assert (await app.redeem(await app.code(), redirect_uri=ABSENT)).status == 200
    other = await app.redeem(await app.code(), redirect_uri=f"{REDIRECT_URI}?tenant=a%20b")
    assert other.refusal == (400, "invalid_grant")


async def test_an_address_may_ask_so_many_times_a_minute(world: World):
    query = urlencode(SmartApp(world).asking())
    seen = [(await world.get("/authorize", query=query)).status for _ in range(121)]
    assert seen[:120] == [303] * 120
    assert seen[120] == 429
    world.clock.now += 60
    assert (await world.get("/authorize", query=query)).status == 303


async def test_an_address_may_push_so_many_times_a_minute_as_a_client_that_proves_nothing(world: World):
    app = SmartApp(world)
    seen = [await app.post("/par", app.asking()) for _ in range(121)]
    assert [reply.status for reply in seen[:120]] == [201] * 120
    assert seen[120].refusal == (429, "temporarily_unavailable")
    assert seen[120].header("retry-after") == "60"
    assert (
        await app.post("/par", app.asking(scope="nothing"))
    ).status == 400  # what leaves no row is not counted
    assert (await world.app().push()).status == 201  # who proves who it is, is not counted either
    world.clock.now += 60
    assert (await app.post("/par", app.asking())).status == 201


async def claims_kept(world: World) -> int:
    """How many claims of single use there are."""
    world.clock.now += 3600
    return await world.store.remove_expired(now=world.clock.now, at_most=100_000)


async def test_so_many_codes_of_nobody_may_come_from_an_address_with_a_proof_of_its_own(world: World):
    """Whoever makes a key says to be a public app, and each proof that is claimed is a row."""
    world.clock.now += 30
    app = SmartApp(world, "smart-held")
    code = await app.launch(Person(world))
    seen = [await app.redeem(f"{number}", proof=True) for number in range(121)]
    assert {reply.refusal for reply in seen[:120]} == {(400, "invalid_grant")}
    assert seen[120].refusal == (429, "temporarily_unavailable")
    assert seen[120].header("retry-after") == "60"
    assert (await world.app().redeem("x")).refusal == (400, "invalid_grant")  # who proves who it is
    assert (await app.redeem(code, proof=True)).status == 429  # and nothing of the person's is used up
    world.clock.now += 30
    assert (await app.redeem(code, proof=True)).status == 200


async def test_a_revocation_of_nothing_leaves_nothing_of_who_proves_nothing(world: World):
    app = SmartApp(world, "smart-held")
    assert (await app.post("/revoke", {"token": "x"}, proof=True)).status == 200
    await claims_kept(world)
    app.nonce = None
    for number in range(5):
        assert (await app.post("/revoke", {"token": f"{number}"}, proof=True)).status == 200
    assert await claims_kept(world) == 0


async def test_a_public_app_ends_its_own_tokens(world: World):
    app = SmartApp(world, "smart-held")
    tokens = (await app.redeem(await app.launch(Person(world)), proof=True)).json
    assert (await app.post("/revoke", {"token": tokens["access_token"]}, proof=True)).status == 200
    caller = world.server.resource_server.read(tokens["access_token"])
    assert caller is not None
    assert world.server.resource_server._revocations.is_revoked(caller.token_id, None)


async def test_who_says_to_be_a_public_client_uses_up_nothing_of_its_people(fapi: World):
    asked: list[str] = []

    async def admit(client_id: str) -> int:
        asked.append(client_id)
        return 60

    world = await smart_world(fapi, admit=admit)
    app = SmartApp(world)
    assert (await app.redeem("made up")).refusal == (400, "invalid_grant")
    assert (await app.refresh("made up")).refusal == (400, "invalid_grant")
    assert (await app.post("/par", app.asking())).status == 201
    assert (await app.post("/revoke", {"token": "made up"})).status == 200
    assert asked == []
    assert (await SmartApp(world, "smart-keys").redeem("x")).refusal == (429, "temporarily_unavailable")
    assert asked == ["smart-keys"]


# Authentication


@pytest.mark.parametrize(("key", "kid"), [(P384, "p384"), (RSA, "rsa")])
async def test_an_assertion_of_RS384_or_ES384_for_the_token_URL_is_accepted(world: World, key: Any, kid: str):
    form = {
        "grant_type": "client_credentials",
        "scope": "system/Patient.rs",
        "client_assertion_type": _ASSERTION_TYPE,
        "client_assertion": assertion_384(key, "smart-backend", kid=kid),
    }
    reply = await world.post("/token", form)
    assert reply.status == 200, reply.text
    assert reply.json["scope"] == "system/Patient.rs"
    again = await world.post("/token", form)
    assert again.json["error"] == "invalid_client"


async def test_an_assertion_may_be_for_the_alias_that_it_is_posted_to(fapi: World):
    """SMART App Launch 2.2: aud is the same URL to which the assertion will be posted."""
    backend = replace(clients()["smart-backend"], binding=BindingKind.MTLS)
    world = await smart_world(fapi, more={"smart-backend": backend})
    certificate = world.certificates["portal-mtls"]

    async def token(aud: object, origin: str = MTLS_ORIGIN) -> Reply:
        assertion = assertion_384(P384, "smart-backend", kid="p384", aud=aud)
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": assertion,
        }
        return await world.post("/token", form, origin=origin, certificate=certificate)

    for aud in (f"{MTLS_ORIGIN}/token", f"{ISSUER}/token", ISSUER):
        assert (await token(aud)).status == 200, aud
    for wrong in (f"{MTLS_ORIGIN}/par", MTLS_ORIGIN, f"{MTLS_ORIGIN}/token/", [f"{MTLS_ORIGIN}/token"]):
        assert (await token(wrong)).json["error"] == "invalid_client", wrong
    assert (await token(f"{MTLS_ORIGIN}/token", ISSUER)).json["error"] == "invalid_client"  # posted elsewhere


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://elsewhere.example/token"},
        {"exp": ABSENT},
        {"jti": ABSENT},
        {"header": {"kid": "unknown"}},
        {"header": {"kid": "rsa"}},
        {"header": {"alg": "none"}},
        {"header": {"alg": "HS384"}},
    ],
)
async def test_a_wrong_assertion_of_a_SMART_client_is_invalid_client(world: World, changes: dict[str, Any]):
    form = {"grant_type": "client_credentials", "client_assertion_type": _ASSERTION_TYPE}
    wrong = assertion_384(P384, "smart-backend", kid="p384", **changes)
    assert (await world.post("/token", form | {"client_assertion": wrong})).refusal == (400, "invalid_client")


async def test_a_jku_counts_only_as_the_registered_URL(world: World):
    form = {"grant_type": "client_credentials", "client_assertion_type": _ASSERTION_TYPE}
    wrong = assertion_384(P384, "smart-backend", kid="p384", header={"jku": "https://evil.example/jwks"})
    refused = await world.post("/token", form | {"client_assertion": wrong})
    assert refused.refusal == (400, "invalid_client")
    assert "jku" in refused.json["error_description"]


async def test_C1_C2_a_FAPI_client_signs_with_no_algorithm_of_SMART_and_names_the_issuer(world: World):
    portal = replace(world.clients["portal"], jwks=clients()["smart-keys"].jwks)
    both = await world.reopen(clients={**world.clients, "portal": portal}, profiles=EVERY)
    form = {"grant_type": "authorization_code", "code": "x", "client_assertion_type": _ASSERTION_TYPE}
    for key, kid in ((P384, "p384"), (RSA, "rsa")):
        said = assertion_384(key, "portal", kid=kid, aud="https://as.example")
        assert (await both.post("/token", form | {"client_assertion": said})).refusal == (
            400,
            "invalid_client",
        )
    said = world.app().assertion(aud="https://as.example/token")
    assert (await world.post("/token", form | {"client_assertion": said})).refusal == (400, "invalid_client")


async def test_a_secret_in_the_Authorization_header_authenticates(world: World):
    app = SmartApp(world, "smart-secret")
    code = await app.launch(Person(world))
    for wrong in (
        basic("smart-secret", SECRET + "x"),
        basic("smart-secret", ""),
        basic("portal", SECRET),
        "Basic %%%",
    ):
        headers = [("authorization", wrong)]
        refused = await world.post(
            "/token", {"grant_type": "authorization_code", "code": code}, headers=headers
        )
        assert refused.refusal == (401, "invalid_client")
        assert (refused.header("www-authenticate") or "").startswith("Basic ")
    assert (await app.redeem(code)).status == 200


async def test_a_secret_counts_in_the_header_alone(world: World):
    form = {"grant_type": "authorization_code", "code": "x", "client_id": "smart-secret"}
    for said in ({"client_secret": SECRET}, {}):
        assert (await world.post("/token", form | said)).json["error"] == "invalid_client"
    both = form | {"client_assertion": "a.b.c", "client_assertion_type": _ASSERTION_TYPE}
    refused = await world.post("/token", both, headers=[("authorization", basic("smart-secret", SECRET))])
    assert refused.json["error"] == "invalid_client"


async def test_a_client_with_keys_is_not_let_in_without_them(world: World):
    for client_id in ("smart-keys", "smart-backend", "smart-secret", "portal"):
        form = {"grant_type": "authorization_code", "code": "x", "client_id": client_id}
        assert (await world.post("/token", form)).json["error"] == "invalid_client"


async def test_a_secret_is_no_key_of_a_backend(world: World):
    reply = await SmartApp(world, "smart-secret").post("/token", {"grant_type": "client_credentials"})
    assert reply.refusal == (400, "unauthorized_client")
    reply = await SmartApp(world).post("/token", {"grant_type": "client_credentials"})
    assert reply.refusal == (400, "unauthorized_client")


async def test_I1_a_public_app_introspects_nothing(world: World):
    app = SmartApp(world)
    token = (await app.redeem(await app.launch(Person(world)))).json["access_token"]
    assert (await app.post("/introspect", {"token": token})).refusal == (400, "invalid_client")


# Tokens that are bound to no key


async def test_D7_a_bound_token_is_never_taken_as_Bearer_and_an_unbound_one_as_nothing_else(world: World):
    app, fapi = SmartApp(world), world.app()
    unbound = (await app.redeem(await app.launch(Person(world)))).json["access_token"]
    assert "cnf" not in claims_of(unbound)
    assert claims_of(unbound)["unbound"] is True
    bound = (await fapi.redeem(await fapi.code())).json["access_token"]
    with pytest.raises(OAuthError, match="bound to a DPoP key"):
        await app.read(bound)
    with pytest.raises(OAuthError, match="bound to no key"):
        await app.read(unbound, scheme="DPoP")


@pytest.mark.parametrize(
    "mark", [{}, {"unbound": False}, {"unbound": True, "cnf": {"jkt": "x" * 43}}, {"unbound": "yes"}]
)
async def test_K1_a_token_without_cnf_and_without_its_mark_is_401(world: World, mark: dict[str, Any]):
    app = SmartApp(world)
    said = claims_of((await app.redeem(await app.launch(Person(world)))).json["access_token"])
    forged = await world.keys.sign({n: v for n, v in said.items() if n != "unbound"} | mark, typ="at+jwt")
    with pytest.raises(OAuthError) as refused:
        await app.read(forged)
    assert refused.value.code is ErrorCode.INVALID_TOKEN


async def test_an_unbound_token_ends_with_the_right_to_have_it(world: World):
    app = SmartApp(world)
    token = (await app.redeem(await app.launch(Person(world)))).json["access_token"]
    bound = replace(clients()["smart-app"], binding=BindingKind.DPOP)
    for later in (
        await smart_world(world, profiles=frozenset({ProfileName.FAPI2})),
        await smart_world(world, more={"smart-app": bound}),
    ):
        with pytest.raises(OAuthError, match="any more"):
            await SmartApp(later).read(token)
        asking = later.app("resource-server")
        assert (await asking.post("/introspect", {"token": token})).json == {"active": False}


async def test_an_app_that_sends_a_proof_gets_a_bound_token(world: World):
    app = SmartApp(world)
    answer = (await app.redeem(await app.launch(Person(world)), proof=True)).json
    assert answer["token_type"] == "DPoP"
    with pytest.raises(OAuthError, match="send it as DPoP"):
        await app.read(answer["access_token"])


async def test_an_app_that_must_bind_gets_nothing_without_a_proof(world: World):
    app = SmartApp(world, "smart-held")
    assert (await app.redeem(await app.launch(Person(world)))).refusal == (400, "invalid_dpop_proof")
    assert (await app.redeem(await app.launch(Person(world)), proof=True)).json["token_type"] == "DPoP"


async def test_a_public_app_stays_connected_only_where_refresh_tokens_are_replaced(world: World):
    scope = "launch/patient patient/*.rs offline_access"
    app = SmartApp(world)
    assert "refresh_token" not in (await app.redeem(await app.launch(Person(world), scope=scope))).json
    rotating = await smart_world(world, rotate_refresh_tokens=True)
    app = SmartApp(rotating)
    first = (await app.redeem(await app.launch(Person(rotating), scope=scope))).json["refresh_token"]
    second = (await app.refresh(first)).json
    assert second["refresh_token"] != first
    assert second["token_type"] == "Bearer"
    rotating.clock.now += 61
    assert (await app.refresh(first)).refusal == (400, "invalid_grant")
    assert (await app.refresh(second["refresh_token"])).refusal == (400, "invalid_grant")


async def test_the_person_reads_how_long_the_app_stays(world: World):
    scope = "launch/patient patient/*.rs offline_access"
    app, person = SmartApp(world), Person(world)
    await app.launch(person)
    assert "5 minutes" in (await app.ask(person, scope=scope)).text
    assert "Until you end it" in (await SmartApp(world, "smart-secret").ask(person, scope=scope)).text


async def test_a_refreshed_answer_says_all_that_SMART_wants(world: World):
    app = SmartApp(world, "smart-secret")
    scope = "launch/patient patient/*.rs offline_access"
    first = (await app.redeem(await app.launch(Person(world), scope=scope))).json
    again = await app.refresh(first["refresh_token"])
    assert again.json["scope"] == scope
    assert again.json["expires_in"] == first["expires_in"]
    assert again.json["token_type"] == "Bearer"
    assert again.json["patient"] == "A"
    assert again.header("cache-control") == "no-store"
    assert again.header("pragma") == "no-cache"


async def test_online_access_ends_when_the_person_is_no_longer_signed_in(world: World):
    app, person = SmartApp(world, "smart-secret"), Person(world)
    scope = "launch/patient patient/*.rs online_access"
    await app.launch(person)
    assert "Until you sign out, at most 60 minutes" in (await app.ask(person, scope=scope)).text
    online = (await app.redeem(await app.launch(person, scope=scope))).json["refresh_token"]
    both = (await app.redeem(await app.launch(person, scope=f"{scope} offline_access"))).json["refresh_token"]
    assert (await app.refresh(online)).status == 200
    other = Person(world)
    await app.launch(other)
    assert (await app.refresh(online)).status == 200
    world.clock.now += 3600
    refused = await app.refresh(online)
    assert refused.refusal == (400, "invalid_grant")
    assert "signed out" in refused.json["error_description"]
    assert (await app.refresh(both)).status == 200


async def test_online_access_ends_with_a_new_sign_in_in_its_browser(world: World):
    app, person = SmartApp(world, "smart-secret"), Person(world)
    scope = "launch/patient patient/*.rs online_access"
    online = (await app.redeem(await app.launch(person, scope=scope))).json["refresh_token"]
    await app.launch(person, prompt="login")
    assert (await app.refresh(online)).refusal == (400, "invalid_grant")


async def test_a_backend_token_lives_five_minutes_at_most(world: World):
    longer = await smart_world(world, lifetimes=Lifetimes(access_token=3600))
    reply = await SmartApp(longer, "smart-backend").post("/token", {"grant_type": "client_credentials"})
    assert reply.json["expires_in"] == 300
    assert claims_of(reply.json["access_token"])["exp"] - longer.clock.now == 300


def _lifetimes() -> Any:
    from authz.settings import Lifetimes

    return Lifetimes()


async def test_introspection_tells_what_the_token_response_told(world: World):
    app = SmartApp(world, "smart-secret")
    answer = (
        await app.redeem(await app.launch(Person(world), scope="openid fhirUser launch/patient patient/*.rs"))
    ).json
    told = (await app.post("/introspect", {"token": answer["access_token"]})).json
    identity = claims_of(answer["id_token"])
    assert told["active"] is True
    assert told["scope"] == answer["scope"]
    assert told["client_id"] == "smart-secret"
    assert told["exp"] == world.clock.now + answer["expires_in"]
    assert told["patient"] == answer["patient"]
    assert {name: told[name] for name in ("iss", "sub", "fhirUser")} == {
        name: identity[name] for name in ("iss", "sub", "fhirUser")
    }
    assert told["token_type"] == "Bearer"
    assert "cnf" not in told


async def test_fhirUser_stands_in_the_ID_token_and_only_for_people_who_have_one(world: World):
    app = SmartApp(world)
    answer = (await app.redeem(await app.launch(Person(world), scope="openid fhirUser patient/*.rs"))).json
    assert claims_of(answer["id_token"])["fhirUser"] == "Patient/A"
    nobody = replace(next(iter(world.accounts.values())), claims={})
    other = await smart_world(world, accounts={nobody.username: nobody})
    app = SmartApp(other)
    answer = (await app.redeem(await app.launch(Person(other), scope="openid fhirUser patient/*.rs"))).json
    assert "fhirUser" not in claims_of(answer["id_token"])


async def test_a_patient_scope_alone_asks_whose_record(world: World):
    app = SmartApp(world)
    assert (await app.redeem(await app.launch(Person(world), scope="patient/*.rs"))).json["patient"] == "A"


async def test_SEC_a_token_of_another_signer_or_a_bare_text_is_no_unbound_token(world: World):
    app = SmartApp(world)
    said = claims_of((await app.redeem(await app.launch(Person(world)))).json["access_token"])
    forged = make_jws(world.private["portal"], {"alg": "ES256", "typ": "at+jwt", "kid": "p1"}, said)
    for token in (forged, "abc"):
        with pytest.raises(OAuthError):
            await app.read(token)


async def test_a_form_of_another_media_type_is_refused_at_the_authorization_endpoint(world: World):
    request = http_request("POST", "/authorize", headers=[("content-type", "application/json")], body=b"{}")
    reply = await world.send(request)
    assert reply.status == 400
    assert 'id="error"' in reply.text


# Refresh tokens of public clients: held to a key, or replaced at each use (RFC 9700 2.2.2)


async def by_certificate(world: World, certificate: bytes | None, **form: str) -> Reply:
    """The answer to the public client that binds its tokens to a certificate, which calls with this one."""
    said = {"client_id": "smart-certificate", "redirect_uri": REDIRECT_URI, "code_verifier": VERIFIER} | form
    return await world.post("/token", said, origin=MTLS_ORIGIN, certificate=certificate)


async def test_RFC8705_4_a_refresh_token_of_a_public_client_is_held_to_its_certificate(fapi: World):
    public = replace(clients()["smart-app"], client_id="smart-certificate", binding=BindingKind.MTLS)
    world = await smart_world(fapi, more={"smart-certificate": public})
    own, other = world.certificates["portal-mtls"], world.certificates["exchange"]
    code = await SmartApp(world, "smart-certificate").launch(
        Person(world), scope="launch/patient patient/*.rs offline_access"
    )
    issued = await by_certificate(world, own, grant_type="authorization_code", code=code)
    assert issued.status == 200, issued.text
    stolen = {"grant_type": "refresh_token", "refresh_token": issued.json["refresh_token"]}
    assert (await by_certificate(world, other, **stolen)).refusal == (400, "invalid_grant")
    assert (await by_certificate(world, None, **stolen)).status == 400
    renewed = await by_certificate(world, own, **stolen)
    assert renewed.status == 200
    assert claims_of(renewed.json["access_token"])["cnf"] == claims_of(issued.json["access_token"])["cnf"]


async def test_RFC9700_2_2_2_what_is_held_to_no_key_ends_where_tokens_are_replaced_no_more(fapi: World):
    rotating = await smart_world(fapi, rotate_refresh_tokens=True)
    app = SmartApp(rotating)
    code = await app.launch(Person(rotating), scope="launch/patient patient/*.rs offline_access")
    token = (await app.redeem(code)).json["refresh_token"]
    still = await rotating.reopen(profiles=EVERY)
    assert (await SmartApp(still).refresh(token)).refusal == (400, "invalid_grant")
    assert (await app.refresh(token)).status == 200

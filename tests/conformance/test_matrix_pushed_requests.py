"""Pushed requests and the authorization endpoint, for every variant: rows P1 to P15 of the FAPI 2.0 checklist."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.authorization_server import ANNA, ISSUER, MTLS_ORIGIN, REDIRECT_URI, Person, Reply, World
from tests.support.jose import ABSENT, b64, ec_key, raw_signature, thumbprint
from tests.support.variants import (
    BY_AUTHORITY,
    BY_KEY,
    BY_SELF_SIGNED,
    DPOP,
    MTLS,
    REDIRECT_URI_WITH_QUERY,
    VariantApp,
    over,
    signed_in,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID_REQUEST = (400, "invalid_request")
INVALID_OBJECT = (400, "invalid_request_object")
INVALID_CLIENT = (400, "invalid_client")
_FORM = ("content-type", "application/x-www-form-urlencoded")


def address(client_id: str, pushed: Reply, more: str = "") -> str:
    return (
        "/authorize?" + urlencode({"client_id": client_id, "request_uri": pushed.json["request_uri"]}) + more
    )


async def shows_an_error(person: Person, url: str) -> bool:
    page = await person.visit(url)
    assert page.header("location") is None
    return page.status == 400 and 'id="error-description"' in page.text and 'name="password"' not in page.text


@over()
async def test_P1_a_client_authenticates_as_at_the_token_endpoint(matrix: World, app: VariantApp) -> None:
    assert (await app.push()).status == 201
    for path in ("/par", "/token"):
        nobody = await matrix.post(path, app.form() | {"client_id": app.client_id}, origin=app.pushing_origin)
        assert nobody.refusal == INVALID_CLIENT
        # A certificate or an assertion of somebody else is no authentication of this client either.
        portal = matrix.app("portal")
        foreign = await matrix.post(
            path,
            app.form() | {"client_id": app.client_id} | portal.credentials(),
            origin=MTLS_ORIGIN,
            certificate=matrix.certificates["portal-mtls"],
        )
        assert foreign.refusal == INVALID_CLIENT


@over()
async def test_P2_success_is_201_with_a_request_uri_of_256_bits_for_60_seconds(app: VariantApp) -> None:
    first, second = await app.push(), await app.push()
    assert (first.status, first.header("content-type")) == (201, "application/json")
    assert first.json.keys() == {"request_uri", "expires_in"}
    assert first.json["expires_in"] == 60
    assert first.header("cache-control") == "no-store"
    handles = {reply.json["request_uri"].rpartition(":")[2] for reply in (first, second)}
    assert len(handles) == 2
    assert all(len(handle) == 43 for handle in handles)


@over()
async def test_P3_a_request_uri_is_refused_in_the_form_and_in_the_object(app: VariantApp) -> None:
    request_uri = (await app.push()).json["request_uri"]
    assert (await app.push_form(app.form() | {"request_uri": request_uri})).refusal == INVALID_REQUEST
    inside = await app.push_form({"request": app.request_object(request_uri=request_uri)})
    assert inside.refusal == INVALID_OBJECT


@over()
@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": ABSENT},
        {"code_challenge_method": ABSENT},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": "s256"},
        {"code_challenge": "c" * 42},
        {"code_challenge": "c" * 44},
        {"code_challenge": "c" * 42 + "="},
    ],
    ids=["missing", "no method", "plain", "lower case", "short", "long", "padded"],
)
async def test_P4_PKCE_with_S256_is_required(app: VariantApp, changes: dict[str, Any]) -> None:
    assert (await app.push(**changes)).refusal == INVALID_REQUEST


@over()
async def test_P5_the_redirect_uri_is_exactly_one_of_the_registered(app: VariantApp) -> None:
    for redirect_uri in (
        ABSENT,
        "https://evil.example/callback",
        REDIRECT_URI + "/",
        REDIRECT_URI + "?",
        REDIRECT_URI + "#",
        REDIRECT_URI + "/..;/callback",
        REDIRECT_URI.replace("https", "HTTPS"),
        REDIRECT_URI.replace(".example", ".example:443"),
        REDIRECT_URI_WITH_QUERY.replace("%20", "+"),
    ):
        assert (await app.push(redirect_uri=redirect_uri)).refusal == INVALID_REQUEST, redirect_uri
    assert (await app.push(redirect_uri=REDIRECT_URI_WITH_QUERY)).status == 201


@over()
async def test_P6_no_response_type_but_code(app: VariantApp) -> None:
    for response_type in ("token", "id_token", "code id_token", "code token", "none", "CODE"):
        reply = await app.push(response_type=response_type)
        assert reply.refusal == (400, "unsupported_response_type"), response_type
    assert (await app.push(response_type=ABSENT)).refusal == INVALID_REQUEST


@over()
async def test_P7_the_request_uri_is_of_the_client_that_pushed(matrix: World, app: VariantApp) -> None:
    pushed = await app.request()
    person = await signed_in(matrix)
    for other in ("portal", "portal-mtls", "nobody", ""):
        assert await shows_an_error(person, address(other, pushed)), other
    assert "code" in await app.authorize(pushed)


@over()
async def test_P8_it_may_be_opened_again_until_it_is_completed_and_never_after(
    matrix: World, app: VariantApp
) -> None:
    pushed = await app.request()
    first, second = await signed_in(matrix), await signed_in(matrix)
    pages = [await person.sign_in(pushed, app.client_id) for person in (first, second, first)]
    assert all('id="allow"' in page.text for page in pages)
    assert "code" in app.answer(await second.consent(pages[1]))
    for person, page in ((first, pages[0]), (first, pages[2]), (second, pages[1])):
        late = await person.consent(page)
        assert late.status == 400
        assert late.header("location") is None
    assert await shows_an_error(second, address(app.client_id, pushed))


@over()
async def test_P8_a_refusal_completes_it_too(matrix: World, app: VariantApp) -> None:
    pushed = await app.request()
    assert (await app.authorize(pushed, "deny"))["error"] == "access_denied"
    assert await shows_an_error(await signed_in(matrix), address(app.client_id, pushed))


@over()
async def test_E5_P8_at_its_expires_in_second_it_is_refused(matrix: World, app: VariantApp) -> None:
    early, late, held = await app.request(), await app.request(), await app.request()
    matrix.clock.now += 59
    assert 'id="allow"' in (await (await signed_in(matrix)).sign_in(held, app.client_id)).text
    assert "code" in await app.authorize(early)
    matrix.clock.now += 1
    for expired in (late, held):  # that one person is at the pages opens it to nobody else
        assert await shows_an_error(await signed_in(matrix), address(app.client_id, expired))


@over()
async def test_E2_P9_only_client_id_and_request_uri_are_read(matrix: World, app: VariantApp) -> None:
    pushed = await app.request(state="pushed")
    aside = urlencode(
        {
            "redirect_uri": "https://evil.example/callback",
            "scope": "user/Observation.rs",
            "state": "in the address",
            "response_type": "token",
            "response_mode": "fragment",
            "request": "a.b.c",
        }
    )
    person = await signed_in(matrix)
    page = await person.visit(
        f"/authorize?{aside}&" + address(app.client_id, pushed, f"&{aside}").partition("?")[2]
    )
    assert "user/Observation" not in page.text
    assert app.answer(await person.consent(page))["state"] == "pushed"


@over()
async def test_P10_what_was_not_pushed_is_refused_with_a_page(matrix: World, app: VariantApp) -> None:
    person = await signed_in(matrix)
    plain = urlencode(app.asking() | {"client_id": app.client_id})
    for query in (
        plain,
        urlencode({"client_id": app.client_id, "request": app.request_object()}),
        urlencode({"client_id": app.client_id, "request_uri": "https://portal.example/request.jwt"}),
        urlencode(
            {"client_id": app.client_id, "request_uri": "urn:ietf:params:oauth:request_uri:" + "a" * 43}
        ),
    ):
        assert await shows_an_error(person, f"/authorize?{query}"), query


@over(binding=DPOP)
async def test_P11_dpop_jkt_and_a_proof_bind_the_code(app: VariantApp) -> None:
    await app.learn_nonce()
    by_jkt = await app.request(dpop_jkt=app.jkt)
    by_proof = await app.request(proof=app.proof("/par", origin=app.pushing_origin))
    both = await app.request(dpop_jkt=app.jkt, proof=app.proof("/par", origin=app.pushing_origin))
    for pushed in (by_jkt, by_proof, both):
        code = await app.code(pushed=pushed)
        refused = await app.redeem(code, proof=app.proof(key=ec_key()))
        assert refused.refusal[0] == 400
        assert refused.refusal[1] in ("invalid_grant", "invalid_dpop_proof")
    assert (await app.redeem(await app.code(dpop_jkt=app.jkt))).status == 200


@over(binding=DPOP)
async def test_P11_two_keys_are_refused_at_PAR(app: VariantApp) -> None:
    await app.learn_nonce()
    proof = app.proof("/par", origin=app.pushing_origin)
    refused = await app.push(dpop_jkt=thumbprint(ec_key()), proof=proof)
    assert refused.refusal == (400, "invalid_dpop_proof")
    assert (await app.push(dpop_jkt="no thumbprint")).refusal == INVALID_REQUEST


@over(binding=MTLS)
async def test_P11_a_client_bound_to_its_certificate_has_no_DPoP_key(app: VariantApp) -> None:
    assert (await app.push(dpop_jkt=app.jkt)).refusal == INVALID_REQUEST


@over()
async def test_P12_the_order_of_scopes_does_not_matter(app: VariantApp) -> None:
    scope = app.asking()["scope"].split()
    granted = [
        set((await app.tokens(scope=" ".join(order)))["scope"].split()) for order in (scope, scope[::-1])
    ]
    assert granted == [set(scope), set(scope)]


@over()
async def test_P13_state_and_nonce_of_512_characters_come_back_intact(app: VariantApp) -> None:
    long = "".join(chr(0x21 + number % 94) for number in range(512))
    answer = await app.authorize(await app.request(state=long, nonce=long[::-1]))
    assert answer["state"] == long
    tokens = (await app.redeem(answer["code"])).json
    assert ("id_token" in tokens) == app.variant.openid
    if app.variant.openid:
        assert app.claims(tokens["id_token"])["nonce"] == long[::-1]


@over()
async def test_P13_what_is_absent_stays_absent(app: VariantApp) -> None:
    answer = await app.authorize(await app.request(state=ABSENT, nonce=ABSENT))
    assert answer.keys() == {"code", "iss"}
    tokens = (await app.redeem(answer["code"])).json
    if app.variant.openid:
        assert "nonce" not in app.claims(tokens["id_token"])


@over()
async def test_P14_a_parameter_that_comes_twice_is_refused(matrix: World, app: VariantApp) -> None:
    for name in ({*app.form()} | {*app.credentials()}) - {"resource"}:  # RFC 8707 2: that one may repeat
        form = app.form() | app.credentials()
        body = urlencode([*form.items(), (name, form[name])]).encode()
        reply = await matrix.post("/par", body, origin=app.pushing_origin, certificate=app.certificate)
        assert reply.refusal == INVALID_REQUEST, name


@over()
async def test_P14_a_member_that_comes_twice_in_the_object_is_refused(app: VariantApp) -> None:
    now = app.world.clock.now
    claims = app.asking() | {"iss": app.client_id, "aud": ISSUER, "nbf": now, "exp": now + 300}
    once = json.dumps(claims)
    key = app.world.private[app.client_id]
    for payload, status in ((once, 201), (once[:-1] + f', "redirect_uri": "{REDIRECT_URI}"}}', 400)):
        header = json.dumps({"alg": "ES256"})
        signing_input = f"{b64(header.encode())}.{b64(payload.encode())}"
        token = f"{signing_input}.{b64(raw_signature(key, signing_input.encode()))}"
        reply = await app.push_form({"request": token})
        assert reply.status == status, reply.text
    assert reply.refusal == INVALID_OBJECT


@over()
async def test_P15_nothing_wrong_has_a_request_uri_and_nothing_unknown_a_sign_in_page(
    matrix: World, app: VariantApp
) -> None:
    for changes, error in (
        ({"scope": "patient/*.cruds"}, "invalid_scope"),
        ({"scope": "system/Observation.rs"}, "invalid_scope"),
        ({"resource": "https://other.example/fhir"}, "invalid_target"),
        ({"prompt": "create"}, "invalid_request"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"claims": "{"}, "invalid_request"),
    ):
        reply = await app.push(**changes)
        assert reply.refusal == (400, error), changes
        assert "request_uri" not in reply.json
    assert await shows_an_error(Person(matrix), f"/authorize?client_id={app.client_id}&request_uri=urn:x")


@over(authentication=BY_KEY)
async def test_E1_beside_an_assertion_no_client_id_is_needed(app: VariantApp) -> None:
    form = app.form(client_id=ABSENT)
    assert "client_id" not in form
    if app.variant.signed:
        assert form.keys() == {"request"}
    pushed = await app.push_form(form)
    assert pushed.status == 201
    assert "client_id" not in app.credentials()
    assert (await app.redeem(await app.code(pushed=pushed))).status == 200


@over(authentication=(BY_AUTHORITY, BY_SELF_SIGNED))
async def test_E1_with_a_certificate_client_id_is_a_form_parameter(matrix: World, app: VariantApp) -> None:
    form = app.form()
    form.pop("client_id", None)
    reply = await matrix.post("/par", form, origin=MTLS_ORIGIN, certificate=app.certificate)
    assert reply.refusal == INVALID_CLIENT
    form["client_id"] = app.client_id
    reply = await matrix.post("/par", form, origin=MTLS_ORIGIN, certificate=app.certificate)
    assert reply.status == 201


@over()
async def test_E2_a_registered_query_is_kept_in_answers_and_errors(matrix: World, app: VariantApp) -> None:
    for action, member in (("allow", "code"), ("deny", "error")):
        pushed = await app.request(redirect_uri=REDIRECT_URI_WITH_QUERY)
        person = await signed_in(matrix)
        reply = await person.consent(await person.sign_in(pushed, app.client_id), action)
        assert member in app.answer(reply, REDIRECT_URI_WITH_QUERY)


@over()
async def test_E4_what_PAR_refuses_is_400_in_JSON_that_nobody_keeps(app: VariantApp) -> None:
    expected = INVALID_REQUEST
    for changes in (
        {"code_challenge": ABSENT},
        {"redirect_uri": ABSENT},
        {"redirect_uri": "https://x.example"},
    ):
        assert (await app.push(**changes)).refusal == expected, changes
    if app.variant.signed:
        assert (await app.push_form(app.asking())).refusal == expected


@over()
async def test_E14_the_pages_have_HSTS_and_know_no_CORS(matrix: World, app: VariantApp) -> None:
    pushed = await app.request()
    person = await signed_in(matrix)
    url = address(app.client_id, pushed)
    for page in (await matrix.get("/authorize", query=url.partition("?")[2], headers=[("origin", "https://x.example")]),
                 await person.sign_in(pushed, app.client_id)):  # fmt: skip
        assert not [name for name, _ in page.answer.headers if name.lower().startswith("access-control-")]
        if page.status == 200:
            assert page.header("strict-transport-security")
            assert ANNA.name in page.text

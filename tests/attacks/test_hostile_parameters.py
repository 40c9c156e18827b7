"""One odd value in the place of each parameter: whatever it is, the answer is one that a specification has.

Never 500, which would say that nobody thought of it, and never a redirect to an address that is not registered.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from authz.protocol.errors import ErrorCode
from tests.support.authorization_server import REDIRECT_URI, World, open_world
from tests.support.smart import SmartApp, smart_world

NAMES = (
    "acr_values", "aud", "authorization_details", "claims", "client_id", "code_challenge", "code_challenge_method",
    "display", "dpop_jkt", "grant_id", "grant_management_action", "id_token_hint", "launch", "launch_context",
    "login_hint", "max_age", "nonce", "prompt", "redirect_uri", "registration", "request", "request_uri", "resource",
    "response_mode", "response_type", "scope", "state", "ui_locales", "client_secret", "unheard-of",
)  # fmt: skip
VALUES = (
    " ", "x", "-1", "1e999", "null", "true", "{", "{}", "[]", "[[]]", "a.b.c", "a b", "\N{SNOWMAN}", "\\", '"', "<b>",
    "x" * 5000, "9" * 12, '{"id_token":null}', '{"id_token":{"sub":{"value":5}}}', '{"id_token":{"sub":{"values":{}}}}',
    '{"id_token":{"acr":{"values":[{}],"essential":true}}}', '{"userinfo":[]}', '[{"type":5}]', '[{"type":"fhir-access"}]',
    '{"patient":"B","encounter":[]}', "none login", "none", "openid openid", "launch", "patient/*.rs?x=", "system/*.rs",
    "securus/admin", "urn:ietf:params:oauth:request_uri:x", "https://evil.example/", "https://as.example/fhir/r4/ x",
)  # fmt: skip


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield await smart_world(opened, launches=True)


def is_an_answer(text: str, status: int) -> bool:
    """Whether this is an error of RFC 6749 5.2, or of one of the specifications that add to it."""
    said = json.loads(text)
    return said["error"] in set(ErrorCode) - {ErrorCode.SERVER_ERROR} and 400 <= status < 500


@pytest.mark.parametrize("name", NAMES)
async def test_a_pushed_request_has_an_answer_whatever_is_in_it(world: World, name: str) -> None:
    app, signing = world.app(), world.app("portal-signed")
    for value in VALUES:
        for reply in (
            await app.push_form(app.asking(**{name: value})),
            await signing.push_signed(**{name: value}),
        ):
            assert reply.status == 201 or is_an_answer(reply.text, reply.status), value


@pytest.mark.parametrize("name", NAMES)
async def test_a_plain_request_has_an_answer_at_the_registered_address_or_a_page(
    world: World, name: str
) -> None:
    for value in VALUES:
        world.clock.now += 1
        form = SmartApp(world).asking(**{name: value})
        for reply in (
            await world.get("/authorize", query=urlencode(form)),
            await world.post("/authorize", form),
        ):
            location = urlsplit(reply.header("location") or "")
            way = (
                f"{location.scheme}://{location.netloc}{location.path}" if location.netloc else location.path
            )
            assert (reply.status, way) in (
                (303, REDIRECT_URI), (303, "/sign-in"), (303, "/authorize"), (400, ""), (429, ""),
            ), value  # fmt: skip
            assert reply.status == 303 or 'id="error"' in reply.text


@pytest.mark.parametrize("grant_type", ["authorization_code", "refresh_token", "client_credentials"])
@pytest.mark.parametrize(
    "name",
    [
        "code", "refresh_token", "scope", "resource", "aud", "authorization_details", "code_verifier", "redirect_uri",
        "client_id", "client_assertion_type", "token", "token_type_hint", "launch_context", "grant_id",
    ],
)  # fmt: skip
async def test_a_token_request_has_an_answer_whatever_is_in_it(
    world: World, grant_type: str, name: str
) -> None:
    apps = [world.app(), world.app("lab")]
    public = SmartApp(world)
    for value in VALUES:
        form = {"grant_type": grant_type, name: value}
        for reply in [await app.post("/token", form) for app in apps] + [await public.post("/token", form)]:
            assert reply.status == 200 or is_an_answer(reply.text, reply.status), value

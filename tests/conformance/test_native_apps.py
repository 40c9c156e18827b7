"""RFC 8252 7.3, RFC 9700 2.1: a native app listens at whichever port is free; nothing else of its address may vary."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.protocol.redirect_uris import is_registered
from tests.support.authorization_server import Person, World, answer_of, open_world
from tests.support.smart import SmartApp, clients, smart_world

REGISTERED = (
    "http://127.0.0.1:0/callback?a=b", "http://[::1]:8000", "https://portal.example/callback", "com.example.chart:/callback",
)  # fmt: skip


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        portal = replace(opened.clients["portal"], redirect_uris=REGISTERED)
        apps = {id: replace(clients()[id], redirect_uris=REGISTERED) for id in ("smart-app", "smart-secret")}
        yield await smart_world(opened, more={"portal": portal, **apps})


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1/callback?a=b", "http://127.0.0.1:51004/callback?a=b", "http://127.0.0.1:1/callback?a=b",
        "http://127.0.0.1:65535/callback?a=b", "http://[::1]:61023", "http://[::1]", "https://portal.example/callback",
    ],
)  # fmt: skip
def test_RFC8252_7_3_every_port_of_the_loopback_address_is_the_registered_one(uri: str) -> None:
    assert is_registered(uri, REGISTERED)


@pytest.mark.parametrize(
    "uri",
    [
        "http://[::1]:0", "http://[::1]:08000", "http://127.0.0.1:65536/callback?a=b", "http://127.0.0.1:080/callback?a=b",
        "http://127.0.0.1:/callback?a=b", "http://127.0.0.1:51004/callback", "http://127.0.0.1:51004/Callback?a=b",
        "http://127.0.0.1:51004/callback?a=b&c=d", "http://127.0.0.1:51004/callback?a=b#f", "http://127.0.0.2:51004/callback?a=b",
        "http://127.0.0.1.evil.example:51004/callback?a=b", "http://127.0.0.1:51004@evil.example/callback?a=b",
        "http://127.0.0.1@evil.example:51004/callback?a=b", "http://localhost:51004/callback?a=b",
        "http://[::1]:51004/callback?a=b", "http://127.0.0.1:51004\\@evil.example/callback?a=b",
        "HTTP://127.0.0.1:51004/callback?a=b", "https://127.0.0.1:51004/callback?a=b", "http://127.0.0.1:٥١٠٠٤/callback?a=b",
        "http://127.0.0.1:51004/callback?a=b\n", "http://2130706433:51004/callback?a=b", "http://[::1]:51004/",
        "https://portal.example:8443/callback", "http://portal.example/callback", "http://[0:0:0:0:0:0:0:1]:61023",
    ],
)  # fmt: skip
def test_RFC9700_2_1_nothing_but_that_port_may_vary(uri: str) -> None:
    assert not is_registered(uri, REGISTERED)


@given(st.text(max_size=20), st.integers(0, 70_000), st.text(max_size=20))
def test_RFC9700_2_1_an_address_that_passes_differs_by_its_port_alone(
    host: str, port: int, rest: str
) -> None:
    for asked in (
        f"http://127.0.0.1{host}:{port}{rest}",
        f"http://{host}127.0.0.1:{port}/callback?a=b{rest}",
    ):
        if is_registered(asked, REGISTERED):
            assert asked == f"http://127.0.0.1:{port}/callback?a=b"
            assert port < 65536
            assert port > 0 or asked in REGISTERED


async def test_RFC8252_7_3_the_code_goes_to_the_port_that_was_asked_for_and_is_redeemed_with_it(
    world: World,
) -> None:
    app = SmartApp(world)
    uri = "http://127.0.0.1:51004/callback?a=b"
    page = await app.ask(Person(world), redirect_uri=uri)
    assert 'name="password"' in page.text
    code = await app.launch(Person(world), redirect_uri=uri)
    other = await app.redeem(code, redirect_uri="http://127.0.0.1:51005/callback?a=b")
    assert other.refusal == (400, "invalid_grant")
    code = await app.launch(Person(world), redirect_uri=uri)
    assert (await app.redeem(code, redirect_uri=uri)).status == 200


async def test_P5_a_pushed_request_may_name_another_port_of_it_and_no_other_address(world: World) -> None:
    app = world.app()
    assert (await app.push(redirect_uri="http://[::1]:40000")).status == 201
    for uri in ("http://[::1]:40000/", "http://127.0.0.1:40000", "https://portal.example:40000/callback"):
        assert (await app.push(redirect_uri=uri)).refusal == (400, "invalid_request")


# Whoever listens at such an address may be any program of the device (RFC 8252 8.6, RFC 6749 10.2)

PRIVATE = "com.example.chart:/callback"
OF_A_DEVICE = [PRIVATE, "http://127.0.0.1:51004/callback?a=b", "http://[::1]:61023"]


@pytest.mark.parametrize("uri", OF_A_DEVICE)
async def test_RFC8252_8_6_no_code_goes_to_a_public_app_of_a_device_without_the_person(
    world: World, uri: str
) -> None:
    app, person = SmartApp(world), Person(world)
    await app.launch(person, redirect_uri=uri)
    answer = answer_of(await app.ask(person, redirect_uri=uri, prompt="none"))
    assert answer["error"] == "consent_required"
    assert await app.launch(person, redirect_uri=uri)


@pytest.mark.parametrize(
    ("client_id", "uri"),
    [("smart-app", "https://portal.example/callback"), *(("smart-secret", uri) for uri in OF_A_DEVICE)],
)
async def test_RFC8252_8_6_who_is_known_by_address_or_credentials_gets_one(
    world: World, client_id: str, uri: str
) -> None:
    app, person = SmartApp(world, client_id), Person(world)
    await app.launch(person, redirect_uri=uri)
    assert "code" in answer_of(await app.ask(person, redirect_uri=uri, prompt="none"))

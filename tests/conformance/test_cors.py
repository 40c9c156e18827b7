"""Which web pages may read answers (SMART App Launch 2.2 @16, @17; Fetch 3.2): those of registered apps, on errors too."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from authz.protocol.clients import AuthenticationMethod, BindingKind, Client, GrantType, ProfileName
from authz.protocol.origins import is_origin, origins_of
from gateway.settings import Readers
from tests.support.gateway import MOUNT, Reply, RunningGateway, start_gateway, stop_gateway

SMART = "/.well-known/smart-configuration"
CHART = "https://chart.example"
ELSEWHERE = "https://elsewhere.example"
FORM = ("Content-Type", "application/x-www-form-urlencoded")
PUBLIC = [SMART, MOUNT + SMART, MOUNT + "/metadata", "/jwks", "/.well-known/openid-configuration"]


def app(client_id: str = "chart", *redirect_uris: str, origins: tuple[str, ...] = ()) -> Client:
    """A client whose pages run in browsers."""
    return Client(
        client_id=client_id,
        name="Growth chart",
        authentication_method=AuthenticationMethod.NONE,
        scope=("patient/*.rs",),
        grant_types=frozenset({GrantType.AUTHORIZATION_CODE}),
        redirect_uris=redirect_uris or (f"{CHART}/callback",),
        binding=BindingKind.DPOP,
        profile=ProfileName.SMART_PUBLIC,
        origins=origins,
    )


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    found = await start_gateway(tmp_path, clients=(app(origins=("capacitor://localhost",)),))
    yield found
    await stop_gateway(found)


async def refusals(running: RunningGateway, origin: str) -> list[tuple[Reply, int]]:
    """Answers of every kind of door that are errors, with their statuses."""
    said = ("Origin", origin)
    return [
        (await running.send("GET", MOUNT + "/Patient/A", [said]), 401),
        (await running.send("GET", MOUNT + "/Patient/A", [said, ("Authorization", "DPoP x")]), 401),
        (await running.fhir("DELETE", "/Patient/A", headers=[said]), 403),
        (await running.send("POST", "/token", [said, FORM], b"grant_type=x"), 400),
        (await running.send("GET", "/nowhere", [said]), 404),
    ]


def allowed(reply: Reply) -> list[str]:
    """Each value of the header that lets a page read."""
    return [value for name, value in reply.headers if name.lower() == "access-control-allow-origin"]


@pytest.mark.parametrize("origin", [CHART, ELSEWHERE])
async def test_SMART_16_documents_are_read_by_every_page(running: RunningGateway, origin: str) -> None:
    for path in PUBLIC:
        reply = await running.send("GET", path, [("Origin", origin)])
        assert reply.status == 200
        assert allowed(reply) == ["*"]


@pytest.mark.parametrize("origin", [CHART, "capacitor://localhost"])
async def test_SMART_17_an_app_in_a_browser_reads_answers_and_refusals_alike(
    running: RunningGateway, origin: str
) -> None:
    answers = [*await refusals(running, origin)]
    answers.append((await running.fhir("GET", "/Patient/A", headers=[("Origin", origin)]), 200))
    for reply, status in answers:
        assert reply.status == status, reply
        assert allowed(reply) == [origin]
        assert "Origin" in [value for name, value in reply.headers if name == "Vary"]
        exposed = reply.header("Access-Control-Expose-Headers") or ""
        assert {"DPoP-Nonce", "WWW-Authenticate", "Retry-After"} <= set(exposed.split(", "))
        assert reply.header("Access-Control-Allow-Credentials") is None


@pytest.mark.parametrize(
    "origin", [ELSEWHERE, "null", "", "*", f"{CHART}.evil.example", "http://chart.example", f"{CHART}:8443"]
)
async def test_SMART_17_a_page_of_no_registered_app_reads_nothing(
    running: RunningGateway, origin: str
) -> None:
    for reply, status in await refusals(running, origin):
        assert reply.status == status
        assert not [name for name, _ in reply.headers if name.lower().startswith("access-control-")]
        assert "Origin" in [value for name, value in reply.headers if name == "Vary"]
    asked = [("Origin", origin), ("Access-Control-Request-Method", "POST")]
    for path in ("/token", MOUNT + "/Patient"):
        reply = await running.send("OPTIONS", path, asked)
        assert reply.status == 204
        assert not [name for name, _ in reply.headers if name.lower().startswith("access-control-")]


async def test_a_preflight_names_methods_and_headers_is_kept_and_never_reaches_the_store(
    running: RunningGateway,
) -> None:
    for path, method in (("/token", "POST"), (MOUNT + "/Patient", "PUT")):
        asked = [("Origin", CHART), ("Access-Control-Request-Method", method)]
        reply = await running.send("OPTIONS", path, asked)
        assert reply.status == 204
        assert allowed(reply) == [CHART]
        headers = (reply.header("Access-Control-Allow-Headers") or "").split(", ")
        assert {"authorization", "dpop", "content-type", "if-none-exist"} <= set(headers)
        # What is looked at here, and what libraries and tracers in browsers add by themselves.
        assert {"x-provenance", "accept-signature", "x-requested-with", "traceparent"} <= set(headers)
        assert method in (reply.header("Access-Control-Allow-Methods") or "")
        assert reply.header("Access-Control-Max-Age") == "7200"
    assert all(recorded.method != "OPTIONS" for recorded in running.upstream.requests)


async def test_the_pages_of_a_suspended_app_read_nothing_any_more(running: RunningGateway) -> None:
    registry = running.gateway.authorization.registry
    await registry.suspend("chart", who="operator", why="ticket 12")
    assert allowed(await running.send("GET", "/nowhere", [("Origin", CHART)])) == []
    await registry.reactivate("chart", who="operator", why="ticket 13")
    assert allowed(await running.send("GET", "/nowhere", [("Origin", CHART)])) == [CHART]


async def test_where_the_operator_lets_any_page_read_none_gets_credentials(tmp_path: Path) -> None:
    running = await start_gateway(tmp_path, cors=Readers.ANY)
    try:
        for reply, _ in await refusals(running, ELSEWHERE):
            assert allowed(reply) == ["*"]
            assert reply.header("Access-Control-Allow-Credentials") is None
        for path in ("/authorize", "/sign-in", "/consent", "/account", "/account/grants", "/officer"):
            assert allowed(await running.send("GET", path, [("Origin", ELSEWHERE)])) == []
    finally:
        await stop_gateway(running)


async def test_a_mount_whose_path_begins_like_a_page_is_read_all_the_same(tmp_path: Path) -> None:
    running = await start_gateway(tmp_path, clients=(app(),), second_mount="/patients")
    try:
        reply = await running.send("GET", "/patients/Patient/A", [("Origin", CHART)])
        assert (reply.status, allowed(reply)) == (401, [CHART])
        assert allowed(await running.send("GET", "/patient", [("Origin", CHART)])) == []
    finally:
        await stop_gateway(running)


@pytest.mark.parametrize(
    ("uri", "origin"),
    [
        ("https://App.Example/cb?x=y", "https://app.example"),
        ("https://app.example:443/cb", "https://app.example"),
        ("https://app.example:8443/cb", "https://app.example:8443"),
        ("http://127.0.0.1:3000/cb", "http://127.0.0.1:3000"),
        ("http://[::1]:3000/cb", "http://[::1]:3000"),
        ("com.example.app:/cb", None),
    ],
)
def test_RFC6454_4_the_origin_of_a_redirect_URI(uri: str, origin: str | None) -> None:
    assert origins_of(app("a", uri)) == (set() if origin is None else {origin})


@pytest.mark.parametrize(
    "text", ["https://a.example", "http://127.0.0.1:8000", "capacitor://localhost", "https://[::1]"]
)
def test_RFC6454_6_2_an_origin_as_browsers_send_it(text: str) -> None:
    assert is_origin(text)


@pytest.mark.parametrize(
    "text",
    ["null", "*", "", "https://a.example/", "https://a.example:443", "https://A.example", "https://*.example",
     "a.example", "https://a.example b", "https://", "https://u@a.example"],
)  # fmt: skip
def test_RFC6454_6_2_what_no_browser_sends_is_no_origin(text: str) -> None:
    assert not is_origin(text)

"""Rows of the FAPI 2.0 checklist that only a process with listeners can show: Date, CORS, headers of the profile."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.gateway import MOUNT, Reply, RunningGateway, start_gateway, stop_gateway

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("process-answers"),
]
UUID = "C770AEF3-6784-41f7-8e0e-ff5f97bddb3a"
PAGES = ["/authorize", "/sign-in", "/patient", "/consent", "/logout", "/assets/securus.css"]
FORM = ("Content-Type", "application/x-www-form-urlencoded")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("answers")
    running = await start_gateway(folder)
    yield running
    await stop_gateway(running)


def dates(reply: Reply) -> int:
    """How many Date headers there are."""
    return [name.lower() for name, _ in reply.headers].count("date")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/.well-known/openid-configuration"),
        ("GET", "/jwks"),
        ("POST", "/par"),
        ("POST", "/token"),
        ("POST", "/introspect"),
        ("POST", "/revoke"),
        ("GET", "/token"),
        ("GET", "/userinfo"),
        ("GET", "/authorize"),
        ("GET", "/nothing"),
        ("GET", f"{MOUNT}/Patient/A"),
        ("OPTIONS", f"{MOUNT}/Patient/A"),
        ("get", "/jwks"),
    ],
)
async def test_T4_every_answer_has_one_Date(gateway: RunningGateway, method: str, path: str) -> None:
    assert dates(await gateway.send(method, path, [FORM])) == 1


async def test_T4_an_answer_of_the_store_has_one_Date(gateway: RunningGateway) -> None:
    reply = await gateway.fhir("GET", "/Patient/A")
    assert (reply.status, dates(reply)) == (200, 1)


async def test_one_connection_serves_the_authorization_server_and_the_store_in_turn(
    gateway: RunningGateway,
) -> None:
    token = await gateway.token()
    content = ""
    for number in range(3):
        proof = gateway.proof("GET", f"{gateway.origin}{MOUNT}/Patient/A", token)
        content += "GET /jwks HTTP/1.1\r\nHost: localhost\r\n\r\n"
        content += f"GET {MOUNT}/Patient/A HTTP/1.1\r\nHost: localhost\r\n"
        content += f"Authorization: DPoP {token}\r\nDPoP: {proof}\r\n\r\n"
        content += (
            "POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        )
        content += f"Content-Length: 3\r\nConnection: {'close' if number == 2 else 'keep-alive'}\r\n\r\na=b"
    raw = (await gateway.raw(content.encode())).raw
    statuses = [int(part[:3]) for part in raw.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 200, 400] * 3


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_T5_no_page_is_readable_from_another_site(
    gateway: RunningGateway, path: str, method: str
) -> None:
    reply = await gateway.send(method, path, [("Origin", "https://elsewhere.example"), FORM])
    assert reply.status in (200, 303, 400, 403, 405)
    assert [name for name, _ in reply.headers if name.lower().startswith("access-control-")] == []


async def test_exact_the_interaction_id_comes_back_as_it_was_sent(gateway: RunningGateway) -> None:
    sent = [("x-fapi-interaction-id", UUID)]
    for reply in (
        await gateway.fhir("GET", "/Patient/A", headers=sent),
        await gateway.fhir("GET", "/Patient/B", headers=sent),
        await gateway.send("GET", f"{MOUNT}/Patient/A", sent),
    ):
        assert [v for n, v in reply.headers if n.lower() == "x-fapi-interaction-id"] == [UUID]


async def test_exact_an_interaction_id_that_is_no_UUID_is_not_repeated(gateway: RunningGateway) -> None:
    reply = await gateway.fhir("GET", "/Patient/A", headers=[("x-fapi-interaction-id", "<b>")])
    assert reply.header("x-fapi-interaction-id") not in (None, "<b>")


@pytest.mark.parametrize(
    "header",
    [
        ("Accept", "application/json;charset=UTF-8"),
        ("Accept-Charset", "utf-8"),
        ("x-fapi-auth-date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("x-fapi-customer-ip-address", "2001:db8::1893:25c8:1946"),
    ],
)
async def test_exact_headers_of_the_profile_do_no_harm(
    gateway: RunningGateway, header: tuple[str, str]
) -> None:
    assert (await gateway.fhir("GET", "/Patient/A", headers=[header])).status == 200


@pytest.mark.parametrize("scheme", ["DPoP", "dpop", "DPOP"])
async def test_exact_scheme_names_work_in_any_case(gateway: RunningGateway, scheme: str) -> None:
    token = await gateway.token()
    proof = gateway.proof("GET", f"{gateway.origin}{MOUNT}/Patient/A", token)
    headers = [("Authorization", f"{scheme} {token}"), ("DPoP", proof)]
    assert (await gateway.send("GET", f"{MOUNT}/Patient/A", headers)).status == 200


async def test_exact_two_proofs_are_400_or_401(gateway: RunningGateway) -> None:
    token = await gateway.token()
    proofs = [("DPoP", gateway.proof("GET", f"{gateway.origin}{MOUNT}/Patient/A", token)) for _ in range(2)]
    reply = await gateway.send("GET", f"{MOUNT}/Patient/A", [("Authorization", f"DPoP {token}"), *proofs])
    assert reply.status in (400, 401)

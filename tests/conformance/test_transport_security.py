"""T1: TLS 1.2 and later only, and of TLS 1.2 only the ciphers that FAPI 2.0 lists; on both listeners."""

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.processes import GatewayProcess, start_process

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("operations"),
]
LISTENERS = ["public", "mtls"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    running = await start_process(tmp_path_factory.mktemp("transport"))
    yield running
    await running.stop()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lenient(gateway: GatewayProcess) -> AsyncIterator[int]:
    """The port of a server that takes every version and cipher: shows that the client of a test could have had it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.load_cert_chain(gateway.folder / "server.pem", gateway.folder / "server.key")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def agreed(port: int, context: ssl.SSLContext) -> tuple[str, str]:
    """Protocol version and cipher of a connection. Raises ssl.SSLError, ConnectionError."""
    _, writer = await asyncio.open_connection("localhost", port, ssl=context)
    tls = writer.get_extra_info("ssl_object")
    found = (tls.version(), tls.cipher()[0])
    writer.close()
    return found


def client(
    gateway: GatewayProcess, version: ssl.TLSVersion, ciphers: str = "ALL:@SECLEVEL=0"
) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=gateway.facts["ca_certificate"])
    context.set_ciphers(ciphers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_T1_old_versions_are_refused(
    gateway: GatewayProcess, lenient: int, listener: str, version: ssl.TLSVersion
) -> None:
    context = client(gateway, version)
    assert (await agreed(lenient, context))[0] in ("TLSv1", "TLSv1.1")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await agreed(getattr(gateway.ports, listener), context)


@pytest.mark.parametrize("listener", LISTENERS)
async def test_T1_TLS_1_3_is_spoken(gateway: GatewayProcess, listener: str) -> None:
    port = getattr(gateway.ports, listener)
    version, _ = await agreed(port, client(gateway, ssl.TLSVersion.TLSv1_3))
    assert version == "TLSv1.3"


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"])
async def test_T1_E13_the_ciphers_of_FAPI_are_spoken(
    gateway: GatewayProcess, listener: str, cipher: str
) -> None:
    context = client(gateway, ssl.TLSVersion.TLSv1_2, cipher)
    assert await agreed(getattr(gateway.ports, listener), context) == ("TLSv1.2", cipher)


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize(
    "cipher",
    ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "ECDHE-ECDSA-AES128-CCM"],
)
async def test_T1_E13_other_ciphers_of_TLS_1_2_are_refused(
    gateway: GatewayProcess, lenient: int, listener: str, cipher: str
) -> None:
    context = client(gateway, ssl.TLSVersion.TLSv1_2, f"{cipher}:@SECLEVEL=0")
    assert await agreed(lenient, context) == ("TLSv1.2", cipher)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await agreed(getattr(gateway.ports, listener), context)


async def raw(gateway: GatewayProcess, port: int, request: str) -> list[str]:
    """Status line and header lines of the answer to these bytes."""
    context = ssl.create_default_context(cafile=gateway.facts["ca_certificate"])
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    writer.write(request.encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    writer.close()
    return head.decode("latin-1").split("\r\n")


@pytest.mark.parametrize(
    ("request_line", "more", "status"),
    [
        ("GET /.well-known/oauth-authorization-server HTTP/1.1", "", 200),
        ("HEAD /jwks HTTP/1.1", "", 200),
        ("GET /authorize HTTP/1.1", "", 400),
        ("GET /sign-in HTTP/1.1", "", 400),
        ("GET /token HTTP/1.1", "", 405),
        ("POST /token HTTP/1.1", "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", 400),
        (
            "POST /par HTTP/1.1",
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n",
            400,
        ),
        ("GET /fhir/r4/Patient/A HTTP/1.1", "", 401),
        ("GET /nothing HTTP/1.1", "", 404),
        ("GET /a%zz HTTP/1.1", "", 400),
        ("GET /jwks HTTP/1.1", "DPoP: a\r\nDPoP: b\r\n", 400),
        ("GET /jwks HTTP/1.1", f"X-Long: {'x' * 20000}\r\n", 0),
        ("GET\x01 /jwks HTTP/1.1", "", 400),
    ],
)
@pytest.mark.parametrize("listener", LISTENERS)
async def test_T4_every_answer_has_one_date(
    gateway: GatewayProcess, listener: str, request_line: str, more: str, status: int
) -> None:
    end = "" if more.endswith("{}") else "\r\n"
    head = await raw(
        gateway, getattr(gateway.ports, listener), f"{request_line}\r\nHost: localhost\r\n{more}{end}"
    )
    said = int(head[0].split()[1])
    assert said == status if status else 400 <= said < 500
    assert [line.partition(":")[0].lower() for line in head[1:]].count("date") == 1, head

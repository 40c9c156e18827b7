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
async def test_T1_the_ciphers_of_FAPI_are_spoken(gateway: GatewayProcess, listener: str, cipher: str) -> None:
    context = client(gateway, ssl.TLSVersion.TLSv1_2, cipher)
    assert await agreed(getattr(gateway.ports, listener), context) == ("TLSv1.2", cipher)


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize(
    "cipher",
    ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "ECDHE-ECDSA-AES128-CCM"],
)
async def test_T1_other_ciphers_of_TLS_1_2_are_refused(
    gateway: GatewayProcess, lenient: int, listener: str, cipher: str
) -> None:
    context = client(gateway, ssl.TLSVersion.TLSv1_2, f"{cipher}:@SECLEVEL=0")
    assert await agreed(lenient, context) == ("TLSv1.2", cipher)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await agreed(getattr(gateway.ports, listener), context)

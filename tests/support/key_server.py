"""An https server of an app's vendor, with an authority of its own: publishes a key set, as well or badly as it is told."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path

from aiohttp import web

from authz.fetch import Fetcher, Resolve
from authz.protocol.addresses import Address, AllowList
from gateway.demo.authority import Authority
from gateway.demo.world import free_port

LOOPBACK = AllowList(networks=(ip_network("127.0.0.0/8"),))
HOST = "keys.example"


@dataclass
class KeyServer:
    """What it answers, and what it was asked."""

    port: int
    authority: str  # PEM
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    body: bytes = b'{"keys":[]}'
    silent: bool = False
    seen: list[Mapping[str, str]] = field(default_factory=list)
    taken: list[bytes] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Where the key set is, by the name that its certificate has."""
        return f"https://{HOST}:{self.port}/jwks.json"

    def publish(self, *keys: Mapping[str, object]) -> None:
        """Answer with these keys from now on."""
        self.body = json.dumps({"keys": keys}).encode()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a GET, or take a POST."""
        assert request.method in ("GET", "POST")
        self.seen.append({name.lower(): value for name, value in request.headers.items()})
        if request.method == "POST":
            self.taken.append(await request.read())
        if self.silent:
            await self.released.wait()
        return web.Response(status=self.status, headers=self.headers, body=self.body)

    def fetcher(
        self,
        *,
        allow: AllowList = LOOPBACK,
        origins: tuple[str, ...] = (),
        ports: tuple[int, ...] = (),
        resolve: Resolve | None = None,
        trusted: bool = True,
    ) -> Fetcher:
        """A guarded fetcher that finds this server by its name."""
        return Fetcher(
            allow=allow,
            own_origins=origins,
            own_ports=ports,
            certificate_authorities=self.authority if trusted else None,
            resolve=resolve or resolving("127.0.0.1"),
        )


def resolving(*addresses: str) -> Resolve:
    """A resolver that knows one answer for every name."""

    async def resolve(host: str, port: int) -> list[Address]:
        return [ip_address(address) for address in addresses]

    return resolve


@asynccontextmanager
async def key_server(folder: Path) -> AsyncIterator[KeyServer]:
    """A server on a free port of 127.0.0.1."""
    authority = Authority.new("Keys CA")
    certificate, key = folder / "keys.pem", folder / "keys.key"
    authority.issue(certificate, key, HOST, server=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = KeyServer(free_port(), authority.pem.decode())
    runner = web.ServerRunner(web.Server(server.handle, access_log=None), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", server.port, ssl_context=context).start()
    try:
        yield server
    finally:
        server.released.set()
        await runner.cleanup()

"""The whole process in a test: real listeners with TLS, real store, the shipped policies, the recording upstream.

Tokens are made with the server's own key, so that a test can say exactly what a token claims; the flows that earn
tokens are tested elsewhere. Requests go out as bytes on a socket: what a client library would mend stays broken.
"""

import asyncio
import errno
import json
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from authz.clock import Clock, system_clock
from authz.http import ListenerFace, read
from authz.protocol.brands import PublishedBrands
from authz.protocol.clients import Client
from authz.protocol.encoding import base64url
from authz.settings import AuthorizationSettings, Protected
from authz.storage.settings import StoreSettings
from gateway.app import Gateway
from gateway.audit_settings import AuditSettings
from gateway.demo.authority import Authority
from gateway.demo.client import Key
from gateway.demo.world import free_port
from gateway.policy.details_layer import FHIR_ACCESS
from gateway.settings import (
    GatewaySettings,
    KeySettings,
    Limits,
    Listener,
    Operations,
    Probe,
    Readers,
    Receiver,
    TlsFiles,
    TrustedProxies,
    Upstream,
)
from tests.support.hostile_upstream import HostileUpstream

ROOT = Path(__file__).parents[2]
MOUNT = "/fhir/r4"

PRINCIPALS: dict[str, dict[str, Any]] = {
    "pA-r": {"scope": "patient/*.rs", "patient": "A", "fhirUser": "Patient/A"},
    "pA-rw": {"scope": "patient/*.cruds", "patient": "A", "fhirUser": "Patient/A"},
    "dr1": {"scope": "user/*.cruds", "fhirUser": "Practitioner/dr1", "roles": ["physician"]},
    "lab": {"scope": "system/*.rs", "organization": "laboratory"},
    "none": {"scope": "patient/*.rs"},
    "mix": {"scope": "patient/Observation.rs user/Patient.rs system/*.rs", "patient": "A"},
}


@dataclass
class Reply:
    """An answer, taken apart by hand."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    raw: bytes
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """The value of a header; None without it."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def has_last_chunk(self) -> bool:
        """Whether a body in chunks came to its end. The last line of a head may end in a zero as well."""
        return self.raw.endswith(b"\r\n0\r\n\r\n")

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def reason(self) -> str | None:
        """The stable reason code of an OperationOutcome."""
        try:
            return str(self.json["issue"][0]["details"]["coding"][0]["code"])
        except (ValueError, KeyError, TypeError):
            return None


@dataclass
class RunningGateway:
    """A gateway that listens, with everything a test needs to talk to it."""

    gateway: Gateway
    upstream: HostileUpstream
    folder: Path
    port: int
    mtls_port: int
    operations_port: int
    key: Key = field(default_factory=Key.new)

    @property
    def origin(self) -> str:
        """The public origin."""
        return f"https://localhost:{self.port}"

    @property
    def nonce(self) -> str:
        """The nonce that the gateway hands out now: one that was taken earlier may be over on a slow machine."""
        server = self.gateway.authorization.resource_server
        asked = read("GET", MOUNT, [], peer_address="127.0.0.1", face=ListenerFace(self.origin))
        return dict(server.challenge(None, asked))["DPoP-Nonce"]

    async def token(self, principal: str = "pA-r", *, mtls: str | None = None, **claims: Any) -> str:
        """An access token of a principal, with claims laid over its own; bound to our DPoP key or a certificate."""
        now = self.gateway.clock()
        member = "jkt" if mtls is None else "x5t#S256"
        thumbprint = mtls or base64url(sha256(_canonical(self.key.public)).digest())
        content: dict[str, Any] = {
            "iss": self.origin,
            "sub": principal,
            "aud": self.origin + MOUNT,
            "client_id": f"client-{principal}",
            "iat": now,
            "exp": now + 300,
            "jti": secrets.token_urlsafe(24),
            "grant_id": f"grant-{principal}",
            "cnf": {member: thumbprint},
            **PRINCIPALS[principal],
            **claims,
        }
        return await self.gateway.keys.sign({k: v for k, v in content.items() if v is not ...}, typ="at+jwt")

    def proof(self, method: str, url: str, token: str, **claims: Any) -> str:
        """A DPoP proof by our key, with the gateway's nonce."""
        content: dict[str, Any] = {
            "htm": method,
            "htu": url,
            "iat": self.gateway.clock(),
            "jti": secrets.token_urlsafe(16),
            "nonce": self.nonce,
            "ath": base64url(sha256(token.encode()).digest()),
            **claims,
        }
        return self.key.sign(content, {"typ": "dpop+jwt", "jwk": self.key.public})

    async def send(
        self,
        method: str,
        target: str,
        headers: list[tuple[str, str]] | None = None,
        body: bytes = b"",
        *,
        port: int | None = None,
        certificate: Path | None = None,
        framing: bool = True,
    ) -> Reply:
        """One request, byte for byte as given, on a connection of its own."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: localhost:{self.port}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers or []]
        if framing and (body or method in ("POST", "PUT", "PATCH")):
            lines.append(f"Content-Length: {len(body)}")
        return await self.raw(
            "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body, port=port, certificate=certificate
        )

    async def raw(self, content: bytes, *, port: int | None = None, certificate: Path | None = None) -> Reply:
        """Bytes to a connection; the first answer on it."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        if certificate is not None:
            context.load_cert_chain(str(certificate), str(certificate.with_suffix(".key")))
        reader, writer = await asyncio.open_connection("localhost", port or self.port, ssl=context)
        try:
            writer.write(content)
            await writer.drain()
            raw = await asyncio.wait_for(reader.read(), 20)
        except ConnectionError:
            raw = b""
        finally:
            writer.close()
        return parse_reply(raw)

    async def fhir(
        self,
        method: str,
        path: str,
        *,
        who: str = "pA-r",
        token: str | None = None,
        headers: list[tuple[str, str]] | None = None,
        body: bytes = b"",
        proof_path: str | None = None,
        mount: str = MOUNT,
    ) -> Reply:
        """A request below the mount, with token and proof."""
        token = await self.token(who) if token is None else token
        target = mount + path
        htu = self.origin + (proof_path or target).partition("?")[0]
        sent = [
            ("Authorization", f"DPoP {token}"),
            ("DPoP", self.proof(method, htu, token)),
            *(headers or []),
        ]
        return await self.send(method, target, sent, body)

    async def audit(self) -> list[dict[str, Any]]:
        """Every audit record."""
        return [json.loads(line.line) for line in await self.gateway.store.audit(after=0, limit=100_000)]


def parse_reply(raw: bytes) -> Reply:
    """The first answer in these bytes; status 0 when there is none."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if not lines[0].startswith("HTTP/"):
        return Reply(0, [], b"", raw)
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
    if any(n.lower() == "transfer-encoding" and v.lower() == "chunked" for n, v in headers):
        body, trailers = _dechunked(body)
        return Reply(int(lines[0].split(" ")[1]), headers, body, raw, trailers)
    return Reply(int(lines[0].split(" ")[1]), headers, body, raw)


def _dechunked(body: bytes) -> tuple[bytes, list[tuple[str, str]]]:
    found = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size or b"0", 16)
        if length == 0:
            lines = rest.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in lines if line)
            return found, [(name, value.strip()) for name, _, value in pairs]
        found, body = found + rest[:length], rest[length + 2 :]
    return found, []


def _canonical(jwk: dict[str, str]) -> bytes:
    return json.dumps(dict(sorted(jwk.items())), separators=(",", ":")).encode()


def policies_with(folder: Path, name: str, text: str) -> Path:
    """A folder of policies with the shipped definitions and this one policy."""
    policies = folder / "policies"
    policies.mkdir()
    shipped = ROOT / "policies" / "00-definitions.yaml"
    (policies / shipped.name).write_text(shipped.read_text())
    (policies / name).write_text(text)
    return policies


async def start_gateway(folder: Path, **options: Any) -> RunningGateway:
    """A gateway on free ports, with certificates of its own, before a recording upstream or the one at base=….

    The options are those of _started. A port that somebody took after it had been looked at is given up for another.
    """
    for _ in range(5):
        try:
            return await _started(folder, **options)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError("no ports could be taken")


async def _started(
    folder: Path,
    *,
    policies: Path = ROOT / "policies",
    limits: Limits | None = None,
    clock: Clock = system_clock,
    second_mount: str | None = None,
    signing_algorithm: str = "ES256",
    notifications: Mapping[str, Receiver] | None = None,
    clients: tuple[Client, ...] = (),
    cors: Readers = Readers.REGISTERED,
    brands: PublishedBrands | None = None,
    documents: Mapping[str, Any] | None = None,
    audit: AuditSettings | None = None,
    proxies: TrustedProxies | None = None,
    **upstream_options: Any,
) -> RunningGateway:
    """A gateway on ports that are free now.

    second_mount is the path of a second upstream, which is the same store. documents are the options of a third one,
    at /cda, whose documents no FHIR store keeps. proxies are those before the public listener.
    """
    store = HostileUpstream()
    await store.start()
    authority = Authority.new("Test CA")
    (folder / "ca.pem").write_bytes(authority.pem)
    authority.issue(folder / "server.pem", folder / "server.key", "localhost", server=True)
    for name in ("own", "other"):
        authority.issue(folder / f"{name}.pem", folder / f"{name}.key", f"{name}.example", server=False)
    port, mtls_port, operations = free_port(), free_port(), free_port()
    origin, mtls = f"https://localhost:{port}", f"https://localhost:{mtls_port}"
    files = TlsFiles(folder / "server.pem", folder / "server.key")
    mounts = (MOUNT,) if second_mount is None else (MOUNT, second_mount)
    settings = GatewaySettings(
        file=folder / "gateway.yaml",
        listeners=(
            Listener("public", "127.0.0.1", port, origin, files, proxies),
            Listener(
                "mtls",
                "127.0.0.1",
                mtls_port,
                mtls,
                files,
                client_certificates=True,
                client_certificate_anchors=folder / "ca.pem",
            ),
        ),
        operations=Operations("127.0.0.1", operations),
        authorization=AuthorizationSettings(
            issuer=origin,
            mtls_origin=mtls,
            resources=tuple(
                Protected(
                    origin + at,
                    at,
                    "fhir-r4",
                    (mtls + at,),
                    signs=upstream_options.get("response_signatures", "off") != "off",
                )
                for at in (*mounts, *(("/cda",) if documents is not None else ()))
            ),
            detail_types=(FHIR_ACCESS,),
            signing_algorithms=(signing_algorithm,),
            brands=brands,
        ),
        storage=StoreSettings(path=str(folder / "securus.db")),
        keys=KeySettings(folder / "key-encryption.key"),
        upstreams=tuple(
            Upstream(
                name="fhir" if at == MOUNT else at.rpartition("/")[2],
                kind="fhir-r4",
                at=at,
                identifier=origin + at,
                bases=frozenset({origin + at, mtls + at}),
                **{"base": store.base, "probe": Probe.OFF, **upstream_options},
            )
            for at in mounts
        )
        + tuple(
            Upstream(
                name="cda",
                at="/cda",
                identifier=f"{origin}/cda",
                bases=frozenset({f"{origin}/cda", f"{mtls}/cda"}),
                **{"kind": "cda-rest", "probe": Probe.OFF, **each},
            )
            for each in ([documents] if documents is not None else [])
        ),
        policies=policies,
        clients=clients,
        cors=cors,
        accounts=(),
        limits=limits or Limits(drain=2.0),
        notifications=notifications or {},
        audit=audit or AuditSettings(),
    )
    try:
        gateway = await Gateway.open(settings, clock=clock)
    except BaseException:
        await store.stop()
        raise
    return RunningGateway(gateway, store, folder, port, mtls_port, operations)


async def stop_gateway(running: RunningGateway) -> None:
    """Stop both."""
    await running.gateway.close()
    await running.upstream.stop()

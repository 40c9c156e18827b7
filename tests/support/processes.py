"""The gateway as a process of its own, as an operator runs it: `securus serve` on a demonstration's configuration."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from gateway.demo import world
from gateway.demo.client import Key, Person, Session

_START_SECONDS = 30
PROGRAM = (sys.executable, "-m", "gateway")


@dataclass
class GatewayProcess:
    """A running `securus serve`. facts is what stands in demo.json."""

    process: asyncio.subprocess.Process
    facts: dict[str, Any]
    folder: Path
    ports: world.Ports

    @property
    def log(self) -> list[dict[str, Any]]:
        """What it logged so far; every line must be JSON."""
        return [json.loads(line) for line in (self.folder / "gateway.log").read_text().splitlines()]

    def audit(self) -> list[dict[str, Any]]:
        """Every audit record."""
        path = f"file:{self.folder / 'securus.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(path, uri=True)) as database:
            return [
                json.loads(row[0]) for row in database.execute("SELECT line FROM audit ORDER BY sequence")
            ]

    def resident_bytes(self) -> int:
        """Resident memory now."""
        return self._status("VmRSS")

    def peak_bytes(self) -> int:
        """The most resident memory since the start, or since forget_peak()."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Let the peak begin anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        line = next(line for line in lines if line.startswith(name + ":"))
        return int(line.split()[1]) * 1024

    def session(self, name: str) -> Session:
        """The app of that name, with its keys."""
        app = next(client for client in self.facts["clients"] if client["name"] == name)
        context = ssl.create_default_context(cafile=self.facts["ca_certificate"])
        if app["certificate"] is not None:
            context.load_cert_chain(app["certificate"], app["certificate_key"])
        http = aiohttp.ClientSession(
            connector=self.connector(context),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=300),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding",),  # what is not decoded is not asked for
        )
        keys = (app["jwks"] or {"keys": []})["keys"]
        return Session(
            http=http,
            issuer=self.facts["issuer"],
            client_id=app["client_id"],
            assertion_key=Key.of_jwk(keys[0]) if keys else None,
            proof_key=Key.new() if keys else None,
        )

    def connector(self, context: ssl.SSLContext) -> aiohttp.TCPConnector:
        """How its sessions connect."""
        return aiohttp.TCPConnector(ssl=context)

    async def own_token(self, app: Session, scope: str) -> str:
        """A token of the app's own (client credentials)."""
        await app.discover()
        url = app.endpoint("token_endpoint")
        reply = await app.post(url, {"grant_type": "client_credentials", "scope": scope})
        assert reply.status == 200, reply.body
        return str(reply.json["access_token"])

    async def token_of(self, app: Session, username: str, scope: str) -> dict[str, Any]:
        """The token answer of a person who signs in and allows all."""
        await app.discover()
        user = next(user for user in self.facts["users"] if user["username"] == username)
        pushed, verifier, _ = await app.push(world.REDIRECT_URI, scope)
        assert pushed.status == 201, pushed.body
        url = app.authorization_url(pushed.json["request_uri"])
        answer = await Person(app.http).authorize(url, username, user["password"])
        issued = await app.redeem(answer["code"], verifier, world.REDIRECT_URI)
        assert issued.status == 200, issued.body
        found: dict[str, Any] = issued.json
        return found

    async def operations(self, path: str) -> tuple[int, str]:
        """A page of the operations listener."""
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{self.facts['ops_base']}{path}") as response,
        ):
            return response.status, await response.text()

    def send_signal(self, number: int) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and give its exit code."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 60)


async def start_process(
    folder: Path,
    *,
    change: Callable[[dict[str, Any]], None] | None = None,
    policies: dict[str, str] | None = None,
    by: Sequence[str] = PROGRAM,
) -> GatewayProcess:
    """Write a demonstration into folder, with changes to its gateway.yaml, and serve it; the store is the caller's."""
    ports = world.Ports(*(world.free_port() for _ in range(4)))
    facts = await asyncio.to_thread(world.build, folder, ports)
    for name, text in (policies or {}).items():
        (folder / "policies" / name).write_text(text)
    if change is not None:
        document = yaml.safe_load(Path(facts["config"]).read_text())
        change(document)
        # JSON is YAML without aliases, which a configuration may not have.
        Path(facts["config"]).write_text(json.dumps(document, indent=1))
    return await serve(facts, folder, ports, by=by)


async def serve(
    facts: dict[str, Any],
    folder: Path,
    ports: world.Ports,
    name: str = "gateway",
    kind: type[GatewayProcess] = GatewayProcess,
    by: Sequence[str] = PROGRAM,
) -> GatewayProcess:
    """`securus serve` on the configuration of facts, ready. It logs to a file of its name; RuntimeError brings that.

    by is the command that stands for `securus`.
    """
    with (folder / f"{name}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *by, "serve", "-c", facts["config"], stdout=log, stderr=log,
            stdin=asyncio.subprocess.DEVNULL, env=os.environ | {"PYTHONWARNINGS": "default"},
        )  # fmt: skip
    running = kind(process, facts, folder, ports)
    for _ in range(_START_SECONDS * 20):
        if process.returncode is not None:
            break
        with contextlib.suppress(aiohttp.ClientError, OSError):
            if (await running.operations("/readyz"))[0] == 200:
                return running
        await asyncio.sleep(0.05)
    await running.stop(signal.SIGKILL)
    raise RuntimeError((folder / f"{name}.log").read_text())


@dataclass
class Demonstration:
    """A running `securus demo`. facts is its demo.json."""

    process: asyncio.subprocess.Process
    facts: dict[str, Any]
    folder: Path

    @property
    def file(self) -> Path:
        """Its demo.json."""
        return self.folder / "demo.json"

    async def stop(self) -> int:
        """Interrupt it, as a person does with Ctrl-C; the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
        return await asyncio.wait_for(self.process.wait(), 60)


async def start_demonstration(folder: Path) -> Demonstration:
    """`securus demo` that has played its flow and serves on, on free ports."""
    port = three_free_ports()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "demo", "--state", str(folder), "--port", str(port),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(_START_SECONDS * 2):
        while "Serving on" not in said:
            line = await process.stdout.readline()
            if not line:
                raise RuntimeError(said)
            said += line.decode()
    facts = json.loads((folder / "demo.json").read_text())
    return Demonstration(process, facts, folder)


def three_free_ports() -> int:
    """A port with the two behind it free, as the demonstration takes them."""
    while True:
        port = world.free_port()
        with contextlib.suppress(OSError):
            for number in (port, port + 1, port + 2):
                with socket.socket() as listening:
                    listening.bind(("127.0.0.1", number))
            return port

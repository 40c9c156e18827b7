"""A Valkey or Redis server of the tests' own, on a port of loopback; it keeps its data in memory and ends with them."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from authz.storage.valkey_settings import ValkeySettings
from gateway.demo.authority import Authority
from gateway.demo.world import free_port
from tests.support.missing import missing

_START_SECONDS = 20


@dataclass
class ValkeyServer:
    """A running server. more are further settings of it; authorities is PEM where it speaks TLS."""

    port: int
    more: tuple[str, ...] = ()
    authorities: str | None = None
    process: subprocess.Popen[bytes] | None = field(default=None)

    def settings(self, **more: Any) -> ValkeySettings:
        """Settings for it."""
        scheme = "valkey" if self.authorities is None else "valkeys"
        said = {"authorities": self.authorities, **more}
        return ValkeySettings(f"{scheme}://127.0.0.1:{self.port}/0", **said)

    def start(self) -> None:
        """Start, with nothing in it."""
        program = _program()
        assert program is not None
        self.process = subprocess.Popen(
            [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *self.more],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise RuntimeError("the server does not answer")

    def stop(self) -> None:
        """End it at once, as a crash does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Let it answer nothing, with its connections open."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def valkey_server(*more: str) -> Iterator[ValkeyServer]:
    """A server of our own. Skips where there is none; fails in CI."""
    with _running(ValkeyServer(free_port(), more)) as server:
        yield server


@contextmanager
def secured_valkey_server(
    authority: Authority, folder: Path, addresses: Sequence[str] = ()
) -> Iterator[ValkeyServer]:
    """The same by TLS alone, with a certificate of this authority for these addresses and 127.0.0.1."""
    certificate, key = folder / "valkey.pem", folder / "valkey.key"
    authority.issue(certificate, key, "localhost", server=True, addresses=("127.0.0.1", *addresses))
    ca = folder / "valkey-ca.pem"
    ca.write_bytes(authority.pem)
    port = free_port()
    more = (
        "--port", "0", "--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key),
        "--tls-ca-cert-file", str(ca), "--tls-auth-clients", "no",
    )  # fmt: skip
    with _running(ValkeyServer(port, more, authority.pem.decode("ascii"))) as server:
        yield server


@contextmanager
def _running(server: ValkeyServer) -> Iterator[ValkeyServer]:
    if _program() is None:
        missing("no valkey-server and no redis-server is installed")
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _program() -> str | None:
    return shutil.which("valkey-server") or shutil.which("redis-server")

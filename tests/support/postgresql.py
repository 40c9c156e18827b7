"""A PostgreSQL server of the tests' own: a data directory under /tmp, a socket there and a port on loopback.

PostgreSQL refuses to run as root: where we are root it runs as the user postgres, or nobody. Nothing is flushed to the
disk, and the server ends with the tests.
"""

import asyncio
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import asyncpg

from authz.storage.postgresql.settings import PostgresqlSettings
from authz.storage.postgresql.store import open_postgresql
from authz.storage.tables import TABLES
from gateway.demo.authority import Authority
from gateway.demo.world import free_port
from tests.support.missing import missing

_START_SECONDS = 60
_numbers = itertools.count(1)
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "64MB",
    "max_connections": "200",
    "autovacuum": "off",
    "unix_socket_permissions": "0777",
    "log_min_messages": "fatal",
    "logging_collector": "off",
}


@dataclass
class PrivateServer:
    """A running server. folder holds its data and its socket."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    options: dict[str, str]

    def dsn(self, database: str = "postgres", *, user: str = "owner", password: str = "") -> str:
        """The address of a database, over loopback."""
        secret = f":{password}" if password else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def settings(self, database: str, **more: Any) -> PostgresqlSettings:
        """Settings for a database."""
        return PostgresqlSettings(self.dsn(database), **more)

    async def new_database(self) -> str:
        """An empty database; its name."""
        name = f"securus_{next(_numbers)}"
        await self.run(f"CREATE DATABASE {name}")
        return name

    async def migrated_database(self) -> str:
        """A database with the newest schema; its name."""
        name = await self.new_database()
        await (await open_postgresql(self.settings(name))).close()
        return name

    async def clean(self, database: str) -> None:
        """Take every row out of it again, those that nobody may remove too: it is as its migrations left it."""
        await self.run(
            "SET session_replication_role = replica; UPDATE numbering SET value = 0;"
            " UPDATE audit_head SET sequence = 0, digest = ''; DELETE FROM audit_chain;"
            " DELETE FROM consent_newest;" + "".join(f"DELETE FROM {table.name};" for table in TABLES),
            database,
        )

    async def drop(self, database: str) -> None:
        """Take a database away, whoever still uses it: each is seven megabytes."""
        await self.run(f"DROP DATABASE {database} WITH (FORCE)")

    async def run(
        self, sql: str, database: str = "postgres", *, user: str = "owner"
    ) -> list[tuple[Any, ...]]:
        """The rows of a statement; of several none."""
        connection = await asyncpg.connect(self.dsn(database, user=user))
        try:
            if ";" in sql:
                await connection.execute(sql)
                return []
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    def stop(self) -> None:
        """Shut down at once, as a crash does: connections end without a word."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(_START_SECONDS)

    def start(self) -> None:
        """Start again, on the same data and port."""
        self.process = _serve(self.folder, self.port, self.options)

    def processes(self) -> list[int]:
        """The ids of the server's processes, the postmaster first."""
        found = [self.process.pid]
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == self.process.pid:
                found.append(int(stat.parent.name))
        return found

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The whole server stands still: it takes what is sent and answers nothing."""
        stopped = self.processes()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(stopped):
                os.kill(pid, signal.SIGCONT)


def programs() -> Path | None:
    """Where initdb and postgres are; None when they are not installed."""
    found = shutil.which("initdb")
    if found is not None and (Path(found).resolve().parent / "postgres").exists():
        return Path(found).resolve().parent
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "postgres").exists()]
    return max(versions, key=lambda path: int(path.parent.name), default=None)


def require_programs() -> Path:
    """Where they are. Without them the test is skipped, and fails in CI."""
    found = programs()
    if found is None:
        missing("PostgreSQL is not installed: initdb is neither on PATH nor under /usr/lib/postgresql")
    return found


@contextmanager
def private_server(
    authority: Authority | None = None,
    *,
    name: str = "localhost",
    more: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[PrivateServer]:
    """A server with nothing in it, for as long as this lasts; with TLS when there is an authority for its name.

    more are settings of it.
    """
    bin_ = require_programs()
    folder = Path(tempfile.mkdtemp(prefix="securus-pg-"))
    user = _user()
    if user is not None:
        shutil.chown(folder, user)
    try:
        _run(
            [
                bin_ / "initdb",
                "-D",
                folder / "data",
                "-U",
                "owner",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "-N",
            ]
        )
        port = free_port()
        options = {**more, **({} if authority is None else _tls(authority, name, folder, user))}
        server = PrivateServer(folder, port, _serve(folder, port, options), options)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def standby_of(primary: PrivateServer) -> Iterator[PrivateServer]:
    """A standby that follows a primary with wal_level=replica, and without which that acknowledges nothing any more."""
    folder = Path(tempfile.mkdtemp(prefix="securus-pg-"))
    user = _user()
    if user is not None:
        shutil.chown(folder, user)
    try:
        _run(
            [
                require_programs() / "pg_basebackup", "-D", folder / "data", "-h", "127.0.0.1", "-p", primary.port,
                "-U", "owner", "-R", "--checkpoint=fast", "--no-sync",
            ]
        )  # fmt: skip
        port = free_port()
        server = PrivateServer(folder, port, _serve(folder, port, primary.options), primary.options)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tls(authority: Authority, name: str, folder: Path, user: str | None) -> dict[str, str]:
    certificate, key = folder / "server.pem", folder / "server.key"
    authority.issue(certificate, key, name, server=True)
    key.chmod(0o600)
    if user is not None:
        shutil.chown(key, user)
        shutil.chown(certificate, user)
    return {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}


def _serve(folder: Path, port: int, more: dict[str, str]) -> subprocess.Popen[bytes]:
    options = {
        **_SETTINGS,
        **more,
        "port": str(port),
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": folder,
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    # Should these tests be killed, the server ends with them.
    bound = ["setpriv", "--pdeathsig", "QUIT"] if shutil.which("setpriv") else []
    process = subprocess.Popen(
        [*bound, require_programs() / "postgres", "-D", folder / "data", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        user=_user(), group=_group(), extra_groups=None if _user() is None else [], cwd=folder,
    )  # fmt: skip
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if _is_ready(port):
            return process
        time.sleep(0.02)
    process.kill()
    raise RuntimeError("PostgreSQL does not start")


def _is_ready(port: int) -> bool:
    """Whether the server takes connections, in a thread of its own: the caller may run on an event loop."""
    answers: list[bool] = []

    async def ask() -> None:
        dsn = f"postgresql://owner@127.0.0.1:{port}/postgres?sslmode=disable"
        connection = await asyncpg.connect(dsn, timeout=5)
        await connection.close()
        answers.append(True)

    def run() -> None:
        try:
            asyncio.run(ask())
        except (OSError, asyncpg.PostgresError):
            answers.append(False)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return answers == [True]


def _run(command: list[object]) -> None:
    done = subprocess.run(
        [str(part) for part in command], user=_user(), group=_group(), capture_output=True, cwd="/",
        extra_groups=None if _user() is None else [], check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace"))


def _user() -> str | None:
    """Who runs the server; None for ourselves."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _group() -> int | None:
    user = _user()
    return None if user is None else pwd.getpwnam(user).pw_gid

"""What is measured: processes on loopback, each with its own configuration, pinned to one core."""

import contextlib
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Subject:
    """A running server: its process group's leader, and the port of the door that is measured."""

    name: str
    process: "subprocess.Popen[bytes]"
    port: int

    def pids(self) -> list[int]:
        """The process and its children."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far."""
        ticks = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / _TICKS

    def waited_seconds(self) -> float:
        """How long its processes could have run, and somebody else had their core; of the first thread of each."""
        waited = 0
        for pid in self.pids():
            waited += int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
        return waited / 1e9

    def peak_megabytes(self) -> float:
        """The most resident memory of its processes together."""
        total = 0
        for pid in self.pids():
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            total += int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
        return total / 1024


@contextlib.contextmanager
def running(
    name: str, command: list[str], port: int, folder: Path, cores: Collection[int]
) -> Iterator[Subject]:
    """Start a server on these cores, wait until its port answers, end it by its process id."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )  # fmt: skip
    try:
        _wait(process, port, folder / f"{name}.log")
        yield Subject(name, process, port)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            raise RuntimeError(log.read_text())
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"nothing answers on port {port}: {log.read_text()}")


def nginx(folder: Path, name: str, port: int, location: str) -> list[str]:
    """The command of an nginx with one worker, without logs, with this location block."""
    home = folder / name
    home.mkdir()
    conf = home / "nginx.conf"
    temporary = "\n".join(
        f"  {kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    conf.write_text(
        f"""
{"user root;" if os.getuid() == 0 else ""}
worker_processes 1;
daemon off;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 1024; }}
http {{
{temporary}
  access_log off;
  sendfile on;
  tcp_nodelay on;
  keepalive_requests 10000000;
{location.replace("LISTEN", f"listen 127.0.0.1:{port}")}
}}
"""
    )
    return ["nginx", "-p", str(home), "-c", str(conf)]

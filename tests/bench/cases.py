"""One way to measure: the same load on each subject in turn, several times, and what each of them spent."""

import http.client
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import wrk
from tests.bench.processes import Subject
from tests.bench.rows import Measured, row
from tests.bench.servers import OTHER_CORE


@dataclass(frozen=True)
class Load:
    """How long and how wide. prepared is how many requests of their own a second a subject may get at most."""

    runs: int
    seconds: int
    connections: int


@dataclass(frozen=True)
class Contender:
    """A subject of a case. prepare makes so many requests; again is whether they may be sent more than once.

    Each of its workers gets as many connections as a subject with one: with half of them it would share half as many
    commits, which is another load.
    """

    subject: Subject
    prepare: Callable[[int], list[bytes]]
    at_most_per_second: int
    note: str
    again: bool = False
    workers: int = 1


def alternate(
    case: str, contenders: list[Contender], load: Load, folder: Path, expected: int, *, divisor: float = 1.0
) -> list[dict[str, Any]]:
    """The rows of a case: each subject in turn, as often as there are runs. Raises RuntimeError for a wrong answer.

    expected is the length of the answer's body, 0 where it is not known. divisor is of the connections: a case of
    large bodies takes fewer.
    """
    seen: dict[str, list[Measured]] = {each.subject.name: [] for each in contenders}
    connections = max(1, round(load.connections / divisor))
    for _ in range(load.runs):
        for each in contenders:
            count = 2 if each.again else each.at_most_per_second * load.seconds
            requests = each.prepare(count)
            _check(each.subject, requests.pop(), expected)
            before = each.subject.cpu_seconds()
            found = wrk.run(
                folder, each.subject.port, requests, again=each.again, seconds=load.seconds,
                connections=connections * each.workers, core=OTHER_CORE,
            )  # fmt: skip
            used = each.subject.cpu_seconds() - before
            if found.errors:
                raise RuntimeError(
                    f"{case}, {each.subject.name}: {found.errors} of {found.requests} requests failed"
                )
            seen[each.subject.name].append(
                Measured(
                    used / found.requests * 1e6,
                    found.per_second,
                    found.p50_ms,
                    found.p99_ms,
                    each.subject.peak_megabytes(),
                )
            )
    return [row(case, each.subject.name, seen[each.subject.name], each.note) for each in contenders]


def _check(subject: Subject, request: bytes, expected: int) -> None:
    """One prepared request must bring the whole body, or the numbers mean nothing. Raises RuntimeError."""
    with socket.create_connection(("127.0.0.1", subject.port), timeout=30) as connection:
        connection.sendall(request)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        body = answer.read()
    if answer.status not in (200, 201) or len(body) < expected:
        said = body[:2000].decode("latin-1")
        raise RuntimeError(f"{subject.name} answered {answer.status} with {len(body)} bytes: {said}")


def get(port: int, path: str, headers: list[str]) -> bytes:
    """A GET as bytes."""
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Accept: application/fhir+json", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def post(port: int, path: str, body: str, headers: list[str]) -> bytes:
    """A form that is posted, as bytes."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return ("\r\n".join([*lines, "", ""]) + body).encode()

"""Latency at half of what a subject can take: requests come at that rate, whether those before are answered or not."""

import subprocess
import sys
import time
from typing import Any, NamedTuple

from tests.bench.cases import Contender, Load
from tests.bench.rows import Measured, row
from tests.bench.servers import OTHER_CORE, Place

CASE = "dpop-read-2k-half-load"
_CONNECTIONS = 64


def rows(
    place: Place, contenders: list[Contender], at_most: dict[str, float], load: Load
) -> list[dict[str, Any]]:
    """The rows of these subjects, whose highest rates are at_most by name. Raises RuntimeError for a wrong answer."""
    seen: dict[str, list[Measured]] = {each.subject.name: [] for each in contenders}
    hindered: dict[str, list[_Hindered]] = {each.subject.name: [] for each in contenders}
    for _ in range(load.runs):
        for each in contenders:
            rate = at_most[each.subject.name] / 2
            measured, by = _run(place, each, rate, load)
            seen[each.subject.name].append(measured)
            hindered[each.subject.name].append(by)
    return [
        row(
            CASE,
            each.subject.name,
            seen[each.subject.name],
            f"{at_most[each.subject.name] / 2:.0f} requests a second, half of the most that it answered;"
            f" {_said(hindered[each.subject.name])}; {each.note}",
        )
        for each in contenders
    ]


class _Hindered(NamedTuple):
    """What the machine did to a run: ms that load came late (p99), and the share of time that others had the core."""

    late_ms: float
    waited: float


def _said(found: list[_Hindered]) -> str:
    late, waited = max(each.late_ms for each in found), max(each.waited for each in found)
    return f"load came up to {late:.1f} ms late, others had the core for {waited:.0%} of the time"


def _run(place: Place, contender: Contender, rate: float, load: Load) -> tuple[Measured, _Hindered]:
    subject = contender.subject
    requests = contender.prepare(int(rate * load.seconds) + 1)
    file = place.folder / "due.txt"
    file.write_bytes(b"\n".join(request.replace(b"\r\n", b"\\r\\n") for request in requests))
    command = [
        "taskset", "-c", str(OTHER_CORE), sys.executable, "-m", "tests.bench.open_loop", str(subject.port), str(file),
        str(rate), str(load.seconds), str(_CONNECTIONS),
    ]  # fmt: skip
    before, waited, began = subject.cpu_seconds(), subject.waited_seconds(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    used, waited = subject.cpu_seconds() - before, subject.waited_seconds() - waited
    by_others = waited / (time.perf_counter() - began)
    if done.returncode != 0:
        raise RuntimeError(f"{subject.name}: {done.stderr}")
    answered, failed, p50, p99, late = map(float, done.stdout.split())
    if failed:
        raise RuntimeError(f"{CASE}, {subject.name}: {failed:.0f} of {answered:.0f} requests failed")
    measured = Measured(used / answered * 1e6, answered / load.seconds, p50, p99, subject.peak_megabytes())
    return measured, _Hindered(late, by_others)

"""Latency at half of what a subject can take: requests come at that rate, whether those before are answered or not."""

import subprocess
import sys
from typing import Any

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
    for _ in range(load.runs):
        for each in contenders:
            rate = at_most[each.subject.name] / 2
            seen[each.subject.name].append(_run(place, each, rate, load))
    return [
        row(
            CASE,
            each.subject.name,
            seen[each.subject.name],
            f"{at_most[each.subject.name] / 2:.0f} requests a second, half of the most that it answered; {each.note}",
        )
        for each in contenders
    ]


def _run(place: Place, contender: Contender, rate: float, load: Load) -> Measured:
    subject = contender.subject
    requests = contender.prepare(int(rate * load.seconds) + 1)
    file = place.folder / "due.txt"
    file.write_bytes(b"\n".join(request.replace(b"\r\n", b"\\r\\n") for request in requests))
    command = [
        "taskset", "-c", str(OTHER_CORE), sys.executable, "-m", "tests.bench.open_loop", str(subject.port), str(file),
        str(rate), str(load.seconds), str(_CONNECTIONS),
    ]  # fmt: skip
    before = subject.cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    used = subject.cpu_seconds() - before
    if done.returncode != 0:
        raise RuntimeError(f"{subject.name}: {done.stderr}")
    answered, failed, p50, p99 = map(float, done.stdout.split())
    if failed:
        raise RuntimeError(f"{CASE}, {subject.name}: {failed:.0f} of {answered:.0f} requests failed")
    return Measured(used / answered * 1e6, answered / load.seconds, p50, p99, subject.peak_megabytes())

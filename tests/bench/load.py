"""The load: wrk with one prepared request after the other, each with a proof of its own."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = """
local requests, number = {}, 0
for line in io.lines(os.getenv("REQUESTS")) do
  requests[#requests + 1] = line:gsub("\\\\r\\\\n", "\\r\\n")
end
request = function()
  number = number + 1
  return requests[number] or error("no prepared request is left")
end
done = function(summary, latency)
  io.write(string.format("RESULT %d %d %d %d %d\\n", summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Load:
    """What one run saw. Durations are milliseconds."""

    requests: int
    seconds: float
    errors: int
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def run(folder: Path, port: int, requests: list[bytes], *, seconds: int, connections: int, core: int) -> Load:
    """Send the prepared requests, each at most once, for so long. Raises RuntimeError."""
    script, lines = folder / "load.lua", folder / "requests.txt"
    script.write_text(_SCRIPT)
    lines.write_bytes(b"\n".join(request.replace(b"\r\n", b"\\r\\n") for request in requests))
    done = subprocess.run(
        ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script),
         f"http://127.0.0.1:{port}/"],
        capture_output=True, text=True, env={"REQUESTS": str(lines), "PATH": "/usr/sbin:/usr/bin:/bin"}, check=False,
    )  # fmt: skip
    found = re.search(r"^RESULT (\d+) (\d+) (\d+) (\d+) (\d+)$", done.stdout, re.M)
    if found is None or "no prepared request" in done.stdout + done.stderr:
        raise RuntimeError(f"wrk: {done.stdout}{done.stderr}")
    count, microseconds, errors, p50, p99 = map(int, found.groups())
    return Load(count, microseconds / 1e6, errors, p50 / 1000, p99 / 1000)

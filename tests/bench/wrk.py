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
  if number > #requests and os.getenv("AGAIN") == "yes" then number = 1 end
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


def run(
    folder: Path, port: int, requests: list[bytes], *, again: bool, seconds: int, connections: int, core: int
) -> Load:
    """Send the prepared requests for so long: each once, or again and again. Raises RuntimeError."""
    script, lines = folder / "load.lua", folder / "requests.txt"
    script.write_text(_SCRIPT)
    lines.write_bytes(b"\n".join(request.replace(b"\r\n", b"\\r\\n") for request in requests))
    environment = {
        "REQUESTS": str(lines), "AGAIN": "yes" if again else "no", "PATH": "/usr/sbin:/usr/bin:/bin",
    }  # fmt: skip
    done = subprocess.run(
        ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script),
         f"http://127.0.0.1:{port}/"],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    found = re.search(r"^RESULT (\d+) (\d+) (\d+) (\d+) (\d+)$", done.stdout, re.M)
    if found is None or "no prepared request" in done.stdout + done.stderr:
        raise RuntimeError(f"wrk: {done.stdout}{done.stderr}")
    count, microseconds, errors, p50, p99 = map(int, found.groups())
    return Load(count, microseconds / 1e6, errors, p50 / 1000, p99 / 1000)

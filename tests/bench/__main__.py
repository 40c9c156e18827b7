"""`make bench`: CPU per request of the gateway and of its peers, alternating in one run on this machine.

Writes bench.json and bench.svg and prints a table. Subjects run on one core, store and load on the other.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench import (
    audit_records,
    bodies,
    certificates,
    code_flow,
    flat,
    in_process,
    reads,
    resting,
    streams,
    tokens,
)
from tests.bench.cases import Load
from tests.bench.rows import Measured, picture, row, table
from tests.bench.servers import open_place, securus

_CASES = ("reads", "certificates", "tokens", "flows", "bodies", "streams", "resting", "flat", "in-process")
_PICTURED = (
    ("dpop-read-2k", "A read of 2 KB, with all checks"),
    ("token", "A token: client credentials, private_key_jwt, DPoP"),
    ("code-flow", "Pushed request, consent, code, tokens"),
    ("stream-1g-down", "A gigabyte of a Binary, down"),
    ("stream-1g-up", "A gigabyte of a Binary, up"),
)


def main() -> int:
    """Run the benchmark; 0 when every request was answered as it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    parser.add_argument("--only", choices=_CASES, action="append", help="some of the cases")
    options = parser.parse_args()
    missing = [name for name in ("wrk", "nginx", "openssl", "taskset") if shutil.which(name) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return 1
    if (os.cpu_count() or 1) < 2:
        print("needs two cores: one for the subject, one for store and load", file=sys.stderr)
        return 1
    rows = _rows(options, frozenset(options.only or _CASES))
    options.out.write_text(json.dumps({"machine": _machine(), "rows": rows}, indent=2) + "\n")
    options.out.with_suffix(".svg").write_text(picture(rows, _PICTURED))
    print(table(rows))
    return 0


def _rows(options: argparse.Namespace, chosen: frozenset[str]) -> list[dict[str, Any]]:
    load = Load(options.runs, options.seconds, options.connections)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="securus-bench-") as folder, ExitStack() as stack:
        place = open_place(Path(folder), stack)
        gateway = securus(place)
        if "reads" in chosen:
            rows += [*reads.rows(place, gateway, load), _verify_limit()]
        if "certificates" in chosen:
            rows += certificates.rows(place, gateway, load)
        if "tokens" in chosen:
            rows += tokens.rows(place, gateway, load)
        if "flows" in chosen:
            rows += code_flow.rows(place, load)
        if "bodies" in chosen:
            rows += bodies.rows(place, options.runs)
        if "streams" in chosen:
            rows += streams.rows(place, options.runs)
        if "resting" in chosen:
            rows += resting.rows(place, gateway, options.runs)
        if "flat" in chosen:
            rows += flat.rows(place, load)
    if "in-process" in chosen:
        rows += [*audit_records.rows(options.runs), *in_process.rows(options.runs)]
    return rows


def _verify_limit() -> dict[str, Any]:
    """What one ES256 verification costs OpenSSL: no checked hop can be cheaper than a plain one and this."""
    done = subprocess.run(
        ["openssl", "speed", "-seconds", "2", "-mr", "ecdsap256"], capture_output=True, text=True, check=True
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("+F4:"))
    verify = float(line.split(":")[-1])
    rate = verify if verify > 1 else 1 / verify
    return row("dpop-read-2k", "openssl-es256-verify", [Measured(1e6 / rate, rate)], "one ES256 verification")


def _machine() -> dict[str, Any]:
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    return {
        "cpu": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


if __name__ == "__main__":
    sys.exit(main())

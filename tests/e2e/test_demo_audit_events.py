"""What the demonstration did, from sign-in to the refused thief, as AuditEvents by the command line."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.demo.world import free_port
from tests.support.balp import BALP, faults

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("demo")]


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "gateway", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def test_every_step_of_the_demonstration_is_an_event_that_holds(tmp_path: Path) -> None:
    await asyncio.to_thread(run, "demo", "--once", "--state", str(tmp_path), "--port", str(free_port()))
    [config] = [*tmp_path.rglob("gateway.yaml")]
    said = await asyncio.to_thread(run, "audit", "export", "--format", "fhir", "-c", str(config))
    events: list[dict[str, Any]] = [json.loads(line) for line in said.splitlines()]
    assert [fault for event in events for fault in faults(event)] == []
    assert len({event["id"] for event in events}) == len(events)
    words = {coding["code"] for event in events for coding in event["subtype"]}
    assert words >= {
        "configuration-in-force",
        "sign-in",
        "consent",
        "ITI-71",
        "read",
        "search-type",
        "key-changed",
        "audit-read",
    }
    shown = {
        each.removeprefix(f"{BALP}StructureDefinition/IHE.BasicAudit.")
        for event in events
        for each in event["meta"].get("profile", [])
    }
    assert {"PatientRead", "PatientQuery"} <= shown
    assert {event["outcome"] for event in events} >= {"0", "4"}

"""AuditEvents of what was really played, held to R4 by a validator that we did not write: Medplum's."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.events.mapping import audit_events
from tests.conformance.test_balp import (
    CONSENTS,
    NOTED,
    POLICY,
    Played,
    consent,
    observation,
)
from tests.support.engines import INTEROP
from tests.support.gateway import policies_with, start_gateway, stop_gateway
from tests.support.missing import missing

pytestmark = [pytest.mark.asyncio, pytest.mark.process, pytest.mark.xdist_group("balp")]


def validated(events: list[dict[str, Any]]) -> list[str]:
    """What Medplum says of them, the last line how many it has seen."""
    node = shutil.which("node")
    if node is None or not (INTEROP / "node_modules" / "@medplum").is_dir():
        missing("Medplum needs node and its packages")
    done = subprocess.run(
        [node, str(INTEROP / "validate_audit_events.mjs")],
        input="".join(json.dumps(event) + "\n" for event in events),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=INTEROP,
    )
    return done.stdout.splitlines()


async def test_every_kind_of_event_is_an_R4_AuditEvent_and_a_wrong_one_is_found(tmp_path: Path) -> None:
    gateway = await start_gateway(
        tmp_path, policies=policies_with(tmp_path, "90-audited.yaml", POLICY), consents=CONSENTS
    )
    played = Played(gateway)
    gateway.upstream.resources["Consent/c1"] = consent("c1", "A")
    body = {name: value for name, value in observation("x", "A").items() if name != "id"}
    try:
        await played.ask("GET", "/Observation/a-mh")
        await played.ask("GET", "/Observation?patient=A", organization="elsewhere")
        await played.ask("POST", "/Observation", body, client_id="exchange")
        await played.ask("DELETE", "/Observation/a-vitals", headers=[("If-Match", 'W/"1"')])
        await played.ask("GET", "/Encounter/eb")
        await played.ask("GET", "/Patient/A", purpose_of_use=["HRESCH"])
        await gateway.fhir("GET", "/metadata")
        for event, *_ in NOTED:
            await played.note(event)
        lines = await gateway.gateway.store.audit(after=0, limit=1000)
    finally:
        await stop_gateway(gateway)
    events = [event for line in lines for event in audit_events(line.line, played.recorder)]
    wrong = {**events[0], "recorded": "yesterday", "agents": []}
    *said, seen = validated([*events, wrong])
    assert seen == f"validated {len(events) + 1}"
    assert [line.partition(":")[0] for line in said] == [str(len(events) + 1)], said
    assert len(events) > 20

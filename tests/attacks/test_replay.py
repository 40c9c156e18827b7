"""What went through a gateway is put to other policies: the log tells which decisions would change, and for whom."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.cli import main
from gateway.policies_folder import policy_files
from gateway.policy import language
from gateway.policy.inquiries.replay import Change, Replay
from tests.support.gateway import ROOT, RunningGateway, policies_with, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
POLICY = """
policy: replayed
version: 1
owner: tests
text: Patients see the own chart, physicians the vital signs of all.
status: enforce
rules:
  - rule: own-chart
    effect: permit
    who: {context: patient}
    may: [read, search]
    resources: [Observation, Patient]
    where: {compartment: {patient: "{token.patient}", membership: subject}}
    because: a patient sees the own record
  - rule: physicians
    effect: permit
    who: {context: user, role: [physician]}
    may: [read, search]
    resources: [Observation, Patient]
    shared: true
    because: physicians see every record
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("replay")
    running = await start_gateway(folder, policies=policies_with(folder, "90-replayed.yaml", POLICY))
    yield running
    await stop_gateway(running)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lines(gateway: RunningGateway) -> list[dict[str, Any]]:
    """The audit log of a day at the gateway."""
    for path in ("/Patient/A", "/Observation/a1", "/Observation?code=x", "/Observation/b1", "/Condition"):
        await gateway.fhir("GET", path)
    form = ("Content-Type", "application/x-www-form-urlencoded")
    await gateway.fhir("POST", "/Observation/_search", headers=[form], body=b"code=4548-4%2Cx")
    for path in ("/Observation/b1", "/Observation?subject=Patient/B", "/Patient/B"):
        await gateway.fhir("GET", path, who="dr1")
    await gateway.fhir("GET", "/Patient/A", headers=[("Authorization", "DPoP twice")])
    await gateway.fhir("GET", "/Patient//A")
    await gateway.fhir("GET", "/Patient/A", token="nonsense")
    return await gateway.audit()


def changed(text: str) -> language.PolicySet:
    definitions = policy_files(ROOT / "policies")
    first = next(name for name in definitions if name.endswith("00-definitions.yaml"))
    return language.load({"0.yaml": definitions[first], "1.yaml": text})


def replayed(lines: list[dict[str, Any]], after: str, before: str | None = None) -> Any:
    replay = Replay(changed(after), before=None if before is None else changed(before))
    for line in lines:
        replay.take(line)
    return replay.result()


def said(found: list[Change]) -> set[tuple[str, str | None, str, str, str, int]]:
    return {(c.subject, c.type, c.interaction, c.before, c.after, c.count) for c in found}


async def test_the_same_policies_decide_the_same(lines: list[dict[str, Any]]) -> None:
    for before in (None, POLICY):
        found = replayed(lines, POLICY, before)
        assert found.changes == []
        # a path with two readings, and a token that was not accepted: nothing that policies decide
        assert found.compared == 9
        assert found.left_out == {"the request or its caller could not be read": 2}


async def test_a_rule_that_goes_is_told_with_whom_it_would_stop(lines: list[dict[str, Any]]) -> None:
    fewer = POLICY[: POLICY.index("  - rule: physicians")]
    for before in (None, POLICY):
        found = replayed(lines, fewer, before)
        assert said(found.changes) == {
            ("dr1", "Observation", "read", "permit", "deny no-permit", 1),
            ("dr1", "Observation", "search", "permit", "deny no-permit", 1),
            ("dr1", "Patient", "read", "permit", "deny no-permit", 1),
        }
        by_number = {line["seq"]: line for line in lines}
        for change in found.changes:
            assert {by_number[n]["caller"]["subject"] for n in change.sequences} == {"dr1"}


async def test_a_role_that_is_asked_for_is_read_from_the_record(lines: list[dict[str, Any]]) -> None:
    nurses = POLICY.replace("[physician]", "[nurse]")
    assert {change.subject for change in replayed(lines, nurses).changes} == {"dr1"}
    also = POLICY.replace("[physician]", "[nurse, physician]")
    assert replayed(lines, also).changes == []


async def test_what_was_refused_for_want_of_a_rule_and_would_pass_is_told(
    lines: list[dict[str, Any]],
) -> None:
    more = POLICY.replace(
        "resources: [Observation, Patient]\n    where", "resources: [Condition]\n    where", 1
    )
    found = replayed(lines, more, POLICY)
    assert ("pA-r", "Condition", "search", "deny no-permit", "permit", 1) in said(found.changes)
    assert ("pA-r", "Patient", "read", "permit", "deny no-permit", 1) in said(found.changes)


async def test_a_condition_that_changes_leaves_it_to_the_resource(lines: list[dict[str, Any]]) -> None:
    other = POLICY.replace("membership: subject", "membership: spec")
    found = replayed(lines, other, POLICY)
    assert found.changes == []
    assert {(c.subject, c.type) for c in found.open} == {("pA-r", "Patient"), ("pA-r", "Observation")}


async def test_the_command_reads_the_lines_of_a_file(
    lines: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "audit.ndjson"
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    fewer = policies_with(tmp_path, "1.yaml", POLICY[: POLICY.index("  - rule: physicians")])
    command = ["policy", "replay", str(fewer), "--log", str(log), "-c", str(tmp_path / "none.yaml")]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "Patient.read by dr1 with client-dr1: permit -> deny no-permit (1 requests, records " in out
    assert out.endswith("9 requests compared: 3 would be decided differently, 1 may be, as the resource is\n")
    assert main([*command, "--json", "--strict"]) == 1
    assert len(json.loads(capsys.readouterr().out)["changes"]) == 3
    assert main([*command, "--since", "2999-01-01"]) == 0
    assert "0 requests compared" in capsys.readouterr().out
    log.write_text("[]\n")
    assert main(command) == 1
    assert "one JSON object a line" in capsys.readouterr().err


async def test_a_hostile_name_on_record_moves_no_cursor_and_begins_no_line(
    lines: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "dr\u001b[2J\n0 requests compared\u202e\u009b31m\u2028x"
    log = tmp_path / "audit.ndjson"
    known = next(line["caller"] for line in lines if "caller" in line)
    caller = {"caller": known | {"subject": hostile, "patient": hostile, "client": hostile}}
    log.write_text("".join(f"{json.dumps(line | caller)}\n" for line in lines if "caller" in line))
    fewer = policies_with(tmp_path, "1.yaml", POLICY[: POLICY.index("  - rule: physicians")])
    command = ["policy", "replay", str(fewer), "--log", str(log), "-c", str(tmp_path / "none.yaml")]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert all(each.isprintable() for each in out.splitlines())
    assert "\n0 requests" not in out
    assert "dr\\u001b[2J\\n0 requests compared\\u202e" in out
    assert main([*command, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.rstrip("\n").isprintable()
    assert json.loads(out)["changes"][0]["subject"] == hostile

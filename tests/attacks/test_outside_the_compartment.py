"""What tokens of patient A reach outside the Patient compartment under each preset: rows of who asks for what of whom."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli import main
from gateway.fhir.definitions import RESOURCE_TYPES, patient_compartment
from gateway.policy import language
from gateway.policy.presets import PRESETS
from gateway.policy.selftests import selftest
from tests.support.gateway import start_gateway, stop_gateway
from tests.support.world import SECRET

OPEN_ALL = """\
policy: generous
version: 1
owner: o
status: enforce
text: A hospital that opens more than it meant.
rules:
  - rule: everything-shared
    effect: permit
    who: {context: patient}
    may: [read, vread, search]
    resources: [Task, Contract, Slot, Device, Location, Organization, Questionnaire]
    shared: true
    because: All of it is shared.
  - rule: staff-sees-places
    effect: permit
    who: {context: user}
    may: [read, search]
    resources: [Location, Device, Practitioner]
    shared: true
    because: The house.
"""
OWN_RECORD = """\
policy: rows
version: 1
owner: o
status: enforce
text: The own record.
rules:
  - rule: own-record
    effect: permit
    who: {context: patient}
    may: [read, search]
    resources: [Patient, Observation]
    where: {compartment: {patient: "{token.patient}", membership: subject}}
    because: It is the own record.
"""
OUTSIDE = sorted(t for t in RESOURCE_TYPES if t != "Patient" and not patient_compartment(t))
PTRES = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": "PTRES"}]}
HOUSE = {"coding": [{"code": "ho"}]}
PATIENT = {"context": "patient", "patient": "A", "client": "portal"}
STAFF = {"context": "user", "user": "Practitioner/dr1", "client": "ehr"}


def files(preset: str | None, *more: str) -> dict[str, str]:
    """Definitions with one line for the preset, and policies beside it."""
    line = "" if preset is None else f"outside_compartment: {preset}\n"
    found = {"00.yaml": f"definitions: house\nversion: 1\nfhir: R4\n{line}"}
    return {**found, **{f"1{number}.yaml": text for number, text in enumerate(more)}}


def holds(preset: str | None, policy: str | None, row: dict[str, Any]) -> None:
    """Run one row as a policy test beside the preset; AssertionError with what came out otherwise."""
    text = OWN_RECORD + yaml.safe_dump({"tests": [{"test": "row", "as": PATIENT, **row}]})
    more = [text] if policy is None else [policy, text]
    report = selftest.run(language.load(files(preset, *more)))
    assert report.failures == ()
    assert report.passed == 1


def read(type_: str, **members: Any) -> dict[str, Any]:
    """A read of a resource of that type with these members."""
    resource = {"resourceType": type_, "id": "x", **members}
    return {"request": f"GET /{type_}/x", "given": {f"{type_}/x": resource}}


PERMIT, DENY = {"decision": "permit"}, {"decision": "deny"}
US_CORE = [
    (read("Organization"), PERMIT),
    (read("Practitioner"), PERMIT),
    (read("PractitionerRole"), PERMIT),
    (read("Medication"), PERMIT),
    (read("Location"), PERMIT),
    (read("Location", type=[PTRES]), DENY),
    (read("Location", type=[{"coding": [{"code": "PTRES"}]}]), DENY),
    (read("Location", physicalType=HOUSE), DENY),
    (read("Device", patient={"reference": "Patient/A"}), PERMIT),
    (read("Device", patient={"reference": "Patient/B"}), DENY),
    (read("Device"), DENY),
    *((read(t), DENY) for t in OUTSIDE if t not in (
        "Organization", "Practitioner", "PractitionerRole", "Medication", "Location", "Device", "Binary")),
]  # fmt: skip


@pytest.mark.parametrize(("row", "expected"), US_CORE, ids=lambda value: str(value.get("request", ""))[:60])
def test_LK_us_core_opens_what_US_Core_names_and_nothing_else(
    row: dict[str, Any], expected: dict[str, str]
) -> None:
    holds("us-core", None, {**row, "expect": expected})


@pytest.mark.parametrize("type_", OUTSIDE)
def test_LK_without_a_preset_nothing_outside_the_compartment_is_open(type_: str) -> None:
    if type_ != "Binary":
        holds(None, None, {**read(type_), "expect": DENY})


def test_LK_a_search_of_devices_is_narrowed_and_shows_own_ones_only() -> None:
    device = {"resourceType": "Device", "id": "a", "patient": {"reference": "Patient/A"}}
    other = {"resourceType": "Device", "id": "b", "patient": {"reference": "Patient/B"}}
    expect = {
        "decision": "permit",
        "upstream": "GET /Device?patient=Patient/A",
        "shows": ["Device/a"],
        "hides": ["Device/b"],
    }
    holds(
        "us-core",
        None,
        {"request": "GET /Device", "given": {"search": [device, other]}, "expect": expect},
    )
    asked = {"request": "GET /Device?patient=Patient/B", "given": {"search": [other]}}
    holds("us-core", None, {**asked, "expect": {"decision": "permit", "hides": ["Device/b"]}})


def test_LK_a_search_of_places_never_shows_where_people_live() -> None:
    ward = {"resourceType": "Location", "id": "ward"}
    home = {"resourceType": "Location", "id": "home", "type": [PTRES]}
    house = {"resourceType": "Location", "id": "house", "physicalType": HOUSE}
    expect = {"decision": "permit", "shows": ["Location/ward"], "hides": ["Location/home", "Location/house"]}
    for policy in (None, OPEN_ALL):
        row = {"request": "GET /Location", "given": {"search": [ward, home, house]}, "expect": expect}
        holds("us-core", policy, row)


@pytest.mark.parametrize(
    "request_line",
    [
        "GET /Practitioner?_has:Observation:performer:patient=B",
        "GET /Practitioner?_revinclude=Observation:performer",
        "GET /Device?patient.name=x",
        "GET /Location/x/_history",
        "DELETE /Device/x",
        "POST /Device",
        "POST /Organization",
    ],
)
def test_LK_us_core_opens_no_join_no_history_and_no_write(request_line: str) -> None:
    holds("us-core", None, {"request": request_line, "expect": {**DENY, "upstream": "none"}})


def test_strict_names_every_type_outside_the_compartment_but_Binary() -> None:
    (rule,) = language.load(files("strict")).rules
    assert rule.resources == frozenset(OUTSIDE) - {"Binary"}


@pytest.mark.parametrize(
    "type_", ["Task", "Contract", "Slot", "Device", "Location", "Organization", "Questionnaire"]
)
def test_LK_strict_closes_what_another_policy_opens_for_patients(type_: str) -> None:
    row = read(type_, **({"patient": {"reference": "Patient/A"}} if type_ == "Device" else {}))
    holds(None, OPEN_ALL, {**row, "expect": PERMIT})
    expect = {**DENY, "rule": "nothing-outside-the-compartment"}
    holds("strict", OPEN_ALL, {**row, "expect": expect})
    holds("strict", OPEN_ALL, {"request": f"GET /{type_}", "expect": {**expect, "upstream": "none"}})


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_speak_of_patients_apps_alone(preset: str) -> None:
    row = {"as": STAFF, **read("Location", type=[PTRES]), "expect": {**PERMIT, "rule": "staff-sees-places"}}
    holds(preset, OPEN_ALL, row)
    assert all(
        [(d.name, d.values) for d in rule.who] == [("context", frozenset({"patient"}))]
        for rule in language.load(files(preset)).rules
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_loads_without_warnings_and_counts_in_the_hash(preset: str) -> None:
    found, without = language.load(files(preset)), language.load(files(None))
    assert found.warnings == ()
    assert found.hash != without.hash
    assert {rule.policy for rule in found.rules} == {preset}


def test_an_unknown_preset_and_a_second_choice_are_told() -> None:
    with pytest.raises(language.PolicyErrors, match=r"unknown preset 'us-cor'\. Did you mean 'us-core'"):
        language.load(files("us-cor"))
    twice = {**files("us-core"), "01.yaml": "definitions: more\nversion: 1\noutside_compartment: strict\n"}
    with pytest.raises(language.PolicyErrors, match="is defined twice"):
        language.load(twice)


def test_policy_explain_names_the_rule_and_where_it_ships(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in files("us-core").items():
        (tmp_path / name).write_text(text)
    asked = ["policy", "explain", "GET /Practitioner/x", "--as", "context: patient, patient: A"]
    code = main([*asked, "--policies", str(tmp_path)])
    told = capsys.readouterr().out
    assert code == 0
    assert "us-core/read-the-directory" in told


@pytest.mark.parametrize("preset", [*PRESETS, None])
async def test_LK_a_store_that_ignores_criteria_gives_no_byte_of_a_stranger_under_any_preset(
    tmp_path: Path, preset: str | None
) -> None:
    policies = tmp_path / "house"
    policies.mkdir()
    for name, text in files(preset, OWN_RECORD).items():
        (policies / name).write_text(text)
    running = await start_gateway(tmp_path, policies=policies)
    try:
        running.upstream.resources["Device/nobody"] = {"resourceType": "Device", "id": "nobody"}
        for key in sorted(running.upstream.resources):
            for path in (f"/{key}", f"/{key.partition('/')[0]}"):
                reply = await running.fhir("GET", path)
                assert SECRET.encode() not in reply.raw, path
                assert b'"nobody"' not in reply.raw, path
        shown = (await running.fhir("GET", "/Practitioner/dr1")).status
        assert shown == (200 if preset == "us-core" else 403)
    finally:
        await stop_gateway(running)

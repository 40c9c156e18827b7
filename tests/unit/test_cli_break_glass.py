"""securus break-glass list | review: what they print, what they write down, and their exit codes."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from authz.clock import system_clock
from authz.storage.effects import Emergency
from authz.storage.sqlite.store import open_store
from tests.unit.test_cli import folder, run  # noqa: F401 - fixtures

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def opened(folder: Path) -> int:  # noqa: F811
    """A store with emergency access to two charts; when the first began."""
    at = system_clock() - 100

    async def write() -> None:
        store = await open_store(folder / "securus.db")
        for number, patient in enumerate(("A", "B")):
            record = Emergency(
                f"e{number}", "emergency/glass", "https://fhir.example", "ehr", "dr1", patient, "bay 4, unconscious",
                at + number, at + 3600, at + 400 * 86400,
            )  # fmt: skip
            await store.begin_emergency(record, [], now=at)
        await store.close()

    asyncio.run(write())
    return at


def listed(run: Run, *arguments: str) -> Any:  # noqa: F811
    code, out, err = run("break-glass", "list", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_the_list_says_who_opened_whose_chart_when_and_why(run: Run, opened: int) -> None:  # noqa: F811
    newest, oldest = listed(run)
    assert [newest["id"], oldest["id"]] == ["e1", "e0"]
    assert oldest == {
        "id": "e0", "rule": "emergency/glass", "issuer": "https://fhir.example", "client": "ehr", "subject": "dr1",
        "patient": "A", "reason": "bay 4, unconscious", "started_at": opened, "ends_at": opened + 3600,
        "reviewed_at": None, "reviewed_by": None, "review": None,
    }  # fmt: skip
    code, out, _ = run("break-glass", "list")
    assert code == 0
    assert out.splitlines()[1].split("\t")[2:] == [
        "dr1", "ehr", "Patient/A", "bay 4, unconscious", "not reviewed",
    ]  # fmt: skip


def test_a_review_is_written_down_once_and_is_in_the_audit_log(
    run: Run,  # noqa: F811
    opened: int,
    folder: Path,  # noqa: F811
) -> None:
    code, _, err = run("break-glass", "review", "e0", "--why", "was in the emergency room", "--by", "Kim")
    assert (code, err) == (0, "")
    assert [each["id"] for each in listed(run, "--open")] == ["e1"]
    (reviewed,) = (each for each in listed(run) if each["id"] == "e0")
    assert (reviewed["reviewed_by"], reviewed["review"]) == ("Kim", "was in the emergency room")
    for again in ("e0", "unknown"):
        code, _, err = run("break-glass", "review", again, "--why", "again")
        assert (code, f"no emergency access '{again}'" in err) == (1, True)

    async def records() -> list[dict[str, Any]]:
        store = await open_store(folder / "securus.db")
        lines = await store.audit(after=0, limit=10)
        await store.close()
        return [json.loads(line.line) for line in lines]

    (record,) = asyncio.run(records())
    said = {name: record[name] for name in ("event", "emergency", "by", "review")}
    assert said == {
        "event": "break-glass-review", "emergency": "e0", "by": "Kim", "review": "was in the emergency room",
    }  # fmt: skip


@pytest.mark.parametrize("id", ["-cAsFileNamed_16", "-hAsInHelp_of_16", "--as-an-option-x"])
def test_a_review_names_an_access_whose_id_begins_like_an_option(run: Run, opened: int, id: str) -> None:  # noqa: F811
    code, _, err = run("break-glass", "review", id, "--why", "was in the emergency room")
    assert (code, f"no emergency access '{id}'" in err) == (1, True)


def test_a_review_needs_what_was_found(run: Run, opened: int) -> None:  # noqa: F811
    with pytest.raises(SystemExit) as ended:
        run("break-glass", "review", "e0")
    assert ended.value.code == 2


def test_a_policy_that_notifies_nobody_known_is_not_put_in_force(run: Run, folder: Path) -> None:  # noqa: F811
    policy = folder / "policies" / "1.yaml"
    if not policy.exists():
        (policy,) = (f for f in (folder / "policies").iterdir() if "policy: lab" in f.read_text())
    policy.write_text(policy.read_text().replace("because: b", "then: {notify: [privacy-ofice]}, because: b"))
    configuration = folder / "gateway.yaml"
    text = configuration.read_text()
    configuration.write_text(text + "notifications: {privacy-office: log}\n")
    code, out, err = run("check")
    assert code == 1
    said = (
        "rule 'see' notifies 'privacy-ofice', which is no receiver of 'notifications' in the configuration."
    )
    assert f"{said} Did you mean 'privacy-office'?" in out + err
    configuration.write_text(text + "notifications: {privacy-ofice: log}\n")
    assert run("check")[0] == 0

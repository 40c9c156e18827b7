"""securus audit search | show | reindex: what is found, how it is paged, and that every look is itself recorded."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from authz.storage.sqlite.store import open_store
from gateway.audit.log import AuditLog
from tests.unit.test_cli import folder, run  # noqa: F401 - fixtures

Run = Callable[..., tuple[int, str, str]]
NOON = 1_795_867_200


@pytest.fixture
def indexed(folder: Path, run: Run) -> None:  # noqa: F811
    """A log with three accesses and a refusal, and its index."""

    async def write() -> None:
        store = await open_store(folder / "securus.db")
        moment = iter(range(NOON, NOON + 100))
        log = await AuditLog.open(store, lambda: next(moment))
        for patient, subject, decision in (
            ("A", "dr1", "permit"),
            ("B", "dr1", "permit"),
            ("A", "dr2", "deny"),
        ):
            await log.record(
                {
                    "event": "access",
                    "route": "fhir",
                    "interaction": "read",
                    "decision": decision,
                    "caller": {"subject": subject, "client": "ehr", "grant": "g1"},
                    "rules": ["ward/treating"],
                    "request": {"type": "Observation"},
                    "patients": [patient],
                }
            )
        await log.close()
        await store.close()

    asyncio.run(write())
    code, out, err = run("audit", "reindex", "--json")
    assert (code, json.loads(out)) == (0, {"records": 3}), err


def found(run: Run, *arguments: str) -> Any:  # noqa: F811
    code, out, err = run("audit", "search", *arguments, "--json")
    assert code == 0, out + err
    return json.loads(out)


def test_a_search_finds_by_patient_user_and_outcome(run: Run, indexed: None) -> None:  # noqa: F811
    of_a = found(run, "--patient", "Patient/A")["entries"]
    assert [(each["user"], each["outcome"], each["sequence"]) for each in of_a] == [
        ("dr2", "deny", 3),
        ("dr1", "permit", 1),
    ]
    assert of_a[1]["at"] == "2026-11-28 12:00:00 UTC"
    assert [each["patient"] for each in found(run, "--user", "dr1")["entries"]] == ["B", "A"]
    assert found(run, "--patient", "C") == {"entries": [], "next": None, "not_indexed_yet": 2}


def test_pages_follow_each_other(run: Run, indexed: None) -> None:  # noqa: F811
    first = found(run, "--client", "ehr", "--limit", "2")
    second = found(run, "--client", "ehr", "--limit", "2", "--next", first["next"])
    assert [each["sequence"] for each in first["entries"] + second["entries"]] == [3, 2, 1]
    assert second["next"] is None


def test_every_look_is_recorded_with_who_looked_and_what_was_asked(run: Run, indexed: None) -> None:  # noqa: F811
    found(run, "--patient", "A", "--by", "officer")
    code, out, _ = run("audit", "show", "-", "4", "--by", "auditor", "--json")
    assert code == 0
    look = json.loads(out)["record"]
    assert (look["event"], look["by"], look["what"], look["shown"]) == ("audit-read", "officer", "search", 2)
    assert look["query"]["patients"] == ["A"]
    assert run("audit", "reindex")[0] == 0
    looks = found(run, "--patient", "A", "--kind", "audit-read")["entries"]
    # Whoever is shown a record about a patient looked at that patient too, also at the record of a look.
    assert [each["user"] for each in looks] == ["auditor", "officer"]
    assert run("audit", "verify")[0] == 0


def test_a_record_is_shown_whole_with_its_place_in_the_chain(run: Run, indexed: None) -> None:  # noqa: F811
    shown = json.loads(run("audit", "show", "-", "2", "--json")[1])
    before = json.loads(run("audit", "show", "-", "1", "--json")[1])
    assert shown["record"]["patients"] == ["B"]
    assert shown["previous"] == before["digest"]
    code, out, _ = run("audit", "show", "-", "2")
    assert code == 0
    assert '"decision": "permit"' in out
    assert run("audit", "show", "-", "99")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--patient", "A B"), "no FHIR id"),
        (("--since", "yesterday"), "since is no time such as 2026-11-01"),
        (("--since", "2026-11-02", "--until", "2026-11-01"), "the time ends before it begins"),
        (("--base", "fihr"), "there is no FHIR base 'fihr'"),
        (("--next", "x"), "the place of the next page cannot be read"),
        (("--user", "a\nb"), "user is no text"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused_with_what_would_be_right(
    run: Run,  # noqa: F811
    indexed: None,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    code, out, err = run("audit", "search", *arguments)
    assert code == 1
    assert said in out + err


def test_an_accounting_of_disclosures_is_printed_in_every_form_and_recorded(
    run: Run,  # noqa: F811
    indexed: None,
    tmp_path: Path,
) -> None:
    asked = ("audit", "disclosures", "--patient", "A", "--until", "2026-12-01", "--by", "officer")
    assert "ehr\tObservation (read)\tnot stated" in run(*asked)[1]
    assert run(*asked, "--as", "csv")[1].startswith("date,recipient,address,disclosed,purpose,record")
    assert json.loads(run(*asked, "--json")[1])["disclosures"][0]["record"] == {"chain": "", "sequence": 1}
    assert json.loads(run(*asked, "--as", "fhir")[1])["entry"][0]["resource"]["resourceType"] == "AuditEvent"
    file = tmp_path / "accounting.csv"
    code, out, _ = run(*asked, "--as", "csv", "--to", str(file))
    assert (code, out) == (0, f"{file}: 1 disclosures\n")
    assert file.stat().st_mode & 0o777 == 0o600
    assert run(*asked, "--as", "csv", "--to", str(file))[0] == 1  # nothing is overwritten
    assert run("audit", "reindex")[0] == 0
    looks = found(run, "--patient", "A", "--kind", "audit-read")["entries"]
    assert [each["user"] for each in looks] == ["officer"] * 6

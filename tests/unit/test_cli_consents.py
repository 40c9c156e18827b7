"""securus consent …: what the verbs print, what they write down, and their exit codes."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from authz.clock import system_clock
from authz.storage.sqlite.store import open_store
from gateway.cli import main
from gateway.consent_service.grants import GrantConsents
from gateway.consent_service.versions import next_version
from tests.support.consent_desk import consent
from tests.support.hostile_upstream import HostileUpstream
from tests.support.store_contract import GRANT
from tests.unit.test_cli import edit, folder, run  # noqa: F401 - fixtures

Run = Callable[..., tuple[int, str, str]]
BASE = "https://fhir.example/fhir/r4"


@pytest.fixture
def kept(folder: Path) -> Path:  # noqa: F811
    """A configuration that keeps consents, and a store with one of two versions and one of a grant."""
    edit(folder / "gateway.yaml", '8080/fhir"}', '8080/fhir", consents: {kept: here}}')

    async def write() -> None:
        store = await open_store(folder / "securus.db")
        now = system_clock()
        first = next_version(consent(), None, base=BASE, id="c1", now=now - 9, by="anna")
        await store.add_consent(first)
        amended = consent(dateTime="2026-06-01")
        await store.add_consent(next_version(amended, first, base=BASE, id="c1", now=now, by="desk"))
        await store.put_grant(GRANT, expires_at=now + 600)
        keeper = GrantConsents(base=BASE, issuer="https://fhir.example", store=store, clock=system_clock)
        given = keeper.of(GRANT, "Portal")
        assert given is not None
        assert await store.add_consent(given)
        await store.close()

    asyncio.run(write())
    return folder


def read(run: Run, *arguments: str) -> Any:  # noqa: F811
    code, out, err = run("consent", *arguments, "--json")
    assert code == 0, err or out
    return json.loads(out)


def test_consents_are_listed_shown_and_told_by_their_history(run: Run, kept: Path) -> None:  # noqa: F811
    rows = {row["recorded_by"]: row for row in read(run, "list", "--patient", "A", "--status", "active")}
    assert rows["desk"]["id"] == "c1"
    assert rows["desk"]["version"] == 2
    assert rows["person"]["grant"] == "grant"
    assert read(run, "list", "--patient", "B") == []
    assert read(run, "show", "c1")["dateTime"] == "2026-06-01"
    assert read(run, "show", "c1", "--version", "1")["dateTime"] == "2026-05-01"
    assert [row["recorded_by"] for row in read(run, "history", "c1")] == ["desk", "anna"]
    code, out, _ = run("consent", "list", "--status", "active")
    assert (code, "c1\t2\tactive\tPatient/A" in out.splitlines()) == (0, True)


def test_a_revocation_is_a_version_with_its_reason_and_on_record(run: Run, kept: Path) -> None:  # noqa: F811
    assert read(run, "revoke", "c1", "--why", "asked by letter", "--by", "Kim")["status"] == "inactive"
    newest, *_ = read(run, "history", "c1")
    assert (newest["version"], newest["recorded_by"], newest["reason"]) == (3, "Kim", "asked by letter")
    code, _, err = run("consent", "revoke", "c1", "--why", "again")
    assert (code, "inactive" in err) == (1, True)

    async def records() -> list[Any]:
        store = await open_store(kept / "securus.db")
        try:
            return [json.loads(line.line) for line in await store.audit(after=0, limit=100)]
        finally:
            await store.close()

    (record,) = [each for each in asyncio.run(records()) if each["event"] == "consent-withdrawn"]
    assert (record["consent"], record["version"], record["patient"]) == ("c1", 3, "A")
    assert (record["by"], record["why"]) == ("Kim", "asked by letter")


def test_to_revoke_the_consent_of_an_app_ends_its_grant(run: Run, kept: Path) -> None:  # noqa: F811
    (row,) = [row for row in read(run, "list") if row["grant"] == "grant"]
    read(run, "revoke", row["id"], "--why", "lost phone")

    async def grant() -> object:
        store = await open_store(kept / "securus.db")
        try:
            return await store.grant("grant", now=system_clock())
        finally:
            await store.close()

    assert asyncio.run(grant()) is None


def test_a_receipt_is_made_with_the_servers_key(run: Run, kept: Path) -> None:  # noqa: F811
    found = read(run, "receipt", "c1")
    assert found["receipt"].count(".") == 2
    assert found["words"][1] == "It is about the record of patient A."


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "none"), "no consent of that id"),
        (("show", "c1", "--version", "9"), "no version 9"),
        (("history", "none"), "no consent of that id"),
        (("list", "--base", "other"), "--base, one of"),
    ],
)
def test_what_is_not_there_is_said(
    run: Run,  # noqa: F811
    kept: Path,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    code, _, err = run("consent", *arguments)
    assert (code, said in err) == (1, True)


def test_where_no_base_keeps_consents_that_is_said(run: Run, kept: Path) -> None:  # noqa: F811
    edit(kept / "gateway.yaml", ", consents: {kept: here}", "")
    code, _, err = run("consent", "list")
    assert (code, "no upstream keeps its consents here" in err) == (1, True)


async def test_an_import_reads_the_store_and_is_repeatable(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream = HostileUpstream()
    await upstream.start()
    try:
        upstream.resources["Consent/theirs"] = consent() | {"id": "theirs", "meta": {"versionId": "4"}}
        edit(kept / "gateway.yaml", "http://127.0.0.1:8080/fhir", upstream.base)

        async def imported(*more: str) -> Any:
            arguments = [
                "consent",
                "import",
                "--why",
                "moving in",
                "--json",
                "-c",
                str(kept / "gateway.yaml"),
            ]
            code = await asyncio.to_thread(main, [*arguments, *more])
            printed = capsys.readouterr()
            assert code == 0, printed.out
            return json.loads(printed.out)

        assert (await imported("--dry-run"))["added"] == ["theirs"]
        assert (await imported())["added"] == ["theirs"]
        store = await open_store(kept / "securus.db")
        records = [json.loads(line.line) for line in await store.audit(after=0, limit=100)]
        await store.close()
        (record,) = [each for each in records if each["event"] == "consent-recorded"]
        assert (record["consent"], record["version"], record["why"]) == ("theirs", 1, "moving in")
        again = await imported()
        assert (again["added"], again["unchanged"]) == ([], ["theirs"])
    finally:
        await upstream.stop()
    code = await asyncio.to_thread(
        main, ["consent", "import", "--why", "x", "-c", str(kept / "gateway.yaml")]
    )
    assert code == 1
    assert "does not answer" in capsys.readouterr().err

"""securus audit …: verify with a key and heads from elsewhere, on an export too; proofs; keys; holds."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from authz.storage.sqlite.store import open_store
from authz.storage.store import Store
from gateway.cli import main
from gateway.config.document import load
from gateway.signing_keys import open_homes
from tests.support.sealed_log import sealed_log
from tests.unit.test_config import CONFIGURATION, Write, write

__all__ = ["write"]  # fixture
T = TypeVar("T")
Run = Callable[..., tuple[int, str]]
VERIFIER = Path(__file__).parents[1] / "support" / "independent_verifier.py"


@pytest.fixture
def folder(write: Write) -> Path:
    """A folder with a configuration, and a store with two chains, three heads and what came after."""
    path = write(CONFIGURATION)
    (path.parent / "state").mkdir()

    async def fill(store: Store) -> None:
        homes = await open_homes(load(path, os.environ))
        world = await sealed_log(store, homes=homes)
        for _ in range(3):
            await world.record(7, name="\u00fc\u2028 {}")
            await world.record(5, "node-a")
            await world.seal()
        await world.record(2)

    at(path.parent, fill)
    return path.parent


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str, config: bool = True) -> tuple[int, str]:
        where = ["-c", str(folder / "gateway.yaml")] if config else []
        code = main(["audit", *arguments, *where])
        return code, capsys.readouterr().out

    return run


def at(folder: Path, work: Callable[[Store], Awaitable[T]]) -> T:
    async def run() -> T:
        store = await open_store(folder / "state" / "securus.db")
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def kept(folder: Path, run: Run, name: str, *arguments: str) -> str:
    """What a verb prints, in a file."""
    code, out = run(*arguments)
    assert code == 0
    (folder / name).write_text(out, encoding="utf-8")
    return str(folder / name)


def damage(folder: Path, statement: str) -> None:
    with sqlite3.connect(folder / "state" / "securus.db") as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute(statement)
    database.close()


def test_verify_counts_records_and_heads_of_every_chain(run: Run) -> None:
    assert run("verify") == (0, "the chain is whole: 42 records, 3 signed heads\n")


def test_verify_names_chain_record_and_head(folder: Path, run: Run) -> None:
    damage(folder, "DELETE FROM audit WHERE chain = 'node-a' AND sequence = 4")
    assert run("verify") == (1, "broken: chain node-a: record 4 is missing: record 5 comes next\n")
    code, out = run("verify", "--json")
    found = json.loads(out)
    assert (code, found["chain"], found["broken_at"], found["broken_head"]) == (1, "node-a", 4, None)
    damage(folder, "DELETE FROM audit_tree_head WHERE number = 2")
    code, out = run("verify", "--json")
    assert (code, json.loads(out)["broken_head"]) == (1, 2)


def test_verify_believes_a_key_that_was_kept_elsewhere_rather_than_the_store(folder: Path, run: Run) -> None:
    keys = kept(folder, run, "keys.json", "key")
    assert run("verify", "--key", keys)[0] == 0
    kept(folder, run, "later.json", "key", "--rotate")
    later = json.loads((folder / "later.json").read_text())["keys"]
    assert len(later) == 2
    (folder / "other.json").write_text(json.dumps({"keys": later[1:]}))
    code, out = run("verify", "--key", str(folder / "other.json"))
    assert (code, "head 1 was changed, or not signed by us" in out) == (1, True)


def test_verify_compares_with_heads_that_were_kept_elsewhere(folder: Path, run: Run) -> None:
    heads = "".join(run("head", "--number", str(number))[1] for number in (1, 3))
    (folder / "heads.jws").write_text(heads)
    assert run("verify", "--heads", str(folder / "heads.jws"))[0] == 0
    damage(folder, "DELETE FROM audit_tree_head WHERE number = 3")
    code, out = run("verify", "--heads", str(folder / "heads.jws"))
    assert (code, out) == (1, "broken: head 3 was kept elsewhere and is missing here\n")
    (folder / "heads.jws").write_text("no head\n")
    assert run("verify", "--heads", str(folder / "heads.jws"))[0] == 1


@pytest.mark.parametrize("line", [0, 1, 3, 10, 25, 44])
def test_an_export_is_verified_where_there_is_no_store(folder: Path, run: Run, line: int) -> None:
    keys, log = kept(folder, run, "keys.json", "key"), kept(folder, run, "log.ndjson", "export", "--whole")
    assert run("verify", "--export", log, config=False)[0] == 1  # without a key it proves nothing
    said = run("verify", "--export", log, "--key", keys, config=False)
    assert said == (0, "the chain is whole: 43 records, 3 signed heads\n")  # the export is on record too
    rows = Path(log).read_text(encoding="utf-8").split("\n")[:-1]
    assert len(rows) == 46
    Path(log).write_text("".join(f"{row}\n" for row in rows[:line] + rows[line + 1 :]), encoding="utf-8")
    code, out = run("verify", "--export", log, "--key", keys, config=False)
    assert code == 1, out


def test_a_verifier_written_from_the_guide_alone_agrees(folder: Path, run: Run) -> None:
    keys, log = kept(folder, run, "keys.json", "key"), kept(folder, run, "log.ndjson", "export", "--whole")

    def independent() -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, str(VERIFIER), log, keys]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert independent().stdout == "43 3\n"
    text = Path(log).read_text(encoding="utf-8")
    Path(log).write_text(text.replace('\\"n\\":3', '\\"n\\":4', 1), encoding="utf-8")
    assert independent().returncode == 1


@pytest.mark.parametrize(("chain", "sequence"), [("", 1), ("", 9), ("", 23), ("node-a", 1), ("node-a", 16)])
def test_a_proof_shows_that_a_record_is_under_a_head_and_nothing_else(
    folder: Path, run: Run, chain: str, sequence: int
) -> None:
    keys = kept(folder, run, "keys.json", "key")
    proof = kept(folder, run, "proof.json", "prove", str(sequence), "--chain", chain)
    check = ("check-proof", proof, "--key", keys)
    code, out = run(*check, config=False)
    assert (code, f"record {sequence} of chain '{chain}' is under head 3" in out) == (0, True)
    said = json.loads(Path(proof).read_text(encoding="utf-8"))
    for changed in (
        {**said, "record": said["record"] + " "},
        {**said, "sequence": said["sequence"] + 1},
        {**said, "chain": "node-a" if not chain else ""},
        {**said, "path": said["path"][1:]},
        {**said, "head": said["head"][:-4] + "AAAA"},
        {**said, "proof": "other"},
        [],
    ):
        Path(proof).write_text(json.dumps(changed), encoding="utf-8")
        assert run(*check, config=False)[0] == 1, changed


def test_a_record_that_no_head_covers_or_that_is_not_there_has_no_proof(run: Run) -> None:
    assert run("prove", "25")[0] == 1
    assert run("prove", "0")[0] == 1
    assert run("prove", "1", "--chain", "node-b")[0] == 1
    assert run("prove", "1", "--head", "4")[0] == 1


@pytest.mark.parametrize(("former", "later"), [(1, 2), (1, 3), (2, 3), (2, 2)])
def test_a_proof_shows_that_a_head_goes_on_from_another(
    folder: Path, run: Run, former: int, later: int
) -> None:
    keys = kept(folder, run, "keys.json", "key")
    proof = kept(folder, run, "proof.json", "consistency", str(former), str(later))
    code, out = run("check-proof", proof, "--key", keys, config=False)
    assert (code, f"head {later} of" in out) == (0, True)
    said = json.loads(Path(proof).read_text())
    if former != later:
        said["paths"]["node-a"] = said["paths"]["node-a"][::-1] + said["paths"]["node-a"][:1]
        Path(proof).write_text(json.dumps(said))
        assert run("check-proof", proof, "--key", keys, config=False)[0] == 1
        assert run("consistency", str(later), str(former))[0] == 1


def test_holds_are_added_listed_and_ended_once_each_with_a_record(folder: Path, run: Run) -> None:
    days = ("--since", "2026-01-01", "--until", "2026-02-01")
    _, out = run("hold", "add", *days, "--why", "a claim", "--by", "officer", "--json")
    id = json.loads(out)["id"]
    assert run("hold", "add", "--since", "2026-02-01", "--until", "2026-01-01", "--why", "x")[0] == 1
    found = json.loads(run("hold", "list", "--json")[1])
    assert found == [
        {
            "id": id,
            "since": "2026-01-01",
            "until": "2026-02-01",
            "why": "a claim",
            "by": "officer",
            "ended": None,
        }
    ]
    assert run("hold", "end", id, "--why", "settled")[0] == 0
    assert run("hold", "end", id, "--why", "settled")[0] == 1
    records = [json.loads(line) for line in run("export")[1].split("\n") if line]
    assert [each["event"] for each in records if "hold" in each] == ["audit-hold", "audit-hold-ended"]


def test_the_keys_are_resealed_with_the_servers_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    former = folder / "former.key"
    (folder / "encryption.key").rename(former)
    text = CONFIGURATION.replace(
        "encryption_key: {file: encryption.key}",
        "encryption_key: {file: encryption.key}\n  other_encryption_key: {file: former.key}",
    )
    (folder / "gateway.yaml").write_text(text)
    assert main(["key", "reseal", "-c", str(folder / "gateway.yaml"), "--json"]) == 0
    assert any(kid.startswith("audit-1-") for kid in json.loads(capsys.readouterr().out)["resealed"])
    (folder / "gateway.yaml").write_text(CONFIGURATION)
    assert main(["audit", "verify", "-c", str(folder / "gateway.yaml")]) == 0

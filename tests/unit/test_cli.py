"""The command line: what each verb prints, and its exit code: 0, 1 for a refusal, 2 for wrong usage."""

import asyncio
import io
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from cryptography.hazmat.primitives import serialization

from authz.clock import system_clock
from authz.keys import generate_private_key
from authz.storage.sqlite.store import open_store
from gateway.audit.log import AuditLog
from gateway.cli import main
from gateway.demo.client import Key
from gateway.demo.world import free_port
from tests.support.balp import faults

CONFIGURATION = """\
version: 1
public_url: https://fhir.example
listen:
  public: {port: 8443, tls: {certificate: {file: tls.crt}, key: {file: tls.key}}}
storage: {path: securus.db}
keys: {encryption_key: {file: encryption.key}, announced_for: 1h}
upstreams:
  fhir: {kind: fhir-r4, at: /fhir/r4, base: "http://127.0.0.1:8080/fhir"}
policies: policies
users:
  - {username: ann, subject: s1, name: Ann, password: {file: ann.argon2}, patient: A}
clients:
  - client_id: lab
    name: Laboratory
    authentication: private_key_jwt
    grants: [client_credentials]
    scope: system/*.rs
    jwks: {file: lab.jwks}
"""
DEFINITIONS = "definitions: d\nversion: 1\nsets:\n  chart: {types: [Observation]}\n"
POLICY = """\
policy: lab
version: 1
owner: o
status: enforce
text: t
rules:
  - {rule: see, effect: permit, who: {client: lab}, may: [read], resources: [$chart], shared: true, because: b}
tests:
  - test: the laboratory reads
    as: {context: system, client: lab}
    request: GET /Observation/x
    expect: {decision: permit, rule: see}
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration that is right."""
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).write_text("x")
    (tmp_path / "ann.argon2").write_text("$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaA")
    (tmp_path / "lab.jwks").write_text(json.dumps({"keys": [Key.new().public]}))
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/00.yaml").write_text(DEFINITIONS)
    (tmp_path / "policies/10.yaml").write_text(POLICY)
    (tmp_path / "gateway.yaml").write_text(CONFIGURATION)
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a verb; exit code, output and error output."""

    def command(*arguments: str, config: bool = True) -> tuple[int, str, str]:
        more = ["-c", str(folder / "gateway.yaml")] if config else []
        code = main([*arguments, *more])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# check


def test_check_of_a_right_configuration_says_so(run: Run, folder: Path) -> None:
    file = folder / "gateway.yaml"
    assert run("check") == (0, f"{file}: configuration, 1 rules and 1 policy tests are right\n", "")
    code, out, _ = run("check", "--json")
    assert (code, json.loads(out)) == (0, {"ok": True, "rules": 1, "tests": 1, "warnings": []})
    assert not (folder / "securus.db").exists()


def test_check_prints_every_mistake_of_the_configuration_at_its_place(run: Run, folder: Path) -> None:
    edit(folder / "gateway.yaml", "version: 1", "version: 2\nportt: 1")
    file = folder / "gateway.yaml"
    lines = [
        (1, 10, "version is '2', expected a whole number from 1 to 1"),
        (2, 1, "the configuration has no key 'portt'."),
    ]
    assert run("check") == (
        1,
        "",
        "".join(f"{file}:{line}:{column}: error: {m}\n" for line, column, m in lines),
    )
    code, out, err = run("check", "--json")
    assert (code, err) == (1, "")
    assert json.loads(out) == {
        "ok": False,
        "problems": [{"file": str(file), "line": n, "column": c, "message": m} for n, c, m in lines],
    }


def test_check_prints_mistakes_of_policies_and_tests_that_fail(run: Run, folder: Path) -> None:
    file = folder / "policies/10.yaml"
    edit(file, "may: [read]", "may: [reed]")
    assert run("check") == (1, "", f"{file}:7:59: error: unknown interaction 'reed'. Did you mean 'read'?\n")
    edit(file, "may: [reed]", "may: [search]")
    code, out, err = run("check")
    assert (code, out) == (1, "")
    assert err.startswith(
        f"{file}:9:5: error: test 'the laboratory reads': decision is deny, expected permit; rule see had"
    )


def test_check_shows_warnings_and_succeeds(run: Run, folder: Path) -> None:
    edit(folder / "policies/10.yaml", ", because: b", "")
    code, out, err = run("check")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == (
        f"{folder / 'policies/10.yaml'}:7:5: warning: rule 'see' does not say because of what ('because: …')"
    )


def test_check_refuses_a_policy_set_that_permits_nothing_at_all(run: Run, folder: Path) -> None:
    (folder / "policies/10.yaml").unlink()
    code, out, err = run("check")
    assert (code, out) == (1, "")
    assert err == f"{folder / 'policies'}:1:1: error: no rule is in force: every request is refused\n"


def test_check_of_a_file_that_is_not_there_or_not_text_is_a_refusal(run: Run, folder: Path) -> None:
    assert main(["check", "-c", str(folder / "nowhere.yaml")]) == 1
    (folder / "policies/20.yaml").write_bytes(b"policy: \xff\n")
    code, out, err = run("check")
    assert (code, out) == (1, "")
    assert "not UTF-8" in err


# policy test


def test_policy_test_counts_what_passed_and_names_what_no_test_shows(run: Run, folder: Path) -> None:
    gap = "warning: lab/see: no test shows what it leaves closed\n"
    shown = "0 of 1 rules are shown from both sides\n1 passed, 0 failed\n"
    assert run("policy", "test", str(folder / "policies"), config=False) == (0, gap + shown, "")
    rule = "  - {rule: other, effect: deny, may: [read], resources: [Patient], because: b}\n"
    edit(folder / "policies/10.yaml", "tests:\n", f"{rule}tests:\n")
    code, out, _ = run("policy", "test", str(folder / "policies"), config=False)
    more = "warning: lab/other: no test shows what it refuses\n"
    assert (code, out) == (0, gap + more + shown.replace("of 1", "of 2"))
    code, out, _ = run("policy", "test", "--json", str(folder / "policies"), config=False)
    found = json.loads(out)
    assert (found["passed"], found["failed"], found["untested_rules"]) == (1, [], ["lab/other"])
    assert found["coverage"][0] == {
        "rule": "lab/see",
        "effect": "permit",
        "permitting_tests": ["the laboratory reads"],
        "refusing_tests": [],
        "gaps": ["no test shows what it leaves closed"],
    }


def test_policy_test_strict_refuses_what_is_shown_from_one_side_only(run: Run, folder: Path) -> None:
    path = str(folder / "policies")
    assert run("policy", "test", "--strict", path, config=False)[0] == 1
    more = "  - test: others do not\n    as: {context: system, client: x}\n    request: GET /Observation/x\n"
    edit(folder / "policies/10.yaml", "tests:\n", f"tests:\n{more}    expect: {{decision: deny}}\n")
    said = "1 of 1 rules are shown from both sides\n2 passed, 0 failed\n"
    assert run("policy", "test", "--strict", path, config=False) == (0, said, "")


def test_the_policies_that_are_shipped_are_shown_from_both_sides(run: Run) -> None:
    shipped = Path(__file__).parents[2] / "policies"
    assert run("policy", "test", "--strict", str(shipped), config=False)[0] == 0


def test_policy_test_names_the_test_that_fails(run: Run, folder: Path) -> None:
    edit(folder / "policies/10.yaml", "decision: permit, rule: see", "decision: deny")
    code, out, _ = run("policy", "test", str(folder / "policies"), config=False)
    assert code == 1
    assert out == (
        f"{folder / 'policies/10.yaml'}:9:5: error: test 'the laboratory reads': decision is permit, expected deny\n"
        "warning: lab/see: no test shows what it leaves closed\n"
        "0 of 1 rules are shown from both sides\n0 passed, 1 failed\n"
    )


def test_policy_test_of_one_file_runs_its_tests_in_the_set_that_it_belongs_to(run: Run, folder: Path) -> None:
    other = POLICY.replace("policy: lab", "policy: other").replace("rule: see", "rule: seen")
    other = other.replace("Observation/x", "Patient/x")
    (folder / "policies/20.yaml").write_text(other)
    code, out, _ = run("policy", "test", str(folder / "policies/10.yaml"), config=False)
    assert (code, out.splitlines()[-1]) == (0, "1 passed, 0 failed")
    assert "other/seen" not in out
    code, out, _ = run("policy", "test", str(folder / "policies/20.yaml"), config=False)
    assert code == 1
    assert out.splitlines()[-1] == "0 passed, 1 failed"


def test_policy_test_of_broken_or_missing_files_is_a_refusal(run: Run, folder: Path) -> None:
    edit(folder / "policies/10.yaml", "$chart", "$charts")
    code, out, err = run("policy", "test", str(folder / "policies"), config=False)
    assert (code, out) == (1, "")
    assert err.endswith("error: no set of types named '$charts'. Did you mean 'chart'?\n")
    nowhere = folder / "nowhere"
    assert run("policy", "test", str(nowhere), config=False) == (
        1, "", f"securus: there is no {nowhere}\n"
    )  # fmt: skip


# audit verify


def log(folder: Path, records: int) -> None:
    async def write() -> None:
        store = await open_store(folder / "securus.db")
        journal = await AuditLog.open(store, system_clock)
        for number in range(records):
            await journal.record({"event": "access", "number": number})
        await journal.close()
        await store.close()

    asyncio.run(write())


def change(folder: Path, statement: str) -> None:
    with sqlite3.connect(folder / "securus.db") as database:
        for trigger in ("is_append_only_update", "is_append_only_delete", "head_grows"):
            database.execute(
                f"DROP TRIGGER audit_{trigger}"
            )  # whoever can change the file can do this as well
        assert database.execute(statement).rowcount == 1
    database.close()


def test_audit_verify_of_a_whole_chain_counts_its_records(run: Run, folder: Path) -> None:
    log(folder, 3)
    assert run("audit", "verify") == (0, "the chain is whole: 3 records\n", "")
    code, out, _ = run("audit", "verify", "--json")
    said = {"whole": True, "records": 3, "broken_at": None, "why": ""}
    assert (code, json.loads(out)) == (
        0,
        {**said, "chain": None, "heads": 0, "broken_head": None, "retired": 0},
    )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET line = CAST(replace(CAST(line AS TEXT), 'access', 'nothing') AS BLOB) WHERE sequence = 2",
        "DELETE FROM audit WHERE sequence = 2",
    ],
)
def test_audit_verify_names_the_first_broken_record_and_fails(run: Run, folder: Path, statement: str) -> None:
    log(folder, 4)
    change(folder, statement)
    code, out, err = run("audit", "verify")
    assert (code, err) == (1, "")
    assert out.startswith("broken: ")
    code, out, _ = run("audit", "verify", "--json")
    found = json.loads(out)
    assert (code, found["whole"], found["broken_at"]) == (1, False, 2)


def test_audit_verify_finds_that_the_end_was_cut_off(run: Run, folder: Path) -> None:
    log(folder, 3)
    change(folder, "DELETE FROM audit WHERE sequence = 3")
    assert run("audit", "verify")[0] == 1


def test_audit_export_prints_every_record_as_it_was_written(run: Run, folder: Path) -> None:
    log(folder, 3)
    code, out, err = run("audit", "export")
    records = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    read = records.pop()
    assert [(record["seq"], record["number"]) for record in records] == [(1, 0), (2, 1), (3, 2)]
    assert (read["event"], read["what"], read["query"]["format"]) == ("audit-read", "export", "ndjson")
    assert run("audit", "export", "--until", records[0]["at"]) == (0, "", "")
    assert run("audit", "export", "--since", records[0]["at"])[1].startswith(out)
    assert run("audit", "export", "--since", "2999-01-01") == (0, "", "")


def test_audit_export_as_fhir_prints_an_AuditEvent_a_line(run: Run, folder: Path) -> None:
    log(folder, 3)
    code, out, err = run("audit", "export", "--format", "fhir", "--by", "privacy-officer")
    events = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert len(events) == 4
    assert [fault for event in events for fault in faults(event)] == []
    assert events[-1]["subtype"][-1]["code"] == "audit-read"
    assert any(agent.get("name") == "privacy-officer" for agent in events[-1]["agent"])


def test_audit_export_reads_a_log_that_was_cut_off_and_says_that_this_is_not_recorded(
    run: Run, folder: Path
) -> None:
    log(folder, 3)
    change(folder, "UPDATE audit_head SET sequence = 1")
    code, out, err = run("audit", "export")
    assert (code, len(out.splitlines())) == (0, 3)
    assert err.startswith("this export is not on record: the audit log ends at record 3")


@pytest.mark.parametrize(
    "verb", [("audit", "verify"), ("audit", "export"), ("key", "list"), ("key", "rotate")]
)
def test_a_store_that_is_not_there_is_a_refusal_and_is_not_made(
    run: Run, folder: Path, verb: tuple[str, str]
) -> None:
    """An audit log that has vanished is not whole."""
    store = folder / "securus.db"
    assert run(*verb) == (1, "", f"securus: there is no store at '{store}': has the gateway run yet?\n")
    assert not store.exists()
    code, out, _ = run(*verb, "--json")
    assert (code, json.loads(out)["ok"]) == (1, False)


# user, client, key


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_user_hash_makes_a_hash_of_standard_input(
    run: Run, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"correct horse{end}"))
    code, out, err = run("user", "hash", config=False)
    assert (code, err) == (0, "")
    assert out.startswith("$argon2id$")
    assert "correct" not in out
    assert PasswordHasher().verify(out.strip(), "correct horse")


@pytest.mark.parametrize("text", ["", "\n", "seven 7\n"])
def test_user_hash_refuses_a_short_password_and_does_not_repeat_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert run("user", "hash", config=False) == (1, "", "securus: a password has at least 8 characters\n")


def test_user_list_shows_accounts_without_their_hashes(run: Run) -> None:
    assert run("user", "list") == (0, "ann\ts1\tAnn\n", "")
    code, out, _ = run("user", "list", "--json")
    expected = {"username": "ann", "subject": "s1", "name": "Ann", "patient": "A", "claims": {}}
    assert (code, json.loads(out)) == (0, [expected])


def test_client_list_shows_clients(run: Run) -> None:
    assert run("client", "list") == (0, "lab\tapproved\tprivate_key_jwt\tdpop\tLaboratory\n", "")
    code, out, _ = run("client", "list", "--json")
    assert (code, json.loads(out)) == (0, [{
        "client_id": "lab", "name": "Laboratory", "profile": "fapi2", "authentication": "private_key_jwt",
        "binding": "dpop", "grants": ["client_credentials"], "scope": "system/*.rs", "status": "approved",
        "version": 0, "configured": True, "waiting": None,
    }])  # fmt: skip


KEY_FIELDS = {"kid", "algorithm", "state", "created_at", "activates_at", "retires_at", "removes_at"}


def test_key_rotate_announces_a_successor_that_key_list_shows(run: Run, folder: Path) -> None:
    asyncio.run(_make_store(folder))
    assert run("key", "list") == (0, "\n", "")
    code, out, _ = run("key", "rotate", "--json")
    announced = json.loads(out)
    assert (code, announced["signs_in_seconds"]) == (0, 3600)
    code, out, _ = run("key", "list")
    rows = [line.split("\t") for line in out.splitlines()]
    assert [announced["kid"], "ES256", "announced"] in [row[:3] for row in rows]
    assert [row[2] for row in rows].count("active") == 1
    listed = json.loads(run("key", "list", "--json")[1])
    assert {row["kid"] for row in listed} == {row[0] for row in rows}
    assert all(set(row) == KEY_FIELDS for row in listed)


def test_key_rotate_with_another_encryption_key_is_a_refusal_and_changes_nothing(
    run: Run, folder: Path
) -> None:
    asyncio.run(_make_store(folder))
    assert run("key", "rotate")[0] == 0
    before = run("key", "list")
    (folder / "encryption.key").write_text("A" * 43 + "=")
    code, out, err = run("key", "rotate")
    assert (code, out) == (1, "")
    assert err.startswith("securus: ")
    assert "AAAA" not in err
    assert run("key", "list") == before


def test_key_rotate_now_signs_within_seconds_and_warns_of_caches(run: Run, folder: Path) -> None:
    asyncio.run(_make_store(folder))
    code, out, _ = run("key", "rotate", "--now")
    assert code == 0
    assert "(ES256); it signs in 10 s" in out
    assert "warning: whoever caches /jwks does not know this key yet" in out
    again = json.loads(run("key", "rotate", "--now", "--json")[1])
    assert 0 < again["signs_in_seconds"] <= 10
    assert "until it reads /jwks again" in again["warning"]
    code, out, err = run("key", "rotate")
    assert (code, out) == (1, "")
    assert "is announced already" in err


def test_key_retire_drops_an_announced_key_and_refuses_the_only_signer(run: Run, folder: Path) -> None:
    asyncio.run(_make_store(folder))
    announced = json.loads(run("key", "rotate", "--json")[1])["kid"]
    [active] = [row["kid"] for row in json.loads(run("key", "list", "--json")[1]) if row["state"] == "active"]
    assert run("key", "retire", announced)[:2] == (0, f"removed {announced}\n")
    code, out, err = run("key", "retire", active)
    assert (code, out) == (1, "")
    assert "run 'securus key rotate --now' first" in err
    assert run("key", "retire", "nobody", "--json")[0] == 1
    assert [row["kid"] for row in json.loads(run("key", "list", "--json")[1])] == [active]


@pytest.mark.parametrize(
    "series", [b"\xf9\xc0", b"\xfa\x10", b"\xfb\xe0"], ids=["as -c FILE", "as -h", "as --"]
)
@pytest.mark.parametrize("before", [(), ("--json",)])
def test_key_retire_names_a_key_whose_kid_begins_like_an_option(
    run: Run, folder: Path, series: bytes, before: tuple[str, ...]
) -> None:
    asyncio.run(_make_store(folder, kids_of=series + b"securus"))
    kid = json.loads(run("key", "rotate", "--json")[1])["kid"]
    assert kid.startswith("-")
    code, out, err = run("key", "retire", *before, kid)
    assert (code, err) == (0, "")
    assert json.loads(out)["state"] == "removed" if before else out == f"removed {kid}\n"
    [active] = [row["kid"] for row in json.loads(run("key", "list", "--json")[1])]
    assert active.startswith("-")
    assert "is the only key that signs" in "".join(run("key", "retire", active, *before)[1:])


def test_key_retire_remove_gives_place_to_the_successor_and_is_audited(run: Run, folder: Path) -> None:
    asyncio.run(_make_store(folder))
    successor = json.loads(run("key", "rotate", "--json")[1])["kid"]
    [active] = [row["kid"] for row in json.loads(run("key", "list", "--json")[1]) if row["state"] == "active"]
    code, out, _ = run("key", "retire", active, "--remove", "--json")
    assert (code, json.loads(out)) == (0, {"kid": active, "state": "removed", "successor": successor})
    [row] = json.loads(run("key", "list", "--json")[1])
    assert (row["kid"], row["state"]) == (successor, "active")
    with closing(sqlite3.connect(folder / "securus.db")) as database:
        lines = [json.loads(row[0]) for row in database.execute("SELECT line FROM audit ORDER BY sequence")]
    assert [(line["kid"], line["state"]) for line in lines] == [
        (active, "active"),
        (successor, "announced"),
        (successor, "active"),
        (active, "removed"),
    ]
    assert run("audit", "verify")[0] == 0


def test_key_import_takes_a_strong_key_from_a_file(run: Run, folder: Path) -> None:
    asyncio.run(_make_store(folder))
    private = generate_private_key("ES256").private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "new.pem").write_bytes(private)
    code, out, _ = run("key", "import", str(folder / "new.pem"), "--json")
    imported = json.loads(out)
    assert (code, imported["algorithm"], imported["signs_in_seconds"]) == (0, "ES256", 3600)
    code, out, err = run("key", "import", str(folder / "new.pem"), "--now")
    assert (code, out) == (1, "")
    assert f"the key is here already, as '{imported['kid']}'" in err
    (folder / "new.pem").write_bytes(private[:-60])
    code, _, err = run("key", "import", str(folder / "new.pem"))
    assert code == 1
    assert "new.pem" in err
    assert run("key", "import", str(folder / "missing.pem"))[0] == 1
    on_disk = b"".join(path.read_bytes() for path in folder.glob("securus.db*"))
    assert private not in on_disk


def test_key_reseal_changes_the_encryption_key(run: Run, folder: Path) -> None:
    asyncio.run(_make_store(folder))
    assert run("key", "rotate")[0] == 0
    (folder / "former.key").write_text((folder / "encryption.key").read_text())
    (folder / "encryption.key").write_text("A" * 43 + "=")
    config = folder / "gateway.yaml"
    plain = config.read_text()
    config.write_text(
        plain.replace("announced_for: 1h", "announced_for: 1h, other_encryption_key: {file: former.key}")
    )
    code, out, _ = run("key", "reseal", "--json")
    assert (code, len(json.loads(out)["resealed"])) == (0, 2)
    assert json.loads(run("key", "reseal", "--json")[1]) == {"resealed": []}
    config.write_text(plain)
    assert run("key", "retire", "nobody")[2].startswith("securus: there is no key 'nobody'")


async def _make_store(folder: Path, *, kids_of: bytes | None = None) -> None:
    store = await open_store(folder / "securus.db")
    if kids_of is not None:
        await store.secret("signing-key-series", kids_of)
    await store.close()


# Usage


VERBS = ["serve", "check", "demo", "policy test", "policy explain", "policy diff", "audit verify", "user hash",
         "user list", "client list", "key list", "key rotate", "key retire", "key import", "key reseal",
         "upstream probe"]  # fmt: skip


@pytest.mark.parametrize("verb", ["", "policy", "audit", "user", "client", "key", "upstream", *VERBS])
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*verb.split(), "--help"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: securus {verb}".rstrip())
    assert len(out.splitlines()) > 3


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_json(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*verb.split(), "--help"])
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "frobnicate",
        "policy",
        "policy frobnicate",
        "check --frobnicate",
        "check x",
        "demo --port x",
        "key list -c",
        "key retire",
        "key retire --now",
        "key retire -x",
        "key rotate --algorithm RS384",
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments.split())
    assert exit_.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("usage: securus")


def test_the_module_is_the_command(folder: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "gateway", "check", "-c", str(folder / "gateway.yaml")],
        capture_output=True,
        text=True,
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.endswith("1 rules and 1 policy tests are right\n")


def test_upstream_probe_of_a_store_that_is_not_there_is_a_refusal_with_its_cause(
    run: Run, folder: Path
) -> None:
    port = free_port()
    edit(folder / "gateway.yaml", "127.0.0.1:8080", f"127.0.0.1:{port}")
    code, out, errors = run("upstream", "probe")
    assert (code, errors) == (1, "")
    at, *why = out.splitlines()
    assert at == (
        f"fhir at http://127.0.0.1:{port}/fhir: not right for the profile generic: unnamed software, FHIR unknown"
    )
    assert why[0] == "  error: the store cannot be asked: upstream-unavailable"
    assert why[1].startswith("  because: no address of the store can be reached: ")
    assert len(why) == 2
    code, out, _ = run("upstream", "probe", "--json")
    assert (code, json.loads(out)[0]["ok"]) == (1, False)


@pytest.mark.parametrize("count", ["0", "65", "two", "-1"])
def test_a_number_of_workers_that_is_none_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], count: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", f"--workers={count}"])
    assert ended.value.code == 2
    assert "is not a number from 1 to 64" in capsys.readouterr().err
